//! The schema that `observer schema` creates, tested as its readers and writers use it.

use std::process::Command;
use std::time::Duration;

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;
use observer_harness::postgres::{self, Server};
use observer_harness::{eventually, skip};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const OTHER: &str = "7d444840-9dc0-5ad3-9e1b-25f0a5b8d2a1";

/// Returns the server for all tests that do not stop it.
pub fn server() -> &'static Server {
    Server::shared()
}

pub fn observer(args: &[&str]) -> CommandResult {
    CommandResult::of(Command::new(product()).args(args))
}

pub fn apply(url: &str) -> CommandResult {
    observer(&["schema", "apply", "--database-url", url])
}

/// Creates a database with the schema and returns its name.
#[track_caller]
pub fn applied() -> String {
    let database = server().database();
    apply_to(server(), &database);
    database
}

#[track_caller]
pub fn apply_to(server: &Server, database: &str) {
    let result = apply(&server.url(database));
    assert_eq!(result.code, Some(0), "{result:?}");
}

/// Creates a login that may write this host's rows.
pub fn writer(database: &str, login: &str, host_id: &str) {
    server().psql(
        database,
        &format!(
            "CREATE ROLE {login} LOGIN IN ROLE observer_writer;
             INSERT INTO observer.writers VALUES ('{login}', '{host_id}')"
        ),
    );
}

/// Inserts the host's row and makes the host present by the advisory lock of this connection. Returns the
/// host's number.
pub fn present(session: &mut observer_harness::postgres::SqlSession, host_id: &str) -> String {
    session.ask(&format!(
        "INSERT INTO observer.host (host_id, host) VALUES ('{host_id}', 'h') ON CONFLICT DO NOTHING"
    ));
    let number = session.ask(&format!("SELECT host_no FROM observer.host WHERE host_id = '{host_id}'"));
    assert_eq!(session.ask(&format!("SELECT pg_try_advisory_lock(1868723062, {number})")), "t");
    session.ask(&format!(
        "UPDATE observer.host SET backend_pid = pg_backend_pid(), certain = true, caught_up = true, last_commit_at = now()
         WHERE host_no = {number}"
    ));
    number
}

/// Returns the statement that inserts a session of a host in this state.
fn session_row(number: &str, home: &str, state: &str) -> String {
    format!(
        "INSERT INTO observer.session (host_no, home_id, home, name, state, certain, starts, detail)
         VALUES ({number}, '\\x{}', '{home}', '{home}', '{state}', true,
             ARRAY[now() - interval '25 hours', now() - interval '23 hours', now()], '{{}}')",
        home.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()
    )
}

#[test]
fn applying_the_schema_again_changes_nothing() {
    let database = server().database();
    let url = server().url(&database);
    let first = apply(&url);
    assert_eq!(
        (first.code, first.text()),
        (Some(0), "created the schema observer, version 1.8\n"),
        "{first:?}"
    );
    let dump = || why_no_dump().is_none().then(|| String::from_utf8(dump(&database).stdout).expect("text"));
    let made = dump();
    let again = apply(&url);
    assert_eq!(
        (again.code, again.text()),
        (Some(0), "the schema observer is at version 1.8 already\n"),
        "{again:?}"
    );
    assert_eq!(dump(), made);
    if let Some(reason) = why_no_dump() {
        skip!("what is in the schema is not compared: {reason}");
    }
}

/// Says why what is in two schemas cannot be compared.
pub fn why_no_dump() -> Option<String> {
    postgres::why_unusable("pg_dump")
}

/// Returns everything in the schema as SQL.
pub fn dump(database: &str) -> CommandResult {
    let result = CommandResult::of(server().program("pg_dump").args([
        "--schema=observer",
        "-d",
        &server().url(database),
    ]));
    assert_eq!(result.code, Some(0), "{result:?}");
    // Each dump contains a random word, and the time and login of the schema's application.
    let text = result
        .text()
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    let text: Vec<_> = text.filter(|line| !line.starts_with("1\t20")).collect();
    CommandResult { stdout: text.join("\n").into_bytes(), ..result }
}

