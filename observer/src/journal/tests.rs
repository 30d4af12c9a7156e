//! The journal against real SQLite, in directories of the tests' own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use observer_core::ProcessKey;

use super::*;
use crate::api::entry::{Entry, MissingEntries, NumberedEntry, Subject};
use crate::api::words::EntryKind;
use crate::clock;

/// For one thing to come about.
const DEADLINE: Duration = Duration::from_secs(20);

/// A journal in `dir`.
pub(crate) fn options(dir: &Path) -> JournalOptions {
    JournalOptions {
        path: dir.join("journal.sqlite"),
        max_bytes: 64 << 20,
        max_age: MAX_AGE_DEFAULT,
        boot_id: "boot".into(),
        delivers: false,
    }
}

pub(super) fn entry(n: u64) -> Entry {
    Entry {
        at_unix_ns: i64::try_from(clock::realtime_ns()).unwrap(),
        boottime_ns: n,
        boot_id: "boot".into(),
        kind: EntryKind::SessionChanged,
        subject: Some(Subject {
            home: b"/srv/\xff".to_vec(),
            home_mnt_ns: Some(7),
            uid: Some(u32::MAX),
            instance: 1,
            name: b"\xff".to_vec(),
            process: ProcessKey::new(7, u64::MAX),
        }),
        detail: format!(r#"{{"n":{n}}}"#),
    }
}

/// Opened by a daemon that has had its first look.
pub(super) fn begun(options: JournalOptions) -> Journal {
    let journal = Journal::open(options).unwrap();
    journal.resume();
    journal.complete(i64::try_from(clock::realtime_ns()).unwrap());
    journal
}

fn large(n: u64) -> Entry {
    Entry { detail: format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(1_100)), ..entry(n) }
}

pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn committed(journal: &Journal, seq: u64) {
    until("committed", || journal.spool().committed().borrow().last_seq >= seq);
}

pub(super) fn all(path: &Path) -> (String, Vec<NumberedEntry>) {
    let reader = JournalReader::open(path).unwrap();
    let entries = reader.read_after(0, &EntryFilter::default(), usize::MAX, usize::MAX).unwrap();
    (reader.stream_id().to_string(), entries)
}

pub(super) fn gap(stored: &NumberedEntry) -> MissingEntries {
    assert_eq!(stored.entry.kind, EntryKind::Gap, "{stored:?}");
    serde_json::from_str(&stored.entry.detail).unwrap()
}

/// Numbers are dense but for those that a gap covers.
pub(super) fn assert_dense(entries: &[NumberedEntry]) {
    let mut next = 1;
    for stored in entries {
        if stored.seq != next {
            let gap = gap(stored);
            assert!(gap.from_seq.unwrap() <= next && gap.to_seq.unwrap() == stored.seq, "{gap:?} at {next}");
        }
        next = stored.seq + 1;
    }
}

#[test]
fn entries_are_read_as_they_were_pushed_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let pushed: Vec<_> = (1..=100).map(entry).collect();
    for (seq, entry) in (1..).zip(&pushed) {
        assert_eq!(journal.push(entry.clone()).seq(), Some(seq));
    }
    committed(&journal, 100);
    let (stream, read) = all(journal.path());
    assert_eq!(
        read.iter().map(|stored| &stored.entry).collect::<Vec<_>>(),
        pushed.iter().collect::<Vec<_>>()
    );
    drop(journal);
    // No log is left: also a reader without the right to make one reads it.
    assert!(!quarantine::suffixed(&dir.path().join("journal.sqlite"), "-wal").exists());
    let journal = begun(options(dir.path()));
    assert_eq!(journal.push(entry(101)).seq(), Some(102));
    committed(&journal, 102);
    let (again, read) = all(journal.path());
    assert_eq!(again, stream);
    assert_dense(&read);
    let between = gap(&read[100]);
    assert_eq!((between.reason.as_str(), between.count), ("not_running", None));
    assert_eq!(between.message.as_deref(), Some("observer was stopped"));
}

#[test]
fn a_directory_has_one_journal_at_a_time_and_one_identity() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let refused = Journal::open(options(dir.path())).err().unwrap().to_string();
    assert!(refused.contains("another observer") && refused.contains("--state-dir"), "{refused}");
    let id = journal.spool().instance_id();
    assert!(id.is_some());
    drop(journal);
    assert_eq!(begun(options(dir.path())).spool().instance_id(), id);
}

