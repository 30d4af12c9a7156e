//! Sessions that change, with a journal and a client that watches.

use std::path::Path;
use std::time::{Duration, Instant};

use observer_core::process::{Argv, ArgvSource};
use observer_core::session::State;
use serde_json::{Value, json};

use super::*;
use crate::daemon::test_session::{primary, recording_sink, session};
use crate::journal::{EntryFilter, JournalReader};
use crate::socket::hub::WatchFilter;
use crate::socket::unread::Unread;

const MS: u64 = 1_000_000;

/// A sink whose journal is in `dir`, and a client.
fn sink(dir: &Path) -> (DaemonSink, Arc<Unread>) {
    let mut sink = recording_sink(dir);
    let client = sink.hub.budget().client(0);
    sink.hub.subscribe(WatchFilter::default(), &client, Vec::new());
    (sink, client)
}

fn session_and_primary() -> (Session, Process) {
    let session = session();
    let process = primary(session.primary);
    (session, process)
}

/// The frames that came since the last call: whether the frame has the field `event_seq`, its value, and `changed`.
fn frames(client: &Unread) -> Vec<(bool, bool, Value)> {
    let frames = std::iter::from_fn(|| client.try_next());
    let frames = frames.map(|frame| serde_json::from_slice::<Value>(&frame).unwrap());
    let shown = |frame: Value| {
        let event_seq = frame.get("event_seq");
        (event_seq.is_some(), event_seq.is_some_and(Value::is_u64), frame["changed"].clone())
    };
    frames.map(shown).collect()
}

/// Moves the primary to `cwd` at `ms`.
fn moves(sink: &mut DaemonSink, ms: u64, session: &Session, process: &mut Process, cwd: &[u8]) {
    process.cwd.path = Some(Arc::from(cwd));
    process.cwd.as_of = BootTime(ms * MS);
    sink.change(BootTime(ms * MS), Change::SessionChanged(session, process));
}

#[test]
fn an_entry_states_the_change_since_the_last_entry_and_a_frame_since_the_last_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, watch) = sink(dir.path());
    let (session, mut process) = session_and_primary();
    sink.change(BootTime(0), Change::SessionStarted(&session, &process));
    assert_eq!(frames(&watch), [(true, true, Value::Null)]);
    moves(&mut sink, 10, &session, &mut process, b"/srv/a/b");
    moves(&mut sink, 20, &session, &mut process, b"/srv/a/c");
    let waiting = |before: &str, after: &str| (false, false, json!({"cwd": [before, after]}));
    assert_eq!(frames(&watch), [waiting("/srv/a", "/srv/a/b"), waiting("/srv/a/b", "/srv/a/c")]);
    let due = sink.next_due().unwrap();
    assert_eq!(sink.take_due(due), [Arc::clone(&session.home)]);
    sink.write_waiting(due, &session.home, Some((&session, &process)));
    assert_eq!(frames(&watch), [(true, true, json!({"cwd": ["/srv/a", "/srv/a/c"]}))]);
}

#[test]
fn a_change_that_the_comparison_with_a_new_file_will_tell_has_no_number_yet() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "in the way").unwrap();
    let (mut sink, watch) = sink(&state);
    let (session, mut process) = session_and_primary();
    sink.change(BootTime(0), Change::SessionStarted(&session, &process));
    assert_eq!(frames(&watch), [(true, false, Value::Null)], "the entry is lost");
    std::fs::remove_file(&state).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while sink.journal.as_ref().unwrap().status(0).stream_id.is_none() {
        assert!(Instant::now() < deadline, "no file");
        std::thread::sleep(Duration::from_millis(1));
    }
    moves(&mut sink, 2_000, &session, &mut process, b"/srv/a/b");
    assert_eq!(frames(&watch), [(false, false, json!({"cwd": ["/srv/a", "/srv/a/b"]}))]);
    assert_eq!(sink.journal.as_ref().unwrap().status(0).dropped, 1, "it is not lost");
}

