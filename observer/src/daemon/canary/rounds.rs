//! What is awaited of the canary, a process that the daemon starts at intervals: its birth, its change of directory, its exec
//! and its death must come through the hooks and the ring, as they happened. Starts no process and reads no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use observer_core::input::join_path;
use observer_core::{BootTime, Input, ProcessKey, Tgid};

use super::child::{ARGUMENT, CanaryOutcome, DIRECTORY, EXIT_CODE};

/// Canaries whose records are recognised: those of an earlier one may come late.
const KNOWN_MAX: usize = 4;
/// How long the records of a canary are waited for.
const PATIENCE_MAX: Duration = Duration::from_secs(10);
/// Canaries in a row that could not be started, while nothing else was seen, after which nobody knows whether events come.
const UNTOLD_MAX: u8 = 3;
/// Canaries within the time after which the service manager restarts the daemon.
const ROUNDS_A_WATCHDOG: u32 = 3;

/// When canaries are started, and how long each is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanaryTiming {
    /// From the start of one to the start of the next.
    pub interval: Duration,
    /// From the start of one to when its records are missing.
    pub patience: Duration,
}

impl CanaryTiming {
    /// Canaries every `interval`, or more often where the service manager restarts a daemon that reported nothing for the time
    /// `watchdog`.
    pub fn new(interval: Duration, watchdog: Option<Duration>) -> Self {
        let part = watchdog.map_or(Duration::MAX, |watchdog| watchdog / ROUNDS_A_WATCHDOG);
        Self { interval: interval.min(part), patience: PATIENCE_MAX.min(part) }
    }
}

/// What the daemon knows at the time of a look.
#[derive(Clone, Debug)]
pub struct CanaryLook {
    /// The time.
    pub now: Instant,
    /// Records lost so far.
    pub lost: u64,
    /// Changes of directory, so far, that were not sent because others go first.
    pub throttled: u64,
    /// A hook reports changes of directory. Some kernels let none be attached, with the rights that there are.
    pub sees_moves: bool,
    /// The ring was empty: what happened before `now` was read.
    pub is_caught_up: bool,
    /// What became of the canary that was ordered last.
    pub outcome: CanaryOutcome,
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryStep {
    /// A canary is to be started.
    Start,
    /// The canary came round, in this time.
    CameRound(Duration),
    /// The canary cannot tell: it was not started, it failed or still runs, records were lost, which their count shows, or
    /// the ring holds more than was read. Unless it was not started, births or deaths of other processes came.
    Unproven,
    /// The same, and for so long that nobody knows whether events come: neither this canary nor those before it were started,
    /// and no birth and no death of another process came.
    Untold,
    /// These events of the canary did not come.
    Missing(String),
}

/// What came of a canary.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    birth: bool,
    moved: bool,
    exec: bool,
    death: bool,
}

impl Seen {
    fn missing(self) -> String {
        let events = [
            (self.birth, "birth"),
            (self.moved, "change of directory"),
            (self.exec, "exec"),
            (self.death, "death"),
        ];
        let missing: Vec<&str> = events.iter().filter(|(seen, _)| !seen).map(|(_, name)| *name).collect();
        missing.join(", ")
    }
}

/// One canary, from its order on.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    lost: u64,
    throttled: u64,
    child: Option<ProcessKey>,
    seen: Seen,
    /// A birth or a death of another process came.
    has_witness: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Until the next one is started.
    Resting(Instant),
    Awaited(Round),
}

/// The canaries of a daemon.
#[derive(Debug)]
pub struct CanaryRounds {
    /// The daemon: its children are canaries, because it starts no others.
    daemon: Tgid,
    /// Before this it had other children: its own program may have been executed by a process that had some.
    begun_at: BootTime,
    timing: CanaryTiming,
    phase: Phase,
    /// The newest last.
    known: VecDeque<ProcessKey>,
    is_missing: bool,
    /// Canaries in a row that could not be started, while no birth and no death of another process came.
    untold: u8,
}

impl CanaryRounds {
    /// The first canary of the process `daemon` is due at once, `now`, which is `begun_at`.
    pub fn new(daemon: Tgid, timing: CanaryTiming, now: Instant, begun_at: BootTime) -> Self {
        Self {
            daemon,
            begun_at,
            timing,
            phase: Phase::Resting(now),
            known: VecDeque::new(),
            is_missing: false,
            untold: 0,
        }
    }

    /// When the next look is due.
    pub fn due(&self) -> Instant {
        match &self.phase {
            Phase::Resting(until) => *until,
            Phase::Awaited(round) => round.began + self.timing.patience,
        }
    }

