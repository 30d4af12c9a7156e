//! Deaths: each process has one death certificate, which equals the result of wait(2), whichever thread exits
//! last.

use std::time::Duration;

use observer_harness::Verb;
use observer_harness::truth::{assert_no_row, assert_row};
use observer_harness::wait::Waited;
use observer_harness::watch::SOON;
use observer_harness::{Daemon, Fixture, Frame, Watch, share, text};
use serde_json::{Value, json};

/// How long many processes may take to end.
const LONG: Duration = Duration::from_secs(120);

/// Asserts that the certificate equals the result of wait and that its other fields are consistent with the
/// row of the living process.
#[track_caller]
fn assert_certified(end: &Frame, waited: Waited, lived: &Value) {
    let death = end.death();
    assert_eq!(
        death.get("raw_status"),
        Some(&json!(waited.raw_status)),
        "wait4's word, of {waited:?}: {death:#}"
    );
    let (kind, code, signal, core) = match waited.si_code {
        libc::CLD_EXITED => ("exited", json!(waited.si_status), Value::Null, Value::Null),
        libc::CLD_KILLED => ("signaled", Value::Null, json!(waited.si_status), json!(false)),
        libc::CLD_DUMPED => ("signaled", Value::Null, json!(waited.si_status), json!(true)),
        other => panic!("waitid returned {other}"),
    };
    for (field, truth) in [("kind", json!(kind)), ("code", code), ("signal", signal), ("core_dumped", core)] {
        assert_eq!(death.get(field), Some(&truth), "{field}, of {waited:?}: {death:#}");
    }
    for unknown in ["polite_signal", "oom", "between"] {
        assert_eq!(death.get(unknown), Some(&Value::Null), "{unknown} is there and null: {death:#}");
    }
    let senders = [text::u64_any(lived, "pid"), Some(std::process::id().into())];
    match death.get("sender").and_then(|sender| text::u64_any(sender, "pid")) {
        None => assert_eq!((kind, death.get("sender")), ("exited", Some(&Value::Null)), "{death:#}"),
        sender => assert!(kind == "signaled" && senders.contains(&sender), "itself or this test: {death:#}"),
    }
    let name = death.get("signal_name").and_then(Value::as_str);
    assert_eq!(name.is_some(), kind == "signaled", "a name where there is a signal: {death:#}");
    let start_ns = text::u64_string(lived, "start_boottime_ns").expect("a start time");
    assert_eq!(text::u64_string(&end.0, "start_boottime_ns"), Some(start_ns), "of the process that lived");
    let end_ns = text::u64_string(&end.0, "boottime_ns").expect("an end has its time");
    let lifetime_ms = death.get("lifetime_ms").and_then(Value::as_u64).expect("a lifetime");
    assert_eq!(lifetime_ms, end_ns.saturating_sub(start_ns) / 1_000_000, "lifetime is end minus start");
    for field in ["comm", "cwd", "exe", "argv", "tty", "uid", "sid"] {
        assert_eq!(end.0.get(field), lived.get(field), "{field} in the end is the last that was");
    }
}

/// Ends a new puppet by `verb`, and asserts that its certificate is correct and arrives once.
#[track_caller]
fn assert_ends(watch: &Watch, verb: Verb, args: &[&[u8]]) -> Waited {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let puppet = fixture.puppet();
    let pid = puppet.pid;
    let lived = assert_row(daemon, pid);
    let waited = puppet.ends(verb, args);
    assert_no_row(daemon, pid, lived.get("start_boottime_ns").and_then(Value::as_str).expect("a start time"));
    let end = watch.end_of_row(&lived);
    assert_certified(&end, waited, &lived);
    assert_eq!(watch.count(|frame| frame.ends(&lived)), 1, "one death");
    waited
}

#[test]
fn an_exit_code_is_the_argument_of_exit_modulo_256() {
    let watch = Watch::all(Daemon::shared());
    let codes = [(0, 0), (1, 1), (3, 3), (127, 127), (128, 128), (137, 137), (255, 255), (256, 0), (-1, 255)];
    for (given, code) in share::of(codes) {
        let waited = assert_ends(&watch, Verb::Exit, &[given.to_string().as_bytes()]);
        assert_eq!((waited.si_code, waited.si_status), (libc::CLD_EXITED, code), "exit({given})");
    }
}

