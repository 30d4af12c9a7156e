//! Clients of the socket that send garbage, too much or nothing.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use observer_harness::fixture::PuppetOptions;
use observer_harness::text::u64_any;
use observer_harness::{Cgroup, Daemon, Fixture, Options, Verb, Watch};

/// Reads everything that the daemon sends until it closes the connection, for seconds at most. Returns the
/// bytes and whether the connection was closed.
fn rest(mut stream: &UnixStream) -> (Vec<u8>, bool) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a deadline");
    let mut received = Vec::new();
    let closed = match stream.read_to_end(&mut received) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    (received, closed)
}

#[track_caller]
fn assert_answers_again(daemon: &Daemon) {
    observer_harness::eventually("it answers again", Duration::from_secs(10), || {
        let result = daemon.observer(&["ps", "--json"]);
        if result.code == Some(0) { Ok(()) } else { Err(result.stderr) }
    });
}

/// Asserts that the daemon still serves other clients.
#[track_caller]
fn assert_goes_on(daemon: &Daemon) {
    let fixture = Fixture::new();
    let watch = Watch::all(daemon);
    let puppet = fixture.puppet();
    observer_harness::truth::assert_row(daemon, puppet.pid);
    let pid = puppet.pid;
    puppet.ends(Verb::Exit, &[b"0"]);
    watch.end_of(pid);
}

#[test]
fn garbage_is_answered_with_an_error_and_the_connection_is_closed() {
    let daemon = Daemon::shared();
    for garbage in [
        &b"garbage\n"[..],
        b"{\"request\":\n",
        b"\xff\xfe\x00\n",
        b"{}\n",
        b"[1,2,3]\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\n",
    ] {
        let mut client = UnixStream::connect(daemon.socket()).expect("connect");
        client.write_all(garbage).expect("send");
        client.shutdown(std::net::Shutdown::Write).expect("say that that was all");
        let (received, closed) = rest(&client);
        assert!(closed, "{:?}: the connection is closed", garbage.escape_ascii().to_string());
        let text = String::from_utf8(received).expect("UTF-8");
        assert!(
            text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
            "JSON lines: {text:?}"
        );
        assert!(text.contains("error"), "the client gets the reason: {text:?}");
    }
    assert_goes_on(daemon);
}

#[test]
fn a_line_of_a_megabyte_is_refused() {
    let daemon = Daemon::shared();
    let mut client = UnixStream::connect(daemon.socket()).expect("connect");
    client.set_write_timeout(Some(Duration::from_secs(5))).expect("a deadline");
    // The daemon may close the connection before it has read everything; then the write fails, which is a
    // refusal as well.
    let _ = client.write_all(&vec![b'x'; 1 << 20]);
    let (_, closed) = rest(&client);
    assert!(closed, "the connection is closed");
    assert_goes_on(daemon);
}

#[test]
fn idle_clients_do_not_affect_other_clients() {
    let daemon = Daemon::start(&Options::default());
    let silent: Vec<_> = (0..40).filter_map(|_| UnixStream::connect(daemon.socket()).ok()).collect();
    assert_eq!(silent.len(), 40, "they can connect");
    assert_goes_on(&daemon);
    drop(silent);
    assert_goes_on(&daemon);
}

#[test]
fn a_flood_of_connections_does_not_end_the_daemon() {
    let mut daemon = Daemon::start(&Options::default());
    let flood: Vec<_> = (0..600).filter_map(|_| UnixStream::connect(daemon.socket()).ok()).collect();
    assert!(flood.len() > 32, "some are let in");
    drop(flood);
    assert!(daemon.is_running(), "it goes on");
    assert_answers_again(&daemon);
    assert_goes_on(&daemon);
}

/// Asks, and reads no more than the first byte of the answer.
fn asks_and_stops_reading(daemon: &Daemon, request: &str) -> UnixStream {
    let mut client = UnixStream::connect(daemon.socket()).expect("connect");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("a deadline");
    let mut byte = [0];
    while byte != *b"\n" {
        client.read_exact(&mut byte).expect("the first line");
    }
    client.write_all(format!("{request}\n").as_bytes()).expect("ask");
    client.read_exact(&mut byte).expect("the answer begins");
    client
}

