//! `cargo xtask vm`: the tests against the kernel, on other kernels.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, setup};

pub(crate) use observer_vm::VmArguments;

pub(crate) fn run(workspace: &Workspace, arguments: &VmArguments) -> Result<()> {
    prepare(workspace)?;
    observer_vm::matrix(workspace, arguments).map(drop)
}

/// Installs what the machines and the container need, and builds the product and its package.
pub(crate) fn prepare(workspace: &Workspace) -> Result<()> {
    observer_vm::require_x86_64()?;
    build::release(workspace, &setup::for_vm()?)?;
    observer_dist::make(workspace).map(drop)
}
