//! Each hook fires: `watch` shows a change without a query, because the hook in use on this kernel reports
//! it. `OBSERVER_TEST_HOOKS=fexit|tracepoints` makes the daemon use one kind of hook only.

mod audit;
mod canary;
mod choice;
mod full;
mod same;
mod scene;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::{Frame, Pty, Puppet, fixture};
use serde_json::{Value, json};

use crate::scene::Scene;

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Returns a predicate that holds if the frame has this value in this field.
fn shows<V: Into<Value>>(field: &'static str, value: V) -> impl Fn(&Frame) -> bool + use<V> {
    let value = value.into();
    move |frame| frame.field(field) == Some(&value)
}

fn cwd(path: &Path) -> impl Fn(&Frame) -> bool {
    shows("cwd", path.to_str().expect("a plain path").to_owned())
}

/// Starts a puppet in its own mount namespace, and a child there whose directory is `dir`.
fn apart(scene: &Scene, dir: &Path) -> (Puppet, Puppet) {
    let mut puppet = scene.fixture.puppet();
    puppet.does(Verb::UnshareMounts, &[]);
    let (mut child, _) = puppet.bears(&scene.fixture, Verb::Fork, &[]);
    child.chdir(dir);
    scene.assert_reported("cwd", child.pid, "where it begins", cwd(dir));
    (puppet, child)
}

/// Starts a puppet that leads a POSIX session without a terminal.
fn leader(scene: &Scene) -> Puppet {
    let (mut puppet, _) = scene.fixture.puppet().bears(&scene.fixture, Verb::Fork, &[]);
    puppet.does(Verb::Ignore, &[b"1"]);
    puppet.does(Verb::Setsid, &[]);
    puppet
}

