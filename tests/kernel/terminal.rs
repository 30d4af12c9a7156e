//! Terminals that are gained, inherited, given up, taken away and hung up.

use std::os::unix::ffi::OsStrExt as _;

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Pty, Puppet, eventually, watch};
use serde_json::Value;

/// Asserts that every field of the row is correct and that its terminal is `expected`.
#[track_caller]
fn assert_tty(pid: u32, expected: Option<&str>) {
    let row = assert_row(Daemon::shared(), pid);
    assert_eq!(row.get("tty").and_then(Value::as_str), expected, "{row:#}");
}

/// Starts a puppet that leads a session without a terminal.
fn leader(fixture: &Fixture) -> Puppet {
    let mut parent = fixture.puppet();
    let (mut puppet, _) = parent.bears(fixture, Verb::Fork, &[]);
    // Its parent may end, because the puppet has its own connection to the fixture.
    puppet.does(Verb::Ignore, &[b"1"]);
    puppet.does(Verb::Setsid, &[]);
    puppet
}

#[test]
fn a_session_leader_gains_a_terminal_by_ioctl() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = leader(&fixture);
    assert_tty(puppet.pid, None);
    puppet.does(Verb::GainsTerminal, &[pty.path.as_os_str().as_bytes()]);
    assert_tty(puppet.pid, Some(&pty.tty()));
}

#[test]
fn a_session_leader_gains_a_terminal_by_opening_it() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = leader(&fixture);
    puppet.does(Verb::OpensTerminal, &[pty.path.as_os_str().as_bytes()]);
    assert_tty(puppet.pid, Some(&pty.tty()));
}

#[test]
fn a_child_inherits_the_terminal_of_its_parent() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    assert_tty(puppet.pid, Some(&pty.tty()));
    let standard = std::fs::read_link(format!("/proc/{}/fd/0", puppet.pid)).expect("its standard input");
    assert_eq!(standard, pty.path, "its standard input is that terminal");
    let (child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    assert_tty(child.pid, Some(&pty.tty()));
}

#[test]
fn setsid_gives_up_the_terminal() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    let (mut child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    child.does(Verb::Setsid, &[]);
    assert_tty(child.pid, None);
    assert_tty(puppet.pid, Some(&pty.tty()));
}

#[test]
fn a_process_can_give_up_its_terminal() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    let (mut child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    child.does(Verb::LosesTerminal, &[]);
    assert_tty(child.pid, None);
    assert_tty(puppet.pid, Some(&pty.tty()));
}

#[test]
fn a_leader_that_gives_up_the_terminal_takes_it_from_its_whole_session() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    puppet.does(Verb::Ignore, &[b"1"]);
    let (child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    let (background, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    puppet.does(Verb::LosesTerminal, &[]);
    for pid in [puppet.pid, child.pid, background.pid] {
        assert_tty(pid, None);
    }
}

#[test]
fn a_hang_up_takes_the_terminal_from_every_process_that_has_it() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    puppet.does(Verb::Ignore, &[b"1"]);
    let (mut background, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    background.does(Verb::Setpgid, &[b"0", b"0"]);
    assert_tty(background.pid, Some(&pty.tty()));
    pty.hang_up(puppet.pid);
    for pid in [puppet.pid, background.pid] {
        assert_tty(pid, None);
    }
}

#[test]
fn a_leaders_death_takes_the_terminal_from_its_session() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    puppet.does(Verb::Ignore, &[b"1"]);
    let (background, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    assert_tty(background.pid, Some(&pty.tty()));
    puppet.killed(libc::SIGKILL);
    assert_tty(background.pid, None);
}

#[test]
fn a_terminal_stolen_by_root_belongs_to_the_new_session_alone() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut owner = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    owner.does(Verb::Ignore, &[b"1"]);
    let mut thief = leader(&fixture);
    thief.does(Verb::StealsTerminal, &[pty.path.as_os_str().as_bytes()]);
    assert_tty(thief.pid, Some(&pty.tty()));
    assert_tty(owner.pid, None);
}

#[test]
fn the_foreground_group_is_the_one_that_tcgetpgrp_returns() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    let (mut child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    child.does(Verb::Setpgid, &[b"0", b"0"]);
    let foreground = |pid: u32| assert_row(Daemon::shared(), pid).get("foreground").cloned();
    assert_eq!((foreground(puppet.pid), foreground(child.pid)), (Some(true.into()), Some(false.into())));
    puppet.does(Verb::TerminalForeground, &[child.pid.to_string().as_bytes()]);
    assert_eq!((foreground(puppet.pid), foreground(child.pid)), (Some(false.into()), Some(true.into())));
}

#[test]
fn a_hang_up_is_published_without_a_query() {
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let watching = observer_harness::Watch::all(Daemon::shared());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    puppet.does(Verb::Ignore, &[b"1"]);
    watching.wait_for("its terminal", |frame| {
        frame.pid() == Some(puppet.pid) && frame.field("tty") == Some(&pty.tty().into())
    });
    pty.hang_up(puppet.pid);
    eventually("watch tells that the terminal is gone", watch::SOON, || {
        let last = watching.frames().into_iter().rfind(|frame| frame.pid() == Some(puppet.pid));
        let tty = last.as_ref().and_then(|frame| frame.field("tty")).cloned();
        if tty == Some(Value::Null) { Ok(()) } else { Err(format!("{tty:?}")) }
    });
}
