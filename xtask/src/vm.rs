//! `cargo xtask vm`: the tests against the kernel, on other kernels.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, setup};

pub(crate) use observer_vm::{Arch, VmArguments};

pub(crate) fn run(workspace: &Workspace, arguments: &VmArguments) -> Result<()> {
    match build::other(arguments.arch()) {
        None => prepare(workspace)?,
        Some(arch) => prepare_other(workspace, arch)?,
    }
    observer_vm::matrix(workspace, arguments).map(drop)
}

/// Installs what the machines and the container need, and builds the product and its package.
pub(crate) fn prepare(workspace: &Workspace) -> Result<()> {
    observer_vm::require_x86_64()?;
    build::release(workspace, &setup::for_vm()?)?;
    observer_dist::make(workspace).map(drop)
}

/// Installs what machines of another processor need, and builds the kernel programs, which are the same for all processors. The
/// product for it is built with its tests.
fn prepare_other(workspace: &Workspace, arch: Arch) -> Result<()> {
    observer_vm::require_x86_64()?;
    let toolchain = setup::for_build()?;
    setup::for_machines()?;
    setup::for_other(arch)?;
    build::kernel_programs(workspace, &toolchain)
}