#[test]
fn chdir_and_fchdir() {
    let scene = Scene::new();
    let mut puppet = scene.fixture.puppet();
    for (verb, name) in [(Verb::Chdir, "one"), (Verb::Fchdir, "two")] {
        let dir = scene.fixture.mkdir(name);
        scene.settle();
        puppet.does(verb, &[bytes(&dir)]);
        scene.assert_reported("cwd", puppet.pid, verb.name(), cwd(&dir));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn chdir_by_32_bit_code() {
    let scene = Scene::new();
    let mut puppet = scene.fixture.puppet();
    let dir = scene.fixture.mkdir("by-32-bit-code");
    scene.settle();
    puppet.does(Verb::Chdir32, &[bytes(&dir)]);
    if scene.by_functions("cwd") {
        scene.assert_reported("cwd", puppet.pid, "chdir", cwd(&dir));
    } else {
        scene.assert_blind("cwd", "32-bit");
    }
}

#[test]
fn rename_of_a_directory_above() {
    let scene = Scene::new();
    let (dir, to) = (scene.fixture.mkdir("before"), scene.fixture.dir().join("after"));
    let mut puppet = scene.fixture.puppet();
    puppet.chdir(&scene.fixture.mkdir("before/below"));
    scene.settle();
    fs::rename(dir, &to).expect("rename");
    scene.assert_reported("paths", puppet.pid, "rename", cwd(&to.join("below")));
}

#[test]
fn rename_by_io_uring() {
    let scene = Scene::new();
    let (dir, to) = (scene.fixture.mkdir("before"), scene.fixture.dir().join("after"));
    let mut puppet = scene.fixture.puppet();
    puppet.chdir(&dir);
    scene.settle();
    match puppet.attempt(Verb::RenamesByUring, &[bytes(&dir), bytes(&to)]) {
        Ok(_) if scene.by_functions("paths") => {
            scene.assert_reported("paths", puppet.pid, "rename", cwd(&to))
        }
        Ok(_) => scene.assert_blind("paths", "io_uring"),
        // Some kernels do not support renames by io_uring (before 5.11), or io_uring at all.
        Err(error) => assert!(dir.exists(), "{error}: and renamed all the same"),
    }
}

#[test]
fn exchange_of_two_directories() {
    let scene = Scene::new();
    let (one, two) = (scene.fixture.mkdir("one"), scene.fixture.mkdir("two"));
    let mut puppet = scene.fixture.puppet();
    puppet.chdir(&one);
    scene.assert_reported("cwd", puppet.pid, "where it begins", cwd(&one));
    scene.settle();
    fixture::exchange(&one, &two);
    scene.assert_reported("paths", puppet.pid, "exchange", cwd(&two));
}

#[test]
fn a_rename_of_a_file_raises_no_hint() {
    let scene = Scene::new();
    if !scene.by_functions("paths") {
        // The exit of a system call does not show what was renamed.
        return scene.assert_blind("paths", "");
    }
    let (from, to) = (scene.fixture.dir().join("file"), scene.fixture.dir().join("renamed"));
    fs::write(&from, "").expect("write");
    scene.settle();
    let before = scene.hints();
    for _ in 0..50 {
        fs::rename(&from, &to).expect("rename");
        fs::rename(&to, &from).expect("rename");
    }
    // The rename of a directory comes after them in the ring and is published, so the hints that they raised
    // are counted by then.
    let (dir, moved) = (scene.fixture.mkdir("dir"), scene.fixture.dir().join("moved"));
    let mut puppet = scene.fixture.puppet();
    puppet.chdir(&dir);
    fs::rename(&dir, &moved).expect("rename");
    scene.assert_reported("paths", puppet.pid, "rename of a directory", cwd(&moved));
    let raised = scene.hints() - before;
    assert!(raised < 50, "{raised} hints for 100 renames of a file and one of a directory");
}

#[test]
fn removal_of_the_directory() {
    let scene = Scene::new();
    let dir = scene.fixture.mkdir("doomed");
    let mut puppet = scene.fixture.puppet();
    puppet.chdir(&dir);
    scene.assert_reported("cwd", puppet.pid, "where it begins", cwd(&dir));
    scene.settle();
    fs::remove_dir(&dir).expect("rmdir");
    scene.assert_reported("paths", puppet.pid, "rmdir", shows("cwd_deleted", true));
}

#[test]
fn removal_of_a_directory_where_others_have_a_mount() {
    let scene = Scene::new();
    let dir = scene.fixture.mkdir("doomed");
    let (mut puppet, mut child) = apart(&scene, &scene.fixture.dir());
    puppet.does(Verb::MountTmpfs, &[bytes(&dir)]);
    child.chdir(&dir);
    scene.assert_reported("cwd", child.pid, "where it begins", cwd(&dir));
    scene.settle();
    fs::remove_dir(&dir).expect("rmdir");
    scene.assert_reported("paths", child.pid, "rmdir", shows("cwd_unreachable", true));
}

#[test]
fn mount_that_moves() {
    let scene = Scene::new();
    let (from, to) = (scene.fixture.mkdir("from"), scene.fixture.mkdir("to"));
    let (mut puppet, mut child) = apart(&scene, &scene.fixture.dir());
    puppet.does(Verb::MountTmpfs, &[bytes(&from)]);
    child.chdir(&from);
    scene.assert_reported("cwd", child.pid, "where it begins", cwd(&from));
    scene.settle();
    puppet.does(Verb::MountMoves, &[bytes(&from), bytes(&to)]);
    scene.assert_reported("paths", child.pid, "mount with MS_MOVE", cwd(&to));
}

#[test]
fn mount_that_moves_by_move_mount() {
    let scene = Scene::new();
    let (from, to) = (scene.fixture.mkdir("from"), scene.fixture.mkdir("to"));
    let (mut puppet, mut child) = apart(&scene, &scene.fixture.dir());
    puppet.does(Verb::MountTmpfs, &[bytes(&from)]);
    child.chdir(&from);
    scene.assert_reported("cwd", child.pid, "where it begins", cwd(&from));
    scene.settle();
    puppet.does(Verb::MoveMount, &[bytes(&from), bytes(&to)]);
    scene.assert_reported("paths", child.pid, "move_mount", cwd(&to));
}

#[test]
fn lazy_unmount() {
    let scene = Scene::new();
    let mount = scene.fixture.mkdir("lazy");
    let (mut puppet, mut child) = apart(&scene, &scene.fixture.dir());
    puppet.does(Verb::MountTmpfs, &[bytes(&mount)]);
    child.chdir(&mount);
    scene.assert_reported("cwd", child.pid, "where it begins", cwd(&mount));
    scene.settle();
    puppet.does(Verb::UmountLazily, &[bytes(&mount)]);
    scene.assert_reported("paths", child.pid, "umount", shows("cwd_unreachable", true));
}

#[test]
fn root_that_is_pivoted() {
    let scene = Scene::new();
    let new = scene.fixture.mkdir("new");
    let (mut puppet, child) = apart(&scene, &scene.fixture.dir());
    puppet.does(Verb::MountTmpfs, &[bytes(&new)]);
    fs::create_dir(format!("/proc/{}/root{}/old", puppet.pid, new.display())).expect("mkdir inside");
    scene.settle();
    puppet.does(Verb::Pivots, &[bytes(&new), bytes(&new.join("old"))]);
    scene.assert_reported(
        "paths",
        child.pid,
        "pivot_root",
        shows("cwd", format!("/old{}", scene.fixture.dir().display())),
    );
}

/// Returns the inode number of the process's mount namespace.
fn namespace(pid: u32) -> u64 {
    let link = fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("its namespace");
    let digits = |c: char| !c.is_ascii_digit();
    link.to_string_lossy().trim_matches(digits).parse::<u64>().expect("mnt:[N]")
}

#[test]
fn mount_namespace_that_is_unshared_or_entered() {
    let scene = Scene::new();
    let (mut inner, mut outer) = (scene.fixture.puppet(), scene.fixture.puppet());
    scene.settle();
    inner.does(Verb::UnshareQuietly, &[]);
    let inside = namespace(inner.pid);
    scene.assert_reported("paths", inner.pid, "unshare", |frame| number(frame, "mnt_ns") == Some(inside));
    scene.settle();
    outer.does(Verb::SetnsMounts, &[format!("/proc/{}/ns/mnt", inner.pid).as_bytes()]);
    scene.assert_reported("paths", outer.pid, "setns", |frame| number(frame, "mnt_ns") == Some(inside));
}

/// Asserts that a function hook reports the change; where no function hook is in use, asserts that it is a
/// reported blind spot.
#[track_caller]
fn assert_reported_by_functions(scene: &Scene, pid: u32, what: &str, sort: impl Fn(&Frame) -> bool) {
    if scene.by_functions("paths") {
        scene.assert_reported("paths", pid, what, sort);
    } else {
        scene.assert_blind("paths", "32-bit");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn mount_that_moves_by_32_bit_code() {
    let scene = Scene::new();
    let (from, to) = (scene.fixture.mkdir("from"), scene.fixture.mkdir("to"));
    let (mut puppet, mut child) = apart(&scene, &scene.fixture.dir());
    puppet.does(Verb::MountTmpfs, &[bytes(&from)]);
    child.chdir(&from);
    scene.assert_reported("cwd", child.pid, "where it begins", cwd(&from));
    scene.settle();
    puppet.does(Verb::MoveMount32, &[bytes(&from), bytes(&to)]);
    assert_reported_by_functions(&scene, child.pid, "move_mount", cwd(&to));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn root_that_is_pivoted_by_32_bit_code() {
    let scene = Scene::new();
    let new = scene.fixture.mkdir("new");
    let (mut puppet, child) = apart(&scene, &scene.fixture.dir());
    puppet.does(Verb::MountTmpfs, &[bytes(&new)]);
    fs::create_dir(format!("/proc/{}/root{}/old", puppet.pid, new.display())).expect("mkdir inside");
    scene.settle();
    puppet.does(Verb::Pivots32, &[bytes(&new), bytes(&new.join("old"))]);
    let there = format!("/old{}", scene.fixture.dir().display());
    assert_reported_by_functions(&scene, child.pid, "pivot_root", shows("cwd", there));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn mount_namespace_entered_by_32_bit_code() {
    let scene = Scene::new();
    let (mut inner, mut outer) = (scene.fixture.puppet(), scene.fixture.puppet());
    inner.does(Verb::UnshareMounts, &[]);
    let inside = namespace(inner.pid);
    scene.settle();
    outer.does(Verb::SetnsMounts32, &[format!("/proc/{}/ns/mnt", inner.pid).as_bytes()]);
    assert_reported_by_functions(&scene, outer.pid, "setns", |frame| number(frame, "mnt_ns") == Some(inside));
}

fn number(frame: &Frame, field: &str) -> Option<u64> {
    observer_harness::text::u64_any(&frame.0, field)
}

#[test]
fn user_ids() {
    let scene = Scene::new();
    let mut puppet = scene.fixture.puppet();
    scene.settle();
    puppet.does(Verb::Setresuid, &[b"1000", b"1001", b"1002"]);
    scene.assert_reported("uids", puppet.pid, "setresuid", |frame| {
        ["uid", "euid", "suid"].map(|field| number(frame, field)) == [Some(1000), Some(1001), Some(1002)]
    });
}

#[test]
fn setsid() {
    let scene = Scene::new();
    let (mut puppet, _) = scene.fixture.puppet().bears(&scene.fixture, Verb::Fork, &[]);
    puppet.does(Verb::Ignore, &[b"1"]);
    scene.settle();
    puppet.does(Verb::Setsid, &[]);
    let pid = u64::from(puppet.pid);
    scene.assert_reported("sid", puppet.pid, "setsid", |frame| {
        ["sid", "pgid"].map(|field| number(frame, field)) == [Some(pid), Some(pid)]
    });
}

#[test]
fn terminal_left_behind_by_setsid() {
    let (scene, pty) = (Scene::new(), Pty::open());
    let mut puppet = scene.fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    let (mut child, _) = puppet.bears(&scene.fixture, Verb::Fork, &[]);
    scene.assert_reported("birth", child.pid, "its terminal", shows("tty", pty.tty()));
    scene.settle();
    child.does(Verb::Setsid, &[]);
    scene.assert_reported("sid", child.pid, "setsid", shows("tty", json!(null)));
}

#[test]
fn setpgid_of_itself_and_of_a_child() {
    let scene = Scene::new();
    let mut parent = scene.fixture.puppet();
    let (mut own, _) = parent.bears(&scene.fixture, Verb::Fork, &[]);
    let (other, _) = parent.bears(&scene.fixture, Verb::Fork, &[]);
    let group = u64::from(own.pid);
    scene.settle();
    own.does(Verb::Setpgid, &[b"0", b"0"]);
    scene.assert_reported("pgid", own.pid, "setpgid", |frame| number(frame, "pgid") == Some(group));
    scene.settle();
    let (member, leader) = (other.pid.to_string(), own.pid.to_string());
    parent.does(Verb::Setpgid, &[member.as_bytes(), leader.as_bytes()]);
    scene.assert_reported("pgid", other.pid, "setpgid of a child", |frame| {
        number(frame, "pgid") == Some(group)
    });
}

#[test]
fn terminal_gained_by_ioctl() {
    let (scene, pty) = (Scene::new(), Pty::open());
    let mut puppet = leader(&scene);
    scene.settle();
    puppet.does(Verb::GainsTerminal, &[bytes(&pty.path)]);
    scene.assert_reported("terminal", puppet.pid, "TIOCSCTTY", shows("tty", pty.tty()));
}

#[test]
fn terminal_gained_by_opening_it() {
    let (scene, pty) = (Scene::new(), Pty::open());
    let mut puppet = leader(&scene);
    scene.settle();
    puppet.does(Verb::OpensTerminal, &[bytes(&pty.path)]);
    scene.assert_reported("terminal", puppet.pid, "open", shows("tty", pty.tty()));
}

#[test]
fn terminal_given_up() {
    let (scene, pty) = (Scene::new(), Pty::open());
    let mut puppet = scene.fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    let (mut child, _) = puppet.bears(&scene.fixture, Verb::Fork, &[]);
    scene.assert_reported("birth", child.pid, "its terminal", shows("tty", pty.tty()));
    scene.settle();
    child.does(Verb::LosesTerminal, &[]);
    scene.assert_reported("terminal", child.pid, "TIOCNOTTY", shows("tty", json!(null)));
}

#[test]
fn terminal_taken_from_another() {
    let (scene, pty) = (Scene::new(), Pty::open());
    let mut owner = scene.fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    owner.does(Verb::Ignore, &[b"1"]);
    scene.assert_reported("birth", owner.pid, "its terminal", shows("tty", pty.tty()));
    let mut thief = leader(&scene);
    scene.settle();
    thief.does(Verb::StealsTerminal, &[bytes(&pty.path)]);
    scene.assert_reported("terminal", thief.pid, "TIOCSCTTY", shows("tty", pty.tty()));
    scene.assert_reported("terminal", owner.pid, "its loss", shows("tty", json!(null)));
}
