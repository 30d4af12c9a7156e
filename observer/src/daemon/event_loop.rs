//! The one event loop: the ring, timers, questions, results of other threads and signals reach the map through it, one after
//! the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use observer_core::limits::OOM_MARK_NS;
use observer_core::session::State;
use observer_core::{BootTime, Core, Input};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep_until;

use super::answers::AnswerTime;
use super::behind::TimeBehind;
use super::birth_history::BirthHistory;
use super::canary::Canary;
use super::memory::{MemoryBatch, MemoryReads, Wanted};
use super::mirror_link::{MapRequests, MirrorLink};
use super::notify::StatusLine;
use super::owners::{OwnerFound, OwnerLookups};
use super::pass_rest::PassRest;
use super::reread::{ReloadReply, RereadRules};
use super::sink::DaemonSink;
use super::sleep::SleepMode;
use crate::api::Context;
use crate::api::audience::Audience;
use crate::api::status::PassCounts;
use crate::clock;
use crate::kernel::{Drained, Kernel, ReaderState, RecordOf};
use crate::mirror::feed::LiveMap;
use crate::socket::metrics_server::ScrapeCounters;
use crate::socket::server::{ClientCounters, PendingQuestion};

/// Records drained in one turn. Clients' tasks run between turns.
const DRAIN_BUDGET: usize = 128;
/// Interval of turns while changes wait for them, which is when the disk has taken what came before.
const TURN_EVERY: Duration = Duration::from_millis(1);
/// How long a question waits for a record that is reserved and not submitted yet, which delays those behind it.
const COMMIT_MAX: Duration = Duration::from_millis(100);
/// Interval at which counters that need system calls are read while records come.
const COUNTERS_EVERY: Duration = Duration::from_secs(5);
/// A difference from which on the wall clock counts as set, ns. Two readings are never simultaneous, and smaller corrections
/// follow with the next pass.
const CLOCK_STEP_NS: u64 = 100_000_000;
/// How much later than its timestamp a record is assumed to be in the ring, ns: a program can be delayed in between. The
/// watermark for the next daemon allows for it.
const RECORD_LATE_NS: u64 = 10_000_000;
/// Everything that can happen to the daemon.
pub enum LoopEvent {
    /// The ring is readable.
    Ring,
    /// A timer is due.
    Timer,
    /// A client asks a question.
    Asked(PendingQuestion),
    /// A batch of memory readings ended.
    Memory(MemoryBatch),
    /// A home's owner was looked up.
    Owner(OwnerFound),
    /// A file of the journal was opened.
    Journal,
    /// The rules were read again.
    Rules(RereadRules),
    /// The mirror requests the map.
    Map(oneshot::Sender<LiveMap>),
    /// A signal asks to stop.
    Stop(&'static str),
}

/// The sources of events.
pub struct EventSources {
    pub(super) ring: AsyncFd<std::os::fd::OwnedFd>,
    pub(super) questions: mpsc::Receiver<PendingQuestion>,
    pub(super) memory: mpsc::Receiver<MemoryBatch>,
    pub(super) owners: mpsc::Receiver<OwnerFound>,
    pub(super) journal: Arc<Notify>,
    pub(super) maps: MapRequests,
    pub(super) rules: mpsc::Receiver<RereadRules>,
    pub(super) stop: mpsc::Receiver<&'static str>,
    /// Whether files of the journal and rules are taken. Until the daemon serves they wait.
    pub(super) is_serving: bool,
}

impl EventSources {
    /// Waits for the next event. `until` is when a timer is due. The ring is a source only if it `may_wake`.
    pub(super) async fn next(&mut self, until: Option<Instant>, may_wake: bool) -> LoopEvent {
        let due = async {
            match until {
                // A timer has a resolution of 1 ms, so one that is due is not waited for.
                Some(until) if until <= Instant::now() => {}
                Some(until) => sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        // Of several sources that are ready, the first is taken. Each turn of the loop drains the ring before it comes here, so
        // no source keeps records waiting for longer than its event takes.
        tokio::select! {
            biased;
            // 1. The end: the service manager waits a bounded time for it.
            Some(signal) = self.stop.recv() => LoopEvent::Stop(signal),
            // 2. Questions, of which all that wait are answered at once: a person or a script waits for each.
            Some(asked) = self.questions.recv() => LoopEvent::Asked(asked),
            // 3. and 4. What admits processes to sessions and was asked for before: the next answers depend on it.
            Some(outcome) = self.memory.recv() => LoopEvent::Memory(outcome),
            Some(found) = self.owners.recv() => LoopEvent::Owner(found),
            // 5. Sessions that the journal knows: once for each file that is opened.
            () = self.journal.notified(), if self.is_serving => LoopEvent::Journal,
            // 6. Other rules, which a person may ask for at any rate: what happened before is judged by the former ones.
            Some(read) = self.rules.recv(), if self.is_serving => LoopEvent::Rules(read),
            // 7. The map for the mirror, which has waited for a database before and takes the longest to copy.
            Some(reply) = self.maps.recv() => LoopEvent::Map(reply),
            // 8. The ring, which only has to wake the loop: the next turn drains it whatever woke it.
            ready = self.ring.readable(), if may_wake => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                LoopEvent::Ring
            }
            // 9. What is due, which each turn performs as well.
            () = due => LoopEvent::Timer,
        }
    }
}

/// The daemon's event loop: the only owner of the map.
pub struct EventLoop {
    /// The configuration file, for `status`.
    pub(super) config: Option<PathBuf>,
    pub(super) kernel: Kernel,
    pub(super) core: Core,
    pub(super) sink: DaemonSink,
    /// Why there is no journal, if there is none.
    pub(super) journal_off: Option<String>,
    pub(super) memory_reads: MemoryReads,
    pub(super) owners: OwnerLookups,
    pub(super) sleep_mode: SleepMode,
    /// What was drained since the last sleep.
    pub(super) found: Drained,
    pub(super) drops_seen: u64,
    pub(super) counters_due: Option<Instant>,
    pub(super) passes: PassCounts,
    /// Whether the last pass succeeded.
    pub(super) pass_ok: bool,
    /// The rest after the last pass.
    pub(super) pass_rest: PassRest,
    pub(super) clients: Arc<ClientCounters>,
    pub(super) scrapes: Arc<ScrapeCounters>,
    pub(super) ready_at: BootTime,
    /// Questions, each with the time from which on the deaths before it are complete.
    pub(super) postponed: Vec<(BootTime, PendingQuestion)>,
    pub(super) canary: Canary,
    pub(super) behind: TimeBehind,
    pub(super) status_line: StatusLine,
    /// What is not known of births in sessions before this daemon began.
    pub(super) births: BirthHistory,
    /// Has the rules read again.
    pub(super) reload: Option<mpsc::Sender<ReloadReply>>,
    /// It ends after the journal: what the journal commits at its end can still be delivered.
    pub(super) mirror: MirrorLink,
}

impl EventLoop {
    /// Runs until a signal asks to stop. Returns the signal's name, and when it was received.
    pub(super) async fn serve(&mut self, events: &mut EventSources) -> (&'static str, Instant) {
        loop {
            let busy = !self.turn() || self.sink.resident.is_reading();
            let event = if busy {
                tokio::task::yield_now().await;
                events.next(Some(Instant::now()), false).await
            } else if self.may_sleep() {
                self.behind.sleeps(clock::boottime);
                let event = events.next(self.due(), self.sleep_mode != SleepMode::Polling).await;
                self.kernel.set_reader_state(ReaderState::Polling);
                event
            } else {
                continue;
            };
            match event {
                LoopEvent::Ring | LoopEvent::Timer => {}
                LoopEvent::Asked(asked) => {
                    let mut batch = vec![asked];
                    batch.extend(std::iter::from_fn(|| events.questions.try_recv().ok()));
                    self.ask(batch);
                }
                LoopEvent::Memory(outcome) => self.memory_read(outcome),
                LoopEvent::Owner(found) => self.owner_found(&found),
                LoopEvent::Journal => self.resume(),
                LoopEvent::Stop(signal) => {
                    let since = Instant::now();
                    self.write_all();
                    return (signal, since);
                }
                LoopEvent::Rules(read) => self.rules_read(read),
                LoopEvent::Map(reply) => self.send_map(reply),
            }
        }
    }

