//! The program of a former version, built from its commit and kept in the cache: tests upgrade from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use observer_harness::{command, former};

use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::Workspace;

/// A release build in a third of the time. The daemon is asked what it writes, and not how fast.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
];

/// Builds it unless it is there, and returns where it is.
pub(crate) fn build(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    let program = former::program()?;
    if !program.exists() {
        let directory = workspace.target.join("former");
        let built = built(workspace, toolchain, &directory)?;
        keep(&built, &program).with_context(|| format!("write {}", program.display()))?;
        fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(program)
}

/// Builds it below `directory`.
fn built(workspace: &Workspace, toolchain: &Toolchain, directory: &Path) -> Result<PathBuf> {
    let (source, archive) = (directory.join("source"), directory.join("source.tar"));
    fs::create_dir_all(&source).with_context(|| format!("create {}", source.display()))?;
    let mut git = Command::new("git");
    git.current_dir(&workspace.root).args(["archive", "--format=tar", "--output"]).arg(&archive);
    command::quiet(git.arg(former::COMMIT)).with_context(|| {
        format!(
            "the source of commit {}: if it is missing, fetch the whole history (`git fetch --unshallow`)",
            former::COMMIT
        )
    })?;
    let mut tar = Command::new("tar");
    command::quiet(tar.arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&source))?;
    let kernel = directory.join("bpf");
    command::run(&mut toolchain.build_command(&source, &kernel)).context("build its kernel programs")?;
    let target = directory.join("target");
    let mut cargo = command::cargo(&source);
    cargo.args(["build", "--release", "--locked", "--package", "observer", "--bin", "observer"]);
    cargo.arg("--target-dir").arg(&target).envs(PROFILE);
    cargo.env("OBSERVER_BPF_OBJECT", kernel.join(TARGET).join("release/observer-ebpf"));
    command::run(&mut cargo)?;
    Ok(target.join("release/observer"))
}

/// Copies a file in one step: what is there under its own name is whole.
fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("no directory to copy into")?)?;
    let partial = to.with_extension("partial");
    fs::copy(from, &partial)?;
    Ok(fs::rename(&partial, to)?)
}