#[test]
fn the_printed_script_makes_the_same_schema() {
    let (printed, database) = (server().database(), applied());
    let script = observer(&["schema", "print"]);
    assert_eq!(script.code, Some(0));
    let result = server().try_psql(&printed, script.text());
    assert_eq!(result.code, Some(0), "{result:?}");
    assert_eq!(apply(&server().url(&printed)).text(), "the schema observer is at version 1.8 already\n");
    if let Some(reason) = why_no_dump() {
        skip!("what is in the schemas is not compared: {reason}");
    }
    assert_eq!(dump(&printed).text(), dump(&database).text());
}

#[test]
fn two_concurrent_applications_make_one_schema() {
    let url = server().url(&server().database());
    let result = std::thread::scope(|scope| {
        let both = [scope.spawn(|| apply(&url)), scope.spawn(|| apply(&url))];
        both.map(|one| one.join().expect("it ends"))
    });
    let mut texts = result.each_ref().map(|result| result.text().to_owned());
    texts.sort();
    assert_eq!(
        texts,
        ["created the schema observer, version 1.8\n", "the schema observer is at version 1.8 already\n"],
        "{result:?}"
    );
}

#[test]
fn a_database_owner_who_is_no_superuser_can_apply_the_schema_and_its_hosts_can_write() {
    // This test has its own server: from Postgres 16 on, a login that is not a superuser may grant only roles
    // that it created.
    let server = Server::start(&[]);
    let database = server.database();
    server.psql(
        &database,
        &format!("CREATE ROLE plain_owner LOGIN CREATEROLE; ALTER DATABASE {database} OWNER TO plain_owner"),
    );
    let result = apply(&server.url_as(&database, "plain_owner"));
    assert_eq!(result.code, Some(0), "{result:?}");
    let grant = format!(
        "CREATE ROLE host_of_plain LOGIN IN ROLE observer_writer; INSERT INTO observer.writers VALUES ('host_of_plain', '{HOST}')"
    );
    let result = server.try_psql_as(&database, "plain_owner", &grant);
    assert_eq!(result.code, Some(0), "{result:?}");
    let mut host = server.session(&database, "host_of_plain");
    let number = present(&mut host, HOST);
    host.ask(&session_row(&number, "a", "live"));
    assert_eq!(server.psql(&database, "SELECT state FROM observer.live"), "live");
    let yesterday = "event_".to_owned()
        + &server.psql(&database, "SELECT to_char((now() AT TIME ZONE 'UTC')::date - 1, 'YYYYMMDD')");
    server.psql(&database, &format!("DROP TABLE observer_days.{yesterday}"));
    assert_eq!(host.ask("SELECT observer.maintain()"), "");
    let owner = format!("SELECT tableowner FROM pg_tables WHERE tablename = '{yesterday}'");
    assert_eq!(server.psql(&database, &owner), "plain_owner");
}

