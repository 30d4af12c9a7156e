//! Tests which changes arrive in the database and which ones it refuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use observer::api::words::{EntryKind, MirrorState};
use observer::mirror::items::MirroredArgv;
use observer_harness::poll::eventually;
use observer_harness::postgres::Server;
use serde_json::json;

use super::host::{Host, Shared};
use super::{SERVER, SOON, applied, as_json, has_history, is_mirrored, is_present, state_of};

#[test]
fn thousands_of_changes_arrive_once_and_the_state_is_the_map() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(20, 3000);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    assert!(is_present(&SERVER, &database, &host));
    let deaths =
        "SELECT count(*), count(DISTINCT (pid, start_boottime_ns)) FROM observer.deaths WHERE signal = 9";
    assert_eq!(SERVER.psql(&database, deaths), "1500|1500");
}

#[test]
fn a_row_has_the_columns_that_tooling_reads() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.kill("/srv/a");
    host.start("/srv/a");
    host.delivered(SOON);
    let row = SERVER.psql(
        &database,
        "SELECT host, home, name, pid, start_boottime_ns, tty, pane, mux, mux_socket, cwd, comm, argv, username, uid, state,
            recorded_state, certain, roots, last_death_kind, last_death_signal, last_death_code IS NULL, as_of = now(),
            started_at AT TIME ZONE 'UTC'
         FROM observer.live",
    );
    assert_eq!(
        row,
        "test-host|/srv/a|a|102|102000000714|pts/3|%1|tmux|/tmp/tmux|/srv/a|sleep|{sleep}|root|0|live|live|t|1|signaled|9|t|t|\
         2026-11-21 00:00:42"
    );
}

#[test]
fn arguments_are_mirrored_on_request_only() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    let all = "SELECT s::text || e::text FROM observer.session s, observer.event e";
    assert!(!SERVER.psql(&database, all).contains("hunter2"));
    let (shared, host_id) = host.ends();
    let host = Host::with(shared, host_id, &SERVER.url(&database), MirroredArgv::All);
    host.start("/srv/b");
    host.delivered(SOON);
    let argv = "SELECT argv FROM observer.sessions ORDER BY home";
    assert_eq!(SERVER.psql(&database, argv), "{sleep,--token=hunter2}\n{sleep,--token=hunter2}");
}

#[test]
fn equal_rows_are_not_written_again() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(10, 15);
    host.delivered(SOON);
    let versions = "SELECT string_agg(xmin::text, ',' ORDER BY home) FROM observer.session";
    let before = SERVER.psql(&database, versions);
    let (shared, host_id) = host.ends();
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    assert_eq!(SERVER.psql(&database, versions), before);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn rows_edited_by_hand_are_corrected_on_connect() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(10, 15);
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    SERVER.psql(
        &database,
        "UPDATE observer.session SET state = 'live', pid = 1 WHERE home < '/srv/5';
         UPDATE observer.session SET detail = '{}' WHERE home > '/srv/5';
         DELETE FROM observer.session WHERE home = '/srv/7';
         INSERT INTO observer.session (host_no, home_id, home, state, certain, detail)
             SELECT host_no, '\\x00', '/srv/never', 'live', true, '{}' FROM observer.host",
    );
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    let never = "SELECT recorded_state, last_death_kind FROM observer.sessions WHERE home = '/srv/never'";
    assert_eq!(SERVER.psql(&database, never), "ended|", "nothing tells how, and nothing is made up");
    SERVER.psql(&database, "DELETE FROM observer.session WHERE home = '/srv/never'");
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn hostile_names_arrive_unchanged() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    let long = format!("/{}", "x/".repeat(1950));
    let homes = [
        long.as_str(),
        "/a'b\"c\\d$$e;DROP SCHEMA observer;--",
        "/line\nfeed\ttab\r\u{1b}[31m",
        "/{curly,\"quoted\"}",
        "/\u{10fe80}\u{10feff} not UTF-8 as the socket escapes it",
        "/\u{202e}bidi \u{fffd}",
        "/NULL",
    ];
    for home in homes {
        host.start(home);
    }
    host.delivered(SOON);
    let found = SERVER.psql(&database, "SELECT json_agg(home ORDER BY seq) FROM observer.events");
    let found: Vec<String> = serde_json::from_str(&found).unwrap();
    assert_eq!(found, homes.map(as_json));
    let states = SERVER.psql(
        &database,
        "SELECT count(*), count(DISTINCT home_id) FROM observer.session WHERE state = 'live'",
    );
    assert_eq!(states, "7|7");
    for at in 0..3000 {
        host.shared.world().turn(homes[at % homes.len()]);
        host.shared.tell();
    }
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let deaths = "SELECT count(*), count(DISTINCT (home, pid)), count(DISTINCT home) FROM observer.deaths WHERE signal = 9";
    assert_eq!(SERVER.psql(&database, deaths), "1502|1502|7");
    assert_eq!(host.status().rejected, 0);
}

