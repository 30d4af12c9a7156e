//! What was born in a session and outlives it: in its certificate, listed, and signalled.

use std::fs;
use std::path::Path;
use std::time::Duration;

use observer_harness::fixture::PATIENCE;
use observer_harness::{Pty, Puppet, Verb, eventually, text};
use serde_json::Value;

use crate::Scene;
use crate::waits::{Clients, ended, waiting};

/// Only what calls itself `agent` is a session, so that what it starts is none. Its file has another name.
const RULE: &str = "comm = \"agent\"";
/// Bytes that each server takes, so that they are well above what the kernel does not count yet.
const MEMORY_BYTES: u64 = 16 << 20;
/// By how much the memory of one process may differ: what single CPUs have not added to its counters, and what the kernel gives
/// it for a system call in between.
const TOLERANCE_BYTES: u64 = 2 << 20;

fn rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("VmRSS") * 1024
}

fn field<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path} of {value:#}"))
}

/// A process that `above` starts by another one, which ends: it leads a POSIX session without a terminal, and has memory.
fn server(scene: &Scene, above: &mut Puppet) -> Puppet {
    let (mut middle, _) = above.bears(&scene.fixture, Verb::Fork, &[]);
    let (mut server, _) = middle.bears(&scene.fixture, Verb::Fork, &[]);
    let middle_pid = middle.pid.to_string();
    middle.request(Verb::Exit, &[b"0"]);
    above.does(Verb::Wait, &[middle_pid.as_bytes()]);
    server.does(Verb::Setsid, &[]);
    let mut server = becomes(scene, server, "server");
    server.does(Verb::TakesMemory, &[MEMORY_BYTES.to_string().as_bytes()]);
    server
}

/// The process executes another program.
fn becomes(scene: &Scene, mut puppet: Puppet, name: &str) -> Puppet {
    let (token, program) = (scene.fixture.token(), scene.fixture.program(name));
    puppet.request(Verb::Exec, &[program.to_str().expect("a path").as_bytes(), token.as_bytes()]);
    // It is the same process, which ends with its last puppet.
    std::mem::forget(puppet);
    scene.fixture.meet(&token)
}

/// What `observer leftovers` lists of `name`: pids in order, and the array.
fn leftovers(scene: &Scene, name: &str) -> (Vec<u64>, Vec<Value>) {
    let result = scene.daemon.observer(&["leftovers", name, "--json"]);
    let rows = result.json().as_array().expect("an array").clone();
    assert_eq!(result.code, Some(if rows.is_empty() { 1 } else { 0 }), "{result:?}");
    let mut pids: Vec<u64> = rows.iter().filter_map(|row| text::u64_any(row, "pid")).collect();
    pids.sort_unstable();
    (pids, rows)
}

fn pids(puppets: &[&Puppet]) -> Vec<u64> {
    let mut pids: Vec<u64> = puppets.iter().map(|it| u64::from(it.pid)).collect();
    pids.sort_unstable();
    pids
}

fn lives(puppet: &Puppet) -> bool {
    !puppet.is_gone_within(Duration::ZERO)
}

/// A session that was killed, and what it left.
fn abandoned<const N: usize>(scene: &Scene, home: &Path, pty: &Pty) -> (String, [Puppet; N], Value) {
    let mut agent = scene.agent(home, pty);
    let live = scene.assert_session(home, &agent, "live");
    let servers = std::array::from_fn(|_| server(scene, &mut agent));
    agent.killed(libc::SIGKILL);
    let ended = scene.wait_for_frame("session_ended", home);
    let at_once = ended.death().get("left").expect("left").clone();
    let left = if N == 0 {
        at_once
    } else {
        assert_eq!(at_once, Value::Null, "who ends with the session is not known yet");
        counted(scene, home)
    };
    (field(&live, "/key").to_owned(), servers, left)
}

