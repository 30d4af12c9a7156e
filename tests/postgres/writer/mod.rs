//! What the mirror writes, fault by fault: nothing lost, nothing twice, counted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod delivery;
mod host;
mod outages;
mod presence;
mod proxy;
mod refused;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use observer::postgres::schema;
use observer_tests::postgres::Server;

use host::Host;

/// For all tests that do not stop it.
static SERVER: LazyLock<&Server> = LazyLock::new(Server::shared);

/// A machine that runs other tests too is slow.
const SOON: Duration = Duration::from_secs(30);

/// A database with the schema.
#[track_caller]
fn applied(server: &Server) -> String {
    let database = server.database();
    server.psql(&database, &schema::print(0).expect("the whole script"));
    database
}

/// The database has every entry of the stream once and no other of it, and the state is the map.
#[track_caller]
fn is_mirrored(server: &Server, database: &str, host: &Host) {
    let world = host.shared.world();
    let events = server.psql(
        database,
        &format!(
            "SELECT seq, kind, coalesce(home, '') FROM observer.events
             WHERE host_id = '{}' AND stream_id = '{}' ORDER BY seq",
            host.host_id, world.stream_id
        ),
    );
    let expected: Vec<String> = world
        .entries
        .iter()
        .map(|entry| {
            let home = String::from_utf8_lossy(entry.home.as_deref().unwrap_or_default()).into_owned();
            format!("{}|{}|{home}", entry.seq, entry.kind)
        })
        .collect();
    let events: Vec<&str> = events.lines().collect();
    assert_eq!(events.len(), expected.len(), "entries: {:?}…", events.iter().take(3).collect::<Vec<_>>());
    if let Some((found, wanted)) =
        events.iter().zip(&expected).find(|(found, wanted)| **found != wanted.as_str())
    {
        panic!("found {found}, wanted {wanted}");
    }
    let state = server.psql(
        database,
        &format!(
            "SELECT home, recorded_state, pid FROM observer.sessions WHERE host_id = '{}'",
            host.host_id
        ),
    );
    let found: BTreeMap<String, String> = state
        .lines()
        .filter_map(|row| row.split_once('|'))
        .map(|(home, rest)| (home.to_owned(), rest.to_owned()))
        .collect();
    let wanted: BTreeMap<String, String> = world
        .map
        .iter()
        .map(|(home, session)| {
            (home.clone(), format!("{}|{}", session["state"].as_str().expect("a word"), session["pid"]))
        })
        .collect();
    assert_eq!(found, wanted);
}

/// Whether the host is present.
#[track_caller]
fn is_present(server: &Server, database: &str, host: &Host) -> bool {
    let present = format!("SELECT present FROM observer.hosts WHERE host_id = '{}'", host.host_id);
    server.psql(database, &present) == "t"
}
