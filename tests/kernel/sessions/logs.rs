//! What the daemon writes to its log, and where.
#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use observer_harness::daemon::product;
use observer_harness::{Daemon, Fixture, Options, eventually, skip};
use serde_json::{Value, json};

/// In an emulated machine a daemon takes half a minute to be ready.
const LIMIT: Duration = Duration::from_secs(90);
/// Within this time ten lines from one place are written.
const WINDOW: Duration = Duration::from_secs(10);
/// Where systemd's journal takes entries.
const JOURNAL: &str = "/run/systemd/journal/socket";

fn with_flags(flags: &[&str]) -> Options {
    Options { flags: flags.iter().map(Into::into).collect(), ..Options::default() }
}

fn log(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.log()).expect("the log")
}

#[test]
fn json_is_an_object_on_each_line() {
    let mut daemon = Daemon::start(&with_flags(&["--log-format", "json", "--log-level", "debug"]));
    assert_eq!(daemon.stop(), Some(0));
    let log = log(&daemon);
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = lines.last().unwrap_or_else(|| panic!("no JSON in {log}"));
    assert_eq!((&last["level"], &last["message"]), (&"info".into(), &"SIGTERM: stopping".into()), "{log}");
    assert_eq!((&last["fields"]["signal"], &last["library"]), (&"SIGTERM".into(), &Value::Null), "{log}");
    assert!(last["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{log}");
    let hooks = lines.iter().filter(|line| line["fields"]["fact"].is_string()).count();
    assert!(hooks >= 5, "{hooks} hooks, each a detail: {log}");
    assert!(!log.contains("observer: info:"), "{log}");
}

/// A daemon that a test started itself; killed with its test.
struct OwnDaemon(Child);

impl OwnDaemon {
    fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and not reaped yet.
        unsafe { libc::kill(self.0.id().cast_signed(), signal) };
    }
}

impl Drop for OwnDaemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_line_on_standard_error_is_json_and_so_are_warnings_about_the_configuration() {
    let fixture = Fixture::new();
    let dir = fixture.mkdir("own");
    let (out, err, config) = (dir.join("out"), dir.join("err"), dir.join("observer.toml"));
    fs::write(&config, "[[session]]\ncomm = \"sixteen-bytes-xx\"\n").expect("a configuration");
    let mut command = Command::new(product());
    command.args(["run", "--log-format", "json", "--log-level", "debug", "--config"]).arg(&config);
    command.arg("--socket").arg(dir.join("o.sock")).arg("--state-dir").arg(dir.join("state"));
    command.stdout(File::create(&out).expect("its output")).stderr(File::create(&err).expect("its log"));
    let mut daemon = OwnDaemon(command.spawn().expect("start the daemon"));
    let has = |path: &Path, words: &str| {
        let text = fs::read_to_string(path).expect("what it wrote");
        if text.contains(words) { Ok(()) } else { Err(text) }
    };
    eventually("it is ready", LIMIT, || has(&out, "is ready"));
    daemon.signal(libc::SIGHUP);
    eventually("it has read its rules again", LIMIT, || has(&err, "the rules were read again"));
    daemon.signal(libc::SIGTERM);
    assert!(daemon.0.wait().is_ok_and(|status| status.success()), "it ends in order");
    let text = fs::read_to_string(&err).expect("its log");
    let json = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    let lines: Vec<Value> = text.lines().map(json).collect();
    assert!(lines.iter().all(Value::is_object), "{text}");
    let is_warning =
        |line: &&Value| line["message"].as_str().is_some_and(|it| it.contains("matches no comm"));
    let warnings: Vec<_> = lines.iter().filter(is_warning).collect();
    assert_eq!(warnings.len(), 2, "at the start and on SIGHUP: {text}");
    for warning in warnings {
        assert_eq!(
            (&warning["level"], &warning["fields"]["line"]),
            (&"warning".into(), &2.into()),
            "{warning}"
        );
    }
}

