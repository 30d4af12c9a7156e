//! The session of whoever sent a fatal signal.

use observer_harness::truth::assert_row;
use observer_harness::{Pty, Verb};
use serde_json::{Value, json};

use crate::Scene;

#[test]
fn whoever_killed_a_session_is_named_with_its_own_session() {
    let scene = Scene::new("");
    let (alpha, beta) = (scene.home("alpha"), scene.home("beta"));
    let ptys = [Pty::open(), Pty::open()];
    let mut killer = scene.agent(&alpha, &ptys[0]);
    let mut victim = scene.agent(&beta, &ptys[1]);
    victim.does(Verb::Counts, &[b"15"]);
    scene.assert_session(&alpha, &killer, "live");
    scene.assert_session(&beta, &victim, "live");
    // A child of the session that has left its terminal, and is the POSIX session of no terminal.
    let (mut child, _) = killer.bears(&scene.fixture, Verb::Fork, &[]);
    child.does(Verb::Setsid, &[]);
    let (own, pid) = (assert_row(&scene.daemon, child.pid), victim.pid.to_string());
    killer.does(Verb::Kills, &[pid.as_bytes(), b"15"]);
    child.does(Verb::Kills, &[pid.as_bytes(), b"9"]);
    let death = scene.wait_for_frame("session_ended", &beta).death();
    let sender = |path: &str| death.pointer(path).cloned().unwrap_or(Value::Null);
    for field in ["pid", "start_boottime_ns", "comm", "uid", "key"] {
        assert_eq!(Some(&sender(&format!("/sender/{field}"))), own.get(field), "{field}: {death:#}");
    }
    assert_eq!(sender("/sender/session"), json!("alpha"), "{death:#}");
    assert_eq!(sender("/polite_signal/sender/session"), json!("alpha"), "{death:#}");
    assert_eq!(sender("/polite_signal/sender/pid"), json!(killer.pid), "{death:#}");
    let history = scene.daemon.observer(&["history", "--killed"]);
    let (killer, child) = (killer.pid, child.pid);
    for sentence in [
        format!("pid {killer} (agent) of session alpha sent SIGTERM at "),
        format!("pid {child} (agent) of session alpha sent SIGKILL at "),
    ] {
        assert!(history.text().contains(&sentence), "{sentence}: {history:?}");
    }
    victim.reap();
}

#[test]
fn who_belongs_to_no_session_has_none() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("alone"), Pty::open());
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    // By this test.
    agent.killed(libc::SIGKILL);
    let death = scene.wait_for_frame("session_ended", &home).death();
    assert_eq!(death.pointer("/sender/pid"), Some(&json!(std::process::id())), "{death:#}");
    assert_eq!(death.pointer("/sender/session"), Some(&Value::Null), "{death:#}");
}