#[test]
fn answers_that_clients_do_not_read_do_not_fill_the_memory_of_the_daemon() {
    // JSON has six bytes for a control character: an answer has 24 MB.
    const PROCESSES: &str = "1000";
    let cgroup = Cgroup::limited("unread", 160 << 20);
    let mut daemon = Daemon::start(&Options { cgroup: Some(cgroup.path.clone()), ..Options::default() });
    let fixture = Fixture::new();
    let args = (0..39).map(|_| "\u{1}".repeat(99).into()).collect();
    let mut parent = fixture.cast(&PuppetOptions { args, ..PuppetOptions::default() });
    parent.patience(Duration::from_secs(60));
    let children = parent.does(Verb::BearsMany, &[PROCESSES.as_bytes()]);
    let mut silent = Vec::new();
    for _ in 0..8 {
        for request in [r#"{"request":"processes"}"#, r#"{"request":"watch","all":true}"#] {
            silent.push(asks_and_stops_reading(&daemon, request));
            assert!(daemon.is_running(), "the daemon did not survive {} such clients", silent.len());
        }
    }
    // Another client gets the answer meanwhile, and so does one that reads on.
    let rows = daemon.ps();
    let pids: HashSet<_> = rows.iter().filter_map(|row| u64_any(row, "pid")).collect();
    assert!(children.iter().all(|pid| pids.contains(pid)));
    let slow = asks_and_stops_reading(&daemon, r#"{"request":"processes"}"#);
    let mut line = b"{".to_vec();
    BufReader::new(&slow).read_until(b'\n', &mut line).expect("the rest of the answer");
    let answer: serde_json::Value = serde_json::from_slice(&line).expect("one line of JSON");
    let rows = answer.get("processes").and_then(|rows| rows.as_array()).expect("its rows");
    assert!(rows.len() >= children.len());
    drop((slow, silent));
    assert_goes_on(&daemon);
    // Its canary may be there too, for a moment.
    assert!(cgroup.pids().contains(&daemon.pid()));
}

#[test]
fn clients_that_disconnect_in_the_middle_of_a_request_do_not_affect_others() {
    let daemon = Daemon::shared();
    for half in [&b"{\"req"[..], b"{\"request\":\"watch\"", b""] {
        for _ in 0..50 {
            let mut client = UnixStream::connect(daemon.socket()).expect("connect");
            // When the daemon is slower than this loop, its slots are full of disconnected clients, and it
            // answers the next client with an error.
            if let Err(error) = client.write_all(half) {
                assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
                let (received, closed) = rest(&client);
                let text = String::from_utf8_lossy(&received);
                assert!(closed && text.contains("error"), "turned away with a word: {text:?}");
            }
        }
    }
    // Until it has noticed that they are gone, their slots are taken, and a watch would be refused.
    assert_answers_again(daemon);
    assert_goes_on(daemon);
}

#[test]
fn the_mode_of_the_socket_excludes_other_users() {
    let daemon = Daemon::shared();
    let meta = std::fs::metadata(daemon.socket()).expect("the socket is there");
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o660, 0), "root and its group alone");
    assert_eq!(meta.permissions().mode() & 0o007, 0, "nobody else");
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(observer_harness::daemon::product());
    let answer = observer_harness::observe::CommandResult::of(
        command.args(["status", "--json", "--socket"]).arg(daemon.socket()),
    );
    crate::assert_refused(&answer, 4, &["become root"]);
}

/// Connects as this user, who is a member of the group, as often as the daemon takes it and `most` times at most. Returns the
/// connections that were greeted, and what the next one got.
fn connections_of(daemon: &Daemon, uid: u32, most: usize) -> (Vec<UnixStream>, String) {
    let socket = daemon.socket();
    let connect = move || {
        if uid != 0 {
            // SAFETY: bare system calls change this thread alone, and integers are all they take.
            let done = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) == 0
                    && libc::syscall(libc::SYS_setresgid, GROUP, GROUP, GROUP) == 0
                    && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
            };
            assert!(done, "become another user: {}", std::io::Error::last_os_error());
        }
        let mut held = Vec::new();
        loop {
            let client = UnixStream::connect(&socket).expect("connect");
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("a deadline");
            let mut line = String::new();
            BufReader::new(&client).read_line(&mut line).expect("a line");
            if !line.contains("protocol") {
                return (held, line);
            }
            held.push(client);
            if held.len() == most {
                return (held, String::new());
            }
        }
    };
    std::thread::spawn(connect).join().expect("it connected")
}

const GROUP: u32 = 3009;

#[test]
fn a_member_of_the_group_who_takes_all_connections_locks_out_no_other_member_and_not_root() {
    let groups = Some("root:x:0:\nobserver:x:3009:\n");
    let daemon = Daemon::start(&Options { groups, ..Options::default() });
    std::fs::set_permissions(daemon.socket(), std::fs::Permissions::from_mode(0o666))
        .expect("open the socket to all");
    let (first, refusal) = connections_of(&daemon, 3001, 100);
    assert_eq!(first.len(), 28, "half of those that are not kept");
    assert!(refusal.contains("\"busy\"") && refusal.contains("this user has 28"), "{refusal}");
    let (second, refusal) = connections_of(&daemon, 3002, 100);
    assert_eq!((second.len(), refusal.contains("this user has 14")), (14, true), "{refusal}");
    let (third, _) = connections_of(&daemon, 3003, 1);
    assert_eq!(third.len(), 1);
    // Those that are kept are root's, however many members there are.
    let rest: Vec<_> = (3004..3020).map(|uid| connections_of(&daemon, uid, 100).0).collect();
    let members = first.len() + second.len() + third.len() + rest.iter().map(Vec::len).sum::<usize>();
    assert_eq!(members, 56);
    let (root, refusal) = connections_of(&daemon, 0, 100);
    assert_eq!((root.len(), refusal.contains("\"busy\"")), (8, true), "{refusal}");
    drop(root);
    assert_answers_again(&daemon);
    // Who is no member is refused before that counts.
    let status =
        observer_harness::observe::CommandResult::of(&mut daemon.command_of(3021, 3021, &["status"]));
    assert_eq!(status.code, Some(4), "{status:?}");
    assert!(status.stderr.contains("this user may not ask"), "{status:?}");
}
