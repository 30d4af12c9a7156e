//! Whether the server is busy, as one connection observes it, and for how long a change therefore waits for others that would
//! share its transaction.

use std::time::{Duration, Instant};

/// A statement may take this much longer than twice the shortest one, and the server still counts as idle: the network, the disk
/// and the scheduler have their moods.
const TOLERATED: Duration = Duration::from_millis(4);
/// The same for each entry of the statement.
const TOLERATED_PER_ENTRY: Duration = Duration::from_micros(250);
/// No change waits longer.
const HOLD_MAX: Duration = Duration::from_millis(500);
/// As many entries fill a transaction well: they do not wait for more.
pub const GROUP_ENTRIES: u64 = 64;
/// A statement that ended earlier than this says nothing of the present. Nor is there much to share: this host makes less than a
/// change in this time.
const OBSERVATION_AGE: Duration = Duration::from_secs(1);

/// What statements of one connection took.
#[derive(Debug, Default)]
pub struct Congestion {
    /// The shortest of all, on a server that had nothing else to do: network, execution, disk.
    shortest: Option<Duration>,
    /// By how much the last two took longer than is tolerated. One that is slow by itself says nothing: a checkpoint, a lock.
    excess: [Duration; 2],
    ended_at: Option<Instant>,
}

impl Congestion {
    /// A statement with so many entries took from `sent_at` to `now`.
    pub fn observe(&mut self, sent_at: Instant, now: Instant, entries: usize) {
        let took = now.saturating_duration_since(sent_at);
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        self.shortest = Some(shortest);
        self.ended_at = Some(now);
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let tolerated = shortest * 2 + TOLERATED + TOLERATED_PER_ENTRY.saturating_mul(entries);
        let [_, last] = self.excess;
        self.excess = [last, took.saturating_sub(tolerated)];
    }

    /// How long a change that comes at `now` waits for others: as long as the server let the last two wait, so that at most half of
    /// the time of a busy host is spent waiting in the server, and not at all where the server is idle.
    pub fn hold(&self, now: Instant) -> Duration {
        let is_recent = self.ended_at.is_some_and(|at| now < at + OBSERVATION_AGE);
        let [before, last] = self.excess;
        if is_recent { before.min(last).min(HOLD_MAX) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hold, in ms, for a change that comes `idle_ms` after the last of these statements: ms and entries of each.
    fn hold(statements: &[(u64, usize)], idle_ms: u64) -> u128 {
        let (mut congestion, mut now) = (Congestion::default(), Instant::now());
        for &(took_ms, entries) in statements {
            let sent_at = now;
            now += Duration::from_millis(took_ms);
            congestion.observe(sent_at, now, entries);
        }
        congestion.hold(now + Duration::from_millis(idle_ms)).as_millis()
    }

    #[test]
    fn a_change_waits_as_long_as_the_server_let_others_wait() {
        assert_eq!(
            hold(&[(2, 1), (30, 1), (40, 1)], 0),
            21,
            "the shorter of the two, beyond 2 · 2 + 4.25 ms"
        );
        assert_eq!(hold(&[(2, 1), (900, 1), (800, 1)], 0), 500, "at most this long");
    }

    #[test]
    fn a_change_on_an_idle_server_leaves_at_once() {
        assert_eq!(hold(&[], 0), 0, "nothing is known");
        assert_eq!(hold(&[(2, 1), (8, 1), (7, 1)], 0), 0, "no statement takes the same time twice");
        assert_eq!(hold(&[(80, 1), (85, 1), (160, 1)], 0), 0, "the server is far away, not busy");
        assert_eq!(hold(&[(2, 1), (150, 800), (200, 1_000)], 0), 0, "they were large");
    }

    #[test]
    fn one_slow_statement_and_those_of_long_ago_say_nothing() {
        assert_eq!(hold(&[(2, 1), (3, 1), (700, 1)], 0), 0);
        assert_eq!(hold(&[(2, 1), (700, 1), (3, 1)], 0), 0);
        assert!(hold(&[(2, 1), (700, 1), (700, 1)], 999) > 0);
        assert_eq!(hold(&[(2, 1), (700, 1), (700, 1)], 1_000), 0);
    }
}
