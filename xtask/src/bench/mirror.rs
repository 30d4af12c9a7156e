//! The mirror's costs. They need the mirror's own code and a server: the benchmark of the tests' package measures, and
//! prints one figure a line.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Bench;
use super::figure::{Figure, Reference, Sample};
use crate::command;

/// A figure, as it is printed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    what: String,
    unit: String,
    values: Vec<f64>,
    /// Which of the values counts.
    percentile: f64,
    budget: Option<f64>,
    references: Vec<Beside>,
    note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    name: String,
    unit: String,
    values: Vec<f64>,
}

pub(super) fn measure(bench: &Bench<'_>, name: &str) -> Result<Vec<Figure>> {
    let mut cargo =
        bench.workspace.cargo(&["bench", "--package", "observer-tests", "--features", "postgres"]);
    cargo.args(["--bench", "mirror", "--", name]).env("OBSERVER_BIN", &bench.binary);
    if bench.quick {
        cargo.arg("--quick");
    }
    let printed = command::capture(&mut cargo)?;
    printed.lines().map(|line| figure(name, line)).collect()
}

fn figure(measure: &str, line: &str) -> Result<Figure> {
    let line: Line = serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
    let sample = |values: &[f64]| Sample::percentile(values, line.percentile).context("no value");
    let mut figure = Figure::new(measure, line.what.clone(), line.unit.clone(), sample(&line.values)?);
    for beside in &line.references {
        let value = sample(&beside.values)?.value;
        figure = figure.against([Reference::measured(&beside.name, value, &beside.unit)]);
    }
    if let Some(budget) = line.budget {
        figure = figure.at_most(budget);
    }
    Ok(figure.note(line.note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_figure() -> Result<()> {
        let line = r#"{"what": "w", "unit": "ms", "values": [3.0, 1.0, 2.0], "percentile": 99.0, "budget": 2.5,
            "references": [{"name": "r", "unit": "ms", "values": [1.0]}], "note": "n"}"#;
        let figure = figure("commit", line)?;
        assert_eq!((figure.met(), figure.note.as_str(), figure.references.len()), (Some(false), "n", 1));
        assert!(self::figure("commit", "Compiling").is_err());
        Ok(())
    }
}
