//! Programs: what a process runs, whatever its comm.

use observer_harness::{Pty, text};
use serde_json::Value;

use crate::Scene;

#[test]
fn a_script_is_the_session_of_a_rule_that_names_it_also_after_a_restart() {
    let mut scene = Scene::new("program = \"work.sh\"\nname = \"{program} in {basename}\"");
    let (home, pty) = (scene.home("scripted"), Pty::open());
    let script = scene.fixture.dir().join("work.sh");
    scene.fixture.install(b"#!/bin/sh\n\"$@\"\ntrue\n", &script);
    let agent = scene.wrapped(&[script.to_str().expect("a path of text")], "agent", &home, &pty);
    let shell = agent.wrapper_pid().expect("the script stays");
    let program = |scene: &Scene, pid| {
        let row = scene.daemon.row(pid).expect("it lives");
        row.get("program").and_then(Value::as_str).map(str::to_owned)
    };
    assert_eq!(program(&scene, shell).as_deref(), Some("work.sh"));
    assert_eq!(program(&scene, agent.pid).as_deref(), Some("agent"));
    let assert_session = |scene: &Scene| {
        let row = scene.session(&home).expect("the script's session");
        assert_eq!(text::u64_any(&row, "pid"), Some(shell.into()), "{row:#}");
        assert_eq!(row.get("program").and_then(Value::as_str), Some("work.sh"), "{row:#}");
        assert_eq!(row.get("name").and_then(Value::as_str), Some("work.sh in scripted"), "{row:#}");
    };
    assert_session(&scene);
    // The next daemon reads the arguments from memory.
    scene.daemon.kill();
    scene.daemon.restart();
    assert_eq!(program(&scene, shell).as_deref(), Some("work.sh"));
    assert_session(&scene);
    let state_dir = scene.daemon.state_dir();
    let history =
        scene.daemon.observer(&["history", "--json", "--state-dir", state_dir.to_str().expect("text")]);
    let kinds = |kind: &str| history.text().matches(&format!("\"kind\":\"{kind}\"")).count();
    assert_eq!((kinds("session_started"), kinds("session_ended")), (1, 0), "{history:?}");
}
