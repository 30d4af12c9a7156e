//! Changes of several users, of whom one has many, with a journal and clients that watch.

use std::path::Path;

use observer_core::death::Death;
use observer_core::limits::OOM_MARK_NS;
use observer_core::process::Uids;
use observer_core::session::State;
use observer_core::{ProcessKey, Sink as _};
use serde_json::Value;

use super::*;
use crate::clock;
use crate::daemon::test_session::{primary, recording_sink, session};
use crate::daemon::turns::CHANGES_AT_ONCE_MAX;
use crate::socket::hub::WatchFilter;
use crate::socket::unread::Unread;

/// A sink whose journal is in `dir`, and a client that watches every process.
fn sink(dir: &Path) -> (DaemonSink, Arc<Unread>) {
    let mut sink = recording_sink(dir);
    let client = watch(&mut sink);
    (sink, client)
}

fn watch(sink: &mut DaemonSink) -> Arc<Unread> {
    let client = sink.hub.budget().client(0);
    sink.hub.subscribe(WatchFilter::new(true, None).unwrap(), &client, Vec::new());
    client
}

/// A session of `uid`, and its primary.
fn of(uid: u32, number: u32) -> (Session, Process) {
    let (key, path) = (ProcessKey::new(number, u64::from(number)), format!("/srv/{number}"));
    let home = Home { mnt_ns: None, path: Arc::from(path.as_bytes()), uid, instance: 1 };
    let mut process = primary(key);
    process.uids = Uids { uid, ..Uids::default() };
    (Session { home: Arc::new(home), primary: key, ..session() }, process)
}

/// The frames that came since the last call: kind, pid, number.
fn frames(client: &Unread) -> Vec<(String, u64, Option<u64>)> {
    let frames = std::iter::from_fn(|| client.try_next());
    let frames = frames.map(|frame| serde_json::from_slice::<Value>(&frame).unwrap());
    let shown = |it: Value| {
        (it["kind"].as_str().unwrap().into(), it["pid"].as_u64().unwrap(), it["event_seq"].as_u64())
    };
    frames.map(shown).collect()
}

/// Takes turns until nothing waits.
fn take_all_turns(sink: &mut DaemonSink) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while sink.turns.waiting() > 0 {
        let written = sink.journal.as_ref().unwrap().progress().committed;
        sink.take_turns(clock::boottime(), written.into());
        assert!(std::time::Instant::now() < deadline, "{} wait", sink.turns.waiting());
        std::thread::yield_now();
    }
}

#[test]
fn a_start_is_reported_behind_a_bounded_number_of_another_users_starts() {
    const COUNT: u32 = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, client) = sink(dir.path());
    for number in 1..=COUNT {
        let (session, process) = of(7, number);
        let at = BootTime(OOM_MARK_NS + u64::from(number));
        sink.change(at, Change::SessionStarted(&session, &process));
    }
    let (ours, process) = of(8, 5_000);
    sink.change(BootTime(5_000), Change::SessionStarted(&ours, &process));
    let most = CHANGES_AT_ONCE_MAX as u64;
    let seen = frames(&client);
    assert_eq!(seen.len() as u64, most + 1);
    assert_eq!(seen.last(), Some(&("session_started".into(), 5_000, Some(most + 1))));
    // Up to the first that waits, the journal is complete; a death may be reported later than what came after it.
    assert_eq!(sink.withheld_since(), Some(BootTime(most + 1)));
    let late = watch(&mut sink);
    take_all_turns(&mut sink);
    let rest = frames(&client);
    let expected: Vec<_> =
        (most + 1..=u64::from(COUNT)).map(|pid| ("session_started".into(), pid, Some(pid + 1))).collect();
    assert_eq!(rest, expected, "each once, in order, with the next numbers");
    assert_eq!(frames(&late), [], "they are in the snapshot of who came meanwhile");
    assert_eq!(sink.withheld_since(), None);
}

#[test]
fn what_waits_of_a_session_keeps_its_order_and_states_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, client) = sink(dir.path());
    for number in 1..=CHANGES_AT_ONCE_MAX as u32 {
        let (session, process) = of(7, number);
        sink.change(BootTime(1), Change::SessionStarted(&session, &process));
    }
    frames(&client);
    let (mut session, mut process) = of(7, 5_000);
    sink.change(BootTime(2), Change::SessionStarted(&session, &process));
    process.cwd.path = Some(Arc::from(&b"/srv/elsewhere"[..]));
    session.state = State::Left;
    sink.change(BootTime(3), Change::SessionChanged(&session, &process));
    sink.write_in_turn(BootTime(4), None, Arc::clone(&session.home), Some((&session, &process)));
    let death = Death::from_status(9, BootTime(5));
    sink.change(BootTime(5), Change::ProcessEnded(&process, &death));
    (session.state, session.death) = (State::Ended, Some(death));
    sink.change(BootTime(5), Change::SessionEnded(&session, &process));
    assert_eq!(frames(&client), []);
    take_all_turns(&mut sink);
    let seen = frames(&client);
    let kinds: Vec<_> = seen.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, ["session_started", "session_changed", "process_ended", "session_ended"]);
    assert_eq!(seen.iter().filter_map(|(_, _, seq)| *seq).collect::<Vec<_>>(), [129, 130, 131]);
}

