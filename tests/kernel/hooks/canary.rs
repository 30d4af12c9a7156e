//! The canary: a daemon knows, and says, whether events of the kernel come through; and nobody sees how it knows.

#[cfg(target_arch = "x86_64")]
use std::time::Duration;

#[cfg(target_arch = "x86_64")]
use observer_harness::manager::ServiceManager;
#[cfg(target_arch = "x86_64")]
use observer_harness::share;
use observer_harness::watch::SOON;
use observer_harness::{Daemon, Options, Watch, eventually};
use serde_json::Value;

use crate::scene::alone;

/// How often a canary is started here.
const INTERVAL: &str = "300ms";

fn options() -> Options {
    Options { flags: vec!["--canary-interval".into(), INTERVAL.into()], ..Options::default() }
}

/// How long the service manager waits for a sign of life. A canary is waited for as long as a third of it, and takes some 30 ms; an
/// emulated machine takes seconds for a process.
#[cfg(target_arch = "x86_64")]
fn watchdog() -> Duration {
    Duration::from_secs(if share::is_emulated() { 9 } else { 3 })
}

/// How long a canary is waited for under [`watchdog`].
#[cfg(target_arch = "x86_64")]
fn patience() -> Duration {
    watchdog() / 3
}

fn canary(daemon: &Daemon) -> Value {
    // While the daemon is blind, the exit code is 4.
    field(&daemon.observer(&["status", "--json"]).json(), "/canary").clone()
}

#[track_caller]
fn field<'a>(of: &'a Value, pointer: &str) -> &'a Value {
    of.pointer(pointer).unwrap_or_else(|| panic!("{pointer}: {of}"))
}

fn count(canary: &Value, field: &str) -> u64 {
    canary.get(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("{field}: {canary}"))
}

/// Waits until this many canaries came round.
#[track_caller]
fn wait_for_rounds(daemon: &Daemon, rounds: u64) -> Value {
    eventually("canaries come round", 3 * SOON, || {
        let canary = canary(daemon);
        if count(&canary, "came_round") >= rounds { Ok(canary) } else { Err(canary.to_string()) }
    })
}

#[test]
fn canaries_come_round_and_status_has_their_time() {
    let _alone = alone();
    let daemon = Daemon::start(&options());
    let canary = wait_for_rounds(&daemon, 3);
    assert_eq!(field(&canary, "/state"), "ok", "{canary}");
    assert_eq!((field(&canary, "/interval_ms"), field(&canary, "/watchdog")), (&300.into(), &false.into()));
    assert!(count(&canary, "round_trip_us") > 0 && field(&canary, "/last_at").is_string(), "{canary}");
    assert_eq!((field(&canary, "/blind_since"), field(&canary, "/last_error")), (&Value::Null, &Value::Null));
    let text = daemon.observer(&["status"]).text().to_owned();
    assert!(text.contains("canary   came round in "), "{text}");
    let metrics = daemon.observer(&["status", "--metrics"]).text().to_owned();
    let value = |name: &str| {
        let mut values =
            metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        values.next().unwrap_or(f64::NAN)
    };
    assert!(value("observer_canary_missing") == 0.0, "{metrics}");
    // An emulated machine takes a second.
    assert!(value("observer_canary_round_trip_seconds") > 0.0, "{metrics}");
}

#[test]
fn nobody_sees_a_canary() {
    let _alone = alone();
    let daemon = Daemon::start(&options());
    let begin = count(&wait_for_rounds(&daemon, 1), "came_round");
    let orphans = || count(field(&daemon.status(), "/anomalies"), "orphans");
    let orphans_before = orphans();
    let watch = Watch::all(&daemon);
    let of_daemon = |row: &Value| field(row, "/ppid").as_u64() == Some(daemon.pid().into());
    // Passes see canaries alive, and dead ones before they are reaped.
    while count(&canary(&daemon), "came_round") < begin + 8 {
        let rows = daemon.ps();
        assert!(!rows.iter().any(of_daemon), "{:?}", rows.iter().find(|row| of_daemon(row)));
        daemon.assert_no_drift();
    }
    for frame in watch.frames() {
        let is_canarys = frame.field("ppid").is_some_and(|ppid| ppid.as_u64() == Some(daemon.pid().into()));
        assert!(!is_canarys, "{frame:?}");
    }
    // Records of other processes without a birth come now and then, but not for each canary.
    let orphans = orphans() - orphans_before;
    assert!(orphans < 8, "{orphans} records of canaries reached the map");
}

