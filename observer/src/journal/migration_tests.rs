//! Files of version 2, as its daemons left them.

use std::path::Path;

use rusqlite::{Connection, params};

use super::tests::{all, begun, committed, options};
use super::*;
use crate::api::entry::{Entry, NumberedEntry, Subject};
use crate::api::words::EntryKind;
use crate::clock;

/// The tables of version 2.
const VERSION_2: &str = "
    CREATE TABLE entry (
        seq INTEGER PRIMARY KEY,
        at_unix_ns INTEGER NOT NULL,
        boottime_ns INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name BLOB,
        pid INTEGER,
        start_boottime_ns INTEGER,
        boot_id TEXT NOT NULL,
        home_mnt_ns INTEGER,
        home BLOB,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE TABLE live (
        home BLOB NOT NULL,
        home_mnt_ns INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        at_unix_ns INTEGER NOT NULL,
        boottime_ns INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name BLOB,
        pid INTEGER,
        start_boottime_ns INTEGER,
        boot_id TEXT NOT NULL,
        detail TEXT,
        PRIMARY KEY (home, home_mnt_ns)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 2;";

/// Sessions that live: their homes, their mount namespaces (0: the host's own), the JSON of their last entries, whether a
/// bound removed that entry, and the user that they belong to.
const SESSIONS: [(&str, u32, &str, bool, u32); 7] = [
    ("/srv/a", 0, r#"{"uid":1000,"pid":7}"#, false, 1000),
    ("/srv/a", 5, r#"{"uid":4294967295}"#, false, u32::MAX),
    ("/srv/b", 0, r#"{"uid":33,"state":"left"}"#, true, 33),
    ("/srv/c", 0, "{}", true, 0),
    ("/srv/d", 0, "no JSON", false, 0),
    ("/srv/e", 0, r#"{"uid":"1000"}"#, false, 0),
    ("/srv/f", 0, r#"{"uid":4294967296}"#, false, 0),
];

/// Makes the journal in `dir` one of version 2, and returns its stream.
fn version_2(dir: &Path) -> String {
    drop(begun(options(dir)));
    let conn = Connection::open(options(dir).path).unwrap();
    conn.execute_batch("DROP TABLE entry; DROP TABLE live").unwrap();
    conn.execute_batch(VERSION_2).unwrap();
    let now_ns = i64::try_from(clock::realtime_ns()).unwrap();
    for (seq, (home, mnt_ns, detail, is_removed, _)) in (10..).zip(SESSIONS) {
        if !is_removed {
            let mnt_ns = Some(mnt_ns).filter(|&ns| ns != 0);
            conn.execute(
                "INSERT INTO entry VALUES (?1, ?5, ?1, 'session_started', x'6e', 7, -1, 'boot', ?2, ?3, ?4)",
                params![seq, mnt_ns, home.as_bytes(), detail, now_ns],
            )
            .unwrap();
        }
        conn.execute(
            "INSERT INTO live VALUES (?3, ?2, ?1, ?5, ?1, 'session_started', x'6e', 7, -1, 'boot', ?4)",
            params![seq, mnt_ns, home.as_bytes(), is_removed.then_some(detail), now_ns],
        )
        .unwrap();
    }
    let gap = r#"{"kind":"gap","from_seq":1,"to_seq":9,"count":9,"reason":"retention_size"}"#;
    conn.execute(
        "INSERT INTO entry VALUES (9, ?, 9, 'gap', NULL, NULL, NULL, 'boot', NULL, NULL, ?)",
        params![now_ns, gap],
    )
    .unwrap();
    conn.query_row("SELECT value FROM meta WHERE key = 'stream_id'", (), |row| row.get(0)).unwrap()
}

fn version(path: &Path) -> i32 {
    let conn = Connection::open(path).unwrap();
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn a_file_of_version_2_goes_on_with_its_stream_its_entries_and_its_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let stream = version_2(dir.path());
    let path = options(dir.path()).path;
    let before = all(&path);
    assert_eq!((before.0.as_str(), version(&path)), (stream.as_str(), 2), "a reader changes nothing");
    let earlier_reader = JournalReader::open(&path).unwrap();
    let read = |reader: &JournalReader| {
        reader.read_after(0, &EntryFilter::default(), usize::MAX, usize::MAX).unwrap()
    };
    assert_eq!(read(&earlier_reader), before.1);

    let journal = Journal::open(options(dir.path())).unwrap();
    let live = journal.resume().unwrap().live;
    let found: Vec<_> = live.iter().map(|it| (it.subject.clone().unwrap(), it.detail.as_str())).collect();
    let mut expected = SESSIONS.to_vec();
    expected.sort_by_key(|&(home, mnt_ns, ..)| (home, mnt_ns));
    assert_eq!(found.len(), expected.len());
    for ((subject, found), (home, mnt_ns, detail, _, uid)) in found.iter().zip(expected) {
        let mnt_ns = Some(mnt_ns).filter(|&ns| ns != 0);
        assert_eq!(
            (subject.home.as_slice(), subject.home_mnt_ns, subject.uid),
            (home.as_bytes(), mnt_ns, Some(uid))
        );
        assert_eq!((*found, subject.process.tgid.0), (detail, 7));
    }
    let seq = journal.push(ended(&live[0])).seq().unwrap();
    committed(&journal, seq);
    let after = all(&path);
    assert_eq!((after.0, version(&path)), (stream, 3));
    let old: Vec<NumberedEntry> = after.1.iter().filter(|it| it.seq < 17).cloned().collect();
    assert_eq!(old, before.1, "no entry is lost, and none is changed");
    let new = after.1.last().unwrap();
    assert_eq!((new.seq, new.entry.subject.as_ref().unwrap().uid), (seq, Some(1000)));
    assert_eq!(read(&earlier_reader).len(), after.1.len(), "a reader that was open before reads on");
    assert_eq!(quarantine::quarantined(&path, dir.path()).unwrap(), Vec::<std::path::PathBuf>::new());
    drop(journal);

    let journal = Journal::open(options(dir.path())).unwrap();
    let again = journal.resume().unwrap().live;
    assert_eq!(again, live[1..], "what ended is gone, and nothing else");
}

fn ended(entry: &Entry) -> Entry {
    Entry { kind: EntryKind::SessionEnded, ..entry.clone() }
}

#[test]
fn a_copy_of_a_file_of_version_2_is_not_migrated() {
    let dir = tempfile::tempdir().unwrap();
    version_2(dir.path());
    let path = options(dir.path()).path;
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE meta SET value = 'another' WHERE key = 'instance_id'", ()).unwrap();
    drop(conn);
    let journal = begun(options(dir.path()));
    committed(&journal, 1);
    let aside = quarantine::quarantined(&path, dir.path()).unwrap();
    assert_eq!(aside.iter().map(|path| version(path)).collect::<Vec<_>>(), [2]);
}

#[test]
fn two_users_live_in_one_home() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let of = |kind: EntryKind, uid| {
        let entry = super::tests::entry(1);
        let subject = entry.subject.map(|it| Subject { uid: Some(uid), ..it });
        Entry { kind, subject, ..entry }
    };
    for (kind, uid) in [
        (EntryKind::SessionStarted, 0),
        (EntryKind::SessionStarted, 1000),
        (EntryKind::SessionStarted, 33),
        (EntryKind::SessionEnded, 1000),
        (EntryKind::SessionChanged, 33),
    ] {
        assert!(journal.push(of(kind, uid)).seq().is_some());
    }
    committed(&journal, 5);
    drop(journal);
    let journal = Journal::open(options(dir.path())).unwrap();
    let live = journal.resume().unwrap().live;
    let uids: Vec<_> = live.iter().map(|it| it.subject.as_ref().unwrap().uid).collect();
    assert_eq!(uids, [Some(0), Some(33)]);
}
