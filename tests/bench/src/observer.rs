//! The daemon under measurement: the harness's, asked through its socket, because a command line costs more than what is
//! measured.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use observer_harness::{Daemon, Options};
use serde_json::Value;

/// With 10,000 processes an audit reads and compares tens of thousands of rows.
const ANSWER: Duration = Duration::from_secs(60);

/// A running daemon. It ends with this value.
pub(crate) struct Observer {
    daemon: Daemon,
}

impl Observer {
    /// Starts it and waits until it answers. Without `config` it has its default rule.
    pub(crate) fn start(config: Option<&str>) -> Self {
        let config = config.map(str::to_owned);
        Self { daemon: Daemon::start(&Options { config, ..Options::default() }) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// A command of observer's, directed at this daemon.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.daemon.command(arguments)
    }

    /// Its status. The question makes it drain the ring.
    pub(crate) fn status(&self) -> Result<Status> {
        self.ask("status").map(Status)
    }

    /// The number of differences between its map and the kernel, each of which is printed.
    pub(crate) fn drift(&self) -> Result<usize> {
        let answer = self.ask("audit")?;
        let compared = answer.get("processes").and_then(Value::as_u64).unwrap_or(0);
        ensure!(compared > 0, "the audit compared nothing: {answer}");
        let drift = answer.get("drift").and_then(Value::as_array).context("an audit without drift")?;
        for difference in drift {
            eprintln!("bench: the audit found {difference}");
        }
        Ok(drift.len())
    }

    /// Asks for every process, and returns how many there are.
    pub(crate) fn processes(&self) -> Result<usize> {
        let answer = self.ask("processes")?;
        answer.get("processes").and_then(Value::as_array).map(Vec::len).context("an answer without processes")
    }

    fn ask(&self, request: &str) -> Result<Value> {
        let stream = UnixStream::connect(self.daemon.socket()).context("connect to the daemon")?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        lines.next().context("the daemon sent no greeting")??;
        writeln!(&stream, "{{\"request\":\"{request}\"}}")?;
        let line = lines.next().with_context(|| format!("no answer to {request}"))??;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("decode {request}"))?;
        let kind = answer.get("kind").and_then(Value::as_str);
        ensure!(kind == Some(request), "the daemon answered {request} with {line}");
        Ok(answer)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        let code = self.daemon.stop();
        ensure!(code == Some(0), "observer ended with {code:?}; its log stands above");
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
