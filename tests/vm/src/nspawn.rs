//! A container with a real systemd on this machine's own kernel. Its pid namespace is its own, so what can be seen is how
//! systemd takes the unit, and how observer refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::guest::Guest;
use crate::kernels::Kernel;
use crate::machine;
use crate::results::{Ended, Run};
use crate::systemd::{self, OVERLAY, Rootfs, START_TESTS};
use observer_harness::command;

const LIMIT: Duration = Duration::from_secs(300);
/// Tests that are for a container.
const TESTS: [&str; 2] = ["unit::", "container::"];

/// Boots it and waits for its end. Its output stays in `work`.
pub(crate) fn boot(work: &Path, guest: &Guest, rootfs: &Rootfs) -> Result<Run> {
    fs::create_dir_all(work).with_context(|| format!("create {}", work.display()))?;
    let (console, results) = (work.join("console.txt"), work.join("results.txt"));
    fs::write(&results, "").with_context(|| format!("write {}", results.display()))?;
    let marker = machine::marker()?;
    let overlay = tempfile::tempdir().context("make a directory for the container's files")?;
    let steps = [machine::service_step(&TESTS.map(str::to_owned))];
    systemd::overlay(overlay.path(), guest, &steps, &marker)?;
    let line = command::line(&nspawn(rootfs, overlay.path(), &results));
    eprintln!("vm: container: {line}");
    let begin = Instant::now();
    // It wants a terminal.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line]).arg(&console);
    // Its cgroups are laid out anew, as its systemd wants them.
    script.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = script.spawn().context("start script (cargo xtask setup installs it)")?;
    let end = machine::wait(&mut child, begin + LIMIT)?;
    let ended = Ended { end, took: begin.elapsed(), console: console.clone() };
    let release = command::capture(Command::new("uname").arg("--kernel-release"))?.trim().to_owned();
    let kernel = Kernel { arch: guest.arch, series: "container".into(), release, image: Default::default() };
    let output = machine::read(&results)?;
    // Its console is a service manager's, not a kernel's.
    let run = Run::read(&kernel, true, &marker, &output, "", ended);
    eprintln!("vm: container: {}", run.summary());
    Ok(run)
}

fn nspawn(rootfs: &Rootfs, overlay: &Path, results: &Path) -> Command {
    let mut command = Command::new("systemd-nspawn");
    command.args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--boot", "--directory"]);
    command.arg(&rootfs.directory);
    command.args(["--capability=CAP_BPF,CAP_PERFMON", "--system-call-filter=bpf perf_event_open"]);
    for file in OVERLAY {
        command.arg(format!("--bind-ro={}:/{file}", overlay.join(file).display()));
    }
    command.arg(format!("--bind={}:/results", results.display())).arg(START_TESTS);
    command
}
