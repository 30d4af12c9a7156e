//! How the self-test talks to its children: they report that they are ready, and wait for orders.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Result, ensure};

/// What a thread shares with the others of its process, as clone(2) takes it.
pub const THREAD: libc::c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;
/// What a child reports: it is ready with inherited user ids.
const READY: u8 = 0;
/// It is ready and has [`UIDS`].
pub const READY_WITH_UIDS: u8 = 1;
/// It could not do what it is to be seen with.
pub const FAILED: u8 = 2;

/// The child's ends of its pipes.
#[derive(Clone, Copy)]
pub struct ChildEnds {
    /// Where it reports.
    pub status: RawFd,
    /// Where its orders come from.
    pub orders: RawFd,
}

/// A new pipe: what is written to the second end is read from the first.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: writes two descriptors.
    ensure!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0, io::Error::last_os_error());
    // SAFETY: both are new and ours.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Reports to the parent whether the child is ready.
///
/// # Safety
/// None beyond what its callers promise: one system call.
pub unsafe fn report(ends: ChildEnds, failed: bool, own_uids: bool) {
    let byte = if failed {
        FAILED
    } else if own_uids {
        READY_WITH_UIDS
    } else {
        READY
    };
    // SAFETY: reads one byte.
    unsafe { libc::write(ends.status, (&raw const byte).cast(), 1) };
}

/// Waits until an order comes, or until the parent is gone.
///
/// # Safety
/// None beyond what its callers promise: one system call.
pub unsafe fn wait_for_order(orders: RawFd) {
    let mut byte = 0_u8;
    // SAFETY: writes one byte.
    unsafe { libc::syscall(libc::SYS_read, orders, &raw mut byte, 1) };
}