#[tokio::test]
async fn pending_migrations_are_applied_all_or_none() {
    use observer::mirror::schema::{
        AppliedVersions, LATEST, MIGRATIONS, SchemaMigration, SchemaVersion, apply, check,
    };
    let database = server().database();
    let config = server().url(&database);
    let (mut client, connection) =
        tokio_postgres::connect(&config, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    const ADDED: SchemaMigration = SchemaMigration {
        to: SchemaVersion::new(1, 8),
        script: "INSERT INTO observer.migration (version, revision) VALUES (1, 8);",
    };
    const SECOND: SchemaMigration = SchemaMigration {
        to: SchemaVersion::new(2, 0),
        script: "CREATE TABLE observer.second (x int); INSERT INTO observer.migration (version) VALUES (2);",
    };
    const BROKEN: SchemaMigration = SchemaMigration {
        to: SchemaVersion::new(3, 0),
        script: "INSERT INTO observer.second VALUES (1); SELECT 1 / 0;",
    };
    let (later, second) = (ADDED.to, SECOND.to);
    let added = [MIGRATIONS, &[ADDED]].concat();
    let two = [&*added, &[SECOND]].concat();
    let versions = |from, to| AppliedVersions { from, to };
    assert_eq!(
        apply(&mut client, MIGRATIONS).await.expect("the first"),
        versions(SchemaVersion::NONE, LATEST)
    );
    assert_eq!(check(&client).await.expect("the latest"), LATEST);
    server().psql(&database, "INSERT INTO observer.host (host_id, host) VALUES (gen_random_uuid(), 'stays')");
    let three = [&*two, &[BROKEN]].concat();
    let failed = format!("{:#}", apply(&mut client, &three).await.expect_err("the third fails"));
    assert!(failed.contains("to version 3.0; nothing was changed") && failed.contains("22012"), "{failed}");
    assert_eq!(server().psql(&database, "SELECT to_regclass('observer.second') IS NULL"), "t");
    assert_eq!(apply(&mut client, &added).await.expect("a revision"), versions(LATEST, later));
    // The previous program leaves the later revision as it is, and so does its mirror.
    assert_eq!(apply(&mut client, MIGRATIONS).await.expect("a later revision"), versions(later, later));
    assert_eq!(check(&client).await.expect("a later revision"), later);
    assert_eq!(apply(&mut client, &two).await.expect("the second"), versions(later, second));
    assert_eq!(apply(&mut client, &two).await.expect("again"), versions(second, second));
    assert_eq!(
        server()
            .psql(&database, "SELECT host, (SELECT max(version) FROM observer.migration) FROM observer.host"),
        "stays|2"
    );
    // It refuses the newer version.
    let newer = format!("{:#}", apply(&mut client, MIGRATIONS).await.expect_err("newer"));
    assert!(newer.contains("version 2") && newer.contains("upgrade observer"), "{newer}");
    let newer = check(&client).await.expect_err("newer");
    assert!(newer.message.contains("upgrade observer"), "{newer}");
}

#[test]
fn a_schema_that_cannot_be_applied_is_an_error_with_the_next_step_and_changes_nothing() {
    let newer = applied();
    server().psql(&newer, "INSERT INTO observer.migration (version) VALUES (99)");
    let taken = server().database();
    server().psql(&taken, "CREATE SCHEMA observer; CREATE TABLE observer.mine (x int)");
    let latin = "latin";
    server().psql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let nobody = server().database();
    server().psql(&nobody, "CREATE ROLE nobody_special LOGIN");
    for (url, words) in [
        (server().url(&newer), ["version 99", "upgrade observer"]),
        (server().url(&taken), ["not observer's", "rename it"]),
        (server().url(latin), ["encoding is LATIN1", "ENCODING 'UTF8'"]),
        (server().url("not_there"), ["not_there", "create the database"]),
        (server().url_as(&nobody, "nobody_special"), ["permission denied", "give the login its rights"]),
    ] {
        let result = apply(&url);
        assert_ne!(result.code, Some(0), "{url}");
        for word in words {
            assert!(result.stderr.contains(word), "{word}: {result:?}");
        }
    }
    let script = observer(&["schema", "print"]);
    let result = server().try_psql(latin, script.text());
    assert!(result.code != Some(0) && result.stderr.contains("ENCODING 'UTF8'"), "printed: {result:?}");
    assert_eq!(server().psql(&newer, "SELECT max(version) FROM observer.migration"), "99");
    assert_eq!(server().psql(&taken, "SELECT count(*) FROM pg_tables WHERE schemaname = 'observer'"), "1");
    let none = observer(&["schema", "apply"]);
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("--database-url-file"), "{none:?}");
}

#[test]
fn a_password_in_an_argument_is_refused_and_not_repeated() {
    let result = apply("postgresql://u:hunter2@127.0.0.1/x");
    assert_eq!(result.code, Some(2), "{result:?}");
    assert!(
        result.stderr.contains("--database-url-file") && !result.stderr.contains("hunter2"),
        "{result:?}"
    );
}

