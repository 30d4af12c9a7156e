//! Rules that are read again by SIGHUP.

use observer_harness::{Pty, eventually, text, watch};
use serde_json::Value;

use super::Scene;

fn rule(scene: &Scene, comm: &str) -> String {
    let homes = scene.fixture.dir().join("homes");
    format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ncomm = \"{comm}\"\n", homes.display())
}

#[test]
fn a_hangup_reads_the_rules_again_and_a_wrong_file_changes_nothing() {
    let mut scene = Scene::new("");
    let (kept, ended) = (scene.home("kept"), scene.home("ended"));
    let ptys = [Pty::open(), Pty::open(), Pty::open()];
    let agent = scene.agent(&kept, &ptys[0]);
    let other = scene.named("other", &ended, &ptys[1]);
    scene.assert_session(&kept, &agent, "live");
    scene.assert_session(&ended, &other, "live");
    let daemon = scene.daemon.pid();
    let path = scene.daemon.log();
    let log = |part: &str| {
        let log = std::fs::read_to_string(&path).expect("the log");
        if log.contains(part) { Ok(()) } else { Err(log) }
    };

    scene.daemon.write_config("[[session]]\ncmm = \"agent\"\n");
    scene.daemon.hang_up();
    eventually("the error is logged", watch::SOON, || log("the rules stay as they are"));
    scene.assert_session(&ended, &other, "live");

    let rules = rule(&scene, "agent");
    scene.daemon.write_config(&rules);
    scene.daemon.hang_up();
    eventually("the rules are applied", watch::SOON, || log("the rules were read again"));
    let row = scene.assert_session(&kept, &agent, "live");
    let starts = row.get("starts").and_then(Value::as_array).map(Vec::len);
    assert_eq!(starts, Some(1), "the same session: {row:#}");
    scene.assert_none(&ended);
    let frame = scene.wait_for_frame("session_ended", &ended);
    assert_eq!(frame.field("end_reason").and_then(Value::as_str), Some("not_admitted"));
    // What starts from here on is asked by the new rules.
    let late = scene.agent(&scene.home("late"), &ptys[2]);
    let row = scene.assert_session(&scene.home("late"), &late, "live");
    assert_eq!(text::u64_any(&row, "pid"), Some(late.pid.into()));
    assert_eq!(
        (scene.daemon.pid(), scene.daemon.drops()),
        (daemon, 0),
        "the same daemon, and nothing was lost"
    );
}
