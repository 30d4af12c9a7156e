//! The one event loop: ring, timers, questions, readings and signals reach the map through here, one after the
//! other. With its parts under `daemon/` the only place that knows more than one adapter.

pub mod answers;
mod audit;
mod edge;
mod memory;
mod mirror;
mod owner;
mod pace;
mod reader;
mod resume;
mod start;
mod status;

use std::time::{Duration, Instant};

use observer_core::limits::PASS_RETRY_NS;
use observer_core::{BootTime, Core, Input};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep_until;

use crate::api::Context;
use crate::api::status::PassCounts;
use crate::clock;
use crate::kernel::{Drained, Kernel, ReaderState, Snapshot};
use crate::mirror::feed::LiveMap;
use crate::socket::hub::Interest;
use crate::socket::server::{Answer, Asked, Counters, Question};
use answers::Moment;
use edge::{Edge, PendingPass};
use memory::{Outcome, Readings};
use owner::{OwnerFound, Owners};
use reader::Phase;
pub use start::{JournalOptions, Options, run};

/// Records drained in a turn: clients' tasks run between turns.
const DRAIN_BUDGET: usize = 1024;
/// A record that is reserved and not submitted holds up those behind it: how long a question waits for that.
const COMMIT_MAX: Duration = Duration::from_millis(100);
/// After records came, counters that cost system calls are read once in this time.
const COUNTERS_EVERY: Duration = Duration::from_secs(5);
/// The wall clock was set by more than this, ns: its two readings are never of one moment, and small corrections come with
/// the next pass.
const CLOCK_STEP_NS: u64 = 100_000_000;
/// Between a record's timestamp and its place in the ring its program may have been held up: for so long, ns, at most,
/// as far as what the next daemon is told goes.
const RECORD_LATE_NS: u64 = 10_000_000;
/// After a pass that took some time, hints have to wait for so many times that before the next: whoever provokes
/// passes cannot have the daemon do nothing else.
const PASS_REST: u32 = 10;
/// Passes that a question waits for while a gap is open.
const HEALING_PASSES_MAX: usize = 3;

/// Everything that can happen to the daemon.
enum Event {
    /// The ring is readable.
    Ring,
    /// Something is due.
    Timer,
    /// A client asks.
    Asked(Asked),
    /// A process's memory was read.
    Memory(Outcome),
    /// A home's owner was looked up.
    Owner(OwnerFound),
    /// A file of the journal was opened.
    Journal,
    /// The mirror wants the map.
    Map(oneshot::Sender<LiveMap>),
    /// A signal asks to stop.
    Stop(&'static str),
}

/// Where events come from.
struct Events {
    ring: AsyncFd<std::os::fd::OwnedFd>,
    questions: mpsc::Receiver<Asked>,
    memory: mpsc::Receiver<Outcome>,
    owners: mpsc::Receiver<OwnerFound>,
    journal: std::sync::Arc<Notify>,
    maps: mirror::Questions,
    stop: mpsc::Receiver<&'static str>,
}

impl Events {
    /// The next event; `until` is when something is due, and the ring counts only if it `may_wake`.
    async fn next(&mut self, until: Option<Instant>, may_wake: bool) -> Event {
        let due = async {
            match until {
                // A timer's grain is 1 ms: what is due is not waited for.
                Some(until) if until <= Instant::now() => {}
                Some(until) => sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(signal) = self.stop.recv() => Event::Stop(signal),
            Some(asked) = self.questions.recv() => Event::Asked(asked),
            Some(outcome) = self.memory.recv() => Event::Memory(outcome),
            Some(found) = self.owners.recv() => Event::Owner(found),
            () = self.journal.notified() => Event::Journal,
            Some(reply) = self.maps.recv() => Event::Map(reply),
            ready = self.ring.readable(), if may_wake => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                Event::Ring
            }
            () = due => Event::Timer,
        }
    }
}

struct Daemon {
    kernel: Kernel,
    core: Core,
    edge: Edge,
    /// Why there is no journal.
    journal_off: Option<String>,
    readings: Readings,
    owners: Owners,
    phase: Phase,
    /// What was found since the last sleep.
    found: Drained,
    drops_seen: u64,
    counters_due: Option<Instant>,
    passes: PassCounts,
    /// The last pass succeeded.
    pass_ok: bool,
    /// When hints may have the next pass.
    rested_at: BootTime,
    clients: std::sync::Arc<Counters>,
    ready_at: BootTime,
    /// Last: what the journal commits at its end can still be delivered.
    mirror: mirror::Link,
}

impl Daemon {
    /// Serves until a signal asks to stop; returns its name.
    async fn serve(&mut self, events: &mut Events) -> &'static str {
        loop {
            let busy = !self.turn();
            let event = if busy {
                tokio::task::yield_now().await;
                events.next(Some(Instant::now()), false).await
            } else if self.may_sleep() {
                let event = events.next(self.due(), self.phase != Phase::Polling).await;
                self.kernel.set_reader_state(ReaderState::Polling);
                event
            } else {
                continue;
            };
            match event {
                Event::Ring | Event::Timer => {}
                Event::Asked(asked) => {
                    let mut batch = vec![asked];
                    batch.extend(std::iter::from_fn(|| events.questions.try_recv().ok()));
                    self.answer(batch);
                }
                Event::Memory(outcome) => self.memory_read(outcome),
                Event::Owner(found) => self.owner_found(&found),
                Event::Journal => self.resume(),
                Event::Stop(signal) => {
                    // What happened so far belongs into the journal.
                    let now = clock::boottime();
                    if self.drain_to(self.kernel.producer_position()) {
                        self.complete(now);
                    }
                    self.write_waiting(BootTime(u64::MAX));
                    return signal;
                }
                Event::Map(reply) => self.map_wanted(reply),
            }
        }
    }

