//! Databases that go away, hang, forget, fill up or are replaced, with changes going on all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use observer_tests::poll::eventually;
use observer_tests::postgres::Server;

use super::host::Host;
use super::{SOON, applied, is_mirrored, is_present};

/// Changes a second beside a fault.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs `fault` while sessions start and die; the map must not notice: how many changes there were meanwhile.
fn under_changes(host: &Host, fault: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                host.churn(11, 1);
                count += 1;
                std::thread::sleep(PAUSE);
            }
            count
        });
        fault();
        over.store(true, Ordering::Relaxed);
        assert!(changes.join().expect("no test panics there") > 0);
    });
}

fn hosted(settings: &[&str]) -> (Server, String, Host) {
    let server = Server::start(settings);
    let database = applied(&server);
    let host = Host::new(&server.url(&database));
    host.churn(11, 500);
    host.delivered(SOON);
    (server, database, host)
}

#[test]
fn stopped_killed_and_restarted() {
    let (mut server, database, host) = hosted(&["fsync=on"]);
    for kill in [false, true, false, true] {
        under_changes(&host, || {
            if kill {
                server.kill()
            } else {
                server.stop()
            }
            host.comes_to("retrying", "", SOON);
            std::thread::sleep(Duration::from_millis(300));
            server.start_again();
        });
        host.delivered(SOON);
        is_mirrored(&server, &database, &host);
    }
    assert!(host.status().connections >= 5);
}

