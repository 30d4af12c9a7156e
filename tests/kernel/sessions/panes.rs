//! In which pane of tmux or window of screen a program runs, compared with what the multiplexer says of itself.

use std::path::Path;
use std::process::Command;

use observer_harness::daemon::product;
use observer_harness::fixture::PuppetOptions;
use observer_harness::{Daemon, Fixture, Options, Pty, Puppet, Watch, eventually, watch};
use serde_json::Value;

/// A tmux server that belongs to the test and ends with it.
struct Tmux {
    socket: String,
}

impl Tmux {
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        self.attempt(args).expect("tmux succeeds")
    }

    fn attempt(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("tmux");
        command
            .args(["-L", &self.socket, "-f", "/dev/null"])
            .args(args)
            .env("TERM", "xterm")
            .env_remove("TMUX");
        let out = command.output().expect("tmux(1) is installed: run `cargo xtask setup`");
        if !out.status.success() {
            return Err(format!("tmux {args:?}: {out:?}"));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Runs a command line in a new session, in a directory, and returns the names of its pane.
    fn start(&self, dir: &Path, line: &str) -> Names {
        let dir = dir.display().to_string();
        let shown =
            self.run(&["new-session", "-d", "-P", "-F", "#{pane_id} #{socket_path}", "-c", &dir, line]);
        let (pane, socket) = shown.split_once(' ').expect("two words");
        Names::of(pane, "tmux", socket)
    }

    fn pid(&self) -> i32 {
        self.run(&["display-message", "-p", "#{pid}"]).parse().expect("the server's pid")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

/// The names of a pane as a row or a frame shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    pane: Value,
    mux: Value,
    mux_socket: Value,
    pane_stale: Value,
}

impl Names {
    fn of(pane: &str, mux: &str, socket: &str) -> Self {
        Self { pane: pane.into(), mux: mux.into(), mux_socket: socket.into(), pane_stale: false.into() }
    }

    fn none(is_stale: bool) -> Self {
        let null = Value::Null;
        Self { pane: null.clone(), mux: null.clone(), mux_socket: null, pane_stale: is_stale.into() }
    }

    fn shown_by(object: &Value) -> Self {
        let [pane, mux, mux_socket, pane_stale] =
            ["pane", "mux", "mux_socket", "pane_stale"].map(|field| object.get(field).cloned());
        let field = |value: Option<Value>| value.unwrap_or_else(|| panic!("a field is missing: {object:#}"));
        Self {
            pane: field(pane),
            mux: field(mux),
            mux_socket: field(mux_socket),
            pane_stale: field(pane_stale),
        }
    }
}

/// The command line of a puppet called `token`.
fn agent(fixture: &Fixture, token: &str) -> String {
    format!("{} {} {token}", fixture.program("agent").display(), fixture.address)
}

/// The same in a directory of its own, since what else runs in the pane may be a session as well.
fn agent_elsewhere(fixture: &Fixture, token: &str) -> String {
    format!("sh -c 'cd {}; exec {}'", fixture.mkdir(format!("{token}-home")).display(), agent(fixture, token))
}

/// Asserts that a session, its process, and one look at the kernel without a daemon show the same pane.
#[track_caller]
fn assert_names(daemon: &Daemon, watch: &Watch, puppet: &Puppet, expected: &Names) {
    watch.wait_for("its session", |frame| {
        frame.pid() == Some(puppet.pid)
            && frame.kind().starts_with("session_")
            && Names::shown_by(&frame.0) == *expected
    });
    let is_it = |row: &Value| row.get("pid").and_then(Value::as_u64) == Some(puppet.pid.into());
    let listed = daemon.list().into_iter().find(is_it).expect("its session");
    assert_eq!(Names::shown_by(&listed), *expected, "{listed:#}");
    let row = daemon.row(puppet.pid).expect("it lives");
    assert_eq!(Names::shown_by(&row), *expected, "{row:#}");
    let out = Command::new(product())
        .args(["list", "--json", "--socket", "/nonexistent/observer.sock"])
        .output()
        .expect("run observer");
    let looked: Vec<Value> = serde_json::from_slice(&out.stdout).expect("an array");
    let looked = looked.into_iter().find(is_it).expect("its session at one look");
    assert_eq!(Names::shown_by(&looked), *expected, "one look: {looked:#}");
}

#[test]
fn a_pane_of_a_server_that_is_no_ancestor_is_not_shown() {
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
    assert_names(daemon, &watch, &puppet, &Names::none(true));
    let shown = daemon.observer(&["ps", "--json"]);
    assert!(!shown.text().contains("s3cret"), "only the variables named in the configuration are kept");
}

#[test]
fn programs_in_two_tmux_panes_have_the_panes_that_tmux_reports() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let tmux = Tmux { socket: fixture.address.clone() };
    let mut puppets = Vec::new();
    for (name, verb) in [("left", "new-session"), ("right", "split-window")] {
        let dir = fixture.mkdir(name).display().to_string();
        tmux.run(&[verb, "-d", "-c", &dir, &format!("exec {}", agent(&fixture, name))]);
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

#[test]
fn a_cleared_environment_and_a_wrapper_with_its_own_terminal_take_no_pane_away() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let tmux = Tmux { socket: fixture.address.clone() };
    let dir = fixture.mkdir("wrapped");
    let names = tmux.start(&dir, &format!("env -i {}; true", agent(&fixture, "cleared")));
    let cleared = fixture.meet("cleared");
    assert_names(daemon, &watch, &cleared, &names);
    let line = format!("script -qec 'exec env -i {}' /dev/null; true", agent(&fixture, "scripted"));
    let names = tmux.start(&fixture.mkdir("scripted"), &line);
    assert_names(daemon, &watch, &fixture.meet("scripted"), &names);
}

#[test]
fn a_program_that_survives_its_server_is_reported_again_without_a_pane() {
    let fixture = Fixture::new();
    let config =
        format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}\"\n", fixture.mkdir("survivor").display());
    let mut daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
    let watch = Watch::sessions(&daemon);
    let tmux = Tmux { socket: fixture.address.clone() };
    let line = format!("trap '' HUP; exec {}", agent(&fixture, "survivor"));
    let names = tmux.start(&fixture.mkdir("survivor"), &line);
    let puppet = fixture.meet("survivor");
    let shown = |watch: &Watch, expected: &Names| {
        watch.wait_for("its pane", |frame| {
            frame.pid() == Some(puppet.pid)
                && frame.kind().starts_with("session")
                && Names::shown_by(&frame.0) == *expected
        });
    };
    shown(&watch, &names);
    let server = tmux.pid();
    // SAFETY: kill(2) takes numbers; the server is the test's own and lives.
    assert_eq!(unsafe { libc::kill(server, libc::SIGKILL) }, 0);
    shown(&watch, &Names::none(true));
    let row = daemon.row(puppet.pid).expect("it lives");
    assert_eq!(Names::shown_by(&row), Names::none(true), "{row:#}");
    daemon.kill();
    daemon.restart();
    let row = daemon.row(puppet.pid).expect("it lives");
    assert_eq!(Names::shown_by(&row).pane, Value::Null, "{row:#}");
}

