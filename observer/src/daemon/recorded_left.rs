//! What sessions left that ended before the daemon was started again, and births in sessions, as the journal has them.

use std::sync::Arc;

use observer_core::input::KnownLeft;
use observer_core::left::{FormerSession, KnownBirth, Origins};
use observer_core::limits::BIRTHS_KNOWN_MAX;
use observer_core::session::Home;
use observer_core::{BootTime, ProcessKey};
use serde::{Deserialize, Serialize};

use tracing::warn;

use super::birth_history::LostBirths;
use super::event_loop::EventLoop;
use crate::api::death::DeathJson;
use crate::api::entry::Entry;
use crate::api::key::LifeKey;
use crate::api::left::LeftJson;
use crate::clock;
use crate::journal::{BIRTHS_BYTES_MAX, RecordedBirths, Resumed};
use crate::text::bytes::{Big, Text};

/// Where processes were born, as far as the journal tells.
#[derive(Default)]
pub struct RecordedOrigins {
    left: Vec<RecordedLeft>,
    births: Vec<KnownBirth>,
    lost: LostBirths,
}

impl RecordedOrigins {
    /// What `resumed` says at `at` of processes of the boot `boot_id`.
    pub fn new(resumed: &Resumed, at: BootTime, boot_id: &str) -> Self {
        let RecordedBirths { text, unread_bytes, is_missing } = &resumed.births;
        if *unread_bytes > 0 {
            warn!(
                part = "leftovers",
                bytes = unread_bytes,
                "what the daemon before left of births in sessions is not read, because it has {unread_bytes} bytes and at most \
                 {BIRTHS_BYTES_MAX} are: what sessions left that ended before may be missing in `observer leftovers`, and \
                 processes may count for the wrong session"
            );
        }
        let mut origins = parse_origins(text, boot_id);
        if *is_missing || *unread_bytes > 0 {
            origins.lost = origins.lost.after_unrecorded_end(at, boot_id);
        }
        // What the daemon before knew comes first: it is later than every end.
        origins.left.extend(resumed.left.iter().filter_map(|entry| RecordedLeft::new(entry, boot_id)));
        origins
    }

    /// The same, as the core is given it.
    pub fn known(&self) -> (Vec<KnownLeft<'_>>, &[KnownBirth]) {
        (self.left.iter().map(RecordedLeft::known).collect(), &self.births)
    }

    /// What the daemons before lost of births.
    pub fn lost(&self) -> &LostBirths {
        &self.lost
    }
}

/// A session that is over, and what it left.
#[derive(Debug, PartialEq, Eq)]
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
    ended_boottime_ns: Option<Big>,
    left: LeftJson,
    /// Earlier versions told in the certificate what was left.
    death: Option<DeathJson<'a>>,
}

impl RecordedLeft {
    /// `None`: the entry names nothing that was left in the boot `boot_id`.
    fn new(entry: &Entry, boot_id: &str) -> Option<Self> {
        let subject = entry.subject.as_ref().filter(|_| entry.boot_id == boot_id)?;
        let Fields { uid, foreign, ended_boottime_ns, left, death } =
            serde_json::from_str(&entry.detail).ok()?;
        let keys = death.and_then(|death| death.left).unwrap_or(left).keys;
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
            ended_at: BootTime(ended_boottime_ns.map_or(entry.boottime_ns, |at| at.0)),
            wall_offset_ns: entry.at_unix_ns.saturating_sub(entry.boottime_ns.cast_signed()),
            processes: keys.iter().filter_map(|key| process(key, boot_id)).collect(),
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
        let boot_id = &self.sink.boot_id;
        let bytes_max = BIRTHS_BYTES_MAX.saturating_sub(NOTHING_BYTES);
        let origins = self.core.origins(bytes_max, |former| match former {
            Some(former) => session_bytes(former, boot_id),
            None => PROCESS_BYTES,
        });
        let surplus = origins.surplus;
        if surplus > 0 {
            warn!(
                part = "leftovers",
                surplus,
                "the next daemon will not know in which sessions {surplus} processes were born: the journal keeps this of at most \
                 {BIRTHS_KNOWN_MAX} processes, in at most {BIRTHS_BYTES_MAX} bytes"
            );
        }
        let lost = self.births.lost_for_next(clock::boottime(), boot_id, surplus as u64);
        journal.leave_births(origins_text(&origins, lost, boot_id));
    }
}

