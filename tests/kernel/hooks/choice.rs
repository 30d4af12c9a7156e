//! Tests which hooks the daemon chooses and how it reports them.

use std::fs;

use observer_harness::{Daemon, Options};
use serde_json::Value;

use crate::scene::{alone, blind_spots, sources};

const FACTS: [&str; 6] = ["cwd", "uids", "sid", "pgid", "paths", "terminal"];

/// Returns the status of a daemon that uses only this kind of hook, or its output when it refuses to start.
pub fn forced(way: &'static str) -> Result<Value, String> {
    Daemon::try_start(&Options { hooks: Some(way), ..Default::default() }).map(|daemon| daemon.status())
}

fn all(status: &Value, texts: fn(&Value, &str) -> Vec<String>) -> Vec<String> {
    FACTS.iter().flat_map(|fact| texts(status, fact)).collect()
}

#[track_caller]
fn assert_way(status: &Value, way: &str, facts: &[&str]) {
    for fact in facts {
        let sources = sources(status, fact);
        assert!(!sources.is_empty(), "{fact} has a source: {status:#}");
        assert!(sources.iter().all(|source| source.starts_with(way)), "{fact} by {way} alone: {sources:?}");
    }
}

#[test]
fn functions_are_chosen_where_the_kernel_attaches_to_them() {
    let _alone = alone();
    let status = forced("auto").expect("it starts");
    match forced("fexit") {
        Ok(by_functions) => {
            assert_way(&status, "fexit/", &FACTS);
            assert_way(&by_functions, "fexit/", &FACTS);
            assert_eq!(all(&status, blind_spots), [""; 0], "nothing is unseen");
            for status in [&status, &by_functions] {
                assert_eq!(sources(status, "oom_scope"), ["fentry/oom_kill_process"], "{status:#}");
            }
        }
        Err(refusal) => {
            assert!(refusal.contains("--hooks fexit cannot be had: "), "{refusal}");
            assert!(refusal.contains("run with --hooks auto"), "{refusal}");
            // The daemon works without function hooks. But on each tested kernel, the list must name only
            // functions that no caller bypasses.
            assert!(!refusal.contains("went past it"), "{refusal}");
            for fact in FACTS.iter().chain(&["oom_scope"]) {
                assert!(
                    !blind_spots(&status, fact).is_empty(),
                    "{fact}: what is unseen is listed: {status:#}"
                );
            }
            if let Err(refusal) = forced("tracepoints") {
                assert!(
                    refusal.contains("it takes CAP_SYS_ADMIN"),
                    "it names the right that it lacks: {refusal}"
                );
                return assert_eq!(all(&status, sources), [""; 0], "neither way is to be had");
            }
            assert_way(&status, "tracepoint/syscalls/", FACTS.get(..5).expect("but for the terminal"));
            let hooks = status.get("hooks").and_then(Value::as_array).expect("hooks");
            let fallbacks =
                hooks.iter().filter(|hook| hook["source"].as_str().is_some_and(|s| s.starts_with("trace")));
            for hook in fallbacks {
                let why = hook.get("why").and_then(Value::as_str).unwrap_or_default();
                assert!(why.contains("cannot be attached to ("), "it says why: {hook:#}");
            }
        }
    }
}

#[test]
fn system_call_tracepoints_can_be_requested() {
    let _alone = alone();
    let status = match forced("tracepoints") {
        Ok(status) => status,
        Err(refusal) => {
            // The daemon may run as an unprivileged user.
            assert!(refusal.contains("--hooks tracepoints cannot be had: "), "{refusal}");
            return assert!(refusal.contains("CAP_SYS_ADMIN"), "it names the right that it lacks: {refusal}");
        }
    };
    assert_way(&status, "tracepoint/syscalls/", FACTS.get(..5).expect("but for the terminal"));
    assert_eq!(sources(&status, "terminal"), [""; 0], "no system call's exit tells it");
    for fact in FACTS.iter().chain(&["oom_scope"]) {
        assert!(!blind_spots(&status, fact).is_empty(), "{fact}: what is unseen is listed: {status:#}");
    }
    assert_eq!(sources(&status, "oom_scope"), [""; 0], "no system call's exit tells it");
}

#[test]
fn the_start_says_how_many_hooks_there_are_and_status_lists_them() {
    let _alone = alone();
    let daemon = Daemon::start(&Options::default());
    // It answers after it has reported its start.
    let status = daemon.status();
    let started = fs::read_to_string(daemon.log()).expect("the log");
    let list = |name: &str| status.get(name).and_then(Value::as_array).expect("status lists them");
    let (hooks, spots) = (list("hooks"), list("blind_spots"));
    let report: Vec<_> = started.lines().filter(|line| !line.starts_with("observer: ")).collect();
    assert!(report.len() <= 10, "it fits ten lines: {started}");
    assert!(started.contains(&format!("{} in use", hooks.len())), "{started}");
    assert_eq!(started.contains("not seen"), !spots.is_empty(), "{started}");
    let result = daemon.observer(&["status"]);
    // Lines are wrapped, so parts are compared without spaces.
    let text = result.text().replace([' ', '\n'], "");
    let parts = hooks.iter().chain(spots).flat_map(|entry| entry.as_object().expect("an object").values());
    for part in parts.map(|part| part.as_str().expect("a text")) {
        assert!(text.contains(&part.replace(' ', "")), "status lists {part}: {}", result.text());
    }
    assert!(result.text().lines().all(|line| line.chars().count() <= 100), "{}", result.text());
}
