//! The fields that scripts outside this repository rely on, and their types.

use observer_harness::fixture::PuppetOptions;
use observer_harness::watch::SOON;
use observer_harness::{Daemon, Fixture, Pty, Watch, eventually};
use serde_json::Value;

/// The type of a field.
#[derive(Clone, Copy, Debug)]
enum Is {
    Number,
    Text,
    /// A number of 64 bits in a string.
    Big,
    Flag,
    Texts,
    Object,
    /// An RFC 3339 time in UTC.
    Time,
    /// A device as `major:minor`.
    Device,
    Null,
}

fn holds(value: &Value, kind: Is) -> bool {
    let text = value.as_str().unwrap_or("");
    match kind {
        Is::Number => value.is_u64(),
        Is::Text => value.is_string(),
        Is::Big => text.parse::<u64>().is_ok(),
        Is::Flag => value.is_boolean(),
        Is::Texts => value.as_array().is_some_and(|words| words.iter().all(Value::is_string)),
        Is::Time => text.len() >= 20 && text.ends_with('Z') && text.get(10..11) == Some("T"),
        Is::Device => {
            text.split_once(':').is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok())
        }
        Is::Object => value.is_object(),
        Is::Null => value.is_null(),
    }
}

/// What a session has cost.
const COST: [(&str, Is); 4] = [
    ("cpu_ms", Is::Number),
    ("cpu_children_ms", Is::Number),
    ("max_rss_bytes", Is::Number),
    ("processes", Is::Number),
];

#[track_caller]
fn assert_fields(object: &Value, fields: &[(&str, Is)]) {
    for &(field, kind) in fields {
        let value = object.get(field).unwrap_or_else(|| panic!("{field} is missing: {object:#}"));
        assert!(holds(value, kind), "{field} is {kind:?}: {object:#}");
    }
}

#[test]
fn a_process_has_the_fields_that_scripts_rely_on() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let pty = Pty::open();
    let puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    let row = daemon.row(puppet.pid).expect("it lives");
    let fields = [
        ("pid", Is::Number),
        ("ppid", Is::Number),
        ("start_boottime_ns", Is::Big),
        ("comm", Is::Text),
        ("program", Is::Text),
        ("exe", Is::Text),
        ("argv", Is::Texts),
        ("argv_source", Is::Text),
        ("cwd", Is::Text),
        ("cwd_dev", Is::Device),
        ("cwd_ino", Is::Big),
        ("mnt_ns", Is::Number),
        ("tty", Is::Text),
        ("uid", Is::Number),
        ("sid", Is::Number),
        ("pgid", Is::Number),
        ("boot_id", Is::Text),
    ];
    assert_fields(&row, &fields);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("this boot's id");
    assert_eq!(row.get("boot_id").and_then(Value::as_str), Some(boot_id.trim()));
}

#[test]
fn a_session_has_the_fields_that_scripts_rely_on() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let pty = Pty::open();
    let home = fixture.mkdir("contract");
    let puppet =
        fixture.cast(&PuppetOptions { pty: Some(&pty), dir: Some(home.clone()), ..Default::default() });
    let started = watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
    let list = daemon.list();
    let row =
        list.iter().find(|row| row.get("home").and_then(Value::as_str) == home.to_str()).expect("its row");
    let fields = [
        ("name", Is::Text),
        ("home", Is::Text),
        ("pid", Is::Number),
        ("start_boottime_ns", Is::Big),
        ("started_at", Is::Time),
        ("tty", Is::Text),
        ("comm", Is::Text),
        ("program", Is::Text),
        ("exe", Is::Text),
        ("argv", Is::Texts),
        ("cwd", Is::Text),
        ("cwd_dev", Is::Device),
        ("cwd_ino", Is::Big),
        ("uid", Is::Number),
        ("state", Is::Text),
        ("certain", Is::Flag),
        ("roots", Is::Number),
        ("instance", Is::Number),
        ("owner", Is::Null),
        ("foreign", Is::Flag),
        ("wrapper_pid", Is::Null),
        ("foreground", Is::Flag),
        ("stopped", Is::Flag),
        ("pane", Is::Null),
        ("boot_id", Is::Text),
        ("key", Is::Text),
        ("labels", Is::Object),
    ];
    assert_fields(row, &fields);
    assert_fields(&started.0, &fields);
    assert_fields(row.get("cost").expect("a cost"), &COST);
    assert_fields(
        &started.0,
        &[("seq", Is::Number), ("at", Is::Time), ("boottime_ns", Is::Big), ("kind", Is::Text)],
    );
}

