//! The canary: a daemon knows, and says, whether events of the kernel come through; and nobody sees how it knows.

use std::time::Duration;

use observer_harness::watch::SOON;
use observer_harness::{Daemon, Options, Watch, eventually};
use serde_json::Value;

use crate::scene::alone;

/// How often a canary is started here.
const INTERVAL: &str = "300ms";

fn options() -> Options {
    Options { flags: vec!["--canary-interval".into(), INTERVAL.into()], ..Options::default() }
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

#[test]
#[cfg(target_arch = "x86_64")]
fn a_daemon_whose_programs_are_detached_is_blind_and_says_so() {
    let _alone = alone();
    let daemon = Daemon::start(&options());
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

#[test]
#[cfg(target_arch = "x86_64")]
fn a_service_manager_hears_of_a_daemon_only_while_canaries_come_round() {
    let _alone = alone();
    let manager = observer_harness::manager::ServiceManager::new();
    let watchdog = Duration::from_secs(9);
    let environment = manager.environment(Some(watchdog));
    let daemon = Daemon::start(&Options { environment, ..Options::default() });
    for line in ["READY=1", "STATUS=", "WATCHDOG=1", "WATCHDOG=1"] {
        manager.wait_for(line, SOON);
    }
    let canary = canary(&daemon);
    assert_eq!(
        (field(&canary, "/interval_ms"), field(&canary, "/watchdog")),
        (&3000.into(), &true.into()),
        "{canary}"
    );
    observer_harness::inject::detach_programs(daemon.pid());
    manager.wait_for("STATUS=blind since ", 2 * SOON);
    manager.listen(Duration::from_millis(1));
    // Where canaries came round, a sign of life would come three times in this time.
    let heard = manager.listen(watchdog);
    assert!(!heard.iter().any(|message| message.contains("WATCHDOG=1")), "{heard:?}");
}
