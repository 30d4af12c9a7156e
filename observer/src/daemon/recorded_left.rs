//! What sessions left that ended before the daemon was started again, and births in sessions, as the journal has them.

use std::sync::Arc;

use observer_core::input::{KnownBirth, KnownLeft};
use observer_core::limits::BIRTHS_KNOWN_MAX;
use observer_core::session::Home;
use observer_core::{BootTime, ProcessKey};
use serde::Deserialize;

use tracing::warn;

use super::event_loop::EventLoop;
use crate::api::death::DeathJson;
use crate::api::entry::Entry;
use crate::api::key::LifeKey;
use crate::journal::Resumed;

/// Where processes were born, as far as the journal tells.
pub struct RecordedOrigins {
    left: Vec<RecordedLeft>,
    births: Vec<KnownBirth>,
}

impl RecordedOrigins {
    /// What `resumed` says of processes of the boot `boot_id`.
    pub fn new(resumed: &Resumed, boot_id: &str) -> Self {
        let left = resumed.left.iter().filter_map(|entry| RecordedLeft::new(entry, boot_id)).collect();
        Self { left, births: parse_births(&resumed.births, boot_id) }
    }

    /// The same, as the core is given it.
    pub fn known(&self) -> (Vec<KnownLeft<'_>>, &[KnownBirth]) {
        (self.left.iter().map(RecordedLeft::known).collect(), &self.births)
    }
}

/// What the end of a session, or of a primary that another process replaced, names.
struct RecordedLeft {
    home: Home,
    name: Vec<u8>,
    foreign: Option<bool>,
    primary: ProcessKey,
    ended_at: BootTime,
    wall_offset_ns: i64,
    processes: Vec<ProcessKey>,
}

/// The fields of the entry that matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    uid: u32,
    foreign: Option<bool>,
    death: Option<DeathJson<'a>>,
}

impl RecordedLeft {
    /// `None`: the entry names nothing that was left in the boot `boot_id`.
    fn new(entry: &Entry, boot_id: &str) -> Option<Self> {
        let subject = entry.subject.as_ref().filter(|_| entry.boot_id == boot_id)?;
        let Fields { uid, foreign, death } = serde_json::from_str(&entry.detail).ok()?;
        let keys = death?.left?.keys;
        let process = |key: &String| LifeKey::parse(key.as_bytes())?.process(boot_id);
        let home = Home {
            mnt_ns: subject.home_mnt_ns,
            path: Arc::from(subject.home.as_slice()),
            uid: subject.uid.unwrap_or(uid),
            instance: subject.instance,
        };
        Some(Self {
            home,
            name: subject.name.clone(),
            foreign,
            primary: subject.process,
            ended_at: BootTime(entry.boottime_ns),
            wall_offset_ns: entry.at_unix_ns.saturating_sub(entry.boottime_ns.cast_signed()),
            processes: keys.iter().filter_map(process).collect(),
        })
    }

    /// The same, as the core is given it.
    fn known(&self) -> KnownLeft<'_> {
        KnownLeft {
            home: &self.home,
            name: &self.name,
            foreign: self.foreign,
            primary: self.primary,
            ended_at: self.ended_at,
            wall_offset_ns: self.wall_offset_ns,
            processes: &self.processes,
        }
    }
}

impl EventLoop {
    /// Leaves to the next daemon what the kernel will not tell it of births in sessions.
    pub(super) fn leave_births(&self) {
        let Some(journal) = &self.sink.journal else { return };
        let (births, surplus) = self.core.births();
        if surplus > 0 {
            warn!(
                surplus,
                "of {surplus} processes in sessions, the next daemon will not know where they were born; it knows {}",
                births.len()
            );
        }
        journal.leave_births(births_text(&births, &self.sink.boot_id));
    }
}

/// Births in sessions as text for the next daemon of the boot `boot_id`: on each line the keys of a process and of what it was
/// born below.
fn births_text(births: &[KnownBirth], boot_id: &str) -> String {
    let word = |key: ProcessKey| LifeKey::of(boot_id, key).to_string();
    births.iter().map(|birth| format!("{} {}\n", word(birth.key), word(birth.above))).collect()
}

/// The births of the boot `boot_id` in such a text.
fn parse_births(text: &str, boot_id: &str) -> Vec<KnownBirth> {
    let process = |word: &str| LifeKey::parse(word.as_bytes())?.process(boot_id);
    let birth = |line: &str| {
        let (key, above) = line.split_once(' ')?;
        Some(KnownBirth { key: process(key)?, above: process(above)? })
    };
    text.lines().take(BIRTHS_KNOWN_MAX).filter_map(birth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_are_read_as_they_were_written_in_the_same_boot_and_nothing_else_is() {
        let (boot, other) = ("7f3e90ab-1234-4567-89ab-cdef01234567", "8f3e90ab-1234-4567-89ab-cdef01234567");
        let key = |tgid: u32| ProcessKey::new(tgid, 0x1a_2b3c_4d5e + u64::from(tgid));
        let births = [(1, 2), (3, 4)].map(|(one, two)| KnownBirth { key: key(one), above: key(two) });
        let text = births_text(&births, boot);
        assert_eq!(parse_births(&text, boot), births);
        assert_eq!(parse_births(&text, other), []);
        let damaged = format!("x\n7f3e90ab-1 7f3e90ab-2\n\n{text}7f3e90ab-1-1a2b3c4d5e");
        assert_eq!(parse_births(&damaged, boot), births);
    }
}
