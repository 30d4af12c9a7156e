//! Entries and sessions as rows: JSON of the socket's shape in, columns out. Pure.

use std::collections::HashMap;

use bytes::{BufMut as _, BytesMut};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::source::Event;
use crate::text::bytes::{from_json, to_json};

/// What a row of the state leaves out of a session's JSON: what was read for one answer only, what changes without
/// an event, and what frames add.
const NOT_STATE: [&str; 10] = [
    "as_of",
    "at",
    "boottime_ns",
    "certain",
    "event_seq",
    "foreground",
    "found_at",
    "kind",
    "tty_input_at",
    "tty_output_at",
];

/// How much of a process is mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// All arguments.
    pub argv: bool,
}

/// Names of users.
pub type Usernames = HashMap<u32, Option<String>>;

/// What an entry does to the row of a home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRow {
    /// The row's key beside the host.
    pub home_id: Vec<u8>,
    /// The whole row as JSON; `None`: it stays as it is.
    pub row: Option<String>,
    /// The death that the entry tells, as JSON.
    pub death: Option<String>,
    /// The entry is newer than the state: its death is the home's last.
    pub is_last: bool,
}

/// An entry, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Number in its stream.
    pub seq: i64,
    /// When the cause happened.
    pub at: Moment,
    /// The boot that it happened in.
    pub boot_id: String,
    /// As in `watch --json`, or `gap`.
    pub kind: String,
    /// Key of the home.
    pub home_id: Option<Vec<u8>>,
    /// Path of the home, escaped.
    pub home: Option<String>,
    /// Name, escaped.
    pub name: Option<String>,
    /// tgid.
    pub pid: Option<i32>,
    /// Which process of that number.
    pub start_boottime_ns: Option<i64>,
    /// JSON.
    pub detail: String,
    /// What it does to the state.
    pub state: Option<StateRow>,
    /// Whether the map is certain from here on, if the entry says so.
    pub certain: Option<bool>,
    /// The journal lost changes that no entry tells: the state has to be taken from the map again.
    pub state_lost: bool,
}

/// The key of a home: its path is as long as its process likes, and an index is not.
pub fn home_id(mnt_ns: Option<u32>, path: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    // The length of this part is fixed by its first byte: no two homes give the same bytes.
    match mnt_ns {
        Some(ns) => {
            hash.update([1]);
            hash.update(ns.to_be_bytes());
        }
        None => hash.update([0]),
    }
    hash.update(path);
    hash.finalize().to_vec()
}

/// The user ids that `sessions` need names for.
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

/// A session of `list --json` as a row; `None` if it is no session.
pub fn state_row(json: &str, shape: Shape, usernames: &Usernames) -> Option<StateRow> {
    let Ok(Value::Object(session)) = serde_json::from_str(json) else { return None };
    row_of(session, shape, usernames)
}

fn row_of(mut session: Map<String, Value>, shape: Shape, usernames: &Usernames) -> Option<StateRow> {
    let home = from_json(session.get("home")?.as_str()?);
    let mnt_ns = session.get("home_mnt_ns").and_then(Value::as_u64).and_then(|ns| u32::try_from(ns).ok());
    for field in NOT_STATE {
        session.remove(field);
    }
    cut_argv(&mut session, shape);
    let uid = session.get("uid").and_then(Value::as_u64).and_then(|uid| u32::try_from(uid).ok());
    let username = uid.and_then(|uid| usernames.get(&uid)).cloned().flatten();
    session.insert("username".into(), username.into());
    let death = session.get("death").filter(|death| death.is_object()).map(Value::to_string);
    Some(StateRow {
        home_id: home_id(mnt_ns, &home),
        row: Some(Value::Object(session).to_string()),
        death,
        is_last: true,
    })
}

/// Leaves of `argv` what may be mirrored: the program's own name.
fn cut_argv(session: &mut Map<String, Value>, shape: Shape) {
    if shape.argv {
        return;
    }
    let Some(Value::Array(argv)) = session.get_mut("argv") else { return };
    if argv.len() > 1 {
        argv.truncate(1);
        session.insert("argv_truncated".into(), true.into());
    }
}

/// `event` as it is written. Changes up to `state_after` are in the state already: history only.
pub fn item(event: Event, state_after: u64, shape: Shape, usernames: &Usernames) -> Item {
    let mut detail = serde_json::from_str::<Value>(&event.detail).unwrap_or_else(|_| {
        // Not written by us; kept as what it is, a string.
        Value::String(to_json(event.detail.as_bytes()).into_owned())
    });
    let is_session = event.kind.starts_with("session_");
    let mut state = None;
    let mut home_key = event.home.as_deref().map(|home| home_id(None, home));
    if let Value::Object(fields) = &mut detail {
        fields.remove("event_seq");
        cut_argv(fields, shape);
        if is_session {
            state = row_of(fields.clone(), shape, usernames);
            home_key = state.as_ref().map(|state| state.home_id.clone()).or(home_key);
        } else if event.kind == "process_ended" {
            // Of a primary whose place another root takes.
            state = row_of(fields.clone(), shape, usernames).map(|row| StateRow { row: None, ..row });
            home_key = state.as_ref().map(|state| state.home_id.clone()).or(home_key);
        }
    }
    let is_state = event.seq > state_after;
    if let Some(row) = state.as_mut().filter(|_| !is_state) {
        (row.row, row.is_last) = (None, false);
    }
    let certain = match event.kind.as_str() {
        "gap_opened" => Some(false),
        "gap_closed" => Some(true),
        _ => None,
    };
    let lost = event.kind == "gap";
    Item {
        seq: event.seq.cast_signed(),
        at: Moment::from_unix_ns(event.at_unix_ns),
        boot_id: event.boot_id,
        kind: event.kind,
        home_id: home_key,
        home: event.home.as_deref().map(|home| to_json(home).into_owned()),
        name: event.name.as_deref().map(|name| to_json(name).into_owned()),
        pid: event.pid.map(u32::cast_signed),
        start_boottime_ns: event.start_boottime_ns.map(u64::cast_signed),
        detail: detail.to_string(),
        state: state.filter(|state| state.row.is_some() || state.death.is_some()),
        certain: certain.filter(|_| is_state),
        state_lost: lost && is_state,
    }
}

