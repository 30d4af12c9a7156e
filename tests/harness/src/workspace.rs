//! Where the workspace and its build products are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// The directory of this name in the user's cache, which outlives build products.
pub fn cache(name: &str) -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(cache.context("no HOME to keep programs below: set HOME or XDG_CACHE_HOME")?.join(name))
}

/// The workspace as cargo sees it.
pub struct Workspace {
    /// Its top directory.
    pub root: PathBuf,
    /// Cargo's target directory: `target/` unless the environment or cargo's configuration names another.
    pub target: PathBuf,
}

impl Workspace {
    /// A cargo command in the workspace's top directory.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = command::cargo(&self.root);
        command.args(arguments);
        command
    }

    /// The kernel programs as `observer/build.rs` looks for them: in the workspace's own target directory, wherever cargo's
    /// is, so that a build script that knows only its manifest finds them.
    pub fn bpf_object(&self) -> PathBuf {
        self.root.join("target/bpf/observer.bpf.o")
    }

    /// The program as the release build leaves it.
    pub fn release_binary(&self) -> PathBuf {
        self.target.join("release/observer")
    }
}
