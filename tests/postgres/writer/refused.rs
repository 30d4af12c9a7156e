//! Errors that a person must correct: each one is reported with the next step and without secrets, and the
//! mirror retries.

use std::time::Duration;

use observer::api::words::MirrorState;
use observer_harness::postgres::Server;

use super::host::Host;
use super::{SERVER, SOON, applied, is_mirrored};

/// The limit for the next try: the mirror tries every 15 s or so, plus as much again at random.
const AGAIN: Duration = Duration::from_secs(60);

#[test]
fn a_wrong_password_is_reported_without_it_and_a_right_one_needs_no_restart() {
    let server = Server::start(&[]);
    let database = applied(&server);
    server.psql(&database, "CREATE ROLE agent LOGIN SUPERUSER PASSWORD 'right-hunter2'");
    let access = server.data().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&access).unwrap();
    std::fs::write(&access, format!("host all agent 127.0.0.1/32 scram-sha-256\n{rules}")).unwrap();
    server.psql(&database, "SELECT pg_reload_conf()");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    let url =
        |password: &str| format!("postgresql://agent:{password}@127.0.0.1:{}/{database}", server.port());
    std::fs::write(&file, url("wrong-hunter2")).unwrap();
    let host = Host::at(super::host::world(), uuid::Uuid::new_v4(), &file);
    host.churn(3, 50);
    let result = host.comes_to(MirrorState::Stopped, "28P01", SOON);
    host.churn(3, 3000);
    let error = result.last_error.unwrap();
    assert!(!error.contains("hunter2") && error.contains("correct user and password"), "{error}");
    std::fs::write(&file, url("right-hunter2")).unwrap();
    host.delivered(AGAIN);
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_schema_that_is_missing_older_or_newer_is_reported_and_used_once_it_is_corrected() {
    let database = SERVER.database();
    let host = Host::new(&SERVER.url(&database));
    host.comes_to(MirrorState::Stopped, "observer schema apply", SOON);
    host.churn(3, 3000);
    SERVER.psql(&database, &super::whole_schema());
    host.delivered(AGAIN);
    is_mirrored(&SERVER, &database, &host);
    let (shared, host_id) = host.ends();
    SERVER.psql(&database, "INSERT INTO observer.migration (version) VALUES (1000)");
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.comes_to(MirrorState::Stopped, "upgrade observer", SOON);
    host.churn(3, 3000);
    SERVER.psql(&database, "DELETE FROM observer.migration WHERE version = 1000");
    host.delivered(AGAIN);
    is_mirrored(&SERVER, &database, &host);
    drop(host);
    SERVER.psql(&database, "DELETE FROM observer.migration");
    let host = Host::new(&SERVER.url(&database));
    host.comes_to(MirrorState::Stopped, "at version 0", SOON);
}

#[test]
fn a_database_that_is_missing_or_not_utf8_is_reported() {
    let host = Host::new(&SERVER.url("nowhere"));
    host.comes_to(MirrorState::Stopped, "create the database", SOON);
    drop(host);
    SERVER.psql("postgres", "CREATE DATABASE latin_mirror ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let host = Host::new(&SERVER.url("latin_mirror"));
    host.comes_to(MirrorState::Stopped, "ENCODING 'UTF8'", SOON);
}

#[test]
fn the_mirror_does_not_connect_to_a_standby() {
    let server = Server::start(&["wal_level=replica"]);
    let database = applied(&server);
    let standby = server.standby(&[]);
    let host = Host::new(&standby.url(&database));
    host.comes_to(MirrorState::Retrying, "", SOON);
    assert_eq!(host.status().connections, 0);
}

#[test]
fn a_certificate_is_checked_as_sslmode_requires() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let openssl = |arguments: &str| {
        let run = std::process::Command::new("openssl").args(arguments.split(' ')).output().expect("openssl");
        assert!(run.status.success(), "{arguments}: {}", String::from_utf8_lossy(&run.stderr));
    };
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout {} -out {}",
        file("ca.key"),
        file("ca.crt")
    ));
    openssl(&format!(
        "req -newkey rsa:2048 -nodes -subj /CN=db.test -keyout {} -out {}",
        file("key"),
        file("csr")
    ));
    std::fs::write(file("ext"), "subjectAltName=DNS:db.test,IP:127.0.0.1\n").unwrap();
    openssl(&format!(
        "x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -days 2 -extfile {} -out {}",
        file("csr"),
        file("ca.crt"),
        file("ca.key"),
        file("ext"),
        file("crt")
    ));
    let mut server = Server::start(&["ssl=off"]);
    let owner = std::fs::metadata(server.data()).unwrap();
    for name in ["key", "crt"] {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let target = server.data().join(format!("server.{name}"));
        std::fs::copy(file(name), &target).unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&target, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let database = applied(&server);
    // The server has no TLS: a client that requires it does not connect, a client that prefers it does.
    let url =
        |rest: &str| format!("host=127.0.0.1 port={} user=postgres dbname={database} {rest}", server.port());
    Host::new(&url("sslmode=require")).comes_to(MirrorState::Retrying, "TLS", SOON);
    Host::new(&url("sslmode=prefer")).delivered(SOON);
    server.stop();
    server.set("ssl=on");
    server.start_again();
    let url = |rest: &str| format!("port={} user=postgres dbname={database} {rest}", server.port());
    let used = |host: &Host| {
        host.delivered(SOON);
        server.psql(&database, "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'observer %'")
    };
    let roots = format!("sslrootcert={}", file("ca.crt"));
    for rest in [
        "host=127.0.0.1 sslmode=require".to_owned(),
        format!("host=127.0.0.1 sslmode=verify-full {roots}"),
        format!("host=db.test hostaddr=127.0.0.1 {roots}"),
        format!("host=localhost sslmode=verify-ca {roots}"),
    ] {
        assert_eq!(used(&Host::new(&url(&rest))), "t", "{rest}");
    }
    for rest in [
        // In order: the certificate has another name; its authority is not trusted, twice; the given root is
        // not an authority.
        format!("host=localhost sslmode=verify-full {roots}"),
        "host=127.0.0.1 sslmode=verify-full".to_owned(),
        "host=127.0.0.1 sslmode=verify-ca".to_owned(),
        format!("host=127.0.0.1 sslmode=verify-ca sslrootcert={}", file("crt")),
    ] {
        let host = Host::new(&url(&rest));
        host.comes_to(MirrorState::Stopped, "sslrootcert", SOON);
        assert_eq!(host.status().connections, 0, "{rest}");
    }
}
