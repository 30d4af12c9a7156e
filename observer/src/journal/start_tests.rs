//! A journal that is opened after another, or at a path that cannot be written.

use std::fs;
use std::path::Path;

use observer_core::ProcessKey;
use observer_harness::skip;

use super::crash_tests::{is_root, on_a_small_disk};
use super::lock::{DirectoryLock, Watermark};
use super::tests::{all, assert_dense, begun, committed, entry, gap, options, until};
use super::*;
use crate::api::entry::{Entry, Subject};
use crate::api::words::EntryKind;
use crate::clock;

/// A session's entry, of the home `/srv/NAME`.
fn session(kind: &str, name: &str, n: u64) -> Entry {
    let subject = Subject {
        home: format!("/srv/{name}").into_bytes(),
        home_mnt_ns: None,
        uid: Some(1000),
        instance: 1,
        name: name.into(),
        process: ProcessKey::new(7, u64::MAX),
    };
    Entry { kind: kind.into(), subject: Some(subject), ..entry(n) }
}

/// The sessions that live according to a journal that is opened now: names and details, by home.
fn live(options: JournalOptions) -> Vec<(String, String)> {
    let journal = Journal::open(options).unwrap();
    let live = journal.resume().unwrap().live;
    live.into_iter().map(|it| (String::from_utf8(it.subject.unwrap().name).unwrap(), it.detail)).collect()
}

#[test]
fn the_next_daemon_knows_the_sessions_that_live_according_to_the_entries() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let mut other = session("session_started", "b", 3);
    other.subject = other.subject.map(|it| Subject { home_mnt_ns: Some(5), ..it });
    let mut of_root = session("session_started", "b", 4);
    of_root.subject = of_root.subject.map(|it| Subject { uid: Some(0), ..it });
    let entries = [
        session("session_started", "a", 1),
        session("session_started", "b", 2),
        other.clone(),
        of_root.clone(),
        session("session_changed", "a", 4),
        session("session_started", "c", 5),
        session("session_ended", "c", 6),
        session("session_ended", "b", 7),
        Entry { kind: EntryKind::GapOpened, subject: None, ..entry(8) },
    ];
    let count = entries.len() as u64;
    entries.into_iter().for_each(|entry| assert!(journal.push(entry).seq().is_some()));
    committed(&journal, count);
    drop(journal);
    let journal = Journal::open(options(dir.path())).unwrap();
    assert_eq!(journal.known().len(), 3);
    let resumed = journal.resume().unwrap();
    assert_eq!(resumed.live.len(), 3);
    assert_eq!(resumed.live[0].detail, r#"{"n":4}"#);
    assert_eq!(resumed.live[1], of_root, "the session of another user in the same home is another one");
    assert_eq!(resumed.live[2], other, "the same path in another namespace is another home");
    assert!(resumed.until_ns.is_some());
    assert!(journal.known().is_empty() && journal.resume().is_none(), "a file is taken once");
}

#[test]
fn ended_sessions_of_one_user_leave_room_for_those_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let of = |uid, name: &str, n| {
        let pad = "x".repeat(2_000);
        let ended =
            Entry { detail: format!(r#"{{"n":{n},"pad":"{pad}"}}"#), ..session("session_ended", name, n) };
        Entry { subject: ended.subject.clone().map(|it| Subject { uid: Some(uid), ..it }), ..ended }
    };
    assert!(journal.push(of(7, "mine", 1)).seq().is_some());
    for n in 2..=4_000 {
        until("room", || journal.queue().waiting() < 500);
        assert!(journal.push(of(8, &format!("busy{n}"), n)).seq().is_some());
    }
    committed(&journal, 4_000);
    drop(journal);
    let ended = Journal::open(options(dir.path())).unwrap().resume().unwrap().ended;
    assert!(ended.iter().map(|it| it.detail.len()).sum::<usize>() <= 4 << 20);
    let numbers: Vec<u64> = ended.iter().map(|it| it.boottime_ns).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b), "the newest first");
    assert_eq!((numbers.first(), numbers.last()), (Some(&4_000), Some(&1)), "{}", numbers.len());
}

