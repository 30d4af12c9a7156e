//! The program as a script sees it where no daemon runs: exit codes, messages, and nothing on standard output that
//! is not an answer. Needs no rights.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

fn observer(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
    command.arg("--socket").arg(socket).args(arguments).stdin(Stdio::null());
    command
}

fn run(socket: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = observer(socket, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn without_a_daemon_what_needs_one_cannot_know() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    for arguments in [&["pid", "a"][..], &["watch"], &["watch", "--json"], &["status"], &["status", "--json"]]
    {
        let (code, out, err) = run(&socket, arguments);
        assert_eq!((code, out.as_str()), (Some(4), ""), "{arguments:?}");
        let expected = format!(
            "observer: no daemon listens on {}: start it with `observer run`, or name its socket with --socket\n",
            socket.display()
        );
        assert_eq!(err, expected);
    }
}

#[test]
fn without_a_daemon_nobody_knows_what_sessions_left() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    for arguments in
        [&["leftovers"][..], &["leftovers", "a", "--json"], &["signal", "--leftovers", "a", "TERM"]]
    {
        let (code, out, err) = run(&socket, arguments);
        assert_eq!((code, out.as_str()), (Some(4), ""), "{arguments:?}");
        let words = "and it alone knows which processes sessions left: start it with `observer run`, or name its socket";
        assert!(err.contains(words), "{err}");
    }
    let (code, _, err) = run(&socket, &["signal", "--leftovers", "a", "TERM", "--tree"]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn without_a_daemon_lists_come_from_the_kernel_or_say_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    for arguments in
        [&["list", "--json"][..], &["ps", "--json"], &["audit", "--json"], &["explain", "1", "--json"]]
    {
        let (code, out, err) = run(&socket, arguments);
        if code == Some(4) {
            assert!(out.is_empty(), "{arguments:?}: {out}");
            assert!(
                err.contains("could not be read") && err.trim_end().ends_with("`observer doctor` says"),
                "{err}"
            );
        } else {
            assert!(matches!(code, Some(0 | 1)), "{arguments:?}: {code:?} {err}");
            let document: serde_json::Value = serde_json::from_str(&out).unwrap();
            let keys = ["drift", "process"];
            assert!(document.is_array() || keys.iter().any(|key| document.get(key).is_some()), "{out}");
        }
    }
}

#[test]
fn without_a_daemon_the_configuration_and_the_journal_are_named_also_to_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let config = dir.path().join("observer.toml");
    std::fs::write(&config, format!("[daemon]\nstate_dir = {:?}\n", dir.path())).unwrap();
    let config = config.to_str().unwrap();
    let journal = dir.path().join("journal.sqlite");
    let journal = journal.to_str().unwrap();
    for arguments in [&["list", "--json"][..], &["list", "--porcelain"], &["explain", "1", "--json"]] {
        let (code, _, err) = run(&socket, &[arguments, &["--config", config]].concat());
        if code == Some(4) && err.contains("could not be read") {
            println!("skipped: {arguments:?} cannot look at this kernel");
            continue;
        }
        assert!(err.starts_with("observer: no daemon on "), "{arguments:?}: {err}");
        assert!(err.contains(config) && err.contains(journal), "{arguments:?}: {err}");
    }
    for arguments in [&["history"][..], &["history", "--json"]] {
        let (_, out, err) = run(&socket, &[arguments, &["--config", config]].concat());
        let expected = format!("observer: this is the journal {journal}, as {config} has it\n");
        assert!(out.is_empty() && err.starts_with(&expected), "{arguments:?}: {err}");
    }
}

