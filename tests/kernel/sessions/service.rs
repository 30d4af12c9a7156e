//! A daemon that runs as a service of systemd.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;

use observer_harness::cgroup::Cgroup;
use observer_harness::{Daemon, Fixture, Options, Pty, Watch};
use serde_json::Value;

use crate::Scene;

/// A scene whose daemon was started in the cgroup `x.service`, by systemd if `by_systemd`. Its rule is a written one if
/// `is_written`, else the built-in one.
fn scene(cgroup: &Cgroup, by_systemd: bool, is_written: bool) -> (Scene, UnixDatagram) {
    let fixture = Fixture::new();
    let homes = fixture.mkdir("homes");
    let rule =
        || format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"pts/*\"\n", homes.display());
    let path = fixture.dir().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bind the socket of the service manager");
    let variable: (OsString, OsString) = ("NOTIFY_SOCKET".into(), path.into());
    let daemon = Daemon::start(&Options {
        config: is_written.then(rule),
        cgroup: Some(cgroup.path.clone()),
        environment: by_systemd.then_some(variable).into_iter().collect(),
        ..Options::default()
    });
    let watch = Watch::all(&daemon);
    (Scene { fixture, daemon, watch }, socket)
}

#[test]
fn what_runs_in_the_cgroup_of_the_service_is_no_session() {
    let (service, below) = (Cgroup::new("x.service"), Cgroup::new("x.service/below"));
    let other = Cgroup::new("x.service2");
    for by_systemd in [true, false] {
        let (scene, _socket) = scene(&service, by_systemd, true);
        let pty = Pty::open();
        for (name, cgroup) in [("in", &service), ("below", &below), ("beside", &other)] {
            let is_session = !by_systemd || name == "beside";
            let home = scene.home(name);
            let procs = cgroup.path.join("cgroup.procs").display().to_string();
            let wrapper = ["/bin/sh", "-c", "echo 0 > \"$0\" && exec \"$@\"", &procs];
            let puppet = scene.wrapped(&wrapper, "agent", &home, &pty);
            assert_eq!(scene.session(&home).is_some(), is_session, "{name}, by systemd: {by_systemd}");
            let result = scene.daemon.observer(&["explain", "--json", &puppet.pid.to_string()]);
            let explained = result.json();
            let position = explained.get("position").and_then(Value::as_str);
            assert_eq!(position, Some(if is_session { "primary" } else { "not_admitted" }), "{explained:#}");
            assert_eq!(explained.get("ignored_by").is_some_and(Value::is_u64), !is_session, "{explained:#}");
        }
    }
}

#[test]
fn under_the_default_rule_what_runs_in_the_cgroup_of_the_service_is_no_session() {
    let (service, other) = (Cgroup::new("y.service"), Cgroup::new("y.service2"));
    let (scene, _socket) = scene(&service, true, false);
    let cast = |name: &str, cgroup: &Cgroup, pty: &Pty| {
        let procs = cgroup.path.join("cgroup.procs").display().to_string();
        let wrapper = ["/bin/sh", "-c", "echo 0 > \"$0\" && exec \"$@\"", &procs];
        scene.wrapped(&wrapper, "agent", &scene.home(name), pty)
    };
    let ptys = [Pty::open(), Pty::open()];
    let inside = cast("in", &service, &ptys[0]);
    // It begins later, and is a session.
    let beside = cast("beside", &other, &ptys[1]);
    scene.watch.wait_for("its session", |frame| frame.is("session_started", beside.pid));
    assert_eq!(scene.session(&scene.home("in")), None);
    let explained = scene.daemon.observer(&["explain", "--json", &inside.pid.to_string()]).json();
    assert_eq!(explained.get("rules"), Some(&serde_json::json!([null])), "{explained:#}");
    assert!(explained.get("ignored_by").is_some_and(Value::is_u64), "{explained:#}");
}
