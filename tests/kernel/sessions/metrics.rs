//! The daemon's counters in Prometheus' text format.

use std::collections::BTreeSet;
use std::time::Duration;

use observer_common::hooks::{FALLBACKS, HOOKS, Point};
use observer_harness::{Pty, eventually};

use crate::Scene;

const LIMIT: Duration = Duration::from_secs(10);

/// The value of a metric, whose name is given with its labels.
fn metric(scene: &Scene, name: &str) -> f64 {
    let result = scene.daemon.observer(&["status", "--metrics"]);
    let text = result.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not in\n{text}"))
}

#[test]
fn metrics_count_sessions_their_deaths_and_what_the_kernel_reports() {
    const LIVE: &str = r#"observer_sessions{state="live"}"#;
    const KILLED: &str = r#"observer_session_deaths_total{cause="signaled"}"#;
    const EXITS: &str = r#"observer_records_total{kind="exit"}"#;
    let scene = Scene::new("name = \"{basename}-counted\"");
    let before = [KILLED, EXITS].map(|name| metric(&scene, name));
    let (home, pty) = (scene.home("counted"), Pty::open());
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    assert!(metric(&scene, LIVE) >= 1.0);
    agent.killed(libc::SIGKILL);
    scene.wait_for_frame("session_ended", &home);
    let after = eventually("a death is counted", LIMIT, || {
        let after = [KILLED, EXITS].map(|name| metric(&scene, name));
        if after[0] > before[0] { Ok(after) } else { Err(format!("{before:?}, then {after:?}")) }
    });
    assert!(after[1] > before[1], "{before:?}, then {after:?}");
    assert_eq!(metric(&scene, "observer_certain"), 1.0);
}

/// The page that lists labels and their values.
const PAGE: &str = include_str!("../../../docs/metrics.md");

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The values that the page has for a label of a metric. A label of several metrics has a part `of METRIC: …` for each.
fn documented(metric: &str, label: &str) -> BTreeSet<String> {
    let row = PAGE.lines().find_map(|line| line.strip_prefix(&format!("| `{label}` | "))?.strip_suffix(" |"));
    let row = row.unwrap_or_else(|| panic!("the page has no row of {label}"));
    let own = row.split("; ").find_map(|part| part.strip_prefix(&format!("of `{metric}`: ")));
    assert!(own.is_some() || !row.starts_with("of `"), "{label} of {metric} is not in: {row}");
    quoted(own.unwrap_or(row)).map(str::to_owned).collect()
}

/// Names of kernel programs.
fn programs() -> BTreeSet<String> {
    let firsts = HOOKS.iter().map(|hook| match hook.point {
        Point::Iterator(name) => format!("iter_{name}"),
        point => point.name().to_owned(),
    });
    let seconds = HOOKS.iter().filter_map(|hook| hook.second);
    let exits = FALLBACKS.iter().filter_map(|fallback| Some(fallback.exits?.program));
    firsts.chain(seconds.chain(exits).map(str::to_owned)).collect()
}

/// Asserts that each label in a text of metrics is one of the page with a value that the page has.
#[track_caller]
pub fn assert_labels_are_bounded(text: &str) {
    let mut labels = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((metric, rest)) = line.split_once('{') else { continue };
        let (label, rest) = rest.split_once("=\"").unwrap_or_else(|| panic!("a label: {line}"));
        let (value, end) = rest.split_once('"').unwrap_or_else(|| panic!("a value: {line}"));
        assert!(end.starts_with("} "), "one label: {line}");
        let allowed = match label {
            "version" => BTreeSet::from([env!("CARGO_PKG_VERSION").to_owned()]),
            "program" => programs(),
            _ => documented(metric, label),
        };
        assert!(allowed.contains(value), "{line}: the page has {allowed:?}");
        labels.insert(label);
    }
    assert!(labels.len() >= 6, "{labels:?}");
}

#[test]
fn no_label_has_a_value_that_a_user_or_a_program_chooses() {
    let scene = Scene::new("name = \"{basename}-hyena\"");
    let (home, pty) = (scene.home("quagga"), Pty::open());
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let result = scene.daemon.observer(&["status", "--metrics"]);
    let text = result.text();
    assert_labels_are_bounded(text);
    // The daemon knows them, and no metric says them.
    for chosen in ["quagga", "hyena", "agent"] {
        assert!(!text.contains(chosen), "{chosen} is in\n{text}");
    }
}
