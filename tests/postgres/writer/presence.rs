//! Tests which hosts are present, which daemon writes, and how soon the end of presence is shown.

use std::time::{Duration, Instant};

use observer::api::words::MirrorState;
use observer_harness::poll::eventually;
use observer_harness::postgres::SqlSession;
use uuid::Uuid;

use super::host::Host;
use super::{SERVER, SOON, applied, has_history, is_mirrored, is_present};

/// The limit for the end of presence to be shown: three missed heartbeats, and time for the query.
const GONE: Duration = Duration::from_secs(18);

fn state(database: &str) -> String {
    SERVER.psql(database, "SELECT state, recorded_state, certain FROM observer.sessions")
}

#[track_caller]
fn becomes(database: &str, wanted: &str, limit: Duration) {
    eventually(wanted, limit, || match state(database) {
        found if found == wanted => Ok(()),
        found => Err(found),
    });
}

/// Takes the presence lock of the only host as soon as its daemon has released it.
#[track_caller]
fn takes_the_lock(session: &mut SqlSession, database: &str) {
    let number = SERVER.psql(database, "SELECT host_no FROM observer.hosts");
    let take = format!("SELECT pg_try_advisory_lock(1868723062, {number})");
    eventually("the lock", SOON, || match session.ask(&take).as_str() {
        "t" => Ok(()),
        held => Err(held.to_owned()),
    });
}

#[test]
fn the_sessions_of_a_daemon_that_ends_are_unknown_at_once() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(1, 1501);
    host.delivered(SOON);
    assert_eq!(state(&database), "live|live|t");
    let (shared, host_id) = host.ends();
    becomes(&database, "unknown|live|f", Duration::from_secs(2));
    shared.churn(1, 1500);
    assert_eq!(state(&database), "unknown|live|f");
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    assert_eq!(state(&database), "live|live|t");
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn the_sessions_of_a_hung_loop_become_unknown_in_time_and_live_when_it_continues() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    host.hang(true);
    becomes(&database, "unknown|live|f", GONE);
    // A hung daemon does not become present again either.
    let lately = Instant::now();
    while lately.elapsed() < Duration::from_secs(3) {
        assert_eq!(state(&database), "unknown|live|f");
        std::thread::sleep(Duration::from_millis(100));
    }
    host.hang(false);
    becomes(&database, "live|live|t", SOON);
}

#[test]
fn a_backlog_does_not_keep_a_hung_loop_present() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    host.hang(true);
    let until = Instant::now() + GONE;
    eventually("unknown", GONE, || {
        assert!(Instant::now() < until + Duration::from_secs(5));
        let lives = host.shared.world().map["/srv/a"]["state"] == "live";
        if lives {
            host.kill("/srv/a")
        } else {
            host.start("/srv/a")
        }
        let state = SERVER.psql(&database, "SELECT state FROM observer.sessions");
        if state == "unknown" { Ok(()) } else { Err(state) }
    });
    host.hang(false);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_continues() {
    let database = applied(&SERVER);
    let url = SERVER.url(&database);
    let first = Host::new(&url);
    first.start("/srv/a");
    first.delivered(SOON);
    let clone = super::host::world();
    clone.world().start("/srv/other");
    let second = Host::of(clone, first.host_id, &url);
    let result = second.comes_to(MirrorState::Stopped, "cloned machine-id or second daemon", SOON);
    assert_eq!((result.generation, result.connections), (None, 0));
    for _ in 0..3 {
        second.churn(5, 1000);
        first.churn(5, 1000);
        first.delivered(SOON);
    }
    is_mirrored(&SERVER, &database, &first);
    // When the first daemon is gone, the second one may write.
    let first_id = first.host_id;
    drop(first);
    second.delivered(Duration::from_secs(60));
    assert_eq!(second.host_id, first_id);
    has_history(&SERVER, &database, &second);
    let streams = "SELECT count(*), min(n), max(n) FROM (SELECT count(*) AS n FROM observer.events GROUP BY stream_id) s";
    assert_eq!(SERVER.psql(&database, streams), "2|3001|3001");
    assert_eq!(
        SERVER.psql(&database, "SELECT state FROM observer.sessions WHERE home = '/srv/other'"),
        "live"
    );
}