#[test]
fn an_entry_that_the_database_refuses_becomes_a_gap_and_the_rest_arrives() {
    let database = applied(&SERVER);
    SERVER.psql(&database, "ALTER TABLE observer.event ADD CONSTRAINT no_poison CHECK (name <> 'poison')");
    let host = Host::new(&SERVER.url(&database));
    host.delivered(SOON);
    {
        let mut world = host.shared.world();
        for at in 0..2000 {
            let home = if at % 500 == 250 { format!("/srv/{at}/poison") } else { format!("/srv/{at}") };
            world.start(&home);
        }
        // JSON allows NUL; Postgres does not.
        world.entry(
            EntryKind::SessionChanged,
            "/srv/1",
            &json!({"home": "/srv/1", "name": "1", "uid": 0, "state": "live", "x": "\0"}),
        );
        world.start("/srv/last");
    }
    host.shared.tell();
    host.delivered(SOON);
    let gaps = SERVER.psql(
        &database,
        "SELECT seq, detail->>'from_seq', detail->>'to_seq', detail->>'count', detail->>'reason' FROM observer.events
         WHERE kind = 'gap' ORDER BY seq",
    );
    assert_eq!(
        gaps,
        "251|251|251|1|rejected\n751|751|751|1|rejected\n1251|1251|1251|1|rejected\n1751|1751|1751|1|rejected\n\
         2001|2001|2001|1|rejected"
    );
    assert_eq!(
        SERVER.psql(&database, "SELECT count(*), count(DISTINCT seq), max(seq) FROM observer.events"),
        "2002|2002|2002"
    );
    // The state of the poisoned homes is correct: only their entries were refused.
    let states =
        "SELECT count(*) FROM observer.sessions WHERE state = 'live' AND certain AND name = 'poison'";
    assert_eq!(SERVER.psql(&database, states), "4");
    // The state of the home with the NUL could not be written, and its row is marked as uncertain.
    let doubtful = "SELECT home FROM observer.sessions WHERE NOT certain";
    assert_eq!(SERVER.psql(&database, doubtful), "/srv/1");
    assert_eq!(host.status().rejected, 5);
    let result = SERVER.psql(&database, "SELECT detail->>'message' FROM observer.events WHERE seq = 251");
    assert!(result.contains("no_poison") && result.contains("23514"), "{result}");
}

#[test]
fn a_session_row_that_the_database_refuses_is_marked_as_uncertain() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.start("/srv/b");
    host.delivered(SOON);
    SERVER.psql(
        &database,
        "ALTER TABLE observer.session ADD CONSTRAINT lives CHECK (home <> '/srv/a' OR state = 'live')",
    );
    host.kill("/srv/a");
    host.kill("/srv/b");
    host.delivered(SOON);
    let rows = "SELECT home, recorded_state, certain FROM observer.sessions ORDER BY home";
    assert_eq!(SERVER.psql(&database, rows), "/srv/a|live|f\n/srv/b|ended|t");
    assert_eq!(
        SERVER.psql(&database, "SELECT count(*) FROM observer.events WHERE kind = 'session_ended'"),
        "2"
    );
    // The row stays the same after a reconnect, and it is corrected as soon as it can be written.
    let (shared, host_id) = host.ends();
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    assert_eq!(SERVER.psql(&database, rows), "/srv/a|live|f\n/srv/b|ended|t");
    SERVER.psql(&database, "ALTER TABLE observer.session DROP CONSTRAINT lives");
    host.start("/srv/a");
    host.delivered(SOON);
    assert_eq!(SERVER.psql(&database, rows), "/srv/a|live|t\n/srv/b|ended|t");
}

#[test]
fn clock_steps_lose_nothing() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    for years in [0_i64, -51, 200, -1, 1] {
        host.shared.world().clock_ns = years * 365 * 86_400 * 1_000_000_000;
        host.churn(5, 100);
    }
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let years = "SELECT min(extract(year FROM at)), max(extract(year FROM at)) FROM observer.events";
    assert_eq!(SERVER.psql(&database, years), "1975|2226");
}

