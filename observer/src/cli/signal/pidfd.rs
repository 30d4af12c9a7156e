//! Processes that are certainly the ones that are meant: no other file of the product sends a signal to another process.
//!
//! A pidfd is of whatever process has the pid when it is opened. So the daemon is asked before and after: where both
//! answers show the same life of a process with this pid, it had the pid in between, and the pidfd is of it
//! (docs/decisions/47-signals-by-verified-pidfd.md).
//!
//! A verified process can be signalled:
//!
//! ```
//! use observer::cli::signal::number::SignalNumber;
//! use observer::cli::signal::pidfd::VerifiedProcess;
//!
//! fn may(process: &VerifiedProcess) {
//!     let _ = process.send(SignalNumber::NONE);
//! }
//! ```
//!
//! A pidfd that was not verified cannot, and nobody else can make a verified one:
//!
//! ```compile_fail,E0599
//! use observer::cli::signal::number::SignalNumber;
//! use observer::cli::signal::pidfd::OpenedPidfd;
//!
//! fn may_not(opened: &OpenedPidfd) {
//!     let _ = opened.send(SignalNumber::NONE);
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use observer::cli::signal::pidfd::VerifiedProcess;
//!
//! fn forged(fd: std::os::fd::OwnedFd, key: String) -> VerifiedProcess {
//!     VerifiedProcess { fd, key }
//! }
//! ```

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;

use super::number::SignalNumber;
use crate::api::answer::{ListAnswer, ProcessesAnswer};
use crate::api::key::LifeKey;
use crate::api::leftovers::LeftoversAnswer;
use crate::api::process::ProcessJson;
use crate::api::words::SessionState;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;

/// A pidfd of the process that had the pid when it was opened, which may be a stranger. It can signal nobody.
#[derive(Debug)]
pub struct OpenedPidfd {
    fd: OwnedFd,
    /// The life that an earlier answer showed with this pid.
    key: String,
}

/// A pidfd that is of the process with this key.
#[derive(Debug)]
pub struct VerifiedProcess {
    fd: OwnedFd,
    key: String,
}

/// An answer that shows which lives of processes go on.
pub trait LivesAnswer: DeserializeOwned {
    /// What is asked.
    const REQUEST: ClientRequest;

    /// Whether no event was lost.
    fn is_certain(&self) -> bool;

    /// Whether the process with this key lives.
    fn shows(&self, key: &str) -> bool;
}

impl LivesAnswer for ListAnswer<'static> {
    const REQUEST: ClientRequest = ClientRequest::List { ended: false };

    fn is_certain(&self) -> bool {
        self.head.certain
    }

    fn shows(&self, key: &str) -> bool {
        self.sessions.iter().any(|it| it.state != SessionState::Ended && it.primary.key == key)
    }
}

impl LivesAnswer for LeftoversAnswer<'static> {
    const REQUEST: ClientRequest = ClientRequest::Leftovers {};

    fn is_certain(&self) -> bool {
        self.head.certain
    }

    fn shows(&self, key: &str) -> bool {
        self.leftovers.iter().any(|it| it.process.key == key)
    }
}

impl LivesAnswer for ProcessesAnswer<'static> {
    const REQUEST: ClientRequest = ClientRequest::Processes {};

    fn is_certain(&self) -> bool {
        self.head.certain
    }

    fn shows(&self, key: &str) -> bool {
        self.processes.iter().any(|it| it.death.is_none() && it.key == key)
    }
}

/// Asks the daemon, whose answer is never older than this call. Fails where the pids of its answers are not those of this
/// process.
pub fn ask<A: LivesAnswer>(socket: &Path) -> Result<A, ClientError> {
    let mut client = Client::connect(socket)?;
    client.check_pids()?;
    decode(&client.ask(&A::REQUEST)?)
}

