//! Warnings that events were lost.

use std::mem;

use observer_core::BootTime;
use tracing::warn;

use super::log_repeats;

/// Shortest interval between two log messages about gaps, ns.
const GAP_LOG_NS: u64 = 10_000_000_000;

/// When the last warning was logged.
#[derive(Debug, Default)]
pub struct GapLog {
    logged_at: Option<BootTime>,
    /// Warnings that were left out since.
    left_out: u64,
}

impl GapLog {
    /// Logs that events were lost, but not once for each of many gaps: the others are counted.
    pub fn log(&mut self, at: BootTime) {
        match self.next(at) {
            None => log_repeats::count_left_out(),
            Some(left_out) => {
                let before = match left_out {
                    0 => String::new(),
                    times => format!(", and were {times} times since the last such line"),
                };
                warn!(
                    part = "ring",
                    left_out,
                    "events were lost{before}; the kernel is read again. If this repeats, raise --ring-bytes"
                );
            }
        }
    }

    /// How many warnings were left out since the last one; `None` if this one is left out too.
    fn next(&mut self, at: BootTime) -> Option<u64> {
        if self.logged_at.is_some_and(|logged| at.since(logged) < GAP_LOG_NS) {
            self.left_out += 1;
            return None;
        }
        self.logged_at = Some(at);
        Some(mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_within_ten_seconds_is_left_out_and_counted() {
        let mut log = GapLog::default();
        let second = |second: u64| BootTime(second * 1_000_000_000);
        let logged = [100, 101, 109, 110, 111, 130].map(|at| log.next(second(at)));
        assert_eq!(logged, [Some(0), None, None, Some(2), None, Some(1)]);
        let before = log_repeats::left_out();
        log.log(second(131));
        assert!(log_repeats::left_out() > before);
    }
}
