//! `observer wait`: it ends with the primary that it began with, and as that one did.

use std::path::Path;
use std::process::{Child, Stdio};

use observer_harness::fixture::PATIENCE;
use observer_harness::observe::CommandResult;
use observer_harness::{Pty, Verb, eventually};
use serde_json::Value;

use crate::Scene;

/// What `status` counts of clients, itself included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clients {
    pub(crate) watching: u64,
    accepted: u64,
    connected: u64,
}

impl Clients {
    #[track_caller]
    pub(crate) fn of(scene: &Scene) -> Self {
        let status = scene.daemon.status();
        let count = |name: &str| {
            let count = status.pointer(&format!("/clients/{name}")).and_then(Value::as_u64);
            count.unwrap_or_else(|| panic!("the number of clients {name}: {status:#}"))
        };
        Self { watching: count("watching"), accepted: count("accepted"), connected: count("connected") }
    }

    /// Waits until others made so many connections since, of which `watching` in all are left.
    #[track_caller]
    pub(crate) fn wait_for(self, scene: &Scene, connections: u64, watching: u64) {
        let mut looks = 0;
        eventually("that it listens and has asked", PATIENCE, || {
            looks += 1;
            let now = Self::of(scene);
            let is_so = now.accepted == self.accepted + looks + connections
                && (now.watching, now.connected) == (watching, watching + 1);
            if is_so { Ok(()) } else { Err(format!("{now:?} after {looks} looks, {self:?} before")) }
        });
    }
}

/// Starts `observer wait` with these arguments, and returns it once it knows which process it is to wait for.
#[track_caller]
fn waiter(scene: &Scene, args: &[&str]) -> Child {
    waiting(scene, &[&["wait", "--timeout", "60s"], args].concat())
}

