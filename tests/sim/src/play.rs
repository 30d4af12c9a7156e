//! Plays a history: operations of the kernel and of the daemon, and what must hold after each.

use std::ops::AddAssign;

use observer_core::BootTime;
use observer_core::death::DeathKind;
use observer_core::limits::SETTLE_NS;
use observer_core::session::State;

use crate::check::{self, Extent};
use crate::daemon::ModelDaemon;
use crate::linux::Linux;
use crate::op::{Op, Verb};
use crate::resume::{self, Memory};

/// Long enough for what hints requested.
const WAIT_NS: u64 = 60_000_000;
/// Turns after which nothing may be due any more.
const SETTLE_TURNS: usize = 80;
/// Deaths that are kept, so that a long history needs no more memory than a short one.
const DEATHS_KEPT: usize = 4_096;

/// What a history led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayCounts {
    /// Operations.
    pub steps: u64,
    /// Records that the kernel made.
    pub records: u64,
    /// Records that were lost.
    pub lost: u64,
    /// Records that were left out, whose fields were read again.
    pub left_out: u64,
    /// Complete comparisons of the map with the kernel.
    pub checks: u64,
    /// Comparisons of what has records, and of who lives.
    pub part_checks: u64,
    /// Death certificates that were compared.
    pub deaths: u64,
    /// Of them, those that say that nobody saw the end.
    pub unobserved: u64,
    /// Gaps that were opened.
    pub gaps: u64,
    /// Restarts of the daemon.
    pub restarts: u64,
    /// Sessions whose primaries stood where they had stood before a restart of the daemon, and were primaries again.
    pub kept: u64,
    /// Those of them that had another primary then, or none.
    pub replaced: u64,
    /// Sessions that lived at the times of complete comparisons.
    pub sessions: u64,
}

impl AddAssign for PlayCounts {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.steps, other.steps),
            (&mut self.records, other.records),
            (&mut self.lost, other.lost),
            (&mut self.left_out, other.left_out),
            (&mut self.checks, other.checks),
            (&mut self.part_checks, other.part_checks),
            (&mut self.deaths, other.deaths),
            (&mut self.unobserved, other.unobserved),
            (&mut self.gaps, other.gaps),
            (&mut self.restarts, other.restarts),
            (&mut self.kept, other.kept),
            (&mut self.replaced, other.replaced),
            (&mut self.sessions, other.sessions),
        ] {
            *sum += more;
        }
    }
}

/// A kernel and a daemon.
#[derive(Debug)]
pub struct Simulation {
    linux: Linux,
    daemon: ModelDaemon,
    /// The daemon is down for so many operations, with the sessions that it knew.
    down: Option<(u32, Memory)>,
    counts: PlayCounts,
    /// Records that former daemons lost.
    lost_before: u64,
}

impl Default for Simulation {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulation {
    /// A host on which a daemon has just started.
    pub fn new() -> Self {
        let mut linux = Linux::new(0);
        let mut daemon = ModelDaemon::new(false);
        daemon.begin_pass(&mut linux);
        daemon.finish_pass(&mut linux);
        Self { linux, daemon, down: None, counts: PlayCounts::default(), lost_before: 0 }
    }

    /// Returns what the history led to so far.
    pub fn counts(&self) -> PlayCounts {
        let ring = &self.linux.ring;
        let gaps = self.counts.gaps + self.daemon.core.counters().gaps;
        PlayCounts {
            records: ring.made,
            left_out: ring.left_out,
            lost: self.lost_before + ring.lost(),
            gaps,
            ..self.counts
        }
    }

    /// Does an operation.
    ///
    /// # Errors
    ///
    /// Returns what must hold and does not.
    pub fn apply(&mut self, op: Op) -> Result<(), String> {
        self.counts.steps += 1;
        if let Some((left, _)) = &mut self.down {
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => self.start()?,
            }
        }
        if self.down.is_some() {
            self.linux.act(op);
            return Ok(());
        }
        let Self { linux, daemon, .. } = self;
        let [first, second, ..] = op.by;
        match op.verb {
            Verb::Drain if !daemon.is_reading() => daemon.drain(linux, 1 + first as usize % 8),
            Verb::Turn => daemon.turn(linux),
            Verb::Read => daemon.read(linux, 1 + first as usize % 16, second % 32 == 0),
            Verb::Pass => daemon.begin_pass(linux),
            Verb::FailPass => daemon.fail_pass(linux),
            Verb::ReadAlone => {
                daemon.read_alone(linux, |tgid| first & (1 << (tgid % 32)) != 0);
                self.question()?;
            }
            Verb::Wait => self.wait(u64::from(first) % WAIT_NS),
            Verb::WaitLong => self.wait(2 * SETTLE_NS),
            Verb::Settle => self.settle()?,
            Verb::Restart => self.stop(first % 12),
            _ => linux.act(op),
        }
        self.check_reports()
    }

    /// Time passes, in which preempted programs go on, passes end, and the daemon has its turns.
    fn wait(&mut self, ns: u64) {
        let Self { linux, daemon, .. } = self;
        linux.ring.reserve_all();
        daemon.finish_pass(linux);
        daemon.turn(linux);
        daemon.finish_pass(linux);
        linux.now += ns;
        daemon.turn(linux);
    }

