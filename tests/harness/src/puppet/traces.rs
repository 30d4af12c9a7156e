//! Tracing another process.

use std::io;

use super::conversation::{Args, Done, check, number};

/// `traces PID OPTIONS`.
pub fn traces(args: Args<'_>) -> Done {
    let (pid, options): (libc::pid_t, libc::c_ulong) = (number(args, 0)?, number(args, 1)?);
    // SAFETY: integers; nothing of this process is read or written.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, options) }).map(|_| vec![])
}

/// `delivers PID SIGNAL`.
pub fn delivers(args: Args<'_>) -> Done {
    let (pid, signal): (libc::pid_t, libc::c_ulong) = (number(args, 0)?, number(args, 1)?);
    let mut status = 0;
    // SAFETY: `status` is valid for the kernel to fill.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    if !libc::WIFSTOPPED(status) {
        return Err(io::Error::other(format!("it did not stop: status {status:#x}")));
    }
    // SAFETY: integers; nothing of this process is read or written.
    check(unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, signal) })?;
    check(libc::WSTOPSIG(status)).map(|signal| vec![signal])
}
