//! Tests what a daemon writes to each revision of the schema, and to one whose writers may call its functions alone.

use observer::api::words::MirrorState;
use observer::mirror::schema::{LATEST, MIGRATIONS, WITH_FUNCTIONS};
use uuid::Uuid;

use super::host::{Host, world};
use super::{SERVER, SOON, applied, has_history, is_mirrored, is_present};
use crate::schema::observer;

/// Creates a login for a host, and returns its name.
fn login(database: &str, host_id: Uuid) -> String {
    let login = format!("restricted_{database}");
    SERVER.psql(
        database,
        &format!("CREATE ROLE {login} LOGIN IN ROLE observer_writer; INSERT INTO observer.writers VALUES ('{login}', '{host_id}')"),
    );
    login
}

#[test]
fn a_daemon_whose_rights_on_the_tables_were_taken_away_writes_everything() {
    let database = applied(&SERVER);
    let host_id = Uuid::new_v4();
    let url = SERVER.url_as(&database, &login(&database, host_id));
    let host = Host::of(world(), host_id, &url);
    host.churn(5, 300);
    host.delivered(SOON);
    let restricted = observer(&["schema", "restrict", "--database-url", &SERVER.url(&database)]);
    assert_eq!(restricted.code, Some(0), "{restricted:?}");
    assert!(is_present(&SERVER, &database, &host));
    host.churn(5, 300);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);

    // A new journal: its cursor is made, and what the map does not know is ended.
    let (shared, host_id) = host.ends();
    SERVER.psql(
        &database,
        "INSERT INTO observer.session (host_no, home_id, home, state, certain, detail)
         SELECT host_no, '\\x00', '/srv/never', 'live', true, '{}' FROM observer.host",
    );
    shared.world().begin_anew();
    let host = Host::of(shared, host_id, &url);
    host.churn(5, 300);
    host.delivered(SOON);
    has_history(&SERVER, &database, &host);
    let never = "SELECT recorded_state, last_death_kind FROM observer.sessions WHERE home = '/srv/never'";
    assert_eq!(SERVER.psql(&database, never), "ended|unobserved");
    SERVER.psql(&database, "DELETE FROM observer.session WHERE home = '/srv/never'");

    // A row and an entry that the database refuses.
    host.start("/srv/a");
    host.delivered(SOON);
    SERVER.psql(
        &database,
        "ALTER TABLE observer.session ADD CONSTRAINT lives CHECK (home <> '/srv/a' OR state = 'live');
         ALTER TABLE observer.event ADD CONSTRAINT no_poison CHECK (name <> 'poison')",
    );
    host.kill("/srv/a");
    host.start("/srv/poison");
    host.delivered(SOON);
    let rows = "SELECT recorded_state, certain FROM observer.sessions WHERE home IN ('/srv/a', '/srv/poison') ORDER BY home";
    assert_eq!(SERVER.psql(&database, rows), "live|f\nlive|t");
    let gaps = "SELECT count(*) FROM observer.events WHERE kind = 'gap' AND detail ->> 'reason' = 'rejected'";
    assert_eq!(SERVER.psql(&database, gaps), "1");
    // The next reconciliation finds it refused too.
    let (shared, host_id) = host.ends();
    SERVER.psql(&database, "UPDATE observer.session SET certain = true");
    let host = Host::of(shared, host_id, &url);
    host.delivered(SOON);
    assert_eq!(SERVER.psql(&database, rows), "live|f\nlive|t");
    assert!(host.status().rejected > 0, "{:?}", host.status());
}

#[test]
fn a_daemon_writes_to_each_earlier_revision_and_by_the_functions_after_it() {
    for (at, migration) in MIGRATIONS.iter().enumerate() {
        let revision = migration.to;
        let database = SERVER.database();
        for earlier in MIGRATIONS.iter().take(at + 1) {
            SERVER.psql(&database, earlier.script);
        }
        let host_id = Uuid::new_v4();
        let url = SERVER.url_as(&database, &login(&database, host_id));
        let host = Host::of(world(), host_id, &url);
        host.churn(5, 100);
        host.delivered(SOON);
        is_mirrored(&SERVER, &database, &host);
        assert!(is_present(&SERVER, &database, &host), "{revision}");
        for later in MIGRATIONS.iter().skip(at + 1) {
            SERVER.psql(&database, later.script);
        }
        // It goes on as before, in the rights that it has, and is recognized by its lock.
        host.churn(5, 100);
        host.delivered(SOON);
        is_mirrored(&SERVER, &database, &host);
        assert!(is_present(&SERVER, &database, &host), "{revision}");
        let named = "SELECT count(*) FROM observer.host WHERE named_generation = generation";
        let is_named = if revision < WITH_FUNCTIONS { "0" } else { "1" };
        assert_eq!(SERVER.psql(&database, named), is_named, "{revision}");

        // The next connection uses what is there, and no right on the tables.
        let (shared, host_id) = host.ends();
        SERVER.psql(
            &database,
            "REVOKE INSERT, UPDATE ON observer.stream, observer.session, observer.event FROM observer_writer",
        );
        let host = Host::of(shared, host_id, &url);
        host.churn(5, 100);
        host.delivered(SOON);
        is_mirrored(&SERVER, &database, &host);
        assert_eq!(host.status().state, MirrorState::Ok);
        assert!(is_present(&SERVER, &database, &host), "{revision}");
        assert_eq!(SERVER.psql(&database, named), "1", "{revision} to {LATEST}");
    }
}