#[test]
fn wrong_usage_and_wrong_configuration_are_2() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("o.sock");
    for arguments in
        [&[][..], &["nonsense"], &["list", "--json", "--porcelain"], &["run", "--ring-bytes", "65537"]]
    {
        assert_eq!(run(&socket, arguments).0, Some(2), "{arguments:?}");
    }
    let config = dir.path().join("observer.toml");
    std::fs::write(&config, "[[session]]\ncwd = \"here\"\n").unwrap();
    let (code, out, err) = run(&socket, &["run", "--config", config.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let place = format!("observer: {}:2:7: cwd must be an absolute path", config.display());
    assert!(err.starts_with(&place), "{err}");
}

#[test]
fn help_tells_the_exit_codes() {
    let (code, out, _) = run(Path::new("/nowhere"), &["--help"]);
    assert_eq!(code, Some(0));
    for line in
        ["0  found, fine", "1  certainly none: no session", "2  wrong usage", "3  ambiguous", "4  can't know"]
    {
        assert!(out.contains(line), "{line}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(Path::new("/nowhere"), &["completions", shell]);
        assert!(code == Some(0) && out.contains("observer"), "{shell}");
    }
}

#[test]
fn the_daemon_refuses_a_path_that_is_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "keep").unwrap();
    let (code, _, err) = run(&file, &["run"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("is no socket: remove it, or choose another path with --socket"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "keep");
}

/// A daemon of these lines: it greets, and answers whatever is asked first with `answer`.
fn scripted(socket: &Path, answer: &'static str) -> thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"observer\":\"0\",\"protocol\":1,\"boot_id\":\"b\",\"pid\":1}\n").unwrap();
        let mut request = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut request).unwrap();
        // A client that reads no further is a case of its own.
        let _ = stream.write_all(answer.as_bytes());
        request
    })
}

fn ask(arguments: &[&str], answer: &'static str) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("o.sock");
    let daemon = scripted(&socket, answer);
    let result = run(&socket, arguments);
    daemon.join().unwrap();
    result
}

const TWO: &str = "{\"kind\":\"list\",\"certain\":true,\"sessions\":[\
    {\"name\":\"a\\nb\",\"home\":\"/x/a\\nb\",\"pid\":7,\"cwd\":\"/x/a\\nb\\\\\",\"state\":\"live\"},\
    {\"name\":\"a\\nb\",\"home\":\"/y/\u{202e}\",\"pid\":8,\"cwd\":\"/y/\u{10feff}\",\"state\":\"live\"}]}\n";
const NONE: &str = "{\"kind\":\"list\",\"certain\":true,\"sessions\":[]}\n";
const UNSURE: &str =
    "{\"kind\":\"list\",\"certain\":false,\"sessions\":[{\"name\":\"a\",\"home\":\"/a\",\"pid\":7}]}\n";

#[test]
fn answers_decide_the_exit_code() {
    assert_eq!(ask(&["list", "--json"], NONE), (Some(1), "[]\n".into(), ask(&["list"], NONE).2));
    assert!(ask(&["list"], NONE).2.starts_with("observer: no sessions"));
    assert_eq!(ask(&["pid", "a"], NONE).0, Some(1));
    let (code, out, err) = ask(&["pid", "a\nb"], TWO);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(err.ends_with("name one by its home:\n  /x/a\\nb\n  /y/\\u{202e}\n"), "{err}");
    assert_eq!(ask(&["pid", "/x/a\nb"], TWO), (Some(0), "7\n".into(), String::new()));
    // A pid that may be wrong is not printed: a script would use it.
    for arguments in [&["pid", "a"][..], &["pid", "--key", "a"]] {
        let (code, out, err) = ask(arguments, UNSURE);
        assert_eq!((code, out.as_str()), (Some(4), ""));
        assert!(err.contains("can't know"), "{err}");
    }
    assert_eq!(ask(&["list"], UNSURE).0, Some(4));
    let drift =
        "{\"kind\":\"audit\",\"certain\":true,\"processes\":1,\"drift\":[{\"pid\":1,\"field\":\"cwd\"}]}\n";
    assert_eq!(ask(&["audit", "--json"], drift).0, Some(1));
    assert_eq!(
        ask(&["audit"], "{\"kind\":\"audit\",\"certain\":true,\"processes\":3,\"drift\":[]}\n").0,
        Some(0)
    );
}

#[test]
fn porcelain_is_a_line_a_session_whatever_its_name() {
    let (code, out, _) = ask(&["list", "--porcelain"], TWO);
    assert_eq!(code, Some(0));
    assert_eq!(out, "a\\nb\t7\t/x/a\\nb\\\\\na\\nb\t8\t/y/\\xff\n");
}

