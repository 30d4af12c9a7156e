//! `cargo xtask service`: the unit's tests in a container with a real systemd.

use anyhow::Result;

use crate::vm;
use crate::workspace::Workspace;

/// Test the systemd unit in a container of this machine (as root). `cargo xtask vm --way service` does so in machines.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Take the container's file system from the cache alone.
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    vm::prepare(workspace)?;
    observer_vm::container(workspace, arguments.offline).map(drop)
}
