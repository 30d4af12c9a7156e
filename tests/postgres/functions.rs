//! The functions by which daemons write, the names by which readers recognize connections, and rights that are taken away.

use std::time::Duration;

use observer::mirror::schema::{LATEST, WITH_FUNCTIONS};
use observer_harness::eventually;
use observer_harness::postgres::SqlSession;

use crate::schema::{applied, apply, observer, present, server, writer};

/// How long the server may take to notice that a connection is gone.
const SOON: Duration = Duration::from_secs(10);

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const OTHER: &str = "7d444840-9dc0-5ad3-9e1b-25f0a5b8d2a1";
const STREAM: &str = "11111111-8b86-5d11-b42d-00cf4fc964ff";

/// What a call of `deliver` names, apart from one event and one row of the state.
#[derive(Clone, Copy)]
struct Delivery<'a> {
    number: &'a str,
    generation: &'a str,
    /// The cursor is there, and is moved by one.
    after: i64,
}

impl Delivery<'_> {
    fn statement(self) -> String {
        let Self { number, generation, after } = self;
        let seq = after + 1;
        format!(
            "SELECT hosts, cursors FROM observer.deliver({number}, {generation}, NULL, true, '{STREAM}', {after}, {seq},
                ARRAY[{seq}], ARRAY[now()], ARRAY[NULL::uuid], ARRAY['session_changed'], ARRAY['h'::bytea], ARRAY['/h'], ARRAY['h'],
                ARRAY[7], ARRAY[8], ARRAY['{{}}'], ARRAY['h'::bytea],
                ARRAY['{{\"home\": \"/h\", \"state\": \"live\", \"pid\": {seq}}}'], ARRAY[NULL::text], ARRAY[true], '{{}}')"
        )
    }
}

