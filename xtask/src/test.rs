//! `cargo xtask test`: everything that can be tested on this machine, then one summary.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use observer_harness::command;

use crate::{build, check, setup, vm};

/// Install what is missing, build, and run all tests (as root: most are against the real kernel).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests on this kernel whose name contains this; formatting, lints, the source checks and other kernels are
    /// left out then.
    filter: Option<String>,
    /// If other kernels pass, write what came out to README.md and docs/kernels.md.
    #[arg(long, conflicts_with = "filter")]
    record: bool,
}

/// Tests as libtest counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// One part of the run.
struct Part {
    name: &'static str,
    took: Duration,
    outcome: Result<Counts>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let filter = arguments.filter.as_deref();
    let toolchain = setup::for_test()?;
    let mut parts = vec![part("build", || build::release(workspace, &toolchain).map(|_| Counts::default()))];
    let built = parts.iter().all(|part| part.outcome.is_ok());
    if filter.is_none() {
        parts.push(part("format", || plain(&mut workspace.cargo(&["fmt", "--all", "--check"]))));
        parts.push(part("lints", || plain(&mut lints(workspace))));
    }
    parts.push(part("unit tests", || counted(&mut unit_tests(workspace, filter))));
    if built {
        let tests = |feature: &str, targets: &[&str]| {
            counted(&mut feature_tests(workspace, feature, targets, filter))
        };
        parts.push(part("mirror tests", || tests("postgres", &["--test", "postgres"])));
        parts.push(part("kernel tests", || tests("kernel", &[])));
        if filter.is_none() {
            parts.push(part("check", || check::everything(workspace).map(|()| Counts::default())));
            parts.push(part("service", || container(workspace)));
            parts.push(part("other kernels", || other_kernels(workspace, arguments.record)));
        }
    }
    for part in &parts {
        if let Err(error) = &part.outcome {
            eprintln!("xtask: {}: {error:#}", part.name);
        }
    }
    println!("{}", summary(&parts));
    if let Some(filter) = filter.filter(|_| ran(&parts) == 0) {
        bail!("no test ran whose name contains {filter:?}; see `cargo test -- --list`");
    }
    if parts.iter().any(|part| part.outcome.is_err()) {
        bail!("not everything passed; what failed is named above");
    }
    Ok(())
}

fn container(workspace: &Workspace) -> Result<Counts> {
    vm::prepare(workspace)?;
    observer_vm::container(&workspace.checkout(), false).map(Counts::passed)
}

fn other_kernels(workspace: &Workspace, record: bool) -> Result<Counts> {
    vm::prepare(workspace)?;
    observer_vm::whole(&workspace.checkout(), record).map(Counts::passed)
}

fn part(name: &'static str, work: impl FnOnce() -> Result<Counts>) -> Part {
    let begin = Instant::now();
    let outcome = work();
    Part { name, took: begin.elapsed(), outcome }
}

/// Every host crate, the real-kernel tests included. The kernel programs are left to their own compiler.
fn lints(workspace: &Workspace) -> Command {
    let features = "observer-tests/kernel,observer-tests/service,observer-tests/postgres";
    let arguments = ["clippy", "--all-targets", "--features", features, "--", "-D", "warnings"];
    workspace.cargo(&arguments)
}

fn unit_tests(workspace: &Workspace, filter: Option<&str>) -> Command {
    let mut command = workspace.cargo(&["test", "--no-fail-fast", "--"]);
    command.args(filter);
    command
}

/// Tests of the package `observer-tests` that `feature` turns on: of these targets, or all.
fn feature_tests(workspace: &Workspace, feature: &str, targets: &[&str], filter: Option<&str>) -> Command {
    let mut arguments = vec!["test", "--no-fail-fast", "--release", "--package", "observer-tests"];
    arguments.extend(["--features", feature]);
    arguments.extend(targets);
    // Two at a time: more would have the tests' own load decide how long the daemon takes to answer.
    arguments.extend(["--", "--test-threads=2"]);
    let mut command = workspace.cargo(&arguments);
    command.args(filter).env("OBSERVER_BIN", workspace.release_binary());
    command
}

fn plain(command: &mut Command) -> Result<Counts> {
    command::run(command).map(|()| Counts::default())
}

/// Runs a `cargo test`, passes its output on and adds up what libtest counts.
fn counted(command: &mut Command) -> Result<Counts> {
    let line = command::line(command);
    eprintln!("xtask: {line}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start `{line}`"))?;
    let output = child.stdout.take().context("the tests' output is not piped")?;
    let mut counts = Counts::default();
    for bytes in BufReader::new(output).split(b'\n') {
        let bytes = bytes.context("read the tests' output")?;
        let text = String::from_utf8_lossy(&bytes);
        println!("{text}");
        counts.add(&text);
    }
    let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
    if !status.success() {
        bail!("{} passed, {} failed ({status}); to reproduce: {line}", counts.passed, counts.failed);
    }
    Ok(counts)
}

impl Counts {
    fn passed(passed: u64) -> Self {
        Self { passed, ..Self::default() }
    }

    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`; others count nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<_> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match *what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn ran(parts: &[Part]) -> u64 {
    // A part that failed ran something: its own error says what.
    parts.iter().map(|part| part.outcome.as_ref().map_or(1, |counts| counts.passed)).sum()
}

fn summary(parts: &[Part]) -> String {
    let mut lines = vec!["summary:".to_owned()];
    for Part { name, took, outcome } in parts {
        let (verdict, detail) = match outcome {
            Ok(Counts { passed: 0, ignored: 0, .. }) => ("ok", String::new()),
            Ok(Counts { passed, ignored: 0, .. }) => ("ok", format!("{passed} passed")),
            Ok(Counts { passed, ignored, .. }) => ("ok", format!("{passed} passed, {ignored} ignored")),
            Err(error) => ("FAILED", error.to_string().lines().next().unwrap_or_default().to_owned()),
        };
        let line = format!("  {name:<13} {verdict:<6} {:>6.1} s  {detail}", took.as_secs_f64());
        lines.push(line.trim_end().to_owned());
    }
    if parts.iter().any(|part| part.name == "build" && part.outcome.is_err()) {
        lines.push(
            "  mirror and kernel tests, check, service and other kernels need the build: not run".to_owned(),
        );
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_results_add_up() {
        let mut counts = Counts::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "running 9 passed tests",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { passed: 7, failed: 2, ignored: 1 });
    }

    #[test]
    fn the_summary_names_what_failed_and_what_did_not_run() {
        let took = Duration::from_millis(1500);
        let parts = [
            Part { name: "build", took, outcome: Err(anyhow::anyhow!("no linker\nmore")) },
            Part { name: "unit tests", took, outcome: Ok(Counts { passed: 3, ..Counts::default() }) },
        ];
        let text = summary(&parts);
        assert!(text.contains("build         FAILED    1.5 s  no linker\n"), "{text}");
        assert!(text.contains("unit tests    ok        1.5 s  3 passed"), "{text}");
        assert!(text.ends_with("not run"), "{text}");
    }

    #[test]
    fn a_failing_command_fails_its_part() {
        let script = "echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured'; exit 101";
        let said = counted(Command::new("sh").args(["-c", script])).err().map(|error| error.to_string());
        assert!(said.as_ref().is_some_and(|said| said.starts_with("1 passed, 1 failed")), "{said:?}");
    }
}
