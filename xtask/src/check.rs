//! `cargo xtask check`: proofs about the source, and about what the program opens when it runs.

mod layers;
mod limits;
mod opens;
mod source;
mod strace;
mod trace;
mod workload;

use anyhow::{Result, bail};
use observer_harness::failure;

use crate::workspace::Workspace;

/// Prove what the source must not contain, and (as root) that the running program opens only what it may.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the traced run of the program, which needs root and a build.
    #[arg(long)]
    source_only: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.source_only { check(workspace, false) } else { everything(workspace) }
}

/// Source and running program.
pub(crate) fn everything(workspace: &Workspace) -> Result<()> {
    check(workspace, true)
}

fn check(workspace: &Workspace, run_too: bool) -> Result<()> {
    let allowed = opens::Allowed::read(workspace)?;
    let product = source::product(workspace)?;
    let mut findings = layers::check(workspace, &product)?;
    findings.extend(limits::check(workspace, &product)?);
    findings.extend(opens::check_source(&allowed, &product));
    println!("check: source: {} files, {} findings", product.len(), findings.len());
    if run_too {
        if !failure::is_root() {
            bail!("the traced run of the program needs root: sudo cargo xtask check, or check --source-only");
        }
        let traced = trace::run(workspace, &allowed)?;
        println!("check: run: {} paths opened, {} findings", traced.paths, traced.findings.len());
        findings.extend(traced.findings);
    }
    for finding in &findings {
        eprintln!("check: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings, each named above", findings.len());
    }
    Ok(())
}