impl OpenedPidfd {
    /// Opens a pidfd for the pid of `process`, which an answer has shown to live. `None`: nobody has this pid any more, or
    /// a thread has it, so the process has ended. EBADMSG: its key is that of another pid.
    pub fn open(process: &ProcessJson<'_>) -> Result<Option<Self>, Errno> {
        // What is verified is the key, and what is opened is the pid.
        let named = LifeKey::parse(process.key.as_bytes()).map(|key| key.pid());
        let pid = named.filter(|&pid| pid == process.pid).ok_or(Errno::EBADMSG)?;
        // SAFETY: pidfd_open takes two integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match Errno::result(fd) {
            Ok(fd) => {
                let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
                // SAFETY: a descriptor that was returned just now belongs to nobody else.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Ok(Some(Self { fd, key: process.key.clone() }))
            }
            // EINVAL, and ENOENT from Linux 6.15 on: the pid is that of a thread (pidfd_prepare, kernel/fork.c).
            Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the daemon again, and keeps those whose process still has the pid that it had before they were opened; none
    /// where that is not certain. Also returns the answer.
    pub fn verify<A: LivesAnswer>(
        opened: Vec<Self>,
        socket: &Path,
    ) -> Result<(Vec<VerifiedProcess>, A), ClientError> {
        // The question is here, so that no answer can be taken that was given before the pidfds were opened.
        let answer: A = ask(socket)?;
        let is_same = |it: &Self| answer.is_certain() && answer.shows(&it.key);
        let verified = opened.into_iter().filter(is_same).map(|Self { fd, key }| VerifiedProcess { fd, key });
        Ok((verified.collect(), answer))
    }
}

impl VerifiedProcess {
    /// The life of a process that it is of.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Sends `signal`, with the rights of this process. ESRCH: it has ended.
    pub fn send(&self, signal: SignalNumber) -> Result<(), Errno> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a pidfd that is open; without a siginfo the kernel fills in that of kill(2).
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal.number(), no_info, 0)
        };
        Errno::result(sent).map(drop)
    }

    /// Waits until it has ended, but no longer than `deadline`. Returns whether it has.
    pub fn has_ended_by(&self, deadline: Option<Instant>) -> Result<bool, Errno> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // The wait is repeated where this is shorter than what is left.
            let step = left.map(|left| left.as_millis().saturating_add(1));
            let step =
                step.map_or(PollTimeout::NONE, |ms| PollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX)));
            match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], step) {
                Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process as an answer shows it.
    fn process(pid: u32) -> ProcessJson<'static> {
        ProcessJson {
            pid,
            key: LifeKey::of("7f3e90ab", observer_core::ProcessKey::new(pid, 1 << 30)).to_string(),
            ..ProcessJson::default()
        }
    }

    #[test]
    fn a_process_whose_key_is_that_of_another_pid_is_not_opened() {
        let own = process(std::process::id());
        for key in [process(own.pid + 1).key, "7f3e90ab".into(), String::new()] {
            let odd = ProcessJson { key, ..own.clone() };
            assert_eq!(OpenedPidfd::open(&odd).map(|it| it.is_some()), Err(Errno::EBADMSG), "{}", odd.key);
        }
    }

    #[test]
    fn a_pid_that_nobody_has_is_not_opened() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = process(child.id());
        child.wait().unwrap();
        assert!(OpenedPidfd::open(&gone).unwrap().is_none());
        assert!(OpenedPidfd::open(&process(std::process::id())).unwrap().is_some());
        // A thread's number is no process.
        let of_thread = std::thread::spawn(|| {
            // SAFETY: gettid has no preconditions.
            let tid = u32::try_from(unsafe { libc::gettid() }).unwrap();
            OpenedPidfd::open(&process(tid)).map(|it| it.is_some())
        });
        assert_eq!(of_thread.join().unwrap(), Ok(false));
    }

    #[test]
    fn what_has_ended_is_not_shown_to_live() {
        let mut session = crate::api::session::SessionJson::default();
        session.primary.key = "a".into();
        let mut answer = ListAnswer { sessions: vec![session], ..ListAnswer::default() };
        answer.sessions[0].state = SessionState::Live;
        assert!(answer.shows("a") && !answer.shows("b") && !answer.is_certain());
        answer.sessions[0].state = SessionState::Ended;
        assert!(!answer.shows("a"));
    }
}
