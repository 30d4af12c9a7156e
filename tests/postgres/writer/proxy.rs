//! Faults between the mirror and the server: a connection that is cut at the worst moment, a network that
//! drops packets, and PgBouncer.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use observer::api::words::MirrorState;
use observer_harness::poll::eventually;

use super::host::Host;
use super::{SERVER, SOON, applied, is_mirrored, is_present};
use crate::pooler::{CONFIGURATIONS, Pooler};

/// The time to wait for a commit that may not happen.
const COMMIT_WAIT: Duration = Duration::from_secs(3);

/// Forwards bytes between a port of its own and the server.
struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whether the server's answers are dropped.
    deaf: AtomicBool,
    /// Whether bytes are dropped in both directions.
    dead: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Wire {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let its_state = Arc::clone(&state);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", SERVER.port())) else { continue };
                let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                if let (Ok(a), Ok(b)) = (client.try_clone(), server.try_clone()) {
                    its_state.open.lock().expect("no panic").extend([a, b]);
                }
                let (up, down) = (Arc::clone(&its_state), Arc::clone(&its_state));
                std::thread::spawn(move || pass(client, server, || up.dead.load(Ordering::Relaxed)));
                std::thread::spawn(move || {
                    pass(server_too, client_too, || {
                        down.dead.load(Ordering::Relaxed) || down.deaf.load(Ordering::Relaxed)
                    });
                });
            }
        });
        Self { port, state }
    }

    fn url(&self, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname={database} sslmode=disable connect_timeout=3",
            self.port
        )
    }

    fn cut(&self) {
        for stream in self.state.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, swallowed: impl Fn() -> bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !swallowed() && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_connection_cut_between_a_commit_and_its_answer_loses_and_duplicates_nothing() {
    let database = applied(&SERVER);
    let wire = Wire::new();
    let host = Host::new(&wire.url(&database));
    host.churn(7, 100);
    host.delivered(SOON);
    let (mut rounds, mut unknown) = (0, 0);
    while unknown < 10 {
        rounds += 1;
        assert!(rounds <= 40, "commits that the mirror does not hear of: {unknown} in 40 rounds");
        wire.state.deaf.store(true, Ordering::Relaxed);
        let before = host.shared.world().acknowledged;
        host.churn(7, 300);
        // The dropped answer may belong to something else, such as a notification; then there is no commit to
        // wait for.
        let committed = format!("SELECT last_seq > {before} FROM observer.stream");
        let end = Instant::now() + COMMIT_WAIT;
        while Instant::now() < end {
            if SERVER.psql(&database, &committed) == "t" {
                assert_eq!(
                    host.shared.world().acknowledged,
                    before,
                    "it is committed, and the mirror cannot know"
                );
                unknown += 1;
                break;
            }
        }
        wire.cut();
        wire.state.deaf.store(false, Ordering::Relaxed);
        host.delivered(SOON);
    }
    is_mirrored(&SERVER, &database, &host);
    let all = "SELECT count(*), count(DISTINCT seq) FROM observer.events";
    let expected = 100 + 300 * rounds;
    assert_eq!(SERVER.psql(&database, all), format!("{expected}|{expected}"));
}

#[test]
fn a_connection_cut_at_any_moment_loses_and_duplicates_nothing() {
    let database = applied(&SERVER);
    let wire = Wire::new();
    let host = Host::new(&wire.url(&database));
    for round in 0..40_u64 {
        host.churn(7, 75);
        std::thread::sleep(Duration::from_millis(round * 7 % 40));
        wire.cut();
    }
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn a_lost_network_ends_presence_in_time() {
    let database = applied(&SERVER);
    let wire = Wire::new();
    let host = Host::new(&wire.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    wire.state.dead.store(true, Ordering::Relaxed);
    eventually("not present", Duration::from_secs(18), || {
        if is_present(&SERVER, &database, &host) { Err("present".into()) } else { Ok(()) }
    });
    host.churn(7, 3000);
    wire.state.dead.store(false, Ordering::Relaxed);
    wire.cut();
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn pgbouncer_is_refused_as_a_connection_pooler() {
    let database = applied(&SERVER);
    for more in CONFIGURATIONS {
        let pooler = Pooler::start(&SERVER, more);
        let host = Host::new(&pooler.url(&database));
        let result = host.comes_to(MirrorState::Stopped, "connection pooler", SOON);
        assert!(result.last_error.is_some_and(|error| error.contains("Postgres' own host and port")));
    }
}
