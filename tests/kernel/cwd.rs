//! Working directories: changes that a process makes itself and changes that others make to its directory.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use observer_harness::Verb;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Watch, fixture, text};

/// Asserts that every field of the row is correct and that its cwd is `expected`, which shows that the puppet
/// did what the test meant.
#[track_caller]
fn assert_cwd(pid: u32, expected: &Path) {
    let row = assert_row(Daemon::shared(), pid);
    let cwd = text::bytes(&row, "cwd").map(|cwd| cwd.escape_ascii().to_string());
    assert_eq!(cwd, Some(expected.as_os_str().as_bytes().escape_ascii().to_string()));
}

#[test]
fn chdir_is_shown_for_absolute_relative_and_dotted_paths() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.mkdir("a"), fixture.mkdir("a/b"));
    let mut puppet = fixture.puppet();
    puppet.chdir(&a);
    assert_cwd(puppet.pid, &a);
    puppet.does(Verb::Chdir, &[b"b"]);
    assert_cwd(puppet.pid, &b);
    puppet.does(Verb::Chdir, &[b"../../a/./b/.."]);
    assert_cwd(puppet.pid, &a);
    puppet.does(Verb::Chdir, &[b"/"]);
    assert_cwd(puppet.pid, Path::new("/"));
}

#[test]
fn chdir_through_a_symlink_shows_the_target() {
    let fixture = Fixture::new();
    let real = fixture.mkdir("real");
    std::os::unix::fs::symlink(&real, fixture.dir().join("link")).expect("make a symlink");
    let mut puppet = fixture.puppet();
    puppet.does(Verb::Chdir, &[b"link"]);
    assert_cwd(puppet.pid, &real);
}

#[test]
fn fchdir_is_a_move() {
    let fixture = Fixture::new();
    let dir = fixture.mkdir("by descriptor");
    let mut puppet = fixture.puppet();
    puppet.does(Verb::Fchdir, &[dir.as_os_str().as_bytes()]);
    assert_cwd(puppet.pid, &dir);
}

