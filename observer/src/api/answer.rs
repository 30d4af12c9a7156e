//! Answers of the daemon, and of the commands that look for themselves.

use observer_core::ProcessKey;
use observer_core::audit::{AuditReport, FieldValue};
use serde::{Deserialize, Serialize};

use super::process::ProcessJson;
use super::session::SessionJson;
use crate::text::bytes::{Big, Text};

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

fn value(value: &FieldValue) -> Option<Text<'static>> {
    match value {
        FieldValue::None => None,
        FieldValue::Number(number) => Some(text(&number.to_string())),
        FieldValue::Bytes(bytes) => Some(Text::from(bytes.to_vec())),
        FieldValue::Text(words) => Some(text(words)),
    }
}
