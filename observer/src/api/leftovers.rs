//! The answer to `leftovers`: processes that were born in a session which is over.

use observer_core::Process;
use observer_core::death::{DeathKind, LeftProcesses};
use observer_core::left::{FormerSession, Leftover};
use observer_core::limits::LEFT_KEYS_MAX;
use serde::{Deserialize, Serialize};

use super::Context;
use super::answer::Head;
use super::cost::bytes_of_pages;
use super::key::LifeKey;
use super::left::LeftJson;
use super::process::ProcessJson;
use super::words::DeathCause;
use crate::text::bytes::{Big, Text};
use crate::text::time::rfc3339;

/// Answer to `leftovers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftoversAnswer<'a> {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// A process that was born before this may have been left without being known for it, boot time in ns: a daemon ended
    /// without leaving what it knew of births to the next one. Null: there is none.
    pub births_unknown_until_boottime_ns: Option<Big>,
    /// Live processes that were born in a session which is over, the oldest first.
    pub leftovers: Vec<LeftoverJson<'a>>,
}

impl LeftoversAnswer<'_> {
    /// Whether the process `key` may have left what the answer does not list.
    pub fn may_lack_of(&self, key: &str) -> bool {
        let Some(until) = self.births_unknown_until_boottime_ns else { return false };
        let process = LifeKey::parse(key.as_bytes()).and_then(|key| key.process(&self.head.boot_id));
        process.is_none_or(|process| process.start_boottime.0 < until.0)
    }

    /// Returns what the session left whose primary was `key`, with the memory where that of all these is known.
    pub fn left_by(&self, key: &str) -> LeftJson {
        let left = || self.leftovers.iter().filter(|it| it.session.key == key);
        LeftJson {
            processes: u32::try_from(left().count()).unwrap_or(u32::MAX),
            rss_bytes: left().try_fold(0, |sum: u64, it| Some(sum.saturating_add(it.rss_bytes?))),
            keys: left().take(LEFT_KEYS_MAX).map(|it| it.process.key.clone()).collect(),
        }
    }
}

/// A live process that was born in a session which is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftoverJson<'a> {
    /// The session in which it was born.
    pub session: FormerSessionJson<'a>,
    /// The memory that it has, bytes; null where it is not known.
    pub rss_bytes: Option<u64>,
    /// Whether a session that lives was born below it, as in a multiplexer.
    pub runs_session: bool,
    /// The fields of the process.
    #[serde(flatten)]
    pub process: ProcessJson<'a>,
}

/// A life of a session that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormerSessionJson<'a> {
    /// Raw name.
    pub name: Text<'a>,
    /// Path of the home.
    pub home: Text<'a>,
    /// Mount namespace of the home, where it is not the host's own.
    pub home_mnt_ns: Option<u32>,
    /// Number of the session among those of the user in this home, from 1.
    pub instance: u32,
    /// Real user id of its primary.
    pub uid: u32,
    /// Whether that was another user than the one whose home it is; null where that was not known.
    pub foreign: Option<bool>,
    /// tgid of its primary.
    pub pid: u32,
    /// The life of its primary, as one word.
    pub key: String,
    /// When it ended, RFC 3339.
    pub ended_at: String,
}

/// What a session left whose primary ended a moment before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionLeftJson<'a> {
    /// The session.
    #[serde(flatten)]
    pub session: FormerSessionJson<'a>,
    /// The boot in which it was.
    pub boot_id: Text<'a>,
    /// Start of its primary, ns since boot.
    pub start_boottime_ns: Big,
    /// When it ended, boot time in ns.
    pub ended_boottime_ns: Big,
    /// comm of its primary.
    pub comm: Text<'a>,
    /// The program of its primary, if that is known.
    pub program: Option<Text<'a>>,
    /// How its primary ended.
    pub death_kind: DeathCause,
    /// What still lives of what was born in it.
    pub left: LeftJson,
}

impl<'a> SessionLeftJson<'a> {
    /// The JSON of what `former` left, whose primary was `primary`.
    pub fn new(
        former: &'a FormerSession,
        primary: &'a Process,
        death: DeathKind,
        left: &LeftProcesses,
        context: Context<'a>,
    ) -> Self {
        Self {
            session: FormerSessionJson::new(former, context),
            boot_id: Text::from(context.boot_id.as_bytes()),
            start_boottime_ns: Big(former.primary.start_boottime.0),
            ended_boottime_ns: Big(former.ended_at.0),
            comm: Text::from(primary.comm.as_bytes()),
            program: primary.program.as_deref().map(Text::from),
            death_kind: DeathCause::from(death),
            left: LeftJson::new(left, context.boot_id),
        }
    }
}

impl<'a> LeftoverJson<'a> {
    /// The JSON of `leftover`.
    pub fn new(leftover: &Leftover<'a>, context: Context<'a>) -> Self {
        Self {
            session: FormerSessionJson::new(leftover.former, context),
            rss_bytes: bytes_of_pages(leftover.rss_pages).filter(|&bytes| bytes != 0),
            runs_session: leftover.runs_session,
            process: ProcessJson::new(leftover.process, context),
        }
    }
}

impl<'a> FormerSessionJson<'a> {
    /// The JSON of a session that is over.
    pub fn new(former: &'a FormerSession, context: Context<'_>) -> Self {
        let FormerSession { home, name, foreign, primary, ended_at, wall_offset_ns } = former;
        Self {
            name: Text::from(&**name),
            home: Text::from(&*home.path),
            home_mnt_ns: home.mnt_ns,
            instance: home.instance,
            uid: home.uid,
            foreign: *foreign,
            pid: primary.tgid.0,
            key: LifeKey::of(context.boot_id, *primary).to_string(),
            ended_at: rfc3339(*ended_at, *wall_offset_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_left_may_be_unknown_if_it_began_before_births_were_known() {
        let of = |until: &str, key: &str| {
            let answer = format!(
                r#"{{"boot_id":"7f3e90ab-1234","births_unknown_until_boottime_ns":{until},"leftovers":[]}}"#
            );
            serde_json::from_str::<LeftoversAnswer<'_>>(&answer).unwrap().may_lack_of(key)
        };
        // It began at 0x100_0000, in ns.
        let key = "7f3e90ab-42-1000000";
        assert!(!of("null", key));
        assert!(of("\"16777217\"", key) && !of("\"16777216\"", key));
        assert!(of("\"1\"", "8f3e90ab-42-1000000"), "of another boot, nothing is known");
    }

    #[test]
    fn memory_of_which_a_part_is_not_known_is_not_known() {
        let left = |rows: &str| {
            let answer = format!(r#"{{"leftovers":[{rows}]}}"#);
            let left = serde_json::from_str::<LeftoversAnswer<'_>>(&answer).unwrap().left_by("a-1-1");
            (left.processes, left.rss_bytes, left.keys)
        };
        let row = |of: &str, key: &str, rss: &str| {
            format!(r#"{{"session":{{"key":"{of}"}},"key":"{key}","rss_bytes":{rss}}}"#)
        };
        let (own, unknown) = (row("a-1-1", "a-2-1", "4096"), row("a-1-1", "a-3-1", "null"));
        let other = row("a-9-1", "a-4-1", "null");
        assert_eq!(left(&other), (0, Some(0), vec![]));
        assert_eq!(left(&format!("{own},{other}")), (1, Some(4096), vec!["a-2-1".into()]));
        assert_eq!(left(&format!("{own},{unknown}")), (2, None, vec!["a-2-1".into(), "a-3-1".into()]));
    }
}