/// Returns the entries of the journal about one process.
fn entries_of(daemon: &Daemon, puppet: &Puppet) -> Vec<Value> {
    let mut command = daemon.command(&["history", "--json"]);
    let out = command.arg("--state-dir").arg(daemon.state_dir()).output().expect("run observer");
    let entries = String::from_utf8_lossy(&out.stdout).into_owned();
    let entries = entries.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line"));
    entries.filter(|entry: &Value| entry.get("pid") == Some(&puppet.pid.into())).collect()
}

#[test]
fn a_restart_of_the_daemon_is_no_event_of_sessions_in_panes() {
    let fixture = Fixture::new();
    let config = format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\n", fixture.mkdir("homes").display());
    let mut daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
    let tmux = Tmux { socket: fixture.address.clone() };
    let lines = [
        ("plain", agent(&fixture, "plain")),
        ("scripted", format!("script -qec 'exec env -i {}' /dev/null; true", agent(&fixture, "scripted"))),
    ];
    let sessions = lines.map(|(name, line)| {
        let names = tmux.start(&fixture.mkdir(Path::new("homes").join(name)), &line);
        (fixture.meet(name), names)
    });
    let written = |daemon: &Daemon| {
        sessions.each_ref().map(|(puppet, names)| {
            eventually("its pane is in the journal", watch::SOON, || {
                let entries = entries_of(daemon, puppet);
                let is_there = entries.last().is_some_and(|last| Names::shown_by(last) == *names);
                if is_there { Ok(entries.len()) } else { Err(format!("{entries:#?}")) }
            })
        })
    };
    let before = written(&daemon);
    for _ in 0..2 {
        daemon.kill();
        daemon.restart();
        for (puppet, names) in &sessions {
            let shown = eventually("its environment is read", watch::SOON, || {
                let rows = daemon.list();
                let row = rows
                    .iter()
                    .find(|row| row.get("pid") == Some(&puppet.pid.into()))
                    .ok_or(format!("{rows:#?}"))?;
                if Names::shown_by(row) == *names { Ok(row.clone()) } else { Err(format!("{row:#}")) }
            });
            assert_eq!(shown.get("state"), Some(&"live".into()));
        }
        assert_eq!(written(&daemon), before);
    }
}

