//! The whole path from a process of this kernel through the daemon to a row in Postgres.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use observer_harness::postgres::Server;
use observer_harness::scene::{DATABASE, Scene};
use observer_harness::wall_clock::WallClock;
use observer_harness::{Daemon, Options, Pty, Puppet, Watch, eventually};
use serde_json::Value;

/// The limit for a change to reach the database on a machine that runs other tests.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_session_is_a_row_from_its_start_to_its_death() {
    let mut scene = Scene::new(&[]);
    let home = scene.home("alpha");
    let pty = Pty::open();
    let agent = scene.agent(&home, Some(&pty));
    let row = "SELECT name, pid, state, recorded_state, certain, comm, uid, username, cwd = home, as_of = now(), roots FROM observer.live";
    scene.gives(row, &format!("alpha|{}|live|live|t|agent|0|root|t|t|1", agent.pid), SOON);
    let listed = scene.daemon.list().pop().expect("a session");
    let of_row = |field: &str| scene.sql(&format!("SELECT {field} FROM observer.sessions"));
    assert_eq!(of_row("start_boottime_ns"), listed["start_boottime_ns"]);
    assert_eq!(of_row("tty"), listed["tty"]);
    assert_eq!(of_row("home"), listed["home"]);
    assert_eq!(of_row("boot_id"), listed["boot_id"]);
    // A dispatcher takes the key from the daemon to the database.
    let printed = scene.daemon.observer(&["pid", "--key", "alpha"]);
    let key = printed.text().trim_end();
    assert_eq!((printed.code, Some(key)), (Some(0), listed["key"].as_str()), "{printed:?}");
    let is_same = format!("SELECT observer.is_same(host, '{key}') FROM observer.hosts");
    scene.gives(&is_same, "t", SOON);
    // Or the other way round.
    assert_eq!(scene.sql("SELECT key FROM observer.live"), key);
    assert_eq!(scene.sql("SELECT key FROM observer.events WHERE kind = 'session_started'"), key);
    assert_eq!(scene.daemon.observer(&["pid", &scene.sql("SELECT key FROM observer.live")]).code, Some(0));
    let status = scene.daemon.status();
    assert_eq!(status["mirror"]["state"], "ok");
    assert_eq!((&status["mirror"]["lag_ms"], &status["mirror"]["last_error"]), (&0.into(), &Value::Null));
    assert!(status["mirror"]["generation"].as_u64().is_some_and(|generation| generation >= 1), "{status:#}");
    assert_eq!(status["mirror"]["host_id"], scene.sql("SELECT host_id FROM observer.hosts"));
    // A killed daemon makes its sessions unknown; the next daemon shows the same session again.
    scene.daemon.kill();
    scene.gives(
        "SELECT state, recorded_state FROM observer.sessions",
        "unknown|live",
        Duration::from_secs(2),
    );
    assert_eq!(scene.sql(&is_same), "", "nobody knows");
    scene.daemon.restart();
    scene.gives("SELECT state, pid FROM observer.sessions", &format!("live|{}", agent.pid), SOON);
    scene.gives(&is_same, "t", SOON);
    let pid = agent.pid;
    agent.killed(libc::SIGKILL);
    let death = "SELECT state, last_death_kind, last_death_signal FROM observer.sessions";
    scene.gives(death, "ended|signaled|9", SOON);
    scene.gives(&is_same, "f", SOON);
    scene.delivered();
    assert_eq!(
        scene.sql("SELECT kind, signal, pid, key FROM observer.deaths"),
        format!("signaled|9|{pid}|{key}")
    );
    let listed = scene.daemon.observer(&["list", "--ended", "--json"]).json();
    let death = listed.pointer("/0/death").expect("its death");
    let of = |path: &str| match death.pointer(path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let certificate = "SELECT sender_pid, sender_uid, sender_comm, sender_by, cpu_ms, cpu_children_ms, max_rss_bytes, processes FROM observer.deaths";
    let expected = [
        "/sender/pid",
        "/sender/uid",
        "/sender/comm",
        "/sender/by",
        "/cost/cpu_ms",
        "/cost/cpu_children_ms",
        "/cost/max_rss_bytes",
        "/cost/processes",
    ]
    .map(of);
    assert_eq!(scene.sql(certificate), expected.join("|"), "{death:#}");
    assert_eq!((of("/sender/pid"), of("/sender/by")), (std::process::id().to_string(), "kill".into()));
    let kinds = "SELECT string_agg(kind, ',' ORDER BY seq) FROM observer.events WHERE kind LIKE 'session_%' AND kind <> 'session_changed'";
    assert_eq!(scene.sql(kinds), "session_started,session_ended");
}

