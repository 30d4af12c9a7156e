//! Every statement of docs/schema.md does what its first line says, and the columns in the document are those
//! of the views.
#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::process::Command;

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;
use observer_harness::postgres::{Server, SqlSession};

use crate::schema::{applied, present, server};

const DOCUMENT: &str = include_str!("../../docs/schema.md");
const WEB1: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const CLONE: &str = "7d444840-9dc0-5ad3-9e1b-25f0a5b8d2a1";
const BOOT: &str = "bba24f73-d3f2-4a88-9abd-a6393b876be2";
const STREAM: &str = "a908e876-0186-4247-9093-5a95ea6af837";

/// Returns the statements of the document by the title in their first line.
fn statements() -> BTreeMap<&'static str, &'static str> {
    let blocks = DOCUMENT.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks
        .map(|(block, _)| {
            block.strip_prefix("-- ").and_then(|rest| rest.split_once('\n')).expect("a line that says what")
        })
        .collect()
}

#[track_caller]
fn statement(title: &str) -> &'static str {
    let statements = statements();
    statements.get(title).copied().unwrap_or_else(|| panic!("{title}: {:?}", statements.keys()))
}

/// Fills the database with two hosts of one name, one of which is present, with sessions in every state and
/// with events of some sessions.
pub fn filled(database: &str) -> SqlSession {
    let mut daemon = server().session(database, "postgres");
    let number = present(&mut daemon, WEB1);
    daemon
        .ask(&format!("UPDATE observer.host SET host = 'web1', boot_id = '{BOOT}' WHERE host_no = {number}"));
    daemon.ask(&format!(
        "INSERT INTO observer.host (host_id, host, last_commit_at, first_seen_at)
         VALUES ('{CLONE}', 'web1', now() - interval '1 hour', now() + interval '1 hour')"
    ));
    let rows = [
        ("alpha", 4242, "live", 1, "ARRAY[now()]", "NULL, NULL, NULL, NULL"),
        ("twice", 4243, "detached", 2, "ARRAY[now()]", "NULL, NULL, NULL, NULL"),
        ("loop", 4244, "ended", 0, "array_fill(now(), ARRAY[7])", "now(), 'exited', NULL, 3"),
        ("away", 4245, "left", 1, "ARRAY[now()]", "NULL, NULL, NULL, NULL"),
    ];
    for (name, pid, state, roots, starts, death) in rows {
        daemon.ask(&format!(
            "INSERT INTO observer.session (host_no, home_id, home, name, boot_id, pid, start_boottime_ns, pane, cwd, since, state,
                 roots, starts, certain, last_death_at, last_death_kind, last_death_signal, last_death_code, detail)
             VALUES ({number}, '{name}'::bytea, '/srv/agents/{name}', '{name}', '{BOOT}', {pid}, 51000000000, '%3', '/srv/agents/{name}',
                 '2026-11-21T08:00:00Z', '{state}', {roots}, {starts}, true, {death}, '{{\"foreign\": false}}')"
        ));
    }
    let certificate = r#"{"comm": "python3", "started_at": "2026-11-21T08:00:00Z", "death": {"kind": "signaled", "code": null, "signal": 9,
        "signal_name": "SIGKILL", "core_dumped": false, "raw_status": 9, "at": "AT", "lifetime_ms": 5,
        "sender": {"pid": 77, "comm": "oomd", "uid": 0, "kind": "user"}, "polite_signal": null, "oom": null, "between": null,
        "left": {"processes": 9, "rss_bytes": 2500000000, "keys": []}}}"#;
    let now = daemon.ask("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')");
    let events = [
        (1, "session_started", "alpha", "{}".to_owned()),
        (2, "session_ended", "alpha", certificate.replace("AT", &now)),
        (4, "gap", "", r#"{"from_seq": 3, "to_seq": 4, "count": 2, "reason": "rejected"}"#.to_owned()),
    ];
    for (seq, kind, name, detail) in events {
        let home = if name.is_empty() { "NULL".to_owned() } else { format!("'/srv/agents/{name}'") };
        daemon.ask(&format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home, name, pid, start_boottime_ns, detail)
             VALUES ({number}, '{STREAM}', {seq}, now(), '{BOOT}', '{kind}', {home}, nullif('{name}', ''), 4242, 51000000000, '{detail}')"
        ));
    }
    daemon
}