    /// Writes to the journal what happened so far, because the daemon ends.
    pub(super) fn write_all(&mut self) {
        let now = clock::boottime();
        let is_drained = self.drain_to(self.kernel.producer_position());
        self.core.close_deaths(BootTime(u64::MAX), &mut self.sink);
        // What waits for its turn may have to wait for its pace as well.
        self.sink.report_all_waiting();
        self.write_waiting(BootTime(u64::MAX));
        if is_drained {
            self.complete(now);
        }
        self.leave_births();
    }

    /// Drains one budget and performs what is due. Returns whether the ring was empty at the end.
    pub(super) fn turn(&mut self) -> bool {
        let before = clock::boottime();
        let drained = self.drain();
        self.behind.turned(drained.caught_up, clock::boottime);
        self.take_turns();
        if drained.caught_up {
            self.core.close_deaths(before, &mut self.sink);
            self.complete(before);
        }
        self.answer_postponed();
        let now = clock::boottime();
        if self.pass_due().is_some_and(|due| due <= now) {
            self.pass();
        }
        self.tick(now);
        self.read_resident();
        if self.counters_due.is_some_and(|due| due <= Instant::now()) {
            self.counters_due = None;
            // Only the kernel counts programs that it skipped; this reading adds them to the total.
            self.kernel.drops_by_kind();
            self.report_drops();
            self.notify_status();
        }
        self.watch_canary(drained.caught_up);
        self.perform();
        if drained.caught_up {
            // While records wait in the ring, an entry written now would be dated later than theirs.
            self.write_waiting(now);
        }
        self.mirror.heartbeat(self.sink.journal.as_ref());
        drained.caught_up
    }

