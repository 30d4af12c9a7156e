//! Pseudo-terminals, made and held by the test: closing the master is a hang-up.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Truth, eventually};

/// How long the kernel may take to take a terminal that hung up from its process.
const HANG_UP: Duration = Duration::from_secs(20);

/// A pseudo-terminal; dropping it hangs up.
#[derive(Debug)]
pub struct Pty {
    /// The master's side.
    pub master: OwnedFd,
    /// The terminal's device file, `/dev/pts/N`.
    pub path: PathBuf,
}

impl Pty {
    /// A fresh pseudo-terminal.
    pub fn open() -> Self {
        // SAFETY: posix_openpt has no preconditions.
        let fd = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
        assert!(fd >= 0, "posix_openpt: {}", io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        let master = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: `fd` is a pty master.
        let unlocked = unsafe { libc::grantpt(fd) == 0 && libc::unlockpt(fd) == 0 };
        assert!(unlocked, "unlockpt: {}", io::Error::last_os_error());
        let mut name = [0u8; 64];
        // SAFETY: the buffer and its length belong together.
        let named = unsafe { libc::ptsname_r(fd, name.as_mut_ptr().cast(), name.len()) };
        assert!(named == 0, "ptsname_r: error {named}");
        let name = CStr::from_bytes_until_nul(&name).expect("ptsname_r ends with NUL");
        Self { master, path: PathBuf::from(name.to_str().expect("/dev/pts/N is ASCII")) }
    }

    /// Has a command lead a POSIX session on this terminal, with it as standard input, output and error.
    pub fn control(&self, command: &mut Command) {
        let slave = CString::new(self.path.as_os_str().as_bytes()).expect("a device's path has no NUL");
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe { command.pre_exec(move || take_terminal(&slave)) };
    }

    /// What observer shows for it: `pts/N`.
    pub fn tty(&self) -> String {
        self.path.strip_prefix("/dev").expect("a pty is under /dev").display().to_string()
    }

    /// Hangs up: closes the master, and waits until the terminal is taken from `pid`. A child that another thread has
    /// forked holds the master until it execs.
    #[track_caller]
    pub fn hang_up(self, pid: u32) {
        drop(self.master);
        eventually("the kernel takes the terminal away", HANG_UP, || match Truth::of(pid) {
            Some(Truth { tty: Some(tty), .. }) => Err(tty),
            _ => Ok(()),
        });
    }

    /// Waits until what was written to the terminal contains `text`, and gives all that was read.
    pub fn read_until(&self, text: &str, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut seen = Vec::new();
        let mut reader = File::from(self.master.try_clone().expect("duplicate the master"));
        while !String::from_utf8_lossy(&seen).contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let wait = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
            // SAFETY: one valid pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, wait) };
            assert!(ready > 0, "{text:?} not on the terminal within {limit:?}; it shows {seen:?}");
            let mut chunk = [0u8; 4096];
            let count = reader.read(&mut chunk).unwrap_or(0);
            assert!(count > 0, "the terminal closed without {text:?}");
            seen.extend(chunk.iter().take(count));
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

/// Leads a new POSIX session on this terminal, with it as standard input, output and error.
pub fn take_terminal(slave: &CStr) -> io::Result<()> {
    // SAFETY: system calls on valid arguments; the descriptor is new.
    unsafe {
        if libc::setsid() < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::open(slave.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        if fd < 0 || libc::ioctl(fd, libc::TIOCSCTTY, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        for standard in 0..=2 {
            if libc::dup2(fd, standard) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}