    /// Whether a look at `now` can have a result.
    pub fn needs_look(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Awaited(_)) || self.due() <= now
    }

    /// Whether the last canary did not come round.
    pub fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Looks at what comes from the kernel. Returns whether it is of a canary: then it is not for the map.
    pub fn takes(&mut self, input: &Input<'_>) -> bool {
        match input {
            Input::Fork { key, facts, creator, .. }
                if creator.tgid == self.daemon || facts.parent.tgid == self.daemon =>
            {
                self.born(*key);
            }
            Input::Fork { .. } => self.witness(),
            Input::Exit { key, .. } if !self.known.contains(key) => self.witness(),
            // Its birth may be lost.
            Input::Exec { key, facts, .. } if facts.parent.tgid == self.daemon => self.know(*key),
            Input::PassRow(row) if row.facts.parent.tgid == self.daemon => self.know(row.key),
            _ => {}
        }
        let Some(key) = input.key().filter(|key| self.known.contains(key)) else { return false };
        if let Phase::Awaited(round) = &mut self.phase
            && round.child == Some(key)
        {
            round.add(input);
        }
        true
    }

    fn born(&mut self, key: ProcessKey) {
        self.know(key);
        if key.start_boottime < self.begun_at {
            return;
        }
        if let Phase::Awaited(round) = &mut self.phase {
            // A canary whose order had to wait is younger than one that ends late.
            *round = Round { child: Some(key), seen: Seen::default(), ..*round };
        }
    }

    fn know(&mut self, key: ProcessKey) {
        if key.start_boottime >= self.begun_at && !self.known.contains(&key) {
            if self.known.len() == KNOWN_MAX {
                self.known.pop_front();
            }
            self.known.push_back(key);
        }
    }

    fn witness(&mut self) {
        if let Phase::Awaited(round) = &mut self.phase {
            round.has_witness = true;
        }
    }

    /// What follows at the time of `look`.
    pub fn look(&mut self, look: &CanaryLook) -> Option<CanaryStep> {
        let now = look.now;
        let round = match self.phase {
            Phase::Resting(until) if until > now => return None,
            Phase::Resting(_) => {
                self.phase = Phase::Awaited(Round {
                    began: now,
                    lost: look.lost,
                    throttled: look.throttled,
                    child: None,
                    seen: Seen::default(),
                    has_witness: false,
                });
                return Some(CanaryStep::Start);
            }
            Phase::Awaited(round) => round,
        };
        let next = now.max(round.began + self.timing.interval);
        if round.is_whole(look) {
            (self.phase, self.is_missing, self.untold) = (Phase::Resting(next), false, 0);
            return Some(CanaryStep::CameRound(now - round.began));
        }
        if now < round.began + self.timing.patience {
            return None;
        }
        if !self.is_missing && round.is_unproven(look) {
            self.phase = Phase::Resting(next);
            self.untold = if round.has_witness { 0 } else { self.untold.saturating_add(1) };
            let is_untold = self.untold >= UNTOLD_MAX;
            return Some(if is_untold { CanaryStep::Untold } else { CanaryStep::Unproven });
        }
        if !look.is_caught_up {
            return None;
        }
        // One more before the next is due.
        self.phase = Phase::Resting(if self.is_missing { next } else { now });
        self.is_missing = true;
        let moved = round.seen.moved || !look.sees_moves;
        Some(CanaryStep::Missing(Seen { moved, ..round.seen }.missing()))
    }
}

impl Round {
    fn add(&mut self, input: &Input<'_>) {
        match input {
            Input::Fork { .. } => self.seen.birth = true,
            // A path that could not be read whole is the right directory's.
            Input::Cwd { path, .. } => {
                // The path of a daemon in a chroot begins outside of that.
                self.seen.moved = join_path(*path).is_none_or(|path| path.ends_with(DIRECTORY.as_bytes()));
            }
            Input::Exec { argv, .. } => {
                let argument = argv.bytes.split(|&byte| byte == 0).nth(1);
                self.seen.exec = argument == Some(ARGUMENT.as_bytes());
            }
            Input::Exit { raw_status, .. } => self.seen.death = *raw_status == u32::from(EXIT_CODE) << 8,
            _ => {}
        }
    }

    /// Whether it follows from nothing that the daemon does not see.
    fn is_unproven(&self, look: &CanaryLook) -> bool {
        let cannot_tell =
            look.outcome != CanaryOutcome::Ended || look.lost != self.lost || !look.is_caught_up;
        matches!(look.outcome, CanaryOutcome::NotStarted(_)) || (cannot_tell && self.has_witness)
    }

    fn is_whole(&self, look: &CanaryLook) -> bool {
        let Seen { birth, moved, exec, death } = self.seen;
        birth && exec && death && (moved || !look.sees_moves || look.throttled != self.throttled)
    }
}

#[cfg(test)]
#[path = "rounds_tests.rs"]
mod tests;
