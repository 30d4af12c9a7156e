//! The answer to `status`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use observer_core::session::State;

use super::event_loop::EventLoop;
use super::log_repeats;
use crate::api::status::{
    BlindSpotStatus, ClientCounts, HookStatus, JournalStatus, ScrapeCounts, StatusAnswer, by_kind,
};
use crate::api::words::SessionState;
use crate::clock;
use crate::text::bytes::to_json;
use crate::text::time::span;

impl EventLoop {
    /// Answer to `status`.
    pub(super) fn status(&mut self, sure: bool) -> StatusAnswer {
        let drops = self.kernel.drops_by_kind();
        self.report_drops();
        let events = self.kernel.events_by_kind();
        let counters = self.core.counters();
        let (ring_used_bytes, ring_bytes) = self.kernel.ring_usage();
        let uptime = clock::boottime().since(self.ready_at) / 1_000_000_000;
        let sessions_by_state = self.sessions_by_state();
        let journal = self.journal();
        StatusAnswer {
            head: self.answer_time(sure).head("status"),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime,
            uptime_text: span(uptime),
            config: self.config_path(),
            processes: self.core.process_count() as u64,
            sessions: sessions_by_state.values().sum(),
            sessions_by_state,
            deaths: self.sink.deaths,
            ring_bytes,
            ring_used_bytes,
            events_by_kind: by_kind(&events),
            drops_by_kind: by_kind(&drops),
            throttled_by_kind: by_kind(&self.kernel.throttled_by_kind()),
            preempted_by_kind: by_kind(&self.kernel.preempted_by_kind()),
            undecodable: events.first().copied().unwrap_or(0),
            gaps: counters.gaps,
            resyncs: counters.resyncs,
            passes: self.passes.clone(),
            canary: self.canary.status(self.sink.wall_offset_ns),
            drift_total: counters.drift_total,
            anomalies: self.anomalies(),
            hooks: self.hooks(),
            blind_spots: self.blind_spots(),
            queues: self.queues(),
            behind_us: self.behind.total_ns(clock::boottime()) / 1000,
            starts_counted: self.sink.pace().starts_counted(),
            bpf: self.kernel.run_times(),
            clients: self.clients(),
            scrapes: self.scrapes(),
            log_left_out: log_repeats::left_out(),
            memory_reads: self.memory_reads.counters().clone(),
            mirror: self.mirror.status(&journal),
            journal,
            rss_bytes: rss_bytes(),
            cpu_us: clock::cpu_ns(std::process::id()).unwrap_or(0) / 1000,
        }
    }

    /// Path of the configuration file, for answers.
    pub(super) fn config_path(&self) -> Option<String> {
        self.config.as_ref().map(|path| to_json(path.as_os_str().as_encoded_bytes()).into_owned())
    }

    pub(super) fn sessions_by_state(&self) -> BTreeMap<String, u64> {
        let name = |state: State| SessionState::from(state).as_str().to_owned();
        let mut counts: BTreeMap<_, _> =
            [State::Live, State::Detached, State::Left].map(|state| (name(state), 0)).into();
        for (session, _) in self.core.sessions().filter(|(session, _)| session.state != State::Ended) {
            *counts.entry(name(session.state)).or_default() += 1;
        }
        counts
    }

    fn anomalies(&self) -> BTreeMap<String, u64> {
        let counters = self.core.counters();
        [
            ("orphans", counters.orphans),
            ("duplicate_exits", counters.duplicate_exits),
            ("tombstones_dropped", counters.tombstones_dropped),
            ("suspects_dropped", counters.suspects_dropped),
            ("parents_unresolved", counters.parents_unresolved),
            ("sessions_dropped", counters.sessions_dropped),
            ("candidates_left_out", counters.candidates_left_out),
            ("sessions_left_out", counters.sessions_left_out),
            ("left_unnamed", counters.left_unnamed),
            ("left_uncounted", counters.left_uncounted),
            ("signals_forgotten", counters.signals_forgotten),
            ("kernel_kills_forgotten", counters.kernel_kills_forgotten),
            ("deaths_hurried", counters.deaths_hurried),
            ("births_unrecorded", self.births.unrecorded()),
            ("births_left_out", self.births.left_out()),
            ("owners_refused", self.owners.refused()),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    }

    fn queues(&self) -> BTreeMap<String, u64> {
        [
            ("questions", self.postponed.len()),
            ("memory_reads", self.memory_reads.waiting()),
            ("owner_lookups", self.owners.under_way()),
            ("session_changes", self.sink.pace().waiting() + self.sink.turns.waiting()),
        ]
        .map(|(name, length)| (name.to_owned(), length as u64))
        .into()
    }

    pub(super) fn journal(&self) -> JournalStatus {
        match &self.sink.journal {
            Some(journal) => journal.status(clock::realtime_ns()),
            None => JournalStatus::off(self.journal_off.as_deref().unwrap_or_default()),
        }
    }

    fn hooks(&self) -> Vec<HookStatus> {
        let json = |hook: &crate::kernel::FactSource| HookStatus {
            fact: hook.fact.name().into(),
            source: hook.source.clone(),
            why: hook.why.clone(),
        };
        self.kernel.sources().iter().map(json).collect()
    }

    fn blind_spots(&self) -> Vec<BlindSpotStatus> {
        let json = |spot: &crate::kernel::BlindSpot| BlindSpotStatus {
            fact: spot.fact.name().into(),
            what: spot.what.clone(),
        };
        self.kernel.blind_spots().iter().map(json).collect()
    }

    fn clients(&self) -> ClientCounts {
        ClientCounts {
            connected: self.clients.connected.load(Ordering::Relaxed),
            watching: self.sink.hub.len() as u64,
            accepted: self.clients.accepted.load(Ordering::Relaxed),
            refused: self.clients.refused.load(Ordering::Relaxed),
            dropped: self.clients.dropped.load(Ordering::Relaxed),
            lagged: self.sink.hub.lagged_total(),
            unread_bytes: self.sink.hub.budget().bytes() as u64,
        }
    }

    fn scrapes(&self) -> ScrapeCounts {
        ScrapeCounts {
            answered: self.scrapes.answered.load(Ordering::Relaxed),
            refused: self.scrapes.refused.load(Ordering::Relaxed),
            cut_off: self.scrapes.cut_off.load(Ordering::Relaxed),
        }
    }
}

/// Resident memory of this process, bytes; 0 if the kernel does not report it.
fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // SAFETY: sysconf reads a constant and touches no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(0)
}
