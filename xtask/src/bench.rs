//! `cargo xtask bench`: builds what the benchmarks need and runs them. docs/bench.md describes how each is measured.

use std::ffi::OsString;

use anyhow::{Result, bail};
use observer_harness::{command, failure};

use crate::workspace::Workspace;
use crate::{build, setup};

/// Measure observer against its budgets and its peers (as root).
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Arguments of the benchmarks; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let benchmarks = ["bench", "--quiet", "--package", "observer-bench"];
    if arguments.arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        // The development profile is built sooner.
        return command::run(workspace.cargo(&benchmarks).args(["--profile", "dev", "--", "--help"]));
    }
    if !failure::is_root() {
        bail!("loading kernel programs needs root: run as root: cargo xtask bench");
    }
    let binary = build::release(workspace, &setup::for_bench()?)?;
    let puppet = ["build", "--release", "--package", "observer-tests", "--bin", "puppet"];
    let mut puppet = workspace.cargo(&puppet);
    build::without_directories(&mut puppet, workspace);
    command::run(&mut puppet)?;
    let mut command = workspace.cargo(&benchmarks);
    build::without_directories(&mut command, workspace);
    command.arg("--").arg("--save").arg(workspace.target.join("bench/bench.json"));
    command::run(command.args(&arguments.arguments).env("OBSERVER_BIN", binary))
}
