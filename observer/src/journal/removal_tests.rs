//! What the bounds remove, and whose.

use super::tests::{all, assert_dense, begun, committed, entry, gap, options, until};
use super::*;
use crate::api::entry::{Entry, MissingEntries, NumberedEntry, Subject};
use crate::api::words::EntryKind;

/// Entries of the user who has few.
const FEW: u64 = 100;
/// Bytes of the detail of one entry.
const DETAIL: usize = 1_100;

fn of_user(uid: u32, n: u64) -> Entry {
    let subject = entry(n).subject.map(|subject| Subject { uid: Some(uid), ..subject });
    Entry { subject, detail: format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(DETAIL)), ..entry(n) }
}

/// Pushes entries of the user that `uid` names for each number, and returns what the journal holds then.
fn filled(
    journal: &Journal,
    numbers: std::ops::RangeInclusive<u64>,
    uid: impl Fn(u64) -> u32,
) -> Vec<NumberedEntry> {
    let mut last = 0;
    for n in numbers {
        until("room", || journal.queue().waiting() < 1_000);
        last = journal.push(of_user(uid(n), n)).seq().expect("there is room");
    }
    committed(journal, last);
    let (_, read) = all(journal.path());
    assert_dense(&read);
    read
}

fn held_by(uid: u32, read: &[NumberedEntry]) -> usize {
    let uids = read.iter().filter_map(|stored| stored.entry.subject.as_ref()?.uid);
    uids.filter(|&other| other == uid).count()
}

/// What says that the bound removed entries.
fn gaps(read: &[NumberedEntry]) -> Vec<MissingEntries> {
    let gaps = read.iter().filter(|stored| stored.entry.kind == EntryKind::Gap).map(gap);
    gaps.filter(|gap| gap.reason.as_str() == "retention_size").collect()
}

/// The tables of an empty journal.
fn empty_tables() -> rusqlite::Connection {
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    conn.execute_batch(tables::SCHEMA).unwrap();
    conn.execute_batch(live::SCHEMA).unwrap();
    conn
}

#[test]
fn a_user_with_many_entries_pushes_out_none_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_bytes: MAX_BYTES_MIN, ..options(dir.path()) };
    let journal = begun(options.clone());
    let total = 60 * FEW;
    let read = filled(&journal, 1..=total, |n| if n % 60 == 1 { 1 } else { 2 });
    assert_eq!(held_by(1, &read), FEW as usize, "all of them");
    assert!(held_by(2, &read) > 500, "{}", held_by(2, &read));
    let missing: u64 = gaps(&read).iter().filter_map(|gap| gap.count).sum();
    assert_eq!(missing, total - (held_by(1, &read) + held_by(2, &read)) as u64);
    assert_eq!(journal.status(0).expired, missing);
    assert!(gaps(&read).len() <= FEW as usize, "one for each run: {}", gaps(&read).len());
    drop(journal);
    // The shares are counted again from the file.
    let journal = begun(options);
    let read = filled(&journal, total + 1..=2 * total, |_| 2);
    assert_eq!(held_by(1, &read), FEW as usize, "all of them");
    assert!(gaps(&read).len() <= FEW as usize + 1, "{}", gaps(&read).len());
}

#[test]
fn the_bound_holds_in_a_new_stream_too() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(JournalOptions { max_bytes: MAX_BYTES_MIN, ..options(dir.path()) });
    filled(&journal, 1..=4_000, |_| 1);
    let stream = journal.spool().committed().borrow().stream_id.clone();
    journal.spool().begin_new_stream(&stream);
    until("a new stream", || journal.spool().committed().borrow().stream_id != stream);
    journal.resume();
    let read = filled(&journal, 1..=3_000, |_| 1);
    assert!(held_by(1, &read) < 2_000, "{}", held_by(1, &read));
}

#[test]
fn a_removed_gap_leaves_no_number_uncovered() {
    let conn = empty_tables();
    let missing = MissingEntries { from_seq: Some(3), to_seq: Some(8), ..MissingEntries::default() };
    for seq in [1, 2, 9, 10, 11] {
        tables::insert(&conn, seq, &Entry { at_unix_ns: seq.cast_signed(), ..of_user(1, seq) }).unwrap();
    }
    tables::insert(&conn, 8, &Entry::gap(&missing, 8, 0, "boot")).unwrap();
    let gaps = || {
        let mut query =
            conn.prepare("SELECT seq, detail FROM entry WHERE kind = 'gap' ORDER BY seq").unwrap();
        let gap = |row: &rusqlite::Row<'_>| {
            let gap: MissingEntries = serde_json::from_str(&row.get::<_, String>(1)?).unwrap();
            Ok((gap.from_seq, row.get::<_, i64>(0)?))
        };
        query.query_map((), gap).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    // Of user 1, the first two entries go; the gap is nobody's.
    let mut shares = shares::Shares::default();
    assert_eq!(removal::by_size(&conn, &mut shares, 2 * DETAIL as u64, 0, "boot").unwrap(), 2);
    assert_eq!(gaps(), [(Some(1), 2), (Some(3), 8)]);
    // Then all up to the ninth.
    assert_eq!(removal::by_age(&conn, &mut shares, 10, "boot").unwrap(), 2);
    assert_eq!(gaps(), [(Some(1), 9)]);
}

#[test]
fn where_nobody_has_much_the_oldest_go() {
    let conn = empty_tables();
    (1..=10).for_each(|n| tables::insert(&conn, n, &of_user(u32::try_from(n / 4).unwrap(), n)).unwrap());
    let mut shares = shares::Shares::default();
    let small = 20 * DETAIL as u64;
    assert_eq!(removal::by_size(&conn, &mut shares, 3 * DETAIL as u64, small, "boot").unwrap(), 3);
    let oldest = conn.query_row("SELECT min(seq) FROM entry", (), |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(oldest, 3, "a gap for the first three");
}

#[test]
fn users_with_many_entries_have_equal_shares() {
    let dir = tempfile::tempdir().unwrap();
    let journal = begun(JournalOptions { max_bytes: MAX_BYTES_MIN, ..options(dir.path()) });
    // The first has filled the file before the second comes.
    let read = filled(&journal, 1..=4_000, |_| 1);
    let before = held_by(1, &read);
    let read = filled(&journal, 4_001..=12_000, |n| if n % 4 == 0 { 1 } else { 2 });
    let (one, other) = (held_by(1, &read), held_by(2, &read));
    // The last transaction adds to unequal shares: three quarters of it are the second's.
    assert!(one.abs_diff(other) <= 256, "{one} and {other} of {before}");
    // Pages between gaps are not full.
    assert!(one + other >= before * 2 / 3, "{one} and {other} of {before}");
    let newest = |uid| {
        let of_user =
            |stored: &&NumberedEntry| stored.entry.subject.as_ref().and_then(|it| it.uid) == Some(uid);
        read.iter().rev().filter(of_user).map(|stored| stored.entry.boottime_ns).take(3).collect::<Vec<_>>()
    };
    assert_eq!((newest(1), newest(2)), (vec![12_000, 11_996, 11_992], vec![11_999, 11_998, 11_997]));
}
