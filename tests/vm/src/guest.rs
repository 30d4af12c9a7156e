//! Builds what runs inside: the tests. The product is its release build.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Message, TargetKind};

use crate::left_out;
use crate::targets::{STORM, Test};
use observer_harness::command;
use observer_harness::workspace::Workspace;

/// The directory of the tests that need more than cargo.
const DIRECTORY: &str = "tests";
/// Where `cargo xtask dist` leaves the packages for the machines, below the directory of everything that is built.
pub const PACKAGES: &str = "dist-work/packages";
/// The package there that has the program of a former version, if that was built.
pub const EARLIER: &str = "earlier.deb";
/// The target that needs a Postgres.
const POSTGRES: &str = "postgres";
/// The target that needs installed programs.
const PROGRAMS: &str = "programs";
/// Features of the test targets that need more than cargo; all of them, so that every build of the tests is one build.
pub const FEATURES: &str =
    "observer-tests/kernel,observer-tests/service,observer-tests/postgres,observer-tests/programs";
const MESSAGES: &str = "json-render-diagnostics";

/// The built programs.
pub(crate) struct Guest {
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

/// Builds them, but for the product, whose release build must be there.
pub(crate) fn build(workspace: &Workspace, storm: bool) -> Result<Guest> {
    let programs = test_programs(workspace)?;
    let guest = Guest {
        observer: workspace.release_binary(),
        puppet: programs.puppet,
        tests: programs.tests.into_iter().filter(|test| storm || test.name != STORM).collect(),
        packages: workspace.target.join(PACKAGES),
    };
    ensure!(!guest.tests.is_empty(), "package observer-tests has no test targets: see tests/Cargo.toml");
    Ok(guest)
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
    let directory = workspace.root.join(DIRECTORY);
    let mut tests: Vec<_> = programs
        .iter()
        .filter(|program| program.kind == TargetKind::Test && program.source.starts_with(&directory))
        .map(|program| Test { name: program.name.clone(), program: program.path.clone() })
        .collect();
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    let postgres = taken(&mut tests, POSTGRES)?;
    let real = taken(&mut tests, PROGRAMS)?;
    left_out::check(&tests)?;
    Ok(TestPrograms { puppet: program(&programs, &TargetKind::Bin, "puppet")?, tests, postgres, real })
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
