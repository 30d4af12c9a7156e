//! `cargo xtask test`: everything that can be tested on this machine, then one summary with the time of each part.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use observer_harness::libtest::{Counts, Report, TIMES, TIMES_ENVIRONMENT};
use observer_harness::releases::PostgresRelease;
use observer_harness::{command, former};
use observer_vm::{FEATURES, SERVICE, Test};

use crate::workspace::Workspace;
use crate::{build, check, dist, setup};

/// Tests against the kernel at a time. With more, the tests' own load would decide how long the daemon takes to answer.
const KERNEL_THREADS: u8 = 2;
/// Targets whose tests have a daemon each, and mostly wait: a second for the kernel to detach its programs, and for ages and
/// delays of the product.
const WAITING: [&str; 4] = ["hooks", "journal", "refuse", "sessions"];
/// The target that leaves the processors idle for most of its time: it runs beside the real programs, which do so for half of
/// theirs.
const BESIDE_PROGRAMS: &str = "journal";
/// Tests of these at a time.
const WAITING_THREADS: u8 = 4;
/// Tests against a Postgres at a time. They mostly wait: for time-outs, and for a server that is stopped.
const MIRROR_THREADS: u8 = 5;
/// Real programs at a time. Each has a daemon of its own, and its test mostly waits.
const PROGRAM_THREADS: u8 = 4;
/// Slowest tests that the summary names of each part.
const SLOWEST: usize = 5;

/// Install what is missing, build, and run all tests (as root: most are against the kernel).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests on this kernel whose name contains this; formatting, lints, the source checks and other kernels are
    /// left out then.
    filter: Option<String>,
    /// Leave out what needs a virtual machine or a container.
    #[arg(long, conflicts_with = "filter")]
    quick: bool,
    /// If other kernels pass, write the results to README.md and docs/kernels.md.
    #[arg(long, conflicts_with_all = ["filter", "quick"])]
    record: bool,
    /// Instead of all parts, the tests of the mirror against this release of Postgres (14, 16, 17 or 18), from the npm registry.
    /// May be given several times.
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["quick", "record"])]
    postgres: Vec<u32>,
}

