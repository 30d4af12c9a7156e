//! The children of the self-test: what they are and do, up to their ends.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::busy::busy;
use super::child_ends::{ChildEnds, FAILED, READY_WITH_UIDS, THREAD, pipe, report, wait_for_order};
use crate::kernel::limit_reached::NoRoom;

/// The directory of the first child: three levels deep, below a mount point, and present on every machine that observer runs
/// on.
pub const DIRECTORY: &CStr = c"/sys/kernel/btf";
/// The comm of the first child, which has everything that may confuse a reader: newline, escape sequence, invalid UTF-8.
pub const COMM: &[u8; 16] = b"o)\n\x1b[7m\xff\xc3( x\"\0\0\0";
/// How long a child or its records may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The signal that kills the first child.
pub const SIGNAL: libc::c_int = libc::SIGUSR1;
/// A signal that the first child handles, so that it does not end it.
pub const HANDLED: libc::c_int = libc::SIGUSR2;
/// User ids of a child of root: three numbers that no field has by chance.
pub const UIDS: [libc::uid_t; 3] = [65_531, 65_532, 65_533];
/// Exit code of the leader of the threaded child.
const LEADERS_CODE: libc::c_int = 3;
/// Exit code with which its thread ends the group, which is what wait(2) returns.
const GROUPS_CODE: libc::c_int = 9;
/// Exit code of the child whose only thread exits without ending the group.
const PLAIN_CODE: libc::c_int = 7;
/// A pseudo-terminal. The open master keeps the slave alive.
pub struct PseudoTerminal {
    master: OwnedFd,
    /// Path of the slave.
    pub slave: CString,
    /// The kernel's name of it, as "pts3".
    pub name: String,
    /// Device number as stat(2) returns it.
    pub rdev: u64,
}

impl PseudoTerminal {
    /// Opens a new one whose number is not 0; neighbouring fields are often 0, so a wrong offset would not be noticed.
    pub fn open() -> Result<Self> {
        let first = Self::open_any()?;
        if libc::minor(first.rdev) == 0 { Self::open_any() } else { Ok(first) }
    }

    fn open_any() -> Result<Self> {
        // SAFETY: a new descriptor that nothing else owns.
        let master = unsafe {
            let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            ensure!(fd >= 0, io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let mut name = [0_u8; 64];
        // SAFETY: writes a terminated string of at most 64 bytes.
        unsafe {
            ensure!(libc::unlockpt(master.as_raw_fd()) == 0, io::Error::last_os_error());
            ensure!(
                libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) == 0,
                io::Error::last_os_error()
            );
        }
        let slave = CStr::from_bytes_until_nul(&name).context("name of the terminal")?.to_owned();
        let path = slave.to_string_lossy().into_owned();
        let rdev = fs::metadata(&path).with_context(|| format!("look at {path}"))?.rdev();
        Ok(Self { master, slave, name: path.replace("/dev/pts/", "pts"), rdev })
    }

    /// The foreground process group.
    pub fn foreground(&self) -> Result<u32> {
        // SAFETY: a query without side effects. On a master it returns the group of the slave.
        let group = unsafe { libc::tcgetpgrp(self.master.as_raw_fd()) };
        ensure!(group > 0, "ask for the terminal's foreground group: {}", io::Error::last_os_error());
        Ok(group.cast_unsigned())
    }
}

/// A forked child; killed and reaped when dropped.
pub struct TestChild {
    /// The pid.
    pub pid: u32,
    ready: OwnedFd,
    orders: OwnedFd,
    reaped: bool,
}

impl TestChild {
    /// Forks a child that has a terminal, a POSIX session, a comm, a directory and, if that is allowed, user ids of its own. It
    /// waits for a signal.
    pub fn with_everything(slave: &CStr) -> Result<Self> {
        // SAFETY: async-signal-safe calls only, and it never returns.
        Self::fork(|ends| unsafe { with_everything(slave, ends) })
    }

    /// Forks a child that has a process group of its own, a second thread, and the directory `dir`, which another process
    /// shares. At the first order its leader exits; at the second its thread ends the group.
    pub fn with_threads(dir: &CStr) -> Result<Self> {
        let mut stack = vec![0_u64; 4096];
        // SAFETY: async-signal-safe calls only, and it never returns; it has a stack of its own to give to a thread.
        Self::fork(|ends| unsafe { with_threads(dir, &mut stack, ends) })
    }

