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