#[test]
fn what_sessions_of_one_user_left_leaves_room_for_what_those_of_another_did() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let of = |uid, kind, detail: &str, n| {
        let entry = Entry { detail: detail.into(), ..session(kind, "a", n) };
        Entry { subject: entry.subject.clone().map(|it| Subject { uid: Some(uid), ..it }), ..entry }
    };
    let left = r#"{"left":{"processes":1,"rss_bytes":5,"keys":["k"]}}"#;
    assert!(journal.push(of(7, "session_left", left, 1)).seq().is_some());
    let nothing = r#"{"death":{"left":{"processes":0,"rss_bytes":0,"keys":[]}}}"#;
    assert!(journal.push(of(7, "session_ended", nothing, 2)).seq().is_some());
    for n in 3..=1_500 {
        until("room", || journal.queue().waiting() < 500);
        assert!(journal.push(of(8, "session_left", left, n)).seq().is_some());
    }
    committed(&journal, 1_500);
    drop(journal);
    let left = Journal::open(options(dir.path())).unwrap().resume().unwrap().left;
    let numbers: Vec<u64> = left.iter().map(|it| it.boottime_ns).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b), "the newest first");
    assert_eq!((numbers.len(), numbers.first(), numbers.last()), (1024, Some(&1_500), Some(&1)));
}

#[test]
fn a_session_that_lives_is_known_after_its_entry_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_bytes: MAX_BYTES_MIN, ..options(dir.path()) };
    let journal = begun(options.clone());
    assert_eq!(journal.push(session("session_started", "old", 1)).seq(), Some(1));
    let pad = "x".repeat(2_000);
    for n in 2..=4_000 {
        until("room", || journal.queue().waiting() < 500);
        let detail = format!(r#"{{"n":{n},"pad":"{pad}"}}"#);
        let kind = if n % 2 == 0 { "session_started" } else { "session_ended" };
        assert!(journal.push(Entry { detail, ..session(kind, "busy", n) }).seq().is_some());
    }
    committed(&journal, 4_000);
    assert!(journal.status(0).expired > 1_000);
    drop(journal);
    let live = live(options);
    assert_eq!(live.len(), 2);
    assert_eq!(live[1], ("old".into(), r#"{"n":1}"#.into()));
}

#[test]
fn what_is_no_text_in_the_entry_of_a_session_that_lives_is_damage() {
    for column in ["detail", "boot_id", "kind"] {
        let dir = tempfile::tempdir().unwrap();
        let journal = begun(options(dir.path()));
        assert!(journal.push(session("session_started", "a", 1)).seq().is_some());
        committed(&journal, 1);
        let (path, (stream, _)) = (journal.path().to_owned(), all(journal.path()));
        drop(journal);
        let conn = rusqlite::Connection::open(&path).unwrap();
        let no_text = format!("UPDATE live SET {column} = CAST(x'ff' AS TEXT)");
        assert_eq!(conn.execute(&no_text, ()).unwrap(), 1);
        drop(conn);
        let journal = begun(options(dir.path()));
        assert!(journal.push(entry(9)).seq().is_some());
        committed(&journal, 2);
        let (again, read) = all(&path);
        assert_ne!(again, stream, "{column}");
        assert_eq!((gap(&read[0]).reason.as_str(), read.len()), ("corrupt", 2), "{column}: {read:#?}");
    }
}

#[test]
fn the_time_without_a_daemon_ends_when_changes_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let at_unix_ns = i64::try_from(clock::realtime_ns()).unwrap();
    journal.push(Entry { at_unix_ns, ..entry(1) });
    committed(&journal, 1);
    drop(journal);
    // A daemon that ends during its first pass has recorded nothing.
    drop(Journal::open(options(dir.path())).unwrap());
    let before = clock::realtime_ns();
    let journal = Journal::open(options(dir.path())).unwrap();
    let between = clock::realtime_ns();
    while clock::realtime_ns() < between + 3_000_000 {
        std::hint::spin_loop();
    }
    let resumed = journal.resume().unwrap();
    let known_until = i128::from(resumed.until_ns.unwrap());
    assert!((i128::from(at_unix_ns)..before).contains(&known_until), "{known_until}");
    committed(&journal, 2);
    let (_, read) = all(journal.path());
    assert_eq!(read.len(), 2);
    let absence = gap(&read[1]);
    let ns = |text: &Option<String>| crate::text::time::unix_ns(text.as_deref().unwrap()).unwrap();
    // Shown to the millisecond.
    assert_eq!(ns(&absence.from), resumed.until_ns.unwrap() / 1_000_000 * 1_000_000);
    assert!(i128::from(ns(&absence.to)) > between, "{absence:?}");
}

#[test]
fn the_watermark_of_a_killed_daemon_is_known_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = DirectoryLock::acquire(dir.path()).unwrap();
    assert_eq!(lock.previous, Watermark::default());
    let note = Watermark {
        complete_ns: 1_700_000_000_000_000_002,
        last_seq: 7,
        delivered: 5,
        stream_id: "a-stream".into(),
    };
    lock.write(Watermark { last_seq: u64::MAX, ..note.clone() });
    lock.write(note.clone());
    drop(lock);
    assert_eq!(DirectoryLock::acquire(dir.path()).unwrap().previous, note);
    for text in ["no number", "1", "1 2", "\u{ff}"] {
        fs::write(dir.path().join("lock"), text).unwrap();
        assert_eq!(DirectoryLock::acquire(dir.path()).unwrap().previous, Watermark::default());
    }
}

