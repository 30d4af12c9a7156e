//! `observer history` on journals made for it.

use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use clap::Parser;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use observer_core::ProcessKey;

use crate::api::entry::{Entry, Subject};
use crate::cli::paths::JOURNAL_NAME;
use crate::journal::{Journal, JournalOptions, MAX_AGE_DEFAULT, MAX_BYTES_MIN};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    history: HistoryArgs,
}

/// 2026-11-21T08:00:00Z.
const BASE_NS: i64 = 1_795_248_000_000_000_000;

/// An entry `minutes` after [`BASE_NS`].
fn entry(minutes: i64, kind: &str, home: &str, detail: &str) -> Entry {
    let name = home.rsplit('/').next().unwrap_or_default();
    Entry {
        at_unix_ns: BASE_NS + minutes * 60_000_000_000,
        boottime_ns: 1,
        boot_id: "boot".into(),
        kind: kind.into(),
        subject: Some(Subject {
            home: home.into(),
            home_mnt_ns: None,
            uid: Some(1000),
            instance: 1,
            name: name.into(),
            process: ProcessKey::new(u32::try_from(minutes).unwrap() + 100, 1),
        }),
        detail: format!("{{\"kind\":\"{kind}\"{detail}}}"),
    }
}

fn death(kind: &str, rest: &str) -> String {
    format!(r#","comm":"claude","state":"ended","end_reason":"died","death":{{"kind":"{kind}"{rest}}}"#)
}

fn sample() -> Vec<Entry> {
    let live = r#","comm":"claude","state":"live","roots":1"#;
    vec![
        entry(0, "session_started", "/srv/alpha", live),
        entry(1, "session_started", "/srv/beta", live),
        entry(2, "session_changed", "/srv/beta", r#","comm":"claude","state":"live","roots":3"#),
        entry(3, "session_changed", "/srv/beta", r#","comm":"claude","state":"detached","roots":1"#),
        entry(4, "session_ended", "/srv/beta", &death("signaled", r#","signal":9,"signal_name":"SIGKILL""#)),
        entry(5, "session_ended", "/srv/alpha", &death("exited", r#","code":3"#)),
        entry(6, "session_started", "/home/beta", r#","comm":"codex","state":"live","found_at":"x""#),
        entry(7, "process_ended", "/home/beta", &death("oom_killed", "")),
        entry(
            8,
            "session_ended",
            "/home/beta",
            r#","comm":"codex","state":"ended","end_reason":"not_admitted""#,
        ),
        Entry { subject: None, ..entry(9, "gap_closed", "", r#","lost":7,"corrected":2"#) },
    ]
}

/// A journal that holds `entries`.
fn journal(dir: &Path, entries: Vec<Entry>) {
    let journal = Journal::open(JournalOptions {
        path: dir.join(JOURNAL_NAME),
        max_bytes: MAX_BYTES_MIN,
        max_age: MAX_AGE_DEFAULT,
        boot_id: "boot".into(),
        delivers: false,
    })
    .unwrap();
    journal.resume();
    journal.complete(BASE_NS);
    entries.into_iter().for_each(|entry| assert!(journal.push(entry).seq().is_some()));
    // Its end writes what is queued.
}

/// Exit, standard output without styles, standard error.
fn history(dir: &Path, arguments: &[&str]) -> (Exit, String, String) {
    let state_dir = ["history", "--state-dir", dir.to_str().unwrap()];
    let line = Line::parse_from(state_dir.iter().chain(arguments));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = match line.history.print(Path::new("/nonexistent/observer.sock"), &mut out, &mut err, None) {
        Ok(exit) => exit,
        Err(error) => {
            err.extend_from_slice(format!("{error:#}").as_bytes());
            error.downcast_ref::<Failure>().map_or(Exit::Unknown, |failure| failure.exit)
        }
    };
    let out = String::from_utf8(out).unwrap();
    (exit, anstream::adapter::strip_str(&out).to_string(), String::from_utf8(err).unwrap())
}

/// EVENT and what follows, of each row.
fn events(dir: &Path, arguments: &[&str]) -> Vec<String> {
    let (exit, out, err) = history(dir, arguments);
    assert_eq!((exit, err.as_str()), (Exit::Found, ""), "{arguments:?}");
    let mut lines = out.lines();
    assert!(lines.next().is_some_and(|head| head.starts_with("WHEN")), "{out}");
    let words = |line: &str| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    lines.map(words).collect()
}

/// What `--killed` prints, one entry an element, without date and time.
fn sentences(dir: &Path, arguments: &[&str]) -> Vec<String> {
    let (exit, out, err) = history(dir, arguments);
    assert_eq!((exit, err.as_str()), (Exit::Found, ""), "{arguments:?}");
    let text = |line: &str| line.split_once("  ").expect("date, time and text").1.to_owned();
    out.lines().map(text).collect()
}

/// The moment that is `seconds` after [`BASE_NS`], here.
fn shown_at(seconds: i64, form: &str) -> String {
    let at = Timestamp::from_nanosecond(i128::from(BASE_NS) + i128::from(seconds) * 1_000_000_000).unwrap();
    at.to_zoned(TimeZone::system()).strftime(form).to_string()
}

fn clock_at(seconds: i64) -> String {
    shown_at(seconds, "%H:%M:%S")
}

/// The end of alpha at 08:03:50 (UTC) by a signal; `sender` and `polite` as in JSON.
fn killed(signal: u8, sender: &str, polite: &str, rest: &str) -> Entry {
    let name = crate::api::death::signal_name(signal);
    let detail = format!(
        r#","signal":{signal},"signal_name":"{name}","at":"2026-11-21T08:03:50.000Z","lifetime_ms":7500000,"sender":{sender},"polite_signal":{polite}{rest}"#
    );
    let detail = death("signaled", &detail);
    Entry { at_unix_ns: BASE_NS + 230_000_000_000, ..entry(3, "session_ended", "/srv/alpha", &detail) }
}

/// The part of the sentence about the end of alpha that says who sent what.
fn causes(entry: Entry) -> String {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), vec![entry]);
    let sentence = sentences(dir.path(), &["--killed", "alpha"]).remove(0);
    let rest = sentence.strip_prefix("alpha (claude, pid 103, in /srv/alpha) was killed after 2h 5m: ");
    rest.unwrap_or_else(|| panic!("{sentence}"))
        .replace(&clock_at(230), "END")
        .replace(&clock_at(140), "BEFORE")
}

const SYSTEMD: &str = r#"{"pid":1,"comm":"systemd","uid":0,"kind":"user","by":"kill"}"#;

fn polite(signal: u8, sender: &str) -> String {
    format!(r#"{{"signal":{signal},"at":"2026-11-21T08:02:20.000Z","sender":{sender}}}"#)
}

fn by_kernel(by: &str, rest: &str) -> String {
    format!(r#"{{"pid":null,"kind":"kernel","by":"{by}"{rest}}}"#)
}

#[test]
fn what_was_killed_is_told_in_a_sentence() {
    assert_eq!(
        causes(killed(9, SYSTEMD, &polite(15, SYSTEMD), "")),
        "pid 1 (systemd) sent SIGTERM at BEFORE; it did not end within 90 s; pid 1 sent SIGKILL at END."
    );
    let bash = r#"{"pid":812,"comm":"bash","uid":7,"kind":"user","by":"kill","session":"be\u001bta"}"#;
    assert_eq!(
        causes(killed(9, bash, &polite(1, &by_kernel("kernel", "")), "")),
        r"the kernel sent SIGHUP at BEFORE, because its terminal was hung up, or the process that controlled it ended; it did not end within 90 s; pid 812 (bash) of session be\x1bta sent SIGKILL at END."
    );
    assert_eq!(
        causes(killed(9, "null", &polite(15, "null"), "")),
        "SIGTERM came at BEFORE, from whom is not known; it did not end within 90 s; SIGKILL ended it at END, and who sent it is not known."
    );
    let itself = r#"{"pid":103,"comm":"claude","uid":7,"kind":"user","by":"tgkill"}"#;
    assert_eq!(
        causes(killed(6, itself, "null", r#","core_dumped":true"#)),
        "it sent SIGABRT to itself at END; it dumped its core."
    );
}

#[test]
fn the_kernels_reasons_are_words() {
    let by_itself = r#"{"kind":"kernel","by":"caused","pid":103,"comm":"claude"}"#;
    let by_shell = r#"{"kind":"kernel","by":"caused","pid":7,"comm":"sh"}"#;
    let because = |reason| by_shell.replace('}', &format!(r#","reason":"{reason}"}}"#));
    let reasons = ["parent_ended", "namespace_ended", "tracer_ended", "cgroup_kill", "hang_up"].map(because);
    let fault = by_kernel("fault", r#","code":1"#);
    let null = by_kernel("fault", r#","code":1,"address":"null_page""#);
    let (alone, timer) = (by_kernel("kernel", ""), by_kernel("timer", r#","code":-2"#));
    for (signal, sender, words) in [
        (11, &*fault, ", because it used an address at which nothing is mapped (code 1)."),
        (11, &null, ", because it used an address at which nothing is mapped (code 1, a null pointer)."),
        (8, &null, ", because it divided an integer by zero (code 1)."),
        (8, &fault, ", because it divided an integer by zero (code 1)."),
        (31, &fault, ", because it made a system call that its seccomp filter forbids (code 1)."),
        (13, by_itself, ", because it wrote to a closed pipe or socket."),
        (25, by_itself, ", because it wrote beyond its limit of file size."),
        (1, &alone, ", because its terminal was hung up, or the process that controlled it ended."),
        (2, &alone, ", because Ctrl-C was typed on its terminal."),
        (24, &alone, ", because it reached its limit of CPU time."),
        (14, &timer, ", because a timer that it had set expired."),
        (
            9,
            by_shell,
            ", because pid 7 (sh) wrote to cgroup.kill, or ended as its parent, its tracer or the first process of its pid namespace.",
        ),
        (
            15,
            &reasons[0],
            ", because its parent, pid 7 (sh), ended, or the thread of it that was the parent.",
        ),
        (9, &reasons[1], ", because pid 7 (sh) ended, the first process of its pid namespace."),
        (9, &reasons[2], ", because its tracer, pid 7 (sh), ended."),
        (9, &reasons[3], ", because pid 7 (sh) wrote to cgroup.kill."),
        (1, &reasons[4], ", because pid 7 (sh) gave up its terminal."),
        (15, by_shell, ", because pid 7 (sh) ended as the parent that it must not outlive."),
        (
            9,
            &alone,
            " for a limit of CPU time, the secure attention key or lack of memory; it does not say which.",
        ),
        (10, &alone, "."),
    ] {
        let name = crate::api::death::signal_name(signal);
        let told = causes(killed(signal, sender, "null", ""));
        assert_eq!(told, format!("the kernel sent {name} at END{words}"));
    }
}

#[test]
fn lack_of_memory_restarts_and_deaths_that_nobody_saw_have_sentences() {
    let dir = tempfile::tempdir().unwrap();
    let oom =
        r#","at":"2026-11-21T08:01:00.000Z","lifetime_ms":340,"oom":{"scope":"cgroup","cgroup":"/a\u001b"}"#;
    let found = r#","signal":9,"signal_name":"SIGKILL","at":"2026-11-21T08:02:00.000Z","lifetime_ms":null,"between":["2026-11-20T08:00:00.000Z","2026-11-21T08:02:00.000Z"]"#;
    let restarts = r#","comm":"claude","state":"live","roots":1,"restarts":{"count":14,"first":"2026-11-21T08:02:00.000Z","last":"2026-11-21T08:02:09.000Z","deaths":{"exited":1,"signaled":13,"unobserved":0},"last_death":{"kind":"signaled","signal":9,"signal_name":"SIGKILL","at":"2026-11-21T08:02:09.000Z","sender":{"pid":1,"comm":"systemd","kind":"user"}}}"#;
    let entries = vec![
        entry(1, "process_ended", "/srv/alpha", &death("oom_killed", oom)),
        entry(2, "session_ended", "/srv/alpha", &death("signaled", found)),
        entry(3, "session_started", "/srv/alpha", restarts),
    ];
    journal(dir.path(), entries);
    let (day_before, [one, two, last]) =
        (shown_at(-86_400, "%Y-%m-%d %H:%M:%S"), [60, 120, 129].map(clock_at));
    let expected = [
        format!(
            r"alpha (claude, pid 101, in /srv/alpha) was killed after 340 ms: the kernel killed it at {one} for lack of memory in the cgroup /a\x1b. Another process took its place."
        ),
        format!(
            "alpha (claude, pid 102, in /srv/alpha) was killed: SIGKILL ended it between {day_before} and {two}, and who sent it is not known."
        ),
        format!(
            "alpha (claude, pid 103, in /srv/alpha) started 14 times from {two} to {last}, and 13 were killed in that time; the last time, pid 1 (systemd) sent SIGKILL at {last}."
        ),
    ];
    assert_eq!(sentences(dir.path(), &["--killed", "alpha"]), expected);
}

#[test]
fn sentences_fit_the_terminal_and_show_no_control_characters() {
    let dir = tempfile::tempdir().unwrap();
    let evil =
        r#"{"pid":812,"comm":"\u001b[2J\nx","uid":7,"kind":"user","by":"kill","session":"\u202e\u0007s"}"#;
    let hostile = killed(9, evil, &polite(15, evil), "");
    let name = b"ev\x1b[2J\nil\xff \xe2\x80\xae".to_vec();
    let home = [&b"/srv/"[..], &name].concat();
    let subject = hostile.subject.clone().map(|it| Subject { home, name, ..it });
    journal(dir.path(), vec![Entry { subject, ..hostile }]);
    for width in [1, 20, 40, 59, 60, 61, 80, 200] {
        let line = Line::parse_from(["history", "--killed", "--state-dir", dir.path().to_str().unwrap()]);
        let (socket, mut out) = (Path::new("/nonexistent/observer.sock"), Vec::new());
        line.history.print(socket, &mut out, &mut Vec::new(), Some(width)).unwrap();
        let plain = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert!(plain.lines().all(|line| line.chars().count() <= width), "{width}: {plain}");
        assert!(plain.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{plain:?}");
        let words: String = plain.split_whitespace().collect();
        for escaped in [r"ev\x1b[2J\nil\xff", r"ofsession\u{202e}\x07s", r"(\x1b[2J\nx)"] {
            assert!(words.contains(escaped), "{escaped} in {width}: {plain}");
        }
    }
}

#[test]
fn the_table_describes_each_entry() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    assert_eq!(
        events(dir.path(), &[]),
        [
            "started alpha 100 claude /srv/alpha",
            "started beta 101 claude /srv/beta",
            "changed beta 102 claude +2 more /srv/beta",
            "detached beta 103 claude /srv/beta",
            "ended beta 104 claude SIGKILL /srv/beta",
            "ended alpha 105 claude exit 3 /srv/alpha",
            "started beta 106 codex found later /home/beta",
            "died beta 107 claude killed for lack of memory; another stands for the home /home/beta",
            "ended beta 108 codex no rule admits it any more /home/beta",
            "healed 7 events lost, 2 corrections",
        ]
    );
}

#[test]
fn removals_with_nothing_shown_in_between_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let live = r#","comm":"claude","state":"live","roots":1"#;
    let removed = |minutes, count| {
        let detail = format!(r#","reason":"retention_size","count":{count}"#);
        Entry { subject: None, ..entry(minutes, "gap", "", &detail) }
    };
    let entries = vec![
        removed(0, 3),
        entry(1, "session_started", "/srv/beta", live),
        removed(2, 5),
        entry(3, "session_started", "/srv/alpha", live),
        removed(4, 1),
    ];
    journal(dir.path(), entries);
    let (alpha, last) = ("started alpha 103 claude /srv/alpha", "missing 1 older entries were removed");
    assert_eq!(events(dir.path(), &["alpha"]), ["missing 8 older entries were removed", alpha, last]);
    let all = ["missing 3 older entries were removed", "started beta 101 claude /srv/beta"];
    assert_eq!(
        events(dir.path(), &[]),
        [&all[..], &["missing 5 older entries were removed", alpha, last]].concat()
    );
}

#[test]
fn a_change_is_described_by_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let changed = |minutes, state: &str, changed: &str| {
        let detail = format!(r#","comm":"vim","state":"{state}","roots":1,"changed":{changed}"#);
        entry(minutes, "session_changed", "/srv/a", &detail)
    };
    let entries = vec![
        changed(0, "live", r#"{"exec_at":["x","y"],"program":["bash","vim"]}"#),
        changed(1, "live", r#"{"cwd":["/srv/a","/srv/a/\\\u001b"]}"#),
        changed(2, "left", r#"{"state":["live","left"],"moved_to":[null,"/x"]}"#),
        changed(3, "detached", r#"{"state":["left","detached"],"tty":["pts/3",null]}"#),
        changed(4, "live", "null"),
        entry(5, "session_changed", "/srv/a", r#","state":"live","roots":2,"changed":{"roots":[1,2]}"#),
    ];
    journal(dir.path(), entries);
    assert_eq!(
        events(dir.path(), &[]),
        [
            "changed a 100 vim exec'd vim /srv/a",
            r"changed a 101 vim in /srv/a/\\\x1b /srv/a",
            "left a 102 vim left for /x /srv/a",
            "detached a 103 vim terminal gone /srv/a",
            "changed a 104 vim /srv/a",
            "changed a 105 roots 1 -> 2, +1 more /srv/a",
        ]
    );
}

#[test]
fn what_a_session_left_has_a_line_and_beside_killed_sessions_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let left = |minutes, home, kind| {
        let detail = format!(
            r#","comm":"node","program":"claude","death_kind":"{kind}","left":{{"processes":3,"rss_bytes":48000000,"keys":["k"]}}"#
        );
        entry(minutes, "session_left", home, &detail)
    };
    journal(dir.path(), vec![left(1, "/srv/alpha", "signaled"), left(2, "/srv/beta", "exited")]);
    assert_eq!(
        events(dir.path(), &[]),
        [
            "leftover alpha 101 claude left 3 processes, 48 MB /srv/alpha",
            "leftover beta 102 claude left 3 processes, 48 MB /srv/beta"
        ]
    );
    assert_eq!(
        sentences(dir.path(), &["--killed"]),
        ["alpha (claude, pid 101, in /srv/alpha) left 3 processes, 48 MB."]
    );
}

#[test]
fn filters_select_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    let pids = |arguments: &[&str]| -> Vec<u32> {
        let rows = events(dir.path(), arguments);
        rows.iter().filter_map(|row| row.split(' ').nth(2)?.parse().ok()).collect()
    };
    assert_eq!(pids(&["alpha"]), [100, 105]);
    assert_eq!(pids(&["/srv/beta"]), [101, 102, 103, 104]);
    assert_eq!(pids(&["/srv/beta///"]), [101, 102, 103, 104]);
    let killed = |arguments: &[&str]| sentences(dir.path(), arguments);
    assert_eq!(killed(&["--killed"]).len(), 3, "two ends, and a gap");
    let [of_beta, gap] = &killed(&["--killed", "/srv/beta"])[..] else { panic!("an end, and a gap") };
    assert!(of_beta.starts_with("beta (claude, pid 104, in /srv/beta)"), "{of_beta}");
    assert_eq!(gap, "healed: 7 events lost, 2 corrections");
    assert_eq!(pids(&["--since", "2026-11-21T08:04:00Z"]), [104, 105, 106, 107, 108]);
    assert_eq!(pids(&["--until", "2026-11-21T08:02:00Z"]), [100, 101]);
    let between = ["--since", "2026-11-21T08:01:00Z", "--until", "2026-11-21T08:03:00Z"];
    assert_eq!(pids(&between), [101, 102]);
    // A name that several homes had, but one in that time.
    assert_eq!(pids(&["beta", "--until", "2026-11-21T08:05:00Z"]), [101, 102, 103, 104]);
}

#[test]
fn a_name_of_several_homes_lists_them_and_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    let (exit, out, err) = history(dir.path(), &["beta"]);
    assert_eq!((exit, out.as_str()), (Exit::Ambiguous, ""));
    assert_eq!(err, "observer: 2 homes are called beta; name one:\n  /home/beta\n  /srv/beta\n");
}

#[test]
fn a_home_can_be_named_by_a_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let base = std::fs::canonicalize(dir.path()).unwrap();
    std::fs::create_dir(base.join("home")).unwrap();
    std::os::unix::fs::symlink(base.join("home"), base.join("link")).unwrap();
    let home = base.join("home");
    journal(&base, vec![entry(0, "session_started", home.to_str().unwrap(), "")]);
    assert_eq!(events(&base, &[base.join("link").to_str().unwrap()]).len(), 1);
    // A home that is gone is found as it was.
    std::fs::remove_dir(&home).unwrap();
    assert_eq!(events(&base, &[home.to_str().unwrap()]).len(), 1);
}

#[test]
fn the_exit_code_is_1_where_nothing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), Vec::new());
    let next = "`observer history` shows all it holds\n";
    for (arguments, what) in [
        (&[][..], "nothing in that time"),
        (&["gamma"], "nothing of gamma in that time"),
        (&["--killed"], "nothing that was killed in that time"),
        (&["--json"], "nothing in that time"),
    ] {
        let (exit, out, err) = history(dir.path(), arguments);
        assert_eq!((exit, out.as_str()), (Exit::None, ""), "{arguments:?}");
        assert_eq!(err, format!("observer: the journal holds {what}; {next}"));
    }
    // Gaps alone are shown, and are no session.
    journal(dir.path(), Vec::new());
    let (exit, out, _) = history(dir.path(), &[]);
    assert_eq!(exit, Exit::None);
    assert!(out.contains("missing") && out.contains("observer was stopped"), "{out}");
}

#[test]
fn errors_end_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let (exit, out, err) = history(dir.path(), &[]);
    assert_eq!((exit, out.as_str()), (Exit::Unknown, ""));
    assert!(err.contains("there is no journal") && err.contains("`observer run`"), "{err}");
    let (exit, _, err) = history(dir.path(), &["--since", "1h", "--until", "2h"]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("must be earlier"), "{err}");
    std::fs::write(dir.path().join(JOURNAL_NAME), "no database at all, but some text").unwrap();
    let (exit, out, err) = history(dir.path(), &[]);
    assert_eq!((exit, out.as_str()), (Exit::Unknown, ""));
    assert!(err.contains("cannot read the journal"), "{err}");
}

#[test]
fn json_has_one_object_per_line_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), sample());
    let (exit, out, err) = history(dir.path(), &["--json", "--killed"]);
    assert_eq!((exit, err.as_str()), (Exit::Found, ""));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = lines.iter().map(|it| (it["event_seq"].as_u64(), it["kind"].as_str())).collect();
    assert_eq!(
        found,
        [(Some(5), Some("session_ended")), (Some(8), Some("process_ended")), (Some(10), Some("gap_closed"))]
    );
    assert!(lines.iter().all(|it| it["stream_id"].as_str().is_some_and(|id| id.len() == 36)));
    assert_eq!(lines[0]["death"]["signal"], 9);
}

#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let home = b"/srv/\x1b[2J\n\xffevil\xe2\x80\xae".to_vec();
    let name = home[5..].to_vec();
    let comm = serde_json::to_string("a\u{1b}]0;owned\u{7}").unwrap();
    let detail = format!(r#","comm":{comm},"state":"\u001b[31mlive","roots":1"#);
    let mut hostile = entry(0, "session_changed", "/srv/x", &detail);
    hostile.subject = hostile.subject.map(|it| Subject { home: home.clone(), name: name.clone(), ..it });
    let unknown = Entry { kind: "new\x1bkind".into(), ..entry(1, "session_changed", "/srv/y", "") };
    journal(dir.path(), vec![hostile, unknown]);
    let (exit, out, _) = history(dir.path(), &[]);
    assert_eq!(exit, Exit::Found);
    assert_eq!(out.lines().count(), 3);
    assert!(out.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{out:?}");
    assert!(out.contains(r"\x1b[2J\n\xffevil\u{202e}"), "{out}");
    // Bytes that are no text are named as bytes.
    let wanted = OsString::from_vec(name);
    let line = Line::parse_from([
        OsString::from("history"),
        "--state-dir".into(),
        dir.path().as_os_str().into(),
        wanted,
    ]);
    let mut out = Vec::new();
    assert_eq!(
        line.history
            .print(Path::new("/nonexistent/observer.sock"), &mut out, &mut Vec::new(), Some(40))
            .unwrap(),
        Exit::Found
    );
    let plain = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
    assert!(plain.lines().all(|line| line.chars().count() <= 40), "{plain}");
}

#[test]
fn a_home_is_named_from_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let here = std::env::current_dir().unwrap().canonicalize().unwrap();
    let live = r#","comm":"claude","state":"live","roots":1"#;
    let at = |path: &Path| path.to_str().unwrap().to_owned();
    journal(
        dir.path(),
        vec![
            entry(0, "session_started", &at(&here), live),
            entry(1, "session_started", &at(&here.join("src")), live),
            entry(2, "session_started", "/srv/alpha", live),
        ],
    );
    for (typed, session) in [(".", &here), ("./src", &here.join("src"))] {
        let (exit, out, err) = history(dir.path(), &[typed]);
        let name = session.file_name().unwrap().to_str().unwrap();
        assert_eq!((exit, err.as_str()), (Exit::Found, ""), "{typed}");
        assert_eq!(out.lines().count(), 2, "{out}");
        assert!(out.contains(&format!(" {name} ")), "{typed}: {out}");
    }
}
