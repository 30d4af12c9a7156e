//! What wait(2) says of a dead child: the truth that certificates are compared with.

use std::io;

/// A child's end, from waitid(2) (with WNOWAIT) and then wait4(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// `si_code`: CLD_EXITED, CLD_KILLED or CLD_DUMPED.
    pub si_code: i32,
    /// `si_status`: exit code or signal.
    pub si_status: i32,
    /// The status word of wait4.
    pub raw_status: i32,
}

/// Waits for `pid` to end and reaps it. Blocks; fails with ECHILD where it is no child of the caller.
pub fn reap(pid: i32) -> io::Result<Waited> {
    // SAFETY: an all-zero siginfo is a valid value of that plain structure.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid for the kernel to fill.
    let got = unsafe {
        libc::waitid(libc::P_PID, pid.cast_unsigned(), &raw mut info, libc::WEXITED | libc::WNOWAIT)
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid filled the SIGCHLD form of siginfo.
    let si_status = unsafe { info.si_status() };
    let mut raw_status = 0;
    // SAFETY: `raw_status` is valid for the kernel to fill, no rusage is asked for.
    let got = unsafe { libc::wait4(pid, &raw mut raw_status, 0, std::ptr::null_mut()) };
    if got != pid {
        return Err(io::Error::last_os_error());
    }
    Ok(Waited { si_code: info.si_code, si_status, raw_status })
}
