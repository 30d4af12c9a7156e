//! The daemon's counters in Prometheus' text format.

use std::time::Duration;

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
