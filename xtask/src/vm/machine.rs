//! One boot of one kernel: qemu's emulator, two serial lines (the kernel's console and the results), a time limit.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::guest::{Guest, STORM, VERIFIER};
use super::initramfs::{self, HOME, Step};
use super::kernels::Kernel;
use super::results::{End, Ended, Run};
use super::ways::Way;
use crate::command;

const QEMU: &str = "qemu-system-x86_64";
/// Emulation is 6 to 24 times slower than the machine it runs on; limits are for what hangs.
const DOCTOR_S: u32 = 240;
const TESTS_S: u32 = 1200;
const STORM_S: u32 = 7200;
const BOOT_S: u32 = 180;
const POLL: Duration = Duration::from_millis(100);

/// What a machine is to do.
pub(crate) struct Plan<'a> {
    kernel: &'a Kernel,
    guest: &'a Guest,
    steps: Vec<Step>,
}

impl<'a> Plan<'a> {
    /// For each way `observer doctor` where it is of interest, then the tests whose names contain any of `filter`, or
    /// all.
    pub(crate) fn new(kernel: &'a Kernel, guest: &'a Guest, ways: &[Way], filter: &[String]) -> Result<Self> {
        let mut steps = Vec::new();
        for way in ways {
            if *way == Way::Own {
                let command = ["/usr/bin/env", "NO_COLOR=1", &format!("{HOME}/observer"), "doctor"];
                let command = command.map(str::to_owned).into();
                steps.push(Step { name: "doctor".into(), limit_s: DOCTOR_S, command });
            }
            for test in guest.tests.iter().filter(|test| way.has(&test.name)) {
                let mut command: Vec<String> = vec!["/usr/bin/env".into()];
                command.extend(way.environment().iter().map(|&variable| variable.to_owned()));
                command.push(initramfs::test_path(&test.name));
                command.extend(["--test-threads=1".into(), "--color=never".into()]);
                if test.name == VERIFIER {
                    command.push("--nocapture".into());
                }
                command.extend(filter.iter().cloned());
                let limit_s = if test.name == STORM { STORM_S } else { TESTS_S };
                steps.push(Step { name: way.step(&test.name), limit_s, command });
            }
        }
        Ok(Self { kernel, guest, steps })
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.steps.iter().fold(BOOT_S, |sum, step| sum + step.limit_s).into())
    }
}

/// Boots it and waits for its end. What it said stays below `work`.
pub(crate) fn boot(work: &Path, plan: &Plan<'_>) -> Result<Run> {
    let directory = work.join(&plan.kernel.release);
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let files = Files::below(&directory);
    let word = word()?;
    initramfs::write(&files.initrd, plan.guest, &plan.steps, &word)?;
    let mut command = qemu(plan.kernel, &files);
    eprintln!("vm: {}: {}", plan.kernel.release, command::line(&command));
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start {QEMU} (cargo xtask setup installs it)"))?;
    let end = wait(&mut child, begin + plan.limit())?;
    let said = read(&files.results)?;
    let ended = Ended { end, took: begin.elapsed(), console: files.console.clone() };
    // No exit status counts: a kernel that panics ends qemu with 0 too. The word counts that only the guest's init had.
    Ok(Run::read(plan.kernel, &word, &said, &read(&files.console)?, ended))
}

struct Files {
    initrd: PathBuf,
    console: PathBuf,
    results: PathBuf,
}

impl Files {
    fn below(directory: &Path) -> Self {
        Self {
            initrd: directory.join("initrd.cpio"),
            console: directory.join("console.txt"),
            results: directory.join("results.txt"),
        }
    }
}

/// The emulator, even where there is a /dev/kvm: that one is there does not say that a kernel boots under it.
fn qemu(kernel: &Kernel, files: &Files) -> Command {
    let serial = |path: &Path| format!("file:{}", path.display());
    let mut command = Command::new(QEMU);
    command
        .args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "1024"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-serial")
        .arg(serial(&files.console))
        .arg("-serial")
        .arg(serial(&files.results))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&files.initrd)
        .args(["-append", "console=ttyS0 panic=-1 oops=panic quiet"]);
    command
}

/// How it ended; one that takes too long is killed.
fn wait(child: &mut Child, end: Instant) -> Result<End> {
    loop {
        if let Some(status) = child.try_wait().context("wait for the machine")? {
            return Ok(status.signal().map_or(End::Exit, End::Signal));
        }
        if Instant::now() >= end {
            child.kill().context("stop the machine")?;
            child.wait().context("wait for the machine")?;
            return Ok(End::Limit);
        }
        std::thread::sleep(POLL);
    }
}

/// A word that nothing in the guest can have by chance.
fn word() -> Result<String> {
    let mut bytes = [0_u8; 12];
    let mut random = File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut random, &mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().fold("@".to_owned(), |word, byte| format!("{word}{byte:02x}")))
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}