#[test]
fn the_size_bound_removes_the_oldest_entries_and_a_gap_covers_them() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(JournalOptions { max_bytes: MAX_BYTES_MIN, ..options(dir.path()) });
    let mut largest = 0;
    let total = 6_000;
    for n in 1..=total {
        until("room", || journal.queue().waiting() < 1_000);
        assert_eq!(journal.push(large(n)).seq(), Some(n));
        if n % 50 == 0 {
            let size =
                |suffix| fs::metadata(quarantine::suffixed(journal.path(), suffix)).map_or(0, |it| it.len());
            largest = largest.max(size("") + size("-wal"));
        }
    }
    committed(&journal, total);
    assert!(largest <= MAX_BYTES_MIN, "{largest}");
    let (_, read) = all(journal.path());
    assert_dense(&read);
    let gone = gap(&read[0]);
    assert_eq!((gone.from_seq, gone.to_seq, gone.count), (Some(1), Some(read[0].seq), Some(read[0].seq)));
    assert_eq!(gone.reason.as_str(), "retention_size");
    assert_eq!(read.last().unwrap().seq, total);
    // A third of the smallest bound is history: half is the log's, and pages are not full.
    assert!(read.len() as u64 * 1_100 > MAX_BYTES_MIN / 3, "{}", read.len());
    // A reader that has some of it gets only the rest.
    let reader = JournalReader::open(journal.path()).unwrap();
    let after = reader.read_after(read[0].seq - 5, &EntryFilter::default(), 2, usize::MAX).unwrap();
    let rest = gap(&after[0]);
    assert_eq!((rest.from_seq, rest.to_seq, rest.count), (Some(read[0].seq - 4), Some(read[0].seq), Some(5)));
    assert_eq!(journal.status(clock::realtime_ns()).expired, read[0].seq);
}

#[test]
fn the_age_bound_removes_old_entries_and_numbering_continues() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let old = |n| Entry { at_unix_ns: 1_000_000_000 * i64::try_from(n).unwrap(), ..entry(n) };
    (1..=3_000).for_each(|n| assert!(journal.push(old(n)).seq().is_some()));
    committed(&journal, 3_000);
    drop(journal);
    let journal = begun(options(dir.path()));
    committed(&journal, 3_001);
    until("aged", || {
        journal.spool().committed().borrow().oldest_seq >= 2_999 || all(journal.path()).1[0].seq >= 2_999
    });
    let (_, read) = all(journal.path());
    assert_dense(&read);
    assert_eq!(gap(&read[0]).reason.as_str(), "retention_age");
    assert_eq!(read.last().unwrap().seq, 3_001);
}

#[test]
fn a_damaged_file_is_quarantined() {
    type Damage = fn(&Path);
    let damage: [(&str, Damage); 5] = [
        ("corrupt", |path| fs::write(path, vec![b'x'; 10_000]).unwrap()),
        ("corrupt", |path| {
            let size = fs::metadata(path).unwrap().len();
            fs::File::options().write(true).open(path).unwrap().set_len(size / 2).unwrap();
        }),
        ("corrupt", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[4_096..].fill(0xff);
            fs::write(path, bytes).unwrap();
        }),
        ("newer_schema", |path| {
            let conn = rusqlite::Connection::open(path).unwrap();
            conn.pragma_update(None, "user_version", 99).unwrap();
        }),
        ("older_schema", |path| {
            let conn = rusqlite::Connection::open(path).unwrap();
            conn.pragma_update(None, "user_version", 1).unwrap();
        }),
    ];
    for (reason, damage) in damage {
        let dir = tempfile::tempdir().unwrap();
        let journal = begun(options(dir.path()));
        (1..=200).for_each(|n| assert!(journal.push(large(n)).seq().is_some()));
        committed(&journal, 200);
        let path = journal.path().to_owned();
        drop(journal);
        let (stream, _) = all(&path);
        damage(&path);
        let journal = begun(options(dir.path()));
        journal.push(entry(1));
        until("a new stream", || *journal.spool().committed().borrow().stream_id != *stream);
        until("its entries", || journal.spool().committed().borrow().last_seq >= 2);
        let (_, read) = all(&path);
        assert_dense(&read);
        assert_eq!(gap(&read[0]).reason.as_str(), reason);
        assert_eq!(read.last().unwrap().entry.kind, EntryKind::SessionChanged);
        assert_eq!(quarantine::quarantined(&path, dir.path()).unwrap().len(), 1);
    }
}

