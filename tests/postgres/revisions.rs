//! Revisions of the schema: what a later one adds, and databases and daemons of different revisions.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use observer::mirror::schema::{MIGRATIONS, REKEYED, SchemaVersion, print};
use observer_harness::postgres::Server;
use observer_harness::scene::{DATABASE, Scene};
use observer_harness::{Daemon, Fixture, Options, Pty, skip};
use serde_json::Value;

use crate::schema::{applied, apply, dump, observer, present, server, why_no_dump, writer};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const OTHER: &str = "7d444840-9dc0-5ad3-9e1b-25f0a5b8d2a1";
/// The limit for a change to reach the database on a machine that runs other tests.
const SOON: Duration = Duration::from_secs(10);

/// Makes the schema of version 1.0.
pub fn make_1_0(server: &Server, database: &str) {
    let first = MIGRATIONS.first().expect("there is one");
    assert_eq!(first.to, SchemaVersion::new(1, 0));
    server.psql(database, first.script);
}

/// The columns that 1.1 adds to `sessions` and `live`.
const ADDED: &str = "program, others, tty_dev, pane_stale, owner, is_foreign, instance";
/// How daemons of 1.0 check the schema: the result has to be 1.
const CHECK_OF_1_0: &str = "SELECT coalesce(pg_catalog.max(version), 0) FROM observer.migration";

