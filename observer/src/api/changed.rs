//! What a change of a session changed: the fields of its JSON that differ, each with its value before and after.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::session::SessionJson;
use super::words::SessionState;
use crate::text::bytes::{Big, Text};

/// A field that differs, without its values: a list, which may be long and hold secrets. In JSON `[null, null]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unshown;

impl Unshown {
    fn when(differs: bool) -> Option<Self> {
        differs.then_some(Self)
    }
}

impl Serialize for Unshown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [(), ()].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Unshown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Declares [`Changed`] and the comparison of each of its fields. `as` names the field of [`SessionJson`].
macro_rules! changed {
    ($($name:ident: $type:ty as $($field:ident).+,)+) => {
        /// The fields of a session's JSON that differ between two moments, as docs/json.md describes them. A field that
        /// does not differ is `None`, and is left out of the JSON.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Changed<'a> {
            $(
                #[doc = concat!("`", stringify!($name), "` before and after.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<[$type; 2]>,
            )+
            /// The starts differ.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub starts: Option<Unshown>,
            /// The other processes of the home differ.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub others: Option<Unshown>,
            /// The arguments differ.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub argv: Option<Unshown>,
        }

        impl<'a> Changed<'a> {
            /// The fields in which `after` differs from `before`. Of the starts only the last is compared.
            pub fn between(before: &SessionJson<'a>, after: &SessionJson<'a>) -> Self {
                Self {
                    $($name: pair(&before.$($field).+, &after.$($field).+),)+
                    starts: Unshown::when(before.starts.last() != after.starts.last()),
                    others: Unshown::when(before.others != after.others),
                    argv: Unshown::when(before.primary.argv != after.primary.argv),
                }
            }
        }

        /// Names of the fields that are compared.
        #[cfg(test)]
        const COMPARED: &[&str] = &[$(stringify!($name),)+ "starts", "others", "argv"];
    };
}

changed! {
    name: Text<'a> as name,
    state: SessionState as state,
    since: String as since,
    roots: u32 as roots,
    stands_in_for: Option<Text<'a>> as stands_in_for,
    wrapper_pid: Option<u32> as wrapper_pid,
    moved_to: Option<Text<'a>> as moved_to,
    home_deleted: bool as home_deleted,
    owner: Option<u32> as owner,
    foreign: Option<bool> as foreign,
    labels: BTreeMap<Cow<'a, str>, Text<'a>> as labels,
    pid: u32 as primary.pid,
    ppid: u32 as primary.ppid,
    start_boottime_ns: Big as primary.start_boottime_ns,
    started_at: String as primary.started_at,
    exec_at: Option<String> as primary.exec_at,
    exec_id: Option<u32> as primary.exec_id,
    comm: Text<'a> as primary.comm,
    program: Option<Text<'a>> as primary.program,
    exe: Option<Text<'a>> as primary.exe,
    exe_deleted: bool as primary.exe_deleted,
    argv_truncated: bool as primary.argv_truncated,
    argv_source: Option<Cow<'a, str>> as primary.argv_source,
    cwd: Option<Text<'a>> as primary.cwd,
    cwd_dev: Option<String> as primary.cwd_dev,
    cwd_ino: Option<Big> as primary.cwd_ino,
    cwd_deleted: bool as primary.cwd_deleted,
    cwd_truncated: bool as primary.cwd_truncated,
    cwd_unreachable: bool as primary.cwd_unreachable,
    mnt_ns: Option<u32> as primary.mnt_ns,
    tty: Option<Text<'a>> as primary.tty,
    tty_dev: Option<String> as primary.tty_dev,
    foreground: Option<bool> as primary.foreground,
    stopped: bool as primary.stopped,
    uid: u32 as primary.uid,
    euid: u32 as primary.euid,
    suid: u32 as primary.suid,
    sid: u32 as primary.sid,
    pgid: u32 as primary.pgid,
    cgroup: Option<Text<'a>> as primary.cgroup,
    unit: Option<Text<'a>> as primary.unit,
    container: Option<Text<'a>> as primary.container,
    pane: Option<Text<'a>> as primary.pane,
    mux: Option<Cow<'a, str>> as primary.mux,
    mux_socket: Option<Text<'a>> as primary.mux_socket,
    pane_stale: bool as primary.pane_stale,
}