#[test]
fn the_quarantine_keeps_the_newest_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = options(dir.path()).path;
    for n in 1..=8 {
        fs::write(&path, n.to_string()).unwrap();
        quarantine::quarantine(&path, dir.path(), n).unwrap();
    }
    let kept: Vec<_> = quarantine::quarantined(&path, dir.path())
        .unwrap()
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(kept, ["6", "7", "8"]);
}

#[test]
fn an_older_copy_that_was_put_back_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let path = options(dir.path()).path;
    drop(begun(options(dir.path())));
    let copy = fs::read(&path).unwrap();
    for _ in 0..2 {
        drop(begun(options(dir.path())));
    }
    let (stream, _) = all(&path);
    fs::write(&path, copy).unwrap();
    let journal = begun(options(dir.path()));
    committed(&journal, 1);
    let (new, read) = all(&path);
    assert_ne!(new, stream);
    let first = gap(&read[0]);
    assert_eq!((first.reason.as_str(), first.previous_stream_id), ("restored", Some(stream)));
    drop(journal);
    fs::remove_file(&path).unwrap();
    let journal = begun(options(dir.path()));
    committed(&journal, 1);
    let first = gap(&all(&path).1[0]);
    assert_eq!((first.reason.as_str(), first.previous_stream_id, first.count), ("lost", Some(new), Some(1)));
}

#[test]
fn another_programs_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = options(dir.path()).path;
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    let before = fs::read(&path).unwrap();
    let refused = format!("{:#}", Journal::open(options(dir.path())).err().unwrap());
    assert!(refused.contains("not observer's") && refused.contains("--journal-path"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_new_stream_begins_where_the_mirror_is_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(JournalOptions { delivers: true, ..options(dir.path()) });
    (1..=5).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 5);
    let stream = journal.spool().committed().borrow().stream_id.clone();
    assert!(journal.status(clock::realtime_ns()).oldest_undelivered_ms.is_some());
    journal.spool().acknowledge(&stream, 5);
    until("all is delivered", || journal.status(clock::realtime_ns()).oldest_undelivered_ms.is_none());
    assert_eq!(journal.status(clock::realtime_ns()).delivered, 5);
    journal.spool().begin_new_stream("another");
    journal.spool().begin_new_stream(&stream);
    until("a new stream", || journal.spool().committed().borrow().stream_id != stream);
    until("its gap", || journal.spool().committed().borrow().last_seq == 1);
    let status = journal.status(clock::realtime_ns());
    assert_eq!((status.delivered, status.failures), (0, 0));
    let first = gap(&all(journal.path()).1[0]);
    assert_eq!(first.reason.as_str(), "mirror_ahead");
    assert_eq!(first.previous_stream_id.as_deref(), Some(&*stream));
}

#[test]
fn a_new_stream_that_cannot_be_made_begins_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(JournalOptions { delivers: true, ..options(dir.path()) });
    assert!(journal.push(entry(1)).seq().is_some());
    committed(&journal, 1);
    let stream = journal.spool().committed().borrow().stream_id.clone();
    // In the way of the new file.
    let blocked = dir.path().join("journal.sqlite.new");
    fs::create_dir(&blocked).unwrap();
    journal.spool().begin_new_stream(&stream);
    until("it was tried", || journal.status(clock::realtime_ns()).failures > 2);
    journal.spool().begin_new_stream(&stream);
    fs::remove_dir(&blocked).unwrap();
    until("a new stream", || {
        journal.spool().begin_new_stream(&stream);
        journal.spool().committed().borrow().stream_id != stream
    });
    assert_eq!(gap(&all(journal.path()).1[0]).reason.as_str(), "mirror_ahead");
}