#[test]
fn a_new_boot_ends_the_sessions_of_the_previous_boot() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    let homes: Vec<String> = (0..1000).map(|at| format!("/srv/{at}")).collect();
    host.churn(homes.len(), homes.len());
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    // These changes happen without a daemon: 500 processes died by a signal, and others took their places.
    shared.churn(500, 1000);
    {
        let mut world = shared.world();
        // The next daemon records the end of each session that it no longer finds.
        homes.iter().for_each(|home| world.vanish(home));
        world.map.clear();
        world.boot_id = uuid::Uuid::new_v4();
    }
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    let rows = "SELECT state, last_death_kind, count(*), count(DISTINCT home) FROM observer.sessions GROUP BY 1, 2 ORDER BY 1";
    assert_eq!(SERVER.psql(&database, rows), "ended|unobserved|1000|1000");
    host.churn(300, 300);
    host.delivered(SOON);
    assert_eq!(SERVER.psql(&database, rows), "ended|unobserved|700|700\nlive|unobserved|300|300");
    has_history(&SERVER, &database, &host);
    let deaths = "SELECT kind, count(*), count(DISTINCT home), count(DISTINCT (pid, start_boottime_ns)) FROM observer.deaths
        GROUP BY 1 ORDER BY 1";
    assert_eq!(SERVER.psql(&database, deaths), "signaled|500|500|500\nunobserved|1000|1000|1000");
}

#[test]
fn after_an_outage_the_state_is_correct_before_history_is_complete() {
    const BACKLOG: usize = 20_000;
    let mut server = Server::start(&[]);
    let database = applied(&server);
    let host = Host::new(&server.url(&database));
    host.churn(50, 75);
    host.delivered(SOON);
    server.stop();
    host.churn(50, BACKLOG);
    let (last, map) = {
        let world = host.shared.world();
        (world.entries.len(), state_of(&world))
    };
    server.start_again();
    let mut reader = server.session(&database, "postgres");
    reader.ask("SET jit = off");
    let look = "SELECT json_build_array(max(st.last_seq), bool_and(h.caught_up), bool_and(s.as_of = h.last_commit_at),
            json_object_agg(s.home, s.recorded_state || ' ' || s.pid))
        FROM observer.sessions s JOIN observer.hosts h USING (host_id) JOIN observer.stream st USING (host_no)";
    let end = Instant::now() + SOON;
    let mut right = Vec::new();
    loop {
        assert!(Instant::now() < end, "{:?}", host.status());
        let (seq, caught_up, dated, state): (usize, bool, bool, BTreeMap<String, String>) =
            serde_json::from_str(&reader.ask(look)).unwrap();
        if seq == last {
            assert!(caught_up);
            break;
        }
        if state == map {
            assert!(!caught_up && dated, "{seq} of {last}: {caught_up} {dated}");
            right.push(seq);
        } else {
            assert_eq!((seq, right.len()), (75, 0), "once right, it stays right");
        }
    }
    assert!(!right.is_empty(), "the state was not seen right before history was whole");
    host.delivered(SOON);
    is_mirrored(&server, &database, &host);
    assert_eq!(reader.ask("SELECT bool_and(as_of = now()) FROM observer.sessions"), "t");
}

/// Returns the parts of a host that outlive its daemon. On this host a session died by SIGKILL and was
/// started again.
fn died_and_lives_again(database: &str) -> (Arc<Shared>, uuid::Uuid) {
    let host = Host::new(&SERVER.url(database));
    host.start("/srv/a");
    host.kill("/srv/a");
    host.start("/srv/a");
    host.delivered(SOON);
    host.ends()
}

#[test]
fn a_session_that_the_rules_exclude_has_not_died() {
    let database = applied(&SERVER);
    let (shared, host_id) = died_and_lives_again(&database);
    {
        let mut world = shared.world();
        let mut session = world.map.remove("/srv/a").unwrap();
        session["state"] = "ended".into();
        session["end_reason"] = "not_admitted".into();
        world.entry(EntryKind::SessionEnded, "/srv/a", &session);
    }
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    let row = "SELECT state, last_death_kind, last_death_signal FROM observer.sessions";
    assert_eq!(SERVER.psql(&database, row), "ended|signaled|9", "its last death was the one before");
    assert_eq!(SERVER.psql(&database, "SELECT count(*) FROM observer.deaths"), "1");
}

#[test]
fn a_death_that_history_delivers_later_is_not_recorded_as_unobserved() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.start("/srv/b");
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    // It died while the database was away; then the daemon was started again and knows only the live
    // sessions.
    let died = {
        let mut world = shared.world();
        world.kill("/srv/a");
        world.vanish("/srv/b");
        let death = world.map["/srv/a"]["death"]["at"].as_str().unwrap().to_owned();
        world.map.clear();
        death
    };
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    let rows = format!(
        "SELECT home, recorded_state, last_death_kind, last_death_signal, last_death_at = '{died}' FROM observer.sessions ORDER BY home"
    );
    assert_eq!(SERVER.psql(&database, &rows), "/srv/a|ended|signaled|9|t\n/srv/b|ended|unobserved||f");
}

