//! Tests of what the mirror writes under each fault: nothing is lost, nothing is written twice, and losses
//! are counted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod delivery;
mod host;
mod outages;
mod presence;
mod proxy;
mod refused;
mod rekeyed;
mod restricted;
mod watched;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use observer::mirror::schema::{self, SchemaVersion};
use observer_harness::postgres::Server;
use serde_json::Value;

use host::{Host, World};

/// The server for all tests that do not stop it.
static SERVER: LazyLock<&Server> = LazyLock::new(Server::shared);

/// The limit of most waits; a machine that runs other tests too is slow.
const SOON: Duration = Duration::from_secs(30);

/// Creates a database with the schema and returns its name.
#[track_caller]
fn applied(server: &Server) -> String {
    let database = server.database();
    server.psql(&database, &whole_schema());
    database
}

/// Returns the script that makes the schema.
fn whole_schema() -> String {
    schema::print(SchemaVersion::NONE).expect("the whole script")
}

/// Asserts that the database has every entry of the stream once and no other entry of it, and that its state
/// is equal to the map.
#[track_caller]
fn is_mirrored(server: &Server, database: &str, host: &Host) {
    has_history(server, database, host);
    let world = host.shared.world();
    let state = format!(
        "SELECT json_object_agg(home, recorded_state || ' ' || pid) FROM observer.sessions WHERE host_id = '{}'",
        host.host_id
    );
    let found: BTreeMap<String, String> = serde_json::from_str(&server.psql(database, &state)).unwrap();
    assert_eq!(found, state_of(&world));
}

/// Asserts that the database has every entry of the stream once and unchanged, and no other entry of it.
#[track_caller]
fn has_history(server: &Server, database: &str, host: &Host) {
    let world = host.shared.world();
    let events = format!(
        "SELECT json_build_array(seq, kind, home, pid) FROM observer.events
         WHERE host_id = '{}' AND stream_id = '{}' ORDER BY seq",
        host.host_id, world.stream_id
    );
    let events = server.psql(database, &events);
    let events: Vec<&str> = events.lines().collect();
    assert_eq!(
        events.len(),
        world.entries.len(),
        "entries: {:?}…",
        events.iter().take(3).collect::<Vec<_>>()
    );
    for (found, entry) in events.iter().zip(&world.entries) {
        let found: Value = serde_json::from_str(found).unwrap();
        let home = entry.home.as_deref().map(|home| as_json(std::str::from_utf8(home).unwrap()));
        assert_eq!(found, serde_json::json!([entry.seq, entry.kind, home, entry.pid]));
    }
}

/// Returns the state and pid of each home in the map.
fn state_of(world: &World) -> BTreeMap<String, String> {
    let state = |session: &Value| format!("{} {}", session["state"].as_str().unwrap(), session["pid"]);
    world.map.iter().map(|(home, session)| (as_json(home), state(session))).collect()
}

/// Returns a path in the socket's form, in which an escape that the path contains is itself escaped.
fn as_json(path: &str) -> String {
    let escape = |c: char| match u32::from(c) {
        0x10_fe80..=0x10_feff => {
            let mut bytes = [0; 4];
            let escaped = c.encode_utf8(&mut bytes).bytes();
            escaped.filter_map(|byte| char::from_u32(0x10_fe00 + u32::from(byte))).collect::<String>()
        }
        _ => c.to_string(),
    };
    path.chars().map(escape).collect()
}

/// Returns whether the host is present.
#[track_caller]
fn is_present(server: &Server, database: &str, host: &Host) -> bool {
    let present = format!("SELECT present FROM observer.hosts WHERE host_id = '{}'", host.host_id);
    server.psql(database, &present) == "t"
}
