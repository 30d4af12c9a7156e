//! The dependencies against `deny.toml`: licences, sources and forbidden libraries, checked by cargo-deny.

use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;
use crate::workspace::Workspace;

/// What cargo-deny is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    /// What the lock file and the packages themselves answer.
    Packages,
    /// Also known vulnerabilities, whose list comes from the network.
    WithAdvisories,
}

/// Runs cargo-deny, which prints what it found; a finding here is that it found something.
///
/// # Errors
/// cargo-deny is not installed or cannot be started.
pub(super) fn check(workspace: &Workspace, checks: Checks) -> Result<Vec<String>> {
    let mut command = Command::new(tools::DENY.ready()?);
    command.current_dir(&workspace.root).args(["--log-level", "error", "--locked"]);
    let subjects: &[&str] = match checks {
        Checks::Packages => &["bans", "licenses", "sources"],
        Checks::WithAdvisories => &["advisories", "bans", "licenses", "sources"],
    };
    let status = command.arg("check").args(subjects).status().context("start cargo-deny")?;
    println!("check: dependencies: {}", if status.success() { "0 findings" } else { "see above" });
    if status.success() {
        return Ok(Vec::new());
    }
    Ok(vec![format!("the dependencies break a rule of deny.toml ({status}); cargo-deny names it above")])
}
