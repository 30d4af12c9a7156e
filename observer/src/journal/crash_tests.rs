//! The journal against a process that ends at any moment, and a disk that is full.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use observer_harness::skip;

use super::tests::{all, assert_dense, begun, entry, gap, options};
use super::*;
use crate::api::entry::Entry;
use crate::api::words::{EntryKind, JournalState};

/// Set in the child: the directory of its journal.
const CHILD: &str = "OBSERVER_TEST_JOURNAL";
/// Lives of one journal. A busy machine needs more until enough entries are acknowledged.
const LIVES: u64 = 40;
const LIVES_IF_BUSY: u64 = 10 * LIVES;
/// More entries than this must be acknowledged.
const ACKNOWLEDGED_ENOUGH: usize = 200;

/// Not a test of its own: the child of the next test. It reports what is committed, and ends at a moment that its parent
/// chose.
#[test]
fn child_that_ends_at_a_chosen_moment() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let after_us: u64 = std::env::var("OBSERVER_TEST_AFTER_US").unwrap().parse().unwrap();
    let end_soon = move || {
        std::thread::sleep(Duration::from_micros(after_us));
        // SAFETY: ends the process at once: no destructor, no buffer is written.
        unsafe { libc::_exit(9) }
    };
    let while_opening = after_us.is_multiple_of(3);
    if while_opening {
        std::thread::spawn(end_soon);
    }
    let options = JournalOptions { max_bytes: MAX_BYTES_MIN, ..options(Path::new(&dir)) };
    let journal = begun(options);
    if !while_opening {
        std::thread::spawn(end_soon);
    }
    let mut reported = 0;
    for n in 0.. {
        let pad = "x".repeat((n as usize * 37) % 3_000);
        let at = u64::from(std::process::id()) << 32 | n;
        let pushed =
            journal.push(Entry { detail: format!(r#"{{"n":{at},"pad":"{pad}"}}"#), ..entry(at) }).seq();
        // Standard error is not caught by the test harness.
        let mut err = std::io::stderr();
        if let Some(seq) = pushed {
            let _ = err.write_all(format!("pushed {seq} {at}\n").as_bytes());
        }
        let committed = journal.spool().committed().borrow().last_seq;
        if committed > reported {
            reported = committed;
            let _ = err.write_all(format!("committed {committed}\n").as_bytes());
        }
    }
}

/// Compares the file with a model of what the child reported: the numbers, their entries, and up to where they are committed.
#[test]
fn a_process_that_is_killed_at_any_moment_loses_no_acknowledged_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = options(dir.path()).path;
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    let mut stream = None;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for life in 0..LIVES_IF_BUSY {
        if life >= LIVES && acknowledged.len() > ACKNOWLEDGED_ENOUGH {
            break;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after_us = 200 + (random >> 33) % 60_000;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::crash_tests::child_that_ends_at_a_chosen_moment", "--nocapture"])
            .env(CHILD, dir.path())
            .env("OBSERVER_TEST_AFTER_US", after_us.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut pushed, mut committed) = (Vec::new(), 0);
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            assert!(!line.contains("warning"), "life {life}, {after_us} µs: {line}");
            // The last line may be cut.
            let mut words = line.split(' ');
            let word = words.next().unwrap_or_default();
            match (word, words.next().map(str::parse), words.next().map(str::parse)) {
                ("pushed", Some(Ok(seq)), Some(Ok(n))) => pushed.push((seq, n)),
                ("committed", Some(Ok(seq)), _) => committed = seq,
                _ => {}
            }
        }
        assert_eq!(child.wait().unwrap().code(), Some(9));
        acknowledged.extend(pushed.into_iter().filter(|(seq, _)| *seq <= committed));
        if !path.exists() {
            continue;
        }
        let Ok(reader) = JournalReader::open(&path) else {
            // It ended while it made its first file.
            assert!(acknowledged.is_empty());
            continue;
        };
        drop(reader);
        let (id, read) = all(&path);
        assert_eq!(
            *stream.get_or_insert_with(|| id.clone()),
            id,
            "life {life}, {after_us} µs: the stream goes on"
        );
        assert_dense(&read);
        let held: HashSet<(u64, u64)> =
            read.iter().map(|stored| (stored.seq, stored.entry.boottime_ns)).collect();
        let gaps = read.iter().filter(|stored| stored.entry.kind == EntryKind::Gap).map(gap);
        let removed: Vec<_> = gaps.filter(|gap| gap.reason.as_str() == "retention_size").collect();
        for (seq, n) in &acknowledged {
            let gone = removed.iter().any(|gap| gap.from_seq <= Some(*seq) && Some(*seq) <= gap.to_seq);
            assert!(gone || held.contains(&(*seq, *n)), "life {life}, {after_us} µs: {seq} is lost");
        }
    }
    assert!(acknowledged.len() > ACKNOWLEDGED_ENOUGH, "{}", acknowledged.len());
}

/// A file system of a few MiB, mounted for one thread alone.
pub(super) fn on_a_small_disk(bytes: &str, test: impl FnOnce(&Path) + Send + 'static) {
    let bytes = bytes.to_owned();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    let outcome = std::thread::spawn(move || {
        let c = |text: &str| std::ffi::CString::new(text).unwrap();
        // SAFETY: strings outlive the calls; they change this thread's mount namespace only.
        let mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c("none").as_ptr(),
                    c("/").as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::mount(
                    c("none").as_ptr(),
                    c(at.to_str().unwrap()).as_ptr(),
                    c("tmpfs").as_ptr(),
                    0,
                    c(&format!("size={bytes}")).as_ptr().cast(),
                ) == 0
        };
        assert!(mounted, "mount a tmpfs: {}", std::io::Error::last_os_error());
        test(&at);
    })
    .join();
    outcome.unwrap();
}

pub(super) fn is_root() -> bool {
    // SAFETY: reads a number.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn a_full_disk_costs_a_gap_with_the_count_and_nothing_else() {
    if !is_root() {
        skip!("mounting a small file system needs root");
    }
    on_a_small_disk("12m", |dir| {
        let journal = begun(options(dir));
        let large =
            |n| Entry { detail: format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(20_000)), ..entry(n) };
        let ballast = dir.join("ballast");
        std::fs::write(&ballast, vec![0; 9 << 20]).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let (mut n, mut lost) = (0, 0);
        while lost < 5 {
            // No faster than the disk, until it is full.
            if journal.status(0).state == JournalState::Ok && journal.queue().waiting() > 50 {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            n += 1;
            lost += u64::from(journal.push(large(n)).seq().is_none());
            assert!(std::time::Instant::now() < deadline, "it never filled");
        }
        let status = journal.status(0);
        assert_eq!((status.state.as_str(), status.dropped), ("failing", lost), "{status:?}");
        assert!(status.failures > 0);
        std::fs::remove_file(&ballast).unwrap();
        // Room for what waited in memory, not for everything: the disk stays small, the journal goes on.
        while journal.status(0).state.as_str() != "ok" {
            assert!(
                std::time::Instant::now() < deadline + Duration::from_secs(60),
                "{:?}",
                journal.status(0)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(journal);
        let (_, read) = all(&dir.join("journal.sqlite"));
        assert_dense(&read);
        let reported: Vec<_> =
            read.iter().filter(|stored| stored.entry.kind == EntryKind::Gap).map(gap).collect();
        assert_eq!(reported.iter().map(|gap| gap.count).collect::<Vec<_>>(), [Some(lost)]);
        assert_eq!(reported[0].reason.as_str(), "disk_full");
        assert_eq!(read.len() as u64, n - lost + 1, "what was pushed is there, once");
    });
}
