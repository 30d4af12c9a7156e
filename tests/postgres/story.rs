//! The service of the README that is killed at every restart, and the query that finds it.

use std::time::Duration;

use observer_harness::fixture::PuppetOptions;
use observer_harness::scene::Scene;
use observer_harness::{Puppet, Verb};

const README: &str = include_str!("../../README.md");
/// For a death to be in the database.
const LIMIT: Duration = Duration::from_secs(30);
/// Columns of the README's query whose values are the same each time.
const STABLE: [&str; 5] = ["name", "kills", "signal_name", "sender_comm", "polite_signal"];

/// The README's query, and the lines that it prints there.
fn query() -> (&'static str, Vec<&'static str>) {
    let (_, rest) = README.split_once("```sql\n").expect("README.md shows a query");
    let (query, rest) = rest.split_once("```").expect("an end of the query");
    let (_, rest) = rest.split_once("```\n").expect("README.md shows what the query prints");
    let (output, _) = rest.split_once("```").expect("an end of the output");
    (query, output.lines().collect())
}

/// The cells of a line of psql.
fn cells(line: &str) -> Vec<&str> {
    line.split('|').map(str::trim).collect()
}

/// The service, started by `restarter`, and what it was before its exec. It ignores SIGTERM.
fn start(scene: &Scene, restarter: &mut Puppet) -> (Puppet, Puppet) {
    let (mut child, _) = restarter.bears(&scene.fixture, Verb::Fork, &[]);
    child.chdir(&scene.home("queue"));
    let (program, token) = (scene.fixture.program("agent"), scene.fixture.token());
    child.request(Verb::Exec, &[program.as_os_str().as_encoded_bytes(), token.as_bytes()]);
    let mut service = scene.fixture.meet(&token);
    service.does(Verb::Ignore, &[b"15"]);
    (service, child)
}

#[test]
fn a_service_that_is_killed_at_every_restart_is_found_by_the_query_of_the_readme() {
    let (query, output) = query();
    let [header, _, row, ..] = output[..] else { panic!("README.md shows a header and a row: {output:#?}") };
    let shown: Vec<_> = cells(header).into_iter().zip(cells(row)).collect();
    let value = |column: &str| shown.iter().find(|(name, _)| *name == column).map(|(_, value)| *value);
    let restarts: usize = value("kills").and_then(|kills| kills.parse().ok()).expect("a number of kills");

    let scene = Scene::new(&[]);
    let program = Some(scene.fixture.program("restarter"));
    let mut restarter = scene.fixture.cast(&PuppetOptions { program, ..PuppetOptions::default() });
    let health = "SELECT pid FROM observer.live WHERE certain AND name = 'queue'";
    let (mut service, mut _before) = start(&scene, &mut restarter);
    for _ in 0..restarts {
        let pid = service.pid.to_string();
        scene.gives(health, &pid, LIMIT);
        restarter.does(Verb::Kills, &[pid.as_bytes(), b"15"]);
        restarter.does(Verb::Kills, &[pid.as_bytes(), b"9"]);
        restarter.does(Verb::Wait, &[pid.as_bytes()]);
        (service, _before) = start(&scene, &mut restarter);
    }
    scene.gives(health, &service.pid.to_string(), LIMIT);
    scene.gives("SELECT count(*) FROM observer.kills", &restarts.to_string(), LIMIT);

    let json = format!(
        "SELECT coalesce(json_agg(row_to_json(found)), '[]') FROM ({}) AS found",
        query.trim_end().trim_end_matches(';')
    );
    let found: serde_json::Value = serde_json::from_str(&scene.sql(&json)).expect("JSON");
    let [found] = &found.as_array().expect("rows")[..] else { panic!("one row: {found:#}") };
    let columns: Vec<_> = found.as_object().expect("a row").keys().map(String::as_str).collect();
    let mut named: Vec<_> = shown.iter().map(|(name, _)| *name).collect();
    named.sort_unstable();
    assert_eq!(columns, named, "the README shows the columns of its query");
    for column in STABLE {
        let found = match &found[column] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(Some(found.as_str()), value(column), "{column}");
    }
}