/// One part of the run.
struct Part {
    name: &'static str,
    took: Duration,
    outcome: Result<Report>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let filter = arguments.filter.as_deref();
    let parts = parts(workspace, arguments)?;
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

fn parts(workspace: &Workspace, arguments: &Arguments) -> Result<Vec<Part>> {
    let filter = arguments.filter.as_deref();
    let releases: Vec<_> =
        arguments.postgres.iter().map(|&major| PostgresRelease::of(major)).collect::<Result<_>>()?;
    let toolchain = setup::for_test()?;
    let mut parts = vec![part("build", || nothing(build::release(workspace, &toolchain)))];
    let built = parts.iter().all(|part| part.outcome.is_ok());
    if !releases.is_empty() {
        if built {
            let programs = observer_vm::test_programs(workspace)?;
            let mirror = || with_upgrades(privileged(workspace, &programs.postgres, MIRROR_THREADS, filter));
            parts.extend(
                releases.into_iter().map(|release| part(release.name, || against(release, mirror()))),
            );
        }
        return Ok(parts);
    }
    if filter.is_none() {
        parts.push(part("format", || {
            nothing(command::run(&mut workspace.cargo(&["fmt", "--all", "--check"])))
        }));
        parts.push(part("lints", || nothing(command::run(&mut lints(workspace)))));
    }
    parts.push(part("unit tests", || tests(&mut [unit_tests(workspace, filter)])));
    if !built {
        return Ok(parts);
    }
    let programs = observer_vm::test_programs(workspace)?;
    parts.push(part("mirror tests", || {
        tests(&mut [with_upgrades(privileged(workspace, &programs.postgres, MIRROR_THREADS, filter))])
    }));
    let (beside, kernel): (Vec<_>, Vec<_>) = programs
        .tests
        .iter()
        .filter(|test| test.name != SERVICE)
        .partition(|test| test.name == BESIDE_PROGRAMS);
    let threads =
        |test: &Test| if WAITING.contains(&test.name.as_str()) { WAITING_THREADS } else { KERNEL_THREADS };
    let against_kernel = |test: &Test| privileged(workspace, test, threads(test), filter);
    parts.push(part("real programs", || {
        let mut beside = beside.into_iter().map(against_kernel);
        tests_beside(&mut [privileged(workspace, &programs.real, PROGRAM_THREADS, filter)], beside.next())
    }));
    let mut kernel: Vec<_> = kernel.into_iter().map(against_kernel).collect();
    parts.push(part("kernel tests", || tests(&mut kernel)));
    if filter.is_none() {
        parts.push(part("check", || nothing(check::everything(workspace))));
    }
    if filter.is_none() {
        parts.push(part("package", || nothing(dist::checked(workspace))));
    }
    if filter.is_none() && !arguments.quick {
        parts.push(part("service", || container(workspace)));
        parts.push(part("other kernels", || other_kernels(workspace, arguments.record)));
    }
    Ok(parts)
}

fn part(name: &'static str, work: impl FnOnce() -> Result<Report>) -> Part {
    let begin = Instant::now();
    let outcome = work();
    Part { name, took: begin.elapsed(), outcome }
}

/// The report of a part that has no tests.
fn nothing<T>(outcome: Result<T>) -> Result<Report> {
    outcome.map(|_| Report::default())
}

fn container(workspace: &Workspace) -> Result<Report> {
    setup::for_vm()?;
    observer_vm::container(workspace, false)
}

fn other_kernels(workspace: &Workspace, record: bool) -> Result<Report> {
    setup::for_vm()?;
    observer_vm::whole(workspace, record)
}

/// Clippy over every host crate, the tests against the kernel included. The kernel programs are left to their own compiler.
fn lints(workspace: &Workspace) -> Command {
    workspace.cargo(&["clippy", "--all-targets", "--features", FEATURES, "--", "-D", "warnings"])
}

fn unit_tests(workspace: &Workspace, filter: Option<&str>) -> Command {
    let mut command = workspace.cargo(&["test", "--no-fail-fast", "--"]);
    command.args(filter);
    command
}

/// A target of tests against this kernel or a Postgres. The product is its release build.
fn privileged(workspace: &Workspace, test: &Test, threads: u8, filter: Option<&str>) -> Command {
    let mut command = Command::new(&test.program);
    command.arg(format!("--test-threads={threads}")).args(TIMES).args(filter);
    let (variable, value) = TIMES_ENVIRONMENT;
    command.env(variable, value).env("OBSERVER_BIN", workspace.release_binary());
    command.current_dir(workspace.root.join("tests"));
    command
}

/// Runs tests of the mirror against a release of Postgres.
fn against(release: &PostgresRelease, mut mirror: Command) -> Result<Report> {
    let unpacked = release.unpack()?;
    mirror.env("OBSERVER_TEST_POSTGRES", unpacked.directory());
    tests(&mut [mirror])
}

/// Has tests of the mirror upgrade from former programs too, where those were built (`cargo xtask build --former`). Where they
/// were not, the tests count as ignored.
fn with_upgrades(mut tests: Command) -> Command {
    if former::are_built() {
        tests.arg("--include-ignored");
    }
    tests
}

/// Runs tests, passes their output on and returns what they reported. All are run, also after one failed.
fn tests(commands: &mut [Command]) -> Result<Report> {
    tests_beside(commands, None)
}

/// The same, while `beside` runs too; the output of that follows.
fn tests_beside(commands: &mut [Command], beside: Option<Command>) -> Result<Report> {
    let mut ended = Ended::default();
    let beside = match beside {
        Some(mut command) => {
            let Started { line, child, output } = Started::new(&mut command)?;
            Some((line, child, thread::spawn(|| lines(output).collect::<Vec<_>>())))
        }
        None => None,
    };
    for command in commands {
        let Started { line, child, output } = Started::new(command)?;
        ended.add(line, child, lines(output))?;
    }
    if let Some((line, child, output)) = beside {
        let Ok(output) = output.join() else {
            bail!("the thread that reads the output of `{line}` panicked")
        };
        ended.add(line, child, output.into_iter())?;
    }
    ended.report()
}

/// A command that runs, with its output.
struct Started {
    line: String,
    child: Child,
    output: ChildStdout,
}

impl Started {
    fn new(command: &mut Command) -> Result<Self> {
        let line = command::line(command);
        eprintln!("xtask: {line}");
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start `{line}`"))?;
        let output = child.stdout.take().context("the tests' output is not piped")?;
        Ok(Self { line, child, output })
    }
}

fn lines(output: ChildStdout) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    BufReader::new(output).split(b'\n')
}

