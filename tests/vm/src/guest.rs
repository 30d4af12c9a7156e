//! Builds what runs inside: the tests. The product is its release build.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Message, TargetKind};

use crate::arch::Arch;
use crate::cross::Cross;
use crate::left_out;
use crate::system::System;
use crate::targets::{STORM, Test};
use observer_harness::command;
use observer_harness::workspace::Workspace;

/// The directory of the tests that need more than cargo.
const DIRECTORY: &str = "tests";
/// Where `cargo xtask dist` leaves the packages for the machines, below the directory of everything that is built.
pub const PACKAGES: &str = "dist-work/packages";
/// The package there that has the program of a former version, if that was built.
pub const EARLIER: &str = "earlier.deb";
/// The directory of the simulator below it, whose tests ask no kernel anything.
const SIMULATOR: &str = "sim";
/// The target that needs a Postgres.
const POSTGRES: &str = "postgres";
/// The target that needs installed programs.
const PROGRAMS: &str = "programs";
/// Features of the test targets that need more than cargo; all of them, so that every build of the tests is one build.
pub const FEATURES: &str =
    "observer-tests/kernel,observer-tests/service,observer-tests/postgres,observer-tests/programs";
/// The feature of the targets that test a kernel.
const KERNEL_FEATURE: &str = "observer-tests/kernel";
/// All of these but the storms, which are named so that the product's own tests are not built with them.
const KERNEL_TARGETS: [&str; 7] =
    ["contracts", "hooks", "journal", "kernel", "refuse", "sessions", "verifier"];
/// How programs for another processor are built, the product too: soon, and yet optimised a little, because they are emulated.
const CROSS_PROFILE: [(&str, &str); 3] =
    [("CARGO_PROFILE_DEV_OPT_LEVEL", "1"), ("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_INCREMENTAL", "0")];
const MESSAGES: &str = "json-render-diagnostics";

/// The built programs.
pub(crate) struct Guest {
    /// The processor that they are for.
    pub(crate) arch: Arch,
    /// Where the programs that tests call come from.
    pub(crate) system: System,
    /// The product.
    pub(crate) observer: PathBuf,
    /// The program that tests have do things.
    pub(crate) puppet: PathBuf,
    /// Test targets, by name.
    pub(crate) tests: Vec<Test>,
    /// The directory of the package for Debian, and of those that tests upgrade from.
    pub(crate) packages: PathBuf,
}

impl Guest {
    /// Whether there is a package with the program of a former version.
    pub(crate) fn has_earlier(&self) -> bool {
        self.packages.join(EARLIER).exists()
    }
}

/// Builds them, but for the product for this machine, whose release build must be there.
pub(crate) fn build(workspace: &Workspace, arch: Arch, storm: bool) -> Result<Guest> {
    let system = System::obtain(arch)?;
    let packages = workspace.target.join(PACKAGES);
    let (observer, programs) = if Some(arch) == Arch::of_this_machine() {
        let programs = test_programs(workspace)?;
        (workspace.release_binary(), Built { puppet: programs.puppet, tests: programs.tests })
    } else {
        crossed(workspace, arch, storm)?
    };
    let Built { puppet, mut tests } = programs;
    tests.retain(|test| storm || test.name != STORM);
    ensure!(!tests.is_empty(), "package observer-tests has no test targets: see tests/Cargo.toml");
    Ok(Guest { arch, system, observer, puppet, tests, packages })
}

/// What tests a kernel.
struct Built {
    puppet: PathBuf,
    tests: Vec<Test>,
}

/// Builds the product and what tests a kernel for another processor.
fn crossed(workspace: &Workspace, arch: Arch, storm: bool) -> Result<(PathBuf, Built)> {
    let cross = Cross::ready(arch)?;
    let mut cargo = workspace.cargo(&["test", "--no-run", "--message-format", MESSAGES]);
    cargo.args([
        "--package",
        "observer-tests",
        "--package",
        "observer",
        "--features",
        KERNEL_FEATURE,
        "--bins",
    ]);
    cargo.args(KERNEL_TARGETS.iter().flat_map(|target| ["--test", target]));
    if storm {
        cargo.args(["--test", STORM]);
    }
    cross.apply(workspace, &mut cargo, &cross.flags());
    cargo.envs(CROSS_PROFILE);
    let programs = built(&mut cargo)?;
    let built = Built {
        puppet: program(&programs, &TargetKind::Bin, "puppet")?,
        tests: test_targets(workspace, &programs),
    };
    Ok((program(&programs, &TargetKind::Bin, "observer")?, built))
}

