//! The table kernel × test target, and each failure with the command that repeats it.

use std::time::Duration;

use crate::results::{self, Run, Section};
use crate::targets::{SERVICE, VERIFIER};
use crate::ways;

const FIRST: &str = "tests";
/// Tests of a machine that are named for taking long.
const SLOWEST: usize = 8;

/// For a person: a table, then what failed.
pub(crate) fn table(runs: &[Run], filter: &[String]) -> String {
    let mut rows = vec![row(FIRST, runs, label)];
    for name in names(runs) {
        rows.push(row(&name, runs, |run| cell(run, &name)));
    }
    rows.push(row("boot", runs, |run| run.boot().map_or(String::new(), seconds)));
    rows.push(row("kernel itself", runs, |run| {
        if run.trouble.is_empty() { "quiet".into() } else { "TROUBLE".into() }
    }));
    rows.push(row("plan", runs, |run| if run.complete { "done".into() } else { "NOT DONE".into() }));
    let mut text = aligned(&rows);
    for test in results::merged(runs).skipped {
        text.push_str(&format!("skipped: {test}\n"));
    }
    for run in runs.iter().filter(|run| !run.passed()) {
        text.push_str(&failures(run, filter));
    }
    text
}

/// The machines that did not pass, each with what happened to it and the tests that failed there; `None` if all passed. One
/// line, for a summary that stands far below the failures themselves.
pub(crate) fn in_a_line(runs: &[Run]) -> Option<String> {
    let failed = runs.iter().filter(|run| !run.passed()).map(|run| {
        let tests = run.sections.iter().flat_map(|section| {
            section.tests.failed.iter().map(move |name| format!("{}: {name}", section.name))
        });
        let what: Vec<_> = std::iter::once(run.summary()).chain(tests).collect();
        format!("{}: {}", label(run), what.join(", "))
    });
    let failed: Vec<_> = failed.collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

/// The longest waits: how long each machine took, and its slowest tests; then all machines together.
pub(crate) fn waits(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        text.push_str(&phases(&label(run), std::slice::from_ref(run)));
        let mut slowest: Vec<_> = run.sections.iter().flat_map(slowest).collect();
        slowest.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
        for (took, name) in slowest.iter().take(SLOWEST) {
            text.push_str(&format!("  {:>7}  {name}\n", seconds(*took)));
        }
    }
    text.push_str(&phases("all machines", runs));
    text
}

/// What these machines took in all, and for each step, of which they were idle a part.
fn phases(label: &str, runs: &[Run]) -> String {
    let mut phases = vec![format!("boot {}", seconds(runs.iter().filter_map(Run::boot).sum()))];
    for name in names(runs) {
        let sections = || runs.iter().flat_map(|run| &run.sections).filter(|section| section.name == name);
        let took: Duration = sections().filter_map(Section::took).sum();
        let idle: Duration = sections().filter_map(Section::idle).sum();
        let idle = 100.0 * idle.as_secs_f64() / took.as_secs_f64().max(f64::MIN_POSITIVE);
        phases.push(format!("{name} {} ({idle:.0} % idle)", seconds(took)));
    }
    let took = runs.iter().map(|run| run.ended.took).sum();
    format!("{label}: {}: {}\n", seconds(took), phases.join(", "))
}

fn slowest(section: &Section) -> Vec<(Duration, String)> {
    let slowest = section.tests.slowest(SLOWEST);
    slowest.iter().map(|timed| (timed.took, format!("{}: {}", section.name, timed.name))).collect()
}

fn seconds(took: Duration) -> String {
    format!("{:.0} s", took.as_secs_f64())
}

/// What a run's column is called.
fn label(run: &Run) -> String {
    let system = if run.systemd { " systemd" } else { "" };
    format!("{}{system}", run.release.trim_end_matches("-cloud-amd64"))
}

/// Names of all steps that began on any kernel, in order.
pub(crate) fn names<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for section in runs.into_iter().flat_map(|run| &run.sections) {
        if !names.contains(&section.name) {
            names.push(section.name.clone());
        }
    }
    names
}

/// How a step went on a kernel.
pub(crate) fn cell(run: &Run, name: &str) -> String {
    let Some(section) = run.sections.iter().find(|section| section.name == name) else {
        // A machine that came to the end of its plan did not have it there.
        let planned = !run.complete && run.systemd == (name == SERVICE);
        return if planned { "not run".into() } else { String::new() };
    };
    match (section.tests.counts, section.code) {
        (Some(counts), Some(code)) if counts.failed > 0 || code == 0 => counts.in_words(),
        (None, Some(0)) if section.passed() => "ok".into(),
        (None, Some(0)) => "NO RESULT".into(),
        (_, Some(137)) => "KILLED: over its time".into(),
        (_, Some(code)) => format!("FAILED: exit status {code}"),
        (_, None) => "NO END".into(),
    }
}

