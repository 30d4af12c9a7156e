//! The daemon under measurement: started for each measurement with a socket and a directory of its own, asked
//! through its socket.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::child::Child;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// With 10,000 processes an audit reads and compares tens of thousands of rows.
const ANSWER: Duration = Duration::from_secs(60);

/// A running daemon. It ends with this.
pub(crate) struct Observer {
    binary: PathBuf,
    directory: TempDir,
    child: Child,
}

impl Observer {
    /// Starts it and waits until it answers. Without `config` it holds to its default rule.
    pub(crate) fn start(binary: &Path, config: Option<&str>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
        let log = File::create(directory.path().join("log"))?;
        let mut command = Command::new(binary);
        command.arg("run").arg("--socket").arg(directory.path().join("socket"));
        command.arg("--state-dir").arg(directory.path().join("state"));
        if let Some(config) = config {
            let file = directory.path().join("observer.toml");
            fs::write(&file, config)?;
            command.arg("--config").arg(file);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = Child::spawn(&mut command)?;
        let mut observer = Self { binary: binary.to_path_buf(), directory, child };
        observer.await_ready().with_context(|| format!("start {}", binary.display()))?;
        Ok(observer)
    }

    fn await_ready(&mut self) -> Result<()> {
        let end = Instant::now() + START;
        while !self.socket().exists() || self.status().is_err() {
            if let Some(status) = self.child.ended()? {
                bail!("it ended ({status}):\n{}", self.log());
            }
            if Instant::now() > end {
                bail!("no answer within {START:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its command line, for this daemon.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        command.env_remove("LD_LIBRARY_PATH");
        command
    }

    /// What it says of itself; asking has it drain the ring.
    pub(crate) fn status(&self) -> Result<Status> {
        self.ask("status").map(Status)
    }

    /// Differences between its map and the kernel.
    pub(crate) fn drift(&self) -> Result<usize> {
        let answer = self.ask("audit")?;
        let compared = answer.get("processes").and_then(Value::as_u64).unwrap_or(0);
        if compared == 0 {
            bail!("the audit compared nothing: {answer}");
        }
        answer.get("drift").and_then(Value::as_array).map(Vec::len).context("an audit without drift")
    }

    /// Asks for every process; how many it told.
    pub(crate) fn tell_processes(&self) -> Result<usize> {
        let answer = self.ask("processes")?;
        answer.get("processes").and_then(Value::as_array).map(Vec::len).context("an answer without processes")
    }

    fn ask(&self, request: &str) -> Result<Value> {
        let stream = UnixStream::connect(self.socket()).context("connect to the daemon")?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        lines.next().context("the daemon said nothing")??;
        writeln!(&stream, "{{\"request\":\"{request}\"}}")?;
        let line = lines.next().with_context(|| format!("no answer to {request}"))??;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("decode {request}"))?;
        if answer.get("kind").and_then(Value::as_str) != Some(request) {
            bail!("the daemon answered {request} with {line}");
        }
        Ok(answer)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.child.stop(libc::SIGTERM, STOP)?;
        if !status.success() {
            bail!("observer ended with {status}:\n{}", self.log());
        }
        Ok(())
    }
}

/// An answer to `status`.
pub(crate) struct Status(Value);

impl Status {
    /// A counter, by its path of names.
    pub(crate) fn number(&self, path: &[&str]) -> Result<u64> {
        let value = path.iter().try_fold(&self.0, |value, name| value.get(name));
        value.and_then(Value::as_u64).with_context(|| format!("status has no number {}", path.join(".")))
    }

    /// Sum over the kinds of a counter.
    pub(crate) fn sum(&self, name: &str) -> Result<u64> {
        let kinds = self.0.get(name).and_then(Value::as_object);
        let kinds = kinds.with_context(|| format!("status has no {name}"))?;
        Ok(kinds.values().filter_map(Value::as_u64).sum())
    }

    /// Whether any fact comes from a system call's tracepoint, for want of fexit.
    pub(crate) fn taps_system_calls(&self) -> bool {
        let hooks = self.0.get("hooks").and_then(Value::as_array);
        hooks.into_iter().flatten().any(|hook| {
            let source = hook.get("source").and_then(Value::as_str);
            source.is_some_and(|source| source.starts_with("tracepoint/syscalls/"))
        })
    }
}
