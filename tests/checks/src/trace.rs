//! The program under strace: every path that it names while it does all that it can do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use observer_harness::workspace::Workspace;

use crate::opens::{self, Allowed, Places};
use crate::strace;
use crate::workload::Workload;

/// For one thing to come about; the daemon is several times slower under strace.
const DEADLINE: Duration = Duration::from_secs(60);
/// The daemon cannot start without it, so a trace without it was not read right.
const SURELY_OPENED: &str = "/sys/kernel/btf/vmlinux";

/// Names in the directory of the run.
const CONFIGURATION: &str = "observer.toml";
const STATE: &str = "state";

/// What the traced run gave.
pub(crate) struct Traced {
    /// Distinct paths seen.
    pub(crate) paths: usize,
    pub(crate) findings: Vec<String>,
}

/// Runs the daemon with work to see, asks it everything that a client can ask, then runs what works without a
/// daemon; holds every path against the list.
pub(crate) fn run(workspace: &Workspace, allowed: &Allowed) -> Result<Traced> {
    let binary = workspace.release_binary();
    if !binary.exists() {
        bail!("{} is not there: run cargo xtask build", binary.display());
    }
    let directory = tempfile::Builder::new().prefix("observer-check-").tempdir()?;
    let top = fs::canonicalize(directory.path())?;
    let places = Places { run: top.join("run"), homes: top.join("homes") };
    let session = Session { binary, traces: top.join("traces"), places };
    for made in [&session.traces, &session.places.run, &session.places.homes] {
        fs::create_dir(made)?;
    }
    session.configure()?;
    let mut seen = BTreeMap::new();
    session.with_daemon(&mut seen)?;
    session.without_daemon(&mut seen)?;
    if !seen.contains_key(SURELY_OPENED) {
        bail!("the trace does not show {SURELY_OPENED}, which the daemon must open: it was not read right");
    }
    let findings = seen
        .iter()
        // strace's own exec of the program that it traces.
        .filter(|(path, _)| Path::new(path) != session.binary)
        .filter(|(path, _)| !allowed.admits(path, &session.places))
        .map(|(path, line)| {
            let what = if opens::is_process_state(path) {
                "reads a process's state from /proc"
            } else {
                "is not on the list"
            };
            format!("{path} {what} (tests/checks/allowed-opens.txt), in: {line}")
        })
        .collect();
    Ok(Traced { paths: seen.len(), findings })
}

/// One run's program and places.
struct Session {
    binary: PathBuf,
    traces: PathBuf,
    places: Places,
}

/// Paths, each with the first line of a trace that names it.
type Seen = BTreeMap<String, String>;

impl Session {
    fn socket(&self) -> PathBuf {
        self.places.run.join("observer.sock")
    }

    fn metrics(&self) -> PathBuf {
        self.places.run.join("metrics.sock")
    }

    fn configuration(&self) -> PathBuf {
        self.places.run.join(CONFIGURATION)
    }

    /// One rule that has owners looked up, and metrics, so that these are traced too.
    fn configure(&self) -> Result<()> {
        let text = format!(
            "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\nowner = true\n[metrics]\nlisten = \"{}\"\n",
            self.places.homes.display(),
            self.metrics().display()
        );
        fs::write(self.configuration(), text).context("write the configuration")
    }

    fn with_daemon(&self, seen: &mut Seen) -> Result<()> {
        let trace = self.traces.join("daemon");
        let log = self.places.run.join("daemon.log");
        let output = fs::File::create(&log)?;
        let mut command = self.under_strace(&trace);
        command.arg(&self.binary).arg("run").arg("--config").arg(self.configuration());
        command.arg("--socket").arg(self.socket()).arg("--state-dir").arg(self.places.run.join(STATE));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut strace = Running(command.spawn().context("start strace: run cargo xtask setup")?);
        let asked = self.wait_until_ready(&mut strace).and_then(|()| self.exercise(seen));
        let stopped = stop(&mut strace, &trace);
        asked.and(stopped).with_context(|| {
            let result = fs::read_to_string(&log).unwrap_or_default();
            format!("trace the daemon, which printed:\n{result}")
        })?;
        read(&trace, seen)
    }

    fn wait_until_ready(&self, strace: &mut Running) -> Result<()> {
        until("the daemon answers", || {
            if let Some(status) = strace.0.try_wait()? {
                bail!("the daemon ended before it was ready ({status})");
            }
            Ok(self.observer(&["status"]).output()?.status.success())
        })
    }

