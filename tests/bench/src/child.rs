//! Programs that the bench starts: each ends with the bench, however that ends, and is waited for with a deadline.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use observer_harness::command;
use observer_harness::protocol::boottime_ns;

/// How often an exit is looked for where there is nothing to wait on.
const LOOK: Duration = Duration::from_millis(5);

/// A running program.
pub(crate) struct Child {
    name: String,
    child: std::process::Child,
}

/// A program that reads and writes lines.
pub(crate) struct Conversation {
    child: Child,
    /// `None` once its input was ended.
    stdin: Option<ChildStdin>,
    lines: Lines,
    /// The terminal's master, where it has a terminal.
    master: Option<OwnedFd>,
}

/// Lines out of a pipe, with a deadline.
pub(crate) struct Lines {
    pipe: File,
    pending: Vec<u8>,
}

impl Child {
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        // SAFETY: prctl is a plain system call and touches no memory.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        // Cargo's, for compiler plug-ins: it would have every program that is started search there first.
        command.env_remove("LD_LIBRARY_PATH");
        let child = command.spawn().with_context(|| format!("start `{}`", command::line(command)))?;
        Ok(Self { name: command.get_program().to_string_lossy().into_owned(), child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.pid()).context("a pid beyond pid_t")?;
        // SAFETY: kill touches no memory. The pid is this child's: it was not waited for, so it is not reused.
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).with_context(|| format!("signal {}", self.name));
        }
        Ok(())
    }

    /// The exit status, if it ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for {}", self.name))
    }

    pub(crate) fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} did not end within {within:?}: is the machine too busy?", self.name);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks it to end; kills it if it does not.
    pub(crate) fn stop(&mut self, signal: libc::c_int, within: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(signal)?;
        self.wait(within)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A failure cannot be returned here, and means that it has ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Conversation {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = Child::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let stdin = child.child.stdin.take();
        let stdout = child.child.stdout.take().context("no pipe for the output")?;
        Ok(Self { child, stdin, lines: Lines::new(OwnedFd::from(stdout)), master: None })
    }

    /// Holds its terminal open as long as the program runs.
    pub(crate) fn keep(&mut self, master: OwnedFd) {
        self.master = Some(master);
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    pub(crate) fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn send(&mut self, line: &Path) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input was ended")?;
        let line = format!("{}\n", line.display());
        stdin.write_all(line.as_bytes()).with_context(|| format!("write to {}", self.child.name))
    }

    pub(crate) fn line(&mut self, within: Duration) -> Result<String> {
        match self.lines.next(within)? {
            Some((line, _)) => Ok(line),
            None => bail!("{} printed nothing within {within:?}", self.child.name),
        }
    }

    /// As [`Lines::next`].
    pub(crate) fn next(&mut self, within: Duration) -> Result<Option<(String, u64)>> {
        self.lines.next(within)
    }

    /// Ends its input and waits for its end, which must be a good one.
    pub(crate) fn finish(mut self, within: Duration) -> Result<()> {
        drop(self.stdin.take());
        let status = self.child.wait(within)?;
        if !status.success() {
            bail!("{} failed ({status}); its own message stands above", self.child.name);
        }
        Ok(())
    }
}

impl Lines {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: File::from(pipe), pending: Vec::new() }
    }

    /// The next line and the boot time (ns) at which it was there; `None` if there is none in time.
    pub(crate) fn next(&mut self, within: Duration) -> Result<Option<(String, u64)>> {
        let end = Instant::now() + within;
        let mut arrived = boottime_ns();
        loop {
            if let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(at + 1);
                let line = std::mem::replace(&mut self.pending, rest);
                return Ok(Some((String::from_utf8_lossy(&line).trim_end().to_owned(), arrived)));
            }
            let left = end.saturating_duration_since(Instant::now());
            if !self.readable(left)? {
                return Ok(None);
            }
            let mut chunk = [0; 65536];
            let count = self.pipe.read(&mut chunk).context("read a program's output")?;
            arrived = boottime_ns();
            if count == 0 {
                bail!("a program ended in the middle of its output; its own message stands above");
            }
            self.pending.extend(chunk.iter().take(count));
        }
    }

    fn readable(&self, within: Duration) -> Result<bool> {
        let mut poll = libc::pollfd { fd: self.pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd.
        match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
            0 => Ok(false),
            1.. => Ok(true),
            _ => Err(std::io::Error::last_os_error()).context("wait for a program's output"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_silence_is_distinguished_from_the_end() -> Result<()> {
        let mut cat = Conversation::start(&mut Command::new("cat"))?;
        let long = Duration::from_secs(20);
        cat.send(Path::new("one\ntwo"))?;
        assert_eq!(cat.line(long)?, "one");
        assert_eq!(cat.line(long)?, "two");
        assert!(cat.next(Duration::from_millis(1))?.is_none(), "it prints nothing more");
        cat.finish(long)
    }

    #[test]
    fn what_does_not_end_by_itself_is_ended_with_its_guard() -> Result<()> {
        let mut sleeper = Child::spawn(Command::new("sleep").arg("600"))?;
        assert!(sleeper.wait(Duration::from_millis(1)).is_err());
        let pid = sleeper.pid();
        drop(sleeper);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        Ok(())
    }

    #[test]
    fn a_failure_is_an_error() -> Result<()> {
        let failing = Conversation::start(Command::new("sh").args(["-c", "exit 3"]))?;
        assert!(failing.finish(Duration::from_secs(20)).is_err());
        Ok(())
    }
}