    /// Applies records to the core, at most a budget.
    pub(super) fn drain(&mut self) -> Drained {
        self.adjust_clock();
        let mut first = None;
        let Self { kernel, core, sink, canary, behind, .. } = self;
        let drained = kernel.drain(DRAIN_BUDGET, |input| {
            // Before it is handled: the record waited for what the loop did until now.
            if first.is_none() {
                first = Some(input.at());
                behind.drained(first, clock::boottime);
            }
            if canary.takes(&input) {
                return RecordOf::Canary;
            }
            sink.previous.observe(&input);
            core.handle(input, sink);
            RecordOf::Host
        });
        if first.is_none() {
            behind.drained(None, clock::boottime);
        }
        self.found.records += drained.records;
        self.found.urgent |= drained.urgent;
        if drained.records > 0 && self.counters_due.is_none() {
            self.counters_due = Some(Instant::now() + COUNTERS_EVERY);
        }
        self.report_drops();
        drained
    }

    /// Follows a wall clock that was set: records are dated by the clock as it is when they are drained.
    pub(super) fn adjust_clock(&mut self) {
        let offset_ns = clock::wall_offset_ns();
        if offset_ns.abs_diff(self.sink.wall_offset_ns) > CLOCK_STEP_NS {
            self.set_wall_offset(offset_ns);
        }
    }

    pub(super) fn set_wall_offset(&mut self, ns: i64) {
        self.sink.wall_offset_ns = ns;
        self.core.set_wall_offset(ns);
    }

    /// Everything up to `at` was drained, so the journal is complete up to then, unless events were lost, starts and ends
    /// are withheld, or deaths are not complete.
    pub(super) fn complete(&mut self, at: BootTime) {
        let at = self.core.first_open_death().map_or(at, |first| first.min(at));
        let at = self.sink.withheld_since().map_or(at, |since| since.min(at));
        let at = at.0.saturating_sub(RECORD_LATE_NS).cast_signed();
        if let Some(journal) = self.sink.journal.as_ref().filter(|_| !self.core.in_gap()) {
            journal.complete(at.saturating_add(self.sink.wall_offset_ns));
        }
    }

    /// Reports losses to the core.
    pub(super) fn report_drops(&mut self) {
        let total = self.kernel.drops_total();
        if total > self.drops_seen {
            self.drops_seen = total;
            self.core.handle(Input::Dropped { at: clock::boottime(), total }, &mut self.sink);
        }
    }

