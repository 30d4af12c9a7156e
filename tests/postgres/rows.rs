//! What rows of history and of the state take, whether nothing of them is lost, and how long they stay.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

use std::time::Duration;

use observer_harness::postgres::SqlSession;
use observer_harness::scene::Scene;
use observer_harness::{Pty, eventually};
use serde_json::{Value, json};

use crate::schema::{applied, present, server, writer};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const STREAM: &str = "11111111-8b86-5d11-b42d-00cf4fc964ff";
/// The limit for a change to reach the database on a machine that runs other tests.
const SOON: Duration = Duration::from_secs(20);

/// A session's change of directory, as a daemon sends it: the `step`-th of the session with this number.
fn changed(session: usize, step: usize) -> Value {
    let dir = |step: usize| format!("/srv/agents/checkout-{session}/src/module{}", step % 7);
    let ino = |step: usize| (700_000 + step % 7).to_string();
    let at = format!("2026-11-30T04:{:02}:{:02}.{:03}Z", step / 60 % 60, step % 60, step % 1_000);
    let mut detail = json!({
        "at": at, "kind": "session_changed", "boottime_ns": (90_000_000_000 + step).to_string(),
        "changed": {"cwd": [dir(step + 6), dir(step)], "cwd_ino": [ino(step + 6), ino(step)]},
        "name": format!("checkout-{session}"), "home": format!("/srv/agents/checkout-{session}"), "home_mnt_ns": null,
        "home_dir": {"dev": "254:1", "ino": (500_000 + session).to_string(), "generation": 1_234_567},
        "pid": 4_000 + session, "start_boottime_ns": (51_000_000_000 + session).to_string(), "cwd": dir(step),
        "cwd_ino": ino(step), "tty": format!("pts/{session}"), "pgid": 4_000 + session, "as_of": {"cwd": at},
    });
    let same: Value = serde_json::from_str(SAME).expect("JSON");
    let same = same.as_object().expect("an object").clone();
    detail.as_object_mut().expect("an object").extend(same);
    detail
}

/// What all changes of [`changed`] have.
const SAME: &str = r#"{"instance": 1, "state": "live", "since": "2026-11-30T01:02:03.123Z", "roots": 1, "others": [], "stands_in_for": null,
    "wrapper_pid": null, "moved_to": null, "home_deleted": false, "owner": 1000, "foreign": false, "end_reason": null,
    "starts": ["2026-11-30T01:02:03.123Z"], "labels": {}, "label_variables": {}, "tty_input_at": null, "tty_output_at": null,
    "cost": null, "ppid": 3999, "ancestor_pid": 3999, "key": "bba24f73-4242-bdfd63e00", "started_at": "2026-11-30T01:02:03.100Z",
    "exec_at": "2026-11-30T01:02:03.123Z", "comm": "node", "program": "claude", "exe": "/usr/bin/node", "exe_deleted": false,
    "argv": ["claude"], "argv_truncated": true, "argv_source": "exec", "cwd_dev": "254:1", "cwd_deleted": false,
    "cwd_truncated": false, "cwd_unreachable": false, "mnt_ns": 4026531841, "tty_dev": "136:3", "foreground": true,
    "stopped": false, "uid": 1000, "euid": 1000, "suid": 1000, "sid": 3999, "pane": "%3", "pane_stale": false, "mux": "tmux",
    "cgroup": "/user.slice/user-1000.slice/session-3.scope", "unit": "session-3.scope", "container": null, "mux_socket": "/tmp/tmux-1000/default", "certain": true,
    "boot_id": "bba24f73-d3f2-4a88-9abd-a6393b876be2", "death": null, "username": "agents"}"#;

/// A host whose cursor is at 0, and the connection of its writer.
fn host(database: &str) -> (SqlSession, String) {
    let mut daemon = server().session(database, "postgres");
    let number = present(&mut daemon, HOST);
    daemon.ask(&format!("INSERT INTO observer.stream VALUES ({number}, '{STREAM}', 0)"));
    (daemon, number)
}