#[test]
fn the_views_have_the_columns_that_tooling_reads() {
    let database = applied();
    let columns = |view: &str| {
        server().psql(
            &database,
            &format!(
                "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
                 FROM pg_attribute WHERE attrelid = 'observer.{view}'::regclass AND attnum > 0"
            ),
        )
    };
    for (view, expected) in [
        (
            "sessions",
            "host text, host_id uuid, boot_id uuid, home text, name text, pid integer, start_boottime_ns bigint, \
             started_at timestamp with time zone, exec_at timestamp with time zone, tty text, pane text, mux text, \
             mux_socket text, cwd text, comm text, argv text[], username text, uid bigint, state text, recorded_state text, \
             certain boolean, since timestamp with time zone, roots integer, starts_24h integer, \
             last_death_at timestamp with time zone, last_death_kind text, last_death_signal integer, \
             last_death_code integer, as_of timestamp with time zone, wrapper_pid integer, home_mnt_ns bigint, detail jsonb, \
             program text, others jsonb, tty_dev text, pane_stale boolean, owner bigint, is_foreign boolean, \
             instance bigint, labels jsonb, unit text, container text",
        ),
        (
            "events",
            "host_id uuid, stream_id uuid, seq bigint, boot_id uuid, at timestamp with time zone, \
             received_at timestamp with time zone, kind text, home text, name text, pid integer, \
             start_boottime_ns bigint, detail jsonb, host text, changed jsonb, uid bigint, username text, \
             started_at timestamp with time zone",
        ),
        ("hosts", "host text, host_id uuid, present boolean"),
    ] {
        let found = columns(view);
        assert!(found.starts_with(expected), "{view}: {found}");
    }
    let live = columns("live");
    assert_eq!(live, columns("sessions"));
    let deaths = columns("deaths");
    for column in [
        "kind text",
        "code integer",
        "signal integer",
        "core_dumped boolean",
        "raw_status integer",
        "sender_pid integer",
        "sender_comm text",
        "sender_uid bigint",
        "started_at timestamp with time zone",
        "ended_at timestamp with time zone",
        "polite_signal integer",
        "polite_at timestamp with time zone",
        "polite_sender_pid integer",
        "polite_sender_comm text",
        "oom_scope text",
        "cpu_ms bigint",
        "cpu_children_ms bigint",
        "max_rss_bytes bigint",
        "processes bigint",
        "left_processes bigint",
        "left_rss_bytes bigint",
    ] {
        assert!(deaths.contains(column), "{column}: {deaths}");
    }
}

#[test]
fn every_table_view_column_and_function_has_a_comment() {
    let database = applied();
    let silent = server().psql(
        &database,
        "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'observer'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND a.attnum > 0
             AND col_description(c.oid, a.attnum) IS NULL
         UNION ALL SELECT relname::text FROM pg_class WHERE relnamespace = 'observer'::regnamespace
             AND relkind IN ('r', 'p', 'v') AND obj_description(oid, 'pg_class') IS NULL
         UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'observer'::regnamespace
             AND obj_description(oid, 'pg_proc') IS NULL",
    );
    assert_eq!(silent, "");
}

#[test]
fn a_host_is_present_exactly_while_its_own_connection_holds_its_lock() {
    let database = applied();
    let sessions = || {
        server().psql(
            &database,
            "SELECT home, state, recorded_state, certain, as_of = now(), starts_24h FROM observer.sessions ORDER BY home",
        )
    };
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    for (home, state) in [("a", "live"), ("b", "ended"), ("c", "left"), ("d", "detached")] {
        daemon.ask(&session_row(&number, home, state));
    }
    assert_eq!(
        sessions(),
        "a|live|live|t|t|2\nb|ended|ended|t|t|2\nc|left|left|t|t|2\nd|detached|detached|t|t|2"
    );
    assert_eq!(
        server().psql(&database, "SELECT string_agg(home, ',' ORDER BY home) FROM observer.live"),
        "a,d"
    );
    let pid = daemon.ask("SELECT pg_backend_pid()");
    server().psql(&database, &format!("SELECT pg_terminate_backend({pid}, 10000)"));
    let gone = "a|unknown|live|f|f|2\nb|unknown|ended|f|f|2\nc|unknown|left|f|f|2\nd|unknown|detached|f|f|2";
    assert_eq!(sessions(), gone);
    assert_eq!(server().psql(&database, "SELECT count(*) FROM observer.live"), "0");
    // A lock that another login takes does not make the host present.
    server().psql(&database, "CREATE ROLE mallory LOGIN");
    let mut forger = server().session(&database, "mallory");
    assert_eq!(forger.ask(&format!("SELECT pg_try_advisory_lock(1868723062, {number})")), "t");
    assert_eq!(sessions(), gone, "a forged lock changes nothing");
    assert_eq!(server().psql(&database, "SELECT present FROM observer.hosts"), "f");
    // The lock does not make it present either if the server gave that login's process the number of the
    // host's process.
    let pid = forger.ask("SELECT pg_backend_pid()");
    server().psql(&database, &format!("UPDATE observer.host SET backend_pid = {pid}"));
    assert_eq!(sessions(), gone, "nor one by a process of the same number");
    server().psql(&database, "UPDATE observer.host SET login = 'mallory'");
    assert_eq!(
        server().psql(&database, "SELECT present FROM observer.hosts"),
        "t",
        "the role alone kept it out"
    );
}

