//! Converts entries and sessions from the socket's JSON to columns. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use observer_core::session::Home;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::api::entry::MissingEntries;
use crate::api::words::{EntryKind, GapReason, SessionState};
use crate::text::bytes::{from_json, to_json};

/// Fields of a session's JSON that a row of the state leaves out: what is read for one answer only, what changes without an
/// entry, and what frames add.
const NOT_STATE: [&str; 17] = [
    "ancestor_pid",
    "as_of",
    "at",
    "boottime_ns",
    "certain",
    "changed",
    "cost",
    "event_seq",
    "foreground",
    "found_at",
    "home_dir",
    "kind",
    "label_variables",
    "restarts",
    "stopped",
    "tty_input_at",
    "tty_output_at",
];

/// Which arguments of a process are mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MirroredArgv {
    /// The first, which is the program's name.
    #[default]
    First,
    /// All of them, which may hold secrets.
    All,
}

/// Names of users by uid; `None`: the user has no name.
pub type Usernames = HashMap<u32, Option<String>>;

/// What identifies a session in the database, beside its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionKeys {
    /// Its home and its user.
    #[default]
    HomeAndUser,
    /// Its home alone: sessions of several users in one home share a row. The schema is older than
    /// [`super::schema::REKEYED`], and has such keys.
    Home,
}

/// How entries and sessions become columns.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// Which arguments are kept.
    pub argv: MirroredArgv,
    /// What identifies a session.
    pub keys: SessionKeys,
    /// Names of users.
    pub usernames: &'a Usernames,
}

/// An entry of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Number in its stream, from 1.
    pub seq: u64,
    /// When the cause happened, ns since 1970.
    pub at_unix_ns: i64,
    /// The boot in which it happened, if that is known.
    pub boot_id: Option<Uuid>,
    /// What the entry records.
    pub kind: EntryKind,
    /// Raw path of the home.
    pub home: Option<Vec<u8>>,
    /// Inode number of the home's mount namespace; `None` for the host's own.
    pub home_mnt_ns: Option<u32>,
    /// What identifies the session beside its home; `None`: not known, in entries of earlier versions.
    pub user: Option<UserKey>,
    /// Raw name.
    pub name: Option<Vec<u8>>,
    /// tgid of the primary process.
    pub pid: Option<u32>,
    /// When that process was started, in ns of the boot's clock.
    pub start_boottime_ns: Option<u64>,
    /// JSON object: a change of `watch --json`, or a gap.
    pub detail: String,
}

/// What an entry changes in the state of its home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRow {
    /// Key of the row beside the host.
    pub home_id: Vec<u8>,
    /// Whether the session has ended.
    pub is_ended: bool,
    /// The whole row as JSON; `None`: it stays as it is.
    pub body: Option<String>,
    /// The death that the entry reports, as JSON.
    pub death: Option<String>,
    /// Whether the entry is newer than the state, so that its death is the home's last.
    pub is_last: bool,
}

/// An entry as columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchItem {
    /// Number in its stream.
    pub seq: u64,
    /// When the cause happened, in whole µs.
    pub at: Timestamp,
    /// The boot in which it happened, if that is known.
    pub boot_id: Option<Uuid>,
    /// What the entry records.
    pub kind: EntryKind,
    /// Key of the session, or of the home of an entry that has no session.
    pub home_id: Option<Vec<u8>>,
    /// Path of the home, escaped.
    pub home: Option<String>,
    /// Name of the session, escaped.
    pub name: Option<String>,
    /// tgid of the primary process.
    pub pid: Option<i32>,
    /// When that process was started, in ns of the boot's clock.
    pub start_boottime_ns: Option<i64>,
    /// The whole entry as JSON.
    pub detail: String,
    /// What it changes in the state.
    pub row: Option<SessionRow>,
    /// Whether the map is certain from here on; `None`: as before.
    pub certain: Option<bool>,
    /// Whether the journal lost changes that no entry has: the state has to be read from the map again.
    pub state_lost: bool,
}

