//! `observer history` on journals made for it.

use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use clap::Parser;

use super::*;
use observer_core::ProcessKey;

use crate::api::entry::{Entry, Subject};
use crate::cli::paths::JOURNAL_NAME;
use crate::journal::{Journal, JournalOptions, MAX_AGE_DEFAULT, MAX_BYTES_MIN};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    history: HistoryArgs,
}

/// 2026-11-21T08:00:00Z.
const BASE_NS: i64 = 1_795_248_000_000_000_000;

/// An entry `minutes` after [`BASE_NS`].
fn entry(minutes: i64, kind: &str, home: &str, detail: &str) -> Entry {
    let name = home.rsplit('/').next().unwrap_or_default();
    Entry {
        at_unix_ns: BASE_NS + minutes * 60_000_000_000,
        boottime_ns: 1,
        boot_id: "boot".into(),
        kind: kind.into(),
        subject: Some(Subject {
            home: home.into(),
            home_mnt_ns: None,
            uid: Some(1000),
            instance: 1,
            name: name.into(),
            process: ProcessKey::new(u32::try_from(minutes).unwrap() + 100, 1),
        }),
        detail: format!("{{\"kind\":\"{kind}\"{detail}}}"),
    }
}

fn death(kind: &str, rest: &str) -> String {
    format!(r#","comm":"claude","state":"ended","end_reason":"died","death":{{"kind":"{kind}"{rest}}}"#)
}

fn sample() -> Vec<Entry> {
    let live = r#","comm":"claude","state":"live","roots":1"#;
    vec![
        entry(0, "session_started", "/srv/alpha", live),
        entry(1, "session_started", "/srv/beta", live),
        entry(2, "session_changed", "/srv/beta", r#","comm":"claude","state":"live","roots":3"#),
        entry(3, "session_changed", "/srv/beta", r#","comm":"claude","state":"detached","roots":1"#),
        entry(4, "session_ended", "/srv/beta", &death("signaled", r#","signal":9,"signal_name":"SIGKILL""#)),
        entry(5, "session_ended", "/srv/alpha", &death("exited", r#","code":3"#)),
        entry(6, "session_started", "/home/beta", r#","comm":"codex","state":"live","found_at":"x""#),
        entry(7, "process_ended", "/home/beta", &death("oom_killed", "")),
        entry(
            8,
            "session_ended",
            "/home/beta",
            r#","comm":"codex","state":"ended","end_reason":"not_admitted""#,
        ),
        Entry { subject: None, ..entry(9, "gap_closed", "", r#","lost":7,"corrected":2"#) },
    ]
}

/// A journal that holds `entries`.
fn journal(dir: &Path, entries: Vec<Entry>) {
    let journal = Journal::open(JournalOptions {
        path: dir.join(JOURNAL_NAME),
        max_bytes: MAX_BYTES_MIN,
        max_age: MAX_AGE_DEFAULT,
        boot_id: "boot".into(),
        delivers: false,
    })
    .unwrap();
    journal.resume();
    journal.complete(BASE_NS);
    entries.into_iter().for_each(|entry| assert!(journal.push(entry).is_some()));
    // Its end writes what is queued.
}

/// Exit, standard output without styles, standard error.
fn history(dir: &Path, arguments: &[&str]) -> (Exit, String, String) {
    let state_dir = ["history", "--state-dir", dir.to_str().unwrap()];
    let line = Line::parse_from(state_dir.iter().chain(arguments));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = match line.history.print(Path::new("/nonexistent/observer.sock"), &mut out, &mut err, None) {
        Ok(exit) => exit,
        Err(error) => {
            err.extend_from_slice(format!("{error:#}").as_bytes());
            error.downcast_ref::<Failure>().map_or(Exit::Unknown, |failure| failure.exit)
        }
    };
    let out = String::from_utf8(out).unwrap();
    (exit, anstream::adapter::strip_str(&out).to_string(), String::from_utf8(err).unwrap())
}

/// EVENT and what follows, of each row.
fn events(dir: &Path, arguments: &[&str]) -> Vec<String> {
    let (exit, out, err) = history(dir, arguments);
    assert_eq!((exit, err.as_str()), (Exit::Found, ""), "{arguments:?}");
    let mut lines = out.lines();
    assert!(lines.next().is_some_and(|head| head.starts_with("WHEN")), "{out}");
    let words = |line: &str| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    lines.map(words).collect()
}

#[test]
fn the_table_describes_each_entry() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    assert_eq!(
        events(dir.path(), &[]),
        [
            "started alpha 100 claude /srv/alpha",
            "started beta 101 claude /srv/beta",
            "changed beta 102 claude +2 more /srv/beta",
            "detached beta 103 claude /srv/beta",
            "ended beta 104 claude SIGKILL /srv/beta",
            "ended alpha 105 claude exit 3 /srv/alpha",
            "started beta 106 codex found later /home/beta",
            "died beta 107 claude killed for lack of memory; another stands for the home /home/beta",
            "ended beta 108 codex no rule admits it any more /home/beta",
            "healed 7 events lost, 2 corrections",
        ]
    );
}

#[test]
fn removals_with_nothing_shown_in_between_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let live = r#","comm":"claude","state":"live","roots":1"#;
    let removed = |minutes, count| {
        let detail = format!(r#","reason":"retention_size","count":{count}"#);
        Entry { subject: None, ..entry(minutes, "gap", "", &detail) }
    };
    let entries = vec![
        removed(0, 3),
        entry(1, "session_started", "/srv/beta", live),
        removed(2, 5),
        entry(3, "session_started", "/srv/alpha", live),
        removed(4, 1),
    ];
    journal(dir.path(), entries);
    let (alpha, last) = ("started alpha 103 claude /srv/alpha", "missing 1 older entries were removed");
    assert_eq!(events(dir.path(), &["alpha"]), ["missing 8 older entries were removed", alpha, last]);
    let all = ["missing 3 older entries were removed", "started beta 101 claude /srv/beta"];
    assert_eq!(
        events(dir.path(), &[]),
        [&all[..], &["missing 5 older entries were removed", alpha, last]].concat()
    );
}

#[test]
fn a_change_is_described_by_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let changed = |minutes, state: &str, changed: &str| {
        let detail = format!(r#","comm":"vim","state":"{state}","roots":1,"changed":{changed}"#);
        entry(minutes, "session_changed", "/srv/a", &detail)
    };
    let entries = vec![
        changed(0, "live", r#"{"exec_at":["x","y"],"program":["bash","vim"]}"#),
        changed(1, "live", r#"{"cwd":["/srv/a","/srv/a/\\\u001b"]}"#),
        changed(2, "left", r#"{"state":["live","left"],"moved_to":[null,"/x"]}"#),
        changed(3, "detached", r#"{"state":["left","detached"],"tty":["pts/3",null]}"#),
        changed(4, "live", "null"),
        entry(5, "session_changed", "/srv/a", r#","state":"live","roots":2,"changed":{"roots":[1,2]}"#),
    ];
    journal(dir.path(), entries);
    assert_eq!(
        events(dir.path(), &[]),
        [
            "changed a 100 vim exec'd vim /srv/a",
            r"changed a 101 vim in /srv/a/\\\x1b /srv/a",
            "left a 102 vim left for /x /srv/a",
            "detached a 103 vim terminal gone /srv/a",
            "changed a 104 vim /srv/a",
            "changed a 105 roots 1 -> 2, +1 more /srv/a",
        ]
    );
}

#[test]
fn filters_select_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    let pids = |arguments: &[&str]| -> Vec<u32> {
        let rows = events(dir.path(), arguments);
        rows.iter().filter_map(|row| row.split(' ').nth(2)?.parse().ok()).collect()
    };
    assert_eq!(pids(&["alpha"]), [100, 105]);
    assert_eq!(pids(&["/srv/beta"]), [101, 102, 103, 104]);
    assert_eq!(pids(&["/srv/beta///"]), [101, 102, 103, 104]);
    assert_eq!(pids(&["--killed"]), [104, 107]);
    assert_eq!(pids(&["--killed", "/srv/beta"]), [104]);
    assert_eq!(pids(&["--since", "2026-11-21T08:04:00Z"]), [104, 105, 106, 107, 108]);
    assert_eq!(pids(&["--until", "2026-11-21T08:02:00Z"]), [100, 101]);
    let between = ["--since", "2026-11-21T08:01:00Z", "--until", "2026-11-21T08:03:00Z"];
    assert_eq!(pids(&between), [101, 102]);
    // A name that several homes had, but one in that time.
    assert_eq!(pids(&["beta", "--until", "2026-11-21T08:05:00Z"]), [101, 102, 103, 104]);
}

#[test]
fn a_name_of_several_homes_lists_them_and_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    let (exit, out, err) = history(dir.path(), &["beta"]);
    assert_eq!((exit, out.as_str()), (Exit::Ambiguous, ""));
    assert_eq!(err, "observer: 2 homes are called beta; name one:\n  /home/beta\n  /srv/beta\n");
}

#[test]
fn a_home_can_be_named_by_a_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let base = std::fs::canonicalize(dir.path()).unwrap();
    std::fs::create_dir(base.join("home")).unwrap();
    std::os::unix::fs::symlink(base.join("home"), base.join("link")).unwrap();
    let home = base.join("home");
    journal(&base, vec![entry(0, "session_started", home.to_str().unwrap(), "")]);
    assert_eq!(events(&base, &[base.join("link").to_str().unwrap()]).len(), 1);
    // A home that is gone is found as it was.
    std::fs::remove_dir(&home).unwrap();
    assert_eq!(events(&base, &[home.to_str().unwrap()]).len(), 1);
}

#[test]
fn the_exit_code_is_1_where_nothing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), Vec::new());
    let next = "`observer history` shows all it holds\n";
    for (arguments, what) in [
        (&[][..], "nothing in that time"),
        (&["gamma"], "nothing of gamma in that time"),
        (&["--killed"], "nothing that was killed in that time"),
        (&["--json"], "nothing in that time"),
    ] {
        let (exit, out, err) = history(dir.path(), arguments);
        assert_eq!((exit, out.as_str()), (Exit::None, ""), "{arguments:?}");
        assert_eq!(err, format!("observer: the journal holds {what}; {next}"));
    }
    // Gaps alone are shown, and are no session.
    journal(dir.path(), Vec::new());
    let (exit, out, _) = history(dir.path(), &[]);
    assert_eq!(exit, Exit::None);
    assert!(out.contains("missing") && out.contains("observer was stopped"), "{out}");
}

#[test]
fn errors_end_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let (exit, out, err) = history(dir.path(), &[]);
    assert_eq!((exit, out.as_str()), (Exit::Unknown, ""));
    assert!(err.contains("there is no journal") && err.contains("`observer run`"), "{err}");
    let (exit, _, err) = history(dir.path(), &["--since", "1h", "--until", "2h"]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("must be earlier"), "{err}");
    std::fs::write(dir.path().join(JOURNAL_NAME), "no database at all, but some text").unwrap();
    let (exit, out, err) = history(dir.path(), &[]);
    assert_eq!((exit, out.as_str()), (Exit::Unknown, ""));
    assert!(err.contains("cannot read the journal"), "{err}");
}

#[test]
fn json_has_one_object_per_line_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    let (exit, out, err) = history(dir.path(), &["--json", "--killed"]);
    assert_eq!((exit, err.as_str()), (Exit::Found, ""));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = lines.iter().map(|it| (it["event_seq"].as_u64(), it["kind"].as_str())).collect();
    assert_eq!(
        found,
        [(Some(5), Some("session_ended")), (Some(8), Some("process_ended")), (Some(10), Some("gap_closed"))]
    );
    assert!(lines.iter().all(|it| it["stream_id"].as_str().is_some_and(|id| id.len() == 36)));
    assert_eq!(lines[0]["death"]["signal"], 9);
}

#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let home = b"/srv/\x1b[2J\n\xffevil\xe2\x80\xae".to_vec();
    let name = home[5..].to_vec();
    let comm = serde_json::to_string("a\u{1b}]0;owned\u{7}").unwrap();
    let detail = format!(r#","comm":{comm},"state":"\u001b[31mlive","roots":1"#);
    let mut hostile = entry(0, "session_changed", "/srv/x", &detail);
    hostile.subject = hostile.subject.map(|it| Subject { home: home.clone(), name: name.clone(), ..it });
    let unknown = Entry { kind: "new\x1bkind".into(), ..entry(1, "session_changed", "/srv/y", "") };
    journal(dir.path(), vec![hostile, unknown]);
    let (exit, out, _) = history(dir.path(), &[]);
    assert_eq!(exit, Exit::Found);
    assert_eq!(out.lines().count(), 3);
    assert!(out.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{out:?}");
    assert!(out.contains(r"\x1b[2J\n\xffevil\u{202e}"), "{out}");
    // Bytes that are no text are named as bytes.
    let wanted = OsString::from_vec(name);
    let line = Line::parse_from([
        OsString::from("history"),
        "--state-dir".into(),
        dir.path().as_os_str().into(),
        wanted,
    ]);
    let mut out = Vec::new();
    assert_eq!(
        line.history
            .print(Path::new("/nonexistent/observer.sock"), &mut out, &mut Vec::new(), Some(40))
            .unwrap(),
        Exit::Found
    );
    let plain = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
    assert!(plain.lines().all(|line| line.chars().count() <= 40), "{plain}");
}

#[test]
fn times_are_spans_dates_and_rfc_3339() {
    for (text, seconds) in [("90s", 90), (" 24h ", 86_400), ("7d", 604_800), ("1h 30m", 5_400)] {
        let before = clock::realtime_ns();
        let at = i128::from(when(text).unwrap());
        let ago = before - at..=clock::realtime_ns() - at;
        assert!(ago.contains(&(seconds * 1_000_000_000)), "{text}: {ago:?}");
    }
    assert_eq!(when("2026-11-21T08:00:00Z"), Ok(BASE_NS));
    assert_eq!(when("2026-11-21T09:00:00+01:00"), Ok(BASE_NS));
    let midnight = "2026-11-21".parse::<Date>().unwrap().to_zoned(TimeZone::system()).unwrap();
    let midnight = i64::try_from(midnight.timestamp().as_nanosecond()).unwrap();
    assert_eq!(when("2026-11-21"), Ok(midnight));
    assert_eq!(when("2026-11-21T01:00"), Ok(midnight + 3_600_000_000_000));
    for wrong in ["", "yesterday", "-1h", "2026-13-01", "999999999d", "24"] {
        let error = when(wrong).unwrap_err();
        assert!(error.contains("write for instance"), "{wrong}: {error}");
    }
}