#[test]
fn a_lock_in_another_database_of_the_server_makes_no_host_present() {
    let (one, other) = (applied(), applied());
    let mut daemon = server().session(&one, "postgres");
    let number = present(&mut daemon, HOST);
    let pid = daemon.ask("SELECT pg_backend_pid()");
    server().psql(
        &other,
        &format!(
            "INSERT INTO observer.host (host_no, host_id, host, backend_pid) OVERRIDING SYSTEM VALUE VALUES ({number}, '{HOST}', 'h', {pid})"
        ),
    );
    let present = |database: &str| server().psql(database, "SELECT present FROM observer.hosts");
    assert_eq!((present(&one).as_str(), present(&other).as_str()), ("t", "f"));
}

#[test]
fn a_hosts_login_writes_its_own_hosts_rows_and_no_others() {
    let database = applied();
    writer(&database, "host_a", HOST);
    writer(&database, "host_b", OTHER);
    let mut a = server().session(&database, "host_a");
    let (mine, theirs) = (present(&mut a, HOST), present(&mut server().session(&database, "host_b"), OTHER));
    a.ask(&session_row(&mine, "a", "live"));
    a.ask(&format!("INSERT INTO observer.stream VALUES ({mine}, '{HOST}', 1)"));
    let event = |number: &str| {
        format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, kind, detail) VALUES ({number}, '{HOST}', 1, now(), 'gap', '{{}}')"
        )
    };
    a.ask(&event(&mine));
    server().psql(&database, &session_row(&theirs, "b", "live"));
    let as_a = |statement: &str| server().try_psql_as(&database, "host_a", statement);
    let theirs_host = format!("INSERT INTO observer.host (host_id, host) VALUES ('{}', 'x')", uuid_of(9));
    for refused in [
        session_row(&theirs, "x", "live"),
        event(&theirs),
        theirs_host,
        format!("INSERT INTO observer.stream VALUES ({theirs}, '{HOST}', 1)"),
        format!("UPDATE observer.session SET host_no = {theirs}"),
        "INSERT INTO observer.writers VALUES ('host_a', '00000000-0000-0000-0000-000000000000')".into(),
        "DELETE FROM observer.event".into(),
        "DELETE FROM observer.session".into(),
        "DROP TABLE observer.event".into(),
        "UPDATE observer.setting SET keep_events = '1 day'".into(),
        "INSERT INTO observer.migration VALUES (2)".into(),
        "INSERT INTO observer.event_19990101 SELECT FROM observer.event".into(),
    ] {
        assert_ne!(as_a(&refused).code, Some(0), "{refused}");
    }
    let changed =
        as_a("WITH u AS (UPDATE observer.session SET state = 'ended' RETURNING 1) SELECT count(*) FROM u");
    assert_eq!(changed.text().trim(), "1", "its own alone");
    let changed =
        as_a("WITH u AS (UPDATE observer.host SET generation = 7 RETURNING 1) SELECT count(*) FROM u");
    assert_eq!(changed.text().trim(), "1");
    assert_eq!(server().psql(&database, "SELECT state FROM observer.session WHERE home = 'b'"), "live");
}

