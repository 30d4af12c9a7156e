//! One boot of one kernel: qemu's emulator, two serial lines (the kernel's console and the results), a time limit.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::guest::Guest;
use crate::initramfs::{self, HOME, Step};
use crate::kernels::Kernel;
use crate::left_out;
use crate::results::{End, Ended, Run};
use crate::systemd::{Rootfs, START_TESTS};
use crate::targets::{SERVICE, STORM, VERIFIER};
use crate::ways::{Breadth, Way};
use observer_harness::command;
use observer_harness::libtest::{TIMES, TIMES_ENVIRONMENT};
use observer_harness::share;

/// Emulation is 6 to 24 times slower than the machine it runs on; limits are for what hangs.
const DOCTOR_S: u32 = 240;
const TESTS_S: u32 = 1200;
const STORM_S: u32 = 7200;
const BOOT_S: u32 = 180;
/// Tests of the service that are for a machine of its own.
const SERVICE_TESTS: [&str; 3] = ["unit::", "host::", "package::"];
const POLL: Duration = Duration::from_millis(100);

/// A machine's share of a test that repeats one check many times: each check is made on one of the kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Index of the machine.
    pub(crate) index: usize,
    /// How many machines there are.
    pub(crate) machines: usize,
}

impl Share {
    fn variable(self) -> String {
        format!("{}={}/{}", share::VARIABLE, self.index, self.machines)
    }
}

/// What a machine is to do.
pub(crate) struct Plan<'a> {
    kernel: &'a Kernel,
    guest: &'a Guest,
    steps: Vec<Step>,
    breadth: Breadth,
    /// With a real systemd; without, the least of a Linux.
    rootfs: Option<&'a Rootfs>,
}

impl<'a> Plan<'a> {
    /// For each way `observer doctor` where it is of interest, then the tests whose names contain any of `filter`, or
    /// all.
    pub(crate) fn new(
        kernel: &'a Kernel,
        guest: &'a Guest,
        ways: &[Way],
        breadth: Breadth,
        share: Option<Share>,
        filter: &[String],
    ) -> Self {
        let mut steps = Vec::new();
        for way in ways {
            if *way == Way::Own {
                let command = ["/usr/bin/env", "NO_COLOR=1", &format!("{HOME}/observer"), "doctor"];
                let command = command.map(str::to_owned).into();
                steps.push(Step { name: "doctor".into(), limit_s: DOCTOR_S, command });
            }
            for test in guest.tests.iter().filter(|test| way.has(&test.name, breadth)) {
                let mut command = timed();
                command.extend(way.environment().iter().map(|&variable| variable.to_owned()));
                command.extend(share.map(Share::variable));
                command.push(initramfs::test_path(&test.name));
                command.extend(["--test-threads=1".into(), "--color=never".into()]);
                command.extend(TIMES.map(str::to_owned));
                if test.name == VERIFIER {
                    command.push("--nocapture".into());
                }
                for name in left_out::names(*way, breadth, &test.name) {
                    command.extend(["--skip".into(), name.to_owned()]);
                }
                command.extend(filter.iter().cloned());
                let limit_s = if test.name == STORM { STORM_S } else { TESTS_S };
                steps.push(Step { name: way.step(&test.name), limit_s, command });
            }
        }
        Self { kernel, guest, steps, breadth, rootfs: None }
    }

    /// The unit's tests, under a real systemd.
    pub(crate) fn service(
        kernel: &'a Kernel,
        guest: &'a Guest,
        rootfs: &'a Rootfs,
        breadth: Breadth,
        filter: &[String],
    ) -> Self {
        let only = if filter.is_empty() { &SERVICE_TESTS.map(str::to_owned) } else { filter };
        let mut step = service_step(only);
        if guest.has_earlier() {
            step.command.push("--include-ignored".into());
        }
        for name in left_out::names(Way::Service, breadth, SERVICE) {
            step.command.extend(["--skip".into(), name.to_owned()]);
        }
        Self { kernel, guest, steps: vec![step], breadth, rootfs: Some(rootfs) }
    }

    /// Distinguishes its files and its column from those of other plans.
    pub(crate) fn label(&self) -> String {
        let system = if self.rootfs.is_some() { "-systemd" } else { "" };
        format!("{}{system}", self.kernel.release)
    }

    /// How long it takes, compared with others.
    pub(crate) fn weight(&self) -> u32 {
        match (self.rootfs.is_some(), self.breadth) {
            (false, Breadth::Every | Breadth::Oldest) => 4,
            (false, Breadth::Newest | Breadth::Between) => 3,
            (true, Breadth::Every | Breadth::Oldest) => 2,
            (true, Breadth::Newest | Breadth::Between) => 1,
        }
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.steps.iter().fold(BOOT_S, |sum, step| sum + step.limit_s).into())
    }
}