#[test]
fn a_change_of_which_nothing_is_shown_is_neither_published_nor_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, watch) = sink(dir.path());
    let (mut session, mut process) = session_and_primary();
    sink.change(BootTime(0), Change::SessionStarted(&session, &process));
    session.home_dir.ino = 5;
    process.filename = Some(Arc::from(&b"agent"[..]));
    moves(&mut sink, 2_000, &session, &mut process, b"/srv/a");
    assert_eq!((frames(&watch).len(), sink.next_due()), (1, None), "the start alone");
    // It went and came back before the journal took it.
    moves(&mut sink, 3_000, &session, &mut process, b"/srv/a/b");
    moves(&mut sink, 3_010, &session, &mut process, b"/srv/a/c");
    moves(&mut sink, 3_020, &session, &mut process, b"/srv/a/b");
    assert_eq!(frames(&watch).len(), 3);
    let due = sink.next_due().unwrap();
    sink.take_due(due);
    sink.write_waiting(due, &session.home, Some((&session, &process)));
    assert_eq!((frames(&watch), sink.next_due()), (vec![], None));
    assert_eq!(sink.journal.as_ref().unwrap().numbering().last_seq, 2);
}

#[test]
fn without_a_journal_each_change_is_published_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, watch) = sink(dir.path());
    sink.journal = None;
    let (session, mut process) = session_and_primary();
    moves(&mut sink, 10, &session, &mut process, b"/srv/a/b");
    moves(&mut sink, 20, &session, &mut process, b"/srv/a/c");
    let expected = [(true, false, Value::Null), (true, false, json!({"cwd": ["/srv/a/b", "/srv/a/c"]}))];
    assert_eq!(frames(&watch), expected);
    assert_eq!(sink.next_due(), None);
}

#[test]
fn a_session_that_starts_again_or_is_resumed_is_compared_with_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, watch) = sink(dir.path());
    let (session, mut process) = session_and_primary();
    moves(&mut sink, 0, &session, &mut process, b"/srv/a/b");
    sink.change(BootTime(MS), Change::SessionEnded(&session, &process));
    sink.change(BootTime(2 * MS), Change::SessionStarted(&session, &process));
    frames(&watch);
    moves(&mut sink, 5_000, &session, &mut process, b"/srv/a/c");
    assert_eq!(frames(&watch), [(true, true, json!({"cwd": ["/srv/a/b", "/srv/a/c"]}))]);
    process.cwd.path = None;
    sink.reported.resumed(&session, &process);
    moves(&mut sink, 10_000, &session, &mut process, b"/srv/a/d");
    assert_eq!(frames(&watch), [(true, true, json!({"cwd": [null, "/srv/a/d"]}))]);
}

/// Starts the session `count` times, 10 ms apart, and ends it after each but the last `live` of them.
fn restarts(sink: &mut DaemonSink, count: u64, live: u64, session: &mut Session, process: &mut Process) {
    for n in 0..count {
        let at = BootTime(n * 10 * MS);
        process.key = ProcessKey::new(7, n + 1);
        session.primary = process.key;
        session.starts = vec![at].into();
        (session.state, session.death) = (State::Live, None);
        sink.change(at, Change::SessionStarted(session, process));
        if n < count - live {
            (session.state, session.death) = (State::Ended, Some(Death::from_status(9, at)));
            sink.change(at, Change::ProcessEnded(process, &Death::from_status(9, at)));
            sink.change(at, Change::SessionEnded(session, process));
        }
    }
}

