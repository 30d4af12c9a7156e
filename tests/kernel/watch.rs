//! The stream: a snapshot, then every change, in order, without holes.

use observer_tests::truth::assert_row;
use observer_tests::watch::SOON;
use observer_tests::{Daemon, Stage, Watch, eventually, text};
use serde_json::Value;

#[track_caller]
fn assert_no_holes(watch: &Watch) {
    for (index, frame) in watch.frames().iter().enumerate() {
        assert_eq!(frame.seq(), index as u64 + 1, "numbered from 1 without holes: {frame:?}");
        assert!(frame.0.get("at").and_then(Value::as_str).is_some_and(rfc3339), "{frame:?}");
        assert!(text::u64_string(&frame.0, "boottime_ns").is_some_and(|ns| ns > 0), "{frame:?}");
    }
}

/// 2026-01-02T03:04:05.678Z
fn rfc3339(at: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| {
        at.get(range).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()))
    };
    let marks = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    marks.iter().all(|&(index, mark)| at.get(index..index + 1) == Some(mark))
        && [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].into_iter().all(digits)
        && at.ends_with('Z')
}

#[test]
fn the_stream_begins_with_a_whole_snapshot() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    let puppet = stage.puppet();
    let row = assert_row(daemon, puppet.pid);
    let watch = Watch::all(daemon);
    assert_no_holes(&watch);
    let frames = watch.frames();
    assert_eq!(frames.first().map(|frame| frame.kind().to_owned()).as_deref(), Some("snapshot_begin"));
    let end = frames.iter().position(|frame| frame.kind() == "snapshot_end").expect("it ended");
    let shown: Vec<_> = frames.iter().take(end).filter(|frame| frame.is("process", puppet.pid)).collect();
    let [shown] = shown[..] else { panic!("once in the snapshot: {shown:?}") };
    for field in ["start_boottime_ns", "comm", "argv", "cwd", "ppid", "sid"] {
        assert_eq!(shown.0.get(field), row.get(field), "{field}");
    }
    assert!(
        frames.iter().take(end).skip(1).all(|frame| ["process", "session"].contains(&frame.kind())),
        "rows only"
    );
}

#[test]
fn without_all_only_sessions_are_told() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    let (sessions, all) = (Watch::sessions(daemon), Watch::all(daemon));
    let puppet = stage.puppet();
    let pid = puppet.pid;
    puppet.ends("exit", &[b"0"]);
    all.end_of(pid);
    assert_eq!(sessions.count(|frame| frame.kind().starts_with("process")), 0, "{:?}", sessions.frames());
    assert_no_holes(&sessions);
}

#[test]
fn snapshot_and_changes_together_are_the_map() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    // Births and deaths go on while the watcher connects: none may fall between its snapshot and its changes.
    let mut busy = stage.puppet();
    let dir = stage.mkdir("a");
    busy.patience(std::time::Duration::from_secs(60));
    let dir = std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str());
    busy.tell("fork_race", &[dir, dir, b"3000", b"300"]);
    let watch = Watch::all(daemon);
    let kept = busy.answer("fork_race").expect("it forked");
    assert_eq!(kept.len(), 10);
    eventually("the stream has caught up", SOON, || {
        let told = watch.frames();
        let missing = kept.iter().filter(|pid| {
            let pid = observer_tests::stage::number(pid) as u32;
            !told.iter().any(|frame| frame.pid() == Some(pid))
        });
        match missing.count() {
            0 => Ok(()),
            count => Err(format!("{count} untold")),
        }
    });
    assert_no_holes(&watch);
    let mut live = std::collections::BTreeMap::new();
    for frame in watch.frames() {
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
    let born: Vec<_> = kept.iter().map(|pid| observer_tests::stage::number(pid) as u32).collect();
    assert!(born.iter().all(|pid| live.contains_key(pid)), "what lives at the end is live in the fold");
}

#[test]
fn what_happens_to_one_process_is_told_in_order() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    let watch = Watch::all(daemon);
    let dir = stage.mkdir("there");
    let mut puppet = stage.puppet();
    let pid = puppet.pid;
    puppet.chdir(&dir);
    puppet.does("setname", &[b"named"]);
    puppet.does("setresuid", &[b"1000", b"1000", b"1000"]);
    puppet.ends("exit", &[b"4"]);
    watch.end_of(pid);
    let kinds: Vec<_> = watch
        .frames()
        .iter()
        .filter(|frame| frame.pid() == Some(pid))
        .map(|frame| frame.kind().to_owned())
        .collect();
    let order = [
        "process_started",
        "process_execed",
        "process_moved",
        "process_changed",
        "process_changed",
        "process_ended",
    ];
    assert_eq!(kinds.iter().filter(|kind| order.contains(&kind.as_str())).count(), kinds.len(), "{kinds:?}");
    let mut rest = kinds.iter();
    for kind in order {
        assert!(rest.any(|told| told == kind), "{kind} in its place: {kinds:?}");
    }
    assert_no_holes(&watch);
}

#[test]
fn a_watcher_that_stops_reading_bothers_nobody() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    let slow = Watch::all(daemon);
    slow.stop_reading();
    let dir = stage.mkdir("a");
    let dir = std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str());
    let mut busy = stage.puppet();
    busy.patience(std::time::Duration::from_secs(60));
    busy.does("fork_race", &[dir, dir, b"5000", b"5001"]);
    let fresh = Watch::all(daemon);
    let puppet = stage.puppet();
    let pid = puppet.pid;
    puppet.ends("exit", &[b"0"]);
    fresh.end_of(pid);
    assert_eq!(daemon.drops(), 0, "the ring was read on");
}

#[test]
fn a_change_is_on_the_stream_within_moments() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    let watch = Watch::all(daemon);
    let puppet = stage.puppet();
    let pid = puppet.pid;
    puppet.ends("exit", &[b"0"]);
    // Others than sessions may linger 20 ms; the rest is this machine's scheduling, which tests do not judge.
    watch.wait_within(std::time::Duration::from_secs(1), "the end", |frame| frame.is("process_ended", pid));
}

#[test]
fn questions_take_nothing_from_the_stream() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    let program = stage.dir().join("tiny");
    stage.install(&observer_tests::tiny::image(), &program);
    let watch = Watch::all(daemon);
    let mut maker = stage.puppet();
    let [program, dir] = [program, stage.dir()].map(|path| path.into_os_string().into_encoded_bytes());
    maker.tell("storm", &[&program, &dir, b"2000", &dir, &dir]);
    while maker.is_silent() {
        daemon.ps();
    }
    assert_eq!(maker.answer("storm").expect("it ran"), [b"2000"], "2,000 processes lived and died");
    let ppid = Some(Value::from(maker.pid));
    let told = |kind: &str| {
        let of_maker =
            |frame: &observer_tests::Frame| frame.kind() == kind && frame.field("ppid").cloned() == ppid;
        watch.frames().into_iter().filter(of_maker).collect::<Vec<_>>()
    };
    let counted = || ["process_started", "process_execed", "process_ended"].map(|kind| told(kind).len());
    eventually("every birth, exec and death is told", SOON, || {
        if counted() == [2000; 3] { Ok(()) } else { Err(format!("{:?} of 2000 each", counted())) }
    });
    for end in told("process_ended") {
        assert_eq!(end.death().get("code"), Some(&observer_tests::tiny::CODE.into()), "{end:?}");
    }
    assert_no_holes(&watch);
}
