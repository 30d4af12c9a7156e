//! `cargo xtask vm`: the tests against the kernel on Debian's kernels, each in a virtual machine of its own; and the
//! tests of the systemd unit, in a machine or in a container.

mod arch;
mod archive;
mod cache;
mod cross;
mod guest;
mod initramfs;
mod kernels;
mod left_out;
mod machine;
mod nspawn;
mod record;
mod report;
mod results;
mod room;
mod sysroot;
mod system;
mod systemd;
mod targets;
mod unpacked;
mod ways;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use observer_harness::libtest::Report;
use observer_harness::workspace::Workspace;

pub use arch::Arch;
pub use cross::Cross;
pub use guest::{EARLIER, FEATURES, PACKAGES, TestPrograms, test_programs};
pub use sysroot::Sysroot;
pub use targets::{SERVICE, Test};
use ways::{Breadth, Way};

/// Oldest to newest, as the archive has them.
const SERIES: &str = "5.10,6.1,6.12,7";

/// Run the tests against the kernel on other kernels, in emulated machines (without root and KVM).
#[derive(clap::Args)]
pub struct VmArguments {
    /// The processor of the machines. For arm64, the product and the tests are built on this machine.
    #[arg(long, default_value = "x86_64", value_enum)]
    arch: Arch,
    /// Kernel series, the newest of each as Debian ships it.
    #[arg(long, value_delimiter = ',', default_value = SERIES, value_parser = kernels::series)]
    kernel: Vec<String>,
    /// Take kernels from the cache alone.
    #[arg(long)]
    offline: bool,
    /// Only these ways of running the daemon.
    #[arg(long, value_delimiter = ',', default_values_t = ways::ALL, value_enum)]
    way: Vec<Way>,
    /// Machines at a time; one for each processor unless given.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// The storms too: they take many minutes a kernel.
    #[arg(long)]
    storm: bool,
    /// Write the results to README.md and docs/kernels.md. Only for the whole run: every kernel, no filter.
    #[arg(long, conflicts_with_all = ["filter", "kernel", "way"])]
    record: bool,
    /// Only tests whose name contains one of these: `cargo xtask vm -- chdir`.
    #[arg(last = true)]
    filter: Vec<String>,
}

impl VmArguments {
    /// The processor of the machines.
    pub fn arch(&self) -> Arch {
        self.arch
    }
}

/// Kernels on which the unit is tested under a real systemd, too.
const SERVICE_SERIES: [&str; 2] = ["5.10", "6.12"];

/// Runs everything except the storms, as `cargo xtask test` does; returns what the
/// tests reported.
pub fn whole(workspace: &Workspace, record: bool) -> Result<Report> {
    let kernel = SERIES.split(',').map(str::to_owned).collect();
    let (offline, storm) = (false, false);
    let (arch, way, jobs, filter) = (Arch::X86_64, ways::ALL.to_vec(), None, Vec::new());
    matrix(workspace, &VmArguments { arch, kernel, offline, way, jobs, storm, record, filter })
}

/// Boots the machines that `arguments` ask for, prints a table of the results, and returns what the tests reported. The product
/// must have been built before. A test that fails is an error.
pub fn matrix(workspace: &Workspace, arguments: &VmArguments) -> Result<Report> {
    require_x86_64()?;
    let (cache, lock) = cache::locked()?;
    let kernels = kernels::obtain(&cache, arguments.arch, &arguments.kernel, arguments.offline)?;
    // There, systemd would start in a machine of another processor what debootstrap can only unpack here.
    let serves = arguments.arch == Arch::X86_64 && arguments.way.contains(&Way::Service);
    let rootfs = serves.then(|| systemd::Rootfs::obtain(&cache, arguments.offline)).transpose()?;
    drop(lock);
    let guest = guest::build(workspace, arguments.arch, arguments.storm)?;
    let plans = plans(&kernels, &guest, rootfs.as_ref(), arguments);
    let runs = boot_all(workspace, &plans, arguments)?;
    print!("{}", report::table(&runs, &arguments.filter));
    print!("{}", report::waits(&runs));
    // Whichever the machine, a run that is narrowed down leaves out nothing.
    if Breadth::of(0, kernels.len(), &arguments.way, &arguments.filter) != Breadth::Every {
        print!("{}", left_out::report());
    }
    if let Some(failures) = report::in_a_line(&runs) {
        bail!(
            "not everything passed: {failures}; each failure stands above with the command that repeats it"
        );
    }
    let report = results::merged(&runs);
    ensure!(
        report.counts.is_some_and(|counts| counts.passed + counts.skipped > 0),
        "no test ran whose name contains any of {:?}",
        arguments.filter
    );
    if arguments.record {
        record::write(&workspace.root, arguments.arch, &runs)?;
    }
    Ok(report)
}

