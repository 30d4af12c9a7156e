//! Without a configuration, a program that runs on a pty for a second is a session named after its directory.

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::{Daemon, Fixture, Pty, Watch, text};
use serde_json::Value;

#[test]
fn a_program_on_a_pty_is_a_session_after_a_second() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let pty = Pty::open();
    let home = fixture.mkdir("anywhere");
    let puppet =
        fixture.cast(&PuppetOptions { dir: Some(home.clone()), pty: Some(&pty), ..Default::default() });
    let start = watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
    assert_eq!(start.field("name").and_then(Value::as_str), Some("anywhere"));
    let list = daemon.list();
    let row =
        list.iter().find(|row| row.get("home").and_then(Value::as_str) == home.to_str()).expect("its row");
    assert_eq!(text::u64_any(row, "pid"), Some(puppet.pid.into()));
    let pid = puppet.pid;
    puppet.ends(Verb::Exit, &[b"3"]);
    let end = watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    assert_eq!(end.death().get("code"), Some(&3.into()));
}

#[test]
fn a_program_without_a_terminal_is_no_session() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let mut parent = fixture.puppet();
    let (mut silent, _) = parent.bears(&fixture, Verb::Fork, &[]);
    silent.does(Verb::Setsid, &[]);
    silent.chdir(&fixture.mkdir("silent"));
    // This program is a session and begins later; when it is published, the other one would have been
    // published too.
    let pty = Pty::open();
    let loud = fixture.cast(&PuppetOptions {
        dir: Some(fixture.mkdir("loud")),
        pty: Some(&pty),
        ..Default::default()
    });
    watch.wait_for("the other's session", |frame| frame.is("session_started", loud.pid));
    assert_eq!(watch.count(|frame| frame.pid() == Some(silent.pid)), 0, "no terminal, no session");
}

#[test]
fn the_pane_is_read_from_the_environment_at_exec() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let pty = Pty::open();
    let env = [("TMUX_PANE", "%42"), ("TMUX", "/tmp/tmux-0/default,77,0"), ("SECRET", "s3cret")];
    let puppet = fixture.cast(&PuppetOptions {
        dir: Some(fixture.mkdir("paned")),
        pty: Some(&pty),
        env: env.map(|(name, value)| (name.into(), value.into())).to_vec(),
        ..Default::default()
    });
    let start = watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
    assert_eq!(start.field("pane").and_then(Value::as_str), Some("%42"));
    assert_eq!(start.field("mux").and_then(Value::as_str), Some("tmux"));
    assert_eq!(start.field("mux_socket").and_then(Value::as_str), Some("/tmp/tmux-0/default"));
    let shown = daemon.observer(&["ps", "--json"]);
    assert!(!shown.text().contains("s3cret"), "only the variables named in the configuration are kept");
}

/// A tmux server that belongs to the test and ends with it.
struct Tmux {
    socket: String,
}

impl Tmux {
    fn run(&self, args: &[&str]) -> String {
        let mut command = std::process::Command::new("tmux");
        command
            .args(["-L", &self.socket, "-f", "/dev/null"])
            .args(args)
            .env("TERM", "xterm")
            .env_remove("TMUX");
        let out = command.output().expect("tmux(1) is installed: run `cargo xtask setup`");
        assert!(out.status.success(), "tmux {args:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = std::process::Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

#[test]
fn programs_in_two_tmux_panes_have_the_panes_that_tmux_reports() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let tmux = Tmux { socket: fixture.address.clone() };
    let mut puppets = Vec::new();
    for (name, verb) in [("left", "new-session"), ("right", "split-window")] {
        let dir = fixture.mkdir(name).display().to_string();
        let program = fixture.program("agent").display().to_string();
        tmux.run(&[verb, "-d", "-c", &dir, &format!("exec {program} {} {name}", fixture.address)]);
        let puppet = fixture.meet(name);
        let start = watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
        let pane = tmux.run(&["list-panes", "-a", "-F", "#{pane_pid} #{pane_tty} #{pane_id}"]);
        let line = pane
            .lines()
            .find(|line| line.starts_with(&format!("{} ", puppet.pid)))
            .expect("tmux knows its pid");
        let field = |name: &str| start.field(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(line, format!("{} /dev/{} {}", puppet.pid, field("tty"), field("pane")), "{start:?}");
        assert_eq!((field("name"), field("mux")), (name.to_owned(), "tmux".to_owned()));
        puppets.push(puppet);
    }
}