#[test]
fn what_waited_for_its_pace_waits_once_for_its_turn_and_has_the_time_of_the_change() {
    const MS: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, client) = sink(dir.path());
    let (session, mut process) = of(7, 5_000);
    sink.change(BootTime(1), Change::SessionStarted(&session, &process));
    for number in 1..=CHANGES_AT_ONCE_MAX as u32 {
        let (session, process) = of(7, number);
        sink.change(BootTime(2), Change::SessionStarted(&session, &process));
    }
    for step in 0..50 {
        let (at, now) = (BootTime((1_100 + 2 * step) * MS), BootTime((1_101 + 2 * step) * MS));
        process.cwd.path = Some(Arc::from(format!("/srv/{step}").as_bytes()));
        sink.change(at, Change::SessionChanged(&session, &process));
        // As the event loop does when the pace of the session allows an entry.
        sink.write_in_turn(now, None, Arc::clone(&session.home), Some((&session, &process)));
    }
    frames(&client);
    take_all_turns(&mut sink);
    let frames = std::iter::from_fn(|| client.try_next());
    let frames = frames.map(|frame| serde_json::from_slice::<Value>(&frame).unwrap());
    let written: Vec<_> = frames
        .filter(|frame| frame["kind"] == "session_changed" && frame["event_seq"].is_u64())
        .map(|frame| frame["boottime_ns"].clone())
        .collect();
    assert_eq!(
        written,
        [Value::from((1_100 * MS).to_string())],
        "one entry in the second of which all these changes are"
    );
}

#[test]
fn what_waits_when_a_gap_begins_or_ends_is_as_certain_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, client) = sink(dir.path());
    sink.certain = true;
    let many = CHANGES_AT_ONCE_MAX as u32 + 5;
    let start = |sink: &mut DaemonSink, first: u32| {
        for number in first..first + many {
            let (session, process) = of(7, number);
            sink.change(BootTime(1), Change::SessionStarted(&session, &process));
        }
    };
    start(&mut sink, 1);
    sink.change(BootTime(2), Change::GapOpened { from: BootTime(1) });
    start(&mut sink, 10_000);
    sink.change(BootTime(3), Change::GapClosed { from: BootTime(1), to: BootTime(3), lost: 0, corrected: 0 });
    let frames = std::iter::from_fn(|| client.try_next());
    let frames = frames.map(|frame| serde_json::from_slice::<Value>(&frame).unwrap());
    let shown: Vec<_> =
        frames.map(|it| (it["kind"].as_str().unwrap().to_owned(), it["certain"].as_bool())).collect();
    let of = |certain| std::iter::repeat_n(("session_started".to_owned(), Some(certain)), many as usize);
    let starts: Vec<_> = shown.iter().filter(|(kind, _)| kind == "session_started").cloned().collect();
    assert_eq!(starts, of(true).chain(of(false)).collect::<Vec<_>>());
    let place = |kind: &str| shown.iter().position(|(it, _)| it == kind);
    assert_eq!((place("gap_opened"), place("gap_closed")), (Some(many as usize), Some(shown.len() - 1)));
}

#[test]
fn an_end_that_waits_for_its_turn_and_then_for_its_pace_is_written_when_the_daemon_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, _client) = sink(dir.path());
    for number in 1..=CHANGES_AT_ONCE_MAX as u32 {
        let (session, process) = of(7, number);
        sink.change(BootTime(1), Change::SessionStarted(&session, &process));
    }
    let (mut session, process) = of(7, 5_000);
    session.death = Some(Death::from_status(9, BootTime(5)));
    for _ in 0..64 {
        session.state = State::Live;
        sink.change(BootTime(2), Change::SessionStarted(&session, &process));
        session.state = State::Ended;
        sink.change(BootTime(2), Change::SessionEnded(&session, &process));
    }
    assert!(sink.turns.waiting() > 0);
    // As the event loop does at its end.
    sink.report_all_waiting();
    let due = sink.take_due(BootTime(u64::MAX));
    assert_eq!(due, [Arc::clone(&session.home)], "it starts and ends again and again");
    due.into_iter().for_each(|home| sink.write_in_turn(BootTime(6), None, home, None));
    assert_eq!((sink.withheld_since(), sink.turns.waiting()), (None, 0));
}

#[test]
fn a_process_that_becomes_another_users_keeps_its_place_behind_what_waits_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, client) = sink(dir.path());
    let (_, mut process) = of(7, 1);
    for _ in 0..=CHANGES_AT_ONCE_MAX {
        sink.change(BootTime(1), Change::ProcessChanged(&process));
    }
    process.uids.uid = 0;
    sink.change(BootTime(2), Change::ProcessExeced(&process));
    assert!(frames(&client).iter().all(|(kind, ..)| kind == "process_changed"));
    take_all_turns(&mut sink);
    let kinds: Vec<_> = frames(&client).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, ["process_changed", "process_execed"]);
    assert!(sink.waiting_processes.is_empty());
    // From here on it is another user's.
    sink.change(BootTime(3), Change::ProcessChanged(&process));
    assert_eq!(frames(&client).len(), 1);
}