/// What each machine is to do.
fn plans<'a>(
    kernels: &'a [kernels::Kernel],
    guest: &'a guest::Guest,
    rootfs: Option<&'a systemd::Rootfs>,
    arguments: &VmArguments,
) -> Vec<machine::Plan<'a>> {
    let VmArguments { way, filter, .. } = arguments;
    let breadth = |index| Breadth::of(index, kernels.len(), way, filter);
    let tests = kernels.iter().enumerate().map(|(index, kernel)| {
        let breadth = breadth(index);
        let share = (breadth != Breadth::Every).then_some(machine::Share { index, machines: kernels.len() });
        machine::Plan::new(kernel, guest, way, breadth, share, filter)
    });
    let mut plans: Vec<_> = tests.collect();
    if let Some(rootfs) = rootfs {
        for (index, kernel) in kernels.iter().enumerate() {
            if SERVICE_SERIES.contains(&kernel.series.as_str()) {
                plans.push(machine::Plan::service(kernel, guest, rootfs, breadth(index), filter));
            }
        }
    }
    plans
}

/// Boots every machine, some at a time; their runs in the order of the plans.
fn boot_all(
    workspace: &Workspace,
    plans: &[machine::Plan<'_>],
    arguments: &VmArguments,
) -> Result<Vec<results::Run>> {
    let work = workspace.target.join("vm");
    // The longest first, so that none is left to run alone at the end.
    let mut order: Vec<_> = plans.iter().enumerate().collect();
    order.sort_by_key(|(_, plan)| std::cmp::Reverse(plan.weight()));
    let next = AtomicUsize::new(0);
    let boot = || {
        let mut runs = Vec::new();
        loop {
            let Some(&(index, plan)) = order.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return anyhow::Ok(runs);
            };
            let label = plan.label();
            let run = machine::boot(&work, plan).with_context(|| format!("run kernel {label}"))?;
            eprintln!("vm: {label}: {}", run.summary());
            runs.push((index, run));
        }
    };
    let jobs = match arguments.jobs {
        Some(jobs) => jobs.get(),
        // Emulation keeps a processor busy: with three machines on two, each was slower and the whole no faster.
        None => thread::available_parallelism().context("count the processors; give --jobs instead")?.get(),
    };
    let mut runs = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(plans.len())).map(|_| scope.spawn(boot)).collect();
        let mut runs = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(done) => runs.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        anyhow::Ok(runs)
    })?;
    runs.sort_by_key(|(index, _)| *index);
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

/// Runs the tests of the systemd unit in a container on this machine; returns what they reported. The product must have
/// been built before.
pub fn container(workspace: &Workspace, offline: bool) -> Result<Report> {
    require_x86_64()?;
    let (cache, lock) = cache::locked()?;
    let rootfs = systemd::Rootfs::obtain(&cache, offline)?;
    drop(lock);
    let guest = guest::build(workspace, Arch::X86_64, false)?;
    let run = nspawn::boot(&workspace.target.join("vm/container"), &guest, &rootfs)?;
    let runs = [run];
    print!("{}", report::table(&runs, &[]));
    if let Some(failures) = report::in_a_line(&runs) {
        bail!("not everything passed: {failures}; its output stands above");
    }
    Ok(results::merged(&runs))
}

/// The root file system of a release of Debian with systemd; made, as root, where it is not there yet.
pub fn debian_root(release: &str) -> Result<PathBuf> {
    require_x86_64()?;
    let (cache, _lock) = cache::locked()?;
    systemd::release_root(&cache, release)
}

/// Fails where this machine is no x86-64: it builds what machines and containers run, for arm64 too.
pub fn require_x86_64() -> Result<()> {
    ensure!(
        Arch::of_this_machine() == Some(Arch::X86_64),
        "this is {}: what machines and containers run is built on an x86-64 machine, for x86-64 and for arm64; `cargo xtask \
         test FILTER` tests the kernel that runs",
        env::consts::ARCH
    );
    Ok(())
}