#[test]
fn a_key_is_for_scripts_as_a_pid_is() {
    const KEY: &str = "7f3e90ab-7-1a2b3c4d5e";
    const KEYED: &str = "{\"kind\":\"list\",\"certain\":true,\"sessions\":[\
        {\"name\":\"a\",\"home\":\"/x/a\",\"pid\":7,\"cwd\":\"/x/a\",\"state\":\"live\",\"key\":\"7f3e90ab-7-1a2b3c4d5e\"}]}\n";
    assert_eq!(ask(&["pid", "a"], KEYED), (Some(0), "7\n".into(), String::new()));
    for name in ["a", "/x/a", KEY] {
        assert_eq!(
            ask(&["pid", "--key", name], KEYED),
            (Some(0), format!("{KEY}\n"), String::new()),
            "{name}"
        );
    }
    let (code, out, _) = ask(&["list", "--porcelain", "--long"], KEYED);
    assert_eq!((code, out.split('\t').count()), (Some(0), 12), "{out}");
    assert!(out.starts_with("a\t7\t/x/a\t") && out.ends_with(&format!("\t{KEY}\n")), "{out}");
    assert_eq!(ask(&["list", "--porcelain"], KEYED).1, "a\t7\t/x/a\n");
}

#[test]
fn an_empty_list_of_leftovers_is_certain_unless_births_are_unknown() {
    for (until, expected) in [("null", 1), ("\"7\"", 4)] {
        for arguments in [&["leftovers"][..], &["leftovers", "a"], &["leftovers", "--json"]] {
            let answer = format!(
                "{{\"kind\":\"leftovers\",\"certain\":true,\"births_unknown_until_boottime_ns\":{until},\"leftovers\":[]}}\n"
            );
            let (code, out, err) = ask(arguments, answer.leak());
            let shown = if arguments.contains(&"--json") { "[]\n" } else { "" };
            assert_eq!((code, out.as_str()), (Some(expected), shown), "{arguments:?}: {err}");
            assert_eq!(err.contains("ended without leaving what it knew of births"), expected == 4, "{err}");
        }
    }
}

#[test]
fn what_is_no_daemon_is_told_apart() {
    for garbage in ["HTTP/1.1 400\n", "{}\n", ""] {
        let (code, out, err) = ask(&["list", "--json"], garbage);
        // An empty object has no sessions and is not certain.
        assert_eq!(code, Some(4), "{garbage:?}");
        assert!(out.is_empty() || out == "[]\n", "{out}");
        assert!(!err.is_empty());
    }
    let told =
        ask(&["status"], "{\"kind\":\"error\",\"error\":\"busy\",\"message\":\"too many\\u001b[2J\"}\n");
    assert_eq!(told, (Some(4), String::new(), "observer: too many\\x1b[2J\n".into()));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("o.sock");
    let daemon = scripted(&socket, TWO);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        observer(&socket, &["list", "--json"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    daemon.join().unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(output.status.signal(), Some(13), "as SIGPIPE ends other tools");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_password_in_an_argument_is_refused_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    for url in [
        "host=h password=hunter2",
        "postgresql://u:hunter2@h/d",
        "postgresql://u:hunter2@h:port/d",
        "hunter2",
    ] {
        let (code, out, err) = run(&socket, &["run", "--database-url", url]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{url}: {err}");
        assert!(!err.contains("hunter2"), "{err}");
    }
    for text in ["host=h password=hunter2", "postgresql://u:hunter2@h/d"] {
        let (code, _, err) = run(&socket, &["run", "--database-url-file", text]);
        assert_eq!(code, Some(2), "{err}");
        assert!(!err.contains("hunter2") && err.contains("name of a file"), "{err}");
    }
    let (_, _, err) = run(&socket, &["run", "--database-url", "host=h password=hunter2"]);
    assert!(err.contains("--database-url-file"), "{err}");
    let (code, ..) = run(&socket, &["run", "--database-url", "host=h", "--database-url-file", "/f"]);
    assert_eq!(code, Some(2));
}

#[test]
fn local_times_are_those_of_the_zone_that_is_named() {
    if !Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
        observer_harness::skip!("this machine has no time zone database (Debian's package tzdata)");
    }
    let shown = |zone: &str| {
        let wrong = ["history", "--since", "2026-11-21T12:00:00Z", "--until", "2026-07-21T08:00:00Z"];
        let output = observer(Path::new("/nonexistent"), &wrong).env("TZ", zone).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let berlin = shown("Europe/Berlin");
    assert!(berlin.contains("2026-11-21 13:00:00") && berlin.contains("2026-07-21 10:00:00"), "{berlin}");
    let utc = shown("UTC");
    assert!(utc.contains("2026-11-21 12:00:00") && utc.contains("2026-07-21 08:00:00"), "{utc}");
}