#[test]
fn the_last_death_is_the_latest_entry_even_if_an_earlier_death_has_a_later_time() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    SERVER.psql(
        &database,
        "UPDATE observer.session SET last_death_at = '2226-01-01', last_death_kind = 'exited', last_death_code = 1",
    );
    host.kill("/srv/a");
    host.delivered(SOON);
    let death = "SELECT last_death_kind, last_death_signal, last_death_code, last_death_at < '2027-01-01' FROM observer.sessions";
    assert_eq!(SERVER.psql(&database, death), "signaled|9||t");
}

#[test]
fn an_entry_that_is_sent_again_on_another_day_is_stored_once() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(7, 500);
    host.delivered(SOON);
    // The key of yesterday's partition does not prevent a second copy in today's.
    SERVER.psql(
        &database,
        "UPDATE observer.event SET received_at = received_at - interval '1 day' WHERE seq <= 400",
    );
    let (shared, host_id) = host.ends();
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.churn(7, 100);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let days = "SELECT count(DISTINCT tableoid) > 1, count(*) FROM observer.event";
    assert_eq!(SERVER.psql(&database, days), "t|600");
}

#[test]
fn a_lost_journal_begins_another_stream_and_removes_nothing_from_the_first() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(7, 500);
    host.delivered(SOON);
    host.shared.world().begin_anew();
    host.shared.tell();
    host.churn(7, 500);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let streams = "SELECT count(*), min(n), max(n) FROM (SELECT count(*) AS n FROM observer.events GROUP BY stream_id) s";
    assert_eq!(SERVER.psql(&database, streams), "2|500|501");
}

#[test]
fn a_restored_journal_gives_no_number_twice() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(7, 500);
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    // The journal is restored from yesterday's copy.
    shared.world().entries.truncate(300);
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    eventually("a new stream", SOON, || match host.shared.world().begun_anew {
        1 => Ok(()),
        times => Err(format!("{times}")),
    });
    host.churn(7, 100);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let all = "SELECT count(*), count(DISTINCT (stream_id, seq)) FROM observer.events";
    assert_eq!(SERVER.psql(&database, all), "601|601");
}

#[test]
fn a_restored_journal_that_overtook_the_database_gives_no_number_to_another_change() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(7, 3000);
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    let gone: Vec<_> = shared.world().entries.split_off(2000);
    // A whole machine is restored: it makes other changes, more than it lost, before it connects again.
    let mut world = shared.world();
    world.clock_ns = 3_600_000_000_000;
    for at in 0..2000 {
        world.turn(&format!("/srv/other{}", at % 7));
    }
    drop(world);
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    eventually("a new stream", SOON, || match host.shared.world().begun_anew {
        1 => Ok(()),
        times => Err(format!("{times}")),
    });
    host.churn(7, 100);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let counts = "SELECT count(*), count(DISTINCT (stream_id, seq)), count(*) FILTER (WHERE home LIKE '/srv/other%') FROM observer.events";
    assert_eq!(SERVER.psql(&database, counts), "3101|3101|0");
    let first = host.shared.world().former[0].0;
    let kept = format!(
        "SELECT string_agg(home || kind, ',' ORDER BY seq) FROM observer.events WHERE stream_id = '{first}' AND seq > 2000"
    );
    let wanted: Vec<String> = gone
        .iter()
        .map(|entry| format!("{}{}", String::from_utf8_lossy(entry.home.as_deref().unwrap()), entry.kind))
        .collect();
    assert_eq!(SERVER.psql(&database, &kept), wanted.join(","), "what was there is still there");
    // The same journal does not start another stream.
    let (shared, host_id) = host.ends();
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.churn(7, 100);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    assert_eq!(host.shared.world().begun_anew, 1);
}

#[test]
fn a_journal_that_does_not_keep_up_delays_history_but_not_the_state() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.start("/srv/a");
    host.delivered(SOON);
    {
        let mut world = host.shared.world();
        world.kill("/srv/a");
        world.start("/srv/b");
        // The journal's disk is full.
        world.held_back = 2;
    }
    host.shared.tell();
    let rows = "SELECT string_agg(home || ' ' || state, ',' ORDER BY home) FROM observer.sessions";
    eventually("the state is the map", SOON, || match SERVER.psql(&database, rows).as_str() {
        "/srv/a ended,/srv/b live" => Ok(()),
        rows => Err(rows.to_owned()),
    });
    assert_eq!(SERVER.psql(&database, "SELECT max(seq) FROM observer.events"), "1");
    host.shared.world().held_back = 0;
    host.shared.tell();
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn a_journal_that_cannot_be_read_delays_history_but_neither_presence_nor_the_state() {
    // The journal cannot be read at all, or only up to the last entry in the database.
    for readable_to in [0, 100] {
        unreadable_beyond(readable_to);
    }
}

