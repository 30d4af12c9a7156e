//! The labels of sessions, in the views.

use std::time::Duration;

use observer_harness::fixture::PuppetOptions;
use observer_harness::scene::Scene;
use observer_harness::{Options, Verb};

use crate::schema::{applied, present, server};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";

#[test]
fn labels_of_a_session_are_a_column() {
    let scene = Scene::with("[labels]\nagent = \"AGENT_ID\"\n", Options::default());
    let mut agent = scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        dir: Some(scene.home("labelled")),
        env: vec![("AGENT_ID".into(), "one".into())],
        ..PuppetOptions::default()
    });
    let of = "SELECT labels ->> 'agent' FROM observer.live WHERE name = 'labelled'";
    scene.gives(of, "one", Duration::from_secs(20));
    agent.bears(&scene.fixture, Verb::Spawn, &[b"AGENT_ID=two"]);
    scene.gives(of, "two", Duration::from_secs(20));
    scene.gives(
        "SELECT changed -> 'labels' FROM observer.events WHERE changed ? 'labels'",
        r#"[{"agent": "one"}, {"agent": "two"}]"#,
        Duration::from_secs(20),
    );
}

#[test]
fn what_is_no_object_is_no_labels() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    let rows = [
        (r#"{"labels": {"agent": "1"}}"#, r#"{"agent": "1"}"#),
        (r#"{"labels": {}}"#, "{}"),
        (r#"{"labels": null}"#, "-"),
        (r#"{"labels": ["agent"]}"#, "-"),
        (r#"{"labels": "agent"}"#, "-"),
        ("{}", "-"),
        ("[]", "-"),
        ("7", "-"),
    ];
    for (home, (detail, _)) in rows.iter().enumerate() {
        daemon.ask(&format!(
            "INSERT INTO observer.session (host_no, home_id, home, state, certain, detail)
             VALUES ({number}, sha256('{home}'), '{home}', 'live', true, '{detail}')"
        ));
    }
    let shown = rows.map(|(_, shown)| shown).join("\n");
    for view in ["sessions", "live"] {
        let found = server().psql(
            &database,
            &format!("SELECT coalesce(labels::text, '-') FROM observer.{view} ORDER BY home::integer"),
        );
        assert_eq!(found, shown, "{view}");
    }
}
