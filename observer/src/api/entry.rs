//! An entry of the journal: the columns that its readers need, and one JSON object that they pass on.

use observer_core::ProcessKey;
use serde::{Deserialize, Serialize};

use super::words::{EntryKind, GapReason};
use crate::text::time::unix_rfc3339;

/// A change of a session, or a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When the cause happened, ns since 1970.
    pub at_unix_ns: i64,
    /// The same in boot time; 0 where that is not known.
    pub boottime_ns: u64,
    /// The boot that the boot times belong to.
    pub boot_id: String,
    /// What the entry records.
    pub kind: EntryKind,
    /// The session that it concerns; `None` for gaps.
    pub subject: Option<Subject>,
    /// The JSON object of `watch --json` without `seq` and `event_seq`, serialized when the entry was made.
    pub detail: String,
}

/// The session that an entry concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Raw path of the home.
    pub home: Vec<u8>,
    /// Inode number of the home's mount namespace; `None` for the host's own.
    pub home_mnt_ns: Option<u32>,
    /// Real user id of the primary; `None`: not known, in entries of earlier versions.
    pub uid: Option<u32>,
    /// Number of the session among those of the user in the home, from 1.
    pub instance: u32,
    /// Raw name of the session.
    pub name: Vec<u8>,
    /// The primary, or the process that was primary until it died.
    pub process: ProcessKey,
}

/// An entry with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedEntry {
    /// Number in the stream, from 1. A gap entry covers the numbers before it that are missing.
    pub seq: u64,
    /// The entry.
    pub entry: Entry,
}

/// Fields of an entry of kind [`EntryKind::Gap`]: which entries are missing, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MissingEntries {
    /// First missing number; null where the lost changes had no number.
    pub from_seq: Option<u64>,
    /// Last missing number.
    pub to_seq: Option<u64>,
    /// How many changes were lost; null: not known.
    pub count: Option<u64>,
    /// Why they are missing.
    pub reason: GapReason,
    /// Time of the earliest lost change, RFC 3339.
    pub from: Option<String>,
    /// Time of the latest lost change, RFC 3339.
    pub to: Option<String>,
    /// Id of the stream that this one follows.
    pub previous_stream_id: Option<String>,
    /// An explanation for people.
    pub message: Option<String>,
}

impl Entry {
    /// The entry that records `missing`, dated `at_unix_ns` (ns since 1970).
    pub fn gap(missing: &MissingEntries, at_unix_ns: i64, boottime_ns: u64, boot_id: &str) -> Self {
        #[derive(Serialize)]
        struct Detail<'a> {
            at: Option<String>,
            kind: EntryKind,
            boot_id: &'a str,
            #[serde(flatten)]
            missing: &'a MissingEntries,
        }
        let kind = EntryKind::Gap;
        let detail = Detail { at: unix_rfc3339(at_unix_ns), kind: kind.clone(), boot_id, missing };
        Self {
            at_unix_ns,
            boottime_ns,
            boot_id: boot_id.into(),
            kind,
            subject: None,
            // Strings and numbers only: serializing them into memory cannot fail.
            detail: serde_json::to_string(&detail).unwrap_or_default(),
        }
    }
}