    /// Forks a child that leads a POSIX session without a terminal, and ends at once by the exit of its only thread.
    pub fn plain() -> Result<Self> {
        // SAFETY: two system calls, of which the second ends the child's only thread.
        Self::fork(|_| unsafe {
            libc::setsid();
            libc::syscall(libc::SYS_exit, PLAIN_CODE);
            libc::_exit(PLAIN_CODE)
        })
    }

    /// Forks a child that uses processor and memory, as [`super::busy`] describes.
    pub fn busy() -> Result<Self> {
        let mut stack = vec![0_u64; 4096];
        // SAFETY: async-signal-safe calls only, and it never returns; it has a stack of its own to give to a thread.
        Self::fork(|ends| unsafe { busy(&mut stack, ends) })
    }

    fn fork(main: impl FnOnce(ChildEnds) -> Infallible) -> Result<Self> {
        let (ready, status) = pipe()?;
        let (received, orders) = pipe()?;
        // SAFETY: the child calls nothing but `main`, which every caller holds to async-signal-safe calls.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // So that the child reads the end of the pipe once its parent is gone.
            // SAFETY: closes a descriptor that the child does not use.
            unsafe { libc::close(orders.as_raw_fd()) };
            main(ChildEnds { status: status.as_raw_fd(), orders: received.as_raw_fd() });
        }
        if pid < 0 {
            return Err(io::Error::last_os_error()).context("start a process");
        }
        Ok(Self { pid: pid.cast_unsigned(), ready, orders, reaped: false })
    }

    /// Waits until the child has everything that it is to be seen with. Returns whether it has [`UIDS`].
    pub fn wait_ready(&self) -> Result<bool> {
        let mut byte = FAILED;
        // SAFETY: writes one byte. The child's end closes when it exits, so this returns.
        let read = unsafe { libc::read(self.ready.as_raw_fd(), (&raw mut byte).cast(), 1) };
        if read != 1 || byte == FAILED {
            return Err(NoRoom(
            "the self-test's child could not take its terminal, change its directory, start a thread or a process, or \
             have 8 MiB of memory; see that the limits of processes, open files and memory leave room, and start observer again",
            )
            .into());
        }
        Ok(byte == READY_WITH_UIDS)
    }

    /// Gives the child its next order.
    pub fn order(&self) -> Result<()> {
        // SAFETY: reads one byte.
        let wrote = unsafe { libc::write(self.orders.as_raw_fd(), [0_u8].as_ptr().cast(), 1) };
        ensure!(wrote == 1, "order the self-test's child: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Sends [`HANDLED`], and then [`SIGNAL`] to the child.
    pub fn kill(&self) -> Result<()> {
        self.send(HANDLED)?;
        self.send(SIGNAL)
    }

    /// Stops the child, and waits until it is.
    pub fn stop(&self) -> Result<()> {
        self.send(libc::SIGSTOP)?;
        self.wait_for(libc::WSTOPPED)
    }

    /// Continues the child.
    pub fn go_on(&self) -> Result<()> {
        self.send(libc::SIGCONT)
    }

    /// Waits until the child has ended; it stays a zombie.
    pub fn wait_dead(&self) -> Result<()> {
        self.wait_for(libc::WEXITED)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "its own child, whose pid is no other's until it is reaped"
    )]
    fn send(&self, signal: libc::c_int) -> Result<()> {
        // SAFETY: our own child, not reaped yet, so the pid is still its.
        let sent = unsafe { libc::kill(self.pid.cast_signed(), signal) };
        ensure!(sent == 0, "signal the self-test's child: {}", io::Error::last_os_error());
        Ok(())
    }

    fn wait_for(&self, event: libc::c_int) -> Result<()> {
        // SAFETY: fills a struct of plain integers.
        let done = unsafe {
            let mut info = std::mem::zeroed::<libc::siginfo_t>();
            libc::waitid(libc::P_PID, self.pid, &raw mut info, event | libc::WNOWAIT)
        };
        ensure!(done == 0, "wait for the self-test's child: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Reaps the child; returns its wait status.
    pub fn reap(&mut self) -> Result<u32> {
        self.reap_with_usage().map(|(status, _)| status)
    }

    /// Reaps the child; returns its wait status, and what it and its children used.
    pub fn reap_with_usage(&mut self) -> Result<(u32, libc::rusage)> {
        let mut status = 0;
        // SAFETY: our own child, not reaped yet; fills structs of plain integers.
        let (reaped, usage) = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            (libc::wait4(self.pid.cast_signed(), &raw mut status, 0, &raw mut usage), usage)
        };
        ensure!(reaped > 0, "reap the self-test's child: {}", io::Error::last_os_error());
        self.reaped = true;
        Ok((status.cast_unsigned(), usage))
    }
}

impl Drop for TestChild {
    #[expect(
        clippy::disallowed_methods,
        reason = "its own child, whose pid is no other's until it is reaped"
    )]
    fn drop(&mut self) {
        if !self.reaped {
            // SAFETY: our own child, not reaped yet.
            unsafe {
                libc::kill(self.pid.cast_signed(), libc::SIGKILL);
                libc::waitpid(self.pid.cast_signed(), std::ptr::null_mut(), 0);
            }
        }
    }
}

