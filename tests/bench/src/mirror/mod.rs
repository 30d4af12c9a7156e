//! What the mirror costs: the real mirror, against a Postgres server of the bench's own.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

pub(crate) mod commit;
pub(crate) mod fleet;
pub(crate) mod outage;
mod server;

use crate::figure::{Figure, Sample};

/// A figure of the percentile that counts.
fn figure(measure: &str, what: impl Into<String>, unit: &str, values: &[f64], percentile: f64) -> Figure {
    Figure::new(measure, what, unit, sample(values, percentile))
}

/// A figure of a value that was taken once.
fn once(measure: &str, what: impl Into<String>, unit: &str, value: f64) -> Figure {
    Figure::new(measure, what, unit, Sample::once(value))
}

/// The percentile that counts. Fails where nothing was measured.
fn sample(values: &[f64], percentile: f64) -> Sample {
    Sample::percentile(values, percentile).expect("at least one value was measured")
}
