//! The clock of the frames.

/// CLOCK_BOOTTIME, ns.
pub(crate) fn boottime_ns() -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The clock exists since Linux 2.6.39: it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut at) };
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(at.tv_nsec).unwrap_or(0)
}
