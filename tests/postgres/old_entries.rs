//! Rows that daemons of the first schema wrote, with the JSON of that time, before the schema was brought up to date and while it
//! was: what the views of the last revision show of them.

use observer_harness::postgres::SqlSession;

use crate::revisions::make_1_0;
use crate::schema::{apply_to, present, server, writer};

const HOST: &str = "0d8e3ab4-6a2c-5f0e-9d3b-2f1c7a9b5e11";
const BOOT: &str = "7f3e90ab-1234-4567-89ab-cdef01234567";

/// A process as the first daemons described it, `pid` and comm of which differ.
fn process(pid: u32, comm: &str) -> String {
    format!(
        r#""pid": {pid}, "ppid": 900, "start_boottime_ns": "5000000000{pid}", "started_at": "2026-11-01T09:00:00.000Z",
        "exec_at": "2026-11-01T09:00:00.001Z", "comm": "{comm}", "program": "claude", "exe": "/usr/bin/node",
        "exe_deleted": false, "argv": ["claude"], "argv_truncated": false, "argv_source": "exec", "cwd": "/srv/{comm}",
        "cwd_dev": "253:0", "cwd_ino": "77", "cwd_deleted": false, "cwd_truncated": false, "cwd_unreachable": false,
        "mnt_ns": null, "tty": "pts/3", "tty_dev": "136:3", "foreground": true, "uid": 1000, "euid": 1000, "suid": 1000,
        "sid": {pid}, "pgid": {pid}, "cgroup": "/user.slice", "pane": "%1", "pane_stale": false, "mux": "tmux",
        "mux_socket": "/tmp/tmux-1000/default", "as_of": {{"cwd": null}}, "certain": true, "boot_id": "{BOOT}""#
    )
}

/// A session, with the fields of its primary.
fn session(name: &str, pid: u32, state: &str, death: &str) -> String {
    format!(
        r#"{{"name": "{name}", "home": "/srv/{name}", "home_mnt_ns": null, "state": "{state}",
        "since": "2026-11-01T09:00:01.000Z", "roots": 1, "others": [], "wrapper_pid": null, "moved_to": null,
        "home_deleted": false, "owner": null, "foreign": false, "end_reason": null,
        "starts": ["2026-11-01T09:00:00.000Z"], "tty_input_at": null, "tty_output_at": null, {}, "death": {death}}}"#,
        process(pid, name)
    )
}

/// A death. The first daemons knew no sender: three of its fields were always null.
fn death(fields: &str) -> String {
    format!(
        r#"{{{fields}, "at": "2026-11-01T10:00:00.500Z", "lifetime_ms": 3600500, "sender": null, "polite_signal": null,
        "oom": null, "between": null}}"#
    )
}

/// The entries of a daemon: kind, name, pid, JSON.
fn entries(suffix: &str) -> Vec<(&'static str, String, u32, String)> {
    let name = |name: &str| format!("{name}{suffix}");
    let fine = r#""kind": "exited", "code": 3, "signal": null, "signal_name": null, "core_dumped": null, "raw_status": 768"#;
    let killed = r#""kind": "signaled", "code": null, "signal": 9, "signal_name": "SIGKILL", "core_dumped": false, "raw_status": 9"#;
    let dumped = r#""kind": "signaled", "code": null, "signal": 11, "signal_name": "SIGSEGV", "core_dumped": true, "raw_status": 139"#;
    let unseen = r#"{"kind": "unobserved", "code": null, "signal": null, "signal_name": null, "core_dumped": null,
        "raw_status": null, "at": "2026-11-01T10:00:00.500Z", "lifetime_ms": null, "sender": null, "polite_signal": null,
        "oom": null, "between": ["2026-11-01T09:30:00Z", "2026-11-01T10:00:00.500Z"]}"#;
    let ended = |of: &str, pid, death: &str| (name(of), pid, session(of, pid, "ended", death));
    let mut entries = vec![("session_started", name("fine"), 11, session("fine", 11, "live", "null"))];
    let changed = session("fine", 11, "detached", "null").replacen(
        '{',
        r#"{"changed": {"state": ["live", "detached"], "tty": ["pts/3", null]}, "#,
        1,
    );
    entries.push(("session_changed", name("fine"), 11, changed));
    for (of, pid, death) in
        [("fine", 11, death(fine)), ("killed", 12, death(killed)), ("unseen", 14, unseen.to_owned())]
    {
        let (name, pid, json) = ended(of, pid, &death);
        entries.push(("session_ended", name, pid, json));
    }
    // A primary whose place another process took: its process, and the name and home of the session.
    let replaced = format!(
        r#"{{"name": "dumped", "home": "/srv/dumped", "home_mnt_ns": null, {}, "death": {}}}"#,
        process(13, "dumped"),
        death(dumped)
    );
    entries.push(("process_ended", name("dumped"), 13, replaced));
    entries
}

