//! The archive for systems that have no packages of Debian's kind: the files of the package, and what debhelper adds to that.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use observer_harness::command;
use observer_harness::workspace::Workspace;

use crate::tree;
use crate::version::Version;

/// Files of the repository that are not among those of the package, and where they are in the archive.
pub(crate) const ADDED: [(&str, &str); 1] =
    [("packaging/debian/copyright", "usr/share/doc/observer/copyright")];

/// Packs the files of the package, which are below `tree`, into `file`. `work` is a directory that is not there yet.
pub(crate) fn pack(
    workspace: &Workspace,
    tree: &Path,
    work: &Path,
    version: &Version,
    file: &Path,
) -> Result<()> {
    let name = tree.file_name().context("the tree has no name")?;
    let root = work.join(name);
    std::fs::create_dir(work).with_context(|| format!("create {}", work.display()))?;
    command::quiet(Command::new("cp").arg("--archive").arg(tree).arg(&root))?;
    for (from, to) in ADDED {
        tree::copy(&workspace.root.join(from), &root.join(to))?;
    }
    tree::set_modes(&root)?;
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--gzip").arg("--file").arg(file).arg("--directory").arg(work);
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", version.epoch)).arg(name);
    command::quiet(&mut tar)
}