#[test]
fn the_sessions_of_a_starved_daemon_become_unknown_in_time_and_recover() {
    let scene = Scene::new(&[]);
    let home = scene.home("alpha");
    let agent = scene.agent(&home, None);
    let state = "SELECT state FROM observer.sessions";
    scene.gives(state, "live", SOON);
    scene.daemon.starve(true);
    // The limit is 15 s, and some time for the query.
    scene.gives(state, "unknown", Duration::from_secs(17));
    agent.killed(libc::SIGKILL);
    scene.daemon.starve(false);
    scene.gives("SELECT state, last_death_signal FROM observer.sessions", "ended|9", SOON);
    scene.delivered();
}

#[test]
fn a_database_that_hangs_delays_neither_the_map_nor_a_watcher() {
    let mut scene = Scene::new(&[]);
    let home = scene.home("first");
    let first = scene.agent(&home, None);
    scene.gives("SELECT count(*) FROM observer.live", "1", SOON);
    let watch = Watch::sessions(&scene.daemon);
    scene.server.pause();
    let mut slowest = Duration::ZERO;
    for at in 0..50 {
        let home = scene.home(&format!("h{at}"));
        let agent = scene.agent(&home, None);
        let asked = Instant::now();
        let rows = scene.daemon.list();
        slowest = slowest.max(asked.elapsed());
        let row = rows.iter().find(|row| row["home"].as_str() == home.to_str()).expect("it is listed");
        assert_eq!((&row["pid"], &row["state"]), (&agent.pid.into(), &"live".into()));
        agent.killed(libc::SIGKILL);
        assert_eq!(scene.daemon.list().len(), 1, "its death is known when asked");
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    lives_watched(&scene, &watch, "hanging");
    // After this too, nothing waits for the database; the entries that the database lacks are on the disk.
    eventually("the mirror has found out", Duration::from_secs(40), || {
        let mirror = scene.mirror();
        let found = mirror["state"] == "retrying" && mirror["pending"].as_u64() >= Some(600);
        if found { Ok(()) } else { Err(mirror.to_string()) }
    });
    assert!(scene.mirror()["lag_ms"].as_u64() > Some(0));
    scene.server.resume();
    scene.delivered();
    let counts = "SELECT count(*) FILTER (WHERE kind = 'session_started'), count(*) FILTER (WHERE kind = 'session_ended') FROM observer.events";
    assert_eq!(scene.sql(counts), "301|300");
    // The same holds while the database is stopped.
    scene.server.stop();
    lives_watched(&scene, &watch, "stopped");
    scene.server.start_again();
    scene.delivered();
    assert_eq!(scene.sql(counts), "551|550");
    assert_eq!(
        scene.sql("SELECT count(*), count(*) FILTER (WHERE state = 'live') FROM observer.sessions"),
        "115|1"
    );
    let deaths =
        "SELECT count(*), count(DISTINCT (pid, start_boottime_ns)) FROM observer.deaths WHERE signal = 9";
    assert_eq!(scene.sql(deaths), "550|550");
    watch.assert_no_holes();
    scene.daemon.assert_no_drift();
    first.killed(libc::SIGKILL);
}

/// Starts and kills 250 sessions, one after the other, in homes that begin with `name`, and asserts that the watcher
/// receives each change soon.
#[track_caller]
fn lives_watched(scene: &Scene, watch: &Watch, name: &str) {
    let mut slowest = Duration::ZERO;
    for at in 0..250 {
        let home = scene.home_of_life(name, at);
        let acted = Instant::now();
        let agent = scene.agent(&home, None);
        let pid = agent.pid;
        watch.wait_for("the start", |frame| frame.is("session_started", pid));
        slowest = slowest.max(acted.elapsed());
        let acted = Instant::now();
        agent.killed(libc::SIGKILL);
        watch.wait_for("the death", |frame| frame.is("session_ended", pid));
        slowest = slowest.max(acted.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn flags_override_the_configuration_file() {
    const LIMIT: u64 = 8 << 20;
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    let (url, journal) = (dir.path().join("url"), dir.path().join("journal"));
    std::fs::write(&url, server.url_tcp(DATABASE)).expect("write the connection string");
    let config = "[journal]\npath = \"/nowhere/journal\"\nmax_bytes = 4194304\nmax_age = \"1s\"\n";
    let flags = vec![
        "--database-url-file".into(),
        url.into(),
        "--journal-path".into(),
        journal.clone().into(),
        "--journal-max-bytes".into(),
        LIMIT.to_string().into(),
        "--journal-max-age".into(),
        "2d".into(),
        "--journal-argv".into(),
        "--mirror-argv".into(),
    ];
    let options = Options { config: Some(config.into()), flags, ..Options::default() };
    let mut scene = Scene::by_flags(server, "host=/nowhere user=u dbname=d", options);
    let port = scene.server.port();
    let home = scene.home("alpha");
    let agent = scene.agent(&home, None);
    scene.gives("SELECT name, pid FROM observer.live", &format!("alpha|{}", agent.pid), SOON);
    scene.delivered();
    let status = scene.daemon.status();
    assert_eq!(status["mirror"]["host"], format!("127.0.0.1 port {port}"));
    assert_eq!(status["journal"]["path"].as_str(), journal.to_str());
    assert_eq!(status["journal"]["limit_bytes"], LIMIT);
    let listed = scene.daemon.list().pop().expect("a session");
    let argv: Value =
        serde_json::from_str(&scene.sql("SELECT to_json(argv) FROM observer.live")).expect("JSON");
    assert!(argv.as_array().is_some_and(|argv| argv.len() > 1), "{argv}");
    assert_eq!(argv, listed["argv"]);
    // The entries that wait for the database are older than the configuration allows; a daemon checks their
    // age when it starts.
    scene.server.stop();
    for at in 0..500 {
        scene.agent(&scene.home_of_life("churn", at), None).killed(libc::SIGKILL);
    }
    eventually("it waits, and for how long", SOON, || {
        let journal = scene.daemon.status()["journal"].clone();
        if journal["oldest_undelivered_ms"].as_u64() >= Some(2000) {
            Ok(())
        } else {
            Err(journal.to_string())
        }
    });
    assert_eq!(scene.daemon.stop(), Some(0));
    scene.daemon.restart();
    scene.server.start_again();
    scene.delivered();
    eventually("nothing waits", SOON, || {
        match scene.daemon.status()["journal"]["oldest_undelivered_ms"].clone() {
            Value::Null => Ok(()),
            age => Err(age.to_string()),
        }
    });
    let deaths =
        "SELECT count(*), count(DISTINCT (pid, start_boottime_ns)) FROM observer.deaths WHERE signal = 9";
    assert_eq!(scene.sql(deaths), "500|500");
    let gaps = "SELECT string_agg(detail ->> 'reason', ',') FROM observer.events WHERE kind = 'gap'";
    assert_eq!(scene.sql(gaps), "not_running");
    agent.killed(libc::SIGKILL);
}

#[test]
fn a_daemon_without_its_database_runs_and_reports_it_and_stops_in_time() {
    let mut scene = Scene::new(&[]);
    scene.server.stop();
    let mut daemon = {
        let home = scene.home("alpha");
        let _agent = scene.agent(&home, None);
        let config = "[mirror]\ndatabase_url = \"host=/nowhere user=u dbname=d\"\n";
        Daemon::start(&Options { config: Some(config.into()), ..Options::default() })
    };
    let mirror = eventually("it says so", SOON, || {
        let mirror = daemon.status()["mirror"].clone();
        if mirror["state"] == "retrying" { Ok(mirror) } else { Err(mirror.to_string()) }
    });
    assert!(mirror["last_error"].as_str().is_some_and(|error| error.contains("/nowhere")), "{mirror}");
    assert!(mirror["failures"].as_u64() >= Some(1) && mirror["generation"].is_null(), "{mirror}");
    let words = String::from_utf8(daemon.observer(&["status"]).stdout).expect("text");
    assert!(words.contains("mirror   retrying: /nowhere"), "{words}");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn hostile_names_of_this_kernel_arrive_as_they_are_listed() {
    let scene = Scene::new(&[]);
    let names: [&[u8]; 6] = [
        b"not \xff\xc3\x28 UTF-8 \x80",
        b"quote'\"\\ $$ E'\\x27' ;DROP SCHEMA observer CASCADE;--",
        b"line\nfeed\ttab\r\x1b[31m",
        b"{curly,\"quoted\",NULL}",
        "\u{202e}\u{10feff}\u{feff}\u{fffd}".as_bytes(),
        &[b'x'; 255],
    ];
    let mut agents: Vec<Puppet> = names
        .iter()
        .map(|name| scene.agent(&scene.fixture.mkdir(Path::new("homes").join(OsStr::from_bytes(name))), None))
        .collect();
    // The path is as deep as one chdir can reach.
    let deep = scene.home(&"d".repeat(100)).join(vec!["e".repeat(199); 18].join("/"));
    std::fs::create_dir_all(&deep).expect("make it");
    assert!((3_650..4_096).contains(&deep.as_os_str().len()), "{}", deep.as_os_str().len());
    let mut deepest = scene.agent(&scene.home(&"d".repeat(100)), None);
    scene.gives("SELECT count(*) FROM observer.live", "7", SOON);
    deepest.chdir(&deep);
    scene.gives(&format!("SELECT count(*) FROM observer.live WHERE cwd = '{}'", deep.display()), "1", SOON);
    let columns = ["home", "name", "cwd", "pid", "comm", "state"];
    let rows = format!(
        "SELECT jsonb_agg(jsonb_build_array({}) ORDER BY pid) FROM observer.live",
        columns.join(", ")
    );
    let rows: Vec<Value> = serde_json::from_str(&scene.sql(&rows)).expect("JSON");
    let mut listed = scene.daemon.list();
    listed.sort_by_key(|session| session["pid"].as_u64());
    let listed: Vec<Value> =
        listed.iter().map(|session| columns.map(|column| session[column].clone()).to_vec().into()).collect();
    assert_eq!(rows, listed);
    agents.push(deepest);
    for agent in agents {
        agent.killed(libc::SIGKILL);
    }
    scene.gives("SELECT count(*), count(DISTINCT home) FROM observer.deaths WHERE signal = 9", "7|7", SOON);
    scene.delivered();
}

#[test]
fn a_process_that_left_one_home_for_another_dies_once() {
    let scene = Scene::new(&[]);
    let [left, went] = ["left", "went"].map(|name| scene.home(name));
    let mut agent = scene.agent(&left, None);
    scene.gives("SELECT state FROM observer.sessions", "live", SOON);
    agent.chdir(&went);
    let states = "SELECT string_agg(concat_ws(' ', name, state, detail ->> 'end_reason', last_death_signal), ',' ORDER BY name)
        FROM observer.sessions";
    scene.gives(states, "left left", SOON);
    // One process stands for one session: it settles in the other home, and that it moved is no death.
    scene.gives(states, "left ended moved,went live", SOON);
    agent.killed(libc::SIGKILL);
    scene.gives(states, "left ended moved,went ended died 9", SOON);
    assert_eq!(scene.sql("SELECT name, signal FROM observer.deaths"), "went|9");
    // A session may also die outside every home.
    let mut agent = scene.agent(&left, None);
    agent.chdir(&scene.fixture.mkdir("elsewhere"));
    scene.gives("SELECT state FROM observer.sessions WHERE name = 'left'", "left", SOON);
    agent.killed(libc::SIGKILL);
    scene.gives("SELECT string_agg(name, ',' ORDER BY ended_at) FROM observer.deaths", "went,left", SOON);
    scene.delivered();
}

#[test]
fn setting_the_wall_clock_loses_nothing_and_changes_no_start_time() {
    const YEAR: i64 = 365 * 86_400;
    const LIVES: usize = 250;
    let clock = WallClock::new();
    let mut scene = Scene::with("", Options { environment: clock.environment(), ..Options::default() });
    let stays = scene.agent(&scene.home("stays"), None);
    let row = "SELECT name, pid, start_boottime_ns, started_at, since, state FROM observer.live";
    scene.gives(
        &row.replace("name, pid, start_boottime_ns, started_at, since, state", "count(*)"),
        "1",
        SOON,
    );
    let first = scene.sql(row);
    let now: i64 = scene.sql("SELECT extract(epoch FROM now())::bigint").parse().expect("a number");
    let steps = [(1, false), (-2, false), (3, true), (0, true), (-1, false)];
    for (round, (years, restarts)) in (1..).zip(steps) {
        clock.step_to(years * YEAR);
        if restarts {
            assert_eq!(scene.daemon.stop(), Some(0));
            scene.daemon.restart();
        }
        for at in 0..LIVES {
            let home = scene.home_of_life(&format!("churn{round}"), at);
            scene.agent(&home, None).killed(libc::SIGKILL);
        }
        scene.delivered();
        assert_eq!(scene.sql(row), first, "{years} years");
        // Each entry is dated by the clock as it was set at that time: a host's history has no other clock.
        let deaths = format!(
            "SELECT count(*), count(DISTINCT (pid, start_boottime_ns)), count(*) FILTER (WHERE signal = 9),
                bool_and(abs(extract(epoch FROM ended_at) - {}) < 600), bool_and(started_at <= ended_at),
                bool_and(lifetime_ms < 60000)
             FROM observer.deaths WHERE name LIKE 'churn{round}-%'",
            now + years * YEAR
        );
        assert_eq!(scene.sql(&deaths), format!("{LIVES}|{LIVES}|{LIVES}|t|t|t"), "{years} years");
    }
    let gaps = "SELECT count(*), count(*) FILTER (WHERE detail ->> 'reason' = 'not_running') FROM observer.events WHERE kind = 'gap'";
    assert_eq!(scene.sql(gaps), "2|2", "the absences, and nothing else");
    let arrival = format!(
        "SELECT bool_and(extract(epoch FROM received_at) BETWEEN {now} - 600 AND {now} + 600) FROM observer.events"
    );
    assert_eq!(scene.sql(&arrival), "t");
    scene.daemon.assert_no_drift();
    stays.killed(libc::SIGKILL);
}

#[test]
fn a_lost_or_restored_journal_removes_nothing_from_the_database_and_duplicates_nothing() {
    const LIVES: usize = 300;
    let mut scene = Scene::new(&[]);
    let agent = scene.agent(&scene.home("stays"), None);
    let churn = |scene: &Scene, name: &str| {
        for at in 0..LIVES {
            scene.agent(&scene.home_of_life(name, at), None).killed(libc::SIGKILL);
        }
        scene.delivered();
    };
    let lives = |scene: &Scene| {
        scene.sql("SELECT count(*), count(DISTINCT (pid, start_boottime_ns)) FROM observer.deaths WHERE home LIKE '%/churn%'")
    };
    churn(&scene, "churn-a");
    assert_eq!(scene.daemon.stop(), Some(0));
    let files =
        ["", "-wal", "-shm"].map(|part| scene.daemon.state_dir().join(format!("journal.sqlite{part}")));
    let lose = || files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    let yesterday = files.each_ref().map(std::fs::read);
    scene.daemon.restart();
    churn(&scene, "churn-b");
    assert_eq!(scene.daemon.stop(), Some(0));
    lose();
    for (file, bytes) in files.iter().zip(yesterday) {
        bytes.map_or_else(|_| Ok(()), |bytes| std::fs::write(file, bytes)).expect("put it back");
    }
    scene.daemon.restart();
    churn(&scene, "churn-c");
    assert_eq!(scene.daemon.stop(), Some(0));
    lose();
    scene.daemon.restart();
    churn(&scene, "churn-d");
    assert_eq!(lives(&scene), format!("{0}|{0}", 4 * LIVES), "each death is one row");
    let begins = "SELECT detail ->> 'reason' FROM observer.events WHERE seq = 1 ORDER BY received_at";
    assert_eq!(scene.sql(begins), "\nrestored\nlost");
    scene.gives("SELECT name, pid FROM observer.live", &format!("stays|{}", agent.pid), SOON);
}
