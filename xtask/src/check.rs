//! `cargo xtask check`: proofs about the source, and about what the program opens when it runs.

mod deny;
mod finding;
mod imports;
mod layers;
mod length;
mod limits;
mod opens;
mod order;
mod source;
mod strace;
mod trace;
mod types;
mod workload;

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
        return report(&source_findings(workspace)?);
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
    let mut findings = source_findings(workspace)?;
    findings.extend(deny::check(workspace, dependencies)?);
    let traced = trace::run(workspace, &opens::Allowed::read(workspace)?)?;
    println!("check: run: {} paths opened, {} findings", traced.paths, traced.findings.len());
    findings.extend(traced.findings);
    report(&findings)
}

fn source_findings(workspace: &Workspace) -> Result<Vec<String>> {
    let product = source::product(workspace)?;
    let tools = source::tools(workspace)?;
    let mut findings = layers::check(workspace, &product)?;
    findings.extend(limits::check(workspace, &product)?);
    findings.extend(opens::check_source(&opens::Allowed::read(workspace)?, &product));
    let shape = [order::check(&product), types::check(&product, &tools), length::check(&product)].concat();
    let settled = finding::settle(&shape);
    findings.extend(settled.findings);
    for entry in &settled.unused {
        println!("check: {entry}");
    }
    let files: usize = product.iter().map(|krate| krate.sources.len()).sum();
    println!("check: source: {files} files, {} findings", findings.len());
    Ok(findings)
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
