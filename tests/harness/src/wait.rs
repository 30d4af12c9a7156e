//! What wait(2) returns for a dead child. Tests compare certificates with it.

use std::io;

/// A child's end, as wait4(2) gave it to its parent.
///
/// Not from waitid(2) with WNOWAIT, which leaves the child to be reaped: on 5.10 that returns the leader's own code where
/// the group has another, and the wait(2) that reaps returns the group's (seen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// What waitid(2) calls it: CLD_EXITED, CLD_KILLED or CLD_DUMPED.
    pub si_code: i32,
    /// Exit code or signal.
    pub si_status: i32,
    /// The status word of wait4.
    pub raw_status: i32,
    /// CPU time of the child, and of its descendants as far as each was waited for, µs.
    pub cpu_us: u64,
    /// The most memory that it or one of these had at a time, KiB.
    pub max_rss_kib: u64,
}

/// Waits for `pid` to end and reaps it. Blocks; fails with ECHILD where it is no child of the caller.
pub fn reap(pid: i32) -> io::Result<Waited> {
    let mut raw_status = 0;
    // SAFETY: a struct of plain integers.
    let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
    // SAFETY: both are valid for the kernel to fill.
    let got = unsafe { libc::wait4(pid, &raw mut raw_status, 0, &raw mut usage) };
    if got != pid {
        return Err(io::Error::last_os_error());
    }
    let (si_code, si_status) = if libc::WIFEXITED(raw_status) {
        (libc::CLD_EXITED, libc::WEXITSTATUS(raw_status))
    } else if libc::WCOREDUMP(raw_status) {
        (libc::CLD_DUMPED, libc::WTERMSIG(raw_status))
    } else {
        (libc::CLD_KILLED, libc::WTERMSIG(raw_status))
    };
    let us = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec).unsigned_abs();
    let cpu_us = us(usage.ru_utime) + us(usage.ru_stime);
    Ok(Waited { si_code, si_status, raw_status, cpu_us, max_rss_kib: usage.ru_maxrss.unsigned_abs() })
}