#[test]
fn every_query_of_the_document_finds_what_its_title_says() {
    let database = applied();
    let daemon = filled(&database);
    let ask = |title: &str| server().psql(&database, statement(title));
    // A stranger's program in the same home, and one of which nobody knows whose the home is.
    for (id, uid, foreign) in [("stranger", 1001, "true"), ("unknown", 1002, "null")] {
        server().psql(
            &database,
            &format!(
                "INSERT INTO observer.session (host_no, home_id, home, name, boot_id, pid, start_boottime_ns, pane, cwd, since, state,
                     roots, starts, certain, detail)
                 SELECT host_no, '{id}'::bytea, home, name, boot_id, {uid}, start_boottime_ns, pane, cwd, since, state, roots, starts,
                     certain, '{{\"foreign\": {foreign}}}' FROM observer.session WHERE name = 'alpha' AND home_id = 'alpha'::bytea"
            ),
        );
    }
    let of_that_name = "SELECT count(*) FROM observer.live WHERE certain AND name = 'alpha'";
    assert_eq!(server().psql(&database, of_that_name), "3");
    let without_time = |rows: String| rows.split_once('|').map_or(rows.clone(), |(_, rest)| rest.to_owned());
    assert_eq!(
        ask("which process is it: to nudge it, give it work, or leave it alone"),
        "web1|alpha|4242|%3||/srv/agents/alpha|2026-11-21 08:00:00+00"
    );
    assert_eq!(ask("is this one still the process that I gave work to?"), "t");
    let by_key =
        "the same by the key that a script keeps (`key` in JSON): true, false, or null where nobody can know";
    assert_eq!(ask(by_key), "t");
    assert_eq!(
        without_time(ask("what died by SIGKILL this month, and by whom")),
        "web1|alpha|/srv/agents/alpha|4242|77|oomd|0|signaled"
    );
    assert_eq!(ask("what is killed again and again, and by whom"), "web1|alpha|/srv/agents/alpha|1|oomd|0||");
    assert_eq!(
        ask("what sessions left on each host within a week, the most memory first"),
        "web1|alpha|/srv/agents/alpha|1|9|2500000000"
    );
    assert_eq!(ask("sessions that restart in a loop"), "web1|loop|/srv/agents/loop|7|exited||3");
    assert_eq!(ask("homes with two CLIs"), "web1|twice|/srv/agents/twice|4243|2");
    let silent = ask("hosts that are not present, the longest first");
    assert!(silent.starts_with(&format!("web1|{CLONE}|")) && silent.contains("|01:00:"), "{silent}");
    let happened = ask("what happened in a home, the last first");
    let kinds: Vec<_> = happened.lines().map(|row| without_time(row.to_owned())).collect();
    assert_eq!(kinds, ["session_ended|4242|signaled", "session_started|4242|"]);
    assert!(ask("what is not known: numbers that are missing, and why").ends_with("|rejected|2"));
    let arrived = ask("what died in the last 24 hours, by the server's clock: hosts' clocks may be wrong");
    assert!(arrived.ends_with("|web1|alpha|/srv/agents/alpha|signaled||SIGKILL"), "{arrived}");
    assert_eq!(without_time(ask("deaths an hour by host and killer, as a time series")), "web1|oomd|1");
    assert!(ask("which host lost events, and when").contains("|gap|rejected|"));
    let users = ask("sessions of each user");
    assert!(users.starts_with("web1||4|6|"), "{users}");
    assert_eq!(
        ask("ghosts: sessions of hosts that are not present, of which nobody knows whether they run"),
        ""
    );
    assert_eq!(ask("processes that moved from one home to another"), "");
    assert_eq!(ask("hosts whose clocks are wrong"), "");
    assert_eq!(ask("when hosts were present this month"), "", "nobody claimed a host");
    assert_eq!(ask("names that two hosts share: another host_id"), format!("web1|{{{WEB1},{CLONE}}}"));
    drop(daemon);
    let ghosts =
        ask("ghosts: sessions of hosts that are not present, of which nobody knows whether they run");
    let states: Vec<_> = ghosts.lines().map(|row| row.split('|').nth(4).unwrap_or_default()).collect();
    // One of each home, and those of the stranger and of the unknown one.
    assert_eq!(states.len(), 5, "{ghosts}");
    assert!(!states.contains(&"ended"), "{ghosts}");
    let gone = server().psql(&database, statement("is this one still the process that I gave work to?"));
    assert_eq!(gone, "f", "nobody says so any more");
}