#[test]
fn numbers_are_not_given_twice_where_the_end_of_the_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = options(dir.path()).path;
    let journal = begun(options(dir.path()));
    (1..=10).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 10);
    drop(journal);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("DELETE FROM entry WHERE seq > 6", ()).unwrap();
    drop(conn);
    let journal = begun(options(dir.path()));
    let seq = journal.push(entry(11)).seq().unwrap();
    committed(&journal, seq);
    let (_, read) = all(&path);
    assert_dense(&read);
    let seqs: Vec<_> = read.iter().map(|stored| stored.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 10, 11, 12]);
    let gone = gap(&read[6]);
    assert_eq!((gone.from_seq, gone.to_seq, gone.count), (Some(7), Some(10), Some(4)));
    assert_eq!((gone.reason.as_str(), gap(&read[7]).reason.as_str()), ("corrupt", "not_running"));
}

#[test]
fn the_watermark_is_complete_up_to_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    until("all is written", || journal.queue().waiting() == 0);
    journal.complete(100);
    assert_eq!(journal.queue().watermark().complete_ns, 100);
    // Another connection writes: entries wait.
    let other = rusqlite::Connection::open(journal.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal.push(entry(1));
    journal.complete(200);
    journal.push(entry(2));
    journal.complete(300);
    assert_eq!(journal.queue().watermark().complete_ns, 100);
    other.execute_batch("ROLLBACK").unwrap();
    committed(&journal, 2);
    until("what was before is complete", || journal.queue().watermark().complete_ns == 200);
    journal.complete(400);
    drop(journal);
    let journal = Journal::open(options(dir.path())).unwrap();
    assert_eq!(journal.resume().unwrap().until_ns, Some(400));
}

/// Nobody can write there until the file is gone.
#[test]
fn a_directory_that_cannot_be_written_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    fs::write(&place, "in the way").unwrap();
    let journal = begun(options(&place));
    let status = journal.status(0);
    assert_eq!((status.state.as_str(), status.failures, status.stream_id), ("failing", 1, None));
    let error = status.last_error.unwrap();
    assert!(error.contains("--state-dir"), "the next step: {error}");
    assert_eq!((journal.spool().instance_id(), &*journal.spool().committed().borrow().stream_id), (None, ""));
    assert_eq!([1, 2, 3].map(|n| journal.push(entry(n)).seq()), [None; 3]);
    assert_eq!(journal.status(0).dropped, 3);
    fs::remove_file(&place).unwrap();
    until("it is open", || journal.status(0).state.as_str() == "ok");
    assert_eq!(journal.resume().unwrap(), Resumed::default());
    until("the gap", || journal.spool().committed().borrow().last_seq == 1);
    assert_eq!(journal.push(entry(4)).seq(), Some(2));
    committed(&journal, 2);
    let (_, read) = all(journal.path());
    assert_eq!((gap(&read[0]).count, gap(&read[0]).reason.as_str()), (Some(3), "write_failed"));
    assert_eq!(read[1].entry, entry_of(&read[1].entry, 4));
}

#[test]
fn the_first_entry_of_a_session_that_an_opened_file_lacks_is_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    fs::write(&place, "in the way").unwrap();
    let journal = begun(options(&place));
    assert_eq!(journal.push(session("session_started", "old", 1)), Pushed::Lost);
    fs::remove_file(&place).unwrap();
    until("it is open", || journal.status(0).state.as_str() == "ok");
    // The event loop has not compared the sessions yet.
    assert_eq!(journal.push(session("session_changed", "old", 2)), Pushed::LeftToComparison);
    let entries = [("session_started", "new"), ("session_changed", "new"), ("session_ended", "other")];
    for (kind, name) in entries {
        assert!(journal.push(session(kind, name, 3)).seq().is_some(), "{kind} {name}");
    }
    assert_eq!(journal.status(0).dropped, 1, "the start alone is lost");
    let live = journal.resume().unwrap().live;
    let names: Vec<_> = live.iter().map(|entry| entry.subject.as_ref().unwrap().name.as_slice()).collect();
    assert_eq!(names, [b"new"]);
    assert!(journal.push(session("session_changed", "old", 4)).seq().is_some(), "it was compared");
}

/// `like`, but for what [`entry`] fixes.
fn entry_of(like: &Entry, n: u64) -> Entry {
    Entry { at_unix_ns: like.at_unix_ns, ..entry(n) }
}

#[test]
fn a_path_without_a_directory_is_a_file_of_the_working_directory() {
    let of = |path: &str| JournalOptions { path: path.into(), ..options(Path::new("/")) }.dir().to_owned();
    assert_eq!(["j", "./j", "/j", "/a/j", "a/j"].map(of), [".", ".", "/", "/a", "a"].map(Path::new));
}