/// The functions beside `deliver` that a writer calls, and what each returns to whom is not the writer.
fn others(number: &str, generation: &str) -> [(String, &'static str); 3] {
    let session = r#"ARRAY['h'::bytea], ARRAY['{"home": "/h", "state": "left"}'], ARRAY[NULL::text]"#;
    [
        (format!("observer.begin_reconciliation({number}, {generation}, '{STREAM}', '{{}}')"), ""),
        (format!("observer.reconcile_sessions({number}, {generation}, {session})"), "f"),
        (format!("observer.doubt_session({number}, {generation}, 'h')"), "f"),
    ]
}

/// What the database has of streams, events and sessions.
fn written(database: &str) -> String {
    server().psql(
        database,
        "SELECT (SELECT json_agg(s) FROM observer.stream s), (SELECT json_agg(e) FROM observer.event e),
            (SELECT json_agg(s) FROM observer.session s), (SELECT json_agg(h.*) FROM observer.host h)",
    )
}

fn generation(database: &str, number: &str) -> String {
    server().psql(database, &format!("SELECT generation FROM observer.host WHERE host_no = {number}"))
}

#[test]
fn nobody_but_the_writer_of_a_host_writes_by_the_functions() {
    let database = applied();
    writer(&database, "fn_a", HOST);
    writer(&database, "fn_b", OTHER);
    server().psql(&database, "CREATE ROLE fn_reader LOGIN IN ROLE observer_reader");
    let (mut a, mut b) = (server().session(&database, "fn_a"), server().session(&database, "fn_b"));
    let (mine, theirs) = (present(&mut a, HOST), present(&mut b, OTHER));
    server().psql(&database, "UPDATE observer.host SET generation = 5");
    for number in [&mine, &theirs] {
        server().psql(&database, &format!("INSERT INTO observer.stream VALUES ({number}, '{STREAM}', 3)"));
    }
    let mut second = server().session(&database, "fn_a");
    let mut owner = server().session(&database, "postgres");
    let before = written(&database);
    let is_refused = |session: &mut SqlSession, number: &str, generation: &str, why: &str| {
        assert_eq!(session.ask(&Delivery { number, generation, after: 3 }.statement()), "0|0", "{why}");
        for (call, nothing) in others(number, generation) {
            assert_eq!(session.ask(&format!("SELECT {call}")), nothing, "{why}: {call}");
        }
        assert_eq!(written(&database), before, "{why}");
    };
    is_refused(&mut b, &mine, "5", "another login");
    is_refused(&mut second, &mine, "5", "another connection of the login");
    is_refused(&mut owner, &mine, "5", "a superuser whose connection is another one");
    is_refused(&mut a, &theirs, "5", "another host");
    is_refused(&mut a, &mine, "4", "an old generation");
    server().psql(&database, "DELETE FROM observer.writers WHERE login = 'fn_a'");
    let deliver = Delivery { number: &mine, generation: "5", after: 3 }.statement();
    assert_eq!(a.ask(&deliver), "0|0", "a login that is mapped no more");
    assert_eq!(written(&database), before);
    server().psql(&database, &format!("INSERT INTO observer.writers VALUES ('fn_a', '{HOST}')"));

    let internal = [
        format!("observer.is_writer({mine}, 5)"),
        format!(
            "observer.write_sessions({mine}, ARRAY['x'::bytea], ARRAY['{{}}'], ARRAY[NULL], ARRAY[true])"
        ),
    ];
    for (login, statement) in [
        ("fn_a", format!("SELECT {}", internal[0])),
        ("fn_a", format!("SELECT {}", internal[1])),
        ("fn_reader", deliver.clone()),
        ("fn_reader", format!("SELECT {}", others(&mine, "5")[0].0)),
    ] {
        let result = server().try_psql_as(&database, login, &statement);
        assert!(result.stderr.contains("permission denied for function"), "{login}: {statement}: {result:?}");
    }

    // The writer itself, whose row-level security none of the functions pays for.
    server().psql(
        &database,
        "REVOKE EXECUTE ON FUNCTION observer.own_hosts(), observer.own_host_ids() FROM observer_writer",
    );
    assert_eq!(a.ask(&deliver), "1|1");
    assert_eq!(a.ask(&deliver), "1|0", "the cursor is further on");
    for (call, answer) in others(&mine, "5").map(|(call, _)| call).into_iter().zip(["4", "t", "t"]) {
        assert_eq!(a.ask(&format!("SELECT {call}")), answer, "{call}");
    }
    let rows = "SELECT h.host_id = '6f9619ff-8b86-5d11-b42d-00cf4fc964ff', s.state, s.certain FROM observer.session s JOIN observer.host h USING (host_no)";
    assert_eq!(server().psql(&database, rows), "t|left|f");
    assert_eq!(server().psql(&database, "SELECT seq, kind FROM observer.event"), "4|session_changed");
    // Superusers and the owner of the schema need no mapping, as before.
    let number = present(&mut owner, "00000000-0000-0000-0000-000000000003");
    server().psql(&database, &format!("INSERT INTO observer.stream VALUES ({number}, '{STREAM}', 0)"));
    let token = generation(&database, &number);
    let by_owner = Delivery { number: &number, generation: &token, after: 0 };
    owner.ask(&format!("UPDATE observer.host SET login = 'fn_a' WHERE host_no = {number}"));
    assert_eq!(owner.ask(&by_owner.statement()), "0|0", "the row names another login");
    owner.ask(&format!("UPDATE observer.host SET login = session_user WHERE host_no = {number}"));
    assert_eq!(owner.ask(&by_owner.statement()), "1|1");
}

#[test]
fn a_row_that_is_equal_is_not_written_again_and_an_edited_one_is_corrected() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    daemon.ask(&format!("INSERT INTO observer.stream VALUES ({number}, '{STREAM}', 0)"));
    let write = |daemon: &mut SqlSession, body: &str, death: &str| {
        let call = format!(
            "SELECT observer.reconcile_sessions({number}, 0, ARRAY['h'::bytea], ARRAY['{body}'], ARRAY[{death}]::text[])"
        );
        assert_eq!(daemon.ask(&call), "t");
        server().psql(
            &database,
            "SELECT ctid, certain, pid, home, last_death_kind, last_death_signal FROM observer.session",
        )
    };
    let body = r#"{"home": "/h", "state": "live", "pid": 7}"#;
    let death = r#"'{"at": "2026-11-21T09:30:00Z", "kind": "signaled", "signal": 9}'"#;
    let first = write(&mut daemon, body, death);
    assert!(first.ends_with("|t|7|/h|signaled|9"), "{first}");
    assert_eq!(write(&mut daemon, body, death), first, "equal");
    assert_eq!(write(&mut daemon, body, "NULL"), first, "the last death stays");
    for edit in ["certain = false", "pid = 8", "detail = '{}'"] {
        server().psql(&database, &format!("UPDATE observer.session SET {edit}"));
        let corrected = write(&mut daemon, body, "NULL");
        assert!(corrected.ends_with("|t|7|/h|signaled|9") && corrected != first, "{edit}: {corrected}");
    }
    let later = r#"'{"at": "2026-11-21T09:20:00Z", "kind": "exited", "code": 1}'"#;
    let corrected = write(&mut daemon, body, later);
    assert!(corrected.ends_with("|exited|"), "the death that comes with the state is the last: {corrected}");
}

/// Gives the connection the name of its host's writer.
fn named(session: &mut SqlSession, number: &str) {
    session.ask(&format!(
        "UPDATE observer.host SET named_generation = generation, login = session_user WHERE host_no = {number}"
    ));
    let generation = session.ask(&format!("SELECT generation FROM observer.host WHERE host_no = {number}"));
    session.ask(&format!("SET application_name = 'observer {number} {generation}'"));
}

