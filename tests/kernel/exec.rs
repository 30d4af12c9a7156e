//! Execs: which program runs, which thread calls exec, and what an exec leaves unchanged.

use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use observer_harness::Verb;
use observer_harness::fixture::OwnedProcess;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Puppet, Watch, eventually, share, text};
use serde_json::Value;

/// Makes `puppet` exec `program` with more arguments by `verb`. Returns the same process with its new
/// connection, and the old one.
#[track_caller]
fn execs(
    fixture: &Fixture,
    mut puppet: Puppet,
    verb: Verb,
    program: &std::path::Path,
    args: &[&[u8]],
) -> (Puppet, Puppet) {
    let token = fixture.token();
    let mut words = vec![program.as_os_str().as_bytes(), token.as_bytes()];
    words.extend(args);
    puppet.request(verb, &words);
    let same = fixture.meet(&token);
    assert_eq!(same.pid, puppet.pid, "an exec keeps the pid");
    (same, puppet)
}

fn identity(row: &Value) -> (Option<u64>, Option<u64>) {
    (row.get("pid").and_then(Value::as_u64), text::u64_string(row, "start_boottime_ns"))
}

#[test]
fn an_exec_changes_comm_exe_and_argv_and_keeps_the_identity() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let puppet = fixture.puppet();
    let before = assert_row(daemon, puppet.pid);
    let (puppet, _old) =
        execs(&fixture, puppet, Verb::Exec, &fixture.program("renamed"), &[b"one", b"", b"two words"]);
    let row = assert_row(daemon, puppet.pid);
    assert_eq!(identity(&before), identity(&row), "the same process");
    assert_eq!(row.get("comm").and_then(Value::as_str), Some("renamed"));
    let argv: Vec<&str> =
        row.get("argv").and_then(Value::as_array).expect("argv").iter().filter_map(Value::as_str).collect();
    assert_eq!(argv.get(3..), Some(&["one", "", "two words"][..]), "empty arguments are arguments");
    assert_eq!(row.get("argv_source").and_then(Value::as_str), Some("exec"));
    watch.wait_for("the exec", |frame| {
        frame.is("process_execed", puppet.pid) && frame.field("comm") == Some(&"renamed".into())
    });
}

#[test]
fn an_exec_by_a_thread_that_is_not_the_leader_keeps_pid_and_start_time() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let puppet = fixture.puppet();
    let before = assert_row(daemon, puppet.pid);
    let (puppet, _old) = execs(&fixture, puppet, Verb::ExecByThread, &fixture.program("usurper"), &[b"x"]);
    let row = assert_row(daemon, puppet.pid);
    assert_eq!(identity(&before), identity(&row), "the same process, whichever thread went on");
    let ends = watch.count(|frame| frame.is("process_ended", puppet.pid));
    let starts = watch.count(|frame| frame.is("process_started", puppet.pid));
    assert_eq!((starts, ends), (1, 0), "one birth, no death: the old leader's exit is no death");
}

#[test]
fn a_process_that_executed_another_program_has_the_status_of_wait() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    for exec in [Verb::Exec, Verb::ExecByThread] {
        for (end, args) in [(Verb::Exit, &[&b"7"[..]][..]), (Verb::Die, &[b"6", b"0"])] {
            let mut before = fixture.puppet();
            let (token, program) = (fixture.token(), fixture.program("changed"));
            before.request(exec, &[program.as_os_str().as_bytes(), token.as_bytes()]);
            let mut after = fixture.meet(&token);
            let lived = assert_row(daemon, after.pid);
            after.request(end, args);
            let waited = before.reap();
            let frame = watch.end_of_row(&lived);
            let status = frame.death().get("raw_status").cloned();
            assert_eq!(status, Some(waited.raw_status.into()), "{exec:?}, {end:?}: {frame:?}");
            assert_eq!(watch.count(|frame| frame.is("process_ended", after.pid)), 1, "{exec:?}, {end:?}");
        }
    }
}