/// What a session of `home` left, as it is counted a moment after its end.
fn counted(scene: &Scene, home: &Path) -> Value {
    scene.wait_for_frame("session_left", home).field("left").expect("left").clone()
}

#[test]
fn what_outlives_a_killed_session_is_certified_listed_and_signalled_and_nobody_else_is() {
    let mut scene = Scene::new(RULE);
    let (home, pty, other_pty) = (scene.home("deserted"), Pty::open(), Pty::open());
    let stranger = scene.named("server", &home, &other_pty);
    let (key, mut servers, left) = abandoned::<3>(&scene, &home, &pty);

    assert_eq!(left.get("processes"), Some(&3.into()), "{left:#}");
    let had: u64 = servers.iter().map(|it| rss_bytes(it.pid)).sum();
    let rss = left.get("rss_bytes").and_then(Value::as_u64).expect("rss_bytes");
    assert!(rss.abs_diff(had) <= 3 * TOLERANCE_BYTES && rss >= 3 * MEMORY_BYTES, "{rss}, /proc says {had}");
    let rows: Vec<Value> = servers.iter().map(|it| scene.daemon.row(it.pid).expect("it lives")).collect();
    let mut keys: Vec<&str> = rows.iter().map(|row| field(row, "/key")).collect();
    let mut named: Vec<&str> =
        left.get("keys").and_then(Value::as_array).expect("keys").iter().filter_map(Value::as_str).collect();
    keys.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, keys);
    let killed = eventually("the entry in history", PATIENCE, || {
        let killed =
            scene.daemon.observer(&["history", "--killed", "--state-dir", state_dir(&scene).as_str()]);
        if killed.text().contains("left 3 processes, ") { Ok(killed) } else { Err(format!("{killed:?}")) }
    });
    assert!(killed.text().contains("MB"), "{killed:?}");

    let (found, rows) = leftovers(&scene, "deserted");
    assert_eq!(found, pids(&[&servers[0], &servers[1], &servers[2]]));
    for row in &rows {
        assert_eq!(field(row, "/session/key"), key, "{row:#}");
        assert_eq!(field(row, "/session/home"), home.to_str().expect("a path"));
        assert!(keys.contains(&field(row, "/key")));
        let pid = text::u64_any(row, "pid").and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
        let rss = row.get("rss_bytes").and_then(Value::as_u64).expect("rss_bytes");
        assert!(rss.abs_diff(rss_bytes(pid)) <= TOLERANCE_BYTES, "{row:#}");
    }

    // The session is started again in its home, and what it starts is its own.
    let mut again = scene.agent(&home, &pty);
    scene.assert_session(&home, &again, "live");
    let own = server(&scene, &mut again);
    // What one of them starts is one of them.
    let (late, _) = servers[0].bears(&scene.fixture, Verb::Fork, &[]);
    let expected = pids(&[&servers[0], &servers[1], &servers[2], &late]);
    assert_eq!(leftovers(&scene, "deserted").0, expected);

    let keys_before: Vec<String> =
        leftovers(&scene, &key).1.iter().map(|it| field(it, "/key").into()).collect();
    assert_eq!(scene.daemon.stop(), Some(0));
    scene.daemon.restart();
    let (found, rows) = leftovers(&scene, &key);
    assert_eq!(found, expected, "after a restart of the daemon");
    let mut keys_after: Vec<String> = rows.iter().map(|it| field(it, "/key").into()).collect();
    let mut keys_before = keys_before;
    keys_before.sort();
    keys_after.sort();
    assert_eq!(keys_after, keys_before);

    let planned =
        scene.daemon.observer(&["signal", "--leftovers", "deserted", "TERM", "--dry-run", "--json"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert_eq!(targets(&planned.json(), "planned"), expected);
    assert!(servers.iter().all(lives));
    let sent =
        scene.daemon.observer(&["signal", "--leftovers", "deserted", "TERM", "--wait", "--timeout", "20s"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(servers.iter().chain([&late]).all(|it| !lives(it)), "{sent:?}");
    assert!([&stranger, &again, &own].into_iter().all(lives), "{sent:?}");
    scene.assert_session(&home, &again, "live");
    assert_eq!(leftovers(&scene, "deserted").0, [0; 0]);
    let none = scene.daemon.observer(&["signal", "--leftovers", "deserted", "TERM"]);
    assert_eq!((none.code, none.text()), (Some(1), ""), "{none:?}");
}

fn state_dir(scene: &Scene) -> String {
    scene.daemon.state_dir().to_str().expect("a path").to_owned()
}

/// The pids of the targets with this outcome, in order.
fn targets(report: &Value, outcome: &str) -> Vec<u64> {
    let targets = report.get("targets").and_then(Value::as_array).expect("targets");
    let of = |it: &&Value| it.get("outcome").and_then(Value::as_str) == Some(outcome);
    let mut pids: Vec<u64> = targets.iter().filter(of).filter_map(|it| text::u64_any(it, "pid")).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn where_processes_were_born_is_known_to_the_next_daemon_whether_their_session_lives_or_not() {
    for ends_meanwhile in [false, true] {
        let mut scene = Scene::new(RULE);
        let (home, pty) = (scene.home("lasting"), Pty::open());
        let mut agent = scene.agent(&home, &pty);
        scene.assert_session(&home, &agent, "live");
        // Their parents have ended, so the kernel does not know it.
        let servers = [server(&scene, &mut agent), server(&scene, &mut agent)];
        assert_eq!(scene.daemon.stop(), Some(0));
        let agent = if ends_meanwhile {
            agent.killed(libc::SIGKILL);
            None
        } else {
            Some(agent)
        };
        scene.daemon.restart();
        if let Some(agent) = agent {
            assert_eq!(leftovers(&scene, "lasting").0, [0; 0], "it lives");
            agent.killed(libc::SIGKILL);
        }
        let expected = pids(&[&servers[0], &servers[1]]);
        assert_eq!(leftovers(&scene, "lasting").0, expected, "{ends_meanwhile}");
    }
}

#[test]
fn after_a_killed_daemon_nobody_says_that_nothing_is_left() {
    let mut scene = Scene::new(RULE);
    let (home, pty) = (scene.home("orphaned"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    // Its parent has ended, so the kernel does not know where it was born.
    let left = server(&scene, &mut agent);
    let answers = |scene: &Scene| {
        let asked =
            [&["leftovers"][..], &["leftovers", "orphaned"], &["signal", "--leftovers", "orphaned", "TERM"]];
        asked.map(|words| {
            let result = scene.daemon.observer(words);
            assert_eq!(result.text(), "", "{result:?}");
            result.code
        })
    };
    let status = |scene: &Scene, path: &str| {
        let status = scene.daemon.observer(&["status", "--json"]).json();
        status.pointer(path).and_then(Value::as_u64)
    };
    let unrecorded = |scene: &Scene| status(scene, "/anomalies/births_unrecorded");
    assert_eq!(scene.daemon.stop(), Some(0));
    scene.daemon.restart();
    assert_eq!((answers(&scene), unrecorded(&scene)), ([Some(1); 3], Some(0)), "it was told");

    // With its first entry, what it was told is removed.
    eventually("the commit", PATIENCE, || match status(&scene, "/journal/queued") {
        Some(0) => Ok(()),
        queued => Err(format!("{queued:?} entries wait")),
    });
    scene.daemon.kill();
    scene.daemon.restart();
    scene.assert_session(&home, &agent, "live");
    let waits = waiting(&scene, &["wait", "orphaned", "--left"]);
    agent.killed(libc::SIGKILL);
    let waited = ended(waits);
    assert_eq!(waited.code, Some(128 + libc::SIGKILL), "{waited:?}");
    assert!(!waited.text().contains("left nothing"), "{waited:?}");
    assert!(waited.stderr.contains("what orphaned left is not known"), "{waited:?}");
    assert_eq!((answers(&scene), unrecorded(&scene)), ([Some(4); 3], Some(1)));
    // A daemon that is stopped passes on that it does not know.
    assert_eq!(scene.daemon.stop(), Some(0));
    scene.daemon.restart();
    assert_eq!((answers(&scene), unrecorded(&scene)), ([Some(4); 3], Some(1)));
    assert!(lives(&left));
}

#[test]
fn what_the_hang_up_of_the_terminal_ends_is_not_left() {
    let scene = Scene::new(RULE);
    for (name, daemons) in [("hung-up", 0), ("daemonized", 1)] {
        let (home, pty) = (scene.home(name), Pty::open());
        let mut agent = scene.agent(&home, &pty);
        scene.assert_session(&home, &agent, "live");
        let daemonized: Vec<Puppet> = (0..daemons).map(|_| server(&scene, &mut agent)).collect();
        // They are in the foreground, which the kernel tells that the terminal's session is over.
        let jobs: Vec<Puppet> =
            (0..5).map(|_| becomes(&scene, agent.bears(&scene.fixture, Verb::Fork, &[]).0, "job")).collect();
        agent.killed(libc::SIGKILL);
        let ended = eventually("the count", PATIENCE, || {
            let rows = scene.daemon.observer(&["list", "--ended", "--json"]).json();
            let rows = rows.as_array().cloned().unwrap_or_default();
            let ended = rows.into_iter().find(|row| row.get("home").and_then(Value::as_str) == home.to_str());
            let left = ended.as_ref().and_then(|row| row.pointer("/death/left/processes")?.as_u64());
            left.ok_or_else(|| format!("{ended:#?}"))
        });
        assert!(jobs.iter().all(|job| job.is_gone_within(PATIENCE)), "{name}");
        assert_eq!(ended, daemons, "{name}");
        assert_eq!(leftovers(&scene, name).0, pids(&daemonized.iter().collect::<Vec<_>>()));
        // The journal has it a moment later.
        eventually("the entry", PATIENCE, || {
            let history =
                scene.daemon.observer(&["history", name, "--state-dir", state_dir(&scene).as_str()]);
            let counts =
                ["left 1 process, ", "left "].map(|text| history.text().matches(text).count() as u64);
            if counts == [daemons; 2] { Ok(()) } else { Err(history.text().to_owned()) }
        });
    }
}

#[test]
fn what_a_primary_left_that_executed_another_program_is_known_to_the_next_daemon() {
    for execs_meanwhile in [false, true] {
        let mut scene = Scene::new(RULE);
        let (home, pty) = (scene.home("replaced"), Pty::open());
        let mut agent = scene.agent(&home, &pty);
        scene.assert_session(&home, &agent, "live");
        let servers = [server(&scene, &mut agent), server(&scene, &mut agent)];
        if execs_meanwhile {
            assert_eq!(scene.daemon.stop(), Some(0));
        }
        let mut editor = becomes(&scene, agent, "editor");
        let later = server(&scene, &mut editor);
        let expected = pids(&[&servers[0], &servers[1]]);
        if !execs_meanwhile {
            scene.wait_for_frame("session_ended", &home);
            assert_eq!(leftovers(&scene, "replaced").0, expected);
            assert_eq!(scene.daemon.stop(), Some(0));
        }
        scene.daemon.restart();
        assert_eq!(leftovers(&scene, "replaced").0, expected, "{execs_meanwhile}");
        editor.killed(libc::SIGKILL);
        assert_eq!(leftovers(&scene, "replaced").0, expected, "{} is of no session", later.pid);
    }
}

#[test]
fn a_session_that_leaves_nothing_is_certified_to() {
    let scene = Scene::new(RULE);
    let (home, pty) = (scene.home("tidy"), Pty::open());
    let (_, _, left) = abandoned::<0>(&scene, &home, &pty);
    assert_eq!(left, serde_json::json!({"processes": 0, "rss_bytes": 0, "keys": []}));
    let result = scene.daemon.observer(&["leftovers"]);
    assert_eq!((result.code, result.text()), (Some(1), ""), "{result:?}");
    assert!(result.stderr.contains("no leftovers"), "{result:?}");
}

#[test]
fn leftovers_of_two_homes_with_one_name_are_signalled_by_neither_name_alone() {
    let scene = Scene::new(&format!("{RULE}\nname = \"same\""));
    let (homes, pty) = ([scene.home("one"), scene.home("two")], Pty::open());
    let (_, one, _) = abandoned::<1>(&scene, &homes[0], &pty);
    let (key, two, _) = abandoned::<1>(&scene, &homes[1], &pty);
    let both = scene.daemon.observer(&["signal", "--leftovers", "same", "KILL"]);
    assert_eq!(both.code, Some(3), "{both:?}");
    for home in &homes {
        assert!(both.stderr.contains(home.to_str().expect("a path")), "{both:?}");
    }
    assert!(one.iter().chain(&two).all(lives), "nothing was sent");
    let sent = scene.daemon.observer(&["signal", "--leftovers", &key, "KILL", "--wait"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(one.iter().all(lives) && !two.iter().any(lives), "{sent:?}");
}

#[test]
fn a_leftover_that_runs_another_session_is_listed_and_not_signalled() {
    let scene = Scene::new(RULE);
    let (home, inner_home) = (scene.home("first"), scene.home("within"));
    let ptys = [Pty::open(), Pty::open()];
    let mut agent = scene.agent(&home, &ptys[0]);
    scene.assert_session(&home, &agent, "live");
    // As a multiplexer does it.
    let mut mux = server(&scene, &mut agent);
    let (mut pane, _) = mux.bears(&scene.fixture, Verb::Fork, &[]);
    pane.does(Verb::Setsid, &[]);
    pane.does(Verb::GainsTerminal, &[ptys[1].path.to_str().expect("a path").as_bytes()]);
    pane.chdir(&inner_home);
    let token = scene.fixture.token();
    let program = scene.fixture.program("agent");
    pane.request(Verb::Exec, &[program.to_str().expect("a path").as_bytes(), token.as_bytes()]);
    let inner = scene.fixture.meet(&token);
    eventually("the session within", PATIENCE, || {
        scene.session(&inner_home).map(drop).ok_or_else(|| format!("{:#?}", scene.daemon.list()))
    });
    let other = server(&scene, &mut agent);
    agent.killed(libc::SIGKILL);
    let left = counted(&scene, &home);
    assert_eq!(left.get("processes"), Some(&2.into()), "{left:#}");
    assert_eq!(leftovers(&scene, "first").0, pids(&[&mux, &other]));
    let sent = scene.daemon.observer(&["signal", "--leftovers", "first", "KILL", "--json", "--wait"]);
    assert_eq!(targets(&sent.json(), "sent"), pids(&[&other]), "{sent:?}");
    assert_eq!(targets(&sent.json(), "other_session"), pids(&[&mux]), "{sent:?}");
    assert!(lives(&mux) && lives(&inner) && !lives(&other), "{sent:?}");
}

#[test]
fn wait_says_how_it_ended_and_then_what_it_left_where_it_is_asked_to() {
    let scene = Scene::new(RULE);
    let (home, pty) = (scene.home("awaited"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let servers = [server(&scene, &mut agent), server(&scene, &mut agent)];
    let wait = |flags: &[&str]| waiting(&scene, &[&["wait", "awaited"], flags].concat());
    let (plain, asked, json) = (wait(&[]), wait(&["--left"]), wait(&["--left", "--json"]));
    let pid = agent.pid;
    agent.killed(libc::SIGKILL);

    let (plain, asked, json) = (ended(plain), ended(asked), ended(json));
    let killed = Some(128 + libc::SIGKILL);
    assert_eq!((plain.code, asked.code, json.code), (killed, killed, killed), "{plain:?} {asked:?} {json:?}");
    assert_eq!(plain.text().lines().count(), 1, "{plain:?}");
    let lines: Vec<_> = asked.text().lines().collect();
    let [end, left] = lines[..] else { panic!("two lines: {asked:?}") };
    assert_eq!(end, plain.text().trim_end());
    assert!(end.starts_with(&format!("awaited  {pid}  agent  SIGKILL ")), "{end}");
    assert!(left.starts_with("awaited  left 2 processes, ") && left.ends_with(" MB"), "{left}");
    let json = json.json();
    let counted = counted(&scene, &home);
    let keys = |left: &Value| {
        let keys = left.get("keys").and_then(Value::as_array).expect("keys").iter().filter_map(Value::as_str);
        let mut keys: Vec<_> = keys.map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    };
    let in_death = json.pointer("/death/left").expect("left");
    assert_eq!(in_death.get("processes"), Some(&2.into()), "{json:#}");
    assert_eq!(keys(in_death), keys(&counted));
    assert!(servers.iter().all(lives));

    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let asked = wait(&["--left"]);
    assert_eq!(agent.ends(Verb::Exit, &[b"3"]).si_status, 3);
    let asked = ended(asked);
    assert_eq!(asked.code, Some(3), "{asked:?}");
    assert_eq!(asked.text().lines().last(), Some("awaited  left nothing"), "{asked:?}");
}

#[test]
fn wait_does_not_say_that_nothing_is_left_where_no_daemon_knows_it() {
    let mut scene = Scene::new(RULE);
    let homes = scene.fixture.dir().join("homes");
    let rule = |comm: &str| {
        format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ncomm = \"{comm}\"\n", homes.display())
    };
    let (home, pty) = (scene.home("unknown"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let [asked, json] = [&["wait", "unknown", "--left"][..], &["wait", "unknown", "--left", "--json"]]
        .map(|args| waiting(&scene, args));

    // It is no session any more, and the daemon does not note what outlives it.
    scene.daemon.write_config(&rule("nobody"));
    let before = Clients::of(&scene);
    let result = scene.daemon.observer(&["reload"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    // Both ask for sessions, and then for processes, and listen both times before that.
    before.wait_for(&scene, 1 + 2 * 4, before.watching);
    scene.assert_none(&home);
    let servers: [Puppet; 3] = std::array::from_fn(|_| server(&scene, &mut agent));
    agent.killed(libc::SIGKILL);
    let (asked, json) = (ended(asked), ended(json));
    let killed = Some(128 + libc::SIGKILL);
    assert_eq!((asked.code, json.code), (killed, killed), "{asked:?} {json:?}");
    assert_eq!(asked.text().lines().count(), 1, "{asked:?}");
    for result in [&asked, &json] {
        assert!(result.stderr.contains("what unknown left is not known: no daemon saw"), "{result:?}");
    }
    assert_eq!(json.json().pointer("/death/left"), Some(&Value::Null), "{json:?}");
    assert!(servers.iter().all(lives));

    // The daemon that saw the end is killed before it has counted, and the next one knows of no births.
    scene.daemon.write_config(&rule("agent"));
    assert_eq!(scene.daemon.observer(&["reload"]).code, Some(0));
    let (home, pty) = (scene.home("beheaded"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let left = server(&scene, &mut agent);
    let asked = waiting(&scene, &["wait", "beheaded", "--left"]);
    agent.killed(libc::SIGKILL);
    scene.wait_for_frame("session_ended", &home);
    scene.daemon.kill();
    scene.daemon.restart();
    let asked = ended(asked);
    assert_eq!(asked.code, killed, "{asked:?}");
    assert!(!asked.text().contains("left nothing"), "{asked:?}");
    assert!(lives(&left));
}
