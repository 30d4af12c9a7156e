//! Databases that stop, hang, lose data, fill up or are replaced while changes continue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use observer::api::words::MirrorState;
use observer_harness::poll::eventually;
use observer_harness::postgres::Server;

use super::host::Host;
use super::{SERVER, SOON, applied, is_mirrored, is_present, whole_schema};

/// The pause between changes during a fault.
const PAUSE: Duration = Duration::from_millis(1);
/// The number of changes that must happen during a fault.
const CHANGES: usize = 1000;
/// The limit for a mirror to recover that failed for long: it tries at least every 30 s.
const BACK: Duration = Duration::from_secs(60);

/// The number of changes since a fault began.
struct Changes(AtomicUsize);

impl Changes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until enough changes happened.
    #[track_caller]
    fn suffice(&self) {
        eventually("changes", SOON, || match self.count() {
            CHANGES.. => Ok(()),
            count => Err(format!("{count}")),
        });
    }
}

/// Runs `fault` while sessions start and die; the map must not be affected.
#[track_caller]
fn under_changes(host: &Host, fault: impl FnOnce(&Changes)) {
    let (over, changes) = (AtomicBool::new(false), Changes(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                host.churn(11, 1);
                changes.0.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        });
        // The changes end even if the fault panics.
        let _ended = Ended(&over);
        fault(&changes);
    });
    assert!(changes.count() >= CHANGES, "{} changes", changes.count());
}

/// Sets the flag when it is dropped.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
fn a_server_that_is_stopped_killed_and_restarted_loses_nothing() {
    let (mut server, database, host) = hosted(&["fsync=on"]);
    for kill in [false, true, false, true] {
        under_changes(&host, |changes| {
            if kill {
                server.kill()
            } else {
                server.stop()
            }
            host.comes_to(MirrorState::Retrying, "", SOON);
            changes.suffice();
            server.start_again();
        });
        host.delivered(SOON);
        is_mirrored(&server, &database, &host);
    }
    assert!(host.status().connections >= 5);
}