/// What commands reported that have ended.
#[derive(Default)]
struct Ended {
    report: Report,
    failed: Vec<String>,
}

impl Ended {
    /// Passes on what `child` prints, and waits for its end.
    fn add(
        &mut self,
        line: String,
        mut child: Child,
        output: impl Iterator<Item = io::Result<Vec<u8>>>,
    ) -> Result<()> {
        for bytes in output {
            let bytes = bytes.context("read the tests' output")?;
            let text = String::from_utf8_lossy(&bytes);
            println!("{text}");
            self.report.add(&text);
        }
        self.report.end();
        let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
        if !status.success() {
            self.failed.push(format!("{line} ({status})"));
        }
        Ok(())
    }

    fn report(self) -> Result<Report> {
        if !self.failed.is_empty() {
            let Counts { passed, failed: count, .. } = self.report.counts.unwrap_or_default();
            let (names, failed) = (self.report.failed.join(", "), self.failed.join("; "));
            bail!("{passed} passed, {count} failed: {names}; to reproduce: {failed}");
        }
        Ok(self.report)
    }
}

fn ran(parts: &[Part]) -> u64 {
    // A part that failed ran something: its own error has the details.
    let ran = |report: &Report| report.counts.map_or(0, |counts| counts.passed + counts.skipped);
    parts.iter().map(|part| part.outcome.as_ref().map_or(1, ran)).sum()
}

fn summary(parts: &[Part]) -> String {
    let mut lines = vec!["summary:".to_owned()];
    for Part { name, took, outcome } in parts {
        let (verdict, detail) = match outcome {
            Ok(report) => ("ok", report.counts.map(Counts::in_words).unwrap_or_default()),
            Err(error) => ("FAILED", error.to_string().lines().next().unwrap_or_default().to_owned()),
        };
        let line = format!("  {name:<13} {verdict:<6} {:>6.1} s  {detail}", took.as_secs_f64());
        lines.push(line.trim_end().to_owned());
        let skipped = outcome.iter().flat_map(|report| &report.skipped);
        lines.extend(skipped.map(|test| format!("  {:>31}  {test}", "skipped")));
        for timed in outcome.iter().flat_map(|report| report.slowest(SLOWEST)) {
            lines.push(format!("  {:>29.1} s  {}", timed.took.as_secs_f64(), timed.name));
        }
    }
    if parts.iter().any(|part| part.name == "build" && part.outcome.is_err()) {
        lines.push(
            "  mirror tests, real programs, kernel tests, check, package, service and other kernels need the build: not run".to_owned(),
        );
    }
    let whole: Duration = parts.iter().map(|part| part.took).sum();
    lines.push(format!("  {:<20} {:>6.1} s", "all parts", whole.as_secs_f64()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_failures_and_slow_tests_and_what_did_not_run() {
        let took = Duration::from_millis(1500);
        let report = Report::read([
            "test a::b ... ok <1.250s>",
            "SKIPPED: c: no disk",
            "test result: ok. 3 passed; 0 failed; 0 ignored",
        ]);
        let parts = [
            Part { name: "build", took, outcome: Err(anyhow::anyhow!("no linker\nmore")) },
            Part { name: "unit tests", took, outcome: Ok(report) },
        ];
        let text = summary(&parts);
        assert!(text.contains("build         FAILED    1.5 s  no linker\n"), "{text}");
        assert!(text.contains("unit tests    ok        1.5 s  2 passed, 1 skipped\n"), "{text}");
        assert!(text.contains(" skipped  c: no disk\n"), "{text}");
        assert!(text.contains(" 1.2 s  a::b\n"), "{text}");
        assert!(text.contains("not run\n"), "{text}");
        assert!(text.ends_with("3.0 s"), "{text}");
    }

    #[test]
    fn a_failing_command_fails_its_part() {
        let script = "echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured'; exit 101";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        let error = super::tests(&mut [shell]).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|text| text.starts_with("1 passed, 1 failed")), "{error:?}");
    }

    #[test]
    fn what_runs_beside_is_reported_after_the_others_and_fails_the_part() {
        let shell = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            shell
        };
        let passed = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'";
        let passed_of = |beside: &str| {
            let report = tests_beside(&mut [shell(passed)], Some(shell(beside)));
            report.ok().and_then(|report| report.counts).map(|counts| counts.passed)
        };
        assert_eq!(passed_of(passed), Some(4));
        assert_eq!(passed_of("exit 1"), None);
    }
}