/// Delivers one batch of these details after the cursor `after`, each with the row of the state that belongs to it.
fn deliver(daemon: &mut SqlSession, number: &str, after: usize, details: &[Value]) {
    let quoted = |text: String| format!("'{}'", text.replace('\'', "''"));
    let list = |of: &dyn Fn(&Value) -> String| details.iter().map(of).collect::<Vec<_>>().join(", ");
    let text = |field: &'static str| {
        move |detail: &Value| quoted(detail[field].as_str().unwrap_or_default().to_owned())
    };
    let seqs: Vec<_> = (1..=details.len()).map(|at| (after + at).to_string()).collect();
    let kind = |detail: &Value| quoted(detail["kind"].as_str().unwrap_or("gap").to_owned());
    let at = |detail: &Value| quoted(detail["at"].as_str().unwrap_or("2026-11-30T04:00:00Z").to_owned());
    let whole = |detail: &Value| quoted(detail.to_string());
    let key = |detail: &Value| format!("sha256({})", quoted(detail["home"].as_str().unwrap_or("?").into()));
    let answer = daemon.ask(&format!(
        "SELECT hosts, cursors FROM observer.deliver({number}, 0, NULL, true, '{STREAM}', {after}, {last}, ARRAY[{seqs}]::bigint[],
            ARRAY[{ats}]::timestamptz[], array_fill('bba24f73-d3f2-4a88-9abd-a6393b876be2'::uuid, ARRAY[{count}]), ARRAY[{kinds}],
            ARRAY[{keys}], ARRAY[{homes}], ARRAY[{names}], array_fill(4001, ARRAY[{count}]),
            array_fill(51000000001::bigint, ARRAY[{count}]), ARRAY[{details}],
            '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')",
        last = after + details.len(),
        seqs = seqs.join(", "),
        ats = list(&at),
        kinds = list(&kind),
        keys = list(&key),
        homes = list(&text("home")),
        names = list(&text("name")),
        count = details.len(),
        details = list(&whole),
    ));
    assert_eq!(answer, "1|1");
}

