//! `cargo xtask bench`: observer's costs and what they stand against, measured in one run.

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// Measure observer against its budgets and its peers (as root).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// JSON on standard output instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(_workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let form = if arguments.json { "JSON" } else { "table" };
    bail!(
        "bench: no measurement is written yet, so there is no {form} to print; each goes into xtask/src/bench/"
    )
}