#[test]
fn the_next_daemon_knows_what_was_delivered_and_a_restored_database_lowers_it() {
    let dir = tempfile::tempdir().unwrap();
    let delivers = || JournalOptions { delivers: true, ..options(dir.path()) };
    let delivered = |journal: &Journal| journal.status(clock::realtime_ns()).delivered;
    let journal = begun(delivers());
    (1..=5).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 5);
    let stream = journal.spool().committed().borrow().stream_id.clone();
    journal.spool().acknowledge(&stream, 3);
    until("its thread has seen it", || delivered(&journal) == 3);
    drop(journal);
    let journal = begun(delivers());
    until("it is open", || journal.spool().committed().borrow().stream_id == stream);
    assert_eq!(delivered(&journal), 3);
    journal.spool().acknowledge(&stream, 2);
    assert_eq!(delivered(&journal), 2);
    let path = journal.path().to_owned();
    drop(journal);
    // Lost with the file is what the mirror lacks: 3 to 5, and 6, that no daemon ran.
    fs::write(&path, "no database at all, and long enough to be looked at as one").unwrap();
    let journal = begun(delivers());
    committed(&journal, 1);
    let first = gap(&all(&path).1[0]);
    assert_eq!(
        (first.reason.as_str(), first.previous_stream_id.as_deref(), first.count),
        ("corrupt", Some(&*stream), Some(4))
    );
}

#[test]
fn a_full_queue_and_a_too_large_entry_are_reported_by_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    // Another connection writes: the writer waits for it, and entries pile up.
    let other = rusqlite::Connection::open(journal.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let huge = |n| Entry { detail: format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(500_000)), ..entry(n) };
    let pushed: u64 = (1..=40).map(|n| u64::from(journal.push(huge(n)).seq().is_some())).sum();
    assert!((10..20).contains(&pushed), "{pushed}");
    assert_eq!(journal.status(0).dropped, 40 - pushed);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    until("the gap", || journal.spool().committed().borrow().last_seq == pushed + 1);
    let too_large = Entry { detail: "x".repeat(2 << 20), ..entry(1) };
    assert_eq!(journal.push(too_large).seq(), None);
    assert_eq!(journal.push(entry(2)).seq(), Some(pushed + 3));
    committed(&journal, pushed + 3);
    let (_, read) = all(journal.path());
    assert_dense(&read);
    let gaps: Vec<_> = read.iter().filter(|stored| stored.entry.kind == EntryKind::Gap).map(gap).collect();
    assert_eq!(gaps.iter().map(|gap| gap.count).collect::<Vec<_>>(), [Some(40 - pushed), Some(1)]);
    assert_eq!(gaps[1].reason.as_str(), "too_large");
}

#[test]
fn a_user_who_fills_the_queue_pushes_out_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let of = |uid, n| {
        let mut entry = large(n);
        entry.subject.as_mut().unwrap().uid = Some(uid);
        entry
    };
    let other = rusqlite::Connection::open(journal.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut n = 0;
    while journal.push(of(7, n)).seq().is_some() {
        n += 1;
    }
    for n in 0..200 {
        assert!(journal.push(of(8, n)).seq().is_some(), "there is room for another user");
    }
    // Who has the most takes nothing from the others.
    while journal.push(of(7, n)).seq().is_some() {
        n += 1;
    }
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    until("all is written", || journal.queue().waiting() == 0);
    let (_, read) = all(journal.path());
    assert_dense(&read);
    let count = |uid| {
        let is_of = |stored: &&NumberedEntry| {
            stored.entry.subject.as_ref().is_some_and(|subject| subject.uid == Some(uid))
        };
        read.iter().filter(is_of).count() as u64
    };
    let gaps: Vec<_> = read.iter().filter(|stored| stored.entry.kind == EntryKind::Gap).map(gap).collect();
    let missing: u64 = gaps.iter().filter_map(|gap| gap.count).sum();
    assert_eq!((count(8), count(7) + missing), (200, n + 2));
    assert_eq!(journal.status(0).dropped, missing);
    assert!(gaps.len() < 10, "what is removed was together: {gaps:?}");
}

