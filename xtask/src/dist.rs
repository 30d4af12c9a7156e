//! `cargo xtask dist`: what a release consists of, made from the release build and checked.

use anyhow::{Result, bail};
use observer_harness::failure;

use crate::workspace::Workspace;
use crate::{build, setup};

/// Build the package, the archive and what belongs to them, and check them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also install, upgrade and remove the package in a minimal Debian 11, 12 and 13 (as root).
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.check && !failure::is_root() {
        bail!("installing a package takes root: run `cargo xtask dist --check` as root");
    }
    build::release(workspace, &setup::for_dist()?)?;
    let dist = observer_dist::make(workspace)?;
    dist.check(workspace)?;
    if arguments.check {
        setup::for_containers()?;
        dist.install_everywhere()?;
    }
    println!("{}", dist.summary()?);
    Ok(())
}

/// Makes and checks everything from the release build, which must be there.
pub(crate) fn checked(workspace: &Workspace) -> Result<()> {
    setup::for_dist()?;
    observer_dist::make(workspace)?.check(workspace)
}