extern "C" fn handle(_: libc::c_int) {}

/// Body of the first child.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
unsafe fn with_everything(slave: &CStr, ends: ChildEnds) -> ! {
    // SAFETY: see above; every pointer is to memory that the child has a copy of.
    unsafe {
        libc::signal(SIGNAL, libc::SIG_DFL);
        libc::signal(HANDLED, handle as *const () as libc::sighandler_t);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        let mut failed = libc::setsid() < 0;
        let tty = libc::open(slave.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        failed |= libc::ioctl(tty, libc::TIOCSCTTY, 0) != 0;
        failed |= libc::prctl(libc::PR_SET_NAME, COMM.as_ptr()) != 0;
        failed |= libc::chdir(DIRECTORY.as_ptr()) != 0;
        // The system call itself: the library's function would signal all threads, and this child has one.
        let [uid, euid, suid] = UIDS;
        let own = libc::syscall(libc::SYS_setresuid, uid, euid, suid) == 0;
        // Otherwise the id for files equals the effective one, which is its neighbour in `struct cred`.
        libc::syscall(libc::SYS_setfsuid, uid);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // The foreground group differs from the session, which is its neighbour in `struct tty_struct`.
        let foreground = fork_follower(libc::SIGCHLD);
        failed |= foreground < 0
            || libc::setpgid(foreground, foreground) != 0
            || libc::ioctl(tty, libc::TIOCSPGRP, &raw const foreground) != 0;
        report(ends, failed, own);
        loop {
            libc::pause();
        }
    }
}

/// Body of the threaded child.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
unsafe fn with_threads(dir: &CStr, stack: &mut [u64], ends: ChildEnds) -> ! {
    let shared = Shared { orders: ends.orders, leader_exits: AtomicBool::new(false) };
    // SAFETY: see above; every pointer is to memory that the child has a copy of. The thread has a stack of its own and
    // makes system calls only; what it shares outlives it, since the leader never returns.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let mut failed = libc::setpgid(0, 0) != 0 || libc::chdir(dir.as_ptr()) != 0;
        // Another process, which shares the directory.
        failed |= fork_follower(libc::CLONE_FS | libc::SIGCHLD) < 0;
        let top = stack.as_mut_ptr_range().end;
        failed |= libc::clone(thread, top.cast(), THREAD, (&raw const shared).cast_mut().cast()) < 0;
        report(ends, failed, false);
        wait_for_order(shared.orders);
        shared.leader_exits.store(true, Ordering::Release);
        libc::syscall(libc::SYS_exit, LEADERS_CODE);
        libc::_exit(LEADERS_CODE)
    }
}

/// Forks a process that does nothing and ends with the calling thread. Returns its pid, or a negative number.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
unsafe fn fork_follower(flags: libc::c_int) -> libc::pid_t {
    // SAFETY: see above; with no stack given, the child goes on with a copy of this one.
    unsafe {
        let parent = libc::getpid();
        let child = libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0);
        if child == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            while libc::getppid() == parent {
                libc::pause();
            }
            libc::_exit(0);
        }
        child as libc::pid_t
    }
}

/// What the leader and the second thread of the threaded child share.
struct Shared {
    orders: RawFd,
    leader_exits: AtomicBool,
}

/// Body of the second thread: after the leader has had its order, waits for the next one and ends the group.
extern "C" fn thread(shared: *mut libc::c_void) -> libc::c_int {
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    // SAFETY: the leader's, which never returns from where it has it.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // SAFETY: system calls on memory of this process.
    unsafe {
        while !shared.leader_exits.load(Ordering::Acquire) {
            libc::syscall(libc::SYS_nanosleep, &raw const moment, 0);
        }
        wait_for_order(shared.orders);
        libc::syscall(libc::SYS_exit_group, GROUPS_CODE);
    }
    GROUPS_CODE
}
