//! Without a configuration, a program that runs on a pty for a second is a session named after its directory.

use std::process::{Child, Command};

use observer_harness::Verb;
use observer_harness::daemon::product;
use observer_harness::fixture::PuppetOptions;
use observer_harness::{Daemon, Fixture, Options, Pty, Puppet, Watch, text};
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
fn two_programs_in_one_directory_are_two_sessions() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let ptys = [Pty::open(), Pty::open()];
    let home = fixture.mkdir("shared");
    let puppets = ptys.each_ref().map(|pty| {
        let options = PuppetOptions { dir: Some(home.clone()), pty: Some(pty), ..Default::default() };
        let puppet = fixture.cast(&options);
        watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
        puppet
    });
    let [first, second] = &puppets;
    let name_of = |puppet: &Puppet| {
        let list = daemon.list();
        let row = list.iter().find(|row| text::u64_any(row, "pid") == Some(puppet.pid.into()));
        row.and_then(|row| row.get("name")).and_then(Value::as_str).map(str::to_owned)
    };
    assert_eq!((name_of(first).as_deref(), name_of(second).as_deref()), (Some("shared"), Some("shared#2")));
    let path = home.to_str().expect("a path of text");
    let several = daemon.observer(&["pid", path]);
    assert_eq!(several.code, Some(3), "{several:?}");
    for (number, puppet) in [(1, first), (2, second)] {
        assert!(several.stderr.contains(&format!("{path}#{number}")), "{}", several.stderr);
        let one = daemon.observer(&["pid", &format!("{path}#{number}")]);
        assert_eq!((one.code, one.text().trim()), (Some(0), puppet.pid.to_string().as_str()), "{one:?}");
    }
}

/// Kills a command at the end of a test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn observers_own_commands_are_no_sessions_on_terminals_of_their_own() {
    let config = "[[session]]\ntty = \"pts/*\"\nnot_comm_only = []\nnot_program_only = []\n";
    let daemon = Daemon::start(&Options { config: Some(config.into()), ..Options::default() });
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let watch = Watch::sessions(&daemon);
    let cast = |name: &str, pty| {
        let options = PuppetOptions { dir: Some(fixture.mkdir(name)), pty: Some(pty), ..Default::default() };
        let puppet = fixture.cast(&options);
        watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
        puppet
    };
    let agent = cast("agent", &pty);
    let home = fixture.mkdir("agent").display().to_string();
    let commands: [&[&str]; 4] = [
        &["watch"],
        &["watch", "--all", "--json"],
        &["wait", &home, "--timeout", "10m"],
        &["signal", &home, "WINCH", "--wait", "--timeout", "10m"],
    ];
    let mut running: Vec<(Running, Pty)> = Vec::new();
    for (number, args) in commands.into_iter().enumerate() {
        let pty = Pty::open();
        let mut command = daemon.command(args);
        pty.control(command.current_dir(fixture.mkdir(format!("of-observer-{number}"))));
        running.push((Running(command.spawn().expect("start a command of observer")), pty));
    }
    // This program begins later, so each command has run for longer than `min_age` when its session is published.
    let other_pty = Pty::open();
    let later = cast("later", &other_pty);
    for (Running(child), pty) in &mut running {
        assert!(matches!(child.try_wait(), Ok(None)), "it still runs");
        let pid = child.id();
        let explained = daemon.observer(&["explain", "--json", &pid.to_string()]).json();
        let of_process = |field: &str| explained.pointer(&format!("/process/{field}")).cloned();
        assert_eq!(of_process("tty"), Some(pty.tty().into()), "{explained:#}");
        // The rule would admit it; it is what is ignored.
        assert_eq!(explained.get("rules"), Some(&serde_json::json!([null])), "{explained:#}");
        assert_eq!(explained.get("position"), Some(&"not_admitted".into()), "{explained:#}");
        assert!(explained.get("ignored_by").is_some_and(Value::is_u64), "{explained:#}");
        assert_eq!(watch.count(|frame| frame.pid() == Some(pid)), 0, "it never was a session");
    }
    drop((agent, later));
}

#[test]
fn a_copy_of_observer_elsewhere_is_no_session() {
    let (daemon, fixture, pty) = (Daemon::shared(), Fixture::new(), Pty::open());
    let copy = fixture.mkdir("bin").join("observer");
    fixture.install(&std::fs::read(product()).expect("the product"), &copy);
    let watch = Watch::sessions(daemon);
    let mut command = Command::new(&copy);
    command.args(["watch", "--socket"]).arg(daemon.socket()).current_dir(fixture.mkdir("copy"));
    pty.control(&mut command);
    let mut running = Running(command.spawn().expect("start the copy"));
    // This program begins later, so the copy has run for longer than `min_age` when its session is published.
    let (dir, other) = (Some(fixture.mkdir("later")), Pty::open());
    let later = fixture.cast(&PuppetOptions { dir, pty: Some(&other), ..Default::default() });
    watch.wait_for("its session", |frame| frame.is("session_started", later.pid));
    let pid = running.0.id();
    assert!(matches!(running.0.try_wait(), Ok(None)), "it still runs");
    let explained = daemon.observer(&["explain", "--json", &pid.to_string()]).json();
    assert_eq!(explained.pointer("/process/program"), Some(&"observer".into()), "{explained:#}");
    assert_eq!(explained.get("position"), Some(&"not_admitted".into()), "{explained:#}");
    assert_eq!(explained.get("ignored_by"), Some(&Value::Null), "it is not the daemon's own file");
    assert_eq!(watch.count(|frame| frame.pid() == Some(pid)), 0, "it never was a session");
}
