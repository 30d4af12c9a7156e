//! The observers that observer stands beside: what Debian packages for the same job.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::account::{self, BpfStatistics};
use crate::child::Child;
use crate::work::Work;
use observer_harness::{apt, command};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(30);
/// Between two looks whether it has seen anything yet.
const LOOK: Duration = Duration::from_millis(50);

/// Has the kernel's trace directories in a mount namespace of its own: peers look for probes there, and on a fresh
/// machine nobody has mounted them.
const WITH_TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing; mount -t debugfs debugfs /sys/kernel/debug; \
    exec \"$@\"";

/// A peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    /// Whether it works by BPF programs; the other way is the kernel's netlink connector.
    pub(crate) by_bpf: bool,
    /// Whether a line of its output reports what one spawn of a program of this name did.
    reports: fn(line: &str, comm: &str) -> bool,
}

/// In the order of the table.
pub(crate) const PEERS: [Peer; 4] = [
    Peer { name: "execsnoop", package: "libbpf-tools", arguments: &[], by_bpf: true, reports: begins_with },
    Peer { name: "exitsnoop", package: "libbpf-tools", arguments: &[], by_bpf: true, reports: begins_with },
    Peer {
        name: "forkstat",
        package: "forkstat",
        arguments: &["-l", "-e", "fork,exec,exit"],
        by_bpf: false,
        reports: is_exec_by_forkstat,
    },
    Peer {
        name: "bpftrace",
        package: "bpftrace",
        arguments: &[
            "-e",
            "tracepoint:sched:sched_process_fork { printf(\"fork %d %s\\n\", pid, comm); } \
             tracepoint:sched:sched_process_exec { printf(\"exec %d %s\\n\", pid, comm); } \
             tracepoint:sched:sched_process_exit { printf(\"exit %d %s\\n\", pid, comm); }",
        ],
        by_bpf: true,
        reports: is_exec_by_bpftrace,
    },
];

/// `COMM …`
fn begins_with(line: &str, comm: &str) -> bool {
    line.split_whitespace().next() == Some(comm)
}

/// `TIME exec PID … COMMAND LINE`. It reads the command line from /proc when it gets to it, which may be before the
/// exec has changed it or after the process is gone: `<unknown>` is a report too.
fn is_exec_by_forkstat(line: &str, comm: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    words.next() == Some("exec")
        && words.any(|word| word == "<unknown>" || word.rsplit('/').next() == Some(comm))
}

/// `exec PID COMM`
fn is_exec_by_bpftrace(line: &str, comm: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("exec") && words.nth(1) == Some(comm)
}

/// A running peer. It ends with this.
pub(crate) struct Running {
    peer: &'static Peer,
    child: Child,
    output: PathBuf,
}

impl Peer {
    /// Installs it if it is missing, and returns its program.
    pub(crate) fn install(&self) -> Result<PathBuf> {
        if let Some(program) = find(self.name) {
            return Ok(program);
        }
        eprintln!("bench: {}: installing (package {})", self.name, self.package);
        apt::install(&[self.package])?;
        find(self.name)
            .with_context(|| format!("package {} is installed, but has no {}", self.package, self.name))
    }

    /// Starts it and waits until it reports.
    pub(crate) fn start(&'static self, work: &Work) -> Result<Running> {
        let program = find(self.name).with_context(|| format!("{} is not installed", self.name))?;
        let output = work.directory().join(format!("{}.out", self.name));
        let errors = work.directory().join(format!("{}.err", self.name));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh"]).arg(program).args(self.arguments);
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
        let mut running = Running { peer: self, child: Child::spawn(&mut command)?, output };
        running.await_ready(work).with_context(|| {
            format!("{} printed: {}", self.name, fs::read_to_string(&errors).unwrap_or_default())
        })?;
        Ok(running)
    }
}

/// Some packages put their programs where only root looks.
fn find(name: &str) -> Option<PathBuf> {
    command::find(name).or_else(|| {
        ["/usr/sbin", "/sbin"]
            .iter()
            .map(|directory| PathBuf::from(directory).join(name))
            .find(|path| path.exists())
    })
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits until it sees what is spawned: its programs run, or its output grows by what was spawned.
    fn await_ready(&mut self, work: &Work) -> Result<()> {
        let end = Instant::now() + START;
        let _statistics = BpfStatistics::enable()?;
        while Instant::now() < end {
            if let Some(status) = self.child.ended()? {
                bail!("it ended ({status})");
            }
            work.spawn_signs()?;
            let seen = if self.peer.by_bpf {
                account::bpf_time(self.pid())?.runs > 0
            } else {
                fs::read_to_string(&self.output)?.contains(Work::SIGN)
            };
            if seen {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        bail!("it saw nothing within {START:?}")
    }

    /// Ends it, and counts the spawns of `comm` that it reported.
    pub(crate) fn stop(mut self, comm: &str) -> Result<u64> {
        // SIGINT is how a person ends them: they write what they still hold.
        self.child.stop(libc::SIGINT, STOP)?;
        let output = fs::read(&self.output).with_context(|| format!("read {}", self.output.display()))?;
        let reports = self.peer.reports;
        Ok(String::from_utf8_lossy(&output).lines().filter(|line| reports(line, comm)).count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_a_spawn_is_told_from_the_rest() {
        let counts = |name: &str, lines: &[&str]| {
            let peer = PEERS.iter().find(|peer| peer.name == name);
            peer.map(|peer| lines.iter().filter(|line| (peer.reports)(line, "bench-tiny")).count())
        };
        let exec =
            ["PCOMM            PID    PPID   RET ARGS", "bench-tiny       11    10    0 /t/bench-tiny"];
        assert_eq!(counts("execsnoop", &exec), Some(1));
        let spawner = ["bench-load       10    1    0 /t/bench-load spawn 9 /t/bench-tiny"];
        assert_eq!(counts("execsnoop", &spawner), Some(0));
        let forkstat = [
            "05:17:17 exec  11630                 <unknown>",
            "05:17:17 exec  11631                 /t/bench-tiny",
            "05:17:17 exec  11632                 sleep 1",
            "05:17:17 exit  11631   1792   0.006s /t/bench-tiny",
        ];
        assert_eq!(counts("forkstat", &forkstat), Some(2));
        let bpftrace = ["fork 1 bench-tiny", "exec 11 bench-tiny", "exit 11 bench-tiny"];
        assert_eq!(counts("bpftrace", &bpftrace), Some(1));
    }
}