#[test]
fn every_event_has_a_field_by_which_one_selects() {
    // Nobody listens there.
    let mirror = "[mirror]\ndatabase_url = \"postgresql://agent@127.0.0.1:1/fleet\"\n";
    let config = Some(format!("{mirror}[[session]]\nprogram = \"vim\"\n"));
    let mut daemon = Daemon::start(&Options { config, ..with_flags(&["--log-format", "json"]) });
    eventually("the mirror failed to connect", LIMIT, || {
        let status = daemon.status();
        if status["mirror"]["failures"].as_u64() > Some(0) { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(daemon.observer(&["reload"]).code, Some(0));
    fs::write(daemon.dir().join("observer.toml"), "colour = 1\n").expect("a wrong configuration");
    assert_eq!(daemon.observer(&["reload"]).code, Some(2));
    assert_eq!(daemon.stop(), Some(0));
    let log = log(&daemon);
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for line in lines.iter().filter(|line| line["library"].is_null()) {
        assert!(line["fields"]["part"].is_string(), "{line}");
    }
    let file = daemon.dir().join("observer.toml");
    for (level, fields) in [
        ("warning", json!({"part": "mirror", "reason": "retrying"})),
        ("info", json!({"part": "rules", "count": 1})),
        ("error", json!({"part": "rules", "config": file.to_str()})),
        ("info", json!({"part": "daemon", "signal": "SIGTERM"})),
    ] {
        let is_there = lines.iter().any(|line| line["level"] == level && line["fields"] == fields);
        assert!(is_there, "{level} {fields}: {log}");
    }
}

#[test]
fn what_repeats_is_written_ten_times_and_then_counted() {
    let mut daemon = Daemon::start(&Options { config: Some("[daemon]\n".into()), ..Options::default() });
    fs::write(daemon.dir().join("observer.toml"), "colour = 1\n").expect("a wrong configuration");
    let counted = |lines: u64| {
        format!("warning: {lines} lines were left out that repeat; the first is: the rules stay")
    };
    let begin = Instant::now();
    for _ in 0..14 {
        assert_ne!(daemon.observer(&["reload"]).code, Some(0), "it is refused");
    }
    let lines =
        |log: &str| log.lines().filter(|line| line.contains("error: the rules stay as they are")).count();
    let took = begin.elapsed();
    let left_out = daemon.status()["log_left_out"].as_u64().expect("a count");
    assert_eq!(lines(&log(&daemon)) as u64 + left_out, 14, "{}", log(&daemon));
    if took > WINDOW {
        skip!("fourteen reloads took {took:?}, in which more lines are written");
    }
    assert_eq!(left_out, 4, "{}", log(&daemon));
    eventually("the log says how many", LIMIT, || {
        let log = log(&daemon);
        if log.contains(&counted(left_out)) { Ok(()) } else { Err(log) }
    });
    let begin = Instant::now();
    for _ in 0..12 {
        assert_ne!(daemon.observer(&["reload"]).code, Some(0), "it is refused");
    }
    assert_eq!(daemon.stop(), Some(0));
    if begin.elapsed() < WINDOW {
        assert!(log(&daemon).contains(&counted(2)), "its end reports what waits: {}", log(&daemon));
    }
}

#[test]
fn no_level_and_no_format_shows_the_password_of_the_database() {
    // Nobody listens there.
    let config = "[mirror]\ndatabase_url = \"postgresql://agent:hunter2@127.0.0.1:1/fleet\"\n";
    for format in ["lines", "json"] {
        let flags = with_flags(&["--log-format", format, "--log-level", "debug"]);
        let daemon = Daemon::start(&Options { config: Some(config.into()), ..flags });
        let status = eventually("the mirror failed to connect", LIMIT, || {
            let status = daemon.status();
            if status["mirror"]["failures"].as_u64() > Some(1) { Ok(status) } else { Err(status.to_string()) }
        });
        let (log, status) = (log(&daemon), status.to_string());
        assert!(log.contains("127.0.0.1"), "the log names the server: {log}");
        assert!(!log.contains("hunter2") && !status.contains("hunter2"), "{log}\n{status}");
    }
}

/// The fields of an entry in the protocol of systemd's journal.
fn entry(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        let (line, rest) = bytes.split_at(end);
        bytes = rest.get(1..).unwrap_or_default();
        if let Some(equals) = line.iter().position(|&byte| byte == b'=') {
            let (name, value) = line.split_at(equals);
            fields.insert(text(name), text(value.get(1..).unwrap_or_default()));
            continue;
        }
        // NAME, a line feed, the length in 64 bits, the value, a line feed.
        let Some((length, rest)) = bytes.split_first_chunk() else { break };
        let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length");
        let Some((value, rest)) = rest.split_at_checked(length) else { break };
        fields.insert(text(line), text(value));
        bytes = rest.get(1..).unwrap_or_default();
    }
    fields
}

/// A socket in the place of the journal's.
struct Journal(UnixDatagram);

impl Journal {
    /// `None` where systemd's journal runs.
    fn in_its_place() -> Option<Self> {
        if UnixDatagram::unbound().expect("a socket").connect(JOURNAL).is_ok() {
            return None;
        }
        let _ = fs::remove_file(JOURNAL);
        fs::create_dir_all(Path::new(JOURNAL).parent().expect("a directory")).expect("make it");
        let socket = UnixDatagram::bind(JOURNAL).expect("take the journal's place");
        socket.set_read_timeout(Some(LIMIT)).expect("a deadline");
        Some(Self(socket))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = fs::remove_file(JOURNAL);
    }
}

#[test]
fn entries_of_systemds_journal_have_a_priority_and_fields() {
    let Some(Journal(journal)) = &Journal::in_its_place() else {
        skip!("this machine has a journal of systemd");
    };
    let fixture = Fixture::new();
    let path = fixture.mkdir("own").join("log");
    let log = File::create(&path).expect("the log");
    let metadata = log.metadata().expect("its inode");
    let mut command = Command::new(product());
    command.arg("run").arg("--socket").arg(path.with_file_name("o.sock"));
    command.arg("--state-dir").arg(path.with_file_name("state"));
    command.env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino()));
    command.stdout(log.try_clone().expect("duplicate it")).stderr(log);
    let mut daemon = command.spawn().expect("start the daemon");
    eventually("it is ready", LIMIT, || {
        let text = fs::read_to_string(&path).expect("the log");
        if text.contains("is ready") { Ok(()) } else { Err(text) }
    });
    // SAFETY: the child is ours and not reaped yet.
    unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGTERM) };
    let mut bytes = vec![0; 64 << 10];
    let found = loop {
        let read = journal.recv(&mut bytes).expect("an entry");
        let fields = entry(bytes.get(..read).unwrap_or_default());
        if fields.contains_key("OBSERVER_SIGNAL") {
            break fields;
        }
    };
    daemon.wait().expect("it ends");
    for (name, value) in [
        ("MESSAGE", "SIGTERM: stopping"),
        ("PRIORITY", "6"),
        ("OBSERVER_SIGNAL", "SIGTERM"),
        ("SYSLOG_IDENTIFIER", "observer"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{found:?}");
    }
    let text = fs::read_to_string(&path).expect("the log");
    assert!(!text.contains("stopping"), "nothing is written twice: {text}");
}