fn row(first: &str, runs: &[Run], cell: impl Fn(&Run) -> String) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(runs.iter().map(cell)).collect()
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column)));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn failures(run: &Run, filter: &[String]) -> String {
    let mut text = String::new();
    for section in run.sections.iter().filter(|section| !section.passed()) {
        text.push_str(&format!("\n{}: {}: {}\n", run.release, section.name, cell(run, &section.name)));
        text.push_str(&indented(&relevant(section)));
        for name in &section.tests.failed {
            let way = ways::option(&section.name);
            let arch = run.arch.option();
            text.push_str(&format!(
                "  to repeat: cargo xtask vm{arch} --kernel {}{way} -- {name}\n",
                run.series
            ));
        }
        if section.tests.failed.is_empty() {
            text.push_str(&format!("  to repeat: {}\n", whole(run, filter)));
        }
    }
    if !run.trouble.is_empty() {
        text.push_str(&format!("\n{}: its console ({}):\n", run.release, run.ended.console.display()));
        text.push_str(&indented(&run.trouble));
    }
    if !run.complete {
        let why = run.ended.end.in_words();
        text.push_str(&format!(
            "\n{}: the machine: {why}; see {}\n  to repeat: {}\n",
            run.release,
            run.ended.console.display(),
            whole(run, filter)
        ));
    }
    text
}

/// The output of a failed step: of tests, from the first failure on; where nothing was captured, and failures stand before
/// their list, the last lines.
fn relevant(section: &Section) -> Vec<String> {
    let captured =
        |line: &&String| ![SERVICE, VERIFIER].contains(&section.name.as_str()) && *line == "failures:";
    match section.output.iter().position(|line| captured(&line)) {
        Some(begin) => section.output.iter().skip(begin).cloned().collect(),
        None => section.tail().to_vec(),
    }
}

fn whole(run: &Run, filter: &[String]) -> String {
    let way = if run.systemd { " --way service" } else { "" };
    let mut line = format!("cargo xtask vm{} --kernel {}{way}", run.arch.option(), run.series);
    if !filter.is_empty() {
        line.push_str(&format!(" -- {}", filter.join(" ")));
    }
    line
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  | {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{PASSED, run};

    #[test]
    fn a_row_for_each_step_and_a_column_for_each_kernel() {
        let text = table(&[run(PASSED, ""), run(PASSED, "")], &[]);
        assert!(text.contains("\nkernel         3 passed, 1 ignored  3 passed, 1 ignored\n"), "{text}");
        assert!(!text.contains("to repeat"), "{text}");
    }

    #[test]
    fn what_was_skipped_is_counted_and_named_with_its_reason() {
        let skipped = PASSED.replace("test a::b ... ok", "test a::b ... \nSKIPPED: a::b: no such hook\nok");
        let text = table(&[run(&skipped, "")], &[]);
        assert!(text.contains("2 passed, 1 skipped, 1 ignored"), "{text}");
        assert!(text.contains("\nskipped: 6.1.0-56: kernel: a::b: no such hook\n"), "{text}");
    }

    #[test]
    fn a_failure_says_how_to_repeat_it() {
        let output = PASSED
            .replace("test a::b ... ok", "failures:\n    a::b\n")
            .replace("ok. 3 passed; 0 failed", "FAILED. 2 passed; 1 failed")
            .replace("end kernel 0", "end kernel 101");
        let runs = [run(PASSED, ""), run(&output, "")];
        let text = table(&runs, &[]);
        assert!(text.contains("2 passed, 1 FAILED"), "{text}");
        assert!(text.contains("to repeat: cargo xtask vm --kernel 6.1 -- a::b\n"), "{text}");
        assert_eq!(in_a_line(&runs).as_deref(), Some("6.1.0-56: FAILED (3 tests, 9 s), kernel: a::b"));
        assert_eq!(in_a_line(&runs[..1]), None);
    }

    #[test]
    fn the_time_of_each_step_stands_by_machine_and_in_all() {
        let text = waits(&[run(PASSED, ""), run(PASSED, "")]);
        let one = "6.1.0-56: 9 s: boot 1 s, doctor 2 s (10 % idle), kernel 6 s (17 % idle)\n";
        let all = "all machines: 18 s: boot 2 s, doctor 4 s (10 % idle), kernel 12 s (17 % idle)\n";
        assert_eq!(text, format!("{one}{one}{all}"));
    }

    #[test]
    fn a_machine_that_ended_early_says_where_its_console_is() {
        let text = table(&[run("@w begin doctor\n", "[ 1.0] Kernel panic - not syncing\n")], &["cwd".into()]);
        assert!(
            text.contains("NO END") && text.contains("Kernel panic") && text.contains("console.txt"),
            "{text}"
        );
        assert!(text.contains("to repeat: cargo xtask vm --kernel 6.1 -- cwd\n"), "{text}");
    }
}