fn fill(dir: &Path) -> std::path::PathBuf {
    use std::io::Write as _;
    let ballast = dir.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    let full = loop {
        if let Err(error) = file.write_all(&[0; 4_096]) {
            break error.kind();
        }
    };
    assert_eq!(full, std::io::ErrorKind::StorageFull);
    ballast
}

#[test]
fn a_disk_that_is_full_at_the_start_costs_a_gap_with_the_count() {
    if !is_root() {
        skip!("mounting a small file system needs root");
    }
    on_a_small_disk("6m", |dir| {
        // The first time, and with a journal there.
        for (life, lost) in [(1, 5), (2, 7)] {
            let ballast = fill(dir);
            let journal = begun(options(dir));
            let status = journal.status(0);
            assert_eq!(status.state.as_str(), "failing", "life {life}: {status:?}");
            (0..lost).for_each(|n| assert_eq!(journal.push(entry(n)).seq(), None));
            until("it is tried again", || journal.status(0).failures > 1);
            let status = journal.status(0);
            assert_eq!((status.state.as_str(), status.dropped), ("failing", lost), "{status:?}");
            fs::remove_file(&ballast).unwrap();
            until("there is room", || journal.status(0).state.as_str() == "ok");
            assert_eq!(journal.resume().unwrap().live.len(), usize::from(life == 2));
            until("the gap", || journal.status(0).queued == 0 && journal.status(0).last_seq > 0);
            let seq = journal.push(session("session_started", "a", life)).seq().unwrap();
            committed(&journal, seq);
            let (_, read) = all(journal.path());
            assert_dense(&read);
            let reasons: Vec<_> =
                read.iter().filter(|stored| stored.entry.kind == EntryKind::Gap).map(gap).collect();
            let reasons: Vec<_> = reasons.iter().map(|gap| (gap.reason.as_str(), gap.count)).collect();
            let expected = [("disk_full", Some(5)), ("not_running", None), ("disk_full", Some(7))];
            assert_eq!(reasons, expected[..if life == 1 { 1 } else { 3 }]);
            assert_eq!(read.last().unwrap().seq, seq);
        }
        // Nothing half-made is left.
        let mut left: Vec<_> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["instance", "journal.sqlite", "lock"]);
    });
}

#[test]
fn what_a_stopped_daemon_leaves_of_births_is_for_the_next_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let recorded =
        |journal: &Journal| JournalReader::open(journal.path()).unwrap().resumed("boot").unwrap().births;
    let births = |journal: &Journal| recorded(journal).text;
    let journal = begun(options(dir.path()));
    assert!(!recorded(&journal).is_missing, "no daemon was there before");
    journal.push(entry(1));
    journal.leave_births("first".into());
    drop(journal);
    // This one is stopped before it has looked at the file.
    let journal = Journal::open(options(dir.path())).unwrap();
    journal.leave_births("nothing is known".into());
    drop(journal);
    let journal = Journal::open(options(dir.path())).unwrap();
    assert_eq!(journal.resume().unwrap().births.text, "first");
    journal.push(entry(2));
    // The time without a daemon has an entry, too.
    committed(&journal, 3);
    assert_eq!(
        births(&journal),
        "",
        "if it is killed from here on, the next one inherits nothing that is outdated"
    );
    assert!(recorded(&journal).is_missing, "and knows that there was something");
    let of_next_boot = JournalReader::open(journal.path()).unwrap().resumed("next").unwrap().births;
    assert!(!of_next_boot.is_missing, "which another boot has ended");
    journal.leave_births("second".into());
    drop(journal);
    let journal = Journal::open(options(dir.path())).unwrap();
    assert_eq!(births(&journal), "second");
    journal.resume();
    journal.push(entry(3));
    journal.leave_births("x".repeat(BIRTHS_BYTES_MAX + 1));
    drop(journal);
    let births = Journal::open(options(dir.path())).unwrap().resume().unwrap().births;
    assert_eq!(births.text, "", "too much is not read");
    assert_eq!(births.unread_bytes, BIRTHS_BYTES_MAX as u64 + 1, "and it is said how much");
}

#[test]
fn a_file_in_the_place_of_another_is_known_to_lack_what_was_left_of_births() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    committed(&journal, journal.push(entry(1)).seq().unwrap());
    let path = journal.path().to_owned();
    journal.leave_births("known".into());
    drop(journal);
    fs::remove_file(path).unwrap();
    let births = Journal::open(options(dir.path())).unwrap().resume().unwrap().births;
    assert_eq!((births.text.as_str(), births.is_missing), ("", true));
}
