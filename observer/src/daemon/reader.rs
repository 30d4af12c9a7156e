//! When the ring's reader sleeps, and how deep: wake-ups are what costs, so while records come it looks by itself.

use std::time::Duration;

use crate::kernel::{Drained, ReaderState};

/// Between two looks while sessions or terminals are busy.
const POLL: Duration = Duration::from_millis(2);
/// How long records of other processes may wait in the ring.
const LINGER: Duration = Duration::from_millis(20);

/// What the reader does when the ring is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sleeps until any record wakes it.
    Idle,
    /// Sleeps [`POLL`]; nothing wakes it.
    Polling,
    /// Sleeps [`LINGER`] at most; records of sessions and terminals wake it.
    Lingering,
}

impl Phase {
    /// What follows a look that found this.
    pub fn after(self, found: Drained) -> Self {
        match (self, found) {
            (_, Drained { urgent: true, .. }) => Self::Polling,
            (_, Drained { records: 1.., .. }) | (Self::Polling, _) => Self::Lingering,
            _ => Self::Idle,
        }
    }

    /// How long to sleep without being woken; `None`: until woken.
    pub fn nap(self) -> Option<Duration> {
        match self {
            Self::Idle => None,
            Self::Polling => Some(POLL),
            Self::Lingering => Some(LINGER),
        }
    }

    /// What the programs are told before the sleep.
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
        for phase in [Phase::Idle, Phase::Polling, Phase::Lingering] {
            assert_eq!(phase.after(found(3, true)), Phase::Polling);
            assert_eq!(phase.after(found(3, false)), Phase::Lingering);
        }
        let nothing = found(0, false);
        assert_eq!(Phase::Polling.after(nothing), Phase::Lingering);
        assert_eq!(Phase::Lingering.after(nothing), Phase::Idle);
        assert_eq!(Phase::Idle.after(nothing), Phase::Idle);
    }
}