#[test]
fn a_death_has_the_fields_that_scripts_rely_on() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let pty = Pty::open();
    let home = fixture.mkdir("certified");
    let options = PuppetOptions { pty: Some(&pty), dir: Some(home.clone()), ..Default::default() };
    let puppet = fixture.cast(&options);
    let started = watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
    let (pid, key) = (puppet.pid, started.field("key").cloned());
    puppet.killed(libc::SIGTERM);
    let ended = watch.wait_for("its end", |frame| frame.is("session_ended", pid)).0;
    let listed = daemon.observer(&["list", "--ended", "--json"]).json();
    let of_home = |row: &&Value| row.get("home").and_then(Value::as_str) == home.to_str();
    let listed = listed.as_array().and_then(|rows| rows.iter().find(of_home)).expect("it is listed").clone();
    let recorded = eventually("the end is in the journal", SOON, || {
        let of_home = |entry: &&Value| of_home(entry) && entry.get("kind") == Some(&"session_ended".into());
        daemon.history().iter().find(of_home).cloned().ok_or("it is not".to_owned())
    });
    for object in [&ended, &listed, &recorded] {
        assert_eq!(object.get("key"), key.as_ref(), "{object:#}");
        let death = object.get("death").expect("a death");
        assert_eq!(death, ended.get("death").expect("a death"), "the same everywhere");
        assert_fields(
            death,
            &[
                ("kind", Is::Text),
                ("code", Is::Null),
                ("signal", Is::Number),
                ("signal_name", Is::Text),
                ("core_dumped", Is::Flag),
                ("at", Is::Time),
                ("between", Is::Null),
                ("lifetime_ms", Is::Number),
                ("polite_signal", Is::Null),
                ("oom", Is::Null),
            ],
        );
        assert_fields(death.get("cost").expect("a cost"), &COST);
        assert_fields(
            death.get("sender").expect("a sender"),
            &[
                ("pid", Is::Number),
                ("comm", Is::Text),
                ("uid", Is::Number),
                ("by", Is::Text),
                ("key", Is::Text),
            ],
        );
    }
}

#[test]
fn a_change_of_a_session_has_the_fields_that_changed() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let pty = Pty::open();
    let (home, below) = (fixture.mkdir("changed"), fixture.mkdir("changed/below"));
    let options = PuppetOptions { pty: Some(&pty), dir: Some(home.clone()), ..Default::default() };
    let mut puppet = fixture.cast(&options);
    let started = watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
    assert!(started.0.get("changed").is_none(), "a start is no change: {started:?}");
    puppet.chdir(&below);
    let frame = watch.wait_for("its move", |frame| {
        frame.is("session_changed", puppet.pid)
            && frame.field("cwd").and_then(Value::as_str) == below.to_str()
    });
    let cwd = frame.0.get("changed").and_then(|changed| changed.get("cwd"));
    assert_eq!(cwd, Some(&serde_json::json!([home.to_str(), below.to_str()])), "{frame:?}");
}

#[test]
fn started_at_is_the_wall_clock_at_birth() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let date = |at: &str| {
        std::process::Command::new("date").args(["-u", "-d", at, "+%s"]).output().expect("run date")
    };
    let seconds = |out: std::process::Output| {
        String::from_utf8_lossy(&out.stdout).trim().parse::<i64>().expect("seconds")
    };
    let before = seconds(date("now"));
    let puppet = fixture.puppet();
    let after = seconds(date("now"));
    let row = daemon.row(puppet.pid).expect("it lives");
    let started = seconds(date(row.get("started_at").and_then(Value::as_str).expect("started_at")));
    assert!((before..=after).contains(&started), "{before} {started} {after}");
}

#[test]
fn the_status_has_the_fields_that_scripts_rely_on() {
    let daemon = Daemon::shared();
    let status = daemon.status();
    let fields = [
        ("gaps", Is::Number),
        ("resyncs", Is::Number),
        ("drift_total", Is::Number),
        ("processes", Is::Number),
        ("sessions", Is::Number),
        ("ring_bytes", Is::Number),
    ];
    assert_fields(&status, &fields);
    for field in ["events_by_kind", "drops_by_kind"] {
        let kinds = status.get(field).and_then(Value::as_object).expect("an object");
        assert!(!kinds.is_empty() && kinds.values().all(Value::is_u64), "{field}: {status:#}");
    }
    assert_eq!(status.get("ring_bytes").and_then(Value::as_u64), Some(8 << 20), "the default");
    let hooks = status.get("hooks").and_then(Value::as_array).expect("hooks");
    for hook in hooks {
        assert_fields(hook, &[("fact", Is::Text), ("source", Is::Text)]);
    }
    for fact in ["birth", "exec", "death"] {
        assert!(
            hooks.iter().any(|hook| hook.get("fact").and_then(Value::as_str) == Some(fact)),
            "{fact}: {hooks:#?}"
        );
    }
    assert!(status.get("blind_spots").is_some_and(Value::is_array), "{status:#}");
    assert!(status.get("uptime").is_some_and(Value::is_number), "{status:#}");
}

#[test]
fn an_audit_compares_every_process_and_finds_no_difference() {
    let daemon = Daemon::shared();
    daemon.assert_no_drift();
    let (audit, _) = daemon.audit();
    let compared = audit.get("processes").and_then(Value::as_u64).unwrap_or(0);
    let shown = daemon.ps().len() as u64;
    // Other tests start and end processes at the same time.
    assert!(compared.abs_diff(shown) <= shown / 2 + 20, "{compared} compared, {shown} shown");
}
