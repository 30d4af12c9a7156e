//! The machine that the figures come from.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use crate::command;
use crate::workspace::Workspace;

/// What a reader needs to compare with.
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) memory_mib: u64,
    /// Of the day, UTC.
    pub(super) date: String,
    /// Commit of observer that was measured, `+` if files differ from it.
    pub(super) commit: String,
    /// Load average over the last minute, before the run: above 1 the figures are noisy.
    pub(super) load: String,
}

impl Machine {
    pub(super) fn look(workspace: &Workspace) -> Result<Self> {
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
            commit: commit(workspace),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{}, {} cores, {} MiB; Linux {}; {}; observer {}; load {} before the run",
            self.cpu, self.cores, self.memory_mib, self.kernel, self.date, self.commit, self.load
        )
    }

    pub(super) fn json(&self) -> Value {
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
fn commit(workspace: &Workspace) -> String {
    let git = |arguments: &[&str]| {
        command::capture(Command::new("git").arg("-C").arg(&workspace.root).args(arguments))
    };
    let Ok(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_ok_and(|text| !text.is_empty());
    format!("{}{}", commit.trim(), if changed { "+" } else { "" })
}
