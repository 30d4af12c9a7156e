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
}

/// Waits for `pid` to end and reaps it. Blocks; fails with ECHILD where it is no child of the caller.
pub fn reap(pid: i32) -> io::Result<Waited> {
    let mut raw_status = 0;
    // SAFETY: `raw_status` is valid for the kernel to fill, no rusage is asked for.
    let got = unsafe { libc::wait4(pid, &raw mut raw_status, 0, std::ptr::null_mut()) };
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
    Ok(Waited { si_code, si_status, raw_status })
}