/// The bytes of the text without processes, at most: boot ids have 36 bytes.
const NOTHING_BYTES: usize = r#"{"left":[],"births":[],"lost":{"boot_id":"","unknown_until_boottime_ns":"18446744073709551615","unrecorded":18446744073709551615,"left_out":18446744073709551615}}"#
    .len()
    + 36;
/// What the text takes for a process at most: the pair of a birth, and a word among those that a session left.
const PROCESS_BYTES: usize = r#"["",""],"#.len() + r#""","#.len() + 3 * WORD_BYTES;
/// The bytes of a process as a word, at most: a boot, a tgid and a start.
const WORD_BYTES: usize = "7f3e90ab-4294967295-ffffffffffffffff".len();

/// What the text takes for a session that is over, without its processes.
fn session_bytes(former: &FormerSession, boot_id: &str) -> usize {
    let json = serde_json::to_string(&left_of(former, &[], boot_id)).unwrap_or_default();
    json.len() + ",".len()
}

/// What a daemon leaves to the next one, as JSON. Processes are words, as everywhere.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct OriginsJson<'a> {
    left: Vec<LeftOfJson<'a>>,
    /// A process, and what it was born below.
    births: Vec<(String, String)>,
    lost: LostBirths,
}

/// A session that is over, with what it left.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct LeftOfJson<'a> {
    home: Text<'a>,
    home_mnt_ns: Option<u32>,
    uid: u32,
    instance: u32,
    name: Text<'a>,
    foreign: Option<bool>,
    primary: String,
    ended_boottime_ns: Big,
    wall_offset_ns: i64,
    processes: Vec<String>,
}

fn word(key: ProcessKey, boot_id: &str) -> String {
    LifeKey::of(boot_id, key).to_string()
}

/// The process of the boot `boot_id` that a word is for.
fn process(word: &str, boot_id: &str) -> Option<ProcessKey> {
    LifeKey::parse(word.as_bytes())?.process(boot_id)
}

/// What is known of births in sessions, and what is `lost`, as text for the next daemon of the boot `boot_id`.
fn origins_text(origins: &Origins<'_>, lost: LostBirths, boot_id: &str) -> String {
    let left = origins.left.iter().map(|(former, processes)| left_of(former, processes, boot_id));
    let births = origins.births.iter().map(|it| (word(it.key, boot_id), word(it.above, boot_id)));
    let json = OriginsJson { left: left.collect(), births: births.collect(), lost };
    // Strings and numbers only: serializing them into memory cannot fail.
    serde_json::to_string(&json).unwrap_or_default()
}

fn left_of<'a>(former: &'a FormerSession, processes: &[ProcessKey], boot_id: &str) -> LeftOfJson<'a> {
    LeftOfJson {
        home: Text::from(&*former.home.path),
        home_mnt_ns: former.home.mnt_ns,
        uid: former.home.uid,
        instance: former.home.instance,
        name: Text::from(&*former.name),
        foreign: former.foreign,
        primary: word(former.primary, boot_id),
        ended_boottime_ns: Big(former.ended_at.0),
        wall_offset_ns: former.wall_offset_ns,
        processes: processes.iter().map(|&key| word(key, boot_id)).collect(),
    }
}

