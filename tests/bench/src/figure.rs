//! What a measurement gives: a value with its spread, the budget it is held to, and what it stands against.

use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Name of the measurement, as `--only` takes it.
    pub(crate) measure: String,
    pub(crate) what: String,
    pub(crate) unit: String,
    pub(crate) outcome: Outcome,
    pub(crate) budget: Budget,
    /// The bench fails where the budget is missed.
    pub(crate) must_hold: bool,
    pub(crate) better: Better,
    /// By how many percent it is worse than the same figure of another build; less than nothing where it is better.
    pub(crate) worse_percent: Option<f64>,
    pub(crate) references: Vec<Reference>,
    /// What a reader must know to judge it; empty for nothing.
    pub(crate) note: String,
}

/// Which of two values of a figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Smaller,
    Larger,
    /// None: it is measured without observer, to compare others with it.
    Neither,
}

impl Better {
    /// By how many percent `this` is worse than `that`; `None` where that has no meaning.
    pub(crate) fn worse_percent(self, this: f64, that: f64) -> Option<f64> {
        let ratio = match self {
            Self::Smaller => this / that,
            Self::Larger => that / this,
            Self::Neither => return None,
        };
        Some((ratio - 1.0) * 100.0).filter(|percent| !percent.is_nan())
    }
}

/// Whether there is a value.
#[derive(Debug)]
pub(crate) enum Outcome {
    Measured(Sample),
    /// Why not.
    Absent(String),
}

/// The value that counts, and how far the repetitions were apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

/// The most that is allowed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Budget {
    /// None was set: for scale.
    None,
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// One was set, for another situation than this machine's.
    NotHere { text: String, why: String },
}

/// The same measured on something else in the same run.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) value: Result<f64, String>,
    pub(crate) unit: String,
}

impl Reference {
    pub(crate) fn measured(name: impl Into<String>, value: f64, unit: impl Into<String>) -> Self {
        Self { name: name.into(), value: Ok(value), unit: unit.into() }
    }

    pub(crate) fn absent(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), value: Err(why.into()), unit: String::new() }
    }

    fn json(&self) -> Value {
        match &self.value {
            Ok(value) => json!({"name": self.name, "value": value, "unit": self.unit, "absent": null}),
            Err(why) => json!({"name": self.name, "value": null, "unit": self.unit, "absent": why}),
        }
    }
}

impl Figure {
    pub(crate) fn new(
        measure: impl Into<String>,
        what: impl Into<String>,
        unit: impl Into<String>,
        sample: Sample,
    ) -> Self {
        Self {
            measure: measure.into(),
            what: what.into(),
            unit: unit.into(),
            outcome: Outcome::Measured(sample),
            budget: Budget::None,
            must_hold: false,
            better: Better::Smaller,
            worse_percent: None,
            references: Vec::new(),
            note: String::new(),
        }
    }

    /// A measurement that could not be made.
    pub(crate) fn absent(
        measure: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        let sample = Sample { value: 0.0, min: 0.0, max: 0.0, count: 0 };
        Self { outcome: Outcome::Absent(why.into()), ..Self::new(measure, what, "", sample) }
    }

    pub(crate) fn at_most(mut self, limit: f64) -> Self {
        self.budget = Budget::AtMost(limit);
        self
    }

    /// The same as [`Self::at_most`], and the bench fails where it is missed.
    pub(crate) fn must_be_at_most(self, limit: f64) -> Self {
        Self { must_hold: true, ..self.at_most(limit) }
    }

    /// The larger of two values is the better one.
    pub(crate) fn larger_is_better(self) -> Self {
        Self { better: Better::Larger, ..self }
    }

    /// Without observer: neither of two values is the better one.
    pub(crate) fn for_scale(self) -> Self {
        Self { better: Better::Neither, ..self }
    }

    /// Says by how much it is worse than that of the other build, where that is more than `limit` percent.
    pub(crate) fn is_worse(&self, limit: f64) -> Option<String> {
        let percent = self.worse_percent.filter(|percent| *percent > limit)?;
        Some(format!("{}: {}: worse by {percent:.1} %", self.measure, self.what))
    }

    /// Says how the budget is missed, where that is a failure.
    pub(crate) fn failure(&self) -> Option<String> {
        let (Outcome::Measured(sample), Budget::AtMost(limit)) = (&self.outcome, &self.budget) else {
            return None;
        };
        let is_missed = self.must_hold && self.met() == Some(false);
        is_missed.then(|| {
            let Self { measure, what, unit, .. } = self;
            let value = format!("{:.2} {unit}", sample.value);
            format!("{measure}: {what}: {} of at most {limit}", value.trim_end())
        })
    }

