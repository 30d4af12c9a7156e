//! A daemon that starts where its predecessor lost entries.

use std::time::{Duration, Instant};

use observer_core::Settings;
use serde_json::Value;

use super::*;
use crate::journal::tests::options;
use crate::journal::{EntryFilter, Journal, JournalReader};
use crate::text::time::unix_ns;

/// For one thing to come about.
const DEADLINE: Duration = Duration::from_secs(20);
/// Entries that the writer may have been given.
const HANDED_OVER: usize = 600;

fn now_ns() -> i64 {
    i64::try_from(clock::realtime_ns()).unwrap()
}

/// An entry of 2 KB of the session `name` of the user `uid`, which happens now.
fn entry(kind: EntryKind, name: &str, uid: u32) -> Entry {
    let subject = Subject {
        home: format!("/srv/{name}").into_bytes(),
        home_mnt_ns: None,
        uid: Some(uid),
        instance: 1,
        name: name.into(),
        process: ProcessKey::new(7, 1),
    };
    Entry {
        at_unix_ns: now_ns(),
        boottime_ns: 1,
        boot_id: "boot".into(),
        kind,
        subject: Some(subject),
        detail: format!(r#"{{"pad":"{}"}}"#, "x".repeat(2_000)),
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes what waits; everything up to now was pushed.
fn completed(journal: &Journal) {
    until("all is written", || journal.status(0).queued == 0);
    journal.complete(now_ns());
}

/// Fills the queue with ends of sessions of user 8, behind 600 entries that may be with the writer, `first`.
fn fill(journal: &Journal, first: Entry) {
    for n in 0..HANDED_OVER {
        journal.push(entry(EntryKind::SessionChanged, &format!("early{n}"), 9)).seq().unwrap();
    }
    journal.push(first).seq().unwrap();
    while journal.status(0).dropped == 0 {
        journal.push(entry(EntryKind::SessionEnded, "busy", 8));
    }
}

/// The ends that a daemon records which starts with this journal and finds none of its sessions.
fn ends_found(journal: &Journal) -> Vec<(String, DeathJson<'static>)> {
    let resumed = journal.resume().unwrap();
    let resumption = Resumption::new(&resumed, "boot", clock::wall_offset_ns(), Audience::Anyone);
    let core = Core::new(Settings::default());
    let differences = resumption.differences(&core, &PreviousSessions::default());
    let end = |entry: Entry| {
        let name = String::from_utf8(entry.subject.unwrap().name).unwrap();
        let mut json: Value = serde_json::from_str(&entry.detail).unwrap();
        (name, serde_json::from_value(json["death"].take()).unwrap())
    };
    differences.entries.into_iter().map(end).filter(|(name, _)| !name.starts_with("early")).collect()
}

#[test]
fn an_end_that_was_lost_is_dated_from_the_loss_and_not_from_the_stop_of_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(options(dir.path())).unwrap();
    journal.resume();
    for name in ["removed", "lost", "lives"] {
        journal.push(entry(EntryKind::SessionStarted, name, 8)).seq().unwrap();
    }
    completed(&journal);
    // Another connection writes: entries wait.
    let other = rusqlite::Connection::open(journal.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before_ns = now_ns();
    fill(&journal, entry(EntryKind::SessionEnded, "removed", 8));
    assert_eq!(
        journal.push(entry(EntryKind::SessionEnded, "lost", 8)).seq(),
        None,
        "nothing makes room for it"
    );
    // The ends of user 8 are all that takes room.
    assert!(journal.push(entry(EntryKind::SessionStarted, "small", 7)).seq().is_some());
    let after_ns = now_ns();
    other.execute_batch("ROLLBACK").unwrap();
    completed(&journal);
    journal.push(entry(EntryKind::SessionChanged, "lives", 8)).seq().unwrap();
    completed(&journal);
    let stopped_ns = now_ns();
    drop(journal);

    let reader = JournalReader::open(&options(dir.path()).path).unwrap();
    let read = reader.read_after(0, &EntryFilter::default(), usize::MAX, usize::MAX).unwrap();
    let ends = read.iter().filter(|it| it.entry.kind == EntryKind::SessionEnded);
    let ends: Vec<_> = ends.filter_map(|it| Some(it.entry.subject.as_ref()?.name.as_slice())).collect();
    let ended = |name: &str| ends.contains(&name.as_bytes());
    assert!(!ended("removed") && !ended("lost") && ended("busy"));

    let journal = Journal::open(options(dir.path())).unwrap();
    let found = ends_found(&journal);
    let from = |name: &str| {
        let (_, death) = found.iter().find(|(found, _)| found == name).unwrap();
        assert_eq!(death.kind, DeathCause::Unobserved);
        unix_ns(&death.between.as_ref().unwrap()[0]).unwrap()
    };
    // Times are shown to the millisecond.
    let is_from_the_loss = |ns: i64| before_ns - 1_000_000 <= ns && ns <= after_ns;
    assert!(is_from_the_loss(from("removed")), "{found:?}");
    assert!(is_from_the_loss(from("lost")), "{found:?}");
    assert!(from("lives") > after_ns - 1_000_000 && from("lives") <= stopped_ns, "{found:?}");
    // The comparison is made: what the next daemon finds is dated from the end of this one.
    completed(&journal);
    let compared_ns = now_ns();
    completed(&journal);
    drop(journal);
    let journal = Journal::open(options(dir.path())).unwrap();
    let found = ends_found(&journal);
    assert!(found.iter().any(|(name, _)| name == "removed"), "its end was not pushed");
    for (name, death) in found {
        let from_ns = unix_ns(&death.between.unwrap()[0]).unwrap();
        assert!(from_ns >= compared_ns - 1_000_000, "{name}");
    }
}

#[test]
fn what_is_found_of_a_recorded_session_has_no_more_arguments_than_entries_have() {
    let secret = r#"{"argv":["agent","hunter2"],"argv_truncated":false,"argv_source":"exec"}"#;
    for (entries_for, argv) in [
        (Audience::Anyone, r#""argv":["agent"],"argv_truncated":true"#),
        (Audience::Root, r#""argv":["agent","hunter2"],"argv_truncated":false"#),
    ] {
        let live = vec![Entry { detail: secret.into(), ..entry(EntryKind::SessionStarted, "a", 8) }];
        let resumed = Resumed { live, ..Resumed::default() };
        let resumption = Resumption::new(&resumed, "boot", clock::wall_offset_ns(), entries_for);
        let core = Core::new(Settings::default());
        let found = resumption.differences(&core, &PreviousSessions::default()).entries;
        let [end] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(end.kind, EntryKind::SessionEnded);
        assert!(end.detail.contains(argv), "{}", end.detail);
    }
}
