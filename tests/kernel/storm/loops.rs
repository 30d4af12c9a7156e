//! Users who try to overload the daemon without starting a process.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::observe::total;
use observer_harness::truth::gone;
use observer_harness::{Cgroup, Daemon, Fixture, Frame, Options, Pty, Watch, eventually, text};
use serde_json::Value;

/// The user who loops.
const NOBODY: u32 = 65_534;
/// Processes whose records nobody has read when the daemon is told to stop, and clients whose questions wait then.
const UNREAD: u64 = 20_000;
const QUESTIONS: usize = 6;
/// A change may take longer to be published while three processes never pause on two cores.
const BUSY: Duration = Duration::from_secs(20);

#[test]
fn loops_of_chdir_and_prctl_lose_no_birth_and_no_death() {
    let _alone = crate::alone();
    let fixture = Fixture::new();
    // The births and deaths of sessions are published on a stream of their own, which the loops do not fill.
    let config = format!(
        "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"pts/*\"\n",
        fixture.mkdir("homes").display()
    );
    let daemon =
        Daemon::start(&Options { config: Some(config), ring_bytes: Some(1 << 20), ..Default::default() });
    let watch = Watch::sessions(&daemon);
    let dirs = [fixture.mkdir("a"), fixture.mkdir("b")];
    let mut loopers: Vec<_> = (0..3).map(|_| fixture.puppet()).collect();
    for looper in &mut loopers {
        looper.does(Verb::LoopForever, &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes()]);
    }
    for code in 0..50 {
        let pty = Pty::open();
        let home = fixture.mkdir(format!("homes/{code}"));
        let puppet = fixture.cast(&PuppetOptions { dir: Some(home), pty: Some(&pty), ..Default::default() });
        let pid = puppet.pid;
        // Directories and terminals may be read again instead of being reported; births and deaths are
        // reported.
        watch.wait_within(BUSY, &format!("the start of {pid}"), |frame| frame.is("session_started", pid));
        let raw_status = puppet.ends(Verb::Exit, &[code.to_string().as_bytes()]).raw_status;
        let end =
            watch.wait_within(BUSY, &format!("the end of {pid}"), |frame| frame.is("session_ended", pid));
        assert_eq!(end.death().get("raw_status"), Some(&raw_status.into()), "{pid}");
    }
    let status = daemon.status();
    assert_eq!(total(&status, "drops_by_kind"), 0, "{status:#}");
    assert_eq!(text::u64_any(&status, "gaps"), Some(0), "{status:#}");
    assert!(
        total(&status, "throttled_by_kind") > 0 || total(&status, "events_by_kind") > 100_000,
        "they looped: {status:#}"
    );
    drop(loopers);
    crate::assert_right_now(&daemon);
    daemon.assert_no_drift();
}

#[test]
fn a_loop_of_prctl_hides_no_session_of_the_same_user() {
    assert_loop_of_prctl_hides_nothing(None);
}

#[test]
fn a_loop_of_prctl_hides_no_session_of_another_user() {
    assert_loop_of_prctl_hides_nothing(Some(NOBODY));
}

/// Asserts that each start and end of a session is in `watch` and in `history` while the primary of another session, a process
/// of this user on a terminal, changes its name without end.
#[track_caller]
fn assert_loop_of_prctl_hides_nothing(uid: Option<u32>) {
    const SESSIONS: usize = 40;
    let _alone = crate::alone();
    let fixture = Fixture::new();
    let config = format!(
        "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"pts/*\"\n",
        fixture.mkdir("homes").display()
    );
    let daemon = Daemon::start(&Options { config: Some(config), ..Default::default() });
    let watch = Watch::sessions(&daemon);
    let pty = Pty::open();
    let dir = Some(fixture.mkdir("homes/looper"));
    let mut looper = fixture.cast(&PuppetOptions { dir, pty: Some(&pty), uid, ..Default::default() });
    watch.wait_for("the start of the looper", |frame| frame.is("session_started", looper.pid));
    looper.request(Verb::NamesItselfForever, &[]);
    let loops = |status: &Value| {
        let of = |field: &str| text::u64_any(&status[field], "comm").expect("a counter");
        of("events_by_kind") + of("throttled_by_kind")
    };
    eventually("it loops", BUSY, || match loops(&daemon.status()) {
        10_000.. => Ok(()),
        names => Err(format!("{names} names")),
    });
    let mut pids = Vec::new();
    for session in 0..SESSIONS {
        let (pty, home) = (Pty::open(), fixture.mkdir(format!("homes/{session}")));
        let agent = fixture.cast(&PuppetOptions { dir: Some(home), pty: Some(&pty), ..Default::default() });
        pids.push(agent.pid);
        agent.ends(Verb::Exit, &[b"0"]);
    }
    let before = loops(&daemon.status());
    eventually("it loops still", BUSY, || match loops(&daemon.status()) - before {
        1_000.. => Ok(()),
        names => Err(format!("{names} names")),
    });
    // A name a millisecond makes many frames, which are looked through once.
    let is_life = |frame: &Frame| {
        let is_of = |kind| pids.iter().any(|&pid| frame.is(kind, pid));
        is_of("session_started") || is_of("session_ended")
    };
    eventually("all are in the stream", BUSY, || match watch.count(is_life) {
        frames if frames == 2 * SESSIONS => Ok(()),
        frames => Err(format!("{frames} of {}", 2 * SESSIONS)),
    });
    eventually("all are in the history", BUSY, || {
        let history = daemon.history();
        let of = |kind: &str, pid: u32| {
            history.iter().filter(|entry| entry["kind"] == kind && entry["pid"] == pid).count()
        };
        let lives = pids.iter().map(|&pid| [of("session_started", pid), of("session_ended", pid)]);
        let missing = lives.filter(|life| *life != [1, 1]).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} of {SESSIONS} are not whole")) }
    });
    assert_eq!(watch.count(|frame| frame.kind() == "lagged"), 0, "the watcher kept up");
    assert_eq!((daemon.drops(), daemon.dropped()), (0, 0));
    drop(looper);
    crate::assert_right_now(&daemon);
}

#[test]
fn a_busy_daemon_stops_within_two_seconds() {
    let _alone = crate::alone();
    let fixture = Fixture::new();
    let homes = fixture.mkdir("homes");
    let config = format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"any\"\n", homes.display());
    let mut daemon = Daemon::start(&Options { config: Some(config), ..Default::default() });
    let dirs = [fixture.mkdir("homes/one"), fixture.mkdir("homes/two")];
    let mut loopers: Vec<_> = (0..2).map(|_| fixture.puppet()).collect();
    for looper in &mut loopers {
        looper.does(Verb::LoopForever, &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes()]);
    }
    eventually("they loop", BUSY, || {
        let status = daemon.status();
        let records = total(&status, "events_by_kind") + total(&status, "throttled_by_kind");
        if records > 100_000 { Ok(()) } else { Err(format!("{records} records")) }
    });
    let (_parent, _children) = crate::population(&fixture);
    let mut clients: Vec<_> =
        (0..QUESTIONS).map(|_| UnixStream::connect(daemon.socket()).expect("connect")).collect();
    // It gets no CPU, so what happens meanwhile is what it has to do when it is told to stop: the records of the storm, and
    // an answer to each of the questions that nobody reads.
    daemon.starve(true);
    for client in &mut clients {
        let questions = "{\"request\":\"processes\"}\n".repeat(20);
        client.write_all(questions.as_bytes()).expect("ask");
    }
    crate::Storm::begin(&fixture, UNREAD).end();
    let storm = crate::Storm::begin(&fixture, crate::PROCESSES);
    daemon.starve(false);
    let asked = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    let took = asked.elapsed();
    assert!(storm.goes_on(), "the storm outlasts the daemon");
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop((loopers, storm));
}

#[test]
fn what_a_user_does_in_loops_is_sent_at_a_bounded_rate_and_answered_exactly() {
    let _alone = crate::alone();
    let fixture = Fixture::new();
    let daemon = Daemon::start(&Options::default());
    let dirs = [fixture.mkdir("a"), fixture.mkdir("b")];
    let looper = || fixture.cast(&PuppetOptions { uid: Some(NOBODY), ..Default::default() });
    let mut loopers: Vec<_> = (0..2).map(|_| looper()).collect();
    let before = daemon.status();
    let began = Instant::now();
    for looper in &mut loopers {
        looper.does(Verb::LoopForever, &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes()]);
    }
    let looped = |kind: &str, status: &Value| {
        let of = |field: &str| text::u64_any(&status[field], kind).expect("a counter");
        (of("events_by_kind"), of("throttled_by_kind"))
    };
    let status = eventually("they exceed the rate", BUSY, || {
        let status = daemon.status();
        let [cwd, comm] = ["cwd", "comm"].map(|kind| looped(kind, &status).1);
        if cwd > 10_000 && comm > 10_000 {
            Ok(status)
        } else {
            Err(format!("{cwd} and {comm} were left out"))
        }
    });
    let sent: u64 =
        ["cwd", "comm"].iter().map(|kind| looped(kind, &status).0 - looped(kind, &before).0).sum();
    // 4,096 at once and one each half millisecond, for this user and for what else runs on the machine.
    let may_be_sent = 2 * (4_096 + u64::try_from(began.elapsed().as_micros()).expect("short") / 500);
    assert!(sent <= may_be_sent, "{sent} records of at most {may_be_sent}: {status:#}");
    // Another user's directory is reported, although those of the loops are not.
    let mut other = fixture.puppet();
    let watch = Watch::all(&daemon);
    other.does(Verb::Chdir, &[dirs[1].as_os_str().as_bytes()]);
    let moved = watch.wait_within(BUSY, "the move", |frame| {
        frame.pid() == Some(other.pid) && frame.field("cwd").and_then(Value::as_str) == dirs[1].to_str()
    });
    assert_eq!(moved.kind(), "process_moved");
    drop(loopers);
    crate::assert_right_now(&daemon);
    daemon.assert_no_drift();
}

/// CPU time of a process, ms.
fn cpu_ms(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a live process");
    let of_task = |task: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(of_task).sum::<u64>() / 1_000_000
}

#[test]
fn directories_that_a_user_removes_cost_a_tenth_of_a_processor_however_many_processes_there_are() {
    const PROCESSES: &[u8] = b"10000";
    const MS: u64 = 5_000;
    let _alone = crate::alone();
    let fixture = Fixture::new();
    let daemon = Daemon::start(&Options::default());
    let mut parent = fixture.puppet();
    parent.patience(crate::LONG);
    let children = parent.does(Verb::BearsMany, &[PROCESSES]);
    let own = fixture.mkdir("own");
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).expect("give the directory away");
    let mut remover = fixture.cast(&PuppetOptions { uid: Some(NOBODY), ..Default::default() });
    remover.patience(crate::LONG);
    let passes = |daemon: &Daemon| {
        daemon.status().pointer("/passes/total").and_then(Value::as_u64).expect("a counter")
    };
    eventually("it has read all of them", BUSY, || match daemon.ps().len() {
        10_000.. => Ok(()),
        processes => Err(processes.to_string()),
    });
    let (before_passes, before_ms) = (passes(&daemon), cpu_ms(daemon.pid()));
    let dir = own.join("removed");
    let ms = MS.to_string();
    remover.does(Verb::RemovesFor, &[dir.as_os_str().as_bytes(), b"50000", ms.as_bytes()]);
    let (passes, took_ms) = (passes(&daemon) - before_passes, cpu_ms(daemon.pid()) - before_ms);
    println!("{passes} passes, {took_ms} ms of {MS}");
    assert!(passes > 0, "the map follows");
    // An eleventh for the passes, and what else happens on this machine.
    assert!(took_ms < MS / 5, "{took_ms} ms of {MS} for {passes} passes");
    crate::assert_right_now(&daemon);
    // The map must be right while they die, and the next test is to begin without them.
    drop(parent);
    crate::assert_right_now(&daemon);
    for pid in children {
        gone(u32::try_from(pid).expect("a pid"), crate::LONG);
    }
    crate::assert_right_now(&daemon);
}

#[test]
fn moves_among_control_groups_that_a_user_was_given_are_sent_at_a_bounded_rate_and_answered_exactly() {
    const MS: &[u8] = b"4000";
    let _alone = crate::alone();
    let (cgroup, fixture) = (Cgroup::new("given"), Fixture::new());
    let daemon = Daemon::start(&Options::default());
    let groups = ["one", "other"].map(|name| cgroup.path.join(name));
    for dir in groups.iter().chain([&cgroup.path]) {
        std::fs::create_dir_all(dir).expect("make a control group");
        for path in [dir.clone(), dir.join("cgroup.procs")] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("give it away");
        }
    }
    let mut mover = fixture.cast(&PuppetOptions { uid: Some(NOBODY), ..Default::default() });
    mover.patience(crate::LONG);
    let join = |pid: u32| {
        std::fs::write(groups[0].join("cgroup.procs"), pid.to_string()).expect("put it into the group");
    };
    join(mover.pid);
    let before = [mover.pid, daemon.pid()].map(cpu_ms);
    let [one, other] = groups.each_ref().map(|group| group.as_os_str().as_bytes());
    let moves = mover.does(Verb::ChangesCgroupFor, &[one, other, MS]);
    let [theirs, ours] =
        [(mover.pid, before[0]), (daemon.pid(), before[1])].map(|(pid, ms)| cpu_ms(pid) - ms);
    let status = daemon.status();
    let of =
        |field: &str| text::u64_any(status.get(field).expect("it is there"), "cgroup").expect("a counter");
    let (sent, left_out) = (of("events_by_kind"), of("throttled_by_kind"));
    println!(
        "{moves:?} times both ways: {theirs} ms, the daemon {ours} ms; {sent} sent, {left_out} left out"
    );
    let all = 2 * moves.first().copied().unwrap_or_default();
    assert!(all > 20, "{all} moves");
    assert!(sent + left_out >= all, "{status:#}");
    // 4,096 at once and one each half millisecond, for this user and for what else runs on the machine.
    assert!(sent < 2 * (4_096 + 8_000), "{sent}");
    assert!(ours <= theirs / 2 + 200, "{ours} ms for {theirs}");
    for group in &groups {
        std::fs::write(group.join("cgroup.procs"), mover.pid.to_string()).expect("move it");
        let row = observer_harness::truth::assert_row(&daemon, mover.pid);
        let shown = row.get("cgroup").and_then(Value::as_str);
        let name = group.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(shown.is_some_and(|shown| shown.ends_with(name)), "{row:#}");
    }
    assert_eq!(daemon.drops(), 0);
    daemon.assert_no_drift();
    drop(mover);
    for group in &groups {
        eventually("the group is empty", BUSY, || std::fs::remove_dir(group).map_err(|it| it.to_string()));
    }
}
