//! `rules try`: what a configuration would change.

use std::collections::BTreeMap;

use observer_harness::{Pty, Verb, text};
use serde_json::Value;

use crate::Scene;

/// The change that each process of a session has under a configuration, by its pid.
fn changes(scene: &Scene, config: &str) -> BTreeMap<u64, String> {
    let file = scene.fixture.dir().join("tried.toml");
    std::fs::write(&file, config).expect("write a configuration");
    let file = file.to_str().expect("UTF-8");
    let tried = scene.daemon.observer(&["rules", "try", file]);
    assert_eq!((tried.code, tried.stderr.as_str()), (Some(0), ""), "{tried:?}");
    let row = |line: &str| {
        let [change, _name, pid, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line:?} of {tried:?}")
        };
        (pid.parse().expect("a pid"), change.to_owned())
    };
    tried.text().lines().skip(1).map(row).collect()
}

#[test]
fn a_configuration_that_changes_nothing_shows_every_session_as_the_same() {
    let scene = Scene::new("instances = \"each\"");
    let config =
        std::fs::read_to_string(scene.daemon.dir().join("observer.toml")).expect("its configuration");
    let (one, two, hung) = (scene.home("one"), scene.home("two"), scene.home("hung"));
    let [pty, of_second, of_left, hanging] = [(); 4].map(|()| Pty::open());
    let first = scene.agent(&one, &pty);
    scene.wait_for_frame("session_started", &one);
    let second = scene.agent(&one, &of_second);
    scene.watch.wait_for("the second session", |frame| frame.is("session_started", second.pid));
    first.killed(libc::SIGKILL);
    scene.wait_for_frame("session_ended", &one);
    let mut left = scene.agent(&two, &of_left);
    scene.assert_session(&two, &left, "live");
    left.chdir(std::path::Path::new("/"));
    scene.assert_session(&two, &left, "left");
    let mut detached = scene.agent(&hung, &hanging);
    detached.does(Verb::Ignore, &[b"1"]);
    scene.assert_session(&hung, &detached, "live");
    hanging.hang_up(detached.pid);
    scene.assert_session(&hung, &detached, "detached");
    let same: BTreeMap<u64, String> =
        [second.pid, left.pid, detached.pid].map(|pid| (pid.into(), "same".to_owned())).into();
    assert_eq!(changes(&scene, &config), same);

    let listed = scene.daemon.list();
    let numbered = listed.iter().find(|row| text::u64_any(row, "pid") == Some(second.pid.into()));
    assert_eq!(numbered.and_then(|row| row.get("instance")).and_then(Value::as_u64), Some(2), "{listed:#?}");
    // Under rules that admit none of them, they are gone.
    let gone = changes(&scene, &config.replace("tty = ", "program = \"other\"\ntty = "));
    assert_eq!(gone, same.keys().map(|&pid| (pid, "gone".to_owned())).collect());
}
