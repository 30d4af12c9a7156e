//! The answer to `status`, and the parts that the adapters fill in.

use std::collections::BTreeMap;

use observer_common::record::KIND_COUNT;
use serde::{Deserialize, Serialize};

use super::answer::Head;
use super::restarts::DeathCountsJson;
use super::words::{CanaryState, JournalState, MirrorState};

/// The answer to `status`. Counters count from the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusAnswer {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// Version of the daemon's program.
    pub version: String,
    /// The daemon's tgid.
    pub pid: u32,
    /// Seconds since the daemon was ready.
    pub uptime: u64,
    /// The same, for people.
    pub uptime_text: String,
    /// Path of the configuration file; null without one: the built-in rules hold.
    pub config: Option<String>,
    /// Live processes.
    pub processes: u64,
    /// Sessions that have not ended.
    pub sessions: u64,
    /// The same, by their state; each state that a session can have is there.
    pub sessions_by_state: BTreeMap<String, u64>,
    /// Deaths of sessions' primaries, by how they ended.
    pub deaths: DeathCountsJson,
    /// Size of the ring, bytes.
    pub ring_bytes: u64,
    /// Bytes of the ring in use.
    pub ring_used_bytes: u64,
    /// Records received, by kind.
    pub events_by_kind: BTreeMap<String, u64>,
    /// Records lost, by kind; programs that the kernel skipped are included.
    pub drops_by_kind: BTreeMap<String, u64>,
    /// Records replaced by a later pass because the ring was above half full, by kind.
    pub throttled_by_kind: BTreeMap<String, u64>,
    /// Records made by a second program because the kernel skipped the first, in which another task was preempted, by kind.
    pub preempted_by_kind: BTreeMap<String, u64>,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Gaps that were opened.
    pub gaps: u64,
    /// Passes that healed a gap.
    pub resyncs: u64,
    /// Passes run, and those that failed.
    pub passes: PassCounts,
    /// Whether events of the kernel come through.
    pub canary: CanaryStatus,
    /// Differences between the map and the kernel that no loss explains.
    pub drift_total: u64,
    /// Anomalies that the core counted, by name.
    pub anomalies: BTreeMap<String, u64>,
    /// The hooks in use.
    pub hooks: Vec<HookStatus>,
    /// Changes that the hooks do not report.
    pub blind_spots: Vec<BlindSpotStatus>,
    /// What waits, by where it waits.
    pub queues: BTreeMap<String, u64>,
    /// How long records waited because the event loop had others to handle, µs.
    pub behind_us: u64,
    /// Starts of sessions that were counted and not written one by one, because the session starts again and again.
    pub starts_counted: u64,
    /// What the kernel programs took.
    pub bpf: BpfStatus,
    /// Connections of the socket.
    pub clients: ClientCounts,
    /// Connections that ask for metrics.
    pub scrapes: ScrapeCounts,
    /// Lines of the log that were left out because they repeat.
    pub log_left_out: u64,
    /// Readings of argv and environment from memory.
    pub memory_reads: MemoryReadCounts,
    /// The journal.
    pub journal: JournalStatus,
    /// The mirror.
    pub mirror: MirrorStatus,
    /// Resident memory of the daemon, bytes; 0 unknown.
    pub rss_bytes: u64,
    /// CPU time of the daemon, µs.
    pub cpu_us: u64,
}

/// Passes of the task iterator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassCounts {
    /// Passes that were run.
    pub total: u64,
    /// Passes that failed.
    pub failed: u64,
    /// How long the last pass took, µs.
    pub last_us: u64,
}

/// `canary` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CanaryStatus {
    /// Whether the last canary came round.
    pub state: CanaryState,
    /// Time from the start of the last one that came round until the daemon had its death, µs; null: none did.
    pub round_trip_us: Option<u64>,
    /// When the last one came round; null: none did.
    pub last_at: Option<String>,
    /// Since when the daemon is blind: when it was last known to see; null: it is not.
    pub blind_since: Option<String>,
    /// Why the last one did not come round, or could not tell; it ends with the next step.
    pub last_error: Option<String>,
    /// Canaries that came round.
    pub came_round: u64,
    /// Canaries that did not.
    pub missed: u64,
    /// How often one is started, ms.
    pub interval_ms: u64,
    /// Whether the service manager restarts a daemon whose canaries do not come round.
    pub watchdog: bool,
}

/// `bpf` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BpfStatus {
    /// Whether the kernel measures the run time of programs (`kernel.bpf_stats_enabled`).
    pub stats_enabled: bool,
    /// What each program took while it did; empty unless it does.
    pub programs: BTreeMap<String, ProgramTime>,
}

/// What a kernel program took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramTime {
    /// How often it ran.
    pub runs: u64,
    /// For how long, ns.
    pub ns: u64,
}

/// A hook in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookStatus {
    /// The fact that it reports.
    pub fact: String,
    /// Where the fact comes from.
    pub source: String,
    /// Why this source is used and not a better one; empty for the best.
    pub why: String,
}

/// A change that the hooks do not report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlindSpotStatus {
    /// The fact concerned.
    pub fact: String,
    /// What is not reported.
    pub what: String,
}

