//! The stream: a snapshot, then every change in order and without holes.

use observer_harness::Verb;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Watch, text};
use serde_json::Value;

/// Returns whether the text has the form 2026-01-02T03:04:05.678Z.
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
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let puppet = fixture.puppet();
    let row = assert_row(daemon, puppet.pid);
    let watch = Watch::all(daemon);
    watch.assert_no_holes();
    let frames = watch.frames();
    for frame in &frames {
        assert!(frame.0.get("at").and_then(Value::as_str).is_some_and(rfc3339), "{frame:?}");
        assert!(text::u64_string(&frame.0, "boottime_ns").is_some_and(|ns| ns > 0), "{frame:?}");
    }
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
fn without_all_only_sessions_are_published() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let (sessions, all) = (Watch::sessions(daemon), Watch::all(daemon));
    let puppet = fixture.puppet();
    let pid = puppet.pid;
    puppet.ends(Verb::Exit, &[b"0"]);
    all.end_of(pid);
    assert_eq!(sessions.count(|frame| frame.kind().starts_with("process")), 0, "{:?}", sessions.frames());
    sessions.assert_no_holes();
}

#[test]
fn the_changes_of_one_process_are_published_in_order() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let dir = fixture.mkdir("there");
    let mut puppet = fixture.puppet();
    let pid = puppet.pid;
    puppet.chdir(&dir);
    puppet.does(Verb::Setname, &[b"named"]);
    puppet.does(Verb::Setresuid, &[b"1000", b"1000", b"1000"]);
    puppet.ends(Verb::Exit, &[b"4"]);
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
        assert!(rest.any(|received| received == kind), "{kind} in its place: {kinds:?}");
    }
    watch.assert_no_holes();
}

#[test]
fn a_change_is_on_the_stream_within_a_second() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let puppet = fixture.puppet();
    let pid = puppet.pid;
    puppet.ends(Verb::Exit, &[b"0"]);
    // Changes of processes that are no sessions may be delayed by 20 ms; the rest is this machine's
    // scheduling, which the tests do not judge.
    watch.wait_within(std::time::Duration::from_secs(1), "the end", |frame| frame.is("process_ended", pid));
}
