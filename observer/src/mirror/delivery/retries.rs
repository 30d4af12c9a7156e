//! How long a delivery waits before its next connection.

use std::time::Duration;

use fastrand::Rng;

/// The longest wait after a first failure, doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait of all. It bounds how long a server is back before a host finds out.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The shortest wait is the longest one divided by this. Between them chance decides: all hosts lose a server at one moment, and
/// must not come back at one moment.
pub const RETRY_SPREAD: u32 = 10;
/// What is waited besides after a permanent error.
pub const STOPPED_WAIT: Duration = Duration::from_secs(15);

/// The waits of one host.
#[derive(Debug)]
pub struct Retries {
    random: Rng,
    failures: u32,
}

impl Retries {
    /// Waits that `seed` chooses: no two hosts have the same. They go on from one outage to the next, so that it is not always the
    /// same host that comes last.
    pub fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), failures: 0 }
    }

    /// A connection was of use: the next wait is short again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait after a connection that failed or ended.
    pub fn wait(&mut self, is_permanent: bool) -> Duration {
        let longest = longest_wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        let shortest = longest / RETRY_SPREAD;
        let wait = shortest + (longest - shortest).mul_f64(self.random.f64());
        if is_permanent { STOPPED_WAIT + wait } else { wait }
    }
}

/// The longest wait after another failure, where there were so many before.
pub fn longest_wait(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: u64 = 1_000;

    /// The waits of 1,000 hosts after so many failures, ms.
    fn waits(failures: usize, is_permanent: bool) -> Vec<u128> {
        let nth = |seed| {
            let mut retries = Retries::new(seed);
            for _ in 0..failures {
                retries.wait(is_permanent);
            }
            retries.wait(is_permanent).as_millis()
        };
        (0..HOSTS).map(nth).collect()
    }

    fn extent(waits: &[u128]) -> (u128, u128) {
        (waits.iter().min().copied().unwrap(), waits.iter().max().copied().unwrap())
    }

    #[test]
    fn waits_are_spread_over_a_time_that_doubles_up_to_five_seconds() {
        for (failures, longest) in [(0, 1_000), (1, 2_000), (2, 4_000), (3, 5_000), (4, 5_000), (100, 5_000)]
        {
            let waits = waits(failures, false);
            let (least, most) = extent(&waits);
            assert!((longest / 10..longest / 9).contains(&least), "after {failures}: at least {least} ms");
            assert!((longest * 98 / 100..=longest).contains(&most), "after {failures}: at most {most} ms");
            // Each tenth of the time has its share, give or take five standard deviations.
            for begin in 0..9 {
                let from = longest / 10 + begin * longest / 10;
                let share = waits.iter().filter(|wait| (from..from + longest / 10).contains(wait)).count();
                assert!((60..165).contains(&share), "after {failures}: {share} waits from {from} ms on");
            }
        }
    }

    #[test]
    fn waits_after_a_permanent_error_are_long_and_spread_too() {
        let (least, most) = extent(&waits(7, true));
        assert!((15_500..15_600).contains(&least) && (19_900..=20_000).contains(&most), "{least} to {most}");
    }

    #[test]
    fn a_connection_that_was_of_use_begins_the_waits_anew() {
        let mut retries = Retries::new(7);
        for _ in 0..5 {
            retries.wait(false);
        }
        retries.succeeded();
        assert!(retries.wait(false) <= RETRY_FIRST);
    }

    #[test]
    fn the_host_that_is_last_after_one_outage_is_not_last_after_the_next() {
        let mut hosts: Vec<Retries> = (0..HOSTS).map(Retries::new).collect();
        let mut last = || {
            let waits = hosts.iter_mut().map(|retries| {
                retries.succeeded();
                retries.wait(false)
            });
            waits.enumerate().max_by_key(|(_, wait)| *wait).unwrap().0
        };
        assert_ne!(last(), last());
    }
}
