//! `observer watch --database-url` shows every host in one terminal.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;
use serde_json::{Value, json};

use crate::schema::{applied, present, server};

/// The host_id of a host.
pub const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";
const GONE: &str = "7d444840-9dc0-5ad3-9e1b-25f0a5b8d2a1";
const STREAM: &str = "a908e876-0186-4247-9093-5a95ea6af837";
/// The limit for a line to arrive; presence is polled every 5 s.
const LIMIT: Duration = Duration::from_secs(30);

/// A running `observer watch`, which ends when the value is dropped.
pub struct Watcher {
    child: Child,
    lines: Receiver<String>,
}

impl Watcher {
    /// Starts a watcher of the database with these further arguments.
    pub fn start(database: &str, args: &[&str]) -> Self {
        Self::of(&server().url(database), args)
    }

    /// The same, of the database with this connection string.
    pub fn of(url: &str, args: &[&str]) -> Self {
        let mut command = Command::new(product());
        command.args(["watch", "--database-url", url]).args(args).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("start observer watch");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (received, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| received.send(line))
        });
        Self { child, lines }
    }

    /// Returns the lines up to and including the first one that is wanted.
    #[track_caller]
    pub fn until(&self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> Vec<String> {
        let end = Instant::now() + LIMIT;
        let mut lines: Vec<String> = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("{what}; result: {lines:#?}"));
            let found = wanted(&line);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    /// Returns the frames up to and including the first one of this kind.
    #[track_caller]
    pub fn frames(&self, what: &str, kind: &str) -> Vec<Value> {
        let is_kind = |line: &str| parsed(line).get("kind").is_some_and(|found| found == kind);
        self.until(what, is_kind).iter().map(|line| parsed(line)).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses a line as JSON.
#[track_caller]
pub fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The statement that adds an event of a session.
pub fn insert_event(number: &str, seq: u32, kind: &str, name: &str) -> String {
    format!(
        "INSERT INTO observer.event (host_no, stream_id, seq, at, kind, home, name, pid, detail)
         VALUES ({number}, '{STREAM}', {seq}, now(), '{kind}', '/h/{name}', '{name}', 7,
             '{{\"kind\": \"{kind}\", \"at\": \"2026-11-21T08:00:00.000Z\", \"name\": \"{name}\", \"home\": \"/h/{name}\", \"pid\": 7,
                \"comm\": \"python3\", \"state\": \"live\"}}')"
    )
}

/// The statement that adds a row of a session.
pub fn insert_session(number: &str, name: &str, state: &str) -> String {
    format!(
        "INSERT INTO observer.session (host_no, home_id, home, name, state, certain, starts, detail)
         VALUES ({number}, '{name}'::bytea, '/h/{name}', '{name}', '{state}', true, '{{}}',
             '{{\"name\": \"{name}\", \"home\": \"/h/{name}\", \"pid\": 7, \"comm\": \"python3\", \"state\": \"{state}\"}}')"
    )
}

fn seqs(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame.get("event_seq")?.as_u64()).collect()
}

#[test]
fn the_state_of_all_hosts_is_followed_by_each_event_once_even_if_it_is_committed_late() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    server().psql(&database, &format!("INSERT INTO observer.host (host_id, host) VALUES ('{GONE}', 'gone')"));
    daemon.ask(&insert_session(&number, "alpha", "live"));
    daemon.ask(&insert_session(&number, "beta", "ended"));
    daemon.ask(&insert_event(&number, 1, "session_started", "alpha"));
    let gone =
        server().psql(&database, &format!("SELECT host_no FROM observer.host WHERE host_id = '{GONE}'"));
    daemon.ask(&insert_session(&gone, "zeta", "live"));
    let watcher = Watcher::start(&database, &["--json"]);
    let state = watcher.frames("the state", "snapshot_end");
    let received: Vec<_> = state
        .iter()
        .map(|frame| {
            ["kind", "host", "name", "state", "present"]
                .map(|field| frame.get(field).cloned().unwrap_or_default())
        })
        .collect();
    let expected =
        |kind: &str, host: Option<&str>, name: Option<&str>, state: Option<&str>, present: Option<bool>| {
            [json!(kind), json!(host), json!(name), json!(state), json!(present)]
        };
    assert_eq!(
        received,
        [
            expected("snapshot_begin", None, None, None, None),
            expected("host", Some("gone"), None, None, Some(false)),
            expected("host", Some("h"), None, None, Some(true)),
            expected("session", Some("gone"), Some("zeta"), Some("unknown"), None),
            expected("session", Some("h"), Some("alpha"), Some("live"), None),
            expected("snapshot_end", None, None, None, None),
        ]
    );
    // This batch begins before another one and is committed after it.
    let mut late = server().session(&database, "postgres");
    late.ask(&format!("BEGIN; {}", insert_event(&number, 2, "session_changed", "late")));
    daemon.ask(&format!(
        "{}; NOTIFY observer, '{number}'",
        insert_event(&number, 3, "session_started", "gamma")
    ));
    let first = watcher.frames("the event that was committed", "session_started");
    assert_eq!(seqs(&first), [3]);
    late.ask(&format!("COMMIT; NOTIFY observer, '{number}'"));
    let second = watcher.frames("the one that was committed late", "session_changed");
    assert_eq!(seqs(&second), [2], "each once");
    daemon
        .ask(&format!("{}; NOTIFY observer, '{number}'", insert_event(&number, 4, "session_ended", "gamma")));
    assert_eq!(seqs(&watcher.frames("the end", "session_ended")), [4], "and no other again");
    // The loss of a host is detected without a notification.
    let pid = daemon.ask("SELECT pg_backend_pid()");
    server().psql(&database, &format!("SELECT pg_terminate_backend({pid}, 10000)"));
    let lost = watcher.frames("the host is lost", "host_lost");
    assert_eq!(lost.last().and_then(|frame| frame.get("host_id")), Some(&HOST.into()));
    let numbers: Vec<_> =
        [state, first, second, lost].concat().iter().filter_map(|frame| frame.get("seq")?.as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.first() == Some(&1), "{numbers:?}");
}

#[test]
fn text_output_has_the_host_in_each_line_and_only_the_selected_sessions() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    let number = present(&mut daemon, HOST);
    daemon.ask(&format!("UPDATE observer.host SET host = E'web\\x1b' WHERE host_no = {number}"));
    for name in ["alpha", "beta"] {
        daemon.ask(&insert_session(&number, name, "live"));
    }
    let watcher = Watcher::start(&database, &["be*"]);
    let lines = watcher.until("the session", |line| line.contains("beta"));
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.ends_with(r"  is        web\x1b  beta  7  python3  /h/beta"), "{line}");
    for name in ["alpha", "beta"] {
        let (seq, event) = (name.len() as u32, "session_ended");
        daemon.ask(&format!("{}; NOTIFY observer, '{number}'", insert_event(&number, seq, event, name)));
    }
    let lines = watcher.until("the end", |line| line.contains("ended"));
    assert!(lines.len() == 1 && lines.iter().all(|line| line.contains("beta")), "{lines:?}");
}

#[test]
fn a_database_that_cannot_be_watched_is_an_error_with_its_exit_code() {
    let (database, empty) = (applied(), server().database());
    let watch = |args: &[&str]| CommandResult::of(Command::new(product()).arg("watch").args(args));
    let all = watch(&["--all", "--database-url", &server().url(&database)]);
    assert_eq!(all.code, Some(2), "{all:?}");
    assert!(all.stderr.contains("only sessions are mirrored"), "{all:?}");
    let without = watch(&["--database-url", &server().url(&empty)]);
    assert_eq!(without.code, Some(4), "{without:?}");
    assert!(without.stderr.contains("observer schema apply"), "{without:?}");
    let mut watcher = Watcher::start(&database, &["--json"]);
    watcher.frames("the state", "snapshot_end");
    server().psql(
        &database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert_eq!(watcher.child.wait().expect("it ends").code(), Some(4), "the connection ended");
}
