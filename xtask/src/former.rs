//! Programs of former versions, built from their commits and kept in the cache: tests upgrade from them.

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

/// Builds those that are missing, and returns where all are.
pub(crate) fn build(workspace: &Workspace, toolchain: &Toolchain) -> Result<Vec<PathBuf>> {
    let directory = workspace.target.join("former");
    let mut programs = Vec::new();
    for former in former::PROGRAMS {
        let program = former.path()?;
        if !program.exists() {
            let built = built(workspace, toolchain, &directory, former.commit)?;
            keep(&built, &program).with_context(|| format!("write {}", program.display()))?;
        }
        programs.push(program);
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(programs)
}

/// Builds one below `directory`, where most of the others is built as well.
fn built(workspace: &Workspace, toolchain: &Toolchain, directory: &Path, commit: &str) -> Result<PathBuf> {
    let (source, archive) = (directory.join(commit), directory.join("source.tar"));
    fs::create_dir_all(&source).with_context(|| format!("create {}", source.display()))?;
    let mut git = Command::new("git");
    git.current_dir(&workspace.root).args(["archive", "--format=tar", "--output"]).arg(&archive);
    command::quiet(git.arg(commit)).with_context(|| {
        format!(
            "the source of commit {commit}: if it is missing, fetch the whole history (`git fetch --unshallow`)"
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
