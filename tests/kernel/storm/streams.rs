//! The stream under load: no change is lost between the snapshot and the changes, and queries remove nothing
//! from it.

use observer_harness::Verb;
use observer_harness::watch::SOON;
use observer_harness::{Daemon, Fixture, Options, Watch, eventually, text};
use serde_json::Value;

#[test]
fn snapshot_and_changes_together_are_the_map() {
    let _alone = crate::alone();
    let (daemon, fixture) = (&Daemon::start(&Options::default()), Fixture::new());
    // Births and deaths continue while the watcher connects: none may be lost between its snapshot and its
    // changes.
    let mut busy = fixture.puppet();
    let dir = fixture.mkdir("a");
    busy.patience(std::time::Duration::from_secs(60));
    let dir = std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str());
    busy.request(Verb::ForkRace, &[dir, dir, b"3000", b"300"]);
    let watch = Watch::all(daemon);
    let kept = busy.answer(Verb::ForkRace).expect("it forked");
    assert_eq!(kept.len(), 10);
    eventually("the stream has caught up", SOON, || {
        let received = watch.frames();
        let missing = kept.iter().filter(|pid| {
            let pid = observer_harness::fixture::number(pid) as u32;
            !received.iter().any(|frame| frame.pid() == Some(pid))
        });
        match missing.count() {
            0 => Ok(()),
            count => Err(format!("{count} untold")),
        }
    });
    watch.assert_no_holes();
    let mut live = std::collections::BTreeMap::new();
    for frame in watch.frames() {
        // A watcher that falls behind is notified and starts again from a new snapshot.
        if frame.kind() == "snapshot_begin" {
            live.clear();
        }
        let Some(pid) = frame.pid() else { continue };
        let key = text::u64_string(&frame.0, "start_boottime_ns");
        match frame.kind() {
            "process" | "process_started" => {
                assert_eq!(live.insert(pid, key), None, "not live before: {frame:?}")
            }
            "process_ended" => assert_eq!(live.remove(&pid), Some(key), "live before: {frame:?}"),
            kind if kind.starts_with("process_") => assert_eq!(live.get(&pid), Some(&key), "{frame:?}"),
            _ => {}
        }
    }
    let born: Vec<_> = kept.iter().map(|pid| observer_harness::fixture::number(pid) as u32).collect();
    assert!(born.iter().all(|pid| live.contains_key(pid)), "what lives at the end is live in the fold");
}

#[test]
fn a_watcher_that_stops_reading_does_not_delay_other_watchers() {
    let _alone = crate::alone();
    let (daemon, fixture) = (&Daemon::start(&Options::default()), Fixture::new());
    let slow = Watch::all(daemon);
    slow.stop_reading();
    let dir = fixture.mkdir("a");
    let dir = std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str());
    let mut busy = fixture.puppet();
    busy.patience(std::time::Duration::from_secs(60));
    busy.does(Verb::ForkRace, &[dir, dir, b"5000", b"5001"]);
    let fresh = Watch::all(daemon);
    let puppet = fixture.puppet();
    let pid = puppet.pid;
    puppet.ends(Verb::Exit, &[b"0"]);
    fresh.end_of(pid);
    assert_eq!(daemon.drops(), 0, "the ring was read on");
}

#[test]
fn queries_remove_nothing_from_the_stream() {
    let _alone = crate::alone();
    let (daemon, fixture) = (&Daemon::start(&Options::default()), Fixture::new());
    let program = fixture.dir().join("tiny");
    fixture.install(&observer_harness::tiny::image(), &program);
    let watch = Watch::all(daemon);
    let mut maker = fixture.puppet();
    let [program, dir] = [program, fixture.dir()].map(|path| path.into_os_string().into_encoded_bytes());
    // The portions fit into a watcher's queue: what a watcher that is behind loses is not the subject of this
    // test.
    for _ in 0..40 {
        maker.request(Verb::Storm, &[&program, &dir, b"50", &dir, &dir, b"0"]);
        while maker.is_silent() {
            daemon.ps();
        }
        assert_eq!(maker.answer(Verb::Storm).expect("it ran"), [b"50"], "50 processes lived and died");
        // No record waits in the daemon once a query that came after it is answered.
        daemon.ps();
    }
    let ppid = Some(Value::from(maker.pid));
    let received = |kind: &str| {
        let of_maker =
            |frame: &observer_harness::Frame| frame.kind() == kind && frame.field("ppid").cloned() == ppid;
        watch.frames().into_iter().filter(of_maker).collect::<Vec<_>>()
    };
    assert_eq!(watch.count(|frame| frame.kind() == "lagged"), 0, "the watcher kept up");
    let counted = || ["process_started", "process_execed", "process_ended"].map(|kind| received(kind).len());
    eventually("every birth, exec and death is reported", SOON, || {
        if counted() == [2000; 3] { Ok(()) } else { Err(format!("{:?} of 2000 each", counted())) }
    });
    for end in received("process_ended") {
        assert_eq!(end.death().get("code"), Some(&observer_harness::tiny::CODE.into()), "{end:?}");
    }
    watch.assert_no_holes();
}