#[test]
fn a_failed_exec_changes_nothing() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut puppet = fixture.puppet();
    let before = assert_row(daemon, puppet.pid);
    let junk = fixture.dir().join("junk");
    fixture.install(b"\x7fELF but not really", &junk);
    for (path, errno) in
        [(fixture.dir().join("absent"), libc::ENOENT), (fixture.dir(), libc::EACCES), (junk, libc::ENOEXEC)]
    {
        let result = puppet.does(Verb::ExecFails, &[path.as_os_str().as_bytes()]);
        assert_eq!(result, [u64::from(errno.unsigned_abs())], "exec of {}", path.display());
    }
    let after = assert_row(daemon, puppet.pid);
    for field in ["start_boottime_ns", "comm", "exe", "argv", "argv_source", "exec_at", "cwd"] {
        assert_eq!(after.get(field), before.get(field), "{field}");
    }
    assert_eq!(puppet.ends(Verb::Exit, &[b"0"]).si_status, 0);
    watch.end_of_row(&before);
    let pid = u64_pid(&before);
    assert_eq!(
        watch.count(|frame| frame.is("process_execed", pid)
            && frame.field("start_boottime_ns") == before.get("start_boottime_ns")
            && text::bytes(&frame.0, "exe") != text::bytes(&before, "exe")),
        0
    );
}

/// A name that is set by the thread that calls exec is left to the exec's record. A name that another thread
/// sets meanwhile is not, because the exec may fail.
#[test]
fn a_name_that_a_thread_gives_the_leader_during_a_failing_exec_is_shown() {
    // This test has its own daemon, because a query of another test would read every field again.
    let (daemon, fixture) = (Daemon::start(&observer_harness::Options::default()), Fixture::new());
    let watch = Watch::all(&daemon);
    // The kernel follows a script's interpreter five times before it fails with ELOOP, so most of each call
    // is spent within exec.
    let script = fixture.dir().join("script");
    fixture.install(format!("#!{}\n", script.display()).as_bytes(), &script);
    let mut puppet = fixture.puppet();
    for round in share::of(0..60) {
        let name = format!("named-{round}");
        puppet.does(Verb::NamedDuringExec, &[script.as_os_str().as_bytes(), name.as_bytes()]);
        watch.wait_for("the name", |frame| {
            frame.is("process_changed", puppet.pid) && frame.field("comm") == Some(&name.as_str().into())
        });
    }
    // A pass may have found the name before its record arrived. A difference that no record explains within a
    // second is drift.
    let settled = Instant::now() + Duration::from_millis(1_500);
    let status = observer_harness::eventually("differences are settled", Duration::from_secs(10), || {
        assert_row(&daemon, puppet.pid);
        let status = daemon.status();
        if Instant::now() > settled { Ok(status) } else { Err("not yet".to_owned()) }
    });
    assert_eq!(status.get("drift_total").and_then(Value::as_u64), Some(0), "{status:#}");
}

fn u64_pid(row: &Value) -> u32 {
    row.get("pid").and_then(Value::as_u64).and_then(|pid| pid.try_into().ok()).expect("a pid")
}

#[test]
fn a_script_is_shown_with_its_own_name_as_comm() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let script = fixture.dir().join("scripted");
    let text = format!("#!{} {}\n", observer_harness::fixture::puppet_program().display(), fixture.address);
    // A script's first line allows one optional argument only: the arguments are the interpreter, the address
    // and the script's path, which becomes the token.
    fixture.install(text.as_bytes(), &script);
    let mut parent = fixture.puppet();
    let (child, _) = parent.bears(&fixture, Verb::Fork, &[]);
    let mut child = child;
    child.request(Verb::Exec, &[script.as_os_str().as_bytes(), b"ignored"]);
    let same = fixture.meet(&script.display().to_string());
    assert_eq!(same.pid, child.pid);
    let row = assert_row(daemon, same.pid);
    assert_eq!(row.get("comm").and_then(Value::as_str), Some("scripted"), "comm is the script's");
}

#[test]
fn a_long_argv_is_truncated_and_marked_as_truncated() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let long = vec![b'x'; 100_000];
    let (puppet, _old) =
        execs(&fixture, fixture.puppet(), Verb::Exec, &fixture.program("long"), &[&long, b"after"]);
    let row = daemon.row(puppet.pid).expect("it lives");
    let shown = row.get("argv").and_then(Value::as_array).expect("argv");
    let bytes: usize = shown.iter().filter_map(Value::as_str).map(str::len).sum();
    assert!((3_500..=4_096).contains(&bytes), "the first 4 KiB, not {bytes} bytes");
    assert_eq!(row.get("argv_truncated").and_then(Value::as_bool), Some(true), "{row:#}");
    assert_eq!(row.get("cwd").and_then(Value::as_str), fixture.dir().to_str(), "the rest of the row stands");
}

/// Clients that ask while a process execs, and how often each does.
const CLIENTS: usize = 4;
const ANSWERS: usize = 100;
const ANSWERS_EMULATED: usize = 10;