impl Item {
    /// In place of an entry that the database refuses.
    pub fn rejected(&self, why: &str) -> Self {
        let detail = json!({"from_seq": self.seq, "to_seq": self.seq, "count": 1, "reason": "rejected", "from": null,
            "to": null, "previous_stream_id": null, "message": why});
        Self {
            kind: "gap".into(),
            home_id: None,
            home: None,
            name: None,
            pid: None,
            start_boottime_ns: None,
            detail: detail.to_string(),
            ..self.clone()
        }
    }
}

/// A `timestamptz`: µs since 2000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(i64);

/// From 1970 to 2000.
const EPOCH_US: i64 = 946_684_800_000_000;

impl Moment {
    /// Of ns since 1970.
    pub fn from_unix_ns(ns: i64) -> Self {
        Self(ns.div_euclid(1000) - EPOCH_US)
    }
}

impl ToSql for Moment {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_i64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(seq: u64) -> Event {
        let detail = json!({"at": "x", "kind": "session_started", "home": "/a\u{10feff}", "name": "a", "pid": 7,
            "argv": ["run", "--token", "hunter2"], "argv_truncated": false, "uid": 5, "as_of": {"cwd": "x"},
            "certain": true, "state": "live", "death": null});
        Event {
            seq,
            at_unix_ns: -1_500_000_000,
            kind: "session_started".into(),
            home: Some(b"/a\xff".to_vec()),
            detail: detail.to_string(),
            pid: Some(7),
            start_boottime_ns: Some(u64::MAX),
            ..Event::default()
        }
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_start_is_an_event_and_a_row_of_the_same_home() {
        let names = Usernames::from([(5, Some("agents".into()))]);
        let item = item(started(3), 2, Shape::default(), &names);
        assert_eq!(item.home_id, Some(home_id(None, b"/a\xff")));
        assert_eq!(item.home.as_deref(), Some("/a\u{10feff}"));
        assert_eq!(item.at, Moment(-EPOCH_US - 1_500_000));
        let state = item.state.unwrap();
        assert_eq!(Some(state.home_id), item.home_id);
        let row = json(&state.row.unwrap());
        assert_eq!(
            row,
            json!({"home": "/a\u{10feff}", "name": "a", "pid": 7, "argv": ["run"], "argv_truncated": true, "uid": 5,
                "username": "agents", "state": "live", "death": null})
        );
    }

    #[test]
    fn arguments_stay_here_unless_they_are_asked_for() {
        let of = |argv| item(started(1), 0, Shape { argv }, &Usernames::new());
        let kept = of(false);
        assert!(!format!("{kept:?}").contains("hunter2"));
        assert_eq!(json(&kept.detail)["argv"], json!(["run"]));
        let all = of(true);
        assert_eq!(json(&all.detail)["argv"], json!(["run", "--token", "hunter2"]));
        assert_eq!(json(&all.detail)["argv_truncated"], json!(false));
    }

    #[test]
    fn what_the_state_has_already_is_history_only_but_for_its_death() {
        assert_eq!(item(started(3), 3, Shape::default(), &Usernames::new()).state, None);
        let mut ended = started(3);
        ended.kind = "session_ended".into();
        ended.detail = json!({"home": "/a", "death": {"kind": "exited"}}).to_string();
        let state = item(ended, 3, Shape::default(), &Usernames::new()).state.unwrap();
        assert_eq!((state.row, state.death.as_deref()), (None, Some("{\"kind\":\"exited\"}")));
    }

    #[test]
    fn a_loss_asks_for_the_map_again_unless_that_is_newer() {
        let gap = |seq| Event { seq, kind: "gap".into(), detail: "{}".into(), ..Event::default() };
        let of = |event| item(event, 5, Shape::default(), &Usernames::new()).state_lost;
        assert!(of(gap(6)));
        assert!(!of(gap(5)));
    }

    #[test]
    fn a_rejected_entry_becomes_a_gap_of_the_same_number() {
        let gap = item(started(9), 0, Shape::default(), &Usernames::new()).rejected("SQLSTATE 22P05");
        assert_eq!((gap.seq, gap.kind.as_str(), gap.home), (9, "gap", None));
        let detail = json(&gap.detail);
        assert_eq!(detail["reason"], json!("rejected"));
        assert_eq!(
            (&detail["from_seq"], &detail["to_seq"], &detail["count"]),
            (&json!(9), &json!(9), &json!(1))
        );
        assert!(gap.state.is_some(), "the row may be all right");
    }

    #[test]
    fn homes_differ_by_namespace_and_path() {
        let ids = [
            home_id(None, b"/a"),
            home_id(Some(1), b"/a"),
            home_id(Some(2), b"/a"),
            home_id(None, b"\0\0\0\x01/a"),
            home_id(None, b"/b"),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
