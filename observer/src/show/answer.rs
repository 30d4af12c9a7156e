//! Answers of the daemon, and of the commands that look for themselves.

use std::collections::BTreeMap;

use observer_common::record::KIND_COUNT;
use observer_core::ProcessKey;
use observer_core::audit::{Report, Value};
use serde::{Deserialize, Serialize};

use super::bytes::{Big, Text};
use super::process::ProcessJson;
use super::session::SessionJson;

/// What every answer says first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// The request's name.
    pub kind: String,
    /// When.
    pub at: String,
    /// The same in boot time.
    pub boottime_ns: Big,
    /// This boot.
    pub boot_id: String,
    /// No gap is open and every reading of the kernel that the answer needed succeeded.
    pub certain: bool,
}

/// Answer to `list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListAnswer<'a> {
    /// First.
    #[serde(flatten)]
    pub head: Head,
    /// By name, then home.
    pub sessions: Vec<SessionJson<'a>>,
}

/// Answer to `processes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessesAnswer<'a> {
    /// First.
    #[serde(flatten)]
    pub head: Head,
    /// By pid.
    pub processes: Vec<ProcessJson<'a>>,
}

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
    /// Records that made no sense.
    pub undecodable: u64,
    /// Gaps opened.
    pub gaps: u64,
    /// Healing passes that ended.
    pub resyncs: u64,
    /// Passes run, and those that failed.
    pub passes: Passes,
    /// Differences that no loss explains.
    pub drift_total: u64,
    /// What the core met, by name.
    pub anomalies: BTreeMap<String, u64>,
    /// Which hook is used for what.
    pub hooks: Vec<HookJson>,
    /// What they cannot see.
    pub blind_spots: Vec<BlindSpotJson>,
    /// Connections.
    pub clients: Clients,
    /// Reading argv and environment out of memory.
    pub memory_reads: MemoryReads,
    /// The journal.
    pub journal: crate::journal::Status,
    /// The mirror.
    pub mirror: crate::postgres::status::Status,
    /// Resident memory of the daemon, bytes; 0 unknown.
    pub rss_bytes: u64,
}

/// Passes of the task iterator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passes {
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
pub struct HookJson {
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
pub struct BlindSpotJson {
    /// The fact concerned.
    pub fact: String,
    /// What is not seen.
    pub what: String,
}

/// Connections of the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clients {
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
pub struct MemoryReads {
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

/// Answer to `audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditAnswer<'a> {
    /// First.
    #[serde(flatten)]
    pub head: Head,
    /// Processes compared.
    pub processes: u64,
    /// Passes that it took.
    pub passes: u32,
    /// What differs, and differed again when looked at twice more.
    pub drift: Vec<DriftJson<'a>>,
}

/// One difference between the map and the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DriftJson<'a> {
    /// tgid.
    pub pid: u32,
    /// Which of the processes that had this pid.
    pub start_boottime_ns: Big,
    /// The field; `process` where one side lacks the process.
    pub field: String,
    /// The map's value; null: none.
    pub observer: Option<Text<'a>>,
    /// The kernel's; null: none.
    pub kernel: Option<Text<'a>>,
}

impl AuditAnswer<'_> {
    /// What `report` found in `passes` passes.
    pub fn new(head: Head, report: &Report, passes: u32) -> Self {
        let side = |key: &ProcessKey, observer: Option<&str>, kernel: Option<&str>| DriftJson {
            pid: key.tgid.0,
            start_boottime_ns: Big(key.start_boottime.0),
            field: "process".into(),
            observer: observer.map(text),
            kernel: kernel.map(text),
        };
        let mut drift: Vec<_> = report.missing.iter().map(|key| side(key, None, Some("alive"))).collect();
        drift.extend(report.surplus.iter().map(|key| side(key, Some("alive"), None)));
        drift.extend(report.drift.iter().map(|drift| DriftJson {
            pid: drift.key.tgid.0,
            start_boottime_ns: Big(drift.key.start_boottime.0),
            field: drift.field.into(),
            observer: value(&drift.ours),
            kernel: value(&drift.kernel),
        }));
        Self { head, processes: report.processes as u64, passes, drift }
    }
}

fn text(text: &str) -> Text<'static> {
    Text::from(text.as_bytes().to_vec())
}

fn value(value: &Value) -> Option<Text<'static>> {
    match value {
        Value::None => None,
        Value::Number(number) => Some(text(&number.to_string())),
        Value::Bytes(bytes) => Some(Text::from(bytes.to_vec())),
        Value::Text(words) => Some(text(words)),
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
