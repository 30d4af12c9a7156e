//! docs/kernels.md: the part that a run writes, between two marks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::guest::VERIFIER;
use super::report;
use super::results::Run;
use crate::command;

const BEGIN: &str = "<!-- written by `cargo xtask vm --record`: from here -->";
const END: &str = "<!-- to here -->";

/// Replaces what stands between the marks.
pub(crate) fn write(file: &Path, runs: &[Run]) -> Result<()> {
    let date = command::capture(Command::new("date").args(["--utc", "+%F"]))?;
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let text = replaced(&text, &section(runs, date.trim())).with_context(|| {
        format!("{} lacks the lines {BEGIN:?} and {END:?}: put them back", file.display())
    })?;
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    eprintln!("vm: wrote {}", file.display());
    let bare = runs.iter().find(|run| verified(run).is_empty());
    ensure!(
        bare.is_none(),
        "{} gave no instruction counts: is there still a test target {VERIFIER}?",
        bare.map(|run| run.release.as_str()).unwrap_or_default()
    );
    Ok(())
}

fn replaced(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{section}\n{END}{after}"))
}

fn section(runs: &[Run], date: &str) -> String {
    let mut text = format!("Run on {date}, all passed:\n\n");
    text.push_str("| kernel | version | ");
    let names = report::names(runs);
    text.push_str(&format!("{} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len())));
    for run in runs {
        let cells: Vec<_> = names.iter().map(|name| report::cell(run, name)).collect();
        text.push_str(&format!(
            "| {} | {} | {} |\n",
            run.release,
            distribution(&run.version),
            cells.join(" | ")
        ));
    }
    text.push_str("\nInstructions that the verifier processed, of its 1,000,000:\n\n");
    text.push_str(&counts(runs));
    text
}

/// `#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-01)` → `Debian 6.1.192-2`.
fn distribution(version: &str) -> String {
    let words: Vec<_> = version.split(' ').skip_while(|word| *word != "Debian").take(2).collect();
    if words.is_empty() { version.to_owned() } else { words.join(" ") }
}

fn counts(runs: &[Run]) -> String {
    let columns: Vec<_> = runs.iter().map(verified).collect();
    let mut programs: Vec<_> = columns.iter().flat_map(BTreeMap::keys).collect();
    programs.sort();
    programs.dedup();
    let heads: Vec<_> = runs.iter().map(|run| run.series.as_str()).collect();
    let mut text = format!("| program | {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(runs.len()));
    for program in programs {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| column.get(program).map_or_else(|| "–".to_owned(), |&count| thousands(count)))
            .collect();
        text.push_str(&format!("| `{program}` | {} |\n", cells.join(" | ")));
    }
    text
}

/// From the lines `verified PROGRAM COUNT` of the target that counts.
fn verified(run: &Run) -> BTreeMap<String, u64> {
    let lines =
        run.sections.iter().filter(|section| section.name == VERIFIER).flat_map(|section| &section.output);
    lines
        .filter_map(|line| {
            // libtest may have begun the line with the test's name.
            let (_, rest) = line.split_once("verified ")?;
            let (program, count) = rest.split_once(' ')?;
            Some((program.to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{PASSED, run};
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&text, "new\n").unwrap_or_default();
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced(&new, "new\n").as_deref(), Some(new.as_str()), "twice is as once");
        assert_eq!(replaced("no marks", "new"), None);
    }

    #[test]
    fn counts_stand_by_program_and_kernel() {
        let said = PASSED.replace("begin kernel", "begin verifier").replace(
            "test a::b ... ok",
            "test cost ... verified sched_process_exec 24031\nverified iter_task 987\nok",
        );
        let text = section(&[run(&said, "")], "2026-01-02");
        assert!(
            text.contains("| `sched_process_exec` | 24,031 |") && text.contains("| `iter_task` | 987 |"),
            "{text}"
        );
        assert!(text.contains("| 6.1.0-56 | Debian 6.1.192-2 | ok | 3 passed, 1 ignored |"), "{text}");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }
}