    /// Drains one budget and does what is due; whether the ring was empty at the end.
    fn turn(&mut self) -> bool {
        let before = clock::boottime();
        let drained = self.drain();
        if drained.caught_up {
            self.complete(before);
        }
        let now = clock::boottime();
        if self.pass_due().is_some_and(|due| due <= now) {
            self.pass();
        }
        self.tick(now);
        if self.counters_due.is_some_and(|due| due <= Instant::now()) {
            self.counters_due = None;
            // Programs that the kernel skipped are counted by the kernel alone, and enter the total here.
            self.kernel.drops_by_kind();
            self.note_drops();
        }
        self.perform();
        self.write_waiting(now);
        self.mirror.beat(self.edge.journal.as_ref());
        drained.caught_up
    }

    /// Hands up to a budget of records to the core.
    fn drain(&mut self) -> Drained {
        self.follow_clock();
        let Self { kernel, core, edge, .. } = self;
        let drained = kernel.drain(DRAIN_BUDGET, |input| {
            edge.memory_of_before.note(&input);
            core.handle(input, edge);
        });
        self.found.records += drained.records;
        self.found.urgent |= drained.urgent;
        if drained.records > 0 && self.counters_due.is_none() {
            self.counters_due = Some(Instant::now() + COUNTERS_EVERY);
        }
        self.note_drops();
        drained
    }

    /// What comes is dated by the wall clock as it is set now.
    fn follow_clock(&mut self) {
        let offset_ns = clock::wall_offset_ns();
        if offset_ns.abs_diff(self.edge.wall_offset_ns) > CLOCK_STEP_NS {
            self.set_wall_offset(offset_ns);
        }
    }

    fn set_wall_offset(&mut self, ns: i64) {
        self.edge.wall_offset_ns = ns;
        self.core.set_wall_offset(ns);
    }

    /// Everything up to `at` was drained; unless something was lost, the core knows it.
    fn complete(&mut self, at: BootTime) {
        let at = at.0.saturating_sub(RECORD_LATE_NS).cast_signed();
        if let Some(journal) = self.edge.journal.as_ref().filter(|_| !self.core.in_gap()) {
            journal.complete(at.saturating_add(self.edge.wall_offset_ns));
        }
    }

    /// Tells the core of losses.
    fn note_drops(&mut self) {
        let total = self.kernel.drops_total();
        if total > self.drops_seen {
            self.drops_seen = total;
            self.core.handle(Input::Dropped { at: clock::boottime(), total }, &mut self.edge);
        }
    }