/// Connections of the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientCounts {
    /// Connections that are open.
    pub connected: u64,
    /// Open connections that watch.
    pub watching: u64,
    /// Connections that were made.
    pub accepted: u64,
    /// Connections refused because there are too many, or because the user has no right.
    pub refused: u64,
    /// Connections dropped because of what the client sent, or because it sent or accepted nothing.
    pub dropped: u64,
    /// How often a watching client was too slow.
    pub lagged: u64,
    /// Bytes that clients have not read yet.
    pub unread_bytes: u64,
}

/// Connections that ask for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrapeCounts {
    /// Those that got metrics.
    pub answered: u64,
    /// Those that got an error.
    pub refused: u64,
    /// Those that were closed before they had sent a request or taken the response.
    pub cut_off: u64,
}

/// Readings of argv and environment from the memory of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryReadCounts {
    /// Readings that were requested.
    pub asked: u64,
    /// Readings that succeeded.
    pub read: u64,
    /// Readings that failed: the process ended, executed another program, or cannot be read.
    pub failed: u64,
    /// Readings of processes that could not be read before.
    pub retried: u64,
    /// Readings that were not tried because too many waited.
    pub overflowed: u64,
    /// Threads that wait for the memory of a process.
    pub stuck: u64,
}

/// `journal` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalStatus {
    /// State of the journal.
    pub state: JournalState,
    /// Why it is failing or off.
    pub last_error: Option<String>,
    /// Path of the file.
    pub path: Option<String>,
    /// Id of the stream.
    pub stream_id: Option<String>,
    /// Number of the newest committed entry; 0: none.
    pub last_seq: u64,
    /// Number of the oldest entry held.
    pub oldest_seq: u64,
    /// Bytes of the file and its write-ahead log.
    pub bytes: u64,
    /// Bound of these bytes.
    pub limit_bytes: u64,
    /// `bytes` of `limit_bytes`, 0 to 1.
    pub utilisation: f64,
    /// Entries that wait for the disk.
    pub queued: u64,
    /// How long the newest commit took from when its first entry was queued, µs; null: none was made.
    pub commit_us: Option<u64>,
    /// Number of the newest entry that the mirror has; 0: none.
    pub delivered: u64,
    /// Age of the oldest committed entry that the mirror lacks; null: none, or no mirror.
    pub oldest_undelivered_ms: Option<u64>,
    /// Failed writes since the last that succeeded.
    pub failures: u64,
    /// Changes lost since the daemon's start because the queue was full or an entry was too large.
    pub dropped: u64,
    /// Entries removed since the daemon's start because a bound was reached.
    pub expired: u64,
    /// How often since the daemon's start somebody deleted or replaced the file or its directory.
    pub files_gone: u64,
}

impl JournalStatus {
    /// The status of a daemon that keeps no journal, and why.
    pub fn off(reason: &str) -> Self {
        Self { state: JournalState::Off, last_error: Some(reason.into()), ..Self::default() }
    }
}

/// `mirror` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorStatus {
    /// State of the mirror.
    pub state: MirrorState,
    /// Age of the oldest committed entry that the database lacks; 0: none; null: no mirror.
    pub lag_ms: Option<u64>,
    /// Committed entries that the database lacks, as far as is known.
    pub pending: u64,
    /// Failed attempts since the last that succeeded.
    pub failures: u64,
    /// The error of the last failure; it ends with the next step where there is one.
    pub last_error: Option<String>,
    /// The fencing token of the host's writer, if this daemon is it; null otherwise.
    pub generation: Option<i64>,
    /// Id of this host in the database.
    pub host_id: Option<String>,
    /// Host and port of the database.
    pub host: Option<String>,
    /// Entries and rows of the state that the database refused, since the daemon's start.
    pub rejected: u64,
    /// Notifications that could not be sent, since the daemon's start.
    pub notify_failures: u64,
    /// Connections made since the daemon's start.
    pub connections: u64,
}

impl MirrorStatus {
    /// The status of a daemon without a mirror; `why` where one was configured.
    pub fn off(why: Option<&str>) -> Self {
        Self { state: MirrorState::Off, last_error: why.map(Into::into), ..Self::default() }
    }

    /// The status of a host's mirror before its first connection.
    pub fn connecting(host_id: uuid::Uuid) -> Self {
        Self { state: MirrorState::Connecting, host_id: Some(host_id.to_string()), ..Self::default() }
    }
}

/// Names of record kinds, in the order of their numbers; 0 is none.
const KINDS: [&str; KIND_COUNT] = [
    "none", "fork", "exec", "exit", "cwd", "comm", "creds", "ids", "cgroup", "hint", "row", "signal",
    "release", "oom",
];

/// Counters by the name of the kind. Kind 0, and rows, which are never in the ring, are left out.
pub fn by_kind(counts: &[u64; KIND_COUNT]) -> BTreeMap<String, u64> {
    let named = KINDS.iter().zip(counts).filter(|(name, _)| !matches!(**name, "none" | "row"));
    named.map(|(name, &count)| ((*name).into(), count)).collect()
}
