//! What a metric is.

use prometheus_client::metrics::MetricType;

use crate::api::status::StatusAnswer;

/// Before the name of each metric.
pub const PREFIX: &str = "observer";

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It counts from the daemon's start; its name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl MetricKind {
    /// The word that Prometheus has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }

    pub(super) fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
        }
    }
}

/// Values of a metric, each with the value of its label; without a label there is one.
pub(super) type Values = Vec<(String, f64)>;

/// A metric, or one for each value of a label. No label has values that users or programs choose.
pub struct Metric {
    /// Its name without [`PREFIX`] and without `_total`.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// The name of its label.
    pub label: Option<&'static str>,
    /// What it is, with its unit. Without a full stop at the end.
    pub help: &'static str,
    pub(super) values: fn(&StatusAnswer) -> Values,
}

impl Metric {
    /// The name under which Prometheus stores it.
    pub fn full_name(&self) -> String {
        let end = if self.kind == MetricKind::Counter { "_total" } else { "" };
        format!("{PREFIX}_{}{end}", self.name)
    }

    /// The same for each value of a label.
    pub(super) const fn by(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }
}

/// A metric that only grows, without a label.
pub(super) const fn counter(
    name: &'static str,
    help: &'static str,
    values: fn(&StatusAnswer) -> Values,
) -> Metric {
    Metric { name, kind: MetricKind::Counter, label: None, help, values }
}

/// A metric that goes up and down, without a label.
pub(super) const fn gauge(
    name: &'static str,
    help: &'static str,
    values: fn(&StatusAnswer) -> Values,
) -> Metric {
    Metric { name, kind: MetricKind::Gauge, label: None, help, values }
}