#[test]
fn a_database_of_1_0_is_brought_to_1_1_under_a_daemon_and_keeps_its_rows_and_rights() {
    let database = server().database();
    make_1_0(server(), &database);
    writer(&database, "host_of_1_0", HOST);
    server().psql(&database, "CREATE ROLE reader_of_1_0 LOGIN IN ROLE observer_reader");
    let mut daemon = server().session(&database, "host_of_1_0");
    let number = present(&mut daemon, HOST);
    let row = |home: &str, uid: &str, detail: &str| {
        format!(
            "INSERT INTO observer.session (host_no, home_id, home, state, uid, certain, detail)
             VALUES ({number}, sha256('{home}'), '{home}', 'live', {uid}, true, '{detail}')
             ON CONFLICT (host_no, home_id) DO UPDATE SET detail = excluded.detail"
        )
    };
    daemon.ask(&row("/a", "7", r#"{"program": "codex", "others": [], "pane_stale": false}"#));
    let rows = "SELECT home, home_id, state, detail FROM observer.session ORDER BY home";
    let before = server().psql(&database, rows);

    let url = server().url(&database);
    let result = apply(&url);
    let brought = "brought the schema observer from version 1.0 to 1.8\n";
    assert_eq!((result.code, result.text()), (Some(0), brought), "{result:?}");
    assert_eq!(apply(&url).text(), "the schema observer is at version 1.8 already\n");
    assert_eq!(server().psql(&database, rows), before);
    assert_eq!(
        server().psql(&database, "SELECT version, revision FROM observer.migration ORDER BY 1, 2"),
        "1|0\n1|1\n1|2\n1|3\n1|4\n1|5\n1|6\n1|7\n1|8"
    );

    // The daemon writes on, and the next one of its version finds the version that it knows.
    daemon.ask(&row("/b", "8", r#"{"pid": 8}"#));
    assert_eq!(daemon.ask(CHECK_OF_1_0), "1");
    assert_eq!(daemon.ask("SELECT observer.maintain()"), "");
    let as_reader = |statement: &str| server().try_psql_as(&database, "reader_of_1_0", statement);
    let read = as_reader(&format!("SELECT home, state, {ADDED} FROM observer.live ORDER BY home"));
    assert_eq!(read.text(), "/a|live|codex|[]||f|||\n/b|live|||||||\n", "{read:?}");
    for refused in [format!("SELECT observer.rekey_sessions({number})"), "DELETE FROM observer.live".into()] {
        assert_ne!(as_reader(&refused).code, Some(0), "{refused}");
    }
    if let Some(reason) = why_no_dump() {
        skip!("what is in the schema is not compared: {reason}");
    }
    let whole = applied();
    assert_eq!(without_rows(dump(&database).text()), without_rows(dump(&whole).text()));
}

/// A dump without the rows of the tables.
fn without_rows(dump: &str) -> Vec<&str> {
    let mut is_row = false;
    let of_schema = |line: &&str| {
        let was_row = is_row;
        is_row = (is_row && *line != "\\.") || line.starts_with("COPY ");
        !was_row && !line.contains("setval")
    };
    dump.lines().filter(of_schema).collect()
}

#[test]
fn the_script_from_1_0_is_that_of_1_and_leads_to_the_same_schema() {
    let database = server().database();
    make_1_0(server(), &database);
    let script = observer(&["schema", "print", "--from", "1.0"]);
    assert_eq!(script.code, Some(0), "{script:?}");
    assert_eq!(observer(&["schema", "print", "--from", "1"]).text(), script.text());
    server().psql(&database, script.text());
    assert_eq!(script.text(), print(SchemaVersion::new(1, 0)).expect("it is known"));
    for unknown in ["1.9", "2", "one"] {
        let result = observer(&["schema", "print", "--from", unknown]);
        assert_eq!(result.code, Some(2), "{unknown}: {result:?}");
    }
    if let Some(reason) = why_no_dump() {
        skip!("what is in the schemas is not compared: {reason}");
    }
    assert_eq!(dump(&database).text(), dump(&applied()).text());
}

/// Readers whose transactions read two views each, in every order, until `end`.
fn read_until(end: &AtomicBool, database: &str, views: [&str; 2]) {
    let read = format!(
        "BEGIN; SELECT count(*) FROM observer.{}; SELECT pg_sleep(0.02); SELECT count(*) FROM observer.{}; COMMIT",
        views[0], views[1]
    );
    while !end.load(Ordering::Relaxed) {
        let result = server().try_psql_as(database, "postgres", &read);
        assert_eq!(result.code, Some(0), "{views:?}: {result:?}");
    }
}

#[test]
fn a_migration_and_those_who_read_several_views_meanwhile_end_in_no_deadlock() {
    let database = server().database();
    make_1_0(server(), &database);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for views in [["live", "events"], ["events", "live"], ["deaths", "hosts"], ["sessions", "deaths"]] {
            let (end, database) = (&end, &database);
            scope.spawn(move || read_until(end, database, views));
        }
        let result = apply(&server().url(&database));
        end.store(true, Ordering::Relaxed);
        assert_eq!(result.code, Some(0), "{result:?}");
    });
}

#[test]
fn a_migration_that_waits_for_a_reader_says_so_and_delays_others_for_moments_only() {
    let database = server().database();
    make_1_0(server(), &database);
    let mut reader = server().session(&database, "postgres");
    reader.ask("BEGIN; SELECT count(*) FROM observer.live");
    let url = server().url(&database);
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| apply(&url));
        while !applied.is_finished() {
            let result = server().try_psql_as(
                &database,
                "postgres",
                "SET statement_timeout = '5s'; SELECT count(*) FROM observer.live",
            );
            assert_eq!(result.code, Some(0), "{result:?}");
        }
        let result = applied.join().expect("it returns");
        assert_eq!(result.code, Some(4), "{result:?}");
        assert!(
            result.stderr.contains("nothing was changed") && result.stderr.contains("pg_locks"),
            "{result:?}"
        );
    });
    reader.ask("COMMIT");
    assert_eq!(apply(&url).code, Some(0));
}

