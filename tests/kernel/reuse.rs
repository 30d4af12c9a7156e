//! Reused pids: a pid alone does not identify a process.

use observer_harness::Verb;
use observer_harness::truth::{assert_row, gone};
use observer_harness::watch::SOON;
use observer_harness::{Daemon, Fixture, Watch, text};
use serde_json::Value;

#[test]
fn a_reused_pid_is_another_process() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut parent = fixture.puppet();
    let first = fixture.cast(&observer_harness::fixture::PuppetOptions {
        program: Some(fixture.program("predecessor")),
        dir: Some(fixture.mkdir("theirs")),
        ..Default::default()
    });
    let pid = first.pid;
    let before = assert_row(daemon, pid);
    first.killed(libc::SIGKILL);
    gone(pid, SOON);
    for round in 0..5 {
        let (second, birth) = parent.bears(&fixture, Verb::Clone3, &[b"0", b"", pid.to_string().as_bytes()]);
        assert_eq!(second.pid, pid, "the kernel gave that pid");
        let row = assert_row(daemon, pid);
        let start_ns = text::u64_string(&row, "start_boottime_ns").expect("a start time");
        assert!((birth.after..=birth.before).contains(&start_ns), "its own start time");
        for field in ["start_boottime_ns", "comm", "cwd"] {
            assert_ne!(row.get(field), before.get(field), "{field} is not its predecessor's");
        }
        second.signal(libc::SIGKILL);
        parent.does(Verb::Wait, &[pid.to_string().as_bytes()]);
        watch.wait_for(&format!("death {round}"), |frame| {
            frame.is("process_ended", pid)
                && text::u64_string(&frame.0, "start_boottime_ns") == Some(start_ns)
        });
    }
    assert_eq!(watch.count(|frame| frame.is("process_ended", pid)), 6, "six processes, six deaths");
    let keys: std::collections::BTreeSet<_> = watch
        .frames()
        .iter()
        .filter(|frame| frame.is("process_started", pid))
        .map(|frame| frame.field("start_boottime_ns").and_then(Value::as_str).map(str::to_owned))
        .collect();
    assert_eq!(keys.len(), 6, "six processes, six keys");
}

#[test]
fn a_pid_reused_within_a_moment_keeps_births_and_deaths_in_order() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut parent = fixture.puppet();
    let first = fixture.puppet();
    let pid = first.pid;
    first.killed(libc::SIGKILL);
    gone(pid, SOON);
    let rounds = 500;
    // Queries run meanwhile: the state that their passes read of a process may precede its records.
    parent.request(Verb::ReusesPid, &[pid.to_string().as_bytes(), rounds.to_string().as_bytes()]);
    while parent.is_silent() {
        daemon.ps();
    }
    parent.answer(Verb::ReusesPid).expect("every child had that pid");
    observer_harness::eventually("all deaths are reported", SOON, || {
        let ends = watch.count(|frame| frame.is("process_ended", pid));
        if ends == rounds + 1 { Ok(()) } else { Err(format!("{ends} of {}", rounds + 1)) }
    });
    let mut alive = None;
    for frame in watch.frames().iter().filter(|frame| frame.pid() == Some(pid)) {
        let key = text::u64_string(&frame.0, "start_boottime_ns");
        match frame.kind() {
            "process_started" => {
                assert_eq!(alive, None, "one live process a pid: {frame:?}");
                alive = key;
            }
            "process_ended" => {
                assert_eq!(alive, key, "the end of the one that lived: {frame:?}");
                let death = frame.death();
                let kind = death.get("kind").and_then(Value::as_str);
                assert!(
                    matches!(kind, Some("exited" | "signaled")),
                    "its exit was recorded, not guessed: {frame:?}"
                );
                alive = None;
            }
            _ => assert_eq!(alive, key, "{frame:?}"),
        }
    }
    assert!(daemon.row(pid).is_none(), "all dead");
}
