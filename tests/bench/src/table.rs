//! The figures as a table, for a terminal or as Markdown, and as JSON.

use serde_json::{Value, json};

use crate::figure::{Budget, Figure, Outcome, Reference, Sample};
use crate::machine::Machine;

const HEADINGS: [&str; 5] = ["what", "measured", "budget", "met?", "beside it"];

pub(crate) fn json(machine: &Machine, quick: bool, figures: &[Figure]) -> Value {
    json!({
        "machine": machine.json(),
        "quick": quick,
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
    })
}

/// Aligned with blanks.
pub(crate) fn text(machine: &Machine, figures: &[Figure]) -> String {
    let rows: Vec<[String; 5]> = std::iter::once(HEADINGS.map(str::to_owned))
        .chain(figures.iter().map(|figure| cells(figure, "")))
        .collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = format!("{}\n\n", machine.line());
    for (row, figure) in rows.iter().zip(std::iter::once(None).chain(figures.iter().map(Some))) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if let Some(note) = figure.map(|figure| &figure.note).filter(|note| !note.is_empty()) {
            text.push_str(&format!("    {note}\n"));
        }
    }
    text.push_str(&verdict(figures));
    text
}

/// To be pasted into a document.
pub(crate) fn markdown(machine: &Machine, figures: &[Figure]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("{}.\n\n", machine.line());
    text.push_str(&line(&HEADINGS.map(str::to_owned)));
    text.push_str("|---|---|---|---|---|\n");
    for figure in figures {
        let cells = cells(figure, "**");
        text.push_str(&line(&cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "))));
    }
    let notes: Vec<_> = figures.iter().filter(|figure| !figure.note.is_empty()).collect();
    if !notes.is_empty() {
        text.push('\n');
    }
    for figure in notes {
        text.push_str(&format!("- {}: {}\n", figure.what, figure.note));
    }
    text
}

fn verdict(figures: &[Figure]) -> String {
    let count = |wanted: Option<bool>| figures.iter().filter(|figure| figure.met() == wanted).count();
    let absent = figures.iter().filter(|figure| matches!(figure.outcome, Outcome::Absent(_))).count();
    let mut text = format!("\nbudgets: {} met, {} not met", count(Some(true)), count(Some(false)));
    if absent > 0 {
        text.push_str(&format!("; {absent} measurements failed"));
    }
    text.push('\n');
    text
}

fn cells(figure: &Figure, strong: &str) -> [String; 5] {
    let unit = figure.unit.as_str();
    let measured = match &figure.outcome {
        Outcome::Measured(sample) => measured(sample, unit),
        Outcome::Absent(why) => format!("not measured: {why}"),
    };
    let budget = match &figure.budget {
        Budget::None => String::new(),
        Budget::AtMost(limit) => format!("≤ {}", with_unit(*limit, unit)),
        Budget::NotHere { text, .. } => text.clone(),
    };
    let met = match (figure.met(), &figure.budget) {
        (Some(true), _) => "yes".to_owned(),
        (Some(false), _) => format!("{strong}NO{strong}"),
        (None, Budget::NotHere { why, .. }) => why.clone(),
        (None, _) => String::new(),
    };
    let references = figure.references.iter().map(reference).collect::<Vec<_>>().join("; ");
    [figure.what.clone(), measured, budget, met, references]
}

fn measured(sample: &Sample, unit: &str) -> String {
    let value = with_unit(sample.value, unit);
    if sample.count < 2 || sample.min == sample.max {
        return value;
    }
    format!("{value} ({} – {}, n={})", plain(sample.min), plain(sample.max), sample.count)
}

fn reference(reference: &Reference) -> String {
    match &reference.value {
        Ok(value) => format!("{} {}", reference.name, with_unit(*value, &reference.unit)),
        Err(why) => format!("{}: absent ({})", reference.name, why.lines().next().unwrap_or_default()),
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "" => plain(value),
        "×" | "/s" => format!("{}{unit}", plain(value)),
        _ => format!("{} {unit}", plain(value)),
    }
}

/// Three digits that mean something; never a rounding that makes something nothing.
fn plain(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    if value.fract() == 0.0 { format!("{value:.0}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            cpu: "a CPU".into(),
            cores: 2,
            kernel: "6.18".into(),
            memory_mib: 100,
            date: "2026-11-21".into(),
            commit: "abc".into(),
            load: "0.10".into(),
        }
    }

    fn figures() -> Vec<Figure> {
        let sample = Sample { value: 3.1372, min: 3.0, max: 4.25, count: 7 };
        vec![
            Figure::new("cost", "BPF time", "µs", sample)
                .at_most(3.0)
                .against([
                    Reference::measured("execsnoop", 18.0, "µs"),
                    Reference::absent("forkstat", "no package"),
                ])
                .note("a note"),
            Figure::absent("storm", "events lost", "no gcc").at_most(0.0),
        ]
    }

    #[test]
    fn a_missed_budget_and_a_missing_peer_are_shown_as_such() {
        let text = markdown(&machine(), &figures());
        let row = "| BPF time | 3.14 µs (3 – 4.25, n=7) | ≤ 3 µs | **NO** | execsnoop 18 µs; forkstat: absent (no package) |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| events lost | not measured: no gcc | ≤ 0 |  |  |"), "{text}");
        assert!(text.contains("- BPF time: a note"), "{text}");
    }

    #[test]
    fn the_table_for_a_terminal_is_aligned_and_ends_with_the_count() {
        let text = text(&machine(), &figures());
        let at = |line: &str, cell: &str| {
            line.find(cell).and_then(|at| line.get(..at)).map(|left| left.chars().count())
        };
        let lines: Vec<&str> = text.lines().collect();
        let column = |start: &str, cell: &str| {
            lines.iter().find(|line| line.starts_with(start)).and_then(|line| at(line, cell))
        };
        assert_eq!(column("what", "budget"), column("BPF time", "≤ 3 µs"), "{text}");
        assert!(text.ends_with("budgets: 0 met, 1 not met; 1 measurements failed\n"), "{text}");
    }

    #[test]
    fn numbers_keep_what_means_something() {
        let shown = [0.0, 0.0123, 0.456, 1.0, 12.34, 123.456, 100_000.0].map(plain);
        assert_eq!(shown, ["0", "0.0123", "0.46", "1", "12.3", "123", "100000"]);
    }
}
