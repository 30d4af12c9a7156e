//! The metrics, each with where its values are in the status.

use std::collections::BTreeMap;

use super::metric::{Metric, Values, counter, gauge};
use crate::api::status::StatusAnswer;
use crate::api::words::{CanaryState, DeathCause, JournalState, MirrorState};

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
    counter("cpu_seconds", "CPU time of the daemon, seconds", |status| {
        vec![plain(seconds(status.cpu_us, 1e6))]
    }),
    gauge("processes", "Live processes", |status| one(status.processes)),
    gauge("sessions", "Sessions that have not ended", |status| counts(&status.sessions_by_state)).by("state"),
    counter("session_deaths", "Deaths of sessions' primaries", deaths).by("cause"),
    counter(
        "session_starts_counted",
        "Starts of sessions that were counted and not written one by one, because the session starts again and again",
        |status| one(status.starts_counted),
    ),
    gauge("queue_entries", "What waits, by where it waits", |status| counts(&status.queues)).by("queue"),
    counter(
        "loop_behind_seconds",
        "Time in which records waited because the event loop had others to handle, answered, or read processes",
        |status| vec![plain(seconds(status.behind_us, 1e6))],
    ),
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
    gauge(
        "bpf_stats_enabled",
        "1 if the kernel measures the time of programs (kernel.bpf_stats_enabled)",
        |status| one(u64::from(status.bpf.stats_enabled)),
    ),
    counter(
        "bpf_run_seconds",
        "Time in each kernel program while the kernel measured it, seconds",
        |status| {
            status.bpf.programs.iter().map(|(name, time)| (name.clone(), seconds(time.ns, 1e9))).collect()
        },
    )
    .by("program"),
    counter("bpf_runs", "Runs of each kernel program while the kernel counted them", |status| {
        status.bpf.programs.iter().map(|(name, time)| (name.clone(), time.runs as f64)).collect()
    })
    .by("program"),
    gauge("canary_missing", "1 if the last canary did not come round: the daemon is blind", |status| {
        one(u64::from(status.canary.state == CanaryState::Missing))
    }),
    gauge("canary_unproven", "1 if the last canary could not tell whether events come through", |status| {
        one(u64::from(status.canary.state == CanaryState::Unproven))
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
    gauge("clients_unread_bytes", "Bytes that clients have not read yet", |status| {
        one(status.clients.unread_bytes)
    }),
    counter("scrapes", "Connections that asked for metrics, by what they got", |status| {
        let scrapes = &status.scrapes;
        labelled([("answered", scrapes.answered), ("refused", scrapes.refused), ("cut_off", scrapes.cut_off)])
    })
    .by("result"),
    counter("log_lines_left_out", "Lines of the log that were left out because they repeat", |status| {
        one(status.log_left_out)
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
    counter("journal_files_gone", "Times that somebody deleted or replaced the journal", |status| {
        one(status.journal.files_gone)
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
        "mirror_presence",
        "1 if the database knows this daemon as the host's writer, 0 otherwise",
        |status| {
            let has_mirror = status.mirror.state != MirrorState::Off;
            has_mirror
                .then(|| plain(f64::from(u8::from(status.mirror.generation.is_some()))))
                .into_iter()
                .collect()
        },
    ),
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
