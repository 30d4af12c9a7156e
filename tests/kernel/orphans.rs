//! Processes whose parent has ended: what they end with, and what its end does to them.

use observer_harness::truth::{Truth, assert_row};
use observer_harness::watch::SOON;
use observer_harness::{Daemon, Fixture, Puppet, Verb, Watch, eventually};
use serde_json::{Value, json};

fn pid_of(puppet: &Puppet) -> String {
    puppet.pid.to_string()
}

/// The adopted process that ends as it is told, and the one that adopted it: pid 1, or a subreaper above the test.
fn orphan(fixture: &Fixture) -> (Puppet, u32) {
    let mut parent = fixture.puppet();
    let (child, _) = parent.bears(fixture, Verb::Fork, &[]);
    let first = parent.pid;
    parent.ends(Verb::Exit, &[b"0"]);
    let adopter = eventually("somebody has adopted it", SOON, || match Truth::of(child.pid) {
        Some(truth) if truth.ppid != first => Ok(truth.ppid),
        truth => Err(format!("{truth:?}")),
    });
    (child, adopter)
}

/// Asserts that a certificate has this status, and arrives once.
#[track_caller]
fn assert_status(watch: &Watch, lived: &Value, raw_status: u64) -> Value {
    let death = watch.end_of_row(lived).death();
    let kind = if raw_status & 0x7f == 0 { "exited" } else { "signaled" };
    let expected = (Some(&json!(kind)), Some(&json!(raw_status)));
    assert_eq!((death.get("kind"), death.get("raw_status")), expected, "{death:#}");
    assert_eq!(watch.count(|frame| frame.ends(lived)), 1, "one death");
    death
}

#[test]
fn the_certificate_of_a_child_of_a_subreaper_has_the_status_that_the_subreaper_gets() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut reaper = fixture.puppet();
    reaper.does(Verb::BecomesSubreaper, &[]);
    for (verb, arg) in [(Verb::Exit, "7"), (Verb::Exit, "0"), (Verb::Die, "15")] {
        let (mut parent, _) = reaper.bears(&fixture, Verb::Fork, &[]);
        let (mut child, _) = parent.bears(&fixture, Verb::Fork, &[]);
        parent.request(Verb::Exit, &[b"0"]);
        reaper.does(Verb::Wait, &[pid_of(&parent).as_bytes()]);
        let lived = assert_row(daemon, child.pid);
        assert_eq!(lived.get("ppid"), Some(&json!(reaper.pid)), "adopted: {lived:#}");
        child.request(verb, &[arg.as_bytes(), b"0"]);
        let [.., raw_status] = reaper.does(Verb::Wait, &[pid_of(&child).as_bytes()])[..] else {
            panic!("a status")
        };
        assert_status(&watch, &lived, raw_status);
    }
}

#[test]
fn the_certificate_of_an_orphan_has_the_code_or_the_signal_that_it_ended_with() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    for (verb, arg, raw_status) in [(Verb::Exit, "7", 7 << 8), (Verb::Die, "9", 9)] {
        let (mut child, adopter) = orphan(&fixture);
        let lived = assert_row(daemon, child.pid);
        assert_eq!(lived.get("ppid"), Some(&json!(adopter)), "adopted: {lived:#}");
        child.request(verb, &[arg.as_bytes(), b"0"]);
        assert_status(&watch, &lived, raw_status);
    }
}

#[test]
fn a_process_that_asked_to_end_with_its_parent_is_killed_by_the_kernel_for_the_parent() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut reaper = fixture.puppet();
    reaper.does(Verb::BecomesSubreaper, &[]);
    for signal in ["15", "9"] {
        let (mut parent, _) = reaper.bears(&fixture, Verb::Fork, &[]);
        let (mut child, _) = parent.bears(&fixture, Verb::Fork, &[]);
        child.does(Verb::EndsWithParent, &[signal.as_bytes()]);
        let (of_parent, lived) = (assert_row(daemon, parent.pid), assert_row(daemon, child.pid));
        parent.request(Verb::Exit, &[b"3"]);
        reaper.does(Verb::Wait, &[pid_of(&parent).as_bytes()]);
        let words = reaper.does(Verb::Wait, &[pid_of(&child).as_bytes()]);
        let [si_code, si_status, raw_status] = words[..] else { panic!("a status: {words:?}") };
        assert_eq!((si_code, si_status.to_string().as_str()), (libc::CLD_KILLED as u64, signal));
        let death = assert_status(&watch, &lived, raw_status);
        let sender = death.get("sender").expect("a sender, or null");
        for (field, expected) in [("kind", "kernel"), ("by", "caused"), ("reason", "parent_ended")] {
            assert_eq!(sender.get(field), Some(&json!(expected)), "{field}: {death:#}");
        }
        for field in ["pid", "start_boottime_ns", "comm", "uid"] {
            assert_eq!(sender.get(field), of_parent.get(field), "{field}: {death:#}");
        }
    }
}