#[test]
fn no_host_can_write_values_that_break_the_views_for_their_readers() {
    let database = applied();
    writer(&database, "host_certifies", HOST);
    let number = present(&mut server().session(&database, "host_certifies"), HOST);
    let event = |seq: usize, at: &str, kind: &str, detail: &str| {
        let event = format!(
            "SET datestyle = 'ISO, DMY';
             INSERT INTO observer.event (host_no, stream_id, seq, at, kind, detail)
             VALUES ({number}, '{HOST}', {seq}, {at}, '{kind}', '{detail}')"
        );
        server().try_psql_as(&database, "host_certifies", &event)
    };
    let certificate = |seq: usize, detail: &str| event(seq, "now()", "session_ended", detail);
    for (seq, refused) in [
        r#"{"death": {"kind": "exited", "code": "many"}}"#,
        r#"{"death": {"kind": "exited", "code": 99999999999}}"#,
        r#"{"death": {"at": "2026-13-45T00:00:00Z"}}"#,
        r#"{"death": {"sender": {"pid": "x"}}}"#,
        r#"{"death": {"sender": {"uid": 1.5}}}"#,
        r#"{"death": {"between": ["then", "now"]}}"#,
        r#"{"started_at": "once", "death": {}}"#,
        r#"{"started_at": "13/02/2026", "death": {}}"#,
        r#"{"death": {"at": "13/02/2026 00:00:00"}}"#,
        r#"{"death": {"at": "infinity"}}"#,
        r#"{"death": {"between": ["now", null]}}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let result = certificate(seq, refused);
        assert!(result.stderr.contains("constraint \"legible\""), "{refused}: {result:?}");
    }
    for (seq, taken) in [
        r#"{"death": null}"#,
        r#"{"death": "none"}"#,
        r#"{"death": {}}"#,
        r#"{"death": {"kind": "exited", "code": 3, "sender": "nobody", "between": null, "at": "2026-11-21T00:00:00.5Z"}}"#,
        r#"{"death": {"kind": "signaled", "polite_signal": {"signal": "x", "at": "once", "sender": {"pid": 1e30}}}}"#,
        r#"{"death": {"kind": "signaled", "at": "2026-11-21T00:00:00.5Z", "polite_signal": {"signal": 900, "at": "infinity", "sender": []}}}"#,
        r#"{"death": {"kind": "signaled", "polite_signal": "TERM"}}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let result = certificate(seq, taken);
        assert_eq!(result.code, Some(0), "{taken}: {result:?}");
    }
    assert_eq!(
        server().psql(&database, "SELECT kind, code, ended_at IS NULL FROM observer.deaths ORDER BY seq"),
        "||t\nexited|3|f\nsignaled||t\nsignaled||f\nsignaled||t"
    );
    let polite = "SELECT count(*), count(polite_signal), count(polite_wait), count(polite_sender_pid) FROM observer.kills";
    assert_eq!(server().psql(&database, polite), "3|0|0|0", "what is no value is none");
    for detail in [r#"{"count": "many"}"#, r#"{"from_seq": 1.5}"#, r#"{"to_seq": 1e30}"#] {
        let result = event(9, "now()", "gap", detail);
        assert!(result.stderr.contains("constraint \"legible\""), "{detail}: {result:?}");
    }
    for at in ["'infinity'", "'-infinity'"] {
        assert!(event(9, at, "session_changed", "{}").stderr.contains("event_at_check"), "{at}");
        for column in ["last_commit_at", "first_seen_at"] {
            let edit = format!("UPDATE observer.host SET {column} = {at}");
            assert_ne!(server().try_psql_as(&database, "host_certifies", &edit).code, Some(0), "{edit}");
        }
    }
    // The host's number is the key of its advisory lock, so another number would be the lock of another host
    // or of the schema.
    for edit in [
        "UPDATE observer.host SET host_no = DEFAULT",
        "INSERT INTO observer.host (host_no, host_id, host) OVERRIDING SYSTEM VALUE VALUES (0, gen_random_uuid(), 'x')",
    ] {
        let result = server().try_psql_as(&database, "host_certifies", edit);
        assert!(result.stderr.contains("permission denied"), "{edit}: {result:?}");
    }
    let state = server().try_psql_as(&database, "host_certifies", &session_row(&number, "a", "unknown"));
    assert!(state.stderr.contains("session_state_check"), "what only the view says: {state:?}");
}

fn uuid_of(number: u8) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