#[test]
fn a_host_is_present_exactly_while_the_connection_that_is_named_for_it_lives() {
    let (database, other) = (applied(), applied());
    writer(&database, "named_a", HOST);
    server().psql(
        &database,
        "CREATE ROLE named_reader LOGIN IN ROLE observer_reader; CREATE ROLE named_mallory LOGIN",
    );
    let mut daemon = server().session(&database, "named_a");
    let number = present(&mut daemon, HOST);
    let shown = || {
        server()
            .try_psql_as(&database, "named_reader", "SELECT present FROM observer.hosts")
            .text()
            .trim()
            .to_owned()
    };
    assert_eq!(shown(), "t", "by its lock");
    named(&mut daemon, &number);
    assert_eq!(daemon.ask(&format!("SELECT pg_advisory_unlock(1868723062, {number})")), "t");
    assert_eq!(shown(), "t", "by its name alone");
    for name in ["observer", &format!("observer {number} 1"), &format!("observer {number}1 0"), ""] {
        daemon.ask(&format!("SET application_name = '{name}'"));
        assert_eq!(shown(), "f", "{name:?}");
    }
    named(&mut daemon, &number);
    server().psql(&database, "UPDATE observer.host SET generation = generation + 1");
    assert_eq!(shown(), "f", "the next writer");
    assert_eq!(daemon.ask(&format!("SELECT pg_try_advisory_lock(1868723062, {number})")), "t");
    assert_eq!(shown(), "t", "which is a daemon of a former revision, and has the lock");
    server().psql(&database, "UPDATE observer.host SET generation = generation - 1");
    daemon.ask(&format!("SELECT pg_advisory_unlock(1868723062, {number})"));
    assert_eq!(shown(), "t");

    // Neither a name nor the number of a process nor a lock is enough for another role.
    let mut mallory = server().session(&database, "named_mallory");
    mallory.ask(&format!(
        "SET application_name = 'observer {number} 0'; SELECT pg_advisory_lock(1868723062, {number})"
    ));
    let daemon_pid = daemon.ask("SELECT pg_backend_pid()");
    let forged_pid = mallory.ask("SELECT pg_backend_pid()");
    server().psql(&database, &format!("UPDATE observer.host SET backend_pid = {forged_pid}"));
    assert_eq!(shown(), "f");
    server().psql(&database, "UPDATE observer.host SET login = 'named_mallory'");
    assert_eq!(shown(), "t", "the role alone kept it out");
    server()
        .psql(&database, &format!("UPDATE observer.host SET login = 'named_a', backend_pid = {daemon_pid}"));
    // A connection to another database makes no host present there.
    server().psql(
        &other,
        &format!(
            "INSERT INTO observer.host (host_no, host_id, host, backend_pid, login, named_generation)
             OVERRIDING SYSTEM VALUE VALUES ({number}, '{HOST}', 'h', {daemon_pid}, 'named_a', 0)"
        ),
    );
    assert_eq!(server().psql(&other, "SELECT present FROM observer.hosts"), "f");

    // Also for a reader that stays in one transaction.
    let mut reader = server().session(&database, "named_reader");
    assert_eq!(reader.ask("BEGIN; SELECT present FROM observer.hosts"), "t");
    server().psql(&database, &format!("SELECT pg_terminate_backend({daemon_pid}, 10000)"));
    assert_eq!(reader.ask("SELECT present FROM observer.hosts"), "f");
    assert_eq!(shown(), "f");
}

#[test]
fn among_many_hosts_those_with_a_connection_are_present() {
    let database = applied();
    let mut daemons = [server().session(&database, "postgres"), server().session(&database, "postgres")];
    let first = present(&mut daemons[0], HOST);
    // Their rows name the process of the first host, as after its number was given again.
    server().psql(
        &database,
        "INSERT INTO observer.host (host_id, host, backend_pid, generation, named_generation)
         SELECT gen_random_uuid(), 'gone', h.backend_pid, n % 3, CASE WHEN n % 2 = 0 THEN n % 3 END
         FROM observer.host h, generate_series(1, 20000) AS n",
    );
    let last = present(&mut daemons[1], OTHER);
    named(&mut daemons[0], &first);
    let found = || server().psql(&database, "SELECT host_no FROM observer.hosts WHERE present ORDER BY 1");
    assert_eq!(found(), format!("{first}\n{last}"), "one by its name, one by its lock");
    named(&mut daemons[1], &last);
    assert_eq!(found(), format!("{first}\n{last}"));
    drop(daemons);
    let absent = || server().psql(&database, "SELECT count(*) FROM observer.hosts WHERE NOT present");
    eventually("the server noticed that they are gone", SOON, || match absent().as_str() {
        "20002" => Ok(()),
        other => Err(other.to_owned()),
    });
}

