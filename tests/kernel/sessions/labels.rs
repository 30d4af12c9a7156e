//! Labels: variables in the environment of what is executed in a session.

use std::path::Path;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Pty, Puppet, Verb, eventually, watch};
use serde_json::{Value, json};

use crate::Scene;

const LABELS: &str = "[labels]\nagent = \"AGENT_ID\"\ntask = \"TASK\"";

/// A session whose primary has this environment.
fn agent(scene: &Scene, home: &Path, pty: &Pty, env: &[(&str, &str)]) -> Puppet {
    scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        dir: Some(home.to_owned()),
        pty: Some(pty),
        env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        ..PuppetOptions::default()
    })
}

#[track_caller]
fn assert_labels(scene: &Scene, home: &Path, expected: Value) {
    let row = scene.session(home).expect("a session");
    assert_eq!(row.get("labels"), Some(&expected), "{row:#}");
}

/// A child of the session without a terminal.
fn detached(scene: &Scene, agent: &mut Puppet) -> Puppet {
    let (mut child, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    child.does(Verb::Setsid, &[]);
    child
}

#[test]
fn what_is_executed_in_a_session_labels_it_on_a_terminal_or_without() {
    let scene = Scene::new(LABELS);
    let (home, pty) = (scene.home("labelled"), Pty::open());
    let mut agent = agent(&scene, &home, &pty, &[("AGENT_ID", "1"), ("SECRET", "hunter2")]);
    scene.assert_session(&home, &agent, "live");
    assert_labels(&scene, &home, json!({"agent": "1"}));
    let mut child = detached(&scene, &mut agent);
    let (tool, _) = child.bears(&scene.fixture, Verb::Spawn, &[b"SECRET=hunter2", b"TASK=\x1b[2J\xff"]);
    assert_eq!(scene.daemon.row(tool.pid).expect("it lives").get("tty"), Some(&Value::Null));
    assert_labels(&scene, &home, json!({"agent": "1", "task": "\u{1b}[2J\u{10feff}"}));
    agent.bears(&scene.fixture, Verb::Spawn, &[b"AGENT_ID=2"]);
    assert_labels(&scene, &home, json!({"agent": "2", "task": "\u{1b}[2J\u{10feff}"}));
    // What is executed outside of it labels nothing.
    scene
        .fixture
        .cast(&PuppetOptions { env: vec![("AGENT_ID".into(), "3".into())], ..PuppetOptions::default() });
    assert_labels(&scene, &home, json!({"agent": "2", "task": "\u{1b}[2J\u{10feff}"}));
    let long = scene.daemon.observer(&["list", "--long"]);
    assert!(long.text().contains(r"agent=2 task=\x1b[2J\xff"), "{long:?}");
    let changed = scene.watch.wait_for("the second value of agent", |frame| {
        frame.field("changed").and_then(|changed| changed.pointer("/labels/1/agent")) == Some(&json!("2"))
    });
    assert_eq!(changed.field("changed").and_then(|it| it.pointer("/labels/0/agent")), Some(&json!("1")));
    let all = format!("{:?} {:?}", scene.daemon.history(), scene.daemon.list());
    assert!(!all.contains("hunter2"), "nothing else of the environment is kept: {all}");
}

#[test]
fn without_labels_nothing_of_the_environment_is_shown() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("plain"), Pty::open());
    let agent = agent(&scene, &home, &pty, &[("AGENT_ID", "1")]);
    scene.assert_session(&home, &agent, "live");
    assert_labels(&scene, &home, json!({}));
    assert!(!scene.daemon.observer(&["list", "--long"]).text().contains("LABELS"));
}

#[test]
fn labels_outlive_a_restart_and_a_hangup_reads_others() {
    let mut scene = Scene::new(LABELS);
    let config =
        std::fs::read_to_string(scene.daemon.dir().join("observer.toml")).expect("its configuration");
    let (home, pty) = (scene.home("restarted"), Pty::open());
    let mut agent = agent(&scene, &home, &pty, &[("AGENT_ID", "1")]);
    scene.assert_session(&home, &agent, "live");
    let mut child = detached(&scene, &mut agent);
    let (tool, _) = child.bears(&scene.fixture, Verb::Spawn, &[b"AGENT_ID=2", b"TASK=t", b"OTHER=o"]);
    let pid = tool.pid.to_string();
    child.does(Verb::Kills, &[pid.as_bytes(), b"9"]);
    child.does(Verb::Wait, &[pid.as_bytes()]);
    assert_labels(&scene, &home, json!({"agent": "2", "task": "t"}));
    assert_eq!(scene.daemon.stop(), Some(0));
    scene.daemon.restart();
    assert_labels(&scene, &home, json!({"agent": "2", "task": "t"}));

    let log = scene.daemon.log();
    let mut times = 0;
    let mut reload = |scene: &mut Scene, labels: &str| {
        scene.daemon.write_config(&config.replace(LABELS, labels));
        scene.daemon.hang_up();
        times += 1;
        eventually("the configuration is applied", watch::SOON, || {
            let log = std::fs::read_to_string(&log).expect("the log");
            if log.matches("the rules were read again").count() == times { Ok(()) } else { Err(log) }
        });
    };
    reload(&mut scene, "[labels]\ntask = \"TASK\"\nother = \"OTHER\"");
    assert_labels(&scene, &home, json!({"task": "t"}));
    child.bears(&scene.fixture, Verb::Spawn, &[b"AGENT_ID=3", b"OTHER=o"]);
    assert_labels(&scene, &home, json!({"other": "o", "task": "t"}));
    reload(&mut scene, "");
    assert_labels(&scene, &home, json!({}));
    child.bears(&scene.fixture, Verb::Spawn, &[b"TASK=u"]);
    assert_labels(&scene, &home, json!({}));
    reload(&mut scene, "[labels]\ntask = \"TASK\"");
    child.bears(&scene.fixture, Verb::Spawn, &[b"TASK=v"]);
    assert_labels(&scene, &home, json!({"task": "v"}));
    assert_eq!(scene.daemon.drops(), 0);
}