#[test]
fn a_terminal_that_another_program_opens_in_a_pane_has_none() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let tmux = Tmux { socket: fixture.address.clone() };
    let dir = fixture.mkdir("opened");
    // By another name, script(1) is any program that opens a terminal, such as an editor.
    let opener = dir.join("opener");
    std::fs::copy("/usr/bin/script", &opener).expect("copy script(1)");
    let line = agent_elsewhere(&fixture, "opened");
    tmux.start(&dir, &format!("{} -qec \"exec {line}\" /dev/null", opener.display()));
    assert_names(daemon, &watch, &fixture.meet("opened"), &Names::none(true));
}

#[test]
fn dtach_in_a_pane_of_tmux_has_no_pane() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let tmux = Tmux { socket: fixture.address.clone() };
    let dir = fixture.mkdir("dtached");
    let socket = dir.join("dtach.sock").display().to_string();
    tmux.start(&dir, &format!("dtach -n {socket} {}; exec cat", agent_elsewhere(&fixture, "dtached")));
    let puppet = fixture.meet("dtached");
    assert_names(daemon, &watch, &puppet, &Names::none(true));
    // It outlives the server, and the next one on the same socket has a pane of the same name.
    tmux.run(&["kill-server"]);
    // The former server may still be about to end.
    let next = eventually("the next server starts", watch::SOON, || {
        tmux.attempt(&["new-session", "-d", "-P", "-F", "#{pane_id}", "exec cat"])
    });
    assert_eq!(next, "%0");
    assert_names(daemon, &watch, &puppet, &Names::none(true));
}

/// A screen that belongs to the test and ends with it.
struct Screen {
    name: String,
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Command::new("screen").args(["-S", &self.name, "-X", "quit"]).output();
    }
}

#[test]
fn screen_in_a_pane_of_tmux_has_its_own_window() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let tmux = Tmux { socket: fixture.address.clone() };
    let screen = Screen { name: format!("observer-{}", std::process::id()) };
    let dir = fixture.mkdir("screened");
    let agent = agent_elsewhere(&fixture, "screened");
    tmux.start(&dir, &format!("screen -c /dev/null -dmS {} {agent}; exec cat", screen.name));
    let puppet = fixture.meet("screened");
    let listed = Command::new("screen").arg("-ls").output().expect("run screen");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let sty = listed.split_whitespace().find(|word| word.ends_with(&screen.name)).expect("screen lists it");
    assert_names(daemon, &watch, &puppet, &Names::of("0", "screen", sty));
}