    /// Drains everything that was reserved up to `position`; false if a record was held up too long.
    fn drain_to(&mut self, position: u64) -> bool {
        let mut held_up_since = None;
        loop {
            let drained = self.drain();
            if self.kernel.consumer_position() >= position {
                return true;
            }
            if drained.records > 0 {
                held_up_since = None;
                continue;
            }
            let since = *held_up_since.get_or_insert_with(Instant::now);
            if since.elapsed() > COMMIT_MAX {
                return false;
            }
            // Whoever reserved it may need this CPU to go on.
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// When the pass that is wanted is due. One that heals a gap does not wait for the rest after the last.
    fn pass_due(&self) -> Option<BootTime> {
        let not_before = self.edge.pass?.not_before;
        Some(if self.core.in_gap() { not_before } else { not_before.max(self.rested_at) })
    }

    /// One pass. Everything that happened before it is heard before it, and what happened while it ran is heard
    /// before its rows: a row is never ahead of the records that explain it. Whether it succeeded.
    fn pass(&mut self) -> bool {
        let began = Instant::now();
        let before = self.drain_to(self.kernel.producer_position());
        // What was asked for up to here, this pass answers; from here on its hints are told again.
        let asked = self.edge.pass.take();
        self.kernel.clear_hints(asked.map_or(0, |pass| pass.hints));
        self.set_wall_offset(clock::wall_offset_ns());
        let snapshot = self.snapshot();
        self.core.handle(snapshot.begin(), &mut self.edge);
        let after = self.drain_to(self.kernel.producer_position());
        let Self { core, edge, .. } = self;
        snapshot.rows(|input| {
            edge.memory_of_before.note(&input);
            core.handle(input, edge);
        });
        core.handle(snapshot.end(), edge);
        let result = snapshot.into_result();
        if let Err(error) = &result {
            if self.pass_ok {
                eprintln!("observer: warning: the processes could not be read: {error:#}; it is tried again");
            }
            let hints = asked.map_or(0, |pass| pass.hints);
            let not_before = clock::boottime().after(PASS_RETRY_NS);
            self.edge.pass.get_or_insert(PendingPass { not_before, hints }).hints |= hints;
        }
        self.pass_ok = result.is_ok();
        let rest = began.elapsed().saturating_mul(PASS_REST);
        self.rested_at = clock::boottime().after(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX));
        before && after && result.is_ok()
    }

    /// Reads the processes, and counts that.
    fn snapshot(&mut self) -> Snapshot {
        let began = Instant::now();
        let snapshot = self.kernel.snapshot();
        self.passes.total += 1;
        self.passes.last_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.passes.failed += u64::from(!snapshot.is_complete());
        snapshot
    }

    /// Lets the core do what is due by now.
    fn tick(&mut self, now: BootTime) {
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.core.handle(Input::Tick { at: now }, &mut self.edge);
        }
    }

    /// Does what the core asked for, but for passes.
    fn perform(&mut self) {
        self.edge.certain = !self.core.in_gap();
        for key in std::mem::take(&mut self.edge.memory) {
            if let Some(process) = self.core.process_by_key(key) {
                self.readings.ask(key, process.tty.is_some());
            }
        }
        self.readings.go_on();
        for home in std::mem::take(&mut self.edge.owners) {
            if let Some(refused) = self.owners.ask(home) {
                self.owner_known(&refused);
            }
        }
        for (key, on) in self.edge.settle() {
            self.kernel.watch(key.tgid, on);
        }
    }

    /// Gives the journal the changes of sessions that waited for it until `due`, as the sessions are now.
    fn write_waiting(&mut self, due: BootTime) {
        for home in self.edge.take_due(due) {
            if let Some((session, primary)) = self.core.session(&home) {
                self.edge.write_waiting(clock::boottime(), session, primary);
            }
        }
    }

    fn memory_read(&mut self, outcome: Outcome) {
        self.readings.done(&outcome);
        for memory in outcome.memories {
            self.core.handle(memory.input(), &mut self.edge);
        }
        self.perform();
    }

    fn owner_found(&mut self, found: &OwnerFound) {
        self.owners.done();
        self.owner_known(found);
    }

    fn owner_known(&mut self, found: &OwnerFound) {
        let input = Input::HomeOwner { at: clock::boottime(), path: &found.path, uid: found.uid };
        self.core.handle(input, &mut self.edge);
    }

    /// Settles how deep to sleep; false if there is something to drain first. The programs are told before the
    /// last look at the ring: a record that comes after it wakes.
    fn may_sleep(&mut self) -> bool {
        self.phase = self.phase.after(std::mem::take(&mut self.found));
        loop {
            let not_empty = self.kernel.set_reader_state(self.phase.state());
            if !not_empty || self.phase == Phase::Polling {
                return true;
            }
            let drained = self.drain();
            self.perform();
            self.found = Drained::default();
            if !drained.caught_up {
                return false;
            }
            match self.phase {
                _ if drained.urgent => self.phase = Phase::Polling,
                // Also where the record is reserved only: its program may have looked before it was told.
                Phase::Idle => self.phase = Phase::Lingering,
                _ => return true,
            }
        }
    }