/// The programs of package observer-tests.
pub struct TestPrograms {
    /// The program that tests have do things.
    pub puppet: PathBuf,
    /// Test targets against a kernel and against systemd, by name.
    pub tests: Vec<Test>,
    /// The test target against a Postgres.
    pub postgres: Test,
    /// The test target of real programs.
    pub real: Test,
}

/// Builds the test programs that need more than cargo. All tests of the workspace are built: a build of some would choose other
/// features of the libraries, and build those anew.
pub fn test_programs(workspace: &Workspace) -> Result<TestPrograms> {
    let arguments = ["test", "--no-run", "--features", FEATURES, "--message-format", MESSAGES];
    let programs = built(&mut workspace.cargo(&arguments))?;
    let mut tests = test_targets(workspace, &programs);
    let postgres = taken(&mut tests, POSTGRES)?;
    let real = taken(&mut tests, PROGRAMS)?;
    left_out::check(&tests)?;
    Ok(TestPrograms { puppet: program(&programs, &TargetKind::Bin, "puppet")?, tests, postgres, real })
}

/// The test targets of the directory of the tests, by name.
fn test_targets(workspace: &Workspace, programs: &[Program]) -> Vec<Test> {
    let directory = workspace.root.join(DIRECTORY);
    let mut tests: Vec<_> = programs
        .iter()
        .filter(|program| program.kind == TargetKind::Test && program.source.starts_with(&directory))
        .filter(|program| !program.source.starts_with(directory.join(SIMULATOR)))
        .map(|program| Test { name: program.name.clone(), program: program.path.clone() })
        .collect();
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    tests
}

/// Removes the target of this name from those that machines run, and returns it.
fn taken(tests: &mut Vec<Test>, name: &str) -> Result<Test> {
    let index = tests.iter().position(|test| test.name == name);
    let index = index.with_context(|| format!("cargo built no test target {name}: see tests/Cargo.toml"))?;
    Ok(tests.remove(index))
}

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    kind: TargetKind,
    name: String,
    source: PathBuf,
    path: PathBuf,
}

/// Runs a cargo command and returns the programs that it built.
fn built(command: &mut Command) -> Result<Vec<Program>> {
    let line = command::line(command);
    eprintln!("xtask: {line}");
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed ({}); its own message stands above", output.status);
    programs_in(&output.stdout)
}

/// The programs and test targets in cargo's messages; unit tests of programs are left out.
fn programs_in(messages: &[u8]) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for message in Message::parse_stream(messages) {
        let Message::CompilerArtifact(artifact) = message.context("read cargo's messages")? else { continue };
        let (Some(path), Some(kind)) = (artifact.executable, artifact.target.kind.first().cloned()) else {
            continue;
        };
        if kind == TargetKind::Test || !artifact.profile.test {
            let source = artifact.target.src_path.into();
            programs.push(Program { kind, name: artifact.target.name, source, path: path.into() });
        }
    }
    Ok(programs)
}

fn program(programs: &[Program], kind: &TargetKind, name: &str) -> Result<PathBuf> {
    programs
        .iter()
        .find(|program| program.kind == *kind && program.name == name)
        .map(|program| program.path.clone())
        .with_context(|| format!("cargo built no program {name}: see the workspace's manifests"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, test: bool, executable: &str) -> String {
        let target = format!(
            r#"{{"name":"x","kind":["{kind}"],"crate_types":["bin"],"src_path":"/s","edition":"2024","doctest":false,"test":true,"doc":true}}"#
        );
        let profile = format!(
            r#"{{"opt_level":"3","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":{test}}}"#
        );
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"p","manifest_path":"/m","target":{target},"profile":{profile},"features":[],"filenames":[],"executable":{executable},"fresh":true}}"#
        )
    }

    #[test]
    fn programs_are_distinguished_from_their_unit_tests() -> Result<()> {
        let found =
            |kind: &str, test, executable: &str| programs_in(message(kind, test, executable).as_bytes());
        let program =
            |kind| vec![Program { kind, name: "x".into(), source: "/s".into(), path: "/t/x".into() }];
        assert_eq!(found("bin", false, r#""/t/x""#)?, program(TargetKind::Bin));
        assert_eq!(found("bin", true, r#""/t/x""#)?, []);
        assert_eq!(found("test", true, r#""/t/x""#)?, program(TargetKind::Test));
        assert_eq!(found("bin", false, "null")?, []);
        Ok(())
    }
}