#[test]
fn the_last_of_two_daemons_with_one_state_directory_stays_and_the_first_stops() {
    let database = applied(&SERVER);
    let url = SERVER.url(&database);
    let first = Host::new(&url);
    first.start("/srv/a");
    first.delivered(SOON);
    let clone = super::host::world();
    clone.world().instance_id = first.shared.world().instance_id;
    let second = Host::of(clone, first.host_id, &url);
    second.start("/srv/b");
    second.delivered(SOON);
    // The first daemon detects that its lock was taken over, and does not take it back.
    first.start("/srv/c");
    first.comes_to(MirrorState::Stopped, "cloned machine-id or second daemon", SOON);
    let generation = second.status().generation;
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        assert_eq!(second.status().generation, generation);
        first.churn(5, 30);
        second.churn(5, 30);
        std::thread::sleep(Duration::from_millis(200));
    }
    second.delivered(SOON);
    has_history(&SERVER, &database, &second);
    let firsts = format!(
        "SELECT count(*) FROM observer.events WHERE stream_id = '{}'",
        first.shared.world().stream_id
    );
    assert_eq!(SERVER.psql(&database, &firsts), "1", "nothing of what the first saw later");
}

#[test]
fn a_stale_connection_of_the_same_daemon_is_terminated_and_its_lock_is_taken_over() {
    let database = applied(&SERVER);
    let url = SERVER.url(&database);
    let host = Host::new(&url);
    host.churn(11, 1000);
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    // This is the connection that a machine leaves behind when it loses its power, until the server detects
    // the loss.
    let mut ghost = SERVER.session(&database, "postgres");
    takes_the_lock(&mut ghost, &database);
    ghost.ask("UPDATE observer.host SET backend_pid = pg_backend_pid()");
    let pid = ghost.ask("SELECT pg_backend_pid()");
    shared.churn(11, 1000);
    let host = Host::of(shared, host_id, &url);
    host.churn(11, 1000);
    host.delivered(Duration::from_secs(8));
    assert!(is_present(&SERVER, &database, &host));
    is_mirrored(&SERVER, &database, &host);
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    assert_eq!(SERVER.psql(&database, &left), "0");
}

#[test]
fn a_lock_forged_by_another_role_makes_no_host_present_and_is_reported() {
    let database = applied(&SERVER);
    let url = SERVER.url(&database);
    let host = Host::new(&url);
    host.churn(1, 1001);
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    let forger = format!("mallory_{database}");
    SERVER.psql(&database, &format!("CREATE ROLE {forger} LOGIN"));
    let mut mallory = SERVER.session(&database, &forger);
    takes_the_lock(&mut mallory, &database);
    assert_eq!(state(&database), "unknown|live|f");
    let host = Host::of(shared, host_id, &url);
    let result = host.comes_to(MirrorState::Stopped, &forger, SOON);
    assert!(result.last_error.is_some_and(|error| error.contains("end that session")));
    host.churn(1, 2000);
    assert_eq!(state(&database), "unknown|live|f");
    drop(mallory);
    host.delivered(Duration::from_secs(60));
    assert_eq!(state(&database), "live|live|t");
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn a_host_that_is_forgotten_while_it_runs_is_mirrored_again_in_full() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(5, 200);
    host.delivered(SOON);
    SERVER.psql(&database, "DELETE FROM observer.event; DELETE FROM observer.host");
    host.churn(5, 200);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn each_login_writes_its_own_host_and_no_other() {
    let database = applied(&SERVER);
    let (mine, other) = (Uuid::new_v4(), Uuid::new_v4());
    let login = format!("writer_{database}");
    SERVER.psql(
        &database,
        &format!("CREATE ROLE {login} LOGIN IN ROLE observer_writer; INSERT INTO observer.writers VALUES ('{login}', '{mine}')"),
    );
    let url = SERVER.url_as(&database, &login);
    let host = Host::of(super::host::world(), mine, &url);
    host.churn(5, 300);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let stranger = Host::of(super::host::world(), other, &url);
    let result = stranger.comes_to(MirrorState::Stopped, "42501", SOON);
    let error = result.last_error.unwrap();
    assert!(error.contains(&other.to_string()) && error.contains("docs/schema.md"), "{error}");
    assert_eq!(SERVER.psql(&database, "SELECT count(*) FROM observer.hosts"), "1");
    // The login loses its rights while the daemon runs.
    SERVER.psql(&database, &format!("REVOKE observer_writer FROM {login}"));
    host.start("/srv/later");
    host.comes_to(MirrorState::Stopped, "42501", SOON);
    host.churn(5, 3000);
    SERVER.psql(&database, &format!("GRANT observer_writer TO {login}"));
    host.delivered(Duration::from_secs(60));
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn an_idle_host_stays_present_without_a_transaction() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    let look = "SELECT query_start, state_change > query_start + interval '16 seconds' FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'observer %'";
    let looked = || SERVER.psql(&database, look);
    let mut since = looked();
    // The notification may be on its way. Then nothing happens for longer than a silent connection may last.
    eventually("signs of life alone", SOON, || match looked() {
        found if found == since.replace("|f", "|t") => Ok(()),
        found => {
            since.clone_from(&found);
            Err(found)
        }
    });
    assert!(is_present(&SERVER, &database, &host));
}