#[test]
fn a_reader_reads_the_views_and_nothing_else() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    daemon.ask(&session_row(&number, "a", "live"));
    server().psql(&database, "CREATE ROLE tooling LOGIN IN ROLE observer_reader");
    let ask = |statement: &str| server().try_psql_as(&database, "tooling", statement);
    for view in ["sessions", "live", "hosts"] {
        let result = ask(&format!("SELECT count(*) FROM observer.{view}"));
        assert_eq!((result.code, result.text()), (Some(0), "1\n"), "{view}: {result:?}");
    }
    assert_eq!(
        ask("SELECT present FROM observer.hosts").text(),
        "t\n",
        "whose connection it is anybody may see"
    );
    for view in ["deaths", "events"] {
        assert_eq!(ask(&format!("SELECT count(*) FROM observer.{view}")).text(), "0\n", "{view}");
    }
    for refused in [
        "SELECT FROM observer.host",
        "SELECT FROM observer.session",
        "SELECT FROM observer.event",
        "DELETE FROM observer.sessions",
        "SELECT observer.maintain()",
        "SELECT observer.rekey_sessions(1)",
        "SELECT FROM observer.writers",
    ] {
        assert_ne!(ask(refused).code, Some(0), "{refused}");
    }
}

#[test]
fn partitions_are_made_ahead_and_dropped_when_they_are_old_but_not_while_they_are_read() {
    let database = applied();
    writer(&database, "host_days", HOST);
    let parts = || {
        server().psql(&database, "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY 1) FROM pg_inherits WHERE inhparent = 'observer.event'::regclass")
    };
    let made = parts();
    assert_eq!(made.split(' ').count(), 9, "yesterday, today and seven days ahead: {made}");
    let last = server().psql(
        &database,
        "SELECT 'observer_days.event_' || to_char((now() AT TIME ZONE 'UTC')::date + 7, 'YYYYMMDD')",
    );
    assert!(made.ends_with(&last), "{made}: {last}");
    // These are three days in the past: two are old enough to be dropped, one of them just so, and one is
    // not.
    server().psql(
        &database,
        "DO $$ DECLARE day date; BEGIN
            FOR day IN SELECT unnest(ARRAY[current_date - 400, current_date - 91, current_date - 89]) LOOP
                EXECUTE format('CREATE TABLE observer.event_%s PARTITION OF observer.event FOR VALUES FROM (%L) TO (%L)',
                    to_char(day, 'YYYYMMDD'), day, day + 1);
            END LOOP; END $$",
    );
    let mut reader = server().session(&database, "postgres");
    reader.ask("BEGIN; SELECT count(*) FROM observer.events");
    let maintain = || server().try_psql_as(&database, "host_days", "SELECT observer.maintain()");
    assert_eq!(maintain().code, Some(0), "a reader holds it up, and it goes on");
    assert_eq!(parts().split(' ').count(), 12, "nothing was dropped");
    reader.ask("COMMIT");
    assert_eq!(maintain().code, Some(0));
    assert_eq!(parts().split(' ').count(), 10, "{}", parts());
    server().psql(&database, &format!("DROP TABLE {last}"));
    assert_eq!(maintain().code, Some(0));
    assert!(parts().ends_with(&last), "made again by a login that owns nothing");
}

#[test]
fn a_login_that_holds_every_lock_it_can_take_stops_no_maintenance_and_only_delays_apply() {
    let database = applied();
    writer(&database, "host_locked_out", OTHER);
    server().psql(&database, "CREATE ROLE squatter LOGIN IN ROLE observer_reader");
    let mut squatter = server().session(&database, "squatter");
    squatter.ask("SELECT pg_advisory_lock(1868723062, 0)");
    for lock in ["SHARE UPDATE EXCLUSIVE", "ACCESS SHARE"] {
        let result = server().try_psql_as(
            &database,
            "squatter",
            &format!("BEGIN; LOCK TABLE observer.setting IN {lock} MODE"),
        );
        assert!(result.stderr.contains("permission denied"), "{lock}: {result:?}");
    }
    for table in ["host", "stream", "session", "event", "setting", "writers"] {
        let lock = format!("BEGIN; LOCK TABLE observer.{table} IN ROW EXCLUSIVE MODE");
        let result = server().try_psql_as(&database, "host_locked_out", &lock);
        assert!(result.stderr.contains("permission denied"), "{table}: {result:?}");
    }
    let tomorrow = "observer_days.event_".to_owned()
        + &server().psql(&database, "SELECT to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD')");
    server().psql(&database, &format!("DROP TABLE {tomorrow}"));
    let made = server().try_psql_as(&database, "host_locked_out", "SELECT observer.maintain()");
    assert_eq!(made.code, Some(0), "{made:?}");
    assert_eq!(server().psql(&database, &format!("SELECT to_regclass('{tomorrow}')")), tomorrow);
    let result = apply(&server().url(&database));
    assert_ne!(result.code, Some(0));
    assert!(
        result.stderr.contains("nothing was changed") && result.stderr.contains("pg_locks"),
        "{result:?}"
    );
    squatter.ask("SELECT pg_advisory_unlock(1868723062, 0)");
    assert_eq!(apply(&server().url(&database)).code, Some(0));
}