/// Signals whose default action is to end the process without a core dump.
const ENDING: [i32; 13] = [1, 2, 9, 10, 12, 13, 14, 15, 16, 26, 27, 29, 30];
const DUMPING: [i32; 10] = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];

#[test]
fn every_signal_that_kills_is_in_the_certificate() {
    let watch = Watch::all(Daemon::shared());
    for signal in share::of(ENDING.into_iter().chain([34, 50, 64])) {
        let waited = assert_ends(&watch, Verb::Die, &[signal.to_string().as_bytes(), b"0"]);
        assert_eq!((waited.si_code, waited.si_status), (libc::CLD_KILLED, signal));
    }
}

#[test]
fn a_signal_that_would_dump_core_has_no_core_flag_where_the_limit_forbids_it() {
    let watch = Watch::all(Daemon::shared());
    for signal in share::of(DUMPING) {
        let waited = assert_ends(&watch, Verb::Die, &[signal.to_string().as_bytes(), b"0"]);
        assert_eq!(waited.si_status, signal);
        assert_eq!(waited.si_code, libc::CLD_KILLED, "no core was dumped for {signal}");
    }
}

#[test]
fn a_dumped_core_is_flagged() {
    let watch = Watch::all(Daemon::shared());
    for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGQUIT] {
        // The core file is written to the fixture's directory and is removed with it.
        let waited = assert_ends(&watch, Verb::Die, &[signal.to_string().as_bytes(), b"1"]);
        assert_eq!((waited.si_code, waited.si_status), (libc::CLD_DUMPED, signal), "the kernel dumped core");
    }
}

#[test]
fn a_signal_from_another_process_is_in_the_certificate() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let puppet = fixture.puppet();
        let lived = assert_row(daemon, puppet.pid);
        let waited = puppet.killed(signal);
        assert_certified(&watch.end_of_row(&lived), waited, &lived);
    }
}

#[test]
fn a_zombie_is_reported_as_dead_before_it_is_reaped() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut puppet = fixture.puppet();
    let (pid, lived) = (puppet.pid, assert_row(daemon, puppet.pid));
    puppet.request(Verb::Exit, &[b"5"]);
    let end = watch.end_of_row(&lived);
    assert!(std::fs::exists(format!("/proc/{pid}")).expect("/proc"), "nobody waited for it yet");
    assert_no_row(daemon, pid, lived.get("start_boottime_ns").and_then(Value::as_str).expect("a start time"));
    assert_certified(&end, puppet.reap(), &lived);
}

#[test]
fn a_process_whose_leader_exits_first_lives_until_its_last_thread_exits() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    for (leader, verb, last) in [
        ("3", Verb::ExitThread, "7"),
        ("3", Verb::Exit, "9"),
        ("0", Verb::ExitThread, "0"),
        ("4", Verb::Exit, "0"),
    ] {
        let mut puppet = fixture.puppet();
        let (pid, before) = (puppet.pid, assert_row(daemon, puppet.pid));
        puppet.does(Verb::LeaderExits, &[leader.as_bytes()]);
        let row = daemon.row(pid).expect("its thread lives, so it does");
        for field in ["start_boottime_ns", "comm", "exe", "argv", "cwd", "sid", "pgid", "ppid"] {
            assert_eq!(row.get(field), before.get(field), "{field} with the leader gone");
        }
        assert_eq!(watch.count(|frame| frame.ends(&row)), 0, "no death yet");
        let waited = puppet.ends(verb, &[last.as_bytes()]);
        assert_certified(&watch.end_of_row(&row), waited, &row);
        assert_eq!(watch.count(|frame| frame.ends(&row)), 1, "one death");
    }
}

#[test]
fn a_fatal_signal_after_the_leaders_exit_is_in_the_certificate() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut puppet = fixture.puppet();
    let pid = puppet.pid;
    puppet.does(Verb::LeaderExits, &[b"3"]);
    let row = daemon.row(pid).expect("its thread lives");
    let waited = puppet.killed(libc::SIGKILL);
    assert_certified(&watch.end_of_row(&row), waited, &row);
}

