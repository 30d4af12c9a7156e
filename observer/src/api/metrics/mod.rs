//! The daemon's counters as metrics for Prometheus.

pub mod metric;
pub mod table;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use self::metric::{MetricKind, PREFIX};
use self::table::METRICS;
use super::status::StatusAnswer;

/// Returns the metrics in Prometheus' text format.
///
/// # Errors
///
/// None is expected: it is text in memory.
pub fn text(status: &StatusAnswer) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(StatusMetrics(status.clone())));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct StatusMetrics(StatusAnswer);

impl Collector for StatusMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let values = (metric.values)(&self.0);
            if values.is_empty() {
                continue;
            }
            let mut family =
                encoder.encode_descriptor(metric.name, metric.help, None, metric.kind.metric_type())?;
            for (of, value) in values {
                match metric.label {
                    Some(label) => {
                        let labels = [(label, of.as_str())];
                        encode_value(&mut family.encode_family(&labels)?, metric.kind, value)?;
                    }
                    None => encode_value(&mut family, metric.kind, value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder<'_>, kind: MetricKind, value: f64) -> fmt::Result {
    match kind {
        MetricKind::Counter => encoder.encode_counter::<[(&str, &str); 0], f64, f64>(&value, None),
        MetricKind::Gauge => encoder.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::metric::Metric;
    use super::*;
    use crate::api::words::JournalState;

    fn is_word(text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !text.starts_with('_')
    }

    #[test]
    fn names_are_distinct_and_as_prometheus_wants_them() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} is there twice", metric.name);
            assert!(is_word(metric.name) && metric.label.is_none_or(is_word), "{}", metric.name);
            assert!(!metric.name.ends_with("_total") && !metric.help.ends_with('.'), "{}", metric.name);
            assert!(
                !metric.name.ends_with("_ms") && !metric.name.ends_with("_us"),
                "not in seconds: {}",
                metric.name
            );
        }
    }

    #[test]
    fn each_value_has_a_line_with_its_unit_and_labels() {
        let mut status = StatusAnswer { version: "1.2".into(), ..StatusAnswer::default() };
        status.head.certain = true;
        status.events_by_kind = [("fork".to_owned(), 7)].into();
        status.sessions_by_state = [("live".to_owned(), 3), ("left".to_owned(), 0)].into();
        status.deaths.oom_killed = 2;
        status.passes.last_us = 1500;
        status.journal.state = JournalState::Failing;
        status.mirror.lag_ms = Some(250);
        let text = text(&status).unwrap();
        for line in [
            "# HELP observer_build_info 1; the label has the version of the daemon",
            "# TYPE observer_records_total counter",
            "# TYPE observer_sessions gauge",
            "observer_build_info{version=\"1.2\"} 1.0",
            "observer_certain 1.0",
            "observer_records_total{kind=\"fork\"} 7.0",
            "observer_sessions{state=\"live\"} 3.0",
            "observer_sessions{state=\"left\"} 0.0",
            "observer_session_deaths_total{cause=\"oom_killed\"} 2.0",
            "observer_last_pass_seconds 0.0015",
            "observer_journal_state{state=\"failing\"} 1.0",
            "observer_journal_state{state=\"ok\"} 0.0",
            "observer_mirror_lag_seconds 0.25",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("observer_journal_commit_seconds"), "nothing was committed:\n{text}");
    }

    #[test]
    fn docs_list_the_metrics() {
        let row = |metric: &Metric| {
            let label = metric.label.map_or(String::new(), |label| format!("`{label}`"));
            format!("| `{}` | {} | {label} | {} |\n", metric.full_name(), metric.kind.as_str(), metric.help)
        };
        let table: String = METRICS.iter().map(row).collect();
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains(&table), "docs/metrics.md should have\n{table}");
    }
}
