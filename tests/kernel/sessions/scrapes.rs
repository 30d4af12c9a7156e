//! Metrics over HTTP.
#![allow(clippy::indexing_slicing)]

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use observer_harness::{Daemon, Fixture, Options, eventually};

use crate::metrics::assert_labels_are_bounded;

/// In an emulated machine a listener takes a while.
const LIMIT: Duration = Duration::from_secs(60);
const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
const SETTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

fn configured(listen: &str) -> Options {
    Options { config: Some(format!("[metrics]\nlisten = \"{listen}\"\n")), ..Options::default() }
}

/// A path in a directory that the daemon can write to, whoever it runs as.
fn path(fixture: &Fixture) -> PathBuf {
    let dir = fixture.mkdir("metrics");
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("open the directory to the daemon");
    dir.join("metrics.sock")
}

/// The response to `request`, which is everything until the daemon closes the connection.
fn exchange(mut stream: impl std::io::Read + std::io::Write, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The response on a Unix socket, as soon as the daemon listens.
fn asked(path: &PathBuf, request: &str) -> String {
    eventually("metrics are served", LIMIT, || {
        let stream = UnixStream::connect(path).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
        exchange(stream, request).map_err(|error| error.to_string())
    })
}

/// The names in a text of metrics.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn metrics_are_served_on_a_socket_as_the_command_prints_them() {
    let fixture = Fixture::new();
    let path = path(&fixture);
    let mut daemon = Daemon::start(&configured(&path.display().to_string()));
    let response = asked(&path, GET);
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for field in ["Content-Type: text/plain; version=0.0.4", "Connection: close"] {
        assert!(head.contains(field), "{head}");
    }
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    let printed = daemon.observer(&["status", "--metrics"]);
    // The command came later: what was not known before may be by then.
    let (served, printed) = (names(body), names(printed.text()));
    assert!(served.iter().all(|name| printed.contains(name)), "{served:?}, printed {printed:?}");
    assert!(names(body).contains(&"observer_records_total"), "{body}");

    let (own, metrics) =
        (fs::metadata(daemon.socket()).expect("its socket"), fs::metadata(&path).expect("the other"));
    assert_eq!((metrics.mode(), metrics.uid(), metrics.gid()), (own.mode(), own.uid(), own.gid()));
    assert_eq!(metrics.mode() & 0o777, 0o660);

    let head = asked(&path, &GET.replace("GET", "HEAD"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(asked(&path, &GET.replace("/metrics", "/")).starts_with("HTTP/1.1 404 "));
    assert!(asked(&path, &GET.replace("GET", "PUT")).starts_with("HTTP/1.1 405 "));
    assert!(asked(&path, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let status = daemon.status();
    assert_eq!(status["scrapes"]["refused"], 3, "{status}");

    assert_eq!(daemon.stop(), Some(0));
    assert!(!path.exists(), "the path is removed at the end");
}

#[test]
fn clients_that_send_nothing_delay_nobody() {
    let fixture = Fixture::new();
    let path = path(&fixture);
    let daemon = Daemon::start(&configured(&path.display().to_string()));
    asked(&path, GET);
    let mut idle: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).expect("connect")).collect();
    for stream in &mut idle {
        // It may be closed already for one that came later.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
    }
    assert!(asked(&path, GET).starts_with("HTTP/1.1 200 OK\r\n"));
    eventually("all of them are closed", LIMIT, || {
        let status = daemon.status();
        if status["scrapes"]["cut_off"].as_u64() >= Some(20) {
            Ok(())
        } else {
            Err(status["scrapes"].to_string())
        }
    });
    assert!(daemon.observer(&["list"]).code.is_some_and(|code| code < 2), "the daemon answers");
}

#[test]
fn an_address_of_the_loopback_that_is_in_use_is_served_when_it_is_free() {
    let other = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback");
    let address = other.local_addr().expect("its address");
    let daemon = Daemon::start(&configured(&address.to_string()));
    let log = eventually("the log says so", LIMIT, || {
        let log = fs::read_to_string(daemon.log()).expect("the log");
        if log.contains("no metrics are served") { Ok(log) } else { Err(log) }
    });
    assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
    drop(other);
    let response = eventually("metrics are served", LIMIT, || {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        exchange(stream, GET).map_err(|error| error.to_string())
    });
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

/// Sets it back.
struct Setting(String);

impl Setting {
    fn set(value: &str) -> Self {
        let before = fs::read_to_string(SETTING).expect("the setting");
        fs::write(SETTING, value).expect("set it");
        Self(before)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(SETTING, &self.0);
    }
}

#[test]
fn the_time_of_programs_is_exported_while_the_kernel_measures_it() {
    let daemon = Daemon::start(&Options::default());
    let runs = |text: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with("observer_bpf_runs_total{program="));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let metrics = || daemon.observer(&["status", "--metrics"]).text().to_owned();
    let measured = {
        let _on = Setting::set("1");
        eventually("runs are counted", LIMIT, || {
            let text = metrics();
            if runs(&text) > 0.0 { Ok(text) } else { Err(text) }
        })
    };
    assert!(measured.contains("\nobserver_bpf_stats_enabled 1.0\n"), "{measured}");
    assert!(measured.contains("\nobserver_bpf_run_seconds_total{program="), "{measured}");
    assert_labels_are_bounded(&measured);
    let _off = Setting::set("0");
    let text = metrics();
    assert!(text.contains("\nobserver_bpf_stats_enabled 0.0\n") && runs(&text) == 0.0, "{text}");
}