/// Starts a command that is `wait`, and returns it once it knows which process it is to wait for.
#[track_caller]
pub(crate) fn waiting(scene: &Scene, args: &[&str]) -> Child {
    let before = Clients::of(scene);
    let mut command = scene.daemon.command(args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start observer wait");
    before.wait_for(scene, 2, before.watching + 1);
    child
}

pub(crate) fn ended(child: Child) -> CommandResult {
    let output = child.wait_with_output().expect("wait for observer wait");
    CommandResult {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn text(home: &Path) -> &str {
    home.to_str().expect("a path of text")
}

#[test]
fn it_exits_as_the_primary_did_and_says_how_that_was() {
    let scene = Scene::new("");
    let home = scene.home("waited");
    let pty = Pty::open();
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let (pid, child) = (agent.pid, waiter(&scene, &["waited"]));
    assert_eq!(agent.ends(Verb::Exit, &[b"7"]).si_status, 7);
    let result = ended(child);
    assert_eq!(result.code, Some(7), "{result:?}");
    assert!(result.text().starts_with(&format!("waited  {pid}  agent  exit 7, lived ")), "{result:?}");
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let (pid, child) = (agent.pid, waiter(&scene, &[text(&home), "--json"]));
    agent.killed(libc::SIGTERM);
    let result = ended(child);
    assert_eq!(result.code, Some(128 + libc::SIGTERM), "{result:?}");
    let end = result.json();
    assert_eq!(end.get("pid"), Some(&pid.into()), "{end:#}");
    assert_eq!(end.pointer("/death/signal_name"), Some(&"SIGTERM".into()), "{end:#}");
}

#[test]
fn a_primary_that_takes_the_place_of_the_dead_one_is_not_waited_for() {
    let scene = Scene::new("");
    let home = scene.home("replaced");
    let ptys = [Pty::open(), Pty::open()];
    let agent = scene.agent(&home, &ptys[0]);
    scene.assert_session(&home, &agent, "live");
    let other = scene.agent(&home, &ptys[1]);
    let child = waiter(&scene, &["replaced"]);
    agent.killed(libc::SIGKILL);
    let result = ended(child);
    assert_eq!(result.code, Some(128 + libc::SIGKILL), "{result:?}");
    eventually("that the other one is the primary", PATIENCE, || match scene.session(&home) {
        Some(row) if row.get("pid") == Some(&other.pid.into()) => Ok(()),
        row => Err(format!("{row:?}")),
    });
}

#[test]
fn what_cannot_be_waited_for_has_the_statuses_of_timeout_and_shells() {
    let scene = Scene::new("");
    let home = scene.home("patient");
    let pty = Pty::open();
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let over = scene.daemon.observer(&["wait", "patient", "--timeout", "0s"]);
    assert_eq!((over.code, over.stderr.as_str()), (Some(124), "observer: patient still runs\n"), "{over:?}");
    let none = scene.daemon.observer(&["wait", "nobody"]);
    assert_eq!(none.code, Some(127), "{none:?}");
    let usage = scene.daemon.observer(&["wait", "patient", "--timeout", "soon"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
}

#[test]
fn a_daemon_that_is_restarted_meanwhile_is_waited_for() {
    let mut scene = Scene::new("");
    let home = scene.home("outlived");
    let ptys = [Pty::open(), Pty::open()];
    let agent = scene.agent(&home, &ptys[0]);
    scene.assert_session(&home, &agent, "live");
    let child = waiter(&scene, &["outlived"]);
    scene.daemon.kill();
    scene.daemon.restart();
    eventually("that it listens again", PATIENCE, || {
        match scene.daemon.status().pointer("/clients/watching").and_then(Value::as_u64) {
            Some(1) => Ok(()),
            watching => Err(format!("{watching:?} watchers")),
        }
    });
    agent.killed(libc::SIGINT);
    let result = ended(child);
    assert_eq!(result.code, Some(128 + libc::SIGINT), "{result:?}");
    // A death that nobody saw has no status.
    let agent = scene.agent(&home, &ptys[1]);
    scene.assert_session(&home, &agent, "live");
    let child = waiter(&scene, &["outlived"]);
    scene.daemon.kill();
    agent.killed(libc::SIGKILL);
    scene.daemon.restart();
    let result = ended(child);
    assert_eq!(result.code, Some(125), "{result:?}");
    assert!(
        result.text().starts_with("outlived ") && result.text().contains(" unobserved, between "),
        "{result:?}"
    );
}

#[test]
fn with_a_key_it_concerns_one_life_only() {
    let scene = Scene::new("");
    let home = scene.home("fenced");
    let pty = Pty::open();
    let agent = scene.agent(&home, &pty);
    let row = scene.assert_session(&home, &agent, "live");
    let key = row.get("key").and_then(Value::as_str).expect("a key");
    let same = scene.daemon.observer(&["pid", "fenced", "--if", key]);
    assert_eq!((same.code, same.text().trim()), (Some(0), agent.pid.to_string().as_str()), "{same:?}");
    agent.killed(libc::SIGKILL);
    let next = scene.agent(&home, &pty);
    let row = scene.assert_session(&home, &next, "live");
    let now = row.get("key").and_then(Value::as_str).expect("a key");
    for (command, code) in [("pid", 1), ("wait", 127)] {
        let other = scene.daemon.observer(&[command, "fenced", "--if", key]);
        let words = format!("observer: fenced is another process now: {now}\n");
        assert_eq!((other.code, other.stderr), (Some(code), words), "{command}");
        let usage = scene.daemon.observer(&[command, "fenced", "--if", "4242"]);
        assert_eq!(usage.code, Some(2), "{usage:?}");
    }
}

#[test]
fn a_primary_that_is_one_no_more_is_waited_for_all_the_same() {
    let scene = Scene::new("");
    let home = scene.home("shared");
    let ptys = [Pty::open(), Pty::open()];
    let mut agent = scene.agent(&home, &ptys[0]);
    scene.assert_session(&home, &agent, "live");
    let mut other = scene.agent(&home, &ptys[1]);
    let child = waiter(&scene, &["shared"]);
    let before = Clients::of(&scene);
    agent.chdir(Path::new("/"));
    // It asks for sessions, and then for processes, and listens both times before that.
    before.wait_for(&scene, 4, before.watching);
    scene.assert_session(&home, &other, "live");
    // What the other one does from here on is no reason to ask again.
    let before = Clients::of(&scene);
    let below = scene.home("shared/below");
    other.chdir(&below);
    scene.watch.wait_for("the move of the other one", |frame| {
        frame.is("session_changed", other.pid) && frame.field("cwd").and_then(Value::as_str) == below.to_str()
    });
    before.wait_for(&scene, 0, before.watching);
    assert_eq!(agent.ends(Verb::Exit, &[b"3"]).si_status, 3);
    let result = ended(child);
    assert_eq!(result.code, Some(3), "{result:?}");
}
