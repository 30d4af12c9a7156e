//! The views of kills, of ignored signals and of restart loops.

use crate::schema::{applied, present, server, writer};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
/// What an operator reads of a kill.
const KILLS: &str =
    "SELECT name, signal_name, sender_comm, sender_pid, sender_by, polite_signal, polite_sender_comm,
        extract(epoch FROM polite_wait)::integer
    FROM observer.kills ORDER BY seq";

#[test]
fn who_killed_what_after_which_polite_signal_is_one_query() {
    let database = applied();
    writer(&database, "host_kills", HOST);
    let number = present(&mut server().session(&database, "host_kills"), HOST);
    let mut seq = 0;
    let mut end = |name: &str, death: &str| {
        seq += 1;
        let event = format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, kind, name, detail)
             VALUES ({number}, '{HOST}', {seq}, now(), 'session_ended', '{name}', '{{\"death\": {death}}}')"
        );
        let result = server().try_psql_as(&database, "host_kills", &event);
        assert_eq!(result.code, Some(0), "{death}: {result:?}");
    };
    let systemd = r#"{"pid": 1, "comm": "systemd", "uid": 0, "kind": "user", "by": "kill"}"#;
    end("fine", r#"{"kind": "exited", "code": 0}"#);
    end(
        "slow",
        &format!(
            r#"{{"kind": "signaled", "signal": 9, "signal_name": "SIGKILL", "at": "2026-11-21T09:03:50.000Z", "sender": {systemd},
                "polite_signal": {{"signal": 15, "at": "2026-11-21T09:02:20.000Z", "sender": {systemd}}}}}"#
        ),
    );
    end(
        "broken",
        r#"{"kind": "signaled", "signal": 11, "signal_name": "SIGSEGV", "at": "2026-11-21T09:03:50.000Z",
            "sender": {"pid": null, "kind": "kernel", "by": "fault"}, "polite_signal": null}"#,
    );
    // What a host wrote that is no count is null, and hides nothing else.
    let costs = [
        (
            r#""oom": {"scope": "cgroup"}, "cost": {"cpu_ms": 5, "cpu_children_ms": 7.9, "max_rss_bytes": 9223372036854775807,
            "processes": null}"#,
            "cgroup|5|7|9223372036854775807|",
        ),
        (
            r#""oom": null, "cost": {"cpu_ms": -1, "cpu_children_ms": 9223372036854775808, "max_rss_bytes": "many", "processes": 1e300}"#,
            "||||",
        ),
        (r#""oom": 7, "cost": [1]"#, "||||"),
        (r#""code": 1"#, "||||"),
    ];
    for (at, (fields, expected)) in costs.iter().enumerate() {
        end(&format!("cost{at}"), &format!(r#"{{"kind": "exited", {fields}}}"#));
        let cost = format!(
            "SELECT oom_scope, cpu_ms, cpu_children_ms, max_rss_bytes, processes FROM observer.deaths WHERE name = 'cost{at}'"
        );
        assert_eq!(server().psql(&database, &cost), *expected, "{fields}");
    }
    let left = [
        (
            r#""left": {"processes": 9, "rss_bytes": 2500000000, "keys": ["a", "b"]}"#,
            r#"9|2500000000|["a", "b"]"#,
        ),
        (r#""left": {"processes": 1, "rss_bytes": null}"#, "1||"),
        (r#""left": {"processes": 0, "rss_bytes": 0, "keys": []}"#, ""),
        (r#""left": {"processes": -1}"#, ""),
        (r#""left": {"processes": "many", "rss_bytes": []}"#, ""),
        (r#""left": [9]"#, ""),
        (r#""left": null"#, ""),
    ];
    for (at, (fields, expected)) in left.iter().enumerate() {
        end(&format!("left{at}"), &format!(r#"{{"kind": "exited", {fields}}}"#));
        let left = format!(
            "SELECT left_processes, left_rss_bytes, keys FROM observer.leftovers WHERE name = 'left{at}'"
        );
        assert_eq!(server().psql(&database, &left), *expected, "{fields}");
    }
    // Half a second after the end follows what was left then.
    for (name, processes, after) in
        [("late", 2, "0.6 s"), ("much_later", 3, "5 min"), ("other_life", 4, "0.6 s")]
    {
        seq += 10;
        let pid = 40 + processes;
        let start = if name == "other_life" { 8 } else { 7 };
        let event = |seq, kind, at, start, detail: &str| {
            format!(
                "INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, name, pid, start_boottime_ns, detail)
                 VALUES ({number}, '{HOST}', {seq}, {at}, '{HOST}', '{kind}', '{name}', {pid}, {start}, '{detail}')"
            )
        };
        let end = event(
            seq,
            "session_ended",
            "now()".to_owned(),
            7,
            r#"{"death": {"kind": "exited", "left": null}}"#,
        );
        let at = format!("now() + interval '{after}'");
        let left = format!(
            r#"{{"comm": "node", "ended_at": "2026-01-02T03:04:05.5Z", "left": {{"processes": {processes}, "rss_bytes": 5, "keys": ["a"]}}}}"#
        );
        for event in [end, event(seq + 1, "session_left", at, start, &left)] {
            let result = server().try_psql_as(&database, "host_kills", &event);
            assert_eq!(result.code, Some(0), "{result:?}");
        }
        let of_death =
            format!("SELECT left_processes, left_rss_bytes FROM observer.deaths WHERE name = '{name}'");
        let known = if name == "late" { "2|5" } else { "|" };
        assert_eq!(server().psql(&database, &of_death), known, "{name}");
        let view = format!(
            "SELECT pid, comm, ended_at = '2026-01-02T03:04:05.5Z', left_processes, left_rss_bytes, keys
             FROM observer.leftovers WHERE name = '{name}'"
        );
        assert_eq!(server().psql(&database, &view), format!(r#"{pid}|node|t|{processes}|5|["a"]"#));
    }
    let known = "SELECT name, left_processes IS NULL FROM observer.deaths WHERE name IN ('left2', 'cost0') ORDER BY name";
    assert_eq!(server().psql(&database, known), "cost0|t\nleft2|f", "of a daemon before 1.4 it is not known");
    assert_eq!(
        server().psql(&database, KILLS),
        "slow|SIGKILL|systemd|1|kill|15|systemd|90\nbroken|SIGSEGV|||fault|||"
    );
    assert_eq!(server().psql(&database, "SELECT name FROM observer.ignored_sigterm"), "slow");
}

#[test]
fn a_session_that_starts_again_and_again_is_a_restart_loop() {
    let database = applied();
    writer(&database, "host_loops", HOST);
    let mut daemon = server().session(&database, "host_loops");
    let number = present(&mut daemon, HOST);
    for (home, starts) in [("/often", "1, 2, 3"), ("/seldom", "1, 2"), ("/earlier", "20, 21, 22")] {
        daemon.ask(&format!(
            "INSERT INTO observer.session (host_no, home_id, home, name, state, certain, detail, starts)
             VALUES ({number}, sha256('{home}'), '{home}', '{home}', 'live', true, '{{}}',
                 ARRAY(SELECT now() - minutes * interval '1 minute' FROM unnest(ARRAY[{starts}]) AS minutes))"
        ));
    }
    let loops = "SELECT home, starts, state, first_start_at < last_start_at FROM observer.restart_loops ORDER BY home";
    assert_eq!(server().psql(&database, loops), "/often|3|live|t");
    server()
        .psql(&database, "UPDATE observer.setting SET restart_loop_starts = 2, restart_loop_span = '1 hour'");
    assert_eq!(server().psql(&database, loops), "/earlier|3|live|t\n/often|3|live|t\n/seldom|2|live|t");
    server().psql(&database, "CREATE ROLE reader_of_kills LOGIN IN ROLE observer_reader");
    for view in ["kills", "ignored_sigterm", "restart_loops", "deaths", "leftovers"] {
        let read =
            server().try_psql_as(&database, "reader_of_kills", &format!("SELECT * FROM observer.{view}"));
        assert_eq!(read.code, Some(0), "{view}: {read:?}");
    }
}

#[test]
fn whether_a_process_is_still_the_one_is_true_or_false_or_unknown() {
    let database = applied();
    writer(&database, "host_same", HOST);
    server().psql(&database, "CREATE ROLE reader_of_keys LOGIN IN ROLE observer_reader");
    let mut daemon = server().session(&database, "host_same");
    let number = present(&mut daemon, HOST);
    daemon.ask(&format!(
        "INSERT INTO observer.session (host_no, home_id, home, name, state, boot_id, pid, start_boottime_ns, certain, detail)
         VALUES ({number}, 'a', '/a', 'a', 'live', '7f3e90ab-d3f2-4a88-9abd-a6393b876be2', 4242, 112394521950, true, '{{}}'),
             ({number}, 'b', '/b', 'b', 'ended', '7f3e90ab-d3f2-4a88-9abd-a6393b876be2', 4243, 112394521950, true, '{{}}')"
    ));
    let is_same = |host: &str, key: &str| {
        let question = format!("SELECT observer.is_same('{host}', '{key}')");
        let answer = server().try_psql_as(&database, "reader_of_keys", &question);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.text().trim().to_owned()
    };
    for (host, key, expected) in [
        ("h", "7f3e90ab-4242-1a2b3c4d5e", "t"),
        (HOST, "7f3e90ab-4242-1a2b3c4d5e", "t"),
        ("h", "7f3e90ab-4242-1a2b3c4d5f", "f"),
        ("h", "7f3e90ab-4241-1a2b3c4d5e", "f"),
        ("h", "7f3e90ac-4242-1a2b3c4d5e", "f"),
        ("h", "7f3e90ab-4243-1a2b3c4d5e", "f"),
        ("elsewhere", "7f3e90ab-4242-1a2b3c4d5e", ""),
        ("h", "alpha", ""),
        ("h", "7f3e90ab-99999999999-1", ""),
    ] {
        assert_eq!(is_same(host, key), expected, "{host} {key}");
    }
    daemon.ask(&format!("UPDATE observer.host SET caught_up = false WHERE host_no = {number}"));
    assert_eq!(is_same("h", "7f3e90ab-4242-1a2b3c4d5e"), "", "its end may be on the way");
    daemon.ask(&format!("UPDATE observer.host SET caught_up = true WHERE host_no = {number}"));
    assert_eq!(is_same("h", "7f3e90ab-4242-1a2b3c4d5e"), "t");
    daemon.ask(&format!("UPDATE observer.session SET certain = false WHERE host_no = {number}"));
    assert_eq!(is_same("h", "7f3e90ab-4242-1a2b3c4d5e"), "", "events were lost");
    drop(daemon);
    assert_eq!(is_same("h", "7f3e90ab-4242-1a2b3c4d5e"), "", "the host is gone");
    assert_eq!(is_same("h", "7f3e90ab-4241-1a2b3c4d5e"), "");
}
