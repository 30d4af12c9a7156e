//! `cargo xtask fmt`: rustfmt over the whole workspace, the kernel programs included.

use anyhow::Result;

use crate::workspace::Workspace;
use observer_harness::command;

/// Format all Rust sources.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if a file is not formatted.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut command = workspace.cargo(&["fmt", "--all"]);
    if arguments.check {
        command.arg("--check");
    }
    command::run(&mut command)
}
