//! A daemon that ends while its disk and its database do not answer.

use std::net::TcpListener;

use super::*;
use crate::api::entry::Entry;
use crate::api::words::EntryKind;
use crate::journal::{EntryFilter, JournalOptions, JournalReader, MAX_AGE_DEFAULT, MAX_BYTES_MIN};
use crate::mirror::feed::MirrorOptions;
use crate::mirror::items::MirroredArgv;
use crate::mirror::target::DatabaseUrl;

/// How long another connection keeps the journal from being written: not at all, for a part of the time, and for longer.
const DISK_HANGS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(1_000), Duration::from_secs(4)];
/// The time in which the daemon ends.
const END_MAX: Duration = Duration::from_secs(2);

#[test]
fn an_end_waits_for_the_disk_and_the_database_together_no_longer_than_two_seconds() {
    // A server that accepts connections and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/none?sslmode=disable", server.local_addr().unwrap());
    for disk_hangs in DISK_HANGS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let boot_id = "6d2a7a7c-0d0b-4d5c-9d3d-2f7ad6f6f3a1";
        let options = JournalOptions {
            path: path.clone(),
            max_bytes: MAX_BYTES_MIN,
            max_age: MAX_AGE_DEFAULT,
            boot_id: boot_id.into(),
            delivers: true,
        };
        let journal = Journal::open(options).unwrap();
        journal.resume();
        let database = DatabaseUrl::from_argument(&url).unwrap();
        let options = MirrorOptions { database, argv: MirroredArgv::First };
        let (mirror, _maps) = MirrorLink::start(Some(options), Some(&journal), boot_id).unwrap();
        server.accept().unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let locked = std::thread::spawn(move || {
            std::thread::sleep(disk_hangs);
            other.execute_batch("ROLLBACK").unwrap();
        });
        let entry = Entry {
            at_unix_ns: 1,
            boottime_ns: 1,
            boot_id: boot_id.into(),
            kind: EntryKind::GapOpened,
            subject: None,
            detail: "{}".into(),
        };
        journal.push(entry).seq().unwrap();
        let since = Instant::now();
        end(Some(journal), mirror, since);
        let took = since.elapsed();
        assert!(took < END_MAX, "{took:?}, the disk hangs for {disk_hangs:?}");
        if disk_hangs < END_MAX {
            let reader = JournalReader::open(&path).unwrap();
            let read = reader.read_after(0, &EntryFilter::default(), usize::MAX, usize::MAX).unwrap();
            assert_eq!(read.len(), 1, "the entry is written");
        }
        locked.join().unwrap();
    }
}
