//! How long the event loop was behind: records waited in the ring while it had others to handle.

use std::time::{Duration, Instant};

/// The time behind since the daemon's start.
#[derive(Debug, Default)]
pub struct TimeBehind {
    total: Duration,
    /// Since when the ring was not read to its end.
    since: Option<Instant>,
}

impl TimeBehind {
    /// Takes note of the end of a turn. `is_caught_up`: the ring was read to its end.
    pub fn turned(&mut self, is_caught_up: bool) {
        self.turned_at(is_caught_up, Instant::now);
    }

    fn turned_at(&mut self, is_caught_up: bool, now: impl FnOnce() -> Instant) {
        match (is_caught_up, self.since) {
            (false, None) => self.since = Some(now()),
            (true, Some(since)) => {
                self.total += now().saturating_duration_since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    /// The time until `now`.
    pub fn total(&self, now: Instant) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_a_turn_that_left_records_and_one_that_left_none_counts() {
        let (mut behind, start) = (TimeBehind::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (at, is_caught_up, total) in [
            (0, true, 0),
            (5, false, 0),
            (6, false, 1),
            (8, true, 3),
            (20, true, 3),
            (21, false, 3),
            (22, true, 4),
        ] {
            behind.turned_at(is_caught_up, || after(at));
            assert_eq!(behind.total(after(at)), Duration::from_secs(total), "at {at}");
        }
        behind.turned_at(false, || after(30));
        assert_eq!(behind.total(after(33)), Duration::from_secs(7), "it is behind still");
    }
}
