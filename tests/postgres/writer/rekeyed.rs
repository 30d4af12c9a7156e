//! Keys of sessions: with the user in them, and without it as former versions write them.

use observer_harness::poll::eventually;
use serde_json::{Value, json};
use uuid::Uuid;

use super::host::{Host, world};
use super::{SERVER, SOON, applied, is_mirrored};
use crate::revisions::make_1_0;
use crate::schema::apply_to;

/// The sessions of a host: home, user, recorded state, pid and how many bytes the key has.
fn rows(database: &str, host: &Host) -> String {
    SERVER.psql(
        database,
        &format!(
            "SELECT home, s.uid, s.state, s.pid, octet_length(home_id) FROM observer.session AS s JOIN observer.host USING (host_no)
             WHERE host_id = '{}' ORDER BY 1, 2, 5",
            host.host_id
        ),
    )
}

/// Adds a session of another user in a home that has one to the map.
fn add_user(host: &Host, home: &str, uid: u32) -> Value {
    let mut world = host.shared.world();
    let mut session = world.map.get(home).expect("it lives").clone();
    session["uid"] = uid.into();
    session["pid"] = 7.into();
    session["start_boottime_ns"] = "7".into();
    world.map.insert(format!("{home} of {uid}"), session.clone());
    session
}

/// Makes the rows of the database those of a daemon of a former version that ran meanwhile: it ended the sessions whose keys
/// it did not know, and wrote its own.
fn downgrade(database: &str) {
    SERVER.psql(
        database,
        "CREATE TEMPORARY TABLE former AS SELECT * FROM observer.session WHERE octet_length(home_id) = 36;
         UPDATE observer.session SET state = 'ended', since = now(), detail = '{\"former\": true}' WHERE octet_length(home_id) = 36;
         INSERT INTO observer.session SELECT (jsonb_populate_record(f, jsonb_build_object(
             'home_id', substr(f.home_id, 1, 32), 'pid', f.pid + 1000, 'last_death_at', NULL, 'last_death_kind', NULL,
             'last_death_signal', NULL))).* FROM former AS f
             WHERE f.home <> '/srv/stays' AND f.uid = 0",
    );
}

#[test]
fn sessions_of_two_users_in_one_home_are_two_rows() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    assert_eq!(rows(&database, &host), "/srv/a|0|live|101|36");
    let other = add_user(&host, "/srv/a", 1000);
    host.shared.world().entry("session_started".into(), "/srv/a", &other);
    host.shared.tell();
    host.delivered(SOON);
    assert_eq!(rows(&database, &host), "/srv/a|0|live|101|36\n/srv/a|1000|live|7|36");
    host.kill("/srv/a");
    host.delivered(SOON);
    assert_eq!(rows(&database, &host), "/srv/a|0|ended|101|36\n/srv/a|1000|live|7|36");
    let (shared, host_id) = host.ends();
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    assert_eq!(rows(&database, &host), "/srv/a|0|ended|101|36\n/srv/a|1000|live|7|36");
}