fn unreadable_beyond(readable_to: u64) {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.churn(7, 100);
    host.delivered(SOON);
    let (shared, host_id) = host.ends();
    shared.world().readable_to = readable_to;
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.start("/srv/new");
    let row = "SELECT state, certain, (SELECT max(seq) FROM observer.events) FROM observer.sessions WHERE home = '/srv/new'";
    eventually("the state is the map", SOON, || match SERVER.psql(&database, row).as_str() {
        "live|t|100" => Ok(()),
        row => Err(row.to_owned()),
    });
    host.comes_to(MirrorState::CatchingUp, "cannot be read", SOON);
    let until = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < until {
        assert!(is_present(&SERVER, &database, &host));
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = host.status();
    assert_eq!(status.connections, 1);
    assert!(status.failures < 20, "it is not tried without a pause: {status:?}");
    host.shared.world().readable_to = u64::MAX;
    host.churn(7, 3000);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn a_session_that_is_unknown_to_a_new_journal_has_not_died() {
    let database = applied(&SERVER);
    let (shared, host_id) = died_and_lives_again(&database);
    {
        // Its terminal is gone, so no rule admits it: only the journal knew that it is a session.
        let mut world = shared.world();
        world.map.clear();
        world.begin_anew();
    }
    let host = Host::of(shared, host_id, &SERVER.url(&database));
    host.delivered(SOON);
    let row = "SELECT state, roots, last_death_kind, last_death_signal FROM observer.sessions";
    assert_eq!(SERVER.psql(&database, row), "ended|0|signaled|9", "its last death was the one before");
}

#[test]
fn listeners_receive_the_host_number_and_a_listener_in_a_transaction_delays_nobody() {
    let database = applied(&SERVER);
    let mut stuck = SERVER.session(&database, "postgres");
    stuck.ask("LISTEN observer; BEGIN; SELECT 1");
    let mut listener = SERVER.session(&database, "postgres");
    listener.ask("LISTEN observer");
    let host = Host::new(&SERVER.url(&database));
    host.churn(10, 2000);
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let number = SERVER.psql(&database, "SELECT host_no FROM observer.hosts");
    let wanted = format!("Asynchronous notification \"observer\" with payload \"{number}\"");
    eventually("the hint", Duration::from_secs(10), || {
        let received = listener.ask("SELECT 1");
        if received.contains(&wanted) { Ok(()) } else { Err(received) }
    });
    assert_eq!(host.status().notify_failures, 0);
}

#[test]
fn listeners_are_notified_of_a_host_at_most_once_a_second() {
    let database = applied(&SERVER);
    let host = Host::new(&SERVER.url(&database));
    host.delivered(SOON);
    let mut listener = SERVER.session(&database, "postgres");
    listener.ask("LISTEN observer");
    let began = Instant::now();
    let mut changes = 0;
    while began.elapsed() < Duration::from_secs(5) || changes < 1000 {
        host.churn(10, 1);
        changes += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    let received = listener.ask("SELECT 1").matches("Asynchronous notification").count();
    // The limit is one notification at once, one for each second, and one that was on its way when the
    // listener connected.
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    assert!((3..=most).contains(&received), "{received} of {most}");
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
}

#[test]
fn a_login_without_the_right_to_notify_still_delivers() {
    let database = applied(&SERVER);
    SERVER.psql(&database, "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC");
    let (host_id, login) = (uuid::Uuid::new_v4(), format!("mute_{database}"));
    SERVER.psql(
        &database,
        &format!("CREATE ROLE {login} LOGIN IN ROLE observer_writer; INSERT INTO observer.writers VALUES ('{login}', '{host_id}')"),
    );
    let host = Host::of(super::host::world(), host_id, &SERVER.url_as(&database, &login));
    for round in 1..=3 {
        host.churn(10, 1000);
        eventually("hints that fail are counted", SOON, || match host.status().notify_failures {
            failures if failures >= round => Ok(()),
            failures => Err(format!("{failures}")),
        });
    }
    host.delivered(SOON);
    is_mirrored(&SERVER, &database, &host);
    let status = host.status();
    assert_eq!((status.connections, status.failures, status.last_error), (1, 0, None));
}