#[test]
fn a_session_that_starts_again_and_again_has_one_entry_for_all_starts() {
    for (live, kind, deaths) in [(0, "session_ended", 20), (1, "session_started", 19)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut sink, watch) = sink(dir.path());
        let (mut session, mut process) = session_and_primary();
        sink.wall_offset_ns = 0;
        restarts(&mut sink, 30, live, &mut session, &mut process);
        let seen = frames(&watch);
        let numbered = seen.iter().filter(|(_, has_number, _)| *has_number).count();
        assert_eq!(
            (seen.len() as u64, numbered),
            (60 - live, 20),
            "clients see each, and the first ones have entries"
        );
        let due = sink.next_due().unwrap();
        assert_eq!(sink.take_due(due), [Arc::clone(&session.home)]);
        let living = (live > 0).then_some((&session, &process));
        sink.write_waiting(due, &session.home, living);
        let frame = watch.try_next().unwrap();
        let frame: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!((&frame["kind"], &frame["event_seq"]), (&json!(kind), &json!(21)), "{frame:#}");
        let restarts = &frame["restarts"];
        assert_eq!(restarts["count"], 20, "{frame:#}");
        assert_eq!(restarts["first"], "1970-01-01T00:00:00.100Z");
        assert_eq!(restarts["last"], "1970-01-01T00:00:00.290Z");
        assert_eq!(
            restarts["deaths"],
            json!({"exited": 0, "signaled": deaths, "oom_killed": 0, "unobserved": 0})
        );
        assert_eq!(restarts["last_death"]["signal_name"], "SIGKILL");
        assert_eq!((frames(&watch), sink.next_due()), (vec![], None));
        // What is known of it is the last start.
        process.cwd.path = Some(Arc::from(&b"/srv/a/b"[..]));
        if live > 0 {
            moves(&mut sink, 5_000, &session, &mut process, b"/srv/a/b");
            assert_eq!(frames(&watch), [(true, true, json!({"cwd": ["/srv/a", "/srv/a/b"]}))]);
        }
    }
}

#[test]
fn entries_and_frames_of_others_have_the_first_argument_alone() {
    let argv =
        |bytes: &[u8]| Argv { bytes: bytes.into(), truncated: false, source: ArgvSource::Exec, uid: 1000 };
    for entries_for in [Audience::Anyone, Audience::Root] {
        let dir = tempfile::tempdir().unwrap();
        let (mut sink, root) = sink(dir.path());
        sink.entries_for = entries_for;
        let watch = |sink: &mut DaemonSink, uid| {
            let client = sink.hub.budget().client(uid);
            sink.hub.subscribe(WatchFilter::default(), &client, Vec::new());
            client
        };
        let (owner, other) = (watch(&mut sink, 1000), watch(&mut sink, 1001));
        let (mut session, mut process) = session_and_primary();
        process.argv = Some(argv(b"agent\0hunter2\0"));
        restarts(&mut sink, 30, 1, &mut session, &mut process);
        let due = sink.next_due().unwrap();
        sink.take_due(due);
        sink.write_waiting(due, &session.home, Some((&session, &process)));
        process.argv = Some(argv(b"agent\0hunter3\0"));
        process.exec_at = Some(BootTime(1));
        moves(&mut sink, 5_000, &session, &mut process, b"/srv/a");
        // The arguments alone differ, which is shown to those who see them.
        process.argv = Some(argv(b"agent\0hunter4\0"));
        moves(&mut sink, 10_000, &session, &mut process, b"/srv/a");
        let bodies = |client: &Unread| -> Vec<String> {
            let next = std::iter::from_fn(|| client.try_next());
            next.map(|body| String::from_utf8(body).unwrap()).collect()
        };
        let (of_root, of_owner, of_other) = (bodies(&root), bodies(&owner), bodies(&other));
        assert!(of_root.iter().all(|body| body.contains("hunter")), "{of_root:#?}");
        assert_eq!(of_owner, of_root);
        assert!(of_other.iter().all(|body| !body.contains("hunter")), "{of_other:#?}");
        assert!(of_other.iter().all(|body| body.contains(r#""argv":["agent"],"argv_truncated":true"#)));
        assert_eq!(of_other.len() + 1, of_root.len(), "an exec is shown to all, and arguments are not");
        drop(sink);
        let reader = JournalReader::open(&dir.path().join("journal.sqlite")).unwrap();
        let entries = reader.read_after(0, &EntryFilter::default(), usize::MAX, usize::MAX).unwrap();
        let count = |text: &str| entries.iter().filter(|entry| entry.entry.detail.contains(text)).count();
        assert!(entries.len() > 20);
        assert_eq!(count("hunter"), if entries_for == Audience::Root { entries.len() } else { 0 });
        assert_eq!(count(r#""argv":["agent""#), entries.len());
    }
}
