//! Users who try to overload the daemon without starting a process.

use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::observe::total;
use observer_harness::{Daemon, Fixture, Options, Pty, Watch, eventually, text};
use serde_json::Value;

/// The user who loops.
const NOBODY: u32 = 65_534;
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
    let asked = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    drop(loopers);
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
