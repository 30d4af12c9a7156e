//! Where the workspace and its build products are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use observer_harness::command;
use observer_vm::Checkout;
use serde_json::Value;

/// The workspace as cargo sees it.
pub(crate) struct Workspace {
    /// Its top directory.
    pub(crate) root: PathBuf,
    /// Cargo's target directory: `target/` unless the environment or cargo's configuration says otherwise.
    pub(crate) target: PathBuf,
    /// What `cargo metadata --no-deps` says.
    pub(crate) metadata: Value,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn locate() -> Result<Self> {
        let text = command::capture(Command::new(cargo()).current_dir(top()).args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
        ]))
        .context("read the workspace's layout")?;
        let metadata: Value = serde_json::from_str(&text).context("decode cargo metadata")?;
        let path = |key: &str| {
            metadata.get(key).and_then(Value::as_str).map(PathBuf::from).with_context(|| {
                format!("cargo metadata has no {key}: is this cargo {}?", env!("CARGO_PKG_RUST_VERSION"))
            })
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// A cargo command in the workspace's top directory.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root).args(arguments);
        command
    }

    /// The same, for the runs on other kernels.
    pub(crate) fn checkout(&self) -> Checkout {
        Checkout { root: self.root.clone(), target: self.target.clone() }
    }

    /// The kernel programs as `observer/build.rs` looks for them: in the workspace's own target directory,
    /// wherever cargo's is, so that a build script that knows only its manifest finds them.
    pub(crate) fn bpf_object(&self) -> PathBuf {
        self.root.join("target/bpf/observer.bpf.o")
    }

    /// The program as the release build leaves it.
    pub(crate) fn release_binary(&self) -> PathBuf {
        self.target.join("release/observer")
    }

    /// A package of the workspace, as `cargo metadata` describes it.
    pub(crate) fn package(&self, name: &str) -> Result<&Value> {
        self.metadata
            .get("packages")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .find(|package| package.get("name").and_then(Value::as_str) == Some(name))
            .with_context(|| format!("the workspace has no package {name}: see members in Cargo.toml"))
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn top() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}