    /// Drains everything that was reserved up to `position`. Returns false if a record was delayed for too long.
    pub(super) fn drain_to(&mut self, position: u64) -> bool {
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
            // The program that reserved the record may need this CPU to continue.
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Lets the core perform what is due by `now`.
    pub(super) fn tick(&mut self, now: BootTime) {
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            if self.core.counts_drift(now) {
                // What skipped programs did not report is a loss, and no drift.
                self.kernel.drops_by_kind();
                self.report_drops();
            }
            self.core.handle(Input::Tick { at: now }, &mut self.sink);
        }
    }

    /// Performs what the core requested, except passes.
    pub(super) fn perform(&mut self) {
        self.sink.certain = !self.core.in_gap();
        for key in std::mem::take(&mut self.sink.memory) {
            if let Some(process) = self.core.process_by_key(key) {
                let env = process.tty.is_some() || self.core.has_labels();
                self.memory_reads.ask(Wanted { key, env, uid: process.uids.uid });
            }
        }
        let Self { memory_reads, core, .. } = self;
        memory_reads.go_on(|key| core.process_by_key(key).is_some_and(|process| process.argv.is_none()));
        for home in std::mem::take(&mut self.sink.owners) {
            if let Some(refused) = self.owners.ask(home) {
                self.owner_known(&refused);
            }
        }
        for (key, on) in self.sink.take_watches() {
            self.kernel.watch(key.tgid, on);
        }
    }

    /// Writes the changes of sessions that waited for the journal until `due`, as the sessions are now.
    pub(super) fn write_waiting(&mut self, due: BootTime) {
        let since = self.sink.pace().withheld_since();
        for home in self.sink.take_due(due) {
            let live = self.core.session(&home).filter(|(session, _)| session.state != State::Ended);
            self.sink.write_in_turn(clock::boottime(), since, home, live);
        }
    }

    /// Chooses the sleep mode. Returns false if there is something to drain first. The programs learn the mode before the last
    /// look at the ring, so that a record that comes after the look wakes the reader.
    pub(super) fn may_sleep(&mut self) -> bool {
        self.sleep_mode = self.sleep_mode.after(std::mem::take(&mut self.found));
        loop {
            let not_empty = self.kernel.set_reader_state(self.sleep_mode.state());
            if !not_empty || self.sleep_mode == SleepMode::Polling {
                return true;
            }
            let drained = self.drain();
            self.perform();
            self.found = Drained::default();
            if !drained.caught_up {
                return false;
            }
            match self.sleep_mode {
                _ if drained.urgent => self.sleep_mode = SleepMode::Polling,
                // Also where the record is only reserved: its program may have read the mode before it was set.
                SleepMode::Idle => self.sleep_mode = SleepMode::Lingering,
                _ => return true,
            }
        }
    }

    /// When a timer is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let (now, boot_now) = (Instant::now(), clock::boottime());
        let of_boot = |at: BootTime| now + Duration::from_nanos(at.since(boot_now));
        // What an answer that came at once requested.
        let requested = (!self.sink.owners.is_empty()).then_some(now);
        let turn = (self.sink.turns.waiting() > 0).then(|| now + TURN_EVERY);
        [
            requested,
            turn,
            self.core.first_open_death().map(|at| of_boot(at.after(OOM_MARK_NS))),
            self.postponed.iter().map(|&(until, _)| of_boot(until)).min(),
            self.sleep_mode.nap().map(|nap| now + nap),
            self.core.poll_timeout().map(of_boot),
            self.sink.next_due().map(of_boot),
            self.pass_due().map(of_boot),
            self.counters_due,
            self.memory_reads.due(),
            self.sink.resident.due(),
            self.mirror.due(),
            self.canary.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// For whoever reads it: who sees more than that is told by [`AnswerTime::read_by`], or by the client where it is made into
    /// pieces.
    pub(super) fn answer_time(&self, sure: bool) -> AnswerTime<'_> {
        let certain = sure && self.sink.certain;
        AnswerTime {
            at: clock::boottime(),
            wall_offset_ns: self.sink.wall_offset_ns,
            context: Context { boot_id: &self.sink.boot_id, certain, audience: Audience::Anyone },
        }
    }
}
