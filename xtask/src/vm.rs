//! `cargo xtask vm`: the real-kernel tests on Debian's kernels, each in a virtual machine of its own.

mod archive;
mod guest;
mod initramfs;
mod kernels;
mod machine;
mod record;
mod report;
mod results;

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::Workspace;
use crate::{build, setup};

/// Where kernels are kept, instead of ~/.cache/observer-vm.
const CACHE: &str = "OBSERVER_VM_CACHE";

/// Run the real-kernel tests on other kernels, in emulated machines (no root, no KVM needed).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kernel series, the newest of each as Debian ships it.
    #[arg(long, value_delimiter = ',', default_value = "5.10,6.1,6.12,7", value_parser = kernels::series)]
    kernel: Vec<String>,
    /// Take kernels from the cache alone.
    #[arg(long)]
    offline: bool,
    /// The storms too: they take many minutes a kernel.
    #[arg(long)]
    storm: bool,
    /// Write what came out to docs/kernels.md. Only for the whole: every kernel, no filter.
    #[arg(long, conflicts_with_all = ["filter", "kernel"])]
    record: bool,
    /// Only tests whose name contains one of these: `cargo xtask vm -- chdir`.
    #[arg(last = true)]
    filter: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let toolchain = setup::for_vm()?;
    let cache = cache()?;
    let kernels = kernels::obtain(&cache, &arguments.kernel, arguments.offline)?;
    build::kernel_programs(workspace, &toolchain)?;
    let guest = guest::build(workspace, arguments.storm)?;
    let work = workspace.target.join("vm");
    let mut runs = Vec::new();
    for kernel in &kernels {
        let plan = machine::Plan::new(kernel, &guest, &arguments.filter)?;
        let run = machine::boot(&work, &plan).with_context(|| format!("run kernel {}", kernel.release))?;
        eprintln!("vm: {}: {}", kernel.release, run.summary());
        runs.push(run);
    }
    print!("{}", report::table(&runs, &arguments.filter));
    if runs.iter().any(|run| !run.passed()) {
        bail!("not everything passed; each failure stands above with the command that repeats it");
    }
    let ran: u64 = runs.iter().map(results::Run::tests).sum();
    ensure!(ran > 0, "no test ran whose name contains any of {:?}", arguments.filter);
    if arguments.record {
        record::write(&workspace.root.join("docs/kernels.md"), &runs)?;
    }
    Ok(())
}

fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = set(CACHE)
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("observer-vm")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/observer-vm")))
        .with_context(|| format!("no HOME to keep kernels below: set {CACHE} to a directory"))?;
    fs::create_dir_all(&path).with_context(|| format!("create {} (or set {CACHE})", path.display()))?;
    path.canonicalize().with_context(|| format!("look up {}", path.display()))
}