/// Two days of two homes of one user: `a` restarted once, `b` moved to `c` and ended there.
fn with_lives(database: &str) -> SqlSession {
    let mut daemon = server().session(database, "postgres");
    let number = present(&mut daemon, WEB1);
    daemon
        .ask(&format!("UPDATE observer.host SET host = 'web1', boot_id = '{BOOT}' WHERE host_no = {number}"));
    let shown = |hours: u32| format!("observer.shown(now() - interval '{hours} hours')");
    daemon.ask(&format!(
        "INSERT INTO observer.session (host_no, home_id, home, name, boot_id, pid, start_boottime_ns, started_at, uid, username, state,
             certain, detail)
         VALUES ({number}, 'a', '/a', 'a', '{BOOT}', 2, 2, now() - interval '10 hours', 1000, 'agents', 'live', true, '{{}}')"
    ));
    for (seq, home, pid, began, ended, moved_to) in
        [(1, "a", 1, 40, 11, "null"), (2, "b", 3, 40, 26, "\"/c\""), (3, "c", 3, 40, 2, "null")]
    {
        let reason = if moved_to == "null" { "died" } else { "moved" };
        daemon.ask(&format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home, name, pid, start_boottime_ns, detail)
             SELECT {number}, '{STREAM}', {seq}, now() - interval '{ended} hours', '{BOOT}', 'session_ended', '/{home}', '{home}', {pid},
                 {pid}, jsonb_build_object('uid', 1000, 'username', 'agents', 'started_at', {}, 'end_reason', '{reason}',
                 'moved_to', '{moved_to}'::jsonb)",
            shown(began)
        ));
    }
    daemon
}

#[test]
fn who_ran_when_and_for_how_long_is_known() {
    let database = applied();
    let _daemon = with_lives(&database);
    let reader = format!("lives_{database}");
    server().psql(&database, &format!("CREATE ROLE {reader} LOGIN IN ROLE observer_reader"));
    let ask = |statement: &str| {
        let result = server().try_psql_as(&database, &reader, statement);
        assert_eq!(result.code, Some(0), "{statement}: {result:?}");
        result.text().trim_end().to_owned()
    };
    let at = |hours: u32| {
        ask(&format!(
            "SELECT string_agg(concat_ws(' ', home, pid, uid, username), ', ' ORDER BY home)
             FROM observer.live_at(now() - interval '{hours} hours')"
        ))
    };
    assert_eq!(at(41), "");
    assert_eq!(at(30), "/a 1 1000 agents, /b 3 1000 agents", "a process counts once, where it was");
    assert_eq!(at(20), "/a 1 1000 agents, /c 3 1000 agents");
    assert_eq!(at(10), "/a 2 1000 agents, /c 3 1000 agents");
    assert_eq!(at(1), "/a 2 1000 agents");
    let two_hours = ask(statement("who was running two hours ago").trim_end());
    assert!(two_hours.contains("web1|a|/a|agents|2|"), "{two_hours}");

    let up = "SELECT home, round(extract(epoch FROM sum(up)) / 3600) FROM observer.availability(now() - interval '48 hours', now())
        GROUP BY home ORDER BY home";
    assert_eq!(ask(up), "/a|39\n/b|14\n/c|38", "of 40 hours, one without a process");
    let whole = "SELECT count(*), bool_and(share BETWEEN 0 AND 1) FROM observer.availability(now() - interval '48 hours', now())";
    assert!(ask(whole).ends_with("|t"));
    let days = ask(statement("for how long each session had a process, day by day"));
    assert!(days.lines().count() >= 3, "{days}");
    let differences =
        ask(statement("what ran at this time yesterday and does not now, and the other way round"));
    let kinds: Vec<_> = differences.lines().filter_map(|row| row.rsplit('|').nth(1)).collect();
    assert_eq!(kinds, ["restarted", "gone"], "{differences}");
    let moves = ask(statement("processes that moved from one home to another"));
    assert!(moves.ends_with("|web1|/b|/c|agents|3"), "{moves}");
}

/// The queries of the document, by their titles.
fn queries() -> impl Iterator<Item = (&'static str, &'static str)> {
    statements().into_iter().filter(|(_, statement)| statement.starts_with("SELECT"))
}

