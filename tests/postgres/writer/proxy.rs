//! What stands between: a wire that is cut at the worst moment, a network that swallows, a pooler.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use observer_tests::poll::eventually;

use super::host::Host;
use super::{SERVER, SOON, applied, is_mirrored, is_present};

/// Passes bytes on between a port of its own and the server.
struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The server's answers are swallowed.
    deaf: AtomicBool,
    /// Both ways.
    dead: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Wire {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let its_state = Arc::clone(&state);
        // Ends with the test's process.
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
fn cut_between_a_commit_and_its_answer_nothing_is_lost_and_nothing_twice() {
    let database = applied(&SERVER);
    let wire = Wire::new();
    let host = Host::new(&wire.url(&database));
    host.churn(7, 100);
    host.delivered(SOON);
    for round in 1..=10 {
        wire.state.deaf.store(true, Ordering::Relaxed);
        let before = host.shared.world().acknowledged;
        host.churn(7, 50);
        // It is committed, and the mirror cannot know.
        let count = format!("SELECT last_seq > {before} FROM observer.stream");
        eventually("a commit", SOON, || match SERVER.psql(&database, &count).as_str() {
            "t" => Ok(()),
            found => Err(format!("round {round}: {found}")),
        });
        assert_eq!(host.shared.world().acknowledged, before, "it does not know");
        wire.cut();
        wire.state.deaf.store(false, Ordering::Relaxed);
        host.delivered(SOON);
    }
    is_mirrored(&SERVER, &database, &host);
    let all = "SELECT count(*), count(DISTINCT seq) FROM observer.events";
    assert_eq!(SERVER.psql(&database, all), "600|600");
}

#[test]
fn cut_at_any_moment_nothing_is_lost_and_nothing_twice() {
    let database = applied(&SERVER);
    let wire = Wire::new();
    let host = Host::new(&wire.url(&database));
    for round in 0..40_u64 {
        host.churn(7, 50);
        std::thread::sleep(Duration::from_millis(round * 7 % 40));
        wire.cut();
    }
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn a_network_that_is_gone_ends_presence_in_time() {
    let database = applied(&SERVER);
    let wire = Wire::new();
    let host = Host::new(&wire.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    wire.state.dead.store(true, Ordering::Relaxed);
    eventually("not present", Duration::from_secs(18), || {
        if is_present(&SERVER, &database, &host) { Err("present".into()) } else { Ok(()) }
    });
    host.churn(7, 500);
    wire.state.dead.store(false, Ordering::Relaxed);
    wire.cut();
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}