/// What such a text says of processes of the boot `boot_id`.
fn parse_origins(text: &str, boot_id: &str) -> RecordedOrigins {
    let OriginsJson { left, births, lost } = serde_json::from_str(text).unwrap_or_default();
    let left = left.into_iter().take(BIRTHS_KNOWN_MAX).filter_map(|it| {
        let home = Home {
            mnt_ns: it.home_mnt_ns,
            path: Arc::from(it.home.as_bytes()),
            uid: it.uid,
            instance: it.instance,
        };
        Some(RecordedLeft {
            home,
            name: it.name.as_bytes().to_vec(),
            foreign: it.foreign,
            primary: process(&it.primary, boot_id)?,
            ended_at: BootTime(it.ended_boottime_ns.0),
            wall_offset_ns: it.wall_offset_ns,
            processes: it.processes.iter().filter_map(|word| process(word, boot_id)).collect(),
        })
    });
    let birth = |(key, above): &(String, String)| {
        Some(KnownBirth { key: process(key, boot_id)?, above: process(above, boot_id)? })
    };
    let births = births.iter().take(BIRTHS_KNOWN_MAX).filter_map(birth).collect();
    let lost = if lost.boot_id == boot_id { lost } else { LostBirths::default() };
    RecordedOrigins { left: left.collect(), births, lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "7f3e90ab-1234-4567-89ab-cdef01234567";

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey::new(tgid, 0x1a_2b3c_4d5e + u64::from(tgid))
    }

    #[test]
    fn origins_are_read_as_they_were_written_in_the_same_boot_and_nothing_else_is() {
        let births = [(1, 2), (3, 4)].map(|(one, two)| KnownBirth { key: key(one), above: key(two) });
        let path = b"/srv/\xff".as_slice();
        let former = FormerSession {
            home: Arc::new(Home { mnt_ns: Some(7), path: Arc::from(path), uid: 5, instance: 2 }),
            name: Arc::from(&path[5..]),
            foreign: Some(true),
            primary: key(9),
            ended_at: BootTime(u64::MAX),
            wall_offset_ns: -3,
        };
        let origins =
            Origins { births: births.to_vec(), left: vec![(&former, vec![key(5), key(6)])], surplus: 1 };
        let lost = LostBirths { boot_id: BOOT.into(), unrecorded: 3, left_out: 4, ..LostBirths::default() };
        let text = origins_text(&origins, lost.clone(), BOOT);
        let read = parse_origins(&text, BOOT);
        assert_eq!((read.births, read.lost), (births.to_vec(), lost));
        let left = RecordedLeft {
            home: (*former.home).clone(),
            name: vec![0xff],
            foreign: Some(true),
            primary: key(9),
            ended_at: BootTime(u64::MAX),
            wall_offset_ns: -3,
            processes: vec![key(5), key(6)],
        };
        assert_eq!(read.left, [left]);
        for other in [&text.replace("7f3e90ab", "8f3e90ab"), "", "x", "{\"births\":[[\"x\",\"y\"]]}", "[]"] {
            let read = parse_origins(other, BOOT);
            assert_eq!((read.births, read.left), (vec![], vec![]), "{other}");
            assert_eq!(read.lost, LostBirths::default(), "{other}");
        }
    }

    #[test]
    fn what_a_killed_daemon_knew_of_births_is_lost() {
        let lost = |births: RecordedBirths| {
            let resumed = Resumed { births, ..Resumed::default() };
            RecordedOrigins::new(&resumed, BootTime(5), BOOT).lost
        };
        let at_5 = LostBirths::default().after_unrecorded_end(BootTime(5), BOOT);
        assert_eq!(lost(RecordedBirths::default()), LostBirths::default(), "there was none");
        assert_eq!(lost(RecordedBirths { is_missing: true, ..RecordedBirths::default() }), at_5);
        assert_eq!(lost(RecordedBirths { unread_bytes: 1, ..RecordedBirths::default() }), at_5);
        let text = origins_text(&Origins::default(), at_5.clone(), BOOT);
        assert_eq!(lost(RecordedBirths { text, ..RecordedBirths::default() }), at_5, "for good");
    }

    #[test]
    fn the_text_takes_no_more_bytes_than_are_reckoned() {
        let longest = |tgid| ProcessKey::new(u32::MAX - tgid, u64::MAX);
        for byte in [b'a', b'"', 1, 0xff] {
            let path = [b"/srv/".as_slice(), &[byte; 4_000]].concat();
            let former = FormerSession {
                home: Arc::new(Home { mnt_ns: Some(u32::MAX), path: Arc::from(path), uid: 5, instance: 64 }),
                name: Arc::from(vec![byte; 255]),
                foreign: None,
                primary: longest(0),
                ended_at: BootTime(u64::MAX),
                wall_offset_ns: i64::MIN,
            };
            let keys: Vec<ProcessKey> = (1..=40).map(longest).collect();
            let births = keys.iter().map(|&key| KnownBirth { key, above: longest(0) }).collect();
            let left = vec![(&former, keys.clone()), (&former, keys.clone())];
            let lost = LostBirths {
                boot_id: BOOT.into(),
                unknown_until_boottime_ns: Some(Big(u64::MAX)),
                unrecorded: u64::MAX,
                left_out: u64::MAX,
            };
            let text = origins_text(&Origins { births, left, surplus: 0 }, lost, BOOT);
            let reckoned = NOTHING_BYTES + 2 * session_bytes(&former, BOOT) + 80 * PROCESS_BYTES;
            assert!(text.len() <= reckoned, "{} > {reckoned}", text.len());
            let read = parse_origins(&text, BOOT);
            assert_eq!((read.births.len(), read.left.len()), (40, 2));
        }
    }
}
