//! Conditions of rules that admit and refuse real processes.

use std::path::Path;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Pty, Puppet, Verb, eventually, text, watch};
use serde_json::Value;

use crate::Scene;

/// Starts a puppet with these arguments below a wrapper's command line.
pub fn with_args(scene: &Scene, wrapper: &[&str], args: &[&str], dir: &Path, pty: &Pty) -> Puppet {
    scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        wrapper: wrapper.iter().map(Into::into).collect(),
        args: args.iter().map(Into::into).collect(),
        dir: Some(dir.to_owned()),
        pty: Some(pty),
        ..PuppetOptions::default()
    })
}

/// Returns what `explain` says of a process.
#[track_caller]
fn explain(scene: &Scene, pid: u32) -> Value {
    let result = scene.daemon.observer(&["explain", "--json", &pid.to_string()]);
    serde_json::from_str(result.text()).unwrap_or_else(|error| panic!("{error}: {result:?}"))
}

/// Returns the first condition of the first rule that a process does not meet.
#[track_caller]
fn unmet(scene: &Scene, pid: u32) -> Option<String> {
    let answer = explain(scene, pid);
    answer.pointer("/rules/0").and_then(Value::as_str).map(str::to_owned)
}

#[test]
fn arguments_admit_and_refuse_also_after_a_restart() {
    let mut scene = Scene::new("argv = \"--profile=*\"\n[[ignore]]\nargv = \"--batch\"");
    let homes = ["admitted", "refused", "ignored"].map(|name| scene.home(name));
    let args: [&[&str]; 3] = [&["x", "--profile=/a/b"], &["--profile"], &["--batch", "--profile=c"]];
    let ptys = [Pty::open(), Pty::open(), Pty::open()];
    let agents: Vec<Puppet> = homes
        .iter()
        .zip(args)
        .zip(&ptys)
        .map(|((home, args), pty)| with_args(&scene, &[], args, home, pty))
        .collect();
    let [admitted, refused, ignored] = &agents[..] else { panic!("three") };
    let assert_all = |scene: &Scene| {
        scene.assert_session(&homes[0], admitted, "live");
        scene.assert_none(&homes[1]);
        scene.assert_none(&homes[2]);
        assert_eq!(unmet(scene, refused.pid).as_deref(), Some("argv"));
        assert_eq!(explain(scene, ignored.pid).get("ignored_by"), Some(&0.into()));
    };
    assert_all(&scene);
    // The next daemon reads the arguments from memory.
    scene.daemon.kill();
    scene.daemon.restart();
    assert_all(&scene);
    let state_dir = scene.daemon.state_dir();
    let history =
        scene.daemon.observer(&["history", "--json", "--state-dir", state_dir.to_str().expect("text")]);
    let kinds = |kind: &str| history.text().matches(&format!("\"kind\":\"{kind}\"")).count();
    assert_eq!((kinds("session_started"), kinds("session_ended")), (1, 0), "{history:?}");
}

#[test]
fn a_session_whose_arguments_cannot_be_read_after_a_restart_stays_what_it_was() {
    let mut scene = Scene::new("argv = \"--profile=*\"");
    let (home, pty) = (scene.home("hidden"), Pty::open());
    let mut agent = with_args(&scene, &[], &["--profile=x"], &home, &pty);
    scene.assert_session(&home, &agent, "live");
    // What the next daemon knows of it is on the disk.
    eventually("the start is written", watch::SOON, || {
        let history = scene.daemon.history();
        let is_written = history.iter().any(|entry| entry["kind"] == "session_started");
        if is_written { Ok(()) } else { Err(format!("{history:?}")) }
    });
    agent.does(Verb::HidesArguments, &[]);
    let certain = |scene: &Scene, agent: &Puppet| {
        let row = scene.session(&home).expect("it goes on");
        assert_eq!(text::u64_any(&row, "pid"), Some(agent.pid.into()), "{row:#}");
        assert_eq!(row.get("state").and_then(Value::as_str), Some("live"), "{row:#}");
        row.get("certain").and_then(Value::as_bool)
    };
    for _ in 0..2 {
        scene.daemon.kill();
        scene.daemon.restart();
        assert_eq!(certain(&scene, &agent), Some(false), "nobody knows whether the rule admits it");
        assert_eq!(scene.daemon.row(agent.pid).and_then(|row| row.get("argv").cloned()), Some(Value::Null));
    }
    agent.does(Verb::ShowsArguments, &[]);
    scene.daemon.kill();
    scene.daemon.restart();
    assert_eq!(certain(&scene, &agent), Some(true));
    let state_dir = scene.daemon.state_dir();
    let history =
        scene.daemon.observer(&["history", "--json", "--state-dir", state_dir.to_str().expect("text")]);
    let kinds = |kind: &str| history.text().matches(&format!("\"kind\":\"{kind}\"")).count();
    assert_eq!((kinds("session_started"), kinds("session_ended")), (1, 0), "{history:?}");
}

#[test]
fn a_rule_for_the_host_refuses_what_runs_in_a_mount_namespace_of_its_own() {
    let scene = Scene::new("mnt_ns = \"host\"\nname = \"{user}/{parent}/{basename}\"");
    let (outside, inside) = (scene.home("outside"), scene.home("inside"));
    let ptys = [Pty::open(), Pty::open()];
    let sandboxed = with_args(&scene, &["unshare", "--mount", "--"], &[], &inside, &ptys[0]);
    let host = with_args(&scene, &[], &[], &outside, &ptys[1]);
    let row = scene.assert_session(&outside, &host, "live");
    assert_eq!(row.get("name").and_then(Value::as_str), Some("root/homes/outside"), "{row:#}");
    assert_eq!(unmet(&scene, sandboxed.pid).as_deref(), Some("mnt_ns"));
    scene.assert_none(&inside);
    let text = scene.daemon.observer(&["explain", &sandboxed.pid.to_string()]);
    assert!(text.text().contains("not the host's own (mnt_ns)"), "{text:?}");
}
