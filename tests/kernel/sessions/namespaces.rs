//! Homes that have the same path in different mount namespaces: containers of one image, and bind mounts.

use std::path::Path;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Pty, Puppet, Truth, eventually, text, watch};
use serde_json::Value;

use crate::Scene;

/// Runs the rest of the words in the root of an overlay, which is mounted in a mount namespace of its own. A kernel without
/// overlays has a file system of its own there.
const CONTAINER: &str = r#"
if grep -qw overlay /proc/filesystems
then mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$3"
else mount -t tmpfs tmpfs "$3"
fi
cd "$3"
shift 3
exec "$@""#;
/// The same for a bind mount.
const BOUND: &str = r#"mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@""#;

/// Starts an agent in a mount namespace of its own, in which this script prepares its home.
fn inside(scene: &Scene, pty: &Pty, script: &str, words: &[&Path]) -> Puppet {
    let fixed = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", script, "sh"];
    let wrapper = fixed.iter().map(Into::into).chain(words.iter().map(|word| word.as_os_str().to_owned()));
    scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        wrapper: wrapper.collect(),
        dir: Some(scene.fixture.dir()),
        pty: Some(pty),
        ..PuppetOptions::default()
    })
}

/// Starts an agent in a container, whose own files are in `name`.
fn container(scene: &Scene, pty: &Pty, name: &str, home: &Path) -> Puppet {
    let (lower, own) = (scene.fixture.mkdir("image"), scene.fixture.mkdir(name));
    for dir in ["upper", "work"] {
        scene.fixture.mkdir(format!("{name}/{dir}"));
    }
    inside(scene, pty, CONTAINER, &[&lower, &own, home])
}

/// The rows of sessions in `home` that have not ended.
#[track_caller]
fn rows(scene: &Scene, home: &Path) -> Vec<Value> {
    let mut rows = scene.daemon.list();
    rows.retain(|row| row.get("home").and_then(Value::as_str) == home.to_str());
    rows.retain(|row| row.get("state").and_then(Value::as_str) != Some("ended"));
    rows
}

/// Asserts that the home of each of these processes is its own: its namespace's, with one start.
#[track_caller]
fn assert_homes(scene: &Scene, home: &Path, agents: &[&Puppet]) {
    let host = Truth::of(std::process::id()).and_then(|own| own.mnt_ns);
    let rows = rows(scene, home);
    assert_eq!(rows.len(), agents.len(), "a home for each: {rows:#?}");
    for agent in agents {
        let mnt_ns = Truth::of(agent.pid).and_then(|process| process.mnt_ns);
        let row = rows.iter().find(|row| text::u64_any(row, "pid") == Some(agent.pid.into()));
        let row = row.unwrap_or_else(|| panic!("{} has a session: {rows:#?}", agent.pid));
        let shown = row.get("home_mnt_ns").and_then(Value::as_u64);
        assert_eq!(shown, mnt_ns.filter(|_| mnt_ns != host), "{row:#}");
        assert_eq!(row.get("starts").and_then(Value::as_array).map(Vec::len), Some(1), "{row:#}");
        let name = match shown {
            Some(mnt_ns) => format!("{}@{mnt_ns}", home.display()),
            None => home.display().to_string(),
        };
        let answer = scene.daemon.observer(&["pid", &name]);
        assert_eq!(
            (answer.code, answer.text().trim()),
            (Some(0), agent.pid.to_string().as_str()),
            "{answer:?}"
        );
    }
}

#[test]
fn three_containers_with_one_path_are_three_homes_also_after_a_restart() {
    let mut scene = Scene::new("");
    let home = scene.home("box");
    let ptys = [Pty::open(), Pty::open(), Pty::open()];
    let agents: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .zip(&ptys)
        .map(|(name, pty)| container(&scene, pty, name, &home))
        .collect();
    let agents: Vec<_> = agents.iter().collect();
    assert_homes(&scene, &home, &agents);
    scene.daemon.kill();
    scene.daemon.restart();
    assert_homes(&scene, &home, &agents);
    let named = scene.daemon.observer(&["pid", home.to_str().expect("text")]);
    let listed = named.stderr.matches(&format!("{}@", home.display())).count();
    assert_eq!(
        (named.code, listed),
        (Some(3), agents.len()),
        "each is to be named with its namespace: {named:?}"
    );
}

#[test]
fn a_directory_of_the_host_that_is_bound_into_a_namespace_is_another_home_there() {
    let scene = Scene::new("");
    let (home, other) = (scene.home("shared"), scene.home("other"));
    let ptys = [Pty::open(), Pty::open(), Pty::open()];
    let host = scene.agent(&home, &ptys[0]);
    let same = inside(&scene, &ptys[1], BOUND, &[&home, &home]);
    let moved = inside(&scene, &ptys[2], BOUND, &[&home, &other]);
    assert_homes(&scene, &home, &[&host, &same]);
    assert_homes(&scene, &other, &[&moved]);
}

#[test]
fn containers_that_follow_each_other_in_one_path_are_different_homes() {
    const CONTAINERS: usize = 3;
    let scene = Scene::new("");
    let home = scene.home("box");
    let mut namespaces = Vec::new();
    for _ in 0..CONTAINERS {
        let pty = Pty::open();
        let agent = container(&scene, &pty, "container", &home);
        namespaces.push(Truth::of(agent.pid).and_then(|process| process.mnt_ns));
        assert_homes(&scene, &home, &[&agent]);
        agent.killed(libc::SIGKILL);
        eventually("the session has ended", watch::SOON, || match &rows(&scene, &home)[..] {
            [] => Ok(()),
            rows => Err(format!("{rows:#?}")),
        });
    }
    let of_kind = |kind: &str| -> Vec<Value> {
        let mut history = scene.daemon.history();
        history.retain(|entry| entry.get("kind").and_then(Value::as_str) == Some(kind));
        history
    };
    eventually("the last end is written", watch::SOON, || match of_kind("session_ended").len() {
        CONTAINERS => Ok(()),
        ends => Err(format!("{ends} ends")),
    });
    let starts = of_kind("session_started");
    let starts: Vec<_> = starts.iter().map(|entry| entry.get("starts")?.as_array().map(Vec::len)).collect();
    // The kernel gives the number of a namespace that is gone to the next one, unless another process takes it.
    assert_eq!(starts, [Some(1); CONTAINERS], "in the namespaces {namespaces:?}");
}
