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