/// Writes entries as a writer of the first version does, from `first` on.
fn write(daemon: &mut SqlSession, number: &str, first: u64, entries: &[(&str, String, u32, String)]) {
    for (seq, (kind, name, pid, detail)) in (first..).zip(entries) {
        daemon.ask(&format!(
            "INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns,
                 detail)
             VALUES ({number}, '{HOST}', {seq}, '2026-11-01T10:00:00.5Z', '{BOOT}', '{kind}', sha256('{name}'), '/srv/{name}',
                 '{name}', {pid}, 5000000000{pid}, '{detail}')"
        ));
    }
}

/// Every view, and what it shows of these entries.
const SHOWN: [(&str, &str); 9] = [
    (
        "SELECT name, kind, code, signal, signal_name, core_dumped, raw_status, lifetime_ms, comm,
             extract(hour FROM started_at AT TIME ZONE 'UTC'), ended_at = '2026-11-01T10:00:00.5Z',
             after_at = '2026-11-01T09:30:00Z', certificate ->> 'kind' = kind
         FROM observer.deaths WHERE name NOT LIKE '%-later' ORDER BY pid",
        "fine|exited|3||||768|3600500|fine|9|t||t\n\
         killed|signaled||9|SIGKILL|f|9|3600500|killed|9|t||t\n\
         dumped|signaled||11|SIGSEGV|t|139|3600500|dumped|9|t||t\n\
         unseen|unobserved|||||||unseen|9|t|t|t",
    ),
    (
        "SELECT count(*), count(sender_pid), count(sender_comm), count(sender_uid), count(sender_kind), count(sender_by),
             count(polite_signal), count(polite_at), count(polite_sender_pid), count(polite_sender_comm), count(oom_scope),
             count(oom_cgroup), count(cpu_ms), count(cpu_children_ms), count(max_rss_bytes), count(processes),
             count(left_processes), count(left_rss_bytes)
         FROM observer.deaths WHERE name NOT LIKE '%-later'",
        "4|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0",
    ),
    (
        "SELECT name, signal_name, sender_pid, sender_by FROM observer.kills WHERE name NOT LIKE '%-later' ORDER BY pid",
        "killed|SIGKILL||\ndumped|SIGSEGV||",
    ),
    ("SELECT count(*) FROM observer.ignored_sigterm", "0"),
    ("SELECT count(*) FROM observer.restart_loops", "0"),
    ("SELECT count(*) FROM observer.leftovers", "0"),
    (
        "SELECT kind, count(*), count(changed) FROM observer.events WHERE name NOT LIKE '%-later' GROUP BY kind ORDER BY kind",
        "process_ended|1|0\nsession_changed|1|1\nsession_ended|3|0\nsession_started|1|0",
    ),
    (
        "SELECT name, program, pid, tty, state, pane_stale, is_foreign, instance, labels FROM observer.sessions",
        "fine|claude|11|pts/3|live|f|f||",
    ),
    ("SELECT host, present FROM observer.hosts", "h|t"),
];

#[test]
fn what_daemons_of_the_first_schema_wrote_is_in_every_view_of_the_last() {
    let database = server().database();
    make_1_0(server(), &database);
    writer(&database, "host_of_old_entries", HOST);
    let mut daemon = server().session(&database, "host_of_old_entries");
    let number = present(&mut daemon, HOST);
    let row = session("fine", 11, "live", "null");
    daemon.ask(&format!(
        "INSERT INTO observer.session (host_no, home_id, home, name, state, pid, start_boottime_ns, boot_id, tty, uid, certain, detail)
         VALUES ({number}, sha256('fine'), '/srv/fine', 'fine', 'live', 11, 500000000011, '{BOOT}', 'pts/3', 1000, true, '{row}')"
    ));
    let before = entries("");
    write(&mut daemon, &number, 1, &before);

    apply_to(server(), &database);
    let read = |at: &str| {
        for (query, expected) in SHOWN {
            assert_eq!(server().psql(&database, query), expected, "{at}: {query}");
        }
        let every = "SELECT viewname FROM pg_views WHERE schemaname = 'observer' ORDER BY 1";
        for view in server().psql(&database, every).lines() {
            // Each column is computed for each row.
            let rows = server()
                .psql(&database, &format!("SELECT count(to_jsonb(v)::text) FROM observer.{view} AS v"));
            assert!(rows.parse::<u64>().is_ok(), "{at}: {view}: {rows}");
        }
    };
    read("after the migration");
    // The same daemon writes on.
    write(&mut daemon, &number, 1 + before.len() as u64, &entries("-later"));
    read("while a daemon of the first schema writes");
    let later = "SELECT name, kind FROM observer.deaths WHERE name LIKE '%-later' ORDER BY pid";
    assert_eq!(
        server().psql(&database, later),
        "fine-later|exited\nkilled-later|signaled\ndumped-later|signaled\nunseen-later|unobserved"
    );
}
