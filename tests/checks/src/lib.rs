//! Proofs about the product's source, and about what the program opens when it runs.
//!
//! They are a crate of their own, so that only `cargo xtask check` and the tests wait for what parses Rust.

mod columns;
mod events;
mod finding;
mod imports;
mod layers;
mod length;
mod limits;
mod opens;
mod order;
mod security;
mod source;
mod strace;
mod trace;
mod types;
mod workload;

use anyhow::Result;
use observer_harness::workspace::Workspace;

/// Checks the source of the whole workspace; returns what it found, a sentence each.
///
/// # Errors
/// A file cannot be read or parsed.
pub fn source(workspace: &Workspace) -> Result<Vec<String>> {
    let product = source::product(workspace)?;
    let tools = source::tools(workspace)?;
    let mut findings = layers::check(workspace, &product)?;
    findings.extend(limits::check(workspace, &product)?);
    findings.extend(columns::check(workspace)?);
    findings.extend(security::check(workspace)?);
    findings.extend(events::check(&product));
    findings.extend(opens::check_source(&opens::Allowed::read(workspace)?, &product));
    let shape =
        [order::check(&product, &tools), types::check(&product, &tools), length::check(&product)].concat();
    let settled = finding::settle(&shape);
    findings.extend(settled.findings);
    findings.extend(settled.unused);
    let files: usize = product.iter().map(|krate| krate.sources.len()).sum();
    println!("check: source: {files} files, {} findings", findings.len());
    Ok(findings)
}

/// Traces the release build of the program while it does all that it can do, as root; returns what it opened and must not.
///
/// # Errors
/// The program is not built, or could not be traced.
pub fn run(workspace: &Workspace) -> Result<Vec<String>> {
    let traced = trace::run(workspace, &opens::Allowed::read(workspace)?)?;
    println!("check: run: {} paths opened, {} findings", traced.paths, traced.findings.len());
    Ok(traced.findings)
}