fn pair<T: Clone + PartialEq>(before: &T, after: &T) -> Option<[T; 2]> {
    (before != after).then(|| [before.clone(), after.clone()])
}

impl Changed<'_> {
    /// Whether no field differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::process::ProcessJson;

    /// Fields that are not compared: who started the primary, what identifies the session, what is known of its end
    /// only, what only answers have, and what describes the reading.
    const NOT_COMPARED: [&str; 15] = [
        "ancestor_pid",
        "cost",
        "home",
        "home_dir",
        "label_variables",
        "home_mnt_ns",
        "instance",
        "boot_id",
        "key",
        "end_reason",
        "death",
        "tty_input_at",
        "tty_output_at",
        "as_of",
        "certain",
    ];

    fn text(text: &str) -> Text<'_> {
        Text::from(text.as_bytes())
    }

    fn session<'a>() -> SessionJson<'a> {
        let primary = ProcessJson {
            pid: 7,
            cwd: Some(text("/srv/a")),
            argv: Some(vec![text("agent"), text("hunter2")]),
            ..ProcessJson::default()
        };
        SessionJson {
            state: SessionState::Live,
            starts: vec!["1".into(), "2".into()],
            primary,
            ..SessionJson::default()
        }
    }

    #[test]
    fn every_field_of_a_session_is_compared_or_named_as_not_compared() {
        let json = serde_json::to_value(session()).unwrap();
        let fields = json.as_object().unwrap().keys();
        let unknown: Vec<_> = fields
            .filter(|field| !COMPARED.contains(&field.as_str()) && !NOT_COMPARED.contains(&field.as_str()))
            .collect();
        assert_eq!(unknown, Vec::<&String>::new(), "add them to `changed!` above");
        for field in COMPARED.iter().chain(&NOT_COMPARED) {
            assert!(json.get(field).is_some(), "{field} is no field of a session");
        }
    }

    #[test]
    fn only_what_differs_is_there_with_its_values_before_and_after() {
        let before = session();
        let mut after = session();
        assert!(Changed::between(&before, &after).is_empty());
        after.state = SessionState::Left;
        after.moved_to = Some(text("/x\u{1b}"));
        after.primary.cwd = Some(Text::from(&b"/x\xff"[..]));
        after.primary.cwd_ino = Some(Big(u64::MAX));
        let changed = Changed::between(&before, &after);
        let json = serde_json::to_value(&changed).unwrap();
        assert_eq!(
            json,
            json!({"state": ["live", "left"], "moved_to": [null, "/x\u{1b}"], "cwd": ["/srv/a", "/x\u{10feff}"],
                "cwd_ino": [null, "18446744073709551615"]})
        );
        assert_eq!(serde_json::from_value::<Changed<'_>>(json).unwrap(), changed);
    }

    #[test]
    fn lists_differ_without_their_values() {
        let before = session();
        let mut after = session();
        after.primary.argv = Some(vec![text("agent"), text("swordfish")]);
        after.starts.push("3".into());
        let json = serde_json::to_value(Changed::between(&before, &after)).unwrap();
        assert_eq!(json, json!({"argv": [null, null], "starts": [null, null]}));
        let back: Changed<'_> =
            serde_json::from_value(json!({"argv": [["a"], ["b"]], "new": [1, 2]})).unwrap();
        assert_eq!(back, Changed { argv: Some(Unshown), ..Changed::default() }, "of a newer program");
    }

    #[test]
    fn when_a_field_was_read_is_no_difference() {
        let before = session();
        let mut after = session();
        after.primary.as_of.cwd = Some("later".into());
        after.primary.certain = true;
        let json = serde_json::to_value(Changed::between(&before, &after)).unwrap();
        assert_eq!(json, Value::Object(serde_json::Map::new()));
    }
}
