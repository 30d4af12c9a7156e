//! What a run writes, between two marks: the tables of docs/kernels.md, and the tested kernels in README.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::report;
use crate::results::{Run, merged};
use crate::targets::VERIFIER;
use observer_harness::command;

const END: &str = "<!-- to here -->";

/// Begins what a run for this processor writes.
fn begin(arch: Arch) -> String {
    format!("<!-- written by `cargo xtask vm{} --record`: from here -->", arch.option())
}

/// Replaces what stands between the marks of docs/kernels.md, and for this machine's processor of README.md, below `root`.
pub(crate) fn write(root: &Path, arch: Arch, runs: &[Run]) -> Result<()> {
    let date = command::capture(Command::new("date").args(["--utc", "+%F"]))?;
    // What runs under systemd is the unit alone, on a kernel that has a run of its own.
    let (units, runs): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.systemd);
    put(&root.join("docs/kernels.md"), &begin(arch), &section(&runs, &units, date.trim()))?;
    if Some(arch) == Arch::of_this_machine() {
        put(&root.join("README.md"), &begin(arch), &tested(&runs, date.trim()))?;
    }
    let bare = runs.iter().find(|run| verified(run).is_empty());
    ensure!(
        bare.is_none(),
        "{} gave no instruction counts: is there still a test target {VERIFIER}?",
        bare.map(|run| run.release.as_str()).unwrap_or_default()
    );
    Ok(())
}

fn put(file: &Path, begin: &str, section: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let text = replaced(&text, begin, section).with_context(|| {
        format!("{} lacks the lines {begin:?} and {END:?}: put them back", file.display())
    })?;
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    eprintln!("vm: wrote {}", file.display());
    Ok(())
}

/// The kernels, one a line.
fn tested(runs: &[&Run], date: &str) -> String {
    let lines = runs.iter().map(|run| format!("- Linux {} ({})\n", run.release, distribution(&run.version)));
    format!("All tests passed on {date} on these kernels:\n\n{}", lines.collect::<String>())
}

fn replaced(text: &str, begin: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{section}\n{END}{after}"))
}

fn section(runs: &[&Run], units: &[&Run], date: &str) -> String {
    let mut text = format!("Run on {date}, all passed:\n\n| kernel |");
    for run in runs {
        text.push_str(&format!(" {}<br>{} |", run.release, distribution(&run.version)));
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(runs.len())));
    for name in report::names(runs.iter().copied()) {
        let cells: Vec<_> = runs.iter().map(|run| report::cell(run, &name)).collect();
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    for name in report::names(units.iter().copied()) {
        let on = |run: &Run| {
            units.iter().find(|unit| unit.release == run.release).map(|unit| report::cell(unit, &name))
        };
        let cells: Vec<_> = runs.iter().map(|run| on(run).unwrap_or_else(|| "–".into())).collect();
        text.push_str(&format!("| {name}, under systemd | {} |\n", cells.join(" | ")));
    }
    let skipped = merged(runs.iter().chain(units).copied()).skipped;
    if !skipped.is_empty() {
        text.push_str("\nSkipped there, with the reason:\n\n");
        text.extend(skipped.iter().map(|test| format!("- {test}\n")));
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

fn counts(runs: &[&Run]) -> String {
    let columns: Vec<_> = runs.iter().map(|run| verified(run)).collect();
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
    use super::*;
    use crate::results::tests::{PASSED, run};

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let [begin, other] = [Arch::Arm64, Arch::X86_64].map(begin);
        let text = format!("{other}\n{END}\na\n{begin}\nold\n{END}\nb\n");
        let new = replaced(&text, &begin, "new\n").unwrap_or_default();
        assert_eq!(new, format!("{other}\n{END}\na\n{begin}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced(&new, &begin, "new\n").as_deref(), Some(new.as_str()), "twice is as once");
        assert_eq!(replaced("no marks", &begin, "new"), None);
    }

    #[test]
    fn counts_stand_by_program_and_kernel() {
        let output = PASSED.replace("begin kernel", "begin verifier").replace(
            "test a::b ... ok",
            "test cost ... verified sched_process_exec 24031\nverified iter_task 987\nok",
        );
        let run = run(&output, "");
        let text = section(&[&run], &[], "2026-01-02");
        assert!(
            text.contains("| `sched_process_exec` | 24,031 |") && text.contains("| `iter_task` | 987 |"),
            "{text}"
        );
        assert!(text.contains("| kernel | 6.1.0-56<br>Debian 6.1.192-2 |\n"), "{text}");
        assert!(text.contains("\n| verifier | 3 passed, 1 ignored |\n"), "{text}");
        let list = tested(&[&run], "2026-01-02");
        assert_eq!(
            list,
            "All tests passed on 2026-01-02 on these kernels:\n\n- Linux 6.1.0-56 (Debian 6.1.192-2)\n"
        );
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn what_was_skipped_stands_below_the_table() {
        let output = PASSED.replace("test a::b ... ok", "test a::b ... \nSKIPPED: a::b: no such hook\nok");
        let text = section(&[&run(&output, "")], &[], "2026-01-02");
        assert!(text.contains("| kernel | 2 passed, 1 skipped, 1 ignored |"), "{text}");
        assert!(text.contains("\n- 6.1.0-56: kernel: a::b: no such hook\n"), "{text}");
    }
}
