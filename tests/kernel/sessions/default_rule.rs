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