    pub(crate) fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    pub(crate) fn against(mut self, references: impl IntoIterator<Item = Reference>) -> Self {
        self.references.extend(references);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether the budget holds; `None` where there is none, or nothing to hold to it.
    pub(crate) fn met(&self) -> Option<bool> {
        match (&self.outcome, &self.budget) {
            (Outcome::Measured(sample), Budget::AtMost(limit)) => Some(sample.value <= *limit),
            _ => None,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let (sample, absent) = match &self.outcome {
            Outcome::Measured(sample) => (Some(*sample), None),
            Outcome::Absent(why) => (None, Some(why)),
        };
        json!({
            "measure": self.measure,
            "what": self.what,
            "unit": self.unit,
            "value": sample.map(|sample| sample.value),
            "min": sample.map(|sample| sample.min),
            "max": sample.map(|sample| sample.max),
            "count": sample.map_or(0, |sample| sample.count),
            "absent": absent,
            "budget": match &self.budget { Budget::AtMost(limit) => Some(*limit), _ => None },
            "budget_not_here": match &self.budget { Budget::NotHere { why, .. } => Some(why), _ => None },
            "met": self.met(),
            "worse_percent": self.worse_percent,
            "references": self.references.iter().map(Reference::json).collect::<Vec<_>>(),
            "note": self.note,
        })
    }
}

impl Sample {
    /// The middle of the repetitions.
    pub(crate) fn median(values: &[f64]) -> Option<Self> {
        Self::percentile(values, 50.0)
    }

    /// The worst of the repetitions: for what must never happen.
    pub(crate) fn worst(values: &[f64]) -> Option<Self> {
        Self::percentile(values, 100.0)
    }

    /// The smallest value that `percent` of the values do not exceed; of an even number, the median is the mean of
    /// the two in the middle.
    pub(crate) fn percentile(values: &[f64], percent: f64) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len();
        let rank = (percent / 100.0 * count as f64).ceil() as usize;
        let at = rank.saturating_sub(1).min(count - 1);
        let mut value = *sorted.get(at)?;
        if percent == 50.0 && count.is_multiple_of(2) {
            value = (value + *sorted.get(at + 1)?) / 2.0;
        }
        Some(Self { value, min, max, count })
    }

    /// A value that was taken once.
    pub(crate) fn once(value: f64) -> Self {
        Self { value, min: value, max: value, count: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_percentiles_are_those_of_the_book() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let value = |percent| Sample::percentile(&values, percent).map(|sample| sample.value);
        assert_eq!(value(50.0), Some(50.5));
        assert_eq!(value(99.0), Some(99.0));
        assert_eq!(value(100.0), Some(100.0));
        let three = Sample::median(&[3.0, 1.0, 2.0]);
        assert_eq!(three, Some(Sample { value: 2.0, min: 1.0, max: 3.0, count: 3 }));
        assert_eq!(Sample::worst(&[0.0, 4.0, 0.0]).map(|sample| sample.value), Some(4.0));
        assert_eq!(Sample::median(&[]), None);
    }

    #[test]
    fn a_budget_is_met_missed_or_not_asked() {
        let figure = |value| Figure::new("storm", "lost", "", Sample::once(value));
        assert_eq!(figure(0.0).at_most(0.0).met(), Some(true));
        assert_eq!(figure(1.0).at_most(0.0).met(), Some(false));
        assert_eq!(figure(1.0).met(), None);
        let elsewhere = Budget::NotHere { text: String::new(), why: String::new() };
        assert_eq!(figure(1.0).budget(elsewhere).met(), None);
        assert_eq!(
            Figure::absent("storm", "lost", "no gcc").at_most(0.0).met(),
            None,
            "nothing was measured"
        );
    }

    #[test]
    fn a_budget_that_must_hold_says_how_it_is_missed() {
        let figure = |value| Figure::new("hostile", "daemon CPU, fork", "ms", Sample::once(value));
        assert_eq!(figure(0.4).must_be_at_most(0.5).failure(), None);
        assert_eq!(figure(0.6).at_most(0.5).failure(), None);
        let missed = figure(0.6).must_be_at_most(0.5).failure();
        assert_eq!(missed.as_deref(), Some("hostile: daemon CPU, fork: 0.60 ms of at most 0.5"));
    }

    #[test]
    fn worse_is_what_costs_more_or_does_less() {
        assert_eq!(Better::Smaller.worse_percent(12.5, 10.0), Some(25.0));
        assert_eq!(Better::Smaller.worse_percent(5.0, 10.0), Some(-50.0));
        assert_eq!(Better::Larger.worse_percent(10.0, 12.5), Some(25.0));
        assert_eq!(Better::Neither.worse_percent(12.0, 10.0), None);
        assert_eq!(
            Better::Smaller.worse_percent(3.0, 0.0),
            Some(f64::INFINITY),
            "events lost by this one alone"
        );
        assert_eq!(Better::Smaller.worse_percent(0.0, 0.0), None);
        let figure = Figure::new("cost", "CPU", "µs", Sample::once(12.0));
        assert_eq!(figure.is_worse(3.0), None, "there is no other build");
        let figure = Figure { worse_percent: Some(20.0), ..figure };
        assert_eq!(figure.is_worse(20.0), None);
        assert_eq!(figure.is_worse(19.0).as_deref(), Some("cost: CPU: worse by 20.0 %"));
    }

    #[test]
    fn what_could_not_be_measured_is_no_zero_in_json() {
        let json = Figure::absent("storm", "lost", "no gcc").json();
        assert_eq!(json.get("value"), Some(&Value::Null));
        assert_eq!(json.get("absent").and_then(Value::as_str), Some("no gcc"));
    }
}
