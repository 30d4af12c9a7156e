//! Tests metrics over HTTP inside the unit's sandbox.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::system::{DropIn, SOCKET, eventually, installed, journal, start};

const FILE: &str = "/etc/observer/observer.toml";
const METRICS: &str = "/run/observer/metrics.sock";
const ADDRESS: &str = "127.0.0.1:9431";

/// The configuration of the package with an address for metrics, and as it was once this is dropped.
struct Configured {
    packaged: String,
}

impl Configured {
    fn new(listen: &str) -> Self {
        let packaged = fs::read_to_string(FILE).expect("the package has a configuration");
        fs::write(FILE, format!("[metrics]\nlisten = \"{listen}\"\n")).expect("write the configuration");
        Self { packaged }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = fs::write(FILE, &self.packaged);
    }
}

/// Whether metrics come.
fn are_served(mut stream: impl Read + Write) -> std::io::Result<bool> {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\nobserver_certain "))
}

fn connected() -> std::io::Result<TcpStream> {
    let address = ADDRESS.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

#[test]
fn metrics_on_a_unix_socket_are_for_who_may_ask() {
    let _alone = installed();
    let _configured = Configured::new(METRICS);
    start();
    eventually("metrics are served", || UnixStream::connect(METRICS).and_then(are_served).unwrap_or(false));
    let of = |path: &str| {
        let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        (metadata.mode(), metadata.uid(), metadata.gid())
    };
    assert_eq!(of(METRICS), of(SOCKET), "{}", journal());
}

#[test]
fn metrics_on_the_loopback_are_served_with_the_drop_in_that_the_unit_names() {
    let _alone = installed();
    let _configured = Configured::new(ADDRESS);
    let _drop_in = DropIn::new("metrics", "IPAddressAllow=localhost\n");
    start();
    eventually("metrics are served", || connected().and_then(are_served).unwrap_or(false));
}

#[test]
fn the_unit_alone_lets_nobody_reach_metrics_on_the_loopback() {
    let _alone = installed();
    let _configured = Configured::new(ADDRESS);
    start();
    // Of the columns, the second is the local address, in the kernel's notation, and the fourth the state: 0A is LISTEN.
    eventually("the daemon listens", || {
        let sockets = fs::read_to_string("/proc/net/tcp").expect("the sockets");
        let listens = |line: &str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns.get(1) == Some(&"0100007F:24D7") && columns.get(3) == Some(&"0A")
        };
        sockets.lines().any(listens)
    });
    let served = connected().and_then(are_served);
    assert!(served.is_err(), "without a drop-in: {served:?}\n{}", journal());
}
