//! The disk is full when the daemon starts or while it runs: the map stays current, and history has a gap
//! with the count of lost entries.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use observer_harness::text::u64_any;
use observer_harness::{Daemon, Fixture, Options, Watch, eventually};
use serde_json::Value;

use crate::{SOON, Scene, kind};

/// A file system of some MiB, which is unmounted when the value is dropped.
struct SmallDisk {
    at: PathBuf,
    ballast: PathBuf,
}

impl SmallDisk {
    fn new(fixture: &Fixture, mib: u32) -> Self {
        let at = fixture.mkdir("disk");
        let name = CString::new(at.to_str().expect("a path of ours")).expect("no NUL");
        let size = CString::new(format!("size={mib}m")).expect("no NUL");
        // SAFETY: the strings are terminated and outlive the call.
        let mounted = unsafe {
            libc::mount(c"none".as_ptr(), name.as_ptr(), c"tmpfs".as_ptr(), 0, size.as_ptr().cast())
        };
        assert_eq!(mounted, 0, "mount {}: {}", at.display(), std::io::Error::last_os_error());
        Self { ballast: at.join("ballast"), at }
    }

    /// Fills the file system until no byte is free.
    fn fill(&self) {
        let mut file = File::create(&self.ballast).expect("create the ballast");
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4_096]) {
                break error.kind();
            }
        };
        assert_eq!(full, std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(&self.ballast).expect("remove the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let name = CString::new(self.at.to_str().expect("a path of ours")).expect("no NUL");
        // SAFETY: the string is terminated and outlives the call.
        unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Returns the session changes that the watcher received and that the journal had to store, each as (its
/// number in the journal, kind, cwd).
fn published(watch: &Watch) -> Vec<(Option<u64>, String, Value)> {
    let frames = watch.frames().into_iter().map(|frame| frame.0);
    let changes =
        frames.filter(|frame| kind(frame).starts_with("session_") || kind(frame).starts_with("gap"));
    let taken = changes.filter(|frame| frame.get("event_seq").is_some());
    taken.map(|it| (u64_any(&it, "event_seq"), kind(&it).to_owned(), it["cwd"].clone())).collect()
}

fn state(scene: &Scene, state: &str) -> Value {
    eventually(&format!("the journal is {state}"), Duration::from_secs(40), || {
        let journal = scene.journal();
        if journal["state"] == state { Ok(journal) } else { Err(format!("{journal}")) }
    })
}

/// Asserts that everything the watcher received is in history once, except for the entries that a gap counts.
#[track_caller]
fn assert_recorded(scene: &Scene, watch: &Watch) -> BTreeMap<u64, Value> {
    let reports_received = scene.history(&[]);
    let count = reports_received.len();
    let by_seq: BTreeMap<u64, Value> = reports_received
        .into_iter()
        .map(|entry| (u64_any(&entry, "event_seq").expect("a number"), entry))
        .collect();
    assert_eq!(by_seq.len(), count, "no number twice");
    let covered = covered(&by_seq);
    let mut next = 1;
    for &seq in by_seq.keys() {
        assert!(seq == next || covered.contains(&next), "a hole at {next}");
        next = seq + 1;
    }
    for (seq, of, cwd) in published(watch) {
        let Some(seq) = seq.filter(|seq| !covered.contains(seq)) else { continue };
        let entry = by_seq.get(&seq).unwrap_or_else(|| panic!("{seq} ({of}) is lost"));
        assert_eq!((kind(entry), &entry["cwd"]), (of.as_str(), &cwd), "{seq}");
    }
    by_seq
}

/// The numbers of entries that a later one took the place of.
fn covered(entries: &BTreeMap<u64, Value>) -> BTreeSet<u64> {
    let gaps = entries.values().filter(|entry| kind(entry) == "gap");
    let ranges = gaps.filter_map(|gap| Some(u64_any(gap, "from_seq")?..=u64_any(gap, "to_seq")?));
    ranges.flatten().collect()
}

fn gaps(reports_received: &BTreeMap<u64, Value>) -> Vec<(String, Option<u64>)> {
    let gaps = reports_received.values().filter(|entry| kind(entry) == "gap");
    gaps.map(|gap| (gap["reason"].as_str().expect("a reason").to_owned(), u64_any(gap, "count"))).collect()
}

fn row_is(scene: &Scene, home: &Path, pid: u32, cwd: &Path) {
    let row = scene.row(home).expect("a row");
    assert_eq!((u64_any(&row, "pid"), row["cwd"].as_str()), (Some(pid.into()), cwd.to_str()), "{row:#}");
}

#[test]
fn with_a_full_disk_at_start_the_map_stays_current_and_a_gap_counts_the_loss() {
    let fixture = Fixture::new();
    let disk = SmallDisk::new(&fixture, 8);
    disk.fill();
    let config = Some(Scene::config(&fixture, ""));
    let state_dir = Some(disk.at.clone());
    let daemon = Daemon::start(&Options { config, state_dir, ..Options::default() });
    let scene = Scene { fixture, daemon };
    let log = std::fs::read_to_string(scene.daemon.log()).expect("the log");
    assert!(log.contains("error") && log.contains("look at its disk"), "{log}");
    let journal = state(&scene, "failing");
    assert!(journal["last_error"].is_string() && journal["stream_id"].is_null(), "{journal:#}");
    let watch = Watch::sessions(&scene.daemon);
    let home = scene.home("busy");
    let below = scene.fixture.mkdir("homes/busy/below");
    let mut agent = scene.agent(&home, None);
    let short = scene.home("short");
    for _ in 0..50 {
        agent.chdir(&below);
        row_is(&scene, &home, agent.pid, &below);
        agent.chdir(&home);
        row_is(&scene, &home, agent.pid, &home);
        scene.fixture.short_lives(&short, &[], 1);
    }
    disk.free();
    state(&scene, "ok");
    let reports_received = eventually("the session is reported", SOON, || {
        let reports_received = scene.entries_of(&home);
        if reports_received.is_empty() { Err("nothing".into()) } else { Ok(reports_received) }
    });
    assert_eq!(kind(&reports_received[0]), "session_started");
    assert!(reports_received[0]["found_at"].is_string(), "{reports_received:#?}");
    let pid = agent.pid;
    agent.killed(libc::SIGKILL);
    watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    eventually("its end is reported", SOON, || match scene.entries_of(&home).last() {
        Some(last) if kind(last) == "session_ended" && last["death"]["signal"] == 9 => Ok(()),
        last => Err(format!("{last:?}")),
    });
    let lost = published(&watch).iter().filter(|(seq, ..)| seq.is_none()).count() as u64;
    assert!(lost > 100, "{lost}");
    let reports_received = assert_recorded(&scene, &watch);
    assert_eq!(gaps(&reports_received), [("disk_full".into(), Some(lost))]);
    assert_eq!(scene.journal()["dropped"], lost);
}

#[test]
fn with_a_full_disk_at_run_time_only_the_entries_that_a_gap_counts_are_missing() {
    let fixture = Fixture::new();
    let disk = SmallDisk::new(&fixture, 24);
    let scene = {
        let config = Some(Scene::config(&fixture, "[journal]\nargv = true"));
        let state_dir = Some(disk.at.clone());
        let daemon = Daemon::start(&Options { config, state_dir, ..Options::default() });
        Scene { fixture, daemon }
    };
    let watch = Watch::sessions(&scene.daemon);
    let home = scene.home("busy");
    // JSON escapes control characters, so an entry with all arguments has 20 KiB: 8 MiB of entries wait in memory.
    let args: Vec<_> = (0..40).map(|_| "\u{1}".repeat(90).into()).collect();
    let short = scene.home("short");
    let agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    disk.fill();
    // As long as the entries fit in memory, none is lost.
    scene.fixture.short_lives(&short, &args, 50);
    state(&scene, "failing");
    disk.free();
    state(&scene, "ok");
    scene.wait_written();
    assert_eq!(gaps(&assert_recorded(&scene, &watch)), []);
    assert_eq!(scene.journal()["dropped"], 0);
    // More entries than fit in memory are lost.
    disk.fill();
    // Starts that come fast are counted, and how many of them have entries depends on how fast they come.
    eventually("entries are lost", SOON, || {
        scene.fixture.short_lives(&short, &args, 50);
        match scene.journal()["dropped"].as_u64().expect("a number") {
            101.. => Ok(()),
            lost => Err(lost.to_string()),
        }
    });
    row_is(&scene, &home, agent.pid, &home);
    disk.free();
    state(&scene, "ok");
    let pid = agent.pid;
    agent.killed(libc::SIGKILL);
    watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    eventually("its end is reported", SOON, || match scene.entries_of(&home).last() {
        Some(last) if kind(last) == "session_ended" => Ok(()),
        last => Err(format!("{last:?}")),
    });
    let reports_received = assert_recorded(&scene, &watch);
    let unnumbered = published(&watch).iter().filter(|(seq, ..)| seq.is_none()).count() as u64;
    // Ends take the place of other entries of the same user.
    let removed = covered(&reports_received);
    let is_removed_end = |(seq, of, _): &(Option<u64>, String, Value)| {
        of == "session_ended" && seq.is_some_and(|seq| removed.contains(&seq))
    };
    assert!(!published(&watch).iter().any(is_removed_end), "no end is removed for another one");
    let lost = unnumbered + removed.len() as u64;
    // A short entry may still fit where a longer one did not, so there may be several gaps.
    let gaps = gaps(&reports_received);
    assert!(gaps.iter().all(|(reason, _)| reason == "disk_full"), "{gaps:?}");
    assert_eq!(gaps.iter().filter_map(|(_, count)| *count).sum::<u64>(), lost, "{gaps:?}");
    assert_eq!(scene.journal()["dropped"], lost);
    let ends =
        reports_received.values().filter(|entry| kind(entry) == "session_ended" && entry["pid"] == pid);
    assert_eq!(ends.count(), 1);
}
