//! sid, pgid, user ids and names, and which system calls change them.

use std::os::unix::ffi::OsStrExt as _;

use observer_harness::Verb;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture};
use serde_json::Value;

fn number(row: &Value, field: &str) -> u64 {
    row.get(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("{field} is a number: {row:#}"))
}

#[test]
fn setsid_makes_a_process_the_leader_of_its_own_session() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut parent = fixture.puppet();
    let (mut puppet, _) = parent.bears(&fixture, Verb::Fork, &[]);
    assert_eq!(puppet.does(Verb::Setsid, &[]), [u64::from(puppet.pid)]);
    let row = assert_row(daemon, puppet.pid);
    assert_eq!(
        (number(&row, "sid"), number(&row, "pgid")),
        (puppet.pid.into(), puppet.pid.into()),
        "getsid, getpgid"
    );
    let (child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    assert_eq!(number(&assert_row(daemon, child.pid), "sid"), u64::from(puppet.pid), "its child is in it");
}

#[test]
fn setpgid_is_shown_for_the_caller_and_for_a_child() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut parent = fixture.puppet();
    let (mut own, _) = parent.bears(&fixture, Verb::Fork, &[]);
    let (other, _) = parent.bears(&fixture, Verb::Fork, &[]);
    own.does(Verb::Setpgid, &[b"0", b"0"]);
    assert_eq!(number(&assert_row(daemon, own.pid), "pgid"), u64::from(own.pid), "its own group");
    let (group, member) = (own.pid.to_string(), other.pid.to_string());
    parent.does(Verb::Setpgid, &[member.as_bytes(), group.as_bytes()]);
    assert_eq!(number(&assert_row(daemon, other.pid), "pgid"), u64::from(own.pid), "put there by its parent");
    assert_row(daemon, parent.pid);
}

#[test]
fn setresuid_is_shown_in_all_three_ids() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    for ids in [["1000", "1001", "1002"], ["-1", "1003", "-1"], ["4294967", "4294967", "4294967"]] {
        let mut puppet = fixture.puppet();
        puppet.does(Verb::Setresuid, &ids.map(str::as_bytes));
        let facts = puppet.does(Verb::Facts, &[]);
        let row = assert_row(daemon, puppet.pid);
        let shown = ["uid", "euid", "suid"].map(|field| number(&row, field));
        assert_eq!(Some(&shown[..]), facts.get(4..7), "getresuid");
    }
}

#[test]
fn a_thread_that_changes_its_user_leaves_the_user_of_its_process() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    puppet.does(Verb::ThreadSetresuid, &[b"1000"]);
    let row = assert_row(daemon, puppet.pid);
    assert_eq!(["uid", "euid", "suid"].map(|field| number(&row, field)), [0, 0, 0], "the leader's");
}

#[test]
fn a_child_inherits_the_user_of_its_parent() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet =
        fixture.cast(&observer_harness::fixture::PuppetOptions { uid: Some(65534), ..Default::default() });
    assert_eq!(number(&assert_row(daemon, puppet.pid), "uid"), 65534);
    let (child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    assert_eq!(number(&assert_row(daemon, child.pid), "euid"), 65534);
}

#[test]
fn the_name_of_the_leader_is_the_comm_of_the_process() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    for name in ["short", "exactly fifteen", "rather longer than fifteen bytes", ""] {
        puppet.does(Verb::Setname, &[name.as_bytes()]);
        let row = assert_row(daemon, puppet.pid);
        assert_eq!(row.get("comm").and_then(Value::as_str), name.get(..name.len().min(15)));
    }
}

#[test]
fn the_name_of_another_thread_is_not_the_comm_of_the_process() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    puppet.does(Verb::Setname, &[b"leader"]);
    puppet.does(Verb::ThreadNamesItself, &[b"worker"]);
    assert_eq!(assert_row(daemon, puppet.pid).get("comm").and_then(Value::as_str), Some("leader"));
}

#[test]
fn a_name_that_a_thread_gives_the_leader_is_shown() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    puppet.does(Verb::ThreadNamesLeader, &[b"christened"]);
    assert_eq!(assert_row(daemon, puppet.pid).get("comm").and_then(Value::as_str), Some("christened"));
}

#[test]
fn a_process_that_acts_for_another_keeps_its_own_user() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let dir = fixture.mkdir("layers");
    let mut puppet = fixture.puppet();
    puppet.does(Verb::UnshareMounts, &[]);
    puppet.does(Verb::MountTmpfs, &[dir.as_os_str().as_bytes()]);
    let ids = ["1000", "1001", "1002"].map(str::as_bytes);
    let waits = puppet.attempt(Verb::WaitsInOverlay, &[&[dir.as_os_str().as_bytes()], &ids[..]].concat());
    let known = std::fs::read_to_string("/proc/filesystems").expect("read the list of file systems");
    match waits {
        Ok(_) => {
            let row = daemon.row(puppet.pid).expect("it waits");
            assert_eq!(
                ["uid", "euid", "suid"].map(|field| number(&row, field)),
                [1000, 1001, 1002],
                "{row:#}"
            );
        }
        Err(error) => assert!(!known.contains("overlay"), "this kernel has overlayfs: {error}"),
    }
}