/// The key of a session: a hash of its home, whose path is as long as its process likes, while an index is not; then what
/// else identifies it.
pub fn home_id(mnt_ns: Option<u32>, path: &[u8], of_user: Option<UserKey>) -> Vec<u8> {
    let mut hash = Sha256::new();
    // The first byte determines the length of this part: no two homes give the same bytes.
    match mnt_ns {
        Some(ns) => {
            hash.update([1]);
            hash.update(ns.to_be_bytes());
        }
        None => hash.update([0]),
    }
    hash.update(path);
    let mut key = hash.finalize().to_vec();
    if let Some(UserKey { uid, instance }) = of_user {
        key.extend(uid.to_be_bytes());
        if instance > Home::FIRST {
            key.extend(instance.to_be_bytes());
        }
    }
    key
}

/// What identifies a session beside its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserKey {
    /// Real user id.
    pub uid: u32,
    /// Number of the session among those of the user in the home, from 1.
    pub instance: u32,
}

/// Of which home and user a session is.
struct SessionPlace {
    home: Vec<u8>,
    mnt_ns: Option<u32>,
    user: Option<UserKey>,
}

impl SessionPlace {
    /// That of the session that an entry concerns, whose JSON is `fields`; `None` if it concerns none. Entries that an earlier
    /// version wrote have the user in the JSON alone.
    fn of_entry(entry: &HistoryEntry, fields: &Map<String, Value>) -> Option<Self> {
        let home = entry.home.clone()?;
        Some(Self { home, mnt_ns: entry.home_mnt_ns, user: entry.user.or_else(|| UserKey::of_json(fields)) })
    }

    /// That of a session of `list --json`; `None` if it is no session.
    fn of_json(session: &Map<String, Value>) -> Option<Self> {
        let home = from_json(session.get("home")?.as_str()?);
        Some(Self { home, mnt_ns: number(session, "home_mnt_ns"), user: UserKey::of_json(session) })
    }

    fn key(&self, keys: SessionKeys) -> Vec<u8> {
        home_id(self.mnt_ns, &self.home, self.user.filter(|_| keys == SessionKeys::HomeAndUser))
    }
}

impl UserKey {
    fn of_json(session: &Map<String, Value>) -> Option<Self> {
        let instance = number(session, "instance").unwrap_or(Home::FIRST);
        Some(Self { uid: number(session, "uid")?, instance })
    }
}