#[test]
fn no_query_of_the_document_reads_all_of_history() {
    let database = applied();
    let _daemon = filled(&database);
    // Many changes of 22 hosts, and few ends, gaps and leftovers among them.
    server().psql(
        &database,
        &format!(
            "INSERT INTO observer.host (host_id, host) SELECT gen_random_uuid(), 'other' FROM generate_series(1, 20);
             INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home, name, pid, start_boottime_ns, detail)
             SELECT h.host_no, '{STREAM}', 100 + n, m.at, '{BOOT}',
                 CASE WHEN n % 200 = 0 THEN 'session_ended' WHEN n % 5000 = 1 THEN 'gap' WHEN n % 1000 = 2 THEN 'session_left'
                     ELSE 'session_changed' END,
                 '/srv/agents/' || n % 500, n % 500, n % 30000, n,
                 jsonb_build_object('text', repeat('x', 400), 'started_at', observer.shown(m.at - interval '1 hour'),
                     'ended_at', observer.shown(m.at), 'left', '{{\"processes\": 1}}'::jsonb)
                 || CASE WHEN n % 200 = 0 THEN jsonb_build_object('death', jsonb_build_object('kind', 'signaled',
                     'signal', CASE WHEN n % 2000 = 0 THEN 9 ELSE 15 END, 'at', observer.shown(m.at))) ELSE '{{}}' END
             FROM generate_series(1, 100000) AS n, LATERAL (SELECT now() - n * interval '40 s' AS at) AS m,
                 (SELECT host_no, row_number() OVER () AS place FROM observer.host) AS h
             WHERE h.place = n % 22 + 1"
        ),
    );
    server().psql(&database, "ANALYZE observer.event");
    let today = server().psql(&database, "SELECT 'event_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')");
    let mut looked_at = 0;
    for (title, query) in queries() {
        let plan = server().psql(&database, &format!("EXPLAIN {query}"));
        assert!(!plan.contains(&format!("Seq Scan on {today}")), "{title}:\n{plan}");
        looked_at += usize::from(plan.contains(&today));
    }
    assert!(looked_at >= 10, "{looked_at} queries of history");
}

#[test]
fn tooling_that_reads_self_registered_sessions_reads_the_mirror_without_a_change() {
    let database = applied();
    let tooling = "SELECT name, pid, pane FROM ops.sessions WHERE last_seen > now() - interval '1 minute' ORDER BY name";
    let registration = "INSERT INTO ops.sessions VALUES ('liar', 1, '%9', now()); UPDATE ops.sessions SET last_seen = now() WHERE name = 'liar'";
    server().psql(
        &database,
        "CREATE SCHEMA ops; GRANT USAGE ON SCHEMA ops TO PUBLIC;
         CREATE TABLE ops.sessions (name text, pid int, pane text, last_seen timestamptz);
         GRANT SELECT, INSERT, UPDATE ON ops.sessions TO PUBLIC;
         INSERT INTO ops.sessions VALUES ('dead', 99, '%1', now()); CREATE ROLE ops_tool LOGIN",
    );
    let ask = |statement: &str| {
        let result = server().try_psql_as(&database, "ops_tool", statement);
        assert_eq!(result.code, Some(0), "{statement}: {result:?}");
        result.text().trim_end().to_owned()
    };
    assert_eq!(ask(tooling), "dead|99|%1", "what registered itself and died");
    let daemon = filled(&database);
    server().psql(&database, statement("move in"));
    assert_eq!(ask(tooling), "alpha|4242|%3\ntwice|4243|%3");
    server().psql(&database, statement("sessions may go on registering themselves"));
    ask(registration);
    assert_eq!(ask(tooling), "alpha|4242|%3\ntwice|4243|%3", "what they say of themselves is not believed");
    drop(daemon);
    assert_eq!(ask(tooling), "", "nobody knows");
}

#[test]
fn roles_and_retention_are_set_as_the_document_says() {
    // Roles belong to the whole server, so this test has its own server.
    let server = Server::start(&[]);
    let database = server.database();
    crate::schema::apply_to(&server, &database);
    for title in ["a login for people and tools", "a login for a host", "keep history for half a year"] {
        server.psql(&database, statement(title));
    }
    assert_eq!(server.psql(&database, "SELECT keep_events FROM observer.setting"), "180 days");
    server.psql(
        &database,
        statement("keep ended sessions for a year, and at most a thousand rows of one user of a host"),
    );
    assert_eq!(
        server.psql(&database, "SELECT keep_ended, sessions_max FROM observer.setting"),
        "365 days|1000"
    );
    let result = server.try_psql_as(&database, "tooling", "SELECT count(*) FROM observer.live");
    assert_eq!((result.code, result.text()), (Some(0), "0\n"), "{result:?}");
    let mut host = server.session(&database, "host_web1");
    present(&mut host, WEB1);
    assert_eq!(server.psql(&database, "SELECT present FROM observer.hosts"), "t");
}

#[test]
fn the_views_are_those_that_the_document_names() {
    let database = applied();
    let named = [
        "live",
        "sessions",
        "deaths",
        "kills",
        "ignored_sigterm",
        "restart_loops",
        "leftovers",
        "events",
        "hosts",
        "presences",
    ];
    for view in named {
        assert!(DOCUMENT.contains(&format!("| `observer.{view}` |")), "{view}");
        server().psql(&database, &format!("SELECT FROM observer.{view}"));
    }
    let there = server().psql(&database, "SELECT count(*) FROM pg_views WHERE schemaname = 'observer'");
    assert_eq!(there, named.len().to_string(), "and no other");
}

