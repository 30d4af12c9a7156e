//! `observer forget` removes a host and everything of it from the database.

use std::process::Command;

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;

use crate::schema::{applied, present, server};

const GONE: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const CLONE: &str = "7d444840-9dc0-5ad3-9e1b-25f0a5b8d2a1";
const OTHER: &str = "00000000-0000-4000-8000-000000000001";

fn forget(url: &str, host: &str) -> CommandResult {
    CommandResult::of(Command::new(product()).args(["forget", host, "--database-url", url]))
}

#[test]
fn forget_removes_everything_of_one_host_and_nothing_of_others() {
    let database = applied();
    let url = server().url(&database);
    for (id, name) in [(GONE, "gone"), (OTHER, "other")] {
        server().psql(
            &database,
            &format!(
                "WITH h AS (INSERT INTO observer.host (host_id, host) VALUES ('{id}', '{name}') RETURNING host_no),
                     s AS (INSERT INTO observer.stream SELECT host_no, '{id}', 2 FROM h),
                     r AS (INSERT INTO observer.session (host_no, home_id, home, state, certain, detail)
                         SELECT host_no, 'a', '/a', 'live', true, '{{}}' FROM h)
                 INSERT INTO observer.event (host_no, stream_id, seq, at, kind, detail)
                 SELECT host_no, '{id}', seq, now(), 'gap', '{{}}' FROM h, generate_series(1, 2) AS seq;
                 INSERT INTO observer.writers VALUES ('login_{name}', '{id}')"
            ),
        );
    }
    let result = forget(&url, "gone");
    assert_eq!(
        (result.code, result.text()),
        (Some(0), &*format!("forgot gone (host_id {GONE}): 1 sessions, 2 events\n")),
        "{result:?}"
    );
    let left = ["host", "stream", "session", "event", "writers"]
        .map(|table| server().psql(&database, &format!("SELECT count(*) FROM observer.{table}")));
    assert_eq!(left, ["1", "1", "1", "2", "1"]);
    let again = forget(&url, "gone");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("no host gone"), "{again:?}");
}

#[test]
fn a_host_that_is_present_is_not_forgotten() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    present(&mut daemon, GONE);
    let result = forget(&server().url(&database), GONE);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.stderr.contains("is present") && result.stderr.contains("stop its daemon"), "{result:?}");
    // The daemon is connected but not yet present.
    daemon.ask("UPDATE observer.host SET backend_pid = NULL");
    let result = forget(&server().url(&database), GONE);
    assert_eq!(result.code, Some(1), "its daemon has the lock");
    assert!(
        result.stderr.contains("the role postgres holds the lock")
            && result.stderr.contains("pg_terminate_backend("),
        "{result:?}"
    );
    assert_eq!(server().psql(&database, "SELECT count(*) FROM observer.host"), "1");
}

#[test]
fn the_host_id_selects_one_of_two_hosts_with_the_same_name() {
    let database = applied();
    let url = server().url(&database);
    server().psql(
        &database,
        &format!("INSERT INTO observer.host (host_id, host) VALUES ('{GONE}', 'web'), ('{CLONE}', 'web')"),
    );
    let result = forget(&url, "web");
    assert_eq!(result.code, Some(3), "{result:?}");
    assert!(result.stderr.contains(GONE) && result.stderr.contains(CLONE), "{result:?}");
    assert_eq!(forget(&url, CLONE).code, Some(0));
    assert_eq!(server().psql(&database, "SELECT host_id FROM observer.host"), GONE);
}

#[test]
fn a_login_without_the_right_is_refused() {
    let database = applied();
    server().psql(
        &database,
        &format!("CREATE ROLE forgetful LOGIN IN ROLE observer_reader; INSERT INTO observer.host (host_id, host) VALUES ('{GONE}', 'web')"),
    );
    let result = forget(&server().url_as(&database, "forgetful"), "web");
    assert!(result.code != Some(0) && result.stderr.contains("permission denied"), "{result:?}");
    assert_eq!(server().psql(&database, "SELECT count(*) FROM observer.host"), "1");
}
