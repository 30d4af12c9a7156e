//! Answers of the daemon, and of commands that read the kernel without a daemon.

use observer_core::ProcessKey;
use observer_core::audit::{AuditReport, FieldValue};
use serde::{Deserialize, Serialize};

use super::doubt::{UndecidedJson, UndecidedUserJson};
use super::process::ProcessJson;
use super::session::SessionJson;
use crate::text::bytes::{Big, Text};

/// The first fields of every answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// Name of the request.
    pub kind: String,
    /// When the answer was made, RFC 3339.
    pub at: String,
    /// When the answer was made, boot time in ns.
    pub boottime_ns: Big,
    /// The id of this boot.
    pub boot_id: String,
    /// Whether no gap is open and every pass that the answer needed succeeded.
    pub certain: bool,
}

/// Answer to `list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListAnswer<'a> {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// Sessions, by name, then home.
    pub sessions: Vec<SessionJson<'a>>,
    /// Homes of which it is not known whether they have a session.
    pub undecided: Vec<UndecidedJson<'a>>,
    /// Keys of primaries of which it is not known yet whether they are foreign, because the owner of their home is being read.
    pub awaiting_owners: Vec<String>,
    /// For each name of these, the last session that ended and had that name, in another home and of another user than one
    /// of them.
    pub namesakes: Vec<NamesakeJson<'a>>,
    /// Candidates of homes that have no session because their users have as many live ones as they may.
    pub over_limit: Vec<UndecidedJson<'a>>,
    /// The real user ids that have others, too, which `over_limit` does not name.
    pub too_many_sessions: Vec<u32>,
    /// Users who may have sessions of which not even the name is known, each once for each reason.
    pub undecided_users: Vec<UndecidedUserJson>,
}

/// A session that ended, whose name a session of another user has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamesakeJson<'a> {
    /// The name, without the number of an instance.
    pub name: Text<'a>,
    /// Path of the home.
    pub home: Text<'a>,
    /// Mount namespace of the home, where it is not the host's own.
    pub home_mnt_ns: Option<u32>,
    /// Real user id of its last primary.
    pub uid: u32,
    /// When it ended, RFC 3339.
    pub ended_at: String,
}

/// Answer to `processes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessesAnswer<'a> {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// Processes, by pid.
    pub processes: Vec<ProcessJson<'a>>,
}

/// Answer to `audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditAnswer<'a> {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// Processes that were compared.
    pub processes: u64,
    /// Those of them that were in the middle of an exec, so that their comm, user ids and number of execs were not compared.
    pub executing: u64,
    /// Passes that the comparison took.
    pub passes: u32,
    /// The differences that two more comparisons found again.
    pub drift: Vec<DriftJson<'a>>,
}

/// Answer to `reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadAnswer {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// Whether the rules were read and are in force; otherwise the former ones are.
    pub reloaded: bool,
    /// Path of the configuration file; null without one.
    pub config: Option<String>,
    /// Session rules that are in force; null where the former ones stay.
    pub rules: Option<u64>,
    /// Why the rules cannot be used, and what to do; null where they are in force.
    pub error: Option<String>,
}

/// One difference between the map and the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DriftJson<'a> {
    /// tgid.
    pub pid: u32,
    /// Start of the process, boot time in ns: distinguishes processes that had the same pid.
    pub start_boottime_ns: Big,
    /// The field that differs; `process` where one side lacks the process.
    pub field: String,
    /// Value in the map; null: none.
    pub observer: Option<Text<'a>>,
    /// Value in the kernel; null: none.
    pub kernel: Option<Text<'a>>,
}

impl AuditAnswer<'_> {
    /// The answer for what `report` found in `passes` passes.
    pub fn new(head: Head, report: &AuditReport, passes: u32) -> Self {
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
            field: drift.field.name().into(),
            observer: value(&drift.ours),
            kernel: value(&drift.kernel),
        }));
        let (processes, executing) = (report.processes as u64, report.executing.len() as u64);
        Self { head, processes, executing, passes, drift }
    }
}

fn text(text: &str) -> Text<'static> {
    Text::from(text.as_bytes().to_vec())
}

fn value(value: &FieldValue) -> Option<Text<'static>> {
    match value {
        FieldValue::None => None,
        FieldValue::Number(number) => Some(text(&number.to_string())),
        FieldValue::Bytes(bytes) => Some(Text::from(bytes.to_vec())),
        FieldValue::Text(words) => Some(text(words)),
    }
}