#[test]
fn a_failed_chdir_is_no_move() {
    let fixture = Fixture::new();
    let mut puppet = fixture.puppet();
    puppet.attempt(Verb::Chdir, &[b"not there"]).expect_err("there is no such directory");
    assert_cwd(puppet.pid, &fixture.dir());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_chdir_is_shown_by_the_next_query() {
    let fixture = Fixture::new();
    let dir = fixture.mkdir("narrow");
    let mut puppet = fixture.puppet();
    puppet.does(Verb::Chdir32, &[dir.as_os_str().as_bytes()]);
    assert_cwd(puppet.pid, &dir);
}

#[test]
fn watchers_receive_every_move_once_and_in_order() {
    let fixture = Fixture::new();
    let watch = Watch::all(Daemon::shared());
    let dirs = ["one", "two", "three"].map(|name| fixture.mkdir(name));
    let mut puppet = fixture.puppet();
    for dir in &dirs {
        puppet.chdir(dir);
    }
    let last = dirs.last().map(|dir| dir.as_os_str().as_bytes().to_vec());
    let moved = |frame: &observer_harness::Frame| frame.is("process_moved", puppet.pid);
    watch.wait_for("the last move", |frame| moved(frame) && text::bytes(&frame.0, "cwd") == last);
    let received: Vec<_> =
        watch.frames().into_iter().filter(moved).filter_map(|frame| text::bytes(&frame.0, "cwd")).collect();
    // Its first move is into the fixture's directory and happens between its birth and its exec.
    let went: Vec<_> =
        [fixture.dir()].iter().chain(&dirs).map(|dir| dir.as_os_str().as_bytes().to_vec()).collect();
    assert_eq!(received, went, "every move once, in order");
}

#[test]
fn renaming_a_directory_moves_the_processes_in_it() {
    let fixture = Fixture::new();
    let (before, after) = (fixture.mkdir("before"), fixture.dir().join("after"));
    let mut puppet = fixture.puppet();
    puppet.chdir(&before);
    assert_cwd(puppet.pid, &before);
    std::fs::rename(&before, &after).expect("rename");
    assert_cwd(puppet.pid, &after);
}

#[test]
fn renaming_an_ancestor_moves_the_processes_below_it() {
    let fixture = Fixture::new();
    let below = fixture.mkdir("grand/parent/child");
    let watch = Watch::all(Daemon::shared());
    let mut puppet = fixture.puppet();
    puppet.chdir(&below);
    assert_cwd(puppet.pid, &below);
    std::fs::rename(fixture.dir().join("grand"), fixture.dir().join("great")).expect("rename");
    let after = fixture.dir().join("great/parent/child");
    // The change is published without a query as well, because the rename itself schedules a pass.
    watch.wait_for("the move", |frame| {
        frame.is("process_moved", puppet.pid)
            && text::bytes(&frame.0, "cwd").as_deref() == Some(after.as_os_str().as_bytes())
    });
    assert_cwd(puppet.pid, &after);
}

#[test]
fn exchanging_two_directories_moves_the_processes_in_both() {
    let fixture = Fixture::new();
    let (left, right) = (fixture.mkdir("left/in"), fixture.mkdir("right/in"));
    let (mut a, mut b) = (fixture.puppet(), fixture.puppet());
    a.chdir(&left);
    b.chdir(&right);
    fixture::exchange(&fixture.dir().join("left"), &fixture.dir().join("right"));
    assert_cwd(a.pid, &right);
    assert_cwd(b.pid, &left);
}

#[test]
fn a_rename_by_io_uring_is_shown_by_the_next_query() {
    let fixture = Fixture::new();
    let before = fixture.mkdir("ring before");
    let after = fixture.dir().join("ring after");
    let (mut puppet, mut other) = (fixture.puppet(), fixture.puppet());
    puppet.chdir(&before);
    assert_cwd(puppet.pid, &before);
    other.does(Verb::RenamesByUring, &[before.as_os_str().as_bytes(), after.as_os_str().as_bytes()]);
    assert!(after.is_dir(), "it was renamed");
    assert_cwd(puppet.pid, &after);
}

#[test]
fn a_removed_directory_is_shown_as_deleted() {
    let fixture = Fixture::new();
    let dir = fixture.mkdir("doomed");
    let mut puppet = fixture.puppet();
    puppet.chdir(&dir);
    assert_cwd(puppet.pid, &dir);
    std::fs::remove_dir(&dir).expect("rmdir");
    let row = assert_row(Daemon::shared(), puppet.pid);
    assert!(text::bytes(&row, "cwd").is_some_and(|cwd| cwd.ends_with(b"/doomed (deleted)")), "{row:#}");
    assert_eq!(row.get("cwd_deleted"), Some(&true.into()));
    // A new directory with the same name is a different directory.
    fixture.mkdir("doomed");
    let row = assert_row(Daemon::shared(), puppet.pid);
    assert_eq!(row.get("cwd_deleted"), Some(&true.into()), "{row:#}");
}

#[test]
fn a_directory_removed_by_its_own_process_is_shown_as_deleted() {
    let fixture = Fixture::new();
    let dir = fixture.mkdir("own");
    let script = fixture.cast(&observer_harness::fixture::PuppetOptions {
        wrapper: ["sh", "-c", "rmdir \"$PWD\"; exec \"$0\" \"$@\""].map(Into::into).to_vec(),
        dir: Some(dir),
        ..Default::default()
    });
    let row = assert_row(Daemon::shared(), script.pid);
    assert_eq!(row.get("cwd_deleted"), Some(&true.into()), "{row:#}");
}

#[test]
fn a_directory_whose_name_ends_in_deleted_is_not_shown_as_deleted() {
    let fixture = Fixture::new();
    let dir = fixture.mkdir("alive (deleted)");
    let mut puppet = fixture.puppet();
    puppet.chdir(&dir);
    let row = assert_row(Daemon::shared(), puppet.pid);
    assert_eq!(row.get("cwd_deleted"), Some(&false.into()), "{row:#}");
}

#[test]
fn a_thread_with_its_own_directory_does_not_move_its_process() {
    let fixture = Fixture::new();
    let elsewhere = fixture.mkdir("elsewhere");
    let mut puppet = fixture.puppet();
    let [tid] = puppet.does(Verb::ThreadMovesAlone, &[elsewhere.as_os_str().as_bytes()])[..] else {
        panic!("a tid")
    };
    let threads =
        std::fs::read_link(format!("/proc/{}/task/{tid}/cwd", puppet.pid)).expect("the thread's cwd");
    assert_eq!(threads, elsewhere, "the thread moved");
    assert_cwd(puppet.pid, &fixture.dir());
    // The leader's own moves are still shown.
    let on = fixture.mkdir("on");
    puppet.chdir(&on);
    assert_cwd(puppet.pid, &on);
}

#[test]
fn a_thread_that_shares_its_directory_moves_its_process() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.mkdir("a"), fixture.mkdir("b"));
    let mut puppet = fixture.puppet();
    puppet.does(Verb::ChdirRace, &[a.as_os_str().as_bytes(), b.as_os_str().as_bytes(), b"1"]);
    let row = assert_row(Daemon::shared(), puppet.pid);
    assert!(
        text::bytes(&row, "cwd").is_some_and(|cwd| cwd.ends_with(b"/a") || cwd.ends_with(b"/b")),
        "{row:#}"
    );
}

#[test]
fn a_process_whose_leader_exited_keeps_the_leaders_last_directory() {
    // The daemon runs before the leader ends: one that starts later cannot read the directory.
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let (last, on) = (fixture.mkdir("last"), fixture.mkdir("on"));
    let mut puppet = fixture.puppet();
    puppet.chdir(&last);
    puppet.does(Verb::LeaderExits, &[b"0"]);
    // Its other thread moves; the row shows the leader's last directory.
    puppet.chdir(&on);
    let row = daemon.row(puppet.pid).expect("its thread lives");
    assert_eq!(text::bytes(&row, "cwd").as_deref(), Some(last.as_os_str().as_bytes()), "{row:#}");
}