/// Returns the columns of a view in the order of the document, with their types. The columns of `live` are
/// those of `sessions`.
fn documented_columns(view: &str) -> Vec<(&'static str, &'static str)> {
    let columns = DOCUMENT
        .split_once("\n## Columns\n")
        .and_then(|(_, rest)| rest.split_once("\n## "))
        .expect("columns")
        .0;
    let (_, table) = columns.split_once(&format!("`observer.{view}`")).expect("a table of the view");
    let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut found = Vec::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, names, types, ..] = cells.as_slice() else { panic!("{row}") };
        let names: Vec<_> = names.split(", ").map(|name| name.trim_matches('`')).collect();
        let types: Vec<_> = types.split(", ").collect();
        for (at, name) in names.iter().enumerate() {
            // A cell has one type for all names, or one type for each name.
            let kind = if types.len() == names.len() { types[at] } else { types[0] };
            assert!(types.len() == 1 || types.len() == names.len(), "{row}");
            found.push((*name, kind));
        }
    }
    found
}

#[test]
fn the_document_lists_every_column_of_every_view_and_no_other() {
    let database = applied();
    for view in ["sessions", "deaths", "kills", "restart_loops", "leftovers", "events", "hosts", "presences"]
    {
        let there = server().psql(
            &database,
            &format!(
                "SELECT attname, replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz')
                 FROM pg_attribute WHERE attrelid = 'observer.{view}'::regclass AND attnum > 0 ORDER BY attname"
            ),
        );
        let there: Vec<_> = there.lines().filter_map(|row| row.split_once('|')).collect();
        let mut result = documented_columns(view);
        result.sort_unstable();
        let names =
            |columns: &[(&str, &str)]| columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&there), names(&result), "{view}");
        for ((name, kind), (_, documented)) in there.iter().zip(&result) {
            assert!(
                kind == documented || *documented == "as above",
                "{view}.{name}: {kind}, result {documented}"
            );
        }
    }
}

#[test]
fn history_shows_all_hosts_or_one() {
    let database = applied();
    let _daemon = filled(&database);
    let other =
        server().psql(&database, &format!("SELECT host_no FROM observer.host WHERE host_id = '{CLONE}'"));
    server().psql(
        &database,
        &format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, kind, home, name, pid, detail)
             VALUES ({other}, '{CLONE}', 1, '2026-01-01T00:00:00Z', 'session_started', '/srv/agents/beta', 'beta', 9,
                '{{\"comm\": \"sh\"}}')"
        ),
    );
    let url = server().url(&database);
    let history = |args: &[&str]| {
        CommandResult::of(
            Command::new(product()).args(["history", "--database-url", &url]).args(args).env("TZ", "UTC"),
        )
    };
    let all = history(&[]);
    let lines: Vec<_> = all.text().lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let [heading, first, rest @ ..] = lines.as_slice() else { panic!("{all:?}") };
    assert_eq!(heading, &["HOST", "WHEN", "EVENT", "NAME", "PID", "PROGRAM", "HOW", "HOME"]);
    assert_eq!(
        first,
        &["web1", "2026-01-01", "00:00:00.000", "started", "beta", "9", "sh", "/srv/agents/beta"]
    );
    assert_eq!(rest.len(), 3, "{all:?}");
    let killed = history(&["--killed", "alpha", "--since", "2026-02-01"]);
    assert_eq!(killed.code, Some(0), "{killed:?}");
    let sentence = "alpha on web1 (python3, pid 4242, in /srv/agents/alpha) was killed after 5 ms: pid 77 (oomd) sent \
                    SIGKILL at ";
    assert!(killed.text().contains(sentence) && !killed.text().contains("started"), "{killed:?}");
    let one = history(&["--host", CLONE, "--json"]);
    let object: serde_json::Value = serde_json::from_str(one.text().trim()).expect("one object");
    assert_eq!(
        (object.get("host_id"), object.get("event_seq")),
        (Some(&CLONE.into()), Some(&1.into())),
        "{one:?}"
    );
    let none = history(&["gamma", "--until", "2025-01-01"]);
    assert_eq!((none.code, none.text()), (Some(1), ""), "{none:?}");
    assert_eq!(CommandResult::of(Command::new(product()).args(["history", "--host", "x"])).code, Some(2));
}
