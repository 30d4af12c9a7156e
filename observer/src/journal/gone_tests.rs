//! A journal whose file or directory somebody deletes, replaces or links elsewhere.

use std::fs;
use std::os::unix::fs::symlink;

use super::lock::DirectoryLock;
use super::tests::{all, assert_dense, begun, committed, entry, gap, options, until};
use super::*;
use crate::api::status::JournalStatus;
use crate::api::words::{EntryKind, JournalState};

fn status(journal: &Journal) -> JournalStatus {
    journal.status(0)
}

/// Pushes an entry until the journal has another stream than this one, and what is pushed is committed.
fn goes_on(journal: &Journal, stream: &str) {
    let mut n = 1_000;
    until("a new stream", || {
        journal.push(entry(n));
        n += 1;
        *journal.spool().committed().borrow().stream_id != *stream
    });
    until("its entries", || journal.queue().waiting() == 0);
}

#[test]
fn a_file_that_is_deleted_is_noticed_and_a_new_stream_begins_with_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    (1..=3).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 3);
    let (stream, _) = all(journal.path());
    fs::remove_file(journal.path()).unwrap();
    goes_on(&journal, &stream);
    let (again, read) = all(journal.path());
    assert_ne!(again, stream);
    assert_dense(&read);
    let first = gap(&read[0]);
    assert_eq!((first.reason.as_str(), first.count), ("lost", Some(3)));
    assert_eq!(first.previous_stream_id, Some(stream));
    assert_eq!(read[1].entry.kind, EntryKind::SessionChanged);
    let status = status(&journal);
    assert_eq!((status.state, status.files_gone), (JournalState::Ok, 1), "{status:?}");
    drop(journal);
    assert_dense(&all(&options(dir.path()).path).1);
}

#[test]
fn a_directory_that_is_deleted_is_made_again_and_stays_the_same_one_for_the_mirror() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("state");
    let journal = begun(options(&dir));
    assert!(journal.push(entry(1)).seq().is_some());
    committed(&journal, 1);
    let (stream, _) = all(journal.path());
    let id = journal.spool().instance_id();
    fs::remove_dir_all(&dir).unwrap();
    goes_on(&journal, &stream);
    let (_, read) = all(journal.path());
    assert_dense(&read);
    assert_eq!((gap(&read[0]).reason.as_str(), gap(&read[0]).count), ("lost", Some(1)));
    assert_eq!((journal.spool().instance_id(), status(&journal).files_gone), (id.clone(), 1));
    let refused = Journal::open(options(&dir)).err().unwrap().to_string();
    assert!(refused.contains("another observer"), "it is locked: {refused}");
    drop(journal);
    let next = begun(options(&dir));
    assert_eq!(next.spool().instance_id(), id);
    assert_eq!(
        next.push(entry(2)).seq(),
        Some(read.last().unwrap().seq + 2),
        "the stream goes on, after a gap"
    );
}

#[test]
fn a_journal_whose_lock_is_deleted_is_anothers_while_that_has_the_new_lock() {
    let dir = tempfile::tempdir().unwrap();
    let first = begun(options(dir.path()));
    (1..=3).for_each(|n| assert!(first.push(entry(n)).seq().is_some()));
    committed(&first, 3);
    let (stream, _) = all(first.path());
    fs::remove_file(dir.path().join(DirectoryLock::NAME)).unwrap();
    let second = begun(options(dir.path()));
    assert_eq!(second.push(entry(4)).seq(), Some(5), "after the gap of a start");
    committed(&second, 5);
    assert!(first.push(entry(5)).seq().is_some());
    until("it writes no more", || status(&first).state == JournalState::Failing);
    let why = status(&first).last_error.unwrap_or_default();
    assert!(why.contains("another observer keeps its journal in"), "{why}");
    assert_eq!(second.push(entry(6)).seq(), Some(6));
    committed(&second, 6);
    assert_eq!(status(&second).state, JournalState::Ok);
    drop(second);
    until("it writes again", || status(&first).state == JournalState::Ok && first.queue().waiting() == 0);
    let (again, read) = all(first.path());
    assert_eq!(again, stream);
    assert_dense(&read);
    let pushed = read.iter().filter(|stored| stored.entry.kind == EntryKind::SessionChanged);
    let pushed: Vec<_> = pushed.map(|stored| stored.entry.boottime_ns).collect();
    assert_eq!(pushed, [1, 2, 3, 4, 6, 5], "each once: {read:#?}");
}

#[test]
fn a_file_that_another_one_replaces_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    assert!(journal.push(entry(1)).seq().is_some());
    committed(&journal, 1);
    let (stream, _) = all(journal.path());
    let other = dir.path().join("other");
    fs::write(&other, "no database at all").unwrap();
    fs::rename(&other, journal.path()).unwrap();
    goes_on(&journal, &stream);
    assert_dense(&all(journal.path()).1);
    let aside = quarantine::quarantined(journal.path(), dir.path()).unwrap();
    assert_eq!(fs::read(&aside[0]).unwrap(), b"no database at all", "what was put there is kept");
}

#[test]
fn the_log_of_a_deleted_file_is_not_taken_for_that_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = options(dir.path()).path;
    let log = quarantine::suffixed(&path, "-wal");
    let journal = begun(options(dir.path()));
    (1..=3).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 3);
    let left = fs::read(&log).unwrap();
    drop(journal);
    fs::remove_file(&path).unwrap();
    fs::write(&log, left).unwrap();
    let journal = begun(options(dir.path()));
    assert_eq!(journal.push(entry(9)).seq(), Some(2));
    committed(&journal, 2);
    let (_, read) = all(&path);
    assert_eq!((read.len(), gap(&read[0]).reason.as_str()), (2, "lost"), "{read:?}");
    assert_eq!(status(&journal).state, JournalState::Ok);
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, lock) = (dir.path().join("victim"), dir.path().join("lock"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &lock).unwrap();
    let journal = Journal::open(options(dir.path())).unwrap();
    let found = status(&journal);
    assert_eq!(found.state, JournalState::Failing);
    assert!(found.last_error.unwrap_or_default().contains("symbolic link"));
    fs::remove_file(&lock).unwrap();
    until("it is opened", || status(&journal).state == JournalState::Ok);
    drop(journal);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_value_that_cannot_be_read_is_found_when_the_file_is_opened_although_its_page_is_consistent() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(options(dir.path()));
    (1..=3).for_each(|n| assert!(journal.push(entry(n)).seq().is_some()));
    committed(&journal, 3);
    let (path, stream) = (journal.path().to_owned(), all(journal.path()).0);
    drop(journal);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("UPDATE entry SET detail = CAST(x'ff' AS TEXT) WHERE seq = 2", ()).unwrap();
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    drop(conn);
    let reader = JournalReader::open(&path).unwrap();
    let error = reader.read_after(0, &EntryFilter::default(), 9, 9_999).unwrap_err();
    assert!(format!("{error:#}").contains("restart the daemon"), "{error:#}");
    drop(reader);
    let journal = begun(options(dir.path()));
    goes_on(&journal, &stream);
    let (_, read) = all(&path);
    assert_dense(&read);
    assert_eq!(gap(&read[0]).reason.as_str(), "corrupt");
}