    /// When something is due that no event announces.
    fn due(&self) -> Option<Instant> {
        let (now, boot_now) = (Instant::now(), clock::boottime());
        let of_boot = |at: BootTime| now + Duration::from_nanos(at.since(boot_now));
        [
            self.phase.nap().map(|nap| now + nap),
            self.core.poll_timeout().map(of_boot),
            self.edge.next_due().map(of_boot),
            self.pass_due().map(of_boot),
            self.counters_due,
            self.readings.due(),
            self.mirror.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Answers all that were asked at once: each hears of everything that happened before it asked.
    fn answer(&mut self, batch: Vec<Asked>) {
        let mut sure = self.drain_to(self.kernel.producer_position());
        if batch.iter().any(|asked| matches!(asked.question, Question::Audit | Question::Status)) {
            // What programs were skipped for is a loss like any: healed before the answer, and no drift.
            self.kernel.drops_by_kind();
            self.note_drops();
        }
        let blind = !self.kernel.blind_spots().is_empty();
        let needs_pass = batch.iter().any(|asked| match asked.question {
            // These show the terminal's foreground group, which no event tells.
            Question::List { .. } | Question::Processes => true,
            // A hint that was drained just now may wait for its pass.
            Question::Watch(_) => blind || self.edge.pass.is_some(),
            Question::Status | Question::Audit => false,
        });
        if needs_pass {
            sure &= self.pass();
        }
        for _ in 0..HEALING_PASSES_MAX {
            if self.core.in_gap() {
                sure &= self.pass();
            }
        }
        let now = clock::boottime();
        self.tick(now);
        self.perform();
        let mut lines = Lines::default();
        for Asked { question, reply } in batch {
            let answer = match question {
                Question::List { ended } => Answer::Line(lines.list(self, sure, ended)),
                Question::Processes => Answer::Line(lines.processes(self, sure)),
                Question::Status => Answer::Line(lines.status(self, sure)),
                Question::Audit => Answer::Line(lines.audit(self)),
                Question::Watch(interest) => Answer::Watch(self.subscribe(interest, sure)),
            };
            // Whoever asked may have left.
            let _ = reply.send(answer);
        }
    }

    fn subscribe(&mut self, interest: Interest, sure: bool) -> crate::socket::hub::Subscription {
        let snapshot = answers::snapshot(&self.core, self.moment(sure), &interest);
        self.edge.hub.subscribe(interest, snapshot)
    }

    fn moment(&self, sure: bool) -> Moment<'_> {
        let certain = sure && self.edge.certain;
        Moment {
            at: clock::boottime(),
            wall_offset_ns: self.edge.wall_offset_ns,
            context: Context { boot_id: &self.edge.boot_id, certain },
        }
    }
}

/// Answers made in one batch: who asks the same shares the line.
#[derive(Default)]
struct Lines {
    list: Option<bytes::Bytes>,
    list_ended: Option<bytes::Bytes>,
    processes: Option<bytes::Bytes>,
    status: Option<bytes::Bytes>,
    audit: Option<bytes::Bytes>,
}

impl Lines {
    fn list(&mut self, daemon: &Daemon, sure: bool, ended: bool) -> bytes::Bytes {
        let line = if ended { &mut self.list_ended } else { &mut self.list };
        let make = || answers::shared(&answers::list(&daemon.core, daemon.moment(sure), ended));
        line.get_or_insert_with(make).clone()
    }

    fn processes(&mut self, daemon: &Daemon, sure: bool) -> bytes::Bytes {
        let make = || answers::shared(&answers::processes(&daemon.core, daemon.moment(sure)));
        self.processes.get_or_insert_with(make).clone()
    }

    fn status(&mut self, daemon: &mut Daemon, sure: bool) -> bytes::Bytes {
        self.status.get_or_insert_with(|| answers::shared(&daemon.status(sure))).clone()
    }

    fn audit(&mut self, daemon: &mut Daemon) -> bytes::Bytes {
        self.audit.get_or_insert_with(|| answers::shared(&daemon.audit())).clone()
    }
}
