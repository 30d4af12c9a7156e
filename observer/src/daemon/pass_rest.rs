//! How long hints wait for the next pass.

use std::time::Duration;

use observer_core::BootTime;

/// How many times its own duration a pass delays the next one that hints request, so that programs that provoke passes
/// cannot keep the daemon from other work.
const PASS_REST: u32 = 10;

/// The rest after a pass.
#[derive(Clone, Copy, Default)]
pub struct PassRest {
    until: BootTime,
}

impl PassRest {
    /// The rest after a pass that ended at `now` and took `duration`.
    pub fn after(now: BootTime, duration: Duration) -> Self {
        let rest = duration.saturating_mul(PASS_REST).as_nanos();
        Self { until: now.after(u64::try_from(rest).unwrap_or(u64::MAX)) }
    }

    /// When a pass is due that was requested for `not_before`. One that heals a gap does not wait for the rest.
    pub fn due(self, not_before: BootTime, is_in_gap: bool) -> BootTime {
        if is_in_gap { not_before } else { not_before.max(self.until) }
    }
}

#[cfg(test)]
mod tests {
    use observer_core::limits::PASS_INTERVAL_NS;

    use super::*;

    /// The passes of ten seconds in which a hint is raised again during each pass, where each takes `pass_ns`.
    fn passes_of_ten_seconds(pass_ns: u64, is_in_gap: bool) -> u64 {
        let (mut now, mut rest, mut passes) = (BootTime(0), PassRest::default(), 0);
        let mut not_before = now;
        while now < BootTime(10_000_000_000) {
            now = now.max(rest.due(not_before, is_in_gap)).after(pass_ns);
            not_before = now.after(PASS_INTERVAL_NS).max(not_before);
            rest = PassRest::after(now, Duration::from_nanos(pass_ns));
            passes += 1;
        }
        passes
    }

    #[test]
    fn hints_cause_a_pass_no_sooner_than_ten_times_the_duration_of_the_last_one() {
        // Of ten seconds, passes take an eleventh.
        assert_eq!(passes_of_ten_seconds(20_000_000, false), 47);
        assert_eq!(passes_of_ten_seconds(200_000_000, false), 6);
        // A short one waits for the interval, which is longer.
        assert_eq!(passes_of_ten_seconds(1_000_000, false), 198);
        assert_eq!(passes_of_ten_seconds(20_000_000, true), 144, "a gap is healed without delay");
    }
}
