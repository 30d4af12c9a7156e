//! One line of the bench's table, on its way to `cargo xtask bench`.

use serde_json::{Value, json};

/// Values, and what of them counts.
pub struct Figure {
    what: String,
    unit: &'static str,
    values: Vec<f64>,
    percentile: f64,
    budget: Option<f64>,
    references: Vec<Value>,
    note: String,
}

impl Figure {
    /// Repetitions, of which this percentile counts.
    pub fn of(what: impl Into<String>, unit: &'static str, values: Vec<f64>, percentile: f64) -> Self {
        let (what, note) = (what.into(), String::new());
        Self { what, unit, values, percentile, budget: None, references: Vec::new(), note }
    }

    /// A value that was taken once.
    pub fn once(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::of(what, unit, vec![value], 50.0)
    }

    /// The design's budget.
    pub fn at_most(mut self, budget: f64) -> Self {
        self.budget = Some(budget);
        self
    }

    /// The same percentile of something else, of the same run.
    pub fn beside(mut self, name: &str, values: &[f64]) -> Self {
        self.references.push(json!({"name": name, "values": values, "unit": self.unit}));
        self
    }

    /// What a reader must know to judge it.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// As `cargo xtask bench` reads it.
    pub fn json(&self) -> Value {
        json!({"what": self.what, "unit": self.unit, "values": self.values, "percentile": self.percentile,
            "budget": self.budget, "references": self.references, "note": self.note})
    }
}