#[test]
fn a_login_that_keeps_rows_locked_keeps_no_day_from_being_made_and_no_host_from_becoming_present() {
    let database = applied();
    writer(&database, "host_keeps_rows", OTHER);
    let mut hostile = server().session(&database, "host_keeps_rows");
    present(&mut hostile, OTHER);
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    let claim = format!("UPDATE observer.host SET generation = generation + 1 WHERE host_no = {number}");
    daemon.ask(&claim);
    // Its presence is to be ended by whoever looks after the rows, and it holds that row.
    hostile.ask("UPDATE observer.host SET generation = generation + 1");
    hostile.ask("BEGIN; UPDATE observer.host SET generation = generation + 1");
    let day = server().psql(&database, "SELECT to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD')");
    server().psql(&database, &format!("DROP TABLE observer_days.event_{day}"));
    server().psql(&database, "UPDATE observer.upkeep SET done_at = '-infinity'");
    daemon.ask("SELECT observer.maintain()");
    let made = format!("SELECT observer.has_day('event_{day}')");
    assert_eq!(server().psql(&database, &made), "t");
    drop(hostile);

    // The other way round: it holds the rows of hosts that are not present.
    drop(daemon);
    let gone = "SELECT count(*) FROM observer.hosts WHERE present";
    eventually("nobody is present", Duration::from_secs(10), || match server().psql(&database, gone) {
        none if none == "0" => Ok(()),
        some => Err(some),
    });
    server().psql(&database, "UPDATE observer.upkeep SET done_at = '-infinity'");
    let mut hostile = server().session(&database, "host_keeps_rows");
    hostile.ask("BEGIN; SELECT observer.maintain()");
    let mut daemon = server().session(&database, "postgres");
    daemon.ask("SET lock_timeout = '2s'");
    assert_eq!(present(&mut daemon, HOST), number);
    daemon.ask(&claim);
}

#[test]
fn a_login_counts_no_refused_session_for_another_host() {
    let database = applied();
    writer(&database, "host_counts", OTHER);
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    let row = |home: &str| {
        format!(
            "INSERT INTO observer.session (host_no, home_id, home, uid, state, certain, detail)
             SELECT {number}, convert_to({home}, 'UTF8'), 'a', 7, 'live', true, '{{}}'"
        )
    };
    server().psql(&database, "UPDATE observer.setting SET sessions_max = 100");
    daemon.ask(&(row("'h' || i") + " FROM generate_series(1, 100) AS i"));
    let refused = "SELECT refused_sessions FROM observer.hosts";
    let result = server().try_psql_as(&database, "host_counts", &row("'x'"));
    assert!(result.stderr.contains("row-level security"), "{result:?}");
    assert_eq!(server().psql(&database, refused), "0");
    daemon.ask(&row("'x'"));
    assert_eq!(server().psql(&database, refused), "1", "its own user's");
}

#[test]
fn every_session_is_unknown_on_a_standby() {
    let primary = Server::start(&[]);
    let database = primary.database();
    assert_eq!(apply(&primary.url(&database)).code, Some(0));
    let mut daemon = primary.session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    daemon.ask(&session_row(&number, "a", "live"));
    let standby = primary.standby(&[]);
    let shown =
        |server: &Server| server.psql(&database, "SELECT state, recorded_state FROM observer.sessions");
    assert_eq!((shown(&primary).as_str(), shown(&standby).as_str()), ("live|live", "unknown|live"));
    let result = apply(&standby.url(&database));
    assert_ne!(result.code, Some(0));
    assert!(result.stderr.contains("name the primary"), "{result:?}");
}
