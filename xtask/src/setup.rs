//! `cargo xtask setup`: installs what is missing, one line a step. Running it again changes nothing.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::toolchain::{self, Toolchain};
use crate::{build, tools};
use observer_harness::{apt, command, programs};
use observer_vm::{Arch, Cross, Sysroot};

/// Install what building and testing need, as far as it is missing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also what builds and emulates this processor.
    #[arg(long, value_enum)]
    target: Option<Arch>,
}

/// Programs that the tests run, and Debian's packages that have them.
const TEST_PROGRAMS: [(&str, &str); 5] = [
    ("tmux", "tmux"),
    ("strace", "strace"),
    ("script", "bsdutils"),
    ("gcc", "gcc"),
    ("pgbouncer", "pgbouncer"),
];

/// The program with which a test checks the alert rules, and Debian's package that has it. Without it the test is left out.
const ALERT_CHECKER: (&str, &str) = ("promtool", "prometheus");

/// Where Debian has Postgres' programs, which are not on the search path there.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Programs that make the package, and that check it.
const PACKAGE_PROGRAMS: [(&str, &str); 4] =
    [("dh", "debhelper"), ("objcopy", "binutils"), ("mandoc", "mandoc"), ("git", "git")];

/// Programs that make and run containers.
const CONTAINER_PROGRAMS: [(&str, &str); 2] =
    [("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")];

/// Programs that `cargo xtask vm` runs, on this machine or in the guest.
const VM_PROGRAMS: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("tmux", "tmux"),
    ("script", "bsdutils"),
];

/// The program that emulates arm64.
const EMULATOR: (&str, &str) = ("qemu-system-aarch64", "qemu-system-arm");

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    for_test()?;
    arguments.target.map_or(Ok(()), for_other)
}

/// What building for another processor and emulating it need.
pub(crate) fn for_other(arch: Arch) -> Result<()> {
    let Some(arch) = build::other(arch) else { return Ok(()) };
    Cross::obtain(arch).with_context(|| format!("setup: what builds for {}", arch.rust()))?;
    let (program, package) = EMULATOR;
    install_program(program, package).with_context(|| format!("setup: {program}, which emulates arm64"))
}

/// What building needs.
pub(crate) fn for_build() -> Result<Toolchain> {
    let kind = toolchain::install_compiler().context("setup")?;
    let linker = tools::LINKER.install().context("setup")?;
    tools::AUDITABLE.install().context("setup")?;
    Ok(Toolchain { kind, linker })
}

/// What building and testing need.
pub(crate) fn for_test() -> Result<Toolchain> {
    if let Err(error) = sysroot() {
        // Only the package cannot be made.
        eprintln!("setup: the C library that the package is linked with: {error:#}");
    }
    let toolchain = for_build()?;
    for (program, package) in TEST_PROGRAMS {
        install_program(program, package)
            .with_context(|| format!("setup: {program}, which the tests run"))?;
    }
    install_postgres().context("setup: Postgres, which the mirror's tests start")?;
    let (program, package) = ALERT_CHECKER;
    if let Err(error) = install_program(program, package) {
        // Only the tests of alerts are left out.
        eprintln!("setup: {program}, which tests the alert rules: {error:#}");
    }
    if let Err(error) = programs::install() {
        // Only the tests that run them fail.
        eprintln!("setup: programs that the tests of sessions run: {error:#}");
    }
    tools::DENY.install().context("setup: cargo-deny, which checks the dependencies")?;
    Ok(toolchain)
}

/// What building and measuring need; the peers that the bench measures beside observer it installs itself, because
/// it can do without them.
pub(crate) fn for_bench() -> Result<Toolchain> {
    let toolchain = for_build()?;
    install_program("gcc", "gcc").context("setup: gcc, which builds what the bench spawns")?;
    install_postgres().context("setup: Postgres, to which the bench mirrors")?;
    Ok(toolchain)
}

/// What building a package needs.
pub(crate) fn for_dist() -> Result<Toolchain> {
    for (program, package) in PACKAGE_PROGRAMS {
        install_program(program, package)
            .with_context(|| format!("setup: {program}, which makes and checks the package"))?;
    }
    // Before the program is linked.
    sysroot().context("setup: the C library that the package is linked with")?;
    let toolchain = for_build()?;
    tools::CYCLONEDX.install().context("setup: cargo-cyclonedx, which lists what the package has")?;
    Ok(toolchain)
}

/// What running containers needs.
pub(crate) fn for_containers() -> Result<()> {
    for (program, package) in CONTAINER_PROGRAMS {
        install_program(program, package)
            .with_context(|| format!("setup: {program}, which makes and runs containers"))?;
    }
    Ok(())
}

/// What building, and testing on other kernels need.
pub(crate) fn for_vm() -> Result<Toolchain> {
    let toolchain = for_dist()?;
    for_containers()?;
    for_machines()?;
    Ok(toolchain)
}

/// What booting machines needs.
pub(crate) fn for_machines() -> Result<()> {
    for (program, package) in VM_PROGRAMS {
        install_program(program, package)
            .with_context(|| format!("setup: {program}, which boots other kernels"))?;
    }
    Ok(())
}

fn sysroot() -> Result<()> {
    observer_vm::require_x86_64()?;
    Sysroot::obtain(Arch::X86_64).map(drop)
}

fn install_program(program: &str, package: &str) -> Result<()> {
    install(program, package, || command::find(program).is_some())
}

fn install(program: &str, package: &str, is_present: impl Fn() -> bool) -> Result<()> {
    if is_present() {
        eprintln!("setup: {program}: present");
        return Ok(());
    }
    eprintln!("setup: {program}: installing (package {package})");
    apt::install(&[package])?;
    ensure!(is_present(), "package {package} is installed, but {program} is not where it is looked for");
    Ok(())
}

fn install_postgres() -> Result<()> {
    install("initdb", "postgresql", has_postgres)
}

fn has_postgres() -> bool {
    let mut versions = fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    versions.any(|version| version.path().join("bin/initdb").exists()) || command::find("initdb").is_some()
}
