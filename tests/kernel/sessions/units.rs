//! The systemd unit and the container of real processes, in control groups with the names that managers and runtimes give.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use observer_harness::fixture::OwnedProcess;
use observer_harness::{Cgroup, Pty, eventually};
use serde_json::{Value, json};

use crate::Scene;

const LIMIT: Duration = Duration::from_secs(20);
/// An id as docker and others have them.
const ID: &str = "1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c1b2c";
const NOBODY: u32 = 65_534;

/// Makes `below` in `outer`, one control group in the other. Dropped from the back, each is empty when it is removed.
fn nested(outer: &Cgroup, below: &str) -> Vec<Cgroup> {
    let mut path = outer.path.clone();
    let mut groups = Vec::new();
    for name in below.split('/') {
        path = path.join(name);
        fs::create_dir_all(&path).expect("create a cgroup");
        groups.push(Cgroup { path: path.clone() });
    }
    groups
}

fn remove(mut groups: Vec<Cgroup>) {
    while groups.pop().is_some() {}
}

fn join(group: &Path, pid: u32) {
    fs::write(group.join("cgroup.procs"), pid.to_string()).expect("move a process");
}

/// What `ps` shows as unit and container of a process.
#[track_caller]
fn shown(scene: &Scene, pid: u32) -> (Value, Value) {
    let rows = scene.daemon.observer(&["ps", "--json"]).json();
    let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["pid"] == pid)).expect("it runs");
    (row["unit"].clone(), row["container"].clone())
}

#[test]
fn a_process_is_in_the_unit_and_in_the_container_that_its_control_group_names() {
    let (scene, outer, pty) = (Scene::new(""), Cgroup::new("named"), Pty::open());
    let home = scene.home("alpha");
    let agent = scene.agent(&home, &pty);
    let docker = format!("system.slice/docker-{ID}.scope");
    let podman =
        format!("user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container");
    let (docker_unit, podman_unit) = (format!("docker-{ID}.scope"), format!("libpod-{ID}.scope"));
    for (below, unit, container) in [
        ("system.slice/web.service", json!("web.service"), Value::Null),
        ("user.slice/user-1000.slice/session-3.scope", json!("session-3.scope"), Value::Null),
        (&*docker, json!(docker_unit), json!(ID)),
        (&*podman, json!(podman_unit), json!(ID)),
        (r"machine.slice/machine-web\x2d1.scope/payload", json!(r"machine-web\x2d1.scope"), json!("web-1")),
        ("lxc.payload.web-1", Value::Null, json!("web-1")),
    ] {
        let groups = nested(&outer, below);
        join(&groups.last().expect("one at least").path, agent.pid);
        let row = scene.assert_session(&home, &agent, "live");
        assert_eq!((row.get("unit"), row.get("container")), (Some(&unit), Some(&container)), "{row:#}");
        assert_eq!(shown(&scene, agent.pid), (unit.clone(), container.clone()), "{below}");
        let changed = scene.watch.wait_for(&format!("the move to {below}"), |frame| {
            let is_there = |field, value| frame.field(field) == Some(value);
            frame.is("session_changed", agent.pid)
                && is_there("unit", &unit)
                && is_there("container", &container)
        });
        assert!(
            changed.field("changed").is_some_and(|changed| changed.get("cgroup").is_some()),
            "{changed:?}"
        );
        join(&outer.path, agent.pid);
        assert_eq!(shown(&scene, agent.pid), (Value::Null, Value::Null), "out of {below}");
        remove(groups);
    }
    let listed = scene.daemon.observer(&["list", "--long"]);
    assert!(!listed.text().contains("CONTAINER"), "{listed:?}");
    let groups = nested(&outer, &docker);
    join(&groups.last().expect("one at least").path, agent.pid);
    let listed = scene.daemon.observer(&["list", "--long"]);
    let has_both = ["UNIT", "CONTAINER", &docker_unit, ID].iter().all(|part| listed.text().contains(part));
    assert!(has_both, "{listed:?}");
    drop(agent);
    remove(groups);
}

#[test]
fn rules_ask_for_the_unit_and_the_container_wherever_a_process_is_moved() {
    let ignored = "[[ignore]]\ncontainer = \"*\"";
    let (scene, outer) =
        (Scene::new(&format!("unit = \"agent@*.service\"\n{ignored}")), Cgroup::new("asked"));
    let service = nested(&outer, "system.slice/agent@7.service/sub");
    let container = nested(&outer, &format!("system.slice/agent@8.service/docker/{ID}"));
    let (in_service, in_container) =
        (&service.last().expect("one").path, &container.last().expect("one").path);
    let explain = |pid: u32| scene.daemon.observer(&["explain", "--json", &pid.to_string()]).json();
    let (home, pty) = (scene.home("alpha"), Pty::open());
    let agent = scene.agent(&home, &pty);
    scene.assert_none(&home);
    assert_eq!(explain(agent.pid).get("rules"), Some(&json!(["unit"])));
    let told = scene.daemon.observer(&["explain", &agent.pid.to_string()]);
    assert!(told.text().contains("it is in no systemd unit that is known (unit)"), "{told:?}");
    join(in_container, agent.pid);
    let explained = explain(agent.pid);
    let found = (explained.get("rules"), explained.get("ignored_by"));
    assert_eq!(found, (Some(&json!([null])), Some(&json!(0))), "{explained:#}");
    scene.assert_none(&home);
    join(in_service, agent.pid);
    scene.assert_session(&home, &agent, "live");
    let told = scene.daemon.observer(&["explain", &agent.pid.to_string()]);
    assert!(told.text().contains("\nits unit is agent@7.service\n"), "{told:?}");
    drop(agent);
    remove(service);
    remove(container);
}

#[test]
fn a_user_who_was_given_control_groups_can_name_one_like_a_container() {
    let (scene, given) = (Scene::new(""), Cgroup::new("given.service"));
    for path in [given.path.clone(), given.path.join("cgroup.procs")] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("give it away");
    }
    let forged = given.path.join(format!("docker-{ID}.scope"));
    let script = format!(
        "read go && mkdir {dir} && echo 0 > {dir}/cgroup.procs && exec sleep 1000",
        dir = forged.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).uid(NOBODY).gid(NOBODY).stdin(Stdio::piped());
    let mut child = command.spawn().expect("start a shell");
    let process = OwnedProcess::new(child.id());
    join(&given.path, child.id());
    assert_eq!(shown(&scene, child.id()).1, Value::Null);
    child.stdin.take().expect("a pipe").write_all(b"\n").expect("let it go on");
    eventually("it is in the group that it made", LIMIT, || match shown(&scene, child.id()) {
        (unit, container) if unit == format!("docker-{ID}.scope") && container == ID => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(process);
    let _ = child.wait();
    drop(Cgroup { path: forged });
}