/// The details that the view shows, in the order of their numbers.
fn shown(database: &str) -> Vec<Value> {
    let details = server().psql(database, "SELECT detail FROM observer.events ORDER BY seq");
    details.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_view_shows_what_was_sent_whatever_its_rows_share() {
    let database = applied();
    let (mut daemon, number) = host(&database);
    let with = |of: &Value, field: &str, value: Value| {
        let mut it = of.clone();
        it[field] = value;
        it
    };
    let without = |of: &Value, field: &str| {
        let mut it = of.clone();
        it.as_object_mut().expect("an object").remove(field);
        it
    };
    let first = changed(1, 1);
    let mut ended = with(&first, "kind", "session_ended".into());
    ended["state"] = "ended".into();
    ended["roots"] = 0.into();
    ended["end_reason"] = "died".into();
    ended["death"] = json!({"kind": "exited", "code": 3, "at": "2026-11-30T04:00:01.001Z", "sender": null});
    let details = [
        with(&first, "kind", "session_started".into()),
        first.clone(),
        changed(1, 2),
        with(&first, "cwd", "/elsewhere".into()),
        with(&first, "as_of", json!({"cwd": "2026-11-30T04:00:00.000Z"})),
        with(
            &first,
            "changed",
            json!({"argv": [null, null], "comm": ["node", "vim"], "starts": [null, null]}),
        ),
        with(&first, "changed", Value::Null),
        with(&first, "later_field", json!({"deep": [1, null]})),
        with(&first, "at", "2026-11-30 04:00:01+00".into()),
        without(&first, "as_of"),
        without(&first, "cwd"),
        without(&first, "tty"),
        with(&first, "cwd", Value::Null),
        ended.clone(),
        without(&ended, "stopped"),
        with(&ended, "moved_to", "/srv/b".into()),
        json!({"kind": "gap", "from_seq": 1, "to_seq": 2, "count": 2, "reason": "rejected"}),
        with(&first, "restarts", json!({"count": 7})),
    ];
    let count = details.len();
    for (at, detail) in details.iter().enumerate() {
        deliver(&mut daemon, &number, at, std::slice::from_ref(detail));
    }
    deliver(&mut daemon, &number, count, &details);
    for (at, (found, sent)) in shown(&database).iter().zip(details.iter().chain(&details)).enumerate() {
        assert_eq!(found, sent, "{at}");
    }
    assert_eq!(shown(&database).len(), 2 * count);
    let shared = server()
        .psql(&database, "SELECT count(base_id) > 20, count(DISTINCT base_id) < 10 FROM observer.event");
    assert_eq!(shared, "t|t");
    let dead = "SELECT kind, code, ended_at, started_at FROM observer.deaths LIMIT 1";
    assert_eq!(
        server().psql(&database, dead),
        "exited|3|2026-11-30 04:00:01.001+00|2026-11-30 01:02:03.1+00"
    );
    // What came in other ways is shown as it is, and so is what has another base of the same hash.
    server().psql(
        &database,
        "UPDATE observer.event_base SET detail = '{\"other\": 1}'; DELETE FROM observer.event",
    );
    deliver(&mut daemon, &number, 2 * count, std::slice::from_ref(&first));
    deliver(&mut daemon, &number, 2 * count + 1, &[first.clone(), first.clone()]);
    assert_eq!(shown(&database), [first.clone(), first.clone(), first]);
    assert_eq!(server().psql(&database, "SELECT count(base_id) FROM observer.event"), "0");
}

#[test]
fn a_row_of_history_takes_600_bytes_at_most_with_its_indexes() {
    let database = applied();
    let (mut daemon, number) = host(&database);
    // A day of 40 changes of each of 100 sessions, which come one after the other.
    let (sessions, changes) = (100, 40);
    for step in 0..changes {
        let batch: Vec<_> = (0..sessions).map(|session| changed(session, step)).collect();
        deliver(&mut daemon, &number, step * sessions, &batch);
    }
    let bytes = server().psql(
        &database,
        "SELECT (sum(pg_total_relation_size(i.inhrelid) - 57344) + pg_total_relation_size('observer.event_base'))
             / (SELECT count(*) FROM observer.event)
         FROM pg_inherits i WHERE i.inhparent = 'observer.event'::regclass AND pg_relation_size(i.inhrelid) > 0",
    );
    let bytes: f64 = bytes.parse().expect("a number");
    assert!(bytes <= 600.0, "{bytes} bytes");
}

#[test]
fn the_json_of_a_session_and_of_its_events_is_that_of_the_daemon() {
    let scene = Scene::new(&[]);
    let (home, pty) = (scene.home("alpha"), Pty::open());
    let mut agent = scene.agent(&home, Some(&pty));
    scene.gives("SELECT pid FROM observer.live", &agent.pid.to_string(), SOON);
    let elsewhere = scene.fixture.mkdir("elsewhere");
    agent.chdir(&elsewhere);
    scene.gives("SELECT state FROM observer.sessions", "left", SOON);
    scene.delivered();

    // Of the session: but for what rows of the state leave out, and what the mirror adds.
    let mut listed = scene.daemon.list().pop().expect("a session");
    let row: Value = serde_json::from_str(&scene.sql("SELECT detail FROM observer.sessions")).expect("JSON");
    let left_out = [
        "ancestor_pid",
        "as_of",
        "certain",
        "cost",
        "foreground",
        "home_dir",
        "label_variables",
        "stopped",
        "tty_input_at",
        "tty_output_at",
    ];
    for field in left_out {
        listed.as_object_mut().expect("an object").remove(field);
        assert_eq!(row.get(field), None, "{field}");
    }
    listed["username"] = row["username"].clone();
    listed["argv_truncated"] = row["argv_truncated"].clone();
    listed["argv"] = row["argv"].clone();
    assert_eq!(row, listed);
    assert_eq!(scene.sql("SELECT detail ? 'home' FROM observer.session"), "f", "it is put together");

    agent.killed(libc::SIGKILL);
    scene.gives("SELECT count(*) FROM observer.deaths", "1", SOON);
    scene.delivered();
    let history = scene.daemon.observer(&["history", "--json"]);
    let mut events = 0;
    for line in history.text().lines() {
        let mut sent: Value = serde_json::from_str(line).expect("JSON");
        let seq = sent["event_seq"].clone();
        let found = scene.sql(&format!("SELECT detail FROM observer.events WHERE seq = {seq}"));
        let mut found: Value = serde_json::from_str(&found).expect("JSON");
        if sent["uid"].is_number() {
            let who = scene.sql(&format!("SELECT uid, username FROM observer.events WHERE seq = {seq}"));
            assert_eq!(
                who,
                format!("{}|{}", sent["uid"], found["username"].as_str().expect("a name")),
                "{sent}"
            );
        }
        for field in ["event_seq", "username", "argv", "argv_truncated", "stream_id"] {
            sent.as_object_mut().expect("an object").remove(field);
            found.as_object_mut().expect("an object").remove(field);
        }
        assert_eq!(found, sent);
        events += 1;
    }
    assert!(events >= 3, "{history:?}");
    let short = "SELECT bool_and(base_id IS NOT NULL) FROM observer.event WHERE kind LIKE 'session_%' AND kind <> 'session_left'";
    assert_eq!(scene.sql(short), "t");
}

#[test]
fn events_of_former_daemons_have_the_username_of_the_row() {
    let database = applied();
    let (mut daemon, number) = host(&database);
    daemon.ask(&format!(
        "INSERT INTO observer.session (host_no, home_id, home, state, certain, uid, username, detail)
             VALUES ({number}, 'h', '/h', 'live', true, 1000, 'agents', '{{\"home\": \"/h\"}}');
         INSERT INTO observer.event (host_no, stream_id, seq, at, kind, home_id, home, detail)
             VALUES ({number}, '{STREAM}', 1, now(), 'session_started', 'h', '/h', '{{\"uid\": 1000}}'),
                ({number}, '{STREAM}', 2, now(), 'gap', NULL, NULL, '{{\"uid\": \"x\"}}')"
    ));
    let who = "SELECT seq, uid, username FROM observer.events ORDER BY seq";
    assert_eq!(server().psql(&database, who), "1|1000|agents\n2||");
}

#[test]
fn presence_begins_with_a_claim_and_ended_between_what_is_known() {
    let database = applied();
    writer(&database, "presence_a", HOST);
    let mut first = server().session(&database, "presence_a");
    let number = present(&mut first, HOST);
    let claim = |daemon: &mut SqlSession, version: &str| {
        daemon.ask(&format!(
            "UPDATE observer.host SET generation = generation + 1, backend_pid = pg_backend_pid(), login = session_user,
                 version = '{version}', last_commit_at = now() WHERE host_no = {number}"
        ));
    };
    claim(&mut first, "1.0");
    let presences = || {
        server().psql(
            &database,
            "SELECT generation, version, is_present, began_at <= now(), began_at <= ended_after, ended_after <= ended_before
             FROM observer.presences ORDER BY generation",
        )
    };
    assert_eq!(presences(), "1|1.0|t|t||");
    let pid = first.ask("SELECT pg_backend_pid()");
    server().psql(&database, &format!("SELECT pg_terminate_backend({pid}, 10000)"));
    assert_eq!(presences(), "1|1.0|f|t|t|t");
    // Any daemon's maintenance notes that the host is not there any more.
    let noted = "SELECT ended_before IS NOT NULL FROM observer.presence";
    assert_eq!(server().psql(&database, noted), "f");
    server().psql(&database, "SELECT observer.maintain()");
    assert_eq!(server().psql(&database, noted), "t");
    let before = server().psql(&database, "SELECT ended_before FROM observer.presence");
    let mut second = server().session(&database, "presence_a");
    claim(&mut second, "1.1");
    second.ask(&format!("SELECT pg_try_advisory_lock(1868723062, {number})"));
    assert_eq!(presences(), "1|1.0|f|t|t|t\n2|1.1|t|t||");
    assert_eq!(
        server().psql(&database, "SELECT ended_before FROM observer.presence WHERE generation = 1"),
        before,
        "what was noted first is nearer to the end"
    );
    // A login cannot forge an end in the future, nor write what others were.
    second.ask("UPDATE observer.host SET last_commit_at = now() + interval '1 year'");
    claim(&mut second, "1.2");
    assert_eq!(presences(), "1|1.0|f|t|t|t\n2|1.1|f|t|t|t\n3|1.2|t|t||");
    let result =
        server().try_psql_as(&database, "presence_a", "UPDATE observer.presence SET began_at = now()");
    assert!(result.stderr.contains("permission denied"), "{result:?}");
}

#[test]
fn ended_sessions_are_removed_after_their_time_and_nothing_else() {
    let database = applied();
    let (mut daemon, number) = host(&database);
    let rows = [("old", "ended", "31 days"), ("new", "ended", "29 days"), ("runs", "live", "400 days")];
    for (home, state, age) in rows {
        daemon.ask(&format!(
            "INSERT INTO observer.session (host_no, home_id, home, state, certain, since, detail)
             VALUES ({number}, '{home}', '{home}', '{state}', true, now() - interval '{age}', '{{}}')"
        ));
    }
    let homes =
        || server().psql(&database, "SELECT string_agg(home, ' ' ORDER BY home) FROM observer.session");
    assert_eq!(daemon.ask("SELECT observer.maintain()"), "");
    assert_eq!(homes(), "new runs");
    server().psql(&database, "UPDATE observer.setting SET keep_ended = '1 day'");
    assert_eq!(daemon.ask("SELECT observer.maintain()"), "");
    assert_eq!(homes(), "new runs", "that is done every ten minutes at most");
    server().psql(&database, "UPDATE observer.upkeep SET done_at = now() - interval '11 minutes'");
    assert_eq!(daemon.ask("SELECT observer.maintain()"), "");
    assert_eq!(homes(), "runs");
    // The bases of days that were dropped go too, and no others.
    server().psql(
        &database,
        &format!(
            "INSERT INTO observer.event_base VALUES ({number}, current_date - 100, 1, '{{}}'), ({number}, current_date, 1, '{{}}');
             UPDATE observer.upkeep SET done_at = '-infinity'"
        ),
    );
    assert_eq!(daemon.ask("SELECT observer.maintain()"), "");
    assert_eq!(server().psql(&database, "SELECT day = current_date FROM observer.event_base"), "t");
}

#[test]
fn a_user_has_so_many_rows_and_no_more_and_the_others_are_counted() {
    let database = applied();
    let (mut daemon, number) = host(&database);
    server().psql(&database, "UPDATE observer.setting SET sessions_max = 100");
    let insert = |daemon: &mut SqlSession, uid: u32, from: u32, to: u32, state: &str| {
        daemon.ask(&format!(
            "INSERT INTO observer.session (host_no, home_id, home, state, certain, uid, since, detail)
             SELECT {number}, ('{uid}-' || n)::bytea, n, '{state}', true, {uid}, now() + n * interval '1 s', '{{}}'
             FROM generate_series({from}, {to}) AS n ON CONFLICT (host_no, home_id) DO UPDATE SET state = excluded.state"
        ));
    };
    let found = || {
        server().psql(
            &database,
            "SELECT (SELECT string_agg(uid || ' ' || count, ', ' ORDER BY uid) FROM (SELECT uid, count(*) FROM observer.session GROUP BY uid) AS s),
                 refused_sessions, last_refused_at IS NOT NULL FROM observer.hosts",
        )
    };
    insert(&mut daemon, 1, 1, 100, "live");
    insert(&mut daemon, 2, 1, 10, "live");
    assert_eq!(found(), "1 100, 2 10|0|f");
    insert(&mut daemon, 1, 101, 103, "live");
    insert(&mut daemon, 2, 11, 12, "live");
    assert_eq!(found(), "1 100, 2 12|3|t", "nobody else's rows");
    insert(&mut daemon, 1, 1, 100, "ended");
    assert_eq!(found(), "1 100, 2 12|3|t", "rows that are there are written on");
    insert(&mut daemon, 1, 101, 101, "live");
    assert_eq!(found(), "1 95, 2 12|3|t", "those that ended first give way");
    assert_eq!(
        server().psql(&database, "SELECT min(home::integer) FROM observer.session WHERE uid = 1"),
        "7"
    );
    // The function by which daemons write is bound by it too.
    insert(&mut daemon, 1, 102, 106, "live");
    server().psql(&database, "UPDATE observer.session SET state = 'live'");
    let row = r#"ARRAY['x'::bytea], ARRAY['{"home": "/x", "state": "live", "uid": 1}'], ARRAY[NULL::text]"#;
    assert_eq!(daemon.ask(&format!("SELECT observer.reconcile_sessions({number}, 0, {row})")), "t");
    assert_eq!(found(), "1 100, 2 12|4|t");
}

#[test]
fn readers_see_no_days_and_need_no_right_to_them() {
    let database = applied();
    server().psql(&database, "CREATE ROLE reads_days LOGIN IN ROLE observer_reader");
    let as_reader = |statement: &str| server().try_psql_as(&database, "reads_days", statement);
    let listed =
        "SELECT count(*) FROM pg_class WHERE relispartition AND relnamespace = 'observer'::regnamespace";
    assert_eq!(as_reader(listed).text(), "0\n");
    let may = "SELECT has_schema_privilege('observer_days', 'USAGE')";
    assert_eq!(as_reader(may).text(), "f\n");
    assert_eq!(as_reader("SELECT count(*) FROM observer.events").text(), "0\n");
}

#[test]
fn a_host_whose_clock_is_slow_has_its_starts_of_the_last_24_hours() {
    let database = applied();
    let (mut daemon, number) = host(&database);
    daemon.ask(&format!(
        "INSERT INTO observer.session (host_no, home_id, home, state, certain, starts, detail)
         VALUES ({number}, 'h', '/h', 'live', true, ARRAY[now() - interval '49 hours', now() - interval '48 hours 2 minutes',
             now() - interval '48 hours 1 minute', now() - interval '48 hours'], '{{}}')"
    ));
    let found = "SELECT starts_24h, (SELECT starts FROM observer.restart_loops) FROM observer.sessions";
    assert_eq!(server().psql(&database, found), "0|");
    server().psql(&database, "UPDATE observer.host SET clock_ahead = '-48 hours'");
    assert_eq!(server().psql(&database, found), "4|3");
    server().psql(&database, "UPDATE observer.host SET clock_ahead = '48 hours'");
    assert_eq!(server().psql(&database, found), "0|");
    for wild in ["'1000000 days'", "'-1000000 days'"] {
        let result = server().try_psql(&database, &format!("UPDATE observer.host SET clock_ahead = {wild}"));
        assert!(result.stderr.contains("host_clock_ahead_check"), "{result:?}");
    }
}

#[test]
fn a_daemon_notes_its_clock_and_its_presence() {
    let mut scene = Scene::new(&[]);
    let near = "SELECT clock_ahead BETWEEN '-1 second' AND '1 second' FROM observer.hosts";
    scene.gives(near, "t", SOON);
    let presences =
        "SELECT string_agg(generation || ' ' || is_present, ',' ORDER BY generation) FROM observer.presences";
    assert_eq!(scene.sql(presences), "1 true");
    assert_eq!(scene.daemon.stop(), Some(0));
    let ended = "SELECT ended_before - ended_after < interval '1 minute' FROM observer.presences";
    eventually("the presence ended", SOON, || match scene.sql(ended).as_str() {
        "t" => Ok(()),
        other => Err(other.to_owned()),
    });
}
