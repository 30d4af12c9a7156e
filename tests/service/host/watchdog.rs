//! Tests that systemd starts a daemon again that does not see.

use serde_json::Value;

use crate::system::{
    DropIn, UNIT, as_user, eventually, installed, journal, main_pid, property, start, systemctl,
};

/// A watchdog that does not wait as long as the unit's; an emulated machine takes seconds for a process.
const SHORT: &str = "WatchdogSec=20s\n";

/// A field of the canary in `status`; null while no daemon answers.
fn canary(field: &str) -> Value {
    let result = as_user("member", &["status", "--json"]);
    let status: Value = serde_json::from_slice(&result.stdout).unwrap_or_default();
    status.pointer(&format!("/canary/{field}")).cloned().unwrap_or_default()
}

/// Waits until systemd has started another daemon because of its watchdog, which sees.
#[track_caller]
fn wait_for_another(first: u32) {
    eventually("another daemon is ready", || {
        property("ActiveState") == "active" && ![0, first].contains(&main_pid())
    });
    assert!(journal().contains("Watchdog timeout"), "{}", journal());
    eventually("its canary comes round", || canary("state") == "ok");
    assert_eq!(property("NRestarts"), "1");
}

#[test]
fn a_daemon_that_is_frozen_is_started_again() {
    let _alone = installed();
    let _watchdog = DropIn::new("watchdog", SHORT);
    start();
    let first = main_pid();
    assert_eq!(systemctl(&["kill", "--signal=STOP", "--kill-who=main", UNIT]).code, Some(0));
    wait_for_another(first);
    let audit = as_user("member", &["audit", "--json"]);
    assert_eq!(audit.code, Some(0), "no drift: {audit:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_daemon_whose_programs_are_detached_is_started_again() {
    let _alone = installed();
    let _watchdog = DropIn::new("watchdog", SHORT);
    start();
    let first = main_pid();
    observer_harness::inject::detach_programs(first);
    wait_for_another(first);
}

#[test]
fn the_canary_feeds_the_units_watchdog() {
    let _alone = installed();
    start();
    eventually("a canary comes round inside the sandbox", || canary("state") == "ok");
    assert_eq!((canary("watchdog"), canary("interval_ms")), (true.into(), 30_000.into()));
    println!("it came round in {} µs", canary("round_trip_us"));
    assert_eq!(property("NRestarts"), "0");
}
