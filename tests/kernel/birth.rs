//! The births of processes by fork, vfork, clone, posix_spawn and clone3, and their parents.

use observer_harness::Verb;
use observer_harness::fixture::Birth;
use observer_harness::truth::{assert_no_row, assert_row};
use observer_harness::{Cgroup, Daemon, Fixture, Puppet, Watch, text};

/// Asserts that every field of the row is correct and that the start time lies between two readings of the
/// boot clock.
#[track_caller]
fn assert_born(daemon: &Daemon, child: &Puppet, birth: Birth) {
    let row = assert_row(daemon, child.pid);
    let start_ns = text::u64_string(&row, "start_boottime_ns").expect("a start time");
    assert!(
        (birth.after..=birth.before).contains(&start_ns),
        "born between {} and {}, shown {start_ns}",
        birth.after,
        birth.before
    );
}

#[test]
fn a_forked_child_is_shown_with_every_field() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut parent = fixture.puppet();
    let (child, birth) = parent.bears(&fixture, Verb::Fork, &[]);
    assert_born(daemon, &child, birth);
    assert_row(daemon, parent.pid);
}

#[test]
fn a_vforked_child_execs_while_its_parent_waits() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut parent = fixture.puppet();
    let (child, birth) = parent.bears(&fixture, Verb::Vfork, &[]);
    assert_born(daemon, &child, birth);
}

#[test]
fn posix_spawn_is_a_birth_and_an_exec() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut parent = fixture.puppet();
    let (child, birth) = parent.bears(&fixture, Verb::Spawn, &[]);
    assert_born(daemon, &child, birth);
    let started = watch.wait_for("its birth", |frame| frame.is("process_started", child.pid));
    let execed = watch.wait_for("its exec", |frame| frame.is("process_execed", child.pid));
    assert!(started.seq() < execed.seq(), "birth before exec");
}

#[test]
fn a_clone_that_shares_the_directory_moves_with_its_parent() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut parent = fixture.puppet();
    let flags = (libc::CLONE_FS | libc::SIGCHLD).to_string();
    let (mut child, birth) = parent.bears(&fixture, Verb::Clone, &[flags.as_bytes()]);
    assert_born(daemon, &child, birth);
    let (mut grandchild, _) = child.bears(&fixture, Verb::Clone, &[flags.as_bytes()]);
    for (mover, name) in [(&mut parent, "one"), (&mut child, "two"), (&mut grandchild, "three")] {
        mover.chdir(&fixture.mkdir(name));
    }
    for pid in [parent.pid, child.pid, grandchild.pid] {
        let row = assert_row(daemon, pid);
        let cwd = text::bytes(&row, "cwd").expect("a cwd");
        assert!(cwd.ends_with(b"/three"), "the last of the three moved all: {row:#}");
    }
}

#[test]
fn a_relative_chdir_moves_every_process_that_shares_the_directory() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    fixture.mkdir("deep/er");
    let mut parent = fixture.puppet();
    let flags = (libc::CLONE_FS | libc::SIGCHLD).to_string();
    let (mut child, _) = parent.bears(&fixture, Verb::Clone, &[flags.as_bytes()]);
    parent.does(Verb::Chdir, &[b"deep"]);
    child.does(Verb::Fchdir, &[b"er"]);
    for pid in [parent.pid, child.pid] {
        let row = assert_row(daemon, pid);
        assert!(text::bytes(&row, "cwd").is_some_and(|cwd| cwd.ends_with(b"/deep/er")), "{row:#}");
    }
}

#[test]
fn a_clone_with_clone_parent_is_its_callers_sibling() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut grandparent = fixture.puppet();
    let (mut caller, _) = grandparent.bears(&fixture, Verb::Fork, &[]);
    let flags = (libc::CLONE_PARENT | libc::SIGCHLD).to_string();
    let (mut sibling, birth) = caller.bears(&fixture, Verb::Clone, &[flags.as_bytes()]);
    let [_, ppid, ..] = sibling.does(Verb::Facts, &[])[..] else { panic!("facts have a ppid") };
    assert_eq!(ppid, u64::from(grandparent.pid), "getppid");
    assert_born(daemon, &sibling, birth);
}

#[test]
fn clone3_into_a_cgroup_is_a_birth() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let cgroup = Cgroup::new("clone3");
    let mut parent = fixture.puppet();
    let (child, birth) =
        parent.bears(&fixture, Verb::Clone3, &[b"0", cgroup.path.as_os_str().as_encoded_bytes(), b"0"]);
    let procs = std::fs::read_to_string(cgroup.path.join("cgroup.procs")).expect("the cgroup's processes");
    assert_eq!(procs.trim(), child.pid.to_string(), "it was born in the cgroup");
    assert_born(daemon, &child, birth);
    assert_cgroup(daemon, child.pid);
}

#[test]
fn a_process_moved_to_another_cgroup_is_shown_there() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let cgroup = Cgroup::new("moved");
    let puppet = fixture.puppet();
    assert_cgroup(daemon, puppet.pid);
    std::fs::write(cgroup.path.join("cgroup.procs"), puppet.pid.to_string()).expect("move it");
    assert_cgroup(daemon, puppet.pid);
}