    /// Work for the daemon to see, and every question that it answers.
    fn exercise(&self, seen: &mut Seen) -> Result<()> {
        let (mut watch, watched) = self.begin(&["watch", "--json", "--all"])?;
        let workload = Workload::start(&self.places.homes)?;
        until("the new session is listed", || {
            let listed = self.observer(&["list", "--porcelain"]).output()?;
            Ok(String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.starts_with("one\t")))
        })?;
        for arguments in [
            &["list"][..],
            &["list", "--json"],
            &["ps"],
            &["ps", "--json"],
            &["pid", "one"],
            &["explain", "one"],
            &["signal", "one", "TERM", "--tree", "--dry-run"],
            &["leftovers"],
            &["history"],
            &["timeline"],
            &["timeline", "--svg", &self.file("timeline.svg")],
            &["reload"],
            &["status", "--json"],
            &["audit", "--json"],
            &["rules", "try", &self.file(CONFIGURATION)],
            &["doctor", "--config", &self.file(CONFIGURATION), "--report", &self.file("report-beside")],
        ] {
            self.client(arguments, seen)?;
        }
        let (mut wait, waited) = self.begin(&["wait", "one"])?;
        until("`watch` and `wait` are subscribed", || Ok(self.watching()? == 2))?;
        let mut scrape = UnixStream::connect(self.metrics()).context("ask for metrics")?;
        scrape.set_read_timeout(Some(DEADLINE))?;
        scrape.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut metrics = String::new();
        scrape.read_to_string(&mut metrics).context("read the metrics")?;
        ensure!(metrics.starts_with("HTTP/1.1 200 OK"), "no metrics are served: {metrics}");
        workload.finish()?;
        until("`wait` ends with the session", || Ok(wait.0.try_wait()?.is_some()))?;
        read(&waited, seen)?;
        until("the dead session is not live any more", || {
            let status =
                self.observer(&["pid", "one"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            Ok(status.code() == Some(1))
        })?;
        self.client(&["history", "--killed"], seen)?;
        self.client(&["signal", "one", "TERM", "--leftovers", "--dry-run"], seen)?;
        stop(&mut watch, &watched)?;
        read(&watched, seen)
    }

    /// Every command that works without a daemon.
    fn without_daemon(&self, seen: &mut Seen) -> Result<()> {
        let (configuration, state) = (&self.file(CONFIGURATION), &self.file(STATE));
        for arguments in [
            &["list"][..],
            &["list", "--state-dir", state],
            &["ps", "--json"],
            &["explain", "1"],
            &["history", "--state-dir", state],
            &["timeline", "--state-dir", state],
            &["audit", "--json"],
            &["rules", "defaults"],
            &["rules", "check", configuration],
            &["rules", "try", configuration],
            &["check-config", configuration],
            &["doctor", "--report", &self.file("report")],
            &["status"],
        ] {
            self.client(arguments, seen)?;
        }
        Ok(())
    }

    /// How many clients the daemon has that follow changes.
    fn watching(&self) -> Result<u64> {
        let output = self.observer(&["status", "--json"]).output()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).context("read the status")?;
        status
            .pointer("/clients/watching")
            .and_then(serde_json::Value::as_u64)
            .context("clients of the status")
    }

    fn words(&self, arguments: &[&str]) -> Vec<OsString> {
        let mut words = vec![self.binary.clone().into_os_string()];
        words.extend(arguments.iter().map(OsString::from));
        words.extend(["--socket".into(), self.socket().into_os_string()]);
        words
    }

    /// A file in the directory of the run.
    fn file(&self, name: &str) -> String {
        self.places.run.join(name).display().to_string()
    }

    /// Starts a command that goes on under strace; also returns where the trace is.
    fn begin(&self, arguments: &[&str]) -> Result<(Running, PathBuf)> {
        let trace = self.traces.join(arguments.first().context("a command")?);
        let mut command = self.under_strace(&trace);
        command.args(self.words(arguments)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok((Running(command.spawn().context("start strace")?), trace))
    }

    /// strace, before the command that it runs. Programs that the command would start, such as journalctl, are not found: what
    /// they open is theirs.
    fn under_strace(&self, trace: &Path) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-s", "4096", "-e", "trace=%file", "-e", "signal=none"]);
        command.arg("-E").arg(format!("PATH={}", self.file("no-programs"))).arg("-o").arg(trace);
        // Cargo's, for compiler plug-ins: the loader would look there first.
        command.env_remove("LD_LIBRARY_PATH");
        command
    }

    /// One command of the program, untraced.
    fn observer(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(self.words(arguments).iter().skip(1)).stdin(Stdio::null());
        command
    }

    /// Runs one command of the program under strace. What it finds is not judged here, what it opens is.
    fn client(&self, arguments: &[&str], seen: &mut Seen) -> Result<()> {
        let trace = self.traces.join("client");
        let mut command = self.under_strace(&trace);
        command.args(self.words(arguments));
        let output = command.stdin(Stdio::null()).output().context("start strace")?;
        // 0 found, 1 none or drift, 4 no daemon: answers all. Others are no answers.
        if !matches!(output.status.code(), Some(0 | 1 | 4)) {
            bail!(
                "observer {} ended with {}:\n{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        read(&trace, seen)
    }
}

/// A child that does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the child has ended and was waited for, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks the traced program to end and waits for it; strace ends with it.
fn stop(strace: &mut Running, trace: &Path) -> Result<()> {
    if strace.0.try_wait()?.is_none() {
        let pid = traced_pid(trace)?;
        // SAFETY: kill takes no pointers. The pid is that of strace's child, which stays unreaped, so the pid
        // is not another's, until strace ends: that was ruled out above.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    until("the traced program ends at SIGTERM", || Ok(strace.0.try_wait()?.is_some()))
}

/// The pid at the start of the trace: strace writes the program's own exec first.
fn traced_pid(trace: &Path) -> Result<i32> {
    let text = fs::read_to_string(trace).with_context(|| format!("read {}", trace.display()))?;
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .filter(|&pid| pid > 1)
        .with_context(|| format!("{} does not begin with a pid", trace.display()))
}

fn read(trace: &Path, seen: &mut Seen) -> Result<()> {
    let bytes = fs::read(trace).with_context(|| format!("read {}", trace.display()))?;
    for line in String::from_utf8_lossy(&bytes).lines() {
        for path in strace::paths(line) {
            seen.entry(path).or_insert_with(|| line.to_owned());
        }
    }
    Ok(())
}

/// Asks again until it is so, or fails naming what did not come about.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while !is_so()? {
        if Instant::now() > end {
            bail!("{what}: not within {} s", DEADLINE.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