#[test]
fn a_row_that_is_not_as_daemons_write_it_hides_its_own_values_only() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    let rows = [
        (
            r#"{"program": "codex", "others": [{"pid": 7}], "tty_dev": "136:3", "pane_stale": true, "owner": 1000, "foreign": true, "instance": 2}"#,
            r#"codex|[{"pid": 7}]|136:3|t|1000|t|2"#,
        ),
        (
            r#"{"program": null, "others": [], "tty_dev": null, "pane_stale": false, "owner": null, "foreign": null}"#,
            "|[]||f|||",
        ),
        (r#"{"owner": 4294967295, "foreign": false}"#, "||||4294967295|f|"),
        (r#"{"owner": 4294967296, "foreign": 1}"#, "||||||"),
        (r#"{"owner": -1, "foreign": "true", "pane_stale": "yes", "others": {"pid": 7}}"#, "||||||"),
        (r#"{"owner": 1e300, "pane_stale": 1, "others": "none"}"#, "||||||"),
        (r#"{"owner": "1000", "others": null, "pane_stale": []}"#, "||||||"),
        (r#"{"owner": [5], "foreign": {}}"#, "||||||"),
        (r#"{"owner": true, "foreign": [true]}"#, "||||||"),
        (r#"{"instance": "2", "owner": -2}"#, "||||||"),
        (r#"{"instance": 4294967296}"#, "||||||"),
        (r#"{"owner": [], "program": 7}"#, "7||||||"),
        ("{}", "||||||"),
        ("[]", "||||||"),
        ("7", "||||||"),
        ("null", "||||||"),
        (r#""program""#, "||||||"),
    ];
    for (at, (detail, _)) in rows.iter().enumerate() {
        daemon.ask(&format!(
            "INSERT INTO observer.session (host_no, home_id, home, state, certain, detail)
             VALUES ({number}, 'h{at:02}', 'h{at:02}', 'live', true, '{detail}')"
        ));
    }
    let expected: Vec<_> = rows.iter().map(|(_, expected)| *expected).collect();
    for view in ["sessions", "live"] {
        let found = server().psql(&database, &format!("SELECT {ADDED} FROM observer.{view} ORDER BY home"));
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{view}");
    }
    // The names need no quotes, and conditions may use them.
    let by_name =
        "SELECT count(*) FROM observer.sessions WHERE is_foreign AND owner = 1000 AND NOT certain IS NULL";
    assert_eq!(server().psql(&database, by_name), "1");

    let events = [
        (r#"{"changed": {"state": ["live", "left"]}}"#, r#"{"state": ["live", "left"]}"#),
        (r#"{"changed": {}}"#, "{}"),
        (r#"{"changed": null}"#, ""),
        (r#"{"changed": [1]}"#, ""),
        (r#"{"changed": "x"}"#, ""),
        ("{}", ""),
        ("[]", ""),
    ];
    for (seq, (detail, expected)) in events.iter().enumerate() {
        daemon.ask(&format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, kind, detail)
             VALUES ({number}, '{HOST}', {seq}, now(), 'session_changed', '{detail}')"
        ));
        let changed = format!("SELECT changed FROM observer.events WHERE seq = {seq}");
        assert_eq!(server().psql(&database, &changed), *expected, "{detail}");
    }
}

/// Asserts that columns of the only session that later revisions added are those of its JSON.
#[track_caller]
fn has_columns_of(scene: &Scene, listed: &Value) {
    let row = "SELECT json_build_array(program, others, tty_dev, pane_stale, owner, is_foreign, instance, key) FROM observer.live";
    let row: Value = serde_json::from_str(&scene.sql(row)).expect("JSON");
    let fields = ["program", "others", "tty_dev", "pane_stale", "owner", "foreign", "instance", "key"];
    assert_eq!(row, Value::from(fields.map(|field| listed[field].clone()).to_vec()));
}

#[test]
fn a_real_session_has_the_columns_and_its_changes_too() {
    let scene = Scene::new(&[]);
    let home = scene.home("alpha");
    let pty = Pty::open();
    let mut agent = scene.agent(&home, Some(&pty));
    scene.gives("SELECT pid, tty_dev IS NOT NULL FROM observer.live", &format!("{}|t", agent.pid), SOON);
    let other = scene.agent(&home, None);
    scene.gives("SELECT roots, others -> 0 ->> 'pid' FROM observer.live", &format!("2|{}", other.pid), SOON);
    scene.delivered();
    let listed = scene.daemon.list().pop().expect("a session");
    assert_eq!((&listed["program"], &listed["pane_stale"]), (&"agent".into(), &false.into()), "{listed}");
    has_columns_of(&scene, &listed);
    other.killed(libc::SIGKILL);
    scene.gives("SELECT roots FROM observer.live", "1", SOON);
    let elsewhere = scene.fixture.mkdir("elsewhere");
    agent.chdir(&elsewhere);
    let changed = "SELECT changed -> 'state' FROM observer.events WHERE changed ? 'state'";
    scene.gives(changed, r#"["live", "left"]"#, SOON);
    assert_eq!(
        scene.sql(
            "SELECT count(*) FROM observer.events WHERE kind <> 'session_changed' AND changed IS NOT NULL"
        ),
        "0"
    );
}

#[test]
fn a_daemon_mirrors_to_1_0_and_says_what_is_missing_and_apply_adds_it_meanwhile() {
    let server = Server::start(&[]);
    make_1_0(&server, DATABASE);
    let url = server.url(DATABASE);
    let fixture = Rc::new(Fixture::new());
    let config = format!(
        "[mirror]\ndatabase_url = \"{url}\"\n[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ncomm = [\"agent\"]\ntty = \"any\"\n",
        fixture.mkdir("homes").display()
    );
    let daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
    let mut scene = Scene { fixture, daemon, server };
    let agent = scene.agent(&scene.home("alpha"), None);
    let row = "SELECT s.state, s.pid, octet_length(home_id) FROM observer.sessions AS s JOIN observer.session USING (home)";
    scene.gives(row, &format!("live|{}|32", agent.pid), SOON);
    let warnings = |scene: &Scene| {
        let log = std::fs::read_to_string(scene.daemon.log()).expect("its log");
        log.lines().filter(|line| line.contains("schema is at version 1.0")).count()
    };
    assert_eq!(warnings(&scene), 1);

    let result = apply(&scene.server.url(DATABASE));
    assert_eq!(result.code, Some(0), "{result:?}");
    has_columns_of(&scene, &scene.daemon.list().pop().expect("a session"));
    scene.gives(row, &format!("live|{}|32", agent.pid), SOON);
    let second = scene.agent(&scene.home("beta"), None);
    scene.gives("SELECT count(*) FROM observer.live", "2", SOON);
    second.killed(libc::SIGKILL);
    scene.gives("SELECT count(*) FROM observer.live", "1", SOON);

    assert_eq!(scene.daemon.stop(), Some(0));
    scene.daemon.restart();
    let rows = "SELECT string_agg(concat_ws(' ', name, state, octet_length(home_id), last_death_signal), ',' ORDER BY name)
        FROM observer.session";
    scene.gives(rows, "alpha live 36,beta ended 36 9", SOON);
    assert_eq!(warnings(&scene), 1, "the latest lacks nothing");
    scene.delivered();
    agent.killed(libc::SIGKILL);
}

#[test]
fn only_the_writer_of_a_host_changes_the_keys_of_its_sessions() {
    assert_eq!(REKEYED, SchemaVersion::new(1, 1));
    let database = applied();
    writer(&database, "host_rekeys", HOST);
    writer(&database, "host_stays", OTHER);
    let mut daemon = server().session(&database, "host_rekeys");
    let (mine, theirs) =
        (present(&mut daemon, HOST), present(&mut server().session(&database, "host_stays"), OTHER));
    for number in [&mine, &theirs] {
        server().psql(
            &database,
            &format!(
                "INSERT INTO observer.session (host_no, home_id, home, state, uid, certain, detail)
                 SELECT {number}, sha256('/a'), '/a', 'live', uid, true, '{{}}' FROM (VALUES (4000000000)) AS v(uid)"
            ),
        );
    }
    let refused = [
        ("host_rekeys", &theirs, "not its host"),
        ("host_rekeys", &mine, "another connection of the same login"),
        ("host_stays", &mine, "another login"),
    ];
    for (login, number, why) in refused {
        let result =
            server().try_psql_as(&database, login, &format!("SELECT observer.rekey_sessions({number})"));
        assert!(result.stderr.contains("only the writer of a host"), "{why}: {result:?}");
    }
    assert_eq!(daemon.ask(&format!("SELECT observer.rekey_sessions({mine})")), "");
    let keys = format!(
        "SELECT host_no = {mine}, home_id = sha256('/a') || '\\xee6b2800'::bytea, octet_length(home_id)
         FROM observer.session ORDER BY 1"
    );
    assert_eq!(server().psql(&database, &keys), "f|f|32\nt|t|36");
}