#[test]
fn a_server_that_hangs_is_found_out_and_everything_arrives() {
    let (server, database, host) = hosted(&[]);
    under_changes(&host, || {
        server.pause();
        // A batch is waited for 25 s, an empty query 8 s.
        host.comes_to("retrying", "did not answer", Duration::from_secs(35));
        server.resume();
    });
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

#[test]
fn an_idle_mirror_finds_out_within_one_sign_of_life() {
    let (server, database, host) = hosted(&[]);
    server.pause();
    host.comes_to("retrying", "did not answer within 8 s", Duration::from_secs(15));
    server.resume();
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

#[test]
fn restored_from_yesterday_it_is_filled_up_again() {
    let (mut server, database, host) = hosted(&[]);
    server.stop();
    let copy = server.copy_of_data();
    server.start_again();
    host.churn(11, 3000);
    host.delivered(SOON);
    under_changes(&host, || {
        server.stop();
        server.restore(&copy);
        server.start_again();
    });
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_promoted_standby_gets_what_the_old_primary_took_with_it() {
    let (mut primary, database, host) = hosted(&["wal_level=replica"]);
    let standby = primary.standby(&[]);
    let at_standby = |count: &str| {
        eventually("the standby has it", SOON, || {
            match standby.psql(&database, "SELECT count(*) FROM observer.events").as_str() {
                found if found == count => Ok(()),
                found => Err(found.to_owned()),
            }
        });
    };
    at_standby("500");
    // On a standby nobody is present: the locks are elsewhere.
    let states = "SELECT DISTINCT state, recorded_state IN ('live', 'ended') FROM observer.sessions";
    assert_eq!(standby.psql(&database, states), "unknown|t");
    let host_id = host.host_id;
    let shared = Arc::clone(&host.shared);
    drop(host);
    let both = format!(
        "host={},{} port={},{} user=postgres dbname={database}",
        primary.socket_dir().display(),
        standby.socket_dir().display(),
        primary.port(),
        standby.port()
    );
    let host = Host::of(shared, host_id, &both);
    host.delivered(SOON);
    // What the primary acknowledges from here on never reaches the standby.
    standby.psql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    standby.psql("postgres", "SELECT pg_reload_conf()");
    eventually("it receives no more", SOON, || {
        match standby.psql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver").as_str() {
            "0" => Ok(()),
            receivers => Err(receivers.to_owned()),
        }
    });
    host.churn(11, 1000);
    host.delivered(SOON);
    under_changes(&host, || {
        primary.kill();
        standby.promote();
    });
    host.delivered(SOON);
    is_mirrored(&standby, &database, &host);
    assert!(is_present(&standby, &database, &host));
}

/// A file system of this size, gone with the value.
struct Small(tempfile::TempDir);

impl Small {
    fn new(bytes: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0777"), "observer-test"])
            .arg(dir.path())
            .status();
        assert!(mount.is_ok_and(|status| status.success()), "mount a tmpfs: run as root");
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_ends_presence_and_nothing_is_lost() {
    let small = Small::new("48m");
    let server = Server::start(&[]);
    std::fs::set_permissions(small.0.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let place = small.0.path().join("space");
    std::fs::create_dir(&place).unwrap();
    let owner = std::fs::metadata(server.data()).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    std::os::unix::fs::chown(&place, Some(owner.uid()), Some(owner.gid())).unwrap();
    server.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    server.psql("postgres", "CREATE DATABASE small TABLESPACE small");
    let database = "small";
    server.psql(database, &observer::postgres::schema::print(0).unwrap());
    let host = Host::new(&server.url(database));
    host.churn(11, 500);
    host.delivered(SOON);
    let ballast = small.0.path().join("ballast");
    // As much as goes in; a file that ends early is the point.
    let _ = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=64k", &format!("of={}", ballast.display())])
        .stderr(std::process::Stdio::null())
        .status();
    under_changes(&host, || {
        eventually("not present", Duration::from_secs(60), || {
            if is_present(&server, database, &host) { Err(format!("{:?}", host.status())) } else { Ok(()) }
        });
        let error = host.status().last_error.unwrap_or_default();
        assert!(error.contains("53100") && error.contains("free disk space"), "{error}");
        std::fs::remove_file(&ballast).unwrap();
    });
    host.delivered(SOON);
    is_mirrored(&server, database, &host);
}

#[test]
fn a_table_that_somebody_locks_ends_presence_and_nothing_is_lost() {
    let (server, database, host) = hosted(&[]);
    let mut other = server.session(&database, "postgres");
    other.ask("BEGIN; LOCK TABLE observer.session IN EXCLUSIVE MODE");
    under_changes(&host, || {
        eventually("behind, before it is lost", Duration::from_secs(10), || {
            let row = "SELECT present, caught_up FROM observer.hosts";
            match server.psql(&database, row).as_str() {
                "t|f" => Ok(()),
                row => Err(row.to_owned()),
            }
        });
        eventually("not present", Duration::from_secs(30), || {
            if is_present(&server, &database, &host) { Err(format!("{:?}", host.status())) } else { Ok(()) }
        });
        let error = host.status().last_error.unwrap_or_default();
        assert!(error.contains("55P03"), "{error}");
        other.ask("ROLLBACK");
    });
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_statement_that_takes_too_long_is_ended_and_tried_again() {
    let (server, database, host) = hosted(&[]);
    server.psql(
        &database,
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON observer.event FOR EACH STATEMENT EXECUTE FUNCTION public.slow()",
    );
    under_changes(&host, || {
        // 20 s, and then it is no longer tried on this connection.
        eventually("it says so", Duration::from_secs(40), || match host.status().last_error {
            Some(error) if error.contains("57014") => Ok(()),
            error => Err(format!("{error:?}")),
        });
        server.psql(&database, "DROP TRIGGER slow ON observer.event");
    });
    host.delivered(Duration::from_secs(60));
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_server_too_slow_for_a_whole_batch_gets_smaller_ones() {
    let (server, database, host) = hosted(&[]);
    // 200 entries take longer than a statement may.
    server.psql(
        &database,
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON observer.event FOR EACH ROW EXECUTE FUNCTION public.slow()",
    );
    server.psql(&database, "SELECT pg_terminate_backend(backend_pid) FROM observer.host");
    host.churn(11, 3000);
    let before = server.psql(&database, "SELECT count(*) FROM observer.events");
    eventually("something arrives", Duration::from_secs(120), || {
        let now = server.psql(&database, "SELECT count(*) FROM observer.events");
        if now == before { Err(format!("{now}; {:?}", host.status())) } else { Ok(()) }
    });
    server.psql(&database, "DROP TRIGGER slow ON observer.event");
    host.delivered(Duration::from_secs(60));
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_day_without_partition_gets_one() {
    let (server, database, host) = hosted(&[]);
    server.psql(
        &database,
        "DO $$ DECLARE part regclass; BEGIN
            FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'observer.event'::regclass LOOP
                EXECUTE 'DROP TABLE ' || part;
            END LOOP;
         END $$",
    );
    host.churn(11, 100);
    host.delivered(SOON);
    assert_eq!(
        server.psql(&database, "SELECT count(*), min(seq), max(seq) FROM observer.events"),
        "100|501|600"
    );
    assert_eq!(host.status().rejected, 0);
}