/// A rule without conditions: it admits what no other rule would.
const ANY: &str = "[[session]]\nmin_age = \"0s\"\n";

/// Whether a field `ppid` somewhere in `value` has this pid.
fn has_parent(value: &Value, pid: u32) -> bool {
    match value {
        Value::Object(fields) => {
            fields.get("ppid").is_some_and(|ppid| ppid == pid)
                || fields.values().any(|it| has_parent(it, pid))
        }
        Value::Array(values) => values.iter().any(|it| has_parent(it, pid)),
        _ => false,
    }
}

#[test]
fn a_canary_is_in_no_count_and_no_history() {
    let _alone = alone();
    let daemon = Daemon::start(&Options { config: Some(ANY.into()), ..options() });
    // To another daemon, canaries are processes like any other.
    let flags = vec!["--canary-interval".into(), "1h".into()];
    let other = Daemon::start(&Options { flags, config: Some(ANY.into()), ..Options::default() });
    wait_for_rounds(&other, 1);
    let watch = Watch::all(&other);
    // The other daemon is asked before the one and after it, so it has seen at least as much, and the canaries besides.
    let before_other = other.status();
    let before = daemon.status();
    let rounds = count(field(&before, "/canary"), "came_round") + 8;
    wait_for_rounds(&daemon, rounds);
    let after = daemon.status();
    let after_other = other.status();
    let came_round =
        count(field(&after, "/canary"), "came_round") - count(field(&before, "/canary"), "came_round");
    for kind in ["fork", "exec", "exit"] {
        let kinds = [&before, &after, &before_other, &after_other];
        let [from, to, from_other, to_other] =
            kinds.map(|status| count(field(status, "/events_by_kind"), kind));
        let (own, others) = (to - from, to_other - from_other);
        assert!(others >= own + came_round, "{kind}: {own} of {others}, {came_round} canaries came round");
    }
    let pid = daemon.pid();
    let seen = watch.count(|frame| frame.kind() == "process_started" && has_parent(&frame.0, pid));
    assert!(seen as u64 >= came_round, "the other daemon saw {seen} of {came_round}");
    for shown in [daemon.history(), daemon.list(), daemon.ps()] {
        assert_eq!(shown.iter().find(|it| has_parent(it, pid)), None);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_daemon_whose_programs_are_detached_is_blind_and_says_so() {
    let _alone = alone();
    // A canary is not waited for as long as without a watchdog.
    let environment = vec![("WATCHDOG_USEC".into(), watchdog().as_micros().to_string().into())];
    let daemon = Daemon::start(&Options { environment, ..options() });
    wait_for_rounds(&daemon, 1);
    observer_harness::inject::detach_programs(daemon.pid());
    // One that was on its way while link after link was closed lacks only what came after that.
    let canary = eventually("no event of a canary comes", 3 * SOON, || {
        let canary = canary(&daemon);
        let error = field(&canary, "/last_error").as_str().unwrap_or_default();
        if error.contains("birth, change of directory, exec, death") {
            Ok(canary)
        } else {
            Err(canary.to_string())
        }
    });
    assert_eq!(field(&canary, "/state"), "missing");
    assert!(field(&canary, "/blind_since").is_string() && count(&canary, "missed") > 0, "{canary}");
    let error = field(&canary, "/last_error").to_string();
    assert!(error.contains("systemctl restart observer"), "{error}");
    let status = daemon.observer(&["status"]);
    assert_eq!(status.code, Some(4), "it cannot know: {status:?}");
    assert!(status.text().contains("canary   blind since "), "{}", status.text());
    for command in ["list", "ps", "audit"] {
        let result = daemon.observer(&[command]);
        assert_eq!(result.code, Some(4), "{command} cannot know: {result:?}");
    }
    let metrics = daemon.observer(&["status", "--metrics"]).text().to_owned();
    for line in ["observer_canary_missing 1.0", "observer_certain 0.0"] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    // What no event reports, passes read.
    let fixture = observer_harness::Fixture::new();
    let puppet = fixture.puppet();
    let result = daemon.observer(&["ps", "--json"]);
    let Value::Array(rows) = result.json() else { panic!("rows: {result:?}") };
    assert!(rows.iter().any(|row| field(row, "/pid") == puppet.pid), "a process that was born unseen");
    let log = std::fs::read_to_string(daemon.log()).expect("the log");
    assert_eq!(
        log.matches("systemctl restart observer").count(),
        1,
        "once, however often it is missing: {log}"
    );
}

/// A daemon of whose canaries a service manager has heard twice.
#[cfg(target_arch = "x86_64")]
fn watched() -> (ServiceManager, Daemon) {
    let manager = ServiceManager::new();
    let environment = manager.environment(Some(watchdog()));
    let daemon = Daemon::start(&Options { environment, ..Options::default() });
    for line in ["READY=1", "STATUS=", "WATCHDOG=1", "WATCHDOG=1"] {
        manager.wait_for(line, SOON);
    }
    (manager, daemon)
}

/// Asserts that the service manager, which got everything that was sent so far, hears of no canary until it would restart the
/// daemon. Where canaries came round, there would be three.
#[cfg(target_arch = "x86_64")]
fn assert_silent(manager: &ServiceManager) {
    manager.listen(Duration::from_millis(1));
    let heard = manager.listen(watchdog());
    assert!(!heard.iter().any(|message| message.contains("WATCHDOG=1")), "{heard:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_service_manager_hears_of_a_daemon_only_while_canaries_come_round() {
    let _alone = alone();
    let (manager, daemon) = watched();
    let canary = canary(&daemon);
    assert_eq!(
        (field(&canary, "/interval_ms"), field(&canary, "/watchdog")),
        (&Value::from(patience().as_secs() * 1000), &true.into()),
        "{canary}"
    );
    observer_harness::inject::detach_programs(daemon.pid());
    manager.wait_for("STATUS=blind since ", 2 * SOON);
    assert_silent(&manager);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_daemon_that_sees_no_deaths_is_blind_and_names_them() {
    let _alone = alone();
    let (manager, daemon) = watched();
    observer_harness::inject::detach_tracepoint(daemon.pid(), "sched_process_exit");
    manager.wait_for("STATUS=blind since ", 2 * SOON);
    let only_death = format!(" did not come within {} s: death. ", patience().as_secs());
    // One that was on its way, on a busy machine, may lack more.
    eventually("births, moves and execs come", SOON, || {
        let canary = canary(&daemon);
        assert_eq!(field(&canary, "/state"), "missing", "{canary}");
        let error = field(&canary, "/last_error").as_str().unwrap_or_default();
        if error.contains(&only_death) { Ok(()) } else { Err(error.to_owned()) }
    });
    assert_silent(&manager);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_service_manager_hears_nothing_of_a_daemon_whose_loop_hangs_while_its_threads_run() {
    let _alone = alone();
    let (manager, mut daemon) = watched();
    observer_harness::inject::hang(daemon.pid());
    assert_silent(&manager);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("its threads").count();
    assert!(tasks > 1, "the thread of the canary is there");
    // As systemd does, whose signal wakes a loop that sleeps: it goes on where it was.
    assert_eq!(daemon.stop(), Some(0));
}