#[test]
fn a_host_that_was_downgraded_and_upgraded_has_the_rows_of_its_last_daemon_and_other_hosts_keep_theirs() {
    let database = applied(&SERVER);
    let login = format!("rekeys_{database}");
    let host_id = Uuid::new_v4();
    SERVER.psql(
        &database,
        &format!("CREATE ROLE {login} LOGIN IN ROLE observer_writer; INSERT INTO observer.writers VALUES ('{login}', '{host_id}')"),
    );
    let url = SERVER.url_as(&database, &login);
    let host = Host::of(world(), host_id, &url);
    for home in ["/srv/a", "/srv/dies", "/srv/stays"] {
        host.start(home);
    }
    host.kill("/srv/dies");
    host.delivered(SOON);
    let first = "/srv/a|0|live|101|36\n/srv/dies|0|ended|102|36\n/srv/stays|0|live|103|36";
    assert_eq!(rows(&database, &host), first);
    let other = Host::new(&SERVER.url(&database));
    other.start("/srv/other");
    other.delivered(SOON);
    let (other_shared, other_id) = other.ends();
    SERVER.psql(
        &database,
        "UPDATE observer.session SET home_id = substr(home_id, 1, 32) WHERE home = '/srv/other';
         INSERT INTO observer.session (host_no, home_id, home, state, certain, detail)
             SELECT host_no, sha256('/srv/nobody'), '/srv/nobody', 'ended', true, '{}' FROM observer.session WHERE home = '/srv/a'",
    );

    let (shared, host_id) = host.ends();
    SERVER.psql(&database, "UPDATE observer.session SET state = 'ended' WHERE home = '/srv/dies'");
    downgrade(&database);
    // The daemon of the former version saw this one end, so the next daemon does not have it in its map.
    shared.world().map.remove("/srv/dies");
    let host = Host::of(shared, host_id, &url);
    host.delivered(SOON);
    let after =
        "/srv/a|0|live|101|36\n/srv/dies|0|ended|1102|36\n/srv/nobody||ended||32\n/srv/stays|0|live|103|36";
    assert_eq!(rows(&database, &host), after, "one row for each");
    let death = "SELECT last_death_signal FROM observer.session WHERE home = '/srv/dies'";
    assert_eq!(SERVER.psql(&database, death), "9", "the row that was replaced knew it");
    let theirs = "SELECT octet_length(home_id) FROM observer.session WHERE home = '/srv/other'";
    assert_eq!(SERVER.psql(&database, theirs), "32");

    let versions = "SELECT string_agg(xmin::text, ',' ORDER BY home) FROM observer.session";
    let before = SERVER.psql(&database, versions);
    let (shared, host_id) = host.ends();
    let host = Host::of(shared, host_id, &url);
    host.delivered(SOON);
    assert_eq!(SERVER.psql(&database, versions), before, "nothing is left to be done");
    let other = Host::of(other_shared, other_id, &SERVER.url(&database));
    other.delivered(SOON);
    assert_eq!(rows(&database, &other), "/srv/other|0|live|101|36");
    is_mirrored(&SERVER, &database, &other);
}

#[test]
fn a_mirror_on_1_0_has_a_row_for_each_home_and_goes_over_to_1_1_by_itself() {
    let database = SERVER.database();
    make_1_0(&SERVER, &database);
    let host = Host::new(&SERVER.url(&database));
    host.churn(10, 15);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let keys =
        "SELECT count(*), min(octet_length(home_id)), max(octet_length(home_id)) FROM observer.session";
    assert_eq!(SERVER.psql(&database, keys), "10|32|32");
    // Of two sessions in one home the row shows the one that runs.
    add_user(&host, "/srv/9", 1000);
    host.kill("/srv/9");
    let (shared, host_id) = host.ends();
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    let of_9 = "SELECT uid, recorded_state FROM observer.sessions WHERE home = '/srv/9' ORDER BY uid";
    assert_eq!((SERVER.psql(&database, of_9), host.status().connections), ("1000|live".into(), 1));

    apply_to(&SERVER, &database);
    host.churn(10, 10);
    host.delivered(SOON);
    assert_eq!(host.status().connections, 1, "the schema is applied under the connection");
    // Each hour, and when the partition of today is missing, the mirror looks after the partitions, and sees the schema.
    let today = "SELECT 'observer_days.event_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')";
    let today = SERVER.psql(&database, today);
    SERVER.psql(&database, &format!("DROP TABLE {today}"));
    host.churn(10, 10);
    eventually("it connects again", SOON, || match host.status().connections {
        2 => Ok(()),
        connections => Err(format!("{connections}")),
    });
    host.delivered(SOON);
    assert_eq!(SERVER.psql(&database, keys), "11|36|36");
    assert_eq!(SERVER.psql(&database, of_9), "0|ended\n1000|live");
}

#[test]
fn an_entry_whose_session_has_no_user_has_the_key_of_its_home() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    {
        let mut world = host.shared.world();
        let session = json!({"home": "/srv/b", "name": "b", "state": "live"});
        world.map.insert("/srv/b".into(), session.clone());
        world.entry("session_started".into(), "/srv/b", &session);
    }
    host.shared.tell();
    host.delivered(SOON);
    assert_eq!(rows(&database, &host), "/srv/a|0|live|101|36\n/srv/b||live||32");
    let events = "SELECT home, octet_length(home_id) FROM observer.event ORDER BY seq";
    assert_eq!(SERVER.psql(&database, events), "/srv/a|36\n/srv/b|32");
}