#[test]
fn an_answer_in_the_middle_of_an_exec_has_an_image_that_is_whole() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let shell = fs::read("/bin/sh").expect("a shell");
    // Two scripts that become each other without an end, each with a shell of its own.
    for (script, other) in [("first", "second"), ("second", "first")] {
        let interpreter = fixture.mkdir(format!("of-{script}")).join("sh");
        fixture.install(&shell, &interpreter);
        let text = format!("#!{}\nexec ./{other}\n", interpreter.display());
        fixture.install(text.as_bytes(), &fixture.dir().join(script));
    }
    let mut command = Command::new(fixture.dir().join("first"));
    command.current_dir(fixture.dir()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("start the first");
    let process = OwnedProcess::new(child.id());
    let answers = if share::is_emulated() { ANSWERS_EMULATED } else { ANSWERS };
    let ask = || {
        (0..answers)
            .filter_map(|_| {
                let row = daemon.row(child.id()).expect("it lives");
                let [exe, comm] =
                    ["exe", "comm"].map(|field| row.get(field).and_then(Value::as_str).unwrap_or_default());
                // Before the first exec it is a copy of this process.
                let is_mixed = exe.ends_with("/sh") && !exe.ends_with(&format!("/of-{comm}/sh"));
                is_mixed.then(|| format!("{comm} of {exe}"))
            })
            .collect::<Vec<_>>()
    };
    let mixed: Vec<String> = thread::scope(|scope| {
        let clients = [(); CLIENTS].map(|()| scope.spawn(ask));
        clients.map(|client| client.join().expect("asks")).into_iter().flatten().collect()
    });
    assert_eq!(mixed, Vec::<String>::new(), "comm and exe of different images");
    assert!(process.signal(libc::SIGKILL), "it execs still");
    child.wait().expect("it ends");
}

#[test]
fn a_change_of_comm_leaves_argv_and_exe_unchanged() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    let before = assert_row(daemon, puppet.pid);
    puppet.does(Verb::Setname, &[b"a title"]);
    let row = assert_row(daemon, puppet.pid);
    assert_eq!(row.get("comm").and_then(Value::as_str), Some("a title"));
    assert_eq!((row.get("argv"), row.get("exe")), (before.get("argv"), before.get("exe")));
}

#[test]
fn a_process_older_than_the_daemon_is_shown_with_its_argv() {
    let fixture = Fixture::new();
    let puppet = fixture.cast(&observer_harness::fixture::PuppetOptions {
        args: vec!["before".into(), "the daemon".into()],
        ..Default::default()
    });
    let daemon = Daemon::start(&observer_harness::Options::default());
    let row = assert_row(&daemon, puppet.pid);
    // Reading other users' memory requires a capability that the service does not have.
    let source = if daemon.is_blind_to_older_argv() { None } else { Some("memory") };
    assert_eq!(row.get("argv_source").and_then(Value::as_str), source, "{row:#}");
}

#[test]
fn a_program_in_memory_has_its_name_as_exe_also_with_a_slash() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    for (name, exe) in [(c"plain", "/memfd:plain"), (c"a/b", "/memfd:a/b")] {
        // SAFETY: makes a file; the name is a C string.
        let file = unsafe { libc::memfd_create(name.as_ptr(), 0) };
        assert!(file >= 0, "memfd_create: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        let mut file = unsafe { std::fs::File::from_raw_fd(file) };
        let mut sleep = std::fs::File::open("/bin/sleep").expect("sleep");
        std::io::copy(&mut sleep, &mut file).expect("copy the program into memory");
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let mut command = std::process::Command::new(path);
        // With the test's own output it would keep whoever reads that waiting.
        command.arg("600").current_dir(fixture.dir()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("run it");
        let _ends = OwnedProcess::new(child.id());
        // The parent goes on when the child lets go of its old memory, which is before it has the new.
        eventually("the kernel's link is the file in memory", Duration::from_secs(10), || {
            let link = std::fs::read_link(format!("/proc/{}/exe", child.id()));
            let is_new =
                link.as_ref().is_ok_and(|link| link.as_os_str() == format!("{exe} (deleted)").as_str());
            if is_new { Ok(()) } else { Err(format!("{link:?}")) }
        });
        // The rest of the image follows.
        eventually("its image is the file in memory", Duration::from_secs(10), || {
            let row = daemon.row(child.id()).expect("it lives");
            let is_new = row.get("exe").and_then(Value::as_str) == Some(exe);
            let is_deleted = row.get("exe_deleted") == Some(&Value::Bool(true));
            if is_new && is_deleted { Ok(()) } else { Err(format!("{row:#}")) }
        });
        child.kill().expect("end it");
        child.wait().expect("it ends");
    }
}