#[test]
fn a_server_that_hangs_is_detected_and_everything_arrives() {
    let (server, database, host) = hosted(&[]);
    under_changes(&host, |changes| {
        server.pause();
        // The mirror waits 25 s for a batch and 8 s for an empty query.
        host.comes_to(MirrorState::Retrying, "did not answer", Duration::from_secs(35));
        changes.suffice();
        server.resume();
    });
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

#[test]
fn an_idle_mirror_detects_a_hang_within_one_heartbeat() {
    let (server, database, host) = hosted(&[]);
    server.pause();
    host.comes_to(MirrorState::Retrying, "did not answer within 8 s", Duration::from_secs(15));
    server.resume();
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_database_restored_from_an_old_copy_is_filled_up_again() {
    let (mut server, database, host) = hosted(&[]);
    server.stop();
    let copy = server.copy_of_data();
    server.start_again();
    host.churn(11, 3000);
    host.delivered(SOON);
    under_changes(&host, |changes| {
        server.stop();
        server.restore(&copy);
        changes.suffice();
        server.start_again();
    });
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_promoted_standby_receives_the_changes_that_only_the_old_primary_had() {
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
    // On a standby no host is present, because advisory locks exist only on the primary.
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
    // Changes that the primary acknowledges from here on never reach the standby.
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
    under_changes(&host, |changes| {
        primary.kill();
        changes.suffice();
        standby.promote();
    });
    host.delivered(SOON);
    is_mirrored(&standby, &database, &host);
    assert!(is_present(&standby, &database, &host));
}

/// A file system of this size, which is unmounted when the value is dropped.
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

    /// Fills the file system with a file as large as possible, and returns its path.
    fn fill(&self) -> std::path::PathBuf {
        let ballast = self.0.path().join("ballast");
        // The file is meant to end early.
        let _ = std::process::Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", &format!("of={}", ballast.display())])
            .stderr(std::process::Stdio::null())
            .status();
        ballast
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
    server.psql(database, &whole_schema());
    let host = Host::new(&server.url(database));
    host.churn(11, 500);
    host.delivered(SOON);
    let ballast = small.fill();
    under_changes(&host, |changes| {
        eventually("not present", Duration::from_secs(60), || {
            if is_present(&server, database, &host) { Err(format!("{:?}", host.status())) } else { Ok(()) }
        });
        let error = host.status().last_error.unwrap_or_default();
        assert!(error.contains("53100") && error.contains("free disk space"), "{error}");
        changes.suffice();
        std::fs::remove_file(&ballast).unwrap();
    });
    host.delivered(SOON);
    is_mirrored(&server, database, &host);
}

#[test]
fn a_full_write_ahead_log_ends_the_server_and_loses_nothing_of_history() {
    let small = Small::new("80m");
    let mut server = Server::start(&["max_wal_size=32MB", "min_wal_size=32MB"]);
    let database = applied(&server);
    server.stop();
    let (log, place) = (server.data().join("pg_wal"), small.0.path().join("pg_wal"));
    let moved = std::process::Command::new("mv").args([&log, &place]).status();
    assert!(moved.is_ok_and(|status| status.success()), "move the log");
    std::os::unix::fs::symlink(&place, &log).unwrap();
    server.start_again();
    let host = Host::new(&server.url(&database));
    host.churn(11, 500);
    host.delivered(SOON);
    let ballast = small.fill();
    under_changes(&host, |changes| {
        let write = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 8 << 20))";
        eventually("no room for the log", SOON, || match server.try_psql(&database, write).code {
            Some(0) => Err("written".into()),
            _ => Ok(()),
        });
        assert!(server.log().contains("PANIC"), "{}", server.log());
        host.comes_to(MirrorState::Retrying, "", SOON);
        changes.suffice();
        std::fs::remove_file(&ballast).unwrap();
        eventually("it is there again", BACK, || {
            // The server ends if it cannot even recover.
            if server.has_ended() {
                server.start_again();
            }
            match server.try_psql(&database, "SELECT 1").code {
                Some(0) => Ok(()),
                _ => Err(server.log()),
            }
        });
    });
    host.delivered(BACK);
    is_mirrored(&server, &database, &host);
    assert!(is_present(&server, &database, &host));
}

#[test]
fn a_locked_table_ends_presence_and_nothing_is_lost() {
    let (server, database, host) = hosted(&[]);
    let mut other = server.session(&database, "postgres");
    other.ask("BEGIN; LOCK TABLE observer.session IN EXCLUSIVE MODE");
    under_changes(&host, |changes| {
        eventually("behind, before it is lost", SOON, || {
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
        changes.suffice();
        other.ask("ROLLBACK");
    });
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
}

/// Makes each inserted event `ROW`, or each `STATEMENT`, take so many seconds, until [`not_slow`].
fn slow(server: &Server, database: &str, each: &str, seconds: f64) {
    server.psql(
        database,
        &format!(
            "CREATE TABLE public.slowness AS SELECT {seconds}::float8 AS seconds;
             GRANT SELECT ON public.slowness TO PUBLIC;
             CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN PERFORM pg_sleep(s.seconds) FROM public.slowness s; RETURN NEW; END $$;
             CREATE TRIGGER slow BEFORE INSERT ON observer.event FOR EACH {each} EXECUTE FUNCTION public.slow()"
        ),
    );
}

/// To drop the trigger would take locks that an insert under way waits for in another order.
fn not_slow(server: &Server, database: &str) {
    server.psql(database, "UPDATE public.slowness SET seconds = 0");
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled_and_retried() {
    let (server, database, host) = hosted(&[]);
    slow(&server, &database, "STATEMENT", 60.0);
    under_changes(&host, |changes| {
        // The statement is cancelled after 20 s and is not tried again on this connection.
        eventually("it says so", Duration::from_secs(40), || match host.status().last_error {
            Some(error) if error.contains("57014") => Ok(()),
            error => Err(format!("{error:?}")),
        });
        changes.suffice();
        not_slow(&server, &database);
    });
    host.delivered(Duration::from_secs(60));
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_server_too_slow_for_a_whole_batch_gets_smaller_ones() {
    let (server, database, host) = hosted(&[]);
    // A batch of 200 entries takes longer than a statement may.
    slow(&server, &database, "ROW", 0.1);
    server.psql(&database, "SELECT pg_terminate_backend(backend_pid) FROM observer.host");
    host.churn(11, 3000);
    let before = server.psql(&database, "SELECT count(*) FROM observer.events");
    eventually("something arrives", Duration::from_secs(120), || {
        let now = server.psql(&database, "SELECT count(*) FROM observer.events");
        if now == before { Err(format!("{now}; {:?}", host.status())) } else { Ok(()) }
    });
    // The host is present and stays present while the remaining entries arrive.
    let arrived = || server.psql(&database, "SELECT count(*) FROM observer.events").parse::<u64>().unwrap();
    let (first, connections) = (arrived(), host.status().connections);
    eventually("more arrives", Duration::from_secs(120), || {
        assert!(is_present(&server, &database, &host), "{:?}", host.status());
        let now = arrived();
        if now > first { Ok(()) } else { Err(now.to_string()) }
    });
    assert_eq!(host.status().connections, connections);
    not_slow(&server, &database);
    host.delivered(Duration::from_secs(60));
    is_mirrored(&server, &database, &host);
}

#[test]
fn a_missing_partition_of_a_day_is_created() {
    let (server, database, host) = hosted(&[]);
    server.psql(
        &database,
        "DO $$ DECLARE part regclass; BEGIN
            FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'observer.event'::regclass LOOP
                EXECUTE 'DROP TABLE ' || part;
            END LOOP;
         END $$",
    );
    host.churn(11, 3000);
    host.delivered(SOON);
    let counts = "SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM observer.events";
    assert_eq!(server.psql(&database, counts), "3000|3000|501|3500");
    assert_eq!(host.status().rejected, 0);
}

#[test]
fn a_reader_that_blocks_the_drop_of_a_partition_delays_no_host() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(11, 500);
    host.delivered(SOON);
    let keeper = format!("keeper_{database}");
    SERVER.psql(
        &database,
        &format!(
            "CREATE ROLE {keeper} LOGIN IN ROLE observer_writer;
             INSERT INTO observer.writers VALUES ('{keeper}', '{}');
             CREATE TABLE observer.event_20200229 PARTITION OF observer.event FOR VALUES FROM ('2020-02-29') TO ('2020-03-01')",
            uuid::Uuid::new_v4()
        ),
    );
    let old = || SERVER.psql(&database, "SELECT to_regclass('observer.event_20200229') IS NOT NULL");
    let mut reader = SERVER.session(&database, "postgres");
    reader.ask("BEGIN; SELECT count(*) FROM observer.events");
    let (over, tries) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _ended = Ended(&over);
        scope.spawn(|| {
            let mut keeper = SERVER.session(&database, &keeper);
            while !over.load(Ordering::Relaxed) {
                keeper.ask("SELECT observer.maintain()");
                tries.fetch_add(1, Ordering::Relaxed);
            }
        });
        let began = Instant::now();
        for _ in 0..60 {
            host.churn(11, 50);
            assert!(is_present(&SERVER, &database, &host), "{:?} after {:?}", host.status(), began.elapsed());
        }
        host.delivered(SOON);
        assert!(is_present(&SERVER, &database, &host));
        eventually("tries to drop the day", SOON, || match tries.load(Ordering::Relaxed) {
            5.. => Ok(()),
            tries => Err(format!("{tries}")),
        });
        assert_eq!(old(), "t", "it is read");
        reader.ask("COMMIT");
        eventually("the day is dropped", SOON, || match old().as_str() {
            "f" => Ok(()),
            there => Err(there.to_owned()),
        });
    });
    assert_eq!(host.status().connections, 1, "presence never ended");
    is_mirrored(&SERVER, &database, &host);
}
