//! The daemon's counters as metrics for Prometheus.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::status::StatusAnswer;
use super::words::{CanaryState, DeathCause, JournalState, MirrorState};

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

    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
        }
    }
}

/// Values of a metric, each with the value of its label; without a label there is one.
type Values = Vec<(String, f64)>;

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
    values: fn(&StatusAnswer) -> Values,
}

impl Metric {
    /// The name under which Prometheus stores it.
    pub fn full_name(&self) -> String {
        let end = if self.kind == MetricKind::Counter { "_total" } else { "" };
        format!("{PREFIX}_{}{end}", self.name)
    }
}

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

const fn counter(name: &'static str, help: &'static str, values: fn(&StatusAnswer) -> Values) -> Metric {
    Metric { name, kind: MetricKind::Counter, label: None, help, values }
}

const fn gauge(name: &'static str, help: &'static str, values: fn(&StatusAnswer) -> Values) -> Metric {
    Metric { name, kind: MetricKind::Gauge, label: None, help, values }
}

impl Metric {
    const fn by(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }
}

/// All metrics.
pub const METRICS: &[Metric] = &[
    gauge("build_info", "1; the label has the version of the daemon", |status| {
        vec![(status.version.clone(), 1.0)]
    })
    .by("version"),
    gauge("uptime_seconds", "Seconds since the daemon was ready", |status| one(status.uptime)),
    gauge(
        "certain",
        "1 if the map is what the kernel would say, 0 while a gap is open or the daemon is blind",
        |status| one(u64::from(status.head.certain)),
    ),
    gauge("resident_memory_bytes", "Resident memory of the daemon, bytes", |status| one(status.rss_bytes)),
    gauge("processes", "Live processes", |status| one(status.processes)),
    gauge("sessions", "Sessions that have not ended", |status| counts(&status.sessions_by_state)).by("state"),
    counter("session_deaths", "Deaths of sessions' primaries", deaths).by("cause"),
    gauge("ring_bytes", "Size of the ring, bytes", |status| one(status.ring_bytes)),
    gauge("ring_used_bytes", "Bytes of the ring in use", |status| one(status.ring_used_bytes)),
    counter("records", "Records received from the kernel", |status| counts(&status.events_by_kind))
        .by("kind"),
    counter("records_lost", "Records lost, programs that the kernel skipped included", |status| {
        counts(&status.drops_by_kind)
    })
    .by("kind"),
    counter("records_throttled", "Records left out and replaced by a later reading", |status| {
        counts(&status.throttled_by_kind)
    })
    .by("kind"),
    counter(
        "records_preempted",
        "Records made by a second program, because the kernel skipped the first",
        |status| counts(&status.preempted_by_kind),
    )
    .by("kind"),
    counter("records_undecodable", "Records that could not be decoded", |status| one(status.undecodable)),
    counter("gaps", "Gaps that were opened because records were lost", |status| one(status.gaps)),
    counter("resyncs", "Passes that healed a gap", |status| one(status.resyncs)),
    gauge("canary_missing", "1 if the last canary did not come round: the daemon is blind", |status| {
        one(u64::from(status.canary.state == CanaryState::Missing))
    }),
    gauge("canary_round_trip_seconds", "Seconds that the last canary took that came round", |status| {
        status.canary.round_trip_us.map(|us| plain(seconds(us, 1e6))).into_iter().collect()
    }),
    gauge("canary_interval_seconds", "Seconds from the start of one canary to the next", |status| {
        vec![plain(seconds(status.canary.interval_ms, 1e3))]
    }),
    counter("canaries", "Canaries, by whether they came round", |status| {
        labelled([("came_round", status.canary.came_round), ("missed", status.canary.missed)])
    })
    .by("result"),
    counter("drift", "Differences between map and kernel that no loss explains", |status| {
        one(status.drift_total)
    }),
    counter("passes", "Readings of all processes from the kernel", |status| one(status.passes.total)),
    counter("passes_failed", "Readings of all processes that failed", |status| one(status.passes.failed)),
    gauge("last_pass_seconds", "Duration of the last reading of all processes, seconds", |status| {
        vec![plain(seconds(status.passes.last_us, 1e6))]
    }),
    counter("anomalies", "What the daemon met and does not expect, and bounds that were reached", |status| {
        counts(&status.anomalies)
    })
    .by("what"),
    gauge("blind_spots", "Kinds of change that the hooks of this kernel do not report", |status| {
        let mut by_fact = BTreeMap::<String, u64>::new();
        for spot in &status.blind_spots {
            *by_fact.entry(spot.fact.clone()).or_default() += 1;
        }
        counts(&by_fact)
    })
    .by("fact"),
    gauge("clients", "Open connections of the socket", |status| one(status.clients.connected)),
    gauge("clients_watching", "Open connections that watch", |status| one(status.clients.watching)),
    counter("clients_accepted", "Connections that were made", |status| one(status.clients.accepted)),
    counter("clients_refused", "Connections refused: too many, or without the right", |status| {
        one(status.clients.refused)
    }),
    counter("clients_dropped", "Connections dropped for what the client sent, or did not", |status| {
        one(status.clients.dropped)
    }),
    counter("clients_lagged", "How often a watching client was too slow", |status| {
        one(status.clients.lagged)
    }),
    counter("memory_reads", "Readings of arguments and environment from processes", |status| {
        let reads = &status.memory_reads;
        labelled([("read", reads.read), ("failed", reads.failed), ("overflowed", reads.overflowed)])
    })
    .by("result"),
    gauge("memory_readers_stuck", "Threads that wait for the memory of a process", |status| {
        one(status.memory_reads.stuck)
    }),
    gauge("journal_state", "1 for the state of the journal, 0 for the others", |status| {
        let states = [JournalState::Ok, JournalState::Failing, JournalState::Off];
        labelled(states.map(|state| (state.as_str(), u64::from(state == status.journal.state))))
    })
    .by("state"),
    gauge("journal_bytes", "Bytes of the journal on the disk", |status| one(status.journal.bytes)),
    gauge("journal_limit_bytes", "Bound of the journal's bytes", |status| one(status.journal.limit_bytes)),
    gauge("journal_queued_entries", "Entries that wait for the disk", |status| one(status.journal.queued)),
    gauge("journal_last_entry", "Number of the newest entry", |status| one(status.journal.last_seq)),
    gauge("journal_delivered_entry", "Number of the newest entry that the mirror has", |status| {
        one(status.journal.delivered)
    }),
    gauge(
        "journal_commit_seconds",
        "Seconds from when an entry was queued until it was on the disk",
        |status| status.journal.commit_us.map(|us| plain(seconds(us, 1e6))).into_iter().collect(),
    ),
    gauge("journal_failures_in_a_row", "Failed writes since the last that succeeded", |status| {
        one(status.journal.failures)
    }),
    counter("journal_entries_dropped", "Changes lost: the queue was full, or an entry too large", |status| {
        one(status.journal.dropped)
    }),
    counter("journal_entries_expired", "Entries removed because a bound was reached", |status| {
        one(status.journal.expired)
    }),
    gauge("mirror_state", "1 for the state of the mirror, 0 for the others", |status| {
        let states = [
            MirrorState::Off,
            MirrorState::Waiting,
            MirrorState::Connecting,
            MirrorState::Retrying,
            MirrorState::Stopped,
            MirrorState::CatchingUp,
            MirrorState::Ok,
        ];
        labelled(states.map(|state| (state.as_str(), u64::from(state == status.mirror.state))))
    })
    .by("state"),
    gauge(
        "mirror_lag_seconds",
        "Age of the oldest committed entry that the database lacks, seconds",
        |status| status.mirror.lag_ms.map(|ms| plain(seconds(ms, 1e3))).into_iter().collect(),
    ),
    gauge("mirror_pending_entries", "Committed entries that the database lacks", |status| {
        one(status.mirror.pending)
    }),
    gauge("mirror_failures_in_a_row", "Failed attempts since the last that succeeded", |status| {
        one(status.mirror.failures)
    }),
    counter("mirror_rejected", "Entries and rows that the database refused", |status| {
        one(status.mirror.rejected)
    }),
    counter("mirror_notify_failures", "Notifications that could not be sent", |status| {
        one(status.mirror.notify_failures)
    }),
    counter("mirror_connections", "Connections made to the database", |status| {
        one(status.mirror.connections)
    }),
];

fn deaths(status: &StatusAnswer) -> Values {
    let deaths = &status.deaths;
    labelled([
        (DeathCause::Exited.as_str(), deaths.exited),
        (DeathCause::Signaled.as_str(), deaths.signaled),
        (DeathCause::OomKilled.as_str(), deaths.oom_killed),
        (DeathCause::Unobserved.as_str(), deaths.unobserved),
    ])
}

fn counts(by_name: &BTreeMap<String, u64>) -> Values {
    by_name.iter().map(|(name, &count)| (name.clone(), count as f64)).collect()
}

fn labelled<const N: usize>(values: [(&str, u64); N]) -> Values {
    values.into_iter().map(|(of, value)| (of.to_owned(), value as f64)).collect()
}

fn one(value: u64) -> Values {
    vec![plain(value as f64)]
}

fn plain(value: f64) -> (String, f64) {
    (String::new(), value)
}

fn seconds(value: u64, in_a_second: f64) -> f64 {
    value as f64 / in_a_second
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

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
