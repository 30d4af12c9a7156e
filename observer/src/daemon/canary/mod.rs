//! The canary: a process that the daemon starts at intervals, and whose birth, change of directory, exec and death must come
//! through the kernel's hooks, the ring and the decoder to the event loop. It is in no list and no count.

mod child;
mod rounds;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use observer_core::{BootTime, Input, Tgid};

use self::child::CanaryStarter;
pub use self::child::{ARGUMENT, CanaryOutcome, EXIT_CODE};
pub use self::rounds::{CanaryLook, CanaryStep};
use self::rounds::{CanaryRounds, CanaryTiming};
use crate::api::status::CanaryStatus;
use crate::api::words::CanaryState;
use crate::text::time::rfc3339;

/// From the start of one canary to the start of the next, unless the service manager asks for more.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest interval that is accepted.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest interval that is accepted.
pub const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// What follows from a canary for the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryNews {
    /// Events of this kernel are seen.
    Sees {
        /// When the canary was started that shows it; `None`: none does.
        proven_at: Option<BootTime>,
    },
    /// They are not. The value says whether they were until then.
    IsBlind {
        /// The last canary had come round.
        is_new: bool,
    },
    /// Nobody knows: there is no room for a canary, and nothing else was seen for some time.
    CannotTell {
        /// Until then somebody knew.
        is_new: bool,
    },
}

/// The canaries of this daemon, and what became of them.
pub struct Canary {
    timing: CanaryTiming,
    running: Option<(CanaryRounds, CanaryStarter)>,
    /// Whether the service manager waits for a sign of life.
    has_watchdog: bool,
    round_trip: Option<Duration>,
    /// When the daemon was last known to see: it was ready, or a canary came round.
    seen_at: BootTime,
    /// Up to when events are known to have come: the start of that canary.
    proven_at: BootTime,
    /// The last canary could not tell.
    is_unproven: bool,
    /// Nor could those before it, and nothing else shows that events come.
    is_untold: bool,
    came_round: u64,
    missed: u64,
    last_error: Option<String>,
}

impl Canary {
    /// Canaries every `interval`, or as often as the service manager's watchdog wants them. None is started yet.
    pub fn new(interval: Duration) -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        Self {
            timing: CanaryTiming::new(interval, watchdog),
            running: None,
            has_watchdog: watchdog.is_some(),
            round_trip: None,
            seen_at: BootTime(0),
            proven_at: BootTime(0),
            is_unproven: false,
            is_untold: false,
            came_round: 0,
            missed: 0,
            last_error: None,
        }
    }

    /// Starts: the first canary is due at once.
    pub fn begin(&mut self, now: Instant, at: BootTime) -> Result<()> {
        let starter = CanaryStarter::new()
            .context("cannot start the thread of the canary; raise the limits of processes and of memory")?;
        (self.seen_at, self.proven_at) = (at, at);
        self.running = Some((CanaryRounds::new(Tgid(std::process::id()), self.timing, now, at), starter));
        Ok(())
    }

    /// Whether what came from the kernel is of a canary, and not for the map.
    pub fn takes(&mut self, input: &Input<'_>) -> bool {
        self.running.as_mut().is_some_and(|(rounds, _)| rounds.takes(input))
    }

    /// When the next look is due.
    pub fn due(&self) -> Option<Instant> {
        self.running.as_ref().map(|(rounds, _)| rounds.due())
    }

    /// Whether a look at `now` can have a result.
    pub fn needs_look(&self, now: Instant) -> bool {
        self.running.as_ref().is_some_and(|(rounds, _)| rounds.needs_look(now))
    }

    /// Whether the last canary did not come round: what happens on the host is not seen.
    pub fn is_missing(&self) -> bool {
        self.running.as_ref().is_some_and(|(rounds, _)| rounds.is_missing())
    }

    /// Whether the last canary could not tell.
    pub fn is_unproven(&self) -> bool {
        self.is_unproven
    }

    /// Whether the service manager waits for a sign of life.
    pub fn has_watchdog(&self) -> bool {
        self.has_watchdog
    }

    /// Up to when events are known to have come.
    pub fn proven_at(&self) -> BootTime {
        self.proven_at
    }

    /// Why the last canary did not come round, as a sentence that ends with the next step.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Looks after the canaries: `at` is the time of the look. Starts one that is due.
    pub fn look(&mut self, look: CanaryLook, at: BootTime) -> Option<CanaryNews> {
        let (rounds, starter) = self.running.as_mut()?;
        let outcome = starter.outcome();
        let failure = outcome.failure();
        let was_missing = rounds.is_missing();
        let mut proven_at = None;
        let step = rounds.look(&CanaryLook { outcome: outcome.clone(), ..look })?;
        if step == CanaryStep::Start {
            starter.start();
            return None;
        }
        let was_untold = self.is_untold;
        self.is_untold = step == CanaryStep::Untold;
        self.is_unproven = self.is_untold || step == CanaryStep::Unproven;
        match step {
            CanaryStep::Start => {}
            CanaryStep::CameRound(took) => {
                (self.round_trip, self.seen_at, self.last_error) = (Some(took), at, None);
                self.came_round += 1;
                let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.proven_at = BootTime(at.0.saturating_sub(took_ns));
                proven_at = Some(self.proven_at);
            }
            CanaryStep::Unproven => {
                self.last_error = Some(unproven(failure, self.timing.patience));
            }
            CanaryStep::Untold => {
                self.last_error = Some(unproven(failure, self.timing.patience));
                return Some(CanaryNews::CannotTell { is_new: !was_untold });
            }
            CanaryStep::Missing(what) => {
                self.missed += 1;
                self.last_error = Some(missing(&what, failure, self.timing.patience));
                return Some(CanaryNews::IsBlind { is_new: !was_missing });
            }
        }
        Some(CanaryNews::Sees { proven_at })
    }

    /// The canary in the answer to `status`.
    pub fn status(&self, wall_offset_ns: i64) -> CanaryStatus {
        let is_missing = self.is_missing();
        let seen_at = rfc3339(self.seen_at, wall_offset_ns);
        CanaryStatus {
            state: match self.came_round {
                _ if is_missing => CanaryState::Missing,
                _ if self.is_unproven => CanaryState::Unproven,
                0 => CanaryState::Awaited,
                _ => CanaryState::Ok,
            },
            round_trip_us: self.round_trip.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            last_at: (self.came_round > 0).then(|| seen_at.clone()),
            blind_since: (is_missing || self.is_untold).then_some(seen_at),
            last_error: self.last_error.clone(),
            came_round: self.came_round,
            missed: self.missed,
            interval_ms: u64::try_from(self.timing.interval.as_millis()).unwrap_or(u64::MAX),
            watchdog: self.has_watchdog,
        }
    }
}

/// The sentence about a canary that cannot tell.
fn unproven(failure: Option<&str>, patience: Duration) -> String {
    let why = failure
        .map_or_else(|| format!("it did not come round within {} s", patience.as_secs_f32()), str::to_owned);
    format!(
        "the last process that the daemon started to see whether events come through cannot tell: {why}. See that the limits \
         of processes and memory leave room, and that the host is not overloaded"
    )
}

/// The sentence about a canary of which this did not come.
fn missing(what: &str, failure: Option<&str>, patience: Duration) -> String {
    let why = failure.map(|why| format!(" ({why})")).unwrap_or_default();
    format!(
        "of a process that the daemon started, these events did not come within {} s: {what}{why}. What happens on this host \
         is not seen; restart the daemon (`systemctl restart observer`), and report it if that does not help",
        patience.as_secs_f32()
    )
}