/// The rights in the schema: on what, on which column, whose, which.
fn rights(database: &str) -> String {
    let (of_schema, of_right) =
        ("relnamespace = 'observer'::regnamespace", "grantee::regrole, privilege_type, is_grantable");
    server().psql(
        database,
        &format!(
            "SELECT oid::regclass::text, '', {of_right} FROM pg_class, aclexplode(relacl) WHERE {of_schema}
             UNION ALL SELECT oid::regclass::text, attname, {of_right}
             FROM pg_class JOIN pg_attribute ON attrelid = oid, aclexplode(attacl) WHERE {of_schema}
             UNION ALL SELECT oid::regprocedure::text, '', {of_right} FROM pg_proc, aclexplode(proacl)
             WHERE pronamespace = 'observer'::regnamespace ORDER BY 1, 2, 3, 4, 5"
        ),
    )
}

#[test]
fn rights_are_taken_away_when_no_host_needs_them_and_can_be_given_back() {
    assert!(LATEST >= WITH_FUNCTIONS);
    let database = applied();
    writer(&database, "restrict_a", HOST);
    let mut daemon = server().session(&database, "restrict_a");
    let number = present(&mut daemon, HOST);
    let url = server().url(&database);
    let run = |verb: &str| observer(&["schema", verb, "--database-url", &url]);
    // A row that is there before its first writer is in nobody's way.
    let before = rights(&database);
    let result = run("restrict");
    assert_eq!(result.code, Some(0), "{result:?}");
    let restricted = rights(&database);
    assert_ne!(restricted, before);
    assert_eq!(run("permit").code, Some(0));
    assert_eq!(rights(&database), before, "permit gives back what restrict takes");

    server().psql(&database, "UPDATE observer.host SET generation = 1, version = '1.0.0'");
    let result = run("restrict");
    assert_eq!(result.code, Some(1), "{result:?}");
    for word in [HOST, "observer 1.0.0", "observer forget"] {
        assert!(result.stderr.contains(word), "{word}: {result:?}");
    }
    assert_eq!(rights(&database), before, "nothing was changed");
    named(&mut daemon, &number);
    let result = run("restrict");
    assert_eq!(result.code, Some(0), "{result:?}");
    assert_eq!(run("restrict").code, Some(0), "again");
    server().psql(&database, &format!("INSERT INTO observer.stream VALUES ({number}, '{STREAM}', 0)"));
    let columns = "host_no, stream_id, seq, at, kind, detail";
    for refused in [
        format!(
            "INSERT INTO observer.event ({columns}) VALUES ({number}, '{HOST}', 1, now(), 'gap', '{{}}')"
        ),
        format!("COPY observer.event ({columns}) FROM STDIN"),
        "UPDATE observer.session SET state = 'ended'".into(),
        format!(
            "INSERT INTO observer.session (host_no, home_id, home, state, certain, detail) VALUES ({number}, 'h', 'h', 'live', true, '{{}}')"
        ),
        "UPDATE observer.stream SET last_seq = 9".into(),
        format!("INSERT INTO observer.stream VALUES ({number}, '{HOST}', 1)"),
        "DELETE FROM observer.event".into(),
        "BEGIN; LOCK TABLE observer.event IN ROW EXCLUSIVE MODE".into(),
    ] {
        let result = server().try_psql_as(&database, "restrict_a", &refused);
        assert!(result.stderr.contains("permission denied"), "{refused}: {result:?}");
    }
    assert_eq!(daemon.ask(&Delivery { number: &number, generation: "1", after: 0 }.statement()), "1|1");
    assert_eq!(apply(&url).code, Some(0), "which gives no right back");
    assert_eq!(rights(&database), restricted);
    assert_eq!(run("permit").code, Some(0));
    assert_eq!(
        server().try_psql_as(&database, "restrict_a", "UPDATE observer.stream SET last_seq = 9").code,
        Some(0)
    );

    // Those who may not change the schema change nothing, and are told so.
    for verb in ["restrict", "permit"] {
        let result = observer(&["schema", verb, "--database-url", &server().url_as(&database, "restrict_a")]);
        assert!(result.code != Some(0) && result.stderr.contains("log in as their owner"), "{result:?}");
    }
}

#[test]
fn a_schema_without_the_functions_is_not_restricted() {
    let database = server().database();
    crate::revisions::make_1_0(server(), &database);
    for verb in ["restrict", "permit"] {
        let result = observer(&["schema", verb, "--database-url", &server().url(&database)]);
        assert_ne!(result.code, Some(0), "{result:?}");
        assert!(result.stderr.contains("schema apply"), "{result:?}");
    }
}
