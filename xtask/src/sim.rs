//! `cargo xtask sim`: histories of a model of Linux, played on the product (`tests/sim`).

use anyhow::Result;
use observer_harness::command;

use crate::workspace::Workspace;

/// Play histories of a model of Linux on the core, and shorten the first that fails.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Operations of each history.
    #[arg(long, default_value_t = 1_000)]
    steps: u64,
    /// Seeds from the first one on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Go on after a seed that fails, and shorten none.
    #[arg(long)]
    keep_going: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let Arguments { seed, steps, seeds, keep_going } = arguments;
    let mut command = workspace.cargo(&["run", "--quiet", "--package", "observer-sim", "--"]);
    command.arg(format!("--seed={seed}")).arg(format!("--steps={steps}")).arg(format!("--seeds={seeds}"));
    command.args(keep_going.then_some("--keep-going"));
    command::run(&mut command)
}
