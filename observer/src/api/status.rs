//! The answer to `status`, and the parts that the adapters fill in.

use std::collections::BTreeMap;

use observer_common::record::KIND_COUNT;
use serde::{Deserialize, Serialize};

use super::answer::Head;

/// Answer to `status`: counters are since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusAnswer {
    /// First.
    #[serde(flatten)]
    pub head: Head,
    /// Version of the daemon.
    pub version: String,
    /// The daemon's tgid.
    pub pid: u32,
    /// Seconds since the daemon was ready.
    pub uptime: u64,
    /// The same for people.
    pub uptime_text: String,
    /// Live processes.
    pub processes: u64,
    /// Sessions that have not ended.
    pub sessions: u64,
    /// Size of the ring.
    pub ring_bytes: u64,
    /// In use now.
    pub ring_used_bytes: u64,
    /// Records received.
    pub events_by_kind: BTreeMap<String, u64>,
    /// Records lost, programs that the kernel skipped included.
    pub drops_by_kind: BTreeMap<String, u64>,
    /// Records replaced by a re-read because the ring was above half full.
    pub throttled_by_kind: BTreeMap<String, u64>,
    /// Records told by a second program, because the kernel skipped the first while another task was preempted in it.
    pub preempted_by_kind: BTreeMap<String, u64>,
    /// Records that made no sense.
    pub undecodable: u64,
    /// Gaps opened.
    pub gaps: u64,
    /// Healing passes that ended.
    pub resyncs: u64,
    /// PassCounts run, and those that failed.
    pub passes: PassCounts,
    /// Differences that no loss explains.
    pub drift_total: u64,
    /// What the core met, by name.
    pub anomalies: BTreeMap<String, u64>,
    /// Which hook is used for what.
    pub hooks: Vec<HookStatus>,
    /// What they cannot see.
    pub blind_spots: Vec<BlindSpotStatus>,
    /// Connections.
    pub clients: ClientCounts,
    /// Reading argv and environment out of memory.
    pub memory_reads: MemoryReadCounts,
    /// The journal.
    pub journal: JournalStatus,
    /// The mirror.
    pub mirror: MirrorStatus,
    /// Resident memory of the daemon, bytes; 0 unknown.
    pub rss_bytes: u64,
}

/// PassCounts of the task iterator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassCounts {
    /// Run.
    pub total: u64,
    /// Failed.
    pub failed: u64,
    /// How long the last took, µs.
    pub last_us: u64,
}

/// A hook in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookStatus {
    /// The fact.
    pub fact: String,
    /// Where it comes from.
    pub source: String,
    /// Why this and not a better one; empty for the best.
    pub why: String,
}

/// Something unseen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlindSpotStatus {
    /// The fact concerned.
    pub fact: String,
    /// What is not seen.
    pub what: String,
}

/// Connections of the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientCounts {
    /// Now.
    pub connected: u64,
    /// Of those, watching.
    pub watching: u64,
    /// So far.
    pub accepted: u64,
    /// Turned away: too many, or not allowed.
    pub refused: u64,
    /// Dropped for what they sent, or for taking or sending nothing.
    pub dropped: u64,
    /// How often a watcher was too slow.
    pub lagged: u64,
}

/// Reading argv and environment out of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryReadCounts {
    /// Asked for.
    pub asked: u64,
    /// Read.
    pub read: u64,
    /// Gone, exec'd meanwhile or not readable.
    pub failed: u64,
    /// Not tried: too many waited.
    pub overflowed: u64,
    /// Threads that a process's memory keeps waiting.
    pub stuck: u64,
}

/// `journal` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalStatus {
    /// `ok`, `failing` (it is tried again), `off`.
    pub state: String,
    /// Why it is failing or off.
    pub last_error: Option<String>,
    /// The file.
    pub path: Option<String>,
    /// The stream.
    pub stream_id: Option<String>,
    /// Number of the newest committed entry; 0: none.
    pub last_seq: u64,
    /// Number of the oldest entry held.
    pub oldest_seq: u64,
    /// File and write-ahead log.
    pub bytes: u64,
    /// Their bound.
    pub limit_bytes: u64,
    /// `bytes` of `limit_bytes`, 0 to 1.
    pub utilisation: f64,
    /// Entries waiting for the disk.
    pub queued: u64,
    /// How long the newest commit took, from when its first entry was queued, µs; null: none was made.
    pub commit_us: Option<u64>,
    /// Number of the newest entry that the mirror has; 0: none.
    pub delivered: u64,
    /// Age of the oldest committed entry that the mirror lacks; null: none, or no mirror.
    pub oldest_undelivered_ms: Option<u64>,
    /// Failed writes since the last that succeeded.
    pub failures: u64,
    /// Entries lost since the daemon's start, because the queue was full or an entry was refused.
    pub dropped: u64,
    /// Entries removed since the daemon's start, because a bound bit.
    pub expired: u64,
}

impl JournalStatus {
    /// Of a daemon that keeps no journal.
    pub fn off(reason: &str) -> Self {
        Self { state: "off".into(), last_error: Some(reason.into()), ..Self::default() }
    }
}

/// `mirror` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorStatus {
    /// `off`, `waiting` (for the journal), `connecting`, `retrying`, `stopped` (a person has to act), `catching_up`, `ok`.
    pub state: String,
    /// Age of the oldest committed entry that the database lacks; 0: none; null: no mirror.
    pub lag_ms: Option<u64>,
    /// Committed entries that the database lacks, as far as is known.
    pub pending: u64,
    /// Failed attempts since the last that succeeded.
    pub failures: u64,
    /// What the last of them met; ends with the next step where there is one.
    pub last_error: Option<String>,
    /// Which writer of this host the daemon is, by number; null: none now.
    pub generation: Option<i64>,
    /// Who this machine is in the database.
    pub host_id: Option<String>,
    /// Host and port of the database.
    pub host: Option<String>,
    /// Entries and rows that the database refused, since the daemon's start.
    pub rejected: u64,
    /// Hints that could not be given, since the daemon's start.
    pub notify_failures: u64,
    /// Connections made, since the daemon's start.
    pub connections: u64,
}

impl MirrorStatus {
    /// Of a daemon without a mirror; `why` if one was wanted.
    pub fn off(why: Option<&str>) -> Self {
        Self { state: "off".into(), last_error: why.map(Into::into), ..Self::default() }
    }

    /// The status of a host's mirror before its first connection.
    pub fn connecting(host_id: uuid::Uuid) -> Self {
        Self { state: "connecting".into(), host_id: Some(host_id.to_string()), ..Self::default() }
    }
}

/// Names of record kinds, in the order of their numbers; 0 is none.
const KINDS: [&str; KIND_COUNT] =
    ["none", "fork", "exec", "exit", "cwd", "comm", "creds", "ids", "cgroup", "hint", "row"];

/// Counters by kind as an object; kind 0 and rows, which are never in the ring, are left out.
pub fn by_kind(counts: &[u64; KIND_COUNT]) -> BTreeMap<String, u64> {
    let named = KINDS.iter().zip(counts).filter(|(name, _)| !matches!(**name, "none" | "row"));
    named.map(|(name, &count)| ((*name).into(), count)).collect()
}