    /// A question: everything that happened before it is in the map.
    fn question(&mut self) -> Result<(), String> {
        let Self { linux, daemon, .. } = self;
        linux.ring.reserve_all();
        daemon.finish_pass(linux);
        linux.ring.read_skipped();
        daemon.drain(linux, usize::MAX);
        if daemon.core.in_gap() {
            return Ok(());
        }
        self.counts.part_checks += 1;
        // An answer waits for deaths that are not complete.
        let is_complete = daemon.core.first_open_death().is_none();
        let is_read = is_complete && linux.ring.hints() == 0 && daemon.pass_due().is_none();
        self.compare(if is_read { Extent::Recorded } else { Extent::Lives })
    }

    fn compare(&self, extent: Extent) -> Result<(), String> {
        let faults = check::map(&self.linux, &self.daemon, extent);
        if faults.0.is_empty() { Ok(()) } else { Err(faults.0.join("\n")) }
    }

    /// The daemon does what is due, until nothing is; then a pass shows what has no records.
    fn settle(&mut self) -> Result<(), String> {
        // Who has exited goes on to its end.
        while self
            .linux
            .groups
            .values()
            .any(|group| matches!(group.stage, crate::linux::process::Stage::Exiting(_)))
        {
            self.linux.become_zombie(0);
        }
        for _ in 0..SETTLE_TURNS {
            self.linux.ring.read_skipped();
            self.wait(WAIT_NS);
            let due = [self.daemon.pass_due(), self.daemon.core.poll_timeout()];
            if due.into_iter().all(|due| due.is_none_or(|due| due.0 > self.linux.now))
                && !self.daemon.core.in_gap()
            {
                break;
            }
        }
        self.wait(2 * SETTLE_NS);
        self.daemon.begin_pass(&mut self.linux);
        self.daemon.finish_pass(&mut self.linux);
        self.wait(WAIT_NS);
        self.wait(WAIT_NS);
        if self.daemon.core.in_gap() {
            return Err("a gap stays open".into());
        }
        self.compare(Extent::Everything)?;
        if self.daemon.reports.lost != self.linux.ring.lost() {
            return Err(format!(
                "{} lost, and {} reported",
                self.linux.ring.lost(),
                self.daemon.reports.lost
            ));
        }
        self.counts.checks += 1;
        let live =
            self.daemon.core.sessions().filter(|(session, _)| session.state != State::Ended).count() as u64;
        self.counts.sessions += live;
        self.forget();
        Ok(())
    }

    /// Forgets what is over.
    fn forget(&mut self) {
        self.daemon.reports.forget_ended();
        let Linux { deaths, groups, .. } = &mut self.linux;
        if deaths.len() > DEATHS_KEPT {
            deaths.retain(|key, _| groups.get(&key.tgid.0).is_some_and(|group| group.key == *key));
        }
    }

    /// The daemon is killed.
    fn stop(&mut self, operations: u32) {
        self.lost_before += self.linux.ring.lost();
        self.counts.gaps += self.daemon.core.counters().gaps;
        self.counts.restarts += 1;
        self.linux.ring.detach();
        self.down = Some((operations, resume::memory(&self.daemon.core, &self.linux)));
    }

    /// It is started again, and finds the sessions as they were recorded.
    fn start(&mut self) -> Result<(), String> {
        let Some((_, memory)) = self.down.take() else { return Ok(()) };
        self.linux.ring.attach();
        self.daemon = ModelDaemon::new(true);
        let Self { linux, daemon, counts, .. } = self;
        daemon.begin_pass(linux);
        daemon.finish_pass(linux);
        let at = BootTime(linux.tick());
        memory.resume(&mut daemon.core, &mut daemon.reports, at);
        let (kept, replaced) = memory.compare(&daemon.core, linux)?;
        counts.kept += kept;
        counts.replaced += replaced;
        self.check_reports()
    }

    fn check_reports(&mut self) -> Result<(), String> {
        let Self { linux, daemon, counts, .. } = self;
        if let Some(fault) = daemon.reports.faults.first() {
            return Err(fault.clone());
        }
        for (key, death) in std::mem::take(&mut daemon.reports.deaths) {
            check::death(linux, key, &death)?;
            counts.deaths += 1;
            counts.unobserved += u64::from(matches!(death.kind, DeathKind::Unobserved { .. }));
        }
        let drift = daemon.core.counters().drift_total;
        if drift > 0 {
            return Err(format!("{drift} differences that nothing explains"));
        }
        Ok(())
    }
}

/// Plays operations. A panic of the product is a fault as well.
///
/// # Errors
///
/// Returns the number of the operation after which something does not hold, and what.
pub fn play(ops: &[Op]) -> Result<PlayCounts, (usize, String)> {
    let mut simulation = Simulation::new();
    for (number, &op) in ops.iter().enumerate() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.apply(op)));
        let outcome = outcome.unwrap_or_else(|_| Err("it panicked".into()));
        outcome.map_err(|fault| (number, fault))?;
    }
    Ok(simulation.counts())
}
