//! Finds the workspace.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

pub(crate) use observer_harness::workspace::Workspace;

/// Asks cargo for the workspace that this program was built from.
pub(crate) fn locate() -> Result<Workspace> {
    let metadata = MetadataCommand::new().current_dir(top()).no_deps().exec();
    let metadata = metadata.context("read the workspace's layout")?;
    Ok(Workspace { root: metadata.workspace_root.into(), target: metadata.target_directory.into() })
}

fn top() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Flags of rustc under which nothing that is built names a directory of this machine: neither cargo's nor `root`, the
/// workspace's.
pub(crate) fn without_directories(root: &Path) -> Vec<String> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let directories = cargo_home.iter().map(|home| (home.as_path(), "/cargo")).chain([(root, "/observer")]);
    directories.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
}