/// Tests of the unit, but for those of its refusals, whose names contain any of `only`.
pub(crate) fn service_step(only: &[String]) -> Step {
    let mut command = timed();
    command.extend([initramfs::test_path(SERVICE), "--test-threads=1".into()]);
    command.extend(["--color=never".into(), "--nocapture".into()]);
    command.extend(TIMES.map(str::to_owned));
    command.extend(only.iter().cloned());
    Step { name: SERVICE.into(), limit_s: TESTS_S, command }
}

/// The beginning of the command of a test target whose tests print how long they took.
fn timed() -> Vec<String> {
    let (variable, value) = TIMES_ENVIRONMENT;
    vec!["/usr/bin/env".to_owned(), format!("{variable}={value}")]
}

/// Boots it and waits for its end. Its output stays below `work`.
pub(crate) fn boot(work: &Path, plan: &Plan<'_>) -> Result<Run> {
    let directory = work.join(plan.label());
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let files = Files::below(&directory);
    let marker = marker()?;
    match plan.rootfs {
        None => initramfs::write(&files.initrd, plan.guest, &plan.steps, &marker)?,
        Some(rootfs) => rootfs.write(&files.initrd, plan.guest, &plan.steps, &marker)?,
    }
    let mut command = qemu(plan.kernel, &files, plan.rootfs.is_some());
    eprintln!("vm: {}: {}", plan.label(), command::line(&command));
    let begin = Instant::now();
    let log = File::create(&files.log).with_context(|| format!("create {}", files.log.display()))?;
    let mut child =
        command.stdin(Stdio::null()).stderr(log).spawn().with_context(|| {
            format!("start {} (cargo xtask setup installs it)", plan.kernel.arch.machine().0)
        })?;
    let mut end = wait(&mut child, begin + plan.limit())?;
    let log = read(&files.log)?;
    eprint!("{log}");
    if let (End::Exit, Some(signal)) = (end, signal_in(&log)) {
        end = End::Signal(signal);
    }
    let output = read(&files.results)?;
    let ended = Ended { end, took: begin.elapsed(), console: files.console.clone() };
    // No exit status counts: a kernel that panics ends qemu with 0 too. The marker counts, which only the guest's init had.
    Ok(Run::read(plan.kernel, plan.rootfs.is_some(), &marker, &output, &read(&files.console)?, ended))
}

/// The signal that ended qemu, by its own message: it catches some signals and then exits by itself.
fn signal_in(log: &str) -> Option<i32> {
    let (_, rest) = log.split_once("terminating on signal ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

struct Files {
    log: PathBuf,
    initrd: PathBuf,
    console: PathBuf,
    results: PathBuf,
}

impl Files {
    fn below(directory: &Path) -> Self {
        Self {
            log: directory.join("qemu.txt"),
            initrd: directory.join("initrd.cpio"),
            console: directory.join("console.txt"),
            results: directory.join("results.txt"),
        }
    }
}

/// The emulator, even where there is a /dev/kvm: its presence does not mean that a kernel boots under it.
fn qemu(kernel: &Kernel, files: &Files, systemd: bool) -> Command {
    let memory = if systemd { "2048" } else { "1024" };
    let more = if systemd { format!(" {START_TESTS}") } else { String::new() };
    let (qemu, machine) = kernel.arch.machine();
    let (console, results) = kernel.arch.serial_lines();
    let serial = |path: &Path| format!("file:{}", path.display());
    // However this program ends, the machine does not outlive it.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", qemu])
        .args(machine)
        .args(["-accel", "tcg,thread=multi", "-smp", "1", "-m", memory])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-serial")
        .arg(serial(&files.console));
    match kernel.arch {
        Arch::X86_64 => command.arg("-serial").arg(serial(&files.results)),
        // The board has one line for the kernel.
        Arch::Arm64 => command
            .arg("-chardev")
            .arg(format!("file,id=results,path={}", files.results.display()))
            .args(["-device", "pci-serial,chardev=results"]),
    };
    command
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&files.initrd)
        .arg("-append")
        // What the kernel does not know by its name is in the environment of its first process.
        .arg(format!("console={console} results=/dev/{results} panic=-1 oops=panic quiet{more}"));
    command
}

/// How it ended; one that takes too long is killed.
pub(crate) fn wait(child: &mut Child, end: Instant) -> Result<End> {
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

/// A random text that begins the lines of the guest's own report, so that nothing else in the guest can write one.
pub(crate) fn marker() -> Result<String> {
    let mut bytes = [0_u8; 12];
    let mut random = File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut random, &mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().fold("@".to_owned(), |marker, byte| format!("{marker}{byte:02x}")))
}

pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_qemu_caught_is_read_from_its_message() {
        let output = "qemu-system-x86_64: terminating on signal 15 from pid 4242 (kill)\n";
        assert_eq!((signal_in(output), signal_in("")), (Some(15), None));
    }
}
