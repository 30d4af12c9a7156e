//! What runs inside: the product and its real-kernel tests, linked statically, so that they need nothing of the
//! guest's.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Checkout;
use observer_harness::command;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The target whose tests take very long under emulation.
pub(crate) const STORM: &str = "storm";
/// The target that is for a real systemd alone.
pub(crate) const SERVICE: &str = "service";
/// The target that says what programs cost the verifier; its output is kept.
pub(crate) const VERIFIER: &str = "verifier";

/// The built programs.
pub(crate) struct Guest {
    /// The product.
    pub(crate) observer: PathBuf,
    /// The program that tests have do things.
    pub(crate) puppet: PathBuf,
    /// Test targets, by name.
    pub(crate) tests: Vec<Test>,
    /// The unit's files.
    pub(crate) packaging: PathBuf,
}

/// One test target.
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
}

/// Builds them. The kernel programs must have been built before.
pub(crate) fn build(checkout: &Checkout, storm: bool) -> Result<Guest> {
    let product = artifacts(&mut cargo(checkout, &["build", "--package", "observer"]))?;
    let tests = artifacts(&mut cargo(
        checkout,
        &["test", "--no-run", "--package", "observer-tests", "--features", "kernel,service"],
    ))?;
    let mut guest = Guest {
        observer: program(&product, "bin", "observer")?,
        puppet: program(&tests, "bin", "puppet")?,
        tests: tests
            .iter()
            .filter(|artifact| artifact.kind == "test" && (storm || artifact.name != STORM))
            .map(|artifact| Test { name: artifact.name.clone(), program: artifact.program.clone() })
            .collect(),
        packaging: checkout.root.join("packaging"),
    };
    guest.tests.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!guest.tests.is_empty(), "package observer-tests has no test targets: see tests/Cargo.toml");
    Ok(guest)
}

fn cargo(checkout: &Checkout, verb: &[&str]) -> Command {
    let mut command = command::cargo(&checkout.root);
    command
        .args(verb)
        .args([
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
            "--target-dir",
        ])
        .arg(checkout.target.join("vm/build"))
        // With a target named, procedural macros stay dynamic.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Emulated, so speed says nothing: what counts is how soon it is built, and how little there is to boot.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    command
}

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    kind: String,
    name: String,
    program: PathBuf,
}

fn artifacts(command: &mut Command) -> Result<Vec<Artifact>> {
    let line = command::line(command);
    eprintln!("xtask: {line}");
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed ({}); its own message stands above", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(artifact).collect())
}

/// From a line of cargo's JSON: programs and test targets, not the unit tests of programs.
fn artifact(line: &str) -> Option<Artifact> {
    let message: Value = serde_json::from_str(line).ok()?;
    let program = PathBuf::from(message.get("executable")?.as_str()?);
    let target = message.get("target")?;
    let kind = target.get("kind")?.get(0)?.as_str()?.to_owned();
    let unit_tests = kind != "test" && message.get("profile")?.get("test")?.as_bool()?;
    let name = target.get("name")?.as_str()?.to_owned();
    (!unit_tests).then_some(Artifact { kind, name, program })
}

fn program(artifacts: &[Artifact], kind: &str, name: &str) -> Result<PathBuf> {
    artifacts
        .iter()
        .find(|artifact| artifact.kind == kind && artifact.name == name)
        .map(|artifact| artifact.program.clone())
        .with_context(|| format!("cargo built no program {name}: see the workspace's manifests"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_their_unit_tests() {
        let line = |kind: &str, test: bool| {
            format!(
                r#"{{"executable":"/t/x","target":{{"kind":["{kind}"],"name":"x"}},"profile":{{"test":{test}}}}}"#
            )
        };
        let found =
            |kind: &str| Some(Artifact { kind: kind.into(), name: "x".into(), program: "/t/x".into() });
        assert_eq!(artifact(&line("bin", false)), found("bin"));
        assert_eq!(artifact(&line("bin", true)), None);
        assert_eq!(artifact(&line("test", true)), found("test"));
        assert_eq!(artifact(r#"{"reason":"build-finished","executable":null}"#), None);
    }
}
