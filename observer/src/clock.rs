//! The only reader of a clock.

use nix::time::{ClockId, clock_gettime};
use observer_core::BootTime;

/// Boot time now (CLOCK_BOOTTIME): the domain of `start_boottime`.
pub fn boottime() -> BootTime {
    BootTime(u64::try_from(read(ClockId::CLOCK_BOOTTIME)).unwrap_or(0))
}

/// Two readings count as simultaneous if they are no further apart than this, ns.
const APART_NS: i128 = 100_000;
/// How often simultaneous readings are tried.
const TRIES: u32 = 8;

/// Realtime minus boot time, ns: it converts a boot time into a wall-clock time. Where this thread was interrupted between the
/// readings of the two clocks, they are read again.
pub fn wall_offset_ns() -> i64 {
    let look = || {
        let before = read(ClockId::CLOCK_BOOTTIME);
        let real = read(ClockId::CLOCK_REALTIME);
        let apart = read(ClockId::CLOCK_BOOTTIME) - before;
        (apart, real - before - apart / 2)
    };
    let mut best = look();
    for _ in 1..TRIES {
        if best.0 <= APART_NS {
            break;
        }
        best = best.min(look());
    }
    i64::try_from(best.1).unwrap_or(0)
}

/// Wall-clock time now, ns since 1970.
pub fn realtime_ns() -> i128 {
    read(ClockId::CLOCK_REALTIME)
}

/// CPU time of a process, ns: that of all its threads, those that have ended included. `None` where there is no such process.
pub fn cpu_ns(pid: u32) -> Option<u64> {
    /// `CPUCLOCK_SCHED`, include/linux/posix-timers_types.h.
    const SCHED: i32 = 2;
    let ns = try_read(ClockId::from_raw((!i32::try_from(pid).ok()?).checked_mul(8)? | SCHED)).ok()?;
    u64::try_from(ns).ok()
}

/// Both clocks exist on every kernel that observer supports; a reading that fails counts as 0.
fn read(clock: ClockId) -> i128 {
    try_read(clock).unwrap_or(0)
}

/// Reads a clock, ns.
#[expect(clippy::disallowed_methods, reason = "this file is the one that reads clocks")]
fn try_read(clock: ClockId) -> nix::Result<i128> {
    clock_gettime(clock).map(|time| i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_process_is_the_kernels() {
        let before = u64::try_from(read(ClockId::CLOCK_PROCESS_CPUTIME_ID)).unwrap();
        let read_by_pid = cpu_ns(std::process::id()).unwrap();
        let after = u64::try_from(read(ClockId::CLOCK_PROCESS_CPUTIME_ID)).unwrap();
        assert!(
            0 < before && before <= read_by_pid && read_by_pid <= after,
            "{before} {read_by_pid} {after}"
        );
        assert_eq!((cpu_ns(0x7fff_ffff), cpu_ns(u32::MAX)), (None, None));
    }
}
