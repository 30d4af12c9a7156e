//! `cargo xtask check`: proofs about the source, and about what the program opens when it runs.

mod deny;

use anyhow::{Result, bail};
use observer_harness::failure;

use crate::workspace::Workspace;

/// Prove what the source must not contain, and (as root) that the running program opens only what it may.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the dependencies, which need cargo-deny, and the traced run of the program, which needs root and a
    /// build.
    #[arg(long, conflicts_with = "advisories")]
    source_only: bool,
    /// Also hold the dependencies against known vulnerabilities, whose list comes from the network.
    #[arg(long)]
    advisories: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.source_only {
        return report(&observer_checks::source(workspace)?);
    }
    let checks = if arguments.advisories { deny::Checks::WithAdvisories } else { deny::Checks::Packages };
    all(workspace, checks)
}

/// Source, dependencies and running program.
pub(crate) fn everything(workspace: &Workspace) -> Result<()> {
    all(workspace, deny::Checks::Packages)
}

fn all(workspace: &Workspace, dependencies: deny::Checks) -> Result<()> {
    if !failure::is_root() {
        bail!("the traced run of the program needs root: sudo cargo xtask check, or check --source-only");
    }
    let mut findings = observer_checks::source(workspace)?;
    findings.extend(deny::check(workspace, dependencies)?);
    findings.extend(observer_checks::run(workspace)?);
    report(&findings)
}

fn report(findings: &[String]) -> Result<()> {
    for finding in findings {
        eprintln!("check: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings, each named above", findings.len());
    }
    Ok(())
}
