//! `observer timeline --database-url` draws the sessions of all hosts.

use std::process::Command;

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;

use crate::schema::{applied, present, server};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const STREAM: &str = "a908e876-0186-4247-9093-5a95ea6af837";

#[test]
fn lives_of_all_hosts_are_drawn_also_those_without_an_event_in_the_window() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    daemon.ask("UPDATE observer.host SET first_seen_at = now() - interval '3 hours'");
    daemon.ask(&format!(
        "INSERT INTO observer.session (host_no, home_id, home, name, state, certain, starts, detail)
         VALUES ({number}, 'alpha'::bytea, '/h/alpha', 'alpha', 'live', true, '{{}}', jsonb_build_object(
             'name', 'alpha', 'home', '/h/alpha', 'pid', 7, 'state', 'live', 'instance', 1,
             'started_at', to_char(now() AT TIME ZONE 'UTC' - interval '2 days', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')))"
    ));
    let death =
        r#"{"end_reason": "died", "death": {"kind": "signaled", "signal": 9, "signal_name": "SIGKILL"}}"#;
    for (seq, minutes, kind, detail) in [(1, 90, "session_started", "{}"), (2, 30, "session_ended", death)] {
        daemon.ask(&format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, kind, home, name, pid, detail)
             VALUES ({number}, '{STREAM}', {seq}, now() - interval '{minutes} minutes', '{kind}', '/h/beta', 'beta', 7, '{detail}')"
        ));
    }
    let timeline = |args: &[&str]| {
        let url = server().url(&database);
        CommandResult::of(Command::new(product()).args(["timeline", "--database-url", &url]).args(args))
    };
    let drawn = timeline(&["--since", "2h"]);
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    let row = |name: &str| drawn.text().lines().find(|line| line.starts_with(name)).unwrap_or_default();
    // 72 cells are 2 hours: beta lived for half of them, and then for none.
    assert_eq!(row("h/alpha ").matches('━').count(), 72, "{drawn:?}");
    assert!((34..=37).contains(&row("h/beta ").matches('━').count()), "{drawn:?}");
    assert!(row("h/beta ").ends_with('×') || row("h/beta ").trim_end().ends_with('×'), "{drawn:?}");
    let picture = timeline(&["--host", "h", "--svg", "-", "beta"]);
    assert!(picture.text().starts_with("<svg ") && picture.text().contains("SIGKILL at "), "{picture:?}");
    assert!(!picture.text().contains("alpha"), "{picture:?}");
    let none = timeline(&["--host", "other"]);
    assert_eq!((none.code, none.text()), (Some(1), ""), "{none:?}");
    assert_eq!(timeline(&["--state-dir", "/x"]).code, Some(2));
}

#[test]
fn the_times_in_which_a_host_was_not_present_or_its_journal_had_a_gap_are_shaded() {
    const ABSENT: &str = "0b6cf3ba-4f0f-4f3c-8b4e-6a3c6a7a4d11";
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    // Another host of the same name, of which there is something from 90 minutes ago until 30 minutes ago.
    daemon.ask(&format!(
        "INSERT INTO observer.host (host_id, host, first_seen_at, last_commit_at, caught_up)
         VALUES ('{ABSENT}', 'h', now() - interval '80 minutes', now() - interval '30 minutes', true)"
    ));
    let absent = daemon.ask(&format!("SELECT host_no FROM observer.host WHERE host_id = '{ABSENT}'"));
    daemon.ask(&format!(
        "UPDATE observer.host SET first_seen_at = now() - interval '3 hours' WHERE host_no = {number}"
    ));
    let mut event = |host: &str, seq: u32, minutes: u32, kind: &str, name: &str, detail: &str| {
        let home =
            if name.is_empty() { "NULL, NULL, NULL".into() } else { format!("'/h/{name}', '{name}', 7") };
        daemon.ask(&format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, kind, home, name, pid, detail)
             VALUES ({host}, '{STREAM}', {seq}, now() - interval '{minutes} minutes', '{kind}', {home}, {detail})"
        ));
    };
    event(&absent, 1, 90, "session_started", "beta", "'{}'");
    event(&number, 1, 119, "session_started", "beta", "'{}'");
    let gap = "jsonb_build_object('from_seq', 2, 'to_seq', 2, 'count', 0, 'reason', 'not_running', 'to', NULL,
         'previous_stream_id', NULL, 'message', NULL,
         'from', to_char(now() AT TIME ZONE 'UTC' - interval '60 minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))";
    event(&number, 2, 40, "gap", "", gap);
    let url = server().url(&database);
    let counts = |id: &str| {
        let arguments = ["timeline", "--database-url", &url, "--since", "2h"];
        let drawn = CommandResult::of(Command::new(product()).args(arguments));
        assert_eq!(drawn.code, Some(0), "{drawn:?}");
        let row = drawn.text().lines().find(|line| line.contains(&id[..8])).unwrap_or_default();
        ['░', '━', '┅'].map(|shown| row.matches(shown).count())
    };
    // 120 minutes are some 60 cells.
    let [before, lived, unknown] = counts(ABSENT);
    assert!((12..=18).contains(&before) && (26..=34).contains(&lived), "{before} {lived}");
    assert!((12..=18).contains(&unknown), "{unknown}");
    let [outside, lived, unknown] = counts(HOST);
    assert!(outside == 0 && lived > 40 && (8..=13).contains(&unknown), "{outside} {lived} {unknown}");
    // It committed its state a moment ago, and has its history still to send.
    daemon.ask(&format!(
        "UPDATE observer.host SET caught_up = false, last_commit_at = now() WHERE host_id = '{ABSENT}'"
    ));
    let [before, lived, unknown] = counts(ABSENT);
    assert!((12..=18).contains(&before) && lived <= 2 && unknown >= 40, "{before} {lived} {unknown}");
}
