//! Tests which changes become entries.

use observer_harness::eventually;
use serde_json::json;

use crate::{SOON, Scene, kind};

#[test]
fn the_death_of_a_primary_is_an_entry_when_another_root_takes_over() {
    let scene = Scene::new();
    let home = scene.home("handover");
    let first = scene.agent(&home, None);
    let second = scene.agent(&home, None);
    scene.wait_live(&home, &first);
    let pid = first.pid;
    first.killed(libc::SIGKILL);
    let received = scene.wait_live(&home, &second);
    let story: Vec<_> = received.iter().map(|entry| (kind(entry), &entry["pid"])).collect();
    let (first, second) = (json!(pid), json!(second.pid));
    let end = story.iter().position(|it| *it == ("process_ended", &first)).expect("its death is reported");
    assert_eq!(story[end + 1], ("session_changed", &second), "then who stands for the home");
    assert!(!story.iter().any(|(kind, _)| *kind == "session_ended"), "no session ended: {story:?}");
    let death = &received[end];
    assert_eq!(
        (&death["death"]["signal"], death["name"].as_str()),
        (&json!(9), Some("handover")),
        "{death:#}"
    );
    let killed = scene.history(&["--killed", "handover"]);
    assert_eq!(killed.iter().filter(|entry| entry["pid"] == pid).count(), 1, "{killed:#?}");
}

#[test]
fn the_history_of_a_home_is_found_through_a_symlink() {
    let scene = Scene::new();
    let home = scene.home("linked");
    let agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    let link = scene.fixture.dir().join("link");
    std::os::unix::fs::symlink(&home, &link).expect("make a symlink");
    let by_link = scene.history(&[link.to_str().expect("a path of ours")]);
    assert!(by_link.iter().any(|entry| entry["pid"] == agent.pid), "{by_link:#?}");
    let other = scene.home("other");
    eventually("nothing of another", SOON, || {
        let received = scene.history(&[other.to_str().expect("a path of ours")]);
        if received.is_empty() { Ok(()) } else { Err(format!("{received:?}")) }
    });
}
