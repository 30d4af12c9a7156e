//! The sleep modes of the ring's reader. Wake-ups are expensive, so while records come the reader polls.

use std::time::Duration;

use crate::kernel::{Drained, ReaderState};

/// Interval of polls while sessions or terminals are busy.
const POLL: Duration = Duration::from_millis(2);
/// How long records of other processes may wait in the ring.
const LINGER: Duration = Duration::from_millis(20);

/// What the reader does when the ring is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepMode {
    /// Sleeps until any record wakes it.
    Idle,
    /// Sleeps [`POLL`]; nothing wakes it.
    Polling,
    /// Sleeps [`LINGER`] at most; records of sessions and terminals wake it.
    Lingering,
}

impl SleepMode {
    /// The mode that follows a drain with this result.
    pub fn after(self, found: Drained) -> Self {
        match (self, found) {
            (_, Drained { urgent: true, .. }) => Self::Polling,
            (_, Drained { records: 1.., .. }) | (Self::Polling, _) => Self::Lingering,
            _ => Self::Idle,
        }
    }

    /// How long to sleep unless a record wakes the reader; `None`: without a limit.
    pub fn nap(self) -> Option<Duration> {
        match self {
            Self::Idle => None,
            Self::Polling => Some(POLL),
            Self::Lingering => Some(LINGER),
        }
    }

    /// The state that the programs see during the sleep.
    pub fn state(self) -> ReaderState {
        match self {
            Self::Idle => ReaderState::Idle,
            Self::Polling => ReaderState::Polling,
            Self::Lingering => ReaderState::Lingering,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_records_poll_others_linger_and_nothing_sleeps() {
        let found = |records, urgent| Drained { records, urgent, caught_up: true };
        for mode in [SleepMode::Idle, SleepMode::Polling, SleepMode::Lingering] {
            assert_eq!(mode.after(found(3, true)), SleepMode::Polling);
            assert_eq!(mode.after(found(3, false)), SleepMode::Lingering);
        }
        let nothing = found(0, false);
        assert_eq!(SleepMode::Polling.after(nothing), SleepMode::Lingering);
        assert_eq!(SleepMode::Lingering.after(nothing), SleepMode::Idle);
        assert_eq!(SleepMode::Idle.after(nothing), SleepMode::Idle);
    }
}
