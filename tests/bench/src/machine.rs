//! The machine that the figures come from.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use observer_harness::command;

/// What a reader needs to compare with.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_mib: u64,
    /// Of the day, UTC.
    pub(crate) date: String,
    /// Commit of observer that was measured, `+` if files differ from it.
    pub(crate) commit: String,
    /// Load average over the last minute, before the run: above 1 the figures are noisy.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let value = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let kilobytes = value(&memory, "MemTotal").unwrap_or_default();
        let kilobytes: u64 = kilobytes.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            cpu: value(&cpus, "model name").unwrap_or_else(|| "unknown CPU".into()),
            cores: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            memory_mib: kilobytes / 1024,
            date: command::capture(Command::new("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned(),
            commit: commit(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, {} MiB; Linux {}; {}; observer {}; load {} before the run",
            self.cpu, self.cores, self.memory_mib, self.kernel, self.date, self.commit, self.load
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_mib": self.memory_mib,
            "kernel": self.kernel,
            "date": self.date,
            "commit": self.commit,
            "load": self.load,
        })
    }
}

/// A tree without git, as from a release's archive, has no commit.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        command::capture(Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments))
    };
    let Ok(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_ok_and(|text| !text.is_empty());
    format!("{}{}", commit.trim(), if changed { "+" } else { "" })
}
