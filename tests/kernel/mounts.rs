//! Mounts and mount namespaces: a path is resolved in the process's own namespace from its own root.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use observer_harness::Verb;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Puppet, text};
use serde_json::Value;

/// Starts a puppet in its own mount namespace.
fn apart(fixture: &Fixture) -> Puppet {
    let mut puppet = fixture.puppet();
    puppet.does(Verb::UnshareMounts, &[]);
    puppet
}

#[track_caller]
fn assert_cwd(pid: u32, expected: &Path) -> Value {
    let row = assert_row(Daemon::shared(), pid);
    assert_eq!(row.get("cwd").and_then(Value::as_str), expected.to_str(), "{row:#}");
    row
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[test]
fn unsharing_the_mount_namespace_is_shown() {
    let fixture = Fixture::new();
    let mut puppet = fixture.puppet();
    let before = assert_row(Daemon::shared(), puppet.pid);
    puppet.does(Verb::UnshareMounts, &[]);
    let after = assert_row(Daemon::shared(), puppet.pid);
    assert_ne!(text::u64_any(&before, "mnt_ns"), text::u64_any(&after, "mnt_ns"), "another namespace");
}

#[test]
fn a_cwd_on_another_mount_and_at_its_root_has_its_whole_path() {
    let fixture = Fixture::new();
    let mount = fixture.mkdir("mounted");
    let mut puppet = apart(&fixture);
    puppet.does(Verb::MountTmpfs, &[bytes(&mount)]);
    puppet.chdir(&mount);
    let row = assert_cwd(puppet.pid, &mount);
    let host = assert_row(Daemon::shared(), std::process::id());
    assert_ne!(row.get("cwd_dev"), host.get("cwd_dev"), "another device");
    // This mounts a second file system on the first.
    puppet.does(Verb::MountTmpfs, &[bytes(&mount)]);
    puppet.chdir(&mount);
    assert_cwd(puppet.pid, &mount);
}

#[test]
fn a_path_through_a_chain_of_mounts_is_shown_whole() {
    let fixture = Fixture::new();
    let mut puppet = apart(&fixture);
    let mut dir = fixture.dir();
    for name in ["first", "second", "third"] {
        dir = dir.join(name);
        // Directories on the namespace's own mounts are created through the puppet's root.
        let outside = Path::new("/proc")
            .join(puppet.pid.to_string())
            .join("root")
            .join(dir.strip_prefix("/").expect("absolute"));
        std::fs::create_dir(&outside).expect("mkdir inside");
        puppet.does(Verb::MountTmpfs, &[bytes(&dir)]);
    }
    puppet.chdir(&dir);
    assert_cwd(puppet.pid, &dir);
}

#[test]
fn moving_a_mount_moves_the_processes_on_it() {
    let fixture = Fixture::new();
    let (from, to) = (fixture.mkdir("from"), fixture.mkdir("to"));
    let (mut puppet, _birth) = apart(&fixture).bears(&fixture, Verb::Fork, &[]);
    puppet.does(Verb::MountTmpfs, &[bytes(&from)]);
    puppet.chdir(&from);
    assert_cwd(puppet.pid, &from);
    puppet.does(Verb::MountMoves, &[bytes(&from), bytes(&to)]);
    assert_cwd(puppet.pid, &to);
}

#[test]
fn a_lazily_unmounted_cwd_is_shown_as_unreachable() {
    let fixture = Fixture::new();
    let mount = fixture.mkdir("lazy");
    let mut puppet = apart(&fixture);
    puppet.does(Verb::MountTmpfs, &[bytes(&mount)]);
    puppet.chdir(&mount);
    assert_cwd(puppet.pid, &mount);
    puppet.does(Verb::UmountLazily, &[bytes(&mount)]);
    let row = Daemon::shared().row(puppet.pid).expect("it lives");
    assert_eq!(row.get("cwd_unreachable"), Some(&true.into()), "{row:#}");
    let truth = observer_harness::Truth::of(puppet.pid).expect("it lives");
    assert_eq!(row.get("cwd_ino").and_then(Value::as_str), truth.cwd_ino.as_deref(), "still that directory");
    assert_ne!(row.get("cwd").and_then(Value::as_str), mount.to_str(), "not where it was");
}

#[test]
fn setns_moves_a_process_to_the_root_of_the_namespace() {
    let fixture = Fixture::new();
    let inner = apart(&fixture);
    let mut puppet = fixture.puppet();
    puppet.does(Verb::SetnsMounts, &[format!("/proc/{}/ns/mnt", inner.pid).as_bytes()]);
    let row = assert_cwd(puppet.pid, Path::new("/"));
    let theirs = assert_row(Daemon::shared(), inner.pid);
    assert_eq!(row.get("mnt_ns"), theirs.get("mnt_ns"), "the same namespace");
}

#[test]
fn pivot_root_changes_the_path_of_processes_in_the_old_root() {
    let fixture = Fixture::new();
    let new = fixture.mkdir("new");
    let mut puppet = apart(&fixture);
    let (watcher, _birth) = puppet.bears(&fixture, Verb::Fork, &[]);
    let old_cwd = fixture.dir();
    assert_cwd(watcher.pid, &old_cwd);
    puppet.does(Verb::MountTmpfs, &[bytes(&new)]);
    let root = format!("/proc/{}/root{}", puppet.pid, new.display());
    std::fs::create_dir(format!("{root}/old")).expect("mkdir inside");
    puppet.does(Verb::Pivots, &[bytes(&new), bytes(&new.join("old"))]);
    let expected = format!("/old{}", old_cwd.display());
    assert_cwd(watcher.pid, Path::new(&expected));
}