/// Creates nested cgroups and returns them innermost first, which is the order of their removal. Each
/// component of the path except the first is `component`.
fn nested_cgroups(name: &str, component: &str, depth: usize) -> Vec<Cgroup> {
    let mut path = name.to_owned();
    let mut cgroups = vec![Cgroup::new(&path)];
    for _ in 0..depth {
        path = format!("{path}/{component}");
        cgroups.insert(0, Cgroup::new(&path));
    }
    cgroups
}

#[test]
fn a_process_born_in_a_deeply_nested_cgroup_is_shown_there() {
    let cgroups = nested_cgroups("deep", "c", 200);
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut parent = fixture.puppet();
    let directory = cgroups.first().expect("a cgroup").path.as_os_str().as_encoded_bytes();
    let (child, birth) = parent.bears(&fixture, Verb::Clone3, &[b"0", directory, b"0"]);
    assert_born(daemon, &child, birth);
    assert_cgroup(daemon, child.pid);
}

/// The tracepoint that reports a move passes 1,023 bytes of the path.
#[test]
fn a_process_moved_to_a_cgroup_with_a_long_path_is_shown_there() {
    let cgroups = nested_cgroups("long", &"c".repeat(120), 12);
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let puppet = fixture.puppet();
    for cgroup in cgroups.iter().rev() {
        std::fs::write(cgroup.path.join("cgroup.procs"), puppet.pid.to_string()).expect("move it");
        assert_cgroup(daemon, puppet.pid);
    }
}

/// Asserts that the shown v2 cgroup is the line `0::` of /proc/PID/cgroup.
#[track_caller]
fn assert_cgroup(daemon: &Daemon, pid: u32) {
    let row = assert_row(daemon, pid);
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    let truth = text.lines().find_map(|line| line.strip_prefix("0::")).expect("a v2 cgroup");
    assert_eq!(row.get("cgroup").and_then(|cgroup| cgroup.as_str()), Some(truth), "{row:#}");
}

#[test]
fn an_orphan_is_shown_under_its_new_parent() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut grandparent = fixture.puppet();
    let (mut parent, _) = grandparent.bears(&fixture, Verb::Fork, &[]);
    let (mut child, _) = parent.bears(&fixture, Verb::Fork, &[]);
    assert_row(daemon, child.pid);
    let parents_pid = parent.pid.to_string();
    parent.request(Verb::Exit, &[b"0"]);
    grandparent.does(Verb::Wait, &[parents_pid.as_bytes()]);
    let [_, ppid, ..] = child.does(Verb::Facts, &[])[..] else { panic!("facts have a ppid") };
    assert_ne!(ppid, u64::from(parent.pid), "it was reparented");
    let row = assert_row(daemon, child.pid);
    assert_eq!(row.get("ppid").and_then(serde_json::Value::as_u64), Some(ppid), "getppid");
}

#[test]
fn an_orphan_goes_to_the_nearest_subreaper() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut reaper = fixture.puppet();
    reaper.does(Verb::BecomesSubreaper, &[]);
    let (mut parent, _) = reaper.bears(&fixture, Verb::Fork, &[]);
    let (mut child, _) = parent.bears(&fixture, Verb::Fork, &[]);
    parent.request(Verb::Exit, &[b"0"]);
    reaper.does(Verb::Wait, &[parent.pid.to_string().as_bytes()]);
    let [_, ppid, ..] = child.does(Verb::Facts, &[])[..] else { panic!("facts have a ppid") };
    assert_eq!(ppid, u64::from(reaper.pid), "getppid");
    assert_row(daemon, child.pid);
}

#[test]
fn the_children_of_an_unreaped_parent_have_a_new_parent() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut grandparent = fixture.puppet();
    let (mut parent, _) = grandparent.bears(&fixture, Verb::Fork, &[]);
    let (mut child, _) = parent.bears(&fixture, Verb::Fork, &[]);
    let start = text::u64_string(&assert_row(daemon, parent.pid), "start_boottime_ns").expect("a start time");
    parent.request(Verb::Exit, &[b"0"]);
    // Until it is reaped it is a zombie: it is in /proc, but it is not alive.
    let watch =
        observer_harness::eventually("the child is reparented", observer_harness::watch::SOON, || {
            let ppid = child.does(Verb::Facts, &[]).get(1).copied();
            if ppid == Some(parent.pid.into()) { Err("not yet".to_owned()) } else { Ok(ppid) }
        });
    assert!(watch.is_some(), "it has a parent");
    assert_no_row(daemon, parent.pid, &start.to_string());
    assert_row(daemon, child.pid);
}

#[test]
fn a_thread_has_no_row() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    let [tid] = puppet.does(Verb::ThreadStays, &[])[..] else { panic!("a tid") };
    let tid = u32::try_from(tid).expect("a tid fits");
    assert!(std::fs::exists(format!("/proc/{}/task/{tid}", puppet.pid)).expect("/proc"), "the thread lives");
    assert!(daemon.row(tid).is_none(), "a thread is never a row");
    assert_row(daemon, puppet.pid);
}