#[test]
fn a_reader_that_pauses_delays_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(JournalOptions { max_bytes: MAX_BYTES_MIN, ..options(dir.path()) });
    (1..=10).for_each(|n| assert!(journal.push(large(n)).seq().is_some()));
    committed(&journal, 10);
    let stuck = rusqlite::Connection::open(journal.path()).unwrap();
    stuck.execute_batch("BEGIN; SELECT count(*) FROM entry").unwrap();
    let _: i64 = stuck.query_row("SELECT count(*) FROM entry", (), |row| row.get(0)).unwrap();
    let mut n = 10;
    until("the log is full", || {
        n += 1;
        journal.push(large(n));
        journal.status(0).state.as_str() == "failing"
    });
    let size = |suffix| fs::metadata(quarantine::suffixed(journal.path(), suffix)).map_or(0, |it| it.len());
    assert!(size("") + size("-wal") <= MAX_BYTES_MIN + (1 << 20), "{} {}", size(""), size("-wal"));
    stuck.execute_batch("ROLLBACK").unwrap();
    until("it goes on", || journal.status(0).state.as_str() == "ok");
    drop(journal);
    let (_, read) = all(&options(dir.path()).path);
    assert_dense(&read);
    assert_eq!(read.last().unwrap().seq, n);
}

#[test]
fn filters_select_matching_entries_and_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    for n in 1..=4 {
        let (home, kind) = if n % 2 == 0 { ("/a/x", "session_ended") } else { ("/b/x", "session_started") };
        let at_unix_ns = entry(n).at_unix_ns;
        let subject = entry(n).subject.map(|it| Subject { home: home.into(), name: "x".into(), ..it });
        let entry = Entry { subject, kind: kind.into(), ..entry(n) };
        assert!(
            journal
                .push(Entry { at_unix_ns: at_unix_ns - 10_i64.pow(9) * (4 - n as i64), ..entry })
                .seq()
                .is_some()
        );
    }
    committed(&journal, 4);
    let reader = JournalReader::open(journal.path()).unwrap();
    let seqs = |filter| {
        let found: Vec<_> = reader.read_after(0, &filter, 10, usize::MAX).unwrap();
        found.iter().map(|stored| stored.seq).collect::<Vec<_>>()
    };
    let none = EntryFilter::default;
    assert_eq!(seqs(EntryFilter { home: Some("/a/x".into()), ..none() }), [2, 4]);
    assert!(seqs(EntryFilter { name: Some("y".into()), ..none() }).is_empty());
    assert_eq!(seqs(EntryFilter { ends: true, ..none() }), [2, 4]);
    let at = i64::try_from(clock::realtime_ns()).unwrap() - 2_500_000_000;
    assert_eq!(seqs(EntryFilter { until_ns: Some(at), ..none() }), [1]);
    assert_eq!(seqs(EntryFilter { since_ns: Some(at), ..none() }), [2, 3, 4]);
    let named = |filter| reader.homes(&EntryFilter { name: Some("x".into()), ..filter }).unwrap();
    assert_eq!(named(none()), [b"/a/x", b"/b/x"]);
    assert_eq!(named(EntryFilter { until_ns: Some(at), ..none() }), [b"/b/x"]);
    assert!(reader.knows_home(b"/a/x").unwrap() && !reader.knows_home(b"/a").unwrap());
    assert_eq!(reader.read_after(1, &none(), 2, usize::MAX).unwrap().len(), 2);
    assert_eq!(reader.read_after(0, &none(), 9, 1).unwrap().len(), 1);
}

/// What is asked at each commit must not take longer the more there is.
#[test]
fn no_query_of_a_commit_reads_the_whole_table() {
    use rusqlite::StatementStatus::{FullscanStep, VmStep};
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    let conn = rusqlite::Connection::open(journal.path()).unwrap();
    let steps = |query: &str| {
        let mut asked = conn.prepare(query).unwrap();
        let values = vec![1; asked.parameter_count()];
        let mut rows = asked.query(rusqlite::params_from_iter(values)).unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        asked.get_status(FullscanStep) + asked.get_status(VmStep)
    };
    let queries = [tables::EXTENT, tables::UNDELIVERED];
    (1..=10).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 10);
    let few = queries.map(steps);
    (11..=1_000).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 1_000);
    assert_eq!(queries.map(steps), few);
    let all = "SELECT min(seq), max(seq) FROM entry";
    assert!(steps(all) > 1_000, "as such a question would");
}