#[test]
fn a_threads_exit_is_no_death() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut puppet = fixture.puppet();
    let pid = puppet.pid;
    for _ in 0..20 {
        puppet.does(Verb::ThreadExits, &[]);
    }
    puppet.does(Verb::ThreadStays, &[]);
    let lived = assert_row(daemon, pid);
    assert_eq!(watch.count(|frame| frame.ends(&lived)), 0, "threads' exits are no deaths");
    let waited = puppet.ends(Verb::Exit, &[b"6"]);
    assert_certified(&watch.end_of_row(&lived), waited, &lived);
    assert_eq!(watch.count(|frame| frame.ends(&lived)), 1, "one death, with a thread left behind");
}

#[test]
fn a_process_killed_with_many_threads_dies_once() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    for _ in share::of(0..20) {
        let mut puppet = fixture.puppet();
        for _ in 0..8 {
            puppet.does(Verb::ThreadStays, &[]);
        }
        let lived = assert_row(daemon, puppet.pid);
        let waited = puppet.killed(libc::SIGKILL);
        assert_certified(&watch.end_of_row(&lived), waited, &lived);
        daemon.status();
        assert_eq!(watch.count(|frame| frame.ends(&lived)), 1, "one death");
    }
}

/// How often two threads exit at the same moment.
const TURNS: usize = 500;

#[test]
fn a_process_whose_last_two_threads_exit_at_the_same_moment_has_one_certificate() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut parent = fixture.puppet();
    parent.patience(LONG);
    let turns = share::of(0..TURNS).len();
    let numbers = parent.does(Verb::EndsByTwoThreads, &[turns.to_string().as_bytes()]);
    let is_child = |frame: &Frame| {
        let ppid = frame.field("ppid").and_then(Value::as_u64);
        frame.kind() == "process_ended" && ppid == Some(parent.pid.into())
    };
    observer_harness::eventually("every death is reported", SOON, || match watch.count(is_child) {
        reported if reported >= turns => Ok(()),
        reported => Err(format!("{reported} of {turns}")),
    });
    // Whatever came before this answer has been published.
    daemon.status();
    watch.assert_no_holes();
    let frames = watch.frames();
    let found: Vec<_> = frames.iter().filter(|frame| is_child(frame)).collect();
    assert_eq!(found.len(), turns, "one death for each");
    // They lived one after the other.
    let (mut leaders, mut others) = (0, 0);
    for (turn, (frame, &[pid, raw_status])) in found.iter().zip(numbers.as_chunks().0).enumerate() {
        let (death, of) = (frame.death(), frame.pid().map(u64::from));
        let expected = (Some(pid), Some(&json!("exited")), Some(&json!(raw_status)));
        assert_eq!((of, death.get("kind"), death.get("raw_status")), expected, "turn {turn}: {death:#}");
        leaders += usize::from(raw_status == 3 << 8);
        others += usize::from(raw_status == 7 << 8);
    }
    println!("{turns} turns: {leaders} with the code of the leader, {others} with that of the other thread");
    assert_eq!(leaders + others, turns, "no other code");
}

#[test]
fn a_process_that_is_older_than_the_daemon_has_the_status_of_wait() {
    let fixture = Fixture::new();
    let puppets = [0; 4].map(|_| fixture.puppet());
    let [exits, killed, mut dumps, mut led] = puppets;
    led.does(Verb::LeaderExits, &[b"3"]);
    let daemon = Daemon::start(&observer_harness::Options::default());
    let watch = Watch::all(&daemon);
    let lived = |puppet: &observer_harness::Puppet| daemon.row(puppet.pid).expect("it lives");
    let rows = [&exits, &killed, &dumps, &led].map(lived);
    dumps.request(Verb::Die, &[b"6", b"1"]);
    let statuses = [
        exits.ends(Verb::Exit, &[b"5"]),
        killed.killed(libc::SIGTERM),
        dumps.reap(),
        led.ends(Verb::Exit, &[b"9"]),
    ];
    assert_eq!(
        statuses.map(|waited| waited.si_code),
        [1, 2, 3, 1],
        "an exit, a kill, a dumped core, an exit"
    );
    for (row, waited) in rows.iter().zip(statuses) {
        assert_certified(&watch.end_of_row(row), waited, row);
        assert_eq!(watch.count(|frame| frame.ends(row)), 1, "one death");
    }
}