fn number(session: &Map<String, Value>, field: &str) -> Option<u32> {
    session.get(field)?.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// The user ids in `sessions`, each once.
pub fn uids<'a>(sessions: impl Iterator<Item = &'a str>) -> Vec<u32> {
    #[derive(serde::Deserialize)]
    struct Uid {
        uid: Option<u32>,
    }
    let mut uids: Vec<u32> =
        sessions.filter_map(|json| serde_json::from_str::<Uid>(json).ok()?.uid).collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

/// A session of `list --json` as a row of the state; `None` if it is no session.
pub fn session_row(json: &str, conversion: Conversion<'_>) -> Option<SessionRow> {
    let Ok(Value::Object(session)) = serde_json::from_str(json) else { return None };
    let place = SessionPlace::of_json(&session)?;
    Some(row_of(session, &place, conversion))
}

fn row_of(mut session: Map<String, Value>, place: &SessionPlace, conversion: Conversion<'_>) -> SessionRow {
    for field in NOT_STATE {
        session.remove(field);
    }
    cut_argv(&mut session, conversion.argv);
    let username = place.user.and_then(|user| conversion.usernames.get(&user.uid)).cloned().flatten();
    session.insert("username".into(), username.into());
    let death = session.get("death").filter(|death| death.is_object()).map(Value::to_string);
    SessionRow {
        home_id: place.key(conversion.keys),
        is_ended: session.get("state").is_some_and(|state| state == SessionState::Ended.as_str()),
        body: Some(Value::Object(session).to_string()),
        death,
        is_last: true,
    }
}

/// Removes the arguments that are not mirrored.
fn cut_argv(session: &mut Map<String, Value>, mirrored: MirroredArgv) {
    if mirrored == MirroredArgv::All {
        return;
    }
    let Some(Value::Array(argv)) = session.get_mut("argv") else { return };
    if argv.len() > 1 {
        argv.truncate(1);
        session.insert("argv_truncated".into(), true.into());
    }
}

/// `entry` as columns. The state has the changes up to `state_after` already: their entries are history only.
pub fn batch_item(entry: HistoryEntry, state_after: u64, conversion: Conversion<'_>) -> BatchItem {
    let mut detail = serde_json::from_str::<Value>(&entry.detail).unwrap_or_else(|_| {
        // No daemon writes this; it is kept as a string.
        Value::String(to_json(entry.detail.as_bytes()).into_owned())
    });
    if let Value::Object(fields) = &mut detail {
        fields.remove("event_seq");
        cut_argv(fields, conversion.argv);
    }
    let is_newer = entry.seq > state_after;
    let row = row_change(&entry, &detail, is_newer, conversion);
    add_username(&mut detail, conversion.usernames);
    let home_id = match &row {
        Some(row) => Some(row.home_id.clone()),
        None => entry.home.as_deref().map(|home| home_id(None, home, None)),
    };
    let certain = match entry.kind {
        EntryKind::GapOpened => Some(false),
        EntryKind::GapClosed => Some(true),
        _ => None,
    };
    BatchItem {
        seq: entry.seq,
        at: timestamp(entry.at_unix_ns),
        boot_id: entry.boot_id,
        home_id,
        home: entry.home.as_deref().map(|home| to_json(home).into_owned()),
        name: entry.name.as_deref().map(|name| to_json(name).into_owned()),
        pid: entry.pid.map(u32::cast_signed),
        start_boottime_ns: entry.start_boottime_ns.map(u64::cast_signed),
        detail: detail.to_string(),
        row: row.filter(|row| row.body.is_some() || row.death.is_some()),
        certain: certain.filter(|_| is_newer),
        state_lost: entry.kind == EntryKind::Gap && is_newer,
        kind: entry.kind,
    }
}

/// Adds the name of the user, where it is known: users are renamed and removed, while history stays.
fn add_username(detail: &mut Value, usernames: &Usernames) {
    let Value::Object(fields) = detail else { return };
    let name = number(fields, "uid").and_then(|uid| usernames.get(&uid)?.clone());
    if let Some(name) = name {
        fields.insert("username".into(), name.into());
    }
}

/// What an entry changes in the state of its home.
fn row_change(
    entry: &HistoryEntry,
    detail: &Value,
    is_newer: bool,
    conversion: Conversion<'_>,
) -> Option<SessionRow> {
    let Value::Object(fields) = detail else { return None };
    let is_session = entry.kind.is_session();
    // The primary process ended, and another root takes its place: only the death is of interest.
    if !is_session && entry.kind != EntryKind::ProcessEnded {
        return None;
    }
    let place = SessionPlace::of_entry(entry, fields)?;
    let mut row = row_of(fields.clone(), &place, conversion);
    if !is_session || !is_newer {
        row.body = None;
    }
    row.is_last = is_newer;
    Some(row)
}

/// Since `timestamptz` counts µs, parts of a µs are cut off. Every `i64` of ns is within the range of the type.
fn timestamp(unix_ns: i64) -> Timestamp {
    Timestamp::from_microsecond(unix_ns.div_euclid(1000)).unwrap_or_default()
}

impl BatchItem {
    /// What stands in the place of an entry that the database refuses.
    pub fn as_refused(&self, why: &str) -> Self {
        let missing = MissingEntries {
            from_seq: Some(self.seq),
            to_seq: Some(self.seq),
            count: Some(1),
            reason: GapReason::Rejected,
            message: Some(why.into()),
            ..MissingEntries::default()
        };
        Self {
            kind: EntryKind::Gap,
            home_id: None,
            home: None,
            name: None,
            pid: None,
            start_boottime_ns: None,
            // Strings and numbers only: serializing them into memory cannot fail.
            detail: serde_json::to_string(&missing).unwrap_or_default(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(uid: u32) -> Option<UserKey> {
        Some(UserKey { uid, instance: 1 })
    }

    /// Converts with these arguments and names.
    fn with(argv: MirroredArgv, usernames: &Usernames) -> Conversion<'_> {
        Conversion { argv, keys: SessionKeys::HomeAndUser, usernames }
    }

    /// `entry` as columns, where the state has the changes up to `state_after`.
    fn item(entry: HistoryEntry, state_after: u64) -> BatchItem {
        batch_item(entry, state_after, with(MirroredArgv::First, &Usernames::new()))
    }

    fn started(seq: u64) -> HistoryEntry {
        let detail = json!({"at": "x", "kind": "session_started", "home": "/a\u{10feff}", "name": "a", "pid": 7,
            "argv": ["run", "--token", "hunter2"], "argv_truncated": false, "uid": 5, "as_of": {"cwd": "x"},
            "certain": true, "state": "live", "death": null});
        HistoryEntry {
            seq,
            at_unix_ns: -1_500_000_000,
            kind: EntryKind::SessionStarted,
            home: Some(b"/a\xff".to_vec()),
            user: first(5),
            detail: detail.to_string(),
            pid: Some(7),
            start_boottime_ns: Some(u64::MAX),
            ..HistoryEntry::default()
        }
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_start_is_an_entry_and_a_row_of_the_same_home() {
        let names = Usernames::from([(5, Some("agents".into()))]);
        let item = batch_item(started(3), 2, with(MirroredArgv::First, &names));
        assert_eq!(item.home_id, Some(home_id(None, b"/a\xff", first(5))));
        assert_eq!(item.home.as_deref(), Some("/a\u{10feff}"));
        assert_eq!(item.at, Timestamp::from_microsecond(-1_500_000).unwrap());
        let state = item.row.unwrap();
        assert_eq!(Some(state.home_id), item.home_id);
        assert_eq!(json(&item.detail)["username"], json!("agents"));
        let row = json(&state.body.unwrap());
        assert_eq!(
            row,
            json!({"home": "/a\u{10feff}", "name": "a", "pid": 7, "argv": ["run"], "argv_truncated": true, "uid": 5,
                "username": "agents", "state": "live", "death": null})
        );
    }

    #[test]
    fn the_row_of_an_entry_is_that_of_its_columns_and_of_its_json_where_these_lack_the_user() {
        let key = |entry| item(entry, 0).home_id;
        let of = |mnt_ns, user| Some(home_id(mnt_ns, b"/a\xff", user));
        let second = Some(UserKey { uid: 6, instance: 2 });
        assert_eq!(key(HistoryEntry { user: second, ..started(1) }), of(None, second));
        assert_eq!(key(HistoryEntry { home_mnt_ns: Some(9), ..started(1) }), of(Some(9), first(5)));
        let mut former = HistoryEntry { user: None, ..started(1) };
        assert_eq!(key(former.clone()), of(None, first(5)), "the uid of the JSON");
        former.detail = json!({"home": "/a\u{10feff}", "uid": 6, "instance": 2, "state": "live"}).to_string();
        assert_eq!(key(former), of(None, second));
    }

    #[test]
    fn only_the_first_argument_is_mirrored_unless_all_are_requested() {
        let of = |argv| batch_item(started(1), 0, with(argv, &Usernames::new()));
        let kept = of(MirroredArgv::First);
        assert!(!format!("{kept:?}").contains("hunter2"));
        assert_eq!(json(&kept.detail)["argv"], json!(["run"]));
        let all = of(MirroredArgv::All);
        assert_eq!(json(&all.detail)["argv"], json!(["run", "--token", "hunter2"]));
        assert_eq!(json(&all.detail)["argv_truncated"], json!(false));
    }

    #[test]
    fn an_entry_that_the_state_has_already_changes_only_the_last_death() {
        assert_eq!(item(started(3), 3).row, None);
        let mut ended = started(3);
        ended.kind = EntryKind::SessionEnded;
        ended.detail = json!({"home": "/a", "death": {"kind": "exited"}}).to_string();
        let state = item(ended, 3).row.unwrap();
        assert_eq!((state.body, state.death.as_deref()), (None, Some("{\"kind\":\"exited\"}")));
    }

    #[test]
    fn what_changed_is_in_the_event_and_not_in_the_row() {
        let mut entry = started(3);
        entry.kind = EntryKind::SessionChanged;
        let changed = json!({"state": ["live", "left"], "argv": [null, null]});
        entry.detail =
            json!({"kind": "session_changed", "home": "/a", "state": "left", "changed": changed}).to_string();
        let item = item(entry, 0);
        assert_eq!(json(&item.detail)["changed"], changed);
        assert_eq!(json(&item.detail).get("username"), None, "nobody knows it");
        let row = json(&item.row.unwrap().body.unwrap());
        assert_eq!(row, json!({"home": "/a", "state": "left", "username": null}));
    }

    #[test]
    fn a_gap_requests_the_map_unless_the_state_is_newer() {
        let gap =
            |seq| HistoryEntry { seq, kind: EntryKind::Gap, detail: "{}".into(), ..HistoryEntry::default() };
        let of = |entry| item(entry, 5).state_lost;
        assert!(of(gap(6)));
        assert!(!of(gap(5)));
    }

    #[test]
    fn a_refused_entry_becomes_a_gap_of_the_same_number() {
        let gap = item(started(9), 0).as_refused("SQLSTATE 22P05");
        assert_eq!((gap.seq, gap.kind, gap.home), (9, EntryKind::Gap, None));
        let expected = json!({"from_seq": 9, "to_seq": 9, "count": 1, "reason": "rejected", "from": null, "to": null,
            "previous_stream_id": null, "message": "SQLSTATE 22P05"});
        assert_eq!(json(&gap.detail), expected);
        assert!(gap.row.is_some(), "the row may be acceptable");
    }

    #[test]
    fn keys_differ_by_namespace_path_and_user() {
        let ids = [
            home_id(None, b"/a", None),
            home_id(Some(1), b"/a", None),
            home_id(Some(2), b"/a", None),
            home_id(None, b"\0\0\0\x01/a", None),
            home_id(None, b"/b", None),
            home_id(None, b"/a", first(0)),
            home_id(None, b"/a", first(u32::MAX)),
            home_id(None, b"/a", Some(UserKey { uid: 0, instance: 2 })),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn the_user_stands_behind_the_key_of_the_home() {
        let home = home_id(None, b"/a", None);
        assert_eq!(home.len(), 32);
        assert_eq!(home_id(None, b"/a", first(0x0102_0304)), [home.as_slice(), &[1, 2, 3, 4]].concat());
    }

    #[test]
    fn a_row_without_a_user_or_of_an_older_schema_has_the_key_of_its_home() {
        let home = home_id(None, b"/a", None);
        let names = Usernames::new();
        let of = |json: Value, keys| {
            let conversion = Conversion { argv: MirroredArgv::First, keys, usernames: &names };
            session_row(&json.to_string(), conversion).unwrap().home_id
        };
        let with_uid = |uid: Value| json!({"home": "/a", "uid": uid});
        assert_eq!(of(with_uid(7.into()), SessionKeys::HomeAndUser), home_id(None, b"/a", first(7)));
        assert_eq!(of(with_uid(7.into()), SessionKeys::Home), home);
        for unknown in [Value::Null, "7".into(), (-1).into(), (1_u64 << 32).into()] {
            assert_eq!(of(with_uid(unknown), SessionKeys::HomeAndUser), home);
        }
    }
}
