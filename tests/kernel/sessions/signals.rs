//! `observer signal`: it reaches the process that is meant, and never another one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use observer_harness::daemon::product;
use observer_harness::fixture::{PATIENCE, PuppetOptions};
use observer_harness::observe::CommandResult;
use observer_harness::{Pty, Puppet, Verb, eventually, share, text};
use serde_json::Value;

use crate::Scene;
use crate::waits::Clients;

const USR1: &[u8] = b"10";

fn counted(puppet: &mut Puppet) -> u64 {
    puppet.does(Verb::Counted, &[]).first().copied().expect("a count")
}

fn key_of(row: &Value) -> &str {
    row.get("key").and_then(Value::as_str).expect("a key")
}

/// `targets` of the JSON as (pid, outcome).
fn targets(report: &Value) -> Vec<(u64, String)> {
    let targets = report.get("targets").and_then(Value::as_array).expect("targets");
    let pair = |target: &Value| {
        let outcome = target.get("outcome").and_then(Value::as_str).expect("an outcome");
        (text::u64_any(target, "pid").expect("a pid"), outcome.to_owned())
    };
    targets.iter().map(pair).collect()
}

/// Runs a command of the product behind others, such as setpriv.
fn behind(scene: &Scene, words: &[&str], args: &[&str]) -> CommandResult {
    let (first, rest) = words.split_first().expect("a program");
    let mut command = Command::new(first);
    command.args(rest).arg(product()).args(args).arg("--socket").arg(scene.daemon.socket());
    CommandResult::of(&mut command)
}

#[test]
fn a_signal_by_name_or_number_reaches_the_primary_and_no_other_session() {
    let scene = Scene::new("");
    let homes = ["meant", "other"].map(|name| scene.home(name));
    let ptys = [Pty::open(), Pty::open()];
    let mut meant = scene.agent(&homes[0], &ptys[0]);
    let mut other = scene.agent(&homes[1], &ptys[1]);
    let row = scene.assert_session(&homes[0], &meant, "live");
    scene.assert_session(&homes[1], &other, "live");
    let realtime = (libc::SIGRTMIN() + 3).to_string();
    for puppet in [&mut meant, &mut other] {
        puppet.does(Verb::Counts, &[USR1]);
        puppet.does(Verb::Counts, &[realtime.as_bytes()]);
    }
    let (path, key) = (homes[0].to_str().expect("a path of text"), key_of(&row));
    let forms = [["meant", "USR1"], ["meant", "SIGUSR1"], [path, "usr1"], [key, "10"], ["meant", "RTMIN+3"]];
    for (sent, args) in (1..).zip(&forms) {
        let result = scene.daemon.observer(&[&["signal"], &args[..]].concat());
        assert_eq!((result.code, result.stderr.as_str()), (Some(0), ""), "{args:?}: {result:?}");
        let signal = if args[1] == "RTMIN+3" { "SIGRTMIN+3" } else { "SIGUSR1" };
        assert_eq!(result.text(), format!("meant  {}  agent  {key}  {signal} sent\n", meant.pid));
        assert_eq!(counted(&mut meant), sent, "{args:?}");
    }
    let check = scene.daemon.observer(&["signal", "meant", "0", "--json"]);
    let report = check.json();
    assert_eq!(check.code, Some(0), "{check:?}");
    assert_eq!((report.get("signal"), report.get("signal_name")), (Some(&0.into()), Some(&Value::Null)));
    let planned = scene.daemon.observer(&["signal", "meant", "KILL", "--dry-run", "--json"]);
    assert_eq!(
        (planned.code, targets(&planned.json())),
        (Some(0), vec![(meant.pid.into(), "planned".into())])
    );
    assert_eq!((counted(&mut meant), counted(&mut other)), (forms.len() as u64, 0), "no more was sent");
}

#[test]
fn among_sessions_of_one_name_that_of_the_home_is_signalled() {
    let scene = Scene::new("name = \"same\"");
    let homes = ["one", "two"].map(|name| scene.home(name));
    let ptys = [Pty::open(), Pty::open()];
    let (mut first, mut second) = (scene.agent(&homes[0], &ptys[0]), scene.agent(&homes[1], &ptys[1]));
    for (home, agent) in homes.iter().zip([&mut first, &mut second]) {
        scene.assert_session(home, agent, "live");
        agent.does(Verb::Counts, &[USR1]);
    }
    let [one, two] = homes.each_ref().map(|home| home.to_str().expect("a path of text"));
    let signal = |args: &[&str]| scene.daemon.observer(&[&["signal"], args].concat());
    let both = signal(&["same", "USR1"]);
    assert_eq!((both.code, both.text()), (Some(3), ""), "{both:?}");
    assert!(both.stderr.contains(one) && both.stderr.contains(two), "{both:?}");
    let sent = signal(&["same", "USR1", "--home", two]);
    assert_eq!((sent.code, sent.stderr.as_str()), (Some(0), ""), "{sent:?}");
    assert!(sent.text().starts_with(&format!("same  {}  agent  ", second.pid)), "{sent:?}");
    for (name, home) in [("same", "/nowhere"), ("other", two)] {
        let none = signal(&[name, "USR1", "--home", home]);
        assert_eq!((none.code, none.text()), (Some(1), ""), "{none:?}");
    }
    assert_eq!((counted(&mut first), counted(&mut second)), (0, 1));
}

#[test]
fn what_cannot_be_signalled_is_said_with_an_exit_code_and_nothing_is_sent() {
    let scene = Scene::new("");
    let home = scene.home("guarded");
    let pty = Pty::open();
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.does(Verb::Counts, &[USR1]);
    std::os::unix::fs::chown(&home, Some(3001), Some(3001)).expect("give the home away");
    let stranger_pty = Pty::open();
    let stranger = scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        dir: Some(home.clone()),
        pty: Some(&stranger_pty),
        uid: Some(3002),
        ..PuppetOptions::default()
    });
    eventually("the stranger's session is known as foreign", PATIENCE, || {
        let rows = scene.daemon.list();
        let is_foreign = |row: &Value| row.get("foreign") == Some(&true.into());
        if rows.iter().any(is_foreign) { Ok(()) } else { Err(format!("{rows:#?}")) }
    });
    let cases: [(&[&str], i32, &str); 7] = [
        (&["nobody", "USR1"], 1, "no session nobody"),
        (&["guarded", "USR1", "--user", "3003"], 1, "no session guarded of user 3003"),
        (&["guarded", "NOPE"], 2, "expected a signal: TERM, INT, HUP"),
        (&["guarded", "USR1", "--timeout", "1s"], 2, "--wait"),
        (&["guarded", "USR1", "--wait", "--dry-run"], 2, "--dry-run"),
        (&["nobody", "USR1", "--wait"], 127, "no session nobody"),
        (&["guarded", "USR1", "--if", "1-2"], 2, "expected a key"),
    ];
    for (args, code, words) in cases {
        let result = scene.daemon.observer(&[&["signal"], args].concat());
        assert_eq!(result.code, Some(code), "{args:?}: {result:?}");
        assert!(result.stderr.contains(words), "{args:?}: {result:?}");
    }
    // The owner's session has ended: who stands there is another user's.
    assert_eq!(counted(&mut agent), 0);
    agent.killed(libc::SIGKILL);
    let foreign = scene.daemon.observer(&["signal", "guarded", "KILL"]);
    assert_eq!(foreign.code, Some(3), "{foreign:?}");
    assert!(foreign.stderr.contains("--user 3002  (foreign)"), "{foreign:?}");
    let waiting = scene.daemon.observer(&["signal", "guarded", "KILL", "--wait"]);
    assert_eq!(waiting.code, Some(125), "{waiting:?}");
    assert!(stranger.signal(0), "it was not signalled");
    let chosen = scene.daemon.observer(&["signal", "guarded", "KILL", "--user", "3002", "--wait"]);
    assert_eq!(chosen.code, Some(128 + libc::SIGKILL), "{chosen:?}");
}

#[test]
fn without_a_daemon_nothing_is_sent() {
    let mut scene = Scene::new("");
    let home = scene.home("blind");
    let pty = Pty::open();
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    scene.daemon.kill();
    for (args, code) in [(&["blind", "KILL"][..], 4), (&["blind", "KILL", "--wait"], 125)] {
        let result = scene.daemon.observer(&[&["signal"], args].concat());
        assert_eq!(result.code, Some(code), "{result:?}");
        assert!(result.stderr.contains("no daemon listens on"), "{result:?}");
    }
    assert!(agent.signal(0), "it lives");
}

#[test]
fn a_signal_acts_on_the_life_with_the_key_only() {
    let scene = Scene::new("");
    let home = scene.home("fenced");
    let pty = Pty::open();
    let agent = scene.agent(&home, &pty);
    let row = scene.assert_session(&home, &agent, "live");
    let same = scene.daemon.observer(&["signal", "fenced", "TERM", "--if", key_of(&row), "--wait"]);
    assert_eq!(same.code, Some(128 + libc::SIGTERM), "{same:?}");
    drop(agent);
    let mut next = scene.agent(&home, &pty);
    next.does(Verb::Counts, &[USR1]);
    let now = scene.assert_session(&home, &next, "live");
    let stale = scene.daemon.observer(&["signal", "fenced", "USR1", "--if", key_of(&row)]);
    let words = format!("observer: fenced is another process now: {}\n", key_of(&now));
    assert_eq!((stale.code, stale.stderr), (Some(1), words));
    let ended = scene.daemon.observer(&["signal", key_of(&row), "USR1"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(counted(&mut next), 0, "nothing was sent");
}

#[test]
fn with_wait_it_prints_how_the_primary_ended_and_exits_so() {
    let scene = Scene::new("");
    let home = scene.home("awaited");
    let pty = Pty::open();
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.does(Verb::Ignore, &[b"15"]);
    let over = scene.daemon.observer(&["signal", "awaited", "TERM", "--wait", "--timeout", "0s"]);
    assert_eq!((over.code, over.stderr.as_str()), (Some(124), "observer: awaited still runs\n"), "{over:?}");
    let over = scene.daemon.observer(&["signal", "awaited", "TERM", "--wait", "--timeout", "0s", "--json"]);
    assert_eq!((over.code, over.json().get("end")), (Some(124), Some(&Value::Null)), "{over:?}");
    let pid = agent.pid;
    let mut kill = scene.daemon.command(&["signal", "awaited", "KILL", "--wait", "--timeout", "20s"]);
    let kill = kill.stdout(Stdio::piped()).spawn().expect("start observer");
    let sender = kill.id();
    let killed = kill.wait_with_output().expect("wait for observer");
    assert_eq!(killed.status.code(), Some(128 + libc::SIGKILL), "{killed:?}");
    let lines = String::from_utf8(killed.stdout).expect("observer writes UTF-8");
    let end = lines.lines().nth(1).expect("a second line");
    let expected = format!("awaited  {pid}  agent  SIGKILL by observer ({sender}), ");
    assert!(end.starts_with(&expected) && end.contains(" s after SIGTERM by observer ("), "{lines}");
    assert!(end.contains(", lived "), "{lines}");
    drop(agent);
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let ended = scene.daemon.observer(&["signal", "awaited", "INT", "--wait", "--json"]);
    let report = ended.json();
    assert_eq!(ended.code, Some(128 + libc::SIGINT), "{ended:?}");
    assert_eq!(targets(&report), [(agent.pid.into(), "sent".into())]);
    assert_eq!(report.pointer("/end/death/signal_name"), Some(&"SIGINT".into()), "{report:#}");
}

#[test]
fn a_stopped_primary_acts_on_a_signal_when_it_is_continued_and_on_sigkill_at_once() {
    let scene = Scene::new("");
    let home = scene.home("halted");
    let pty = Pty::open();
    for signal in ["CONT", "KILL"] {
        let agent = scene.agent(&home, &pty);
        scene.assert_session(&home, &agent, "live");
        let stopped = scene.daemon.observer(&["signal", "halted", "STOP"]);
        assert_eq!((stopped.code, stopped.stderr.as_str()), (Some(0), ""), "{stopped:?}");
        eventually("that it is known as stopped", PATIENCE, || match scene.session(&home) {
            Some(row) if row.get("stopped") == Some(&true.into()) => Ok(()),
            row => Err(format!("{row:?}")),
        });
        let result = scene.daemon.observer(&["signal", "halted", "TERM"]);
        assert_eq!(result.code, Some(0), "{result:?}");
        assert!(result.stderr.contains("`observer signal halted CONT`"), "{result:?}");
        assert!(!agent.is_gone_within(Duration::from_millis(50)), "it does nothing");
        let result = scene.daemon.observer(&["signal", "halted", signal, "--wait", "--timeout", "20s"]);
        let by = if signal == "KILL" { libc::SIGKILL } else { libc::SIGTERM };
        assert_eq!((result.code, result.stderr.as_str()), (Some(128 + by), ""), "{result:?}");
    }
}

#[test]
fn without_the_right_to_signal_it_names_the_user_of_the_process() {
    let scene = Scene::new("");
    let home = scene.home("private");
    std::os::unix::fs::chown(&home, Some(3001), Some(3001)).expect("give the home away");
    let pty = Pty::open();
    let agent = scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        dir: Some(home.clone()),
        pty: Some(&pty),
        uid: Some(3001),
        ..PuppetOptions::default()
    });
    scene.assert_session(&home, &agent, "live");
    // root may ask, and without this capability not signal.
    let unable = ["setpriv", "--inh-caps=-kill", "--bounding-set=-kill", "--"];
    for (signal, code, wait) in [("KILL", 4, None), ("0", 4, None), ("KILL", 125, Some("--wait"))] {
        let args = [&["signal", "private", signal][..], wait.as_slice()].concat();
        let denied = behind(&scene, &unable, &args);
        assert_eq!(denied.code, Some(code), "{denied:?}");
        let words = format!("no right to signal {} (agent): it is a process of user 3001", agent.pid);
        assert!(denied.stderr.contains(&words), "{denied:?}");
        assert!(denied.stderr.contains("this is user root: run it with CAP_KILL"), "{denied:?}");
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let denied = behind(&scene, &nobody, &["signal", "private", "KILL"]);
    assert_eq!(denied.code, Some(4), "{denied:?}");
    assert!(agent.signal(0), "it lives");
}

#[test]
fn in_another_pid_namespace_nobody_is_signalled() {
    let scene = Scene::new("");
    let home = scene.home("outside");
    let pty = Pty::open();
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    // A pid of the answer is another process there, or none.
    let unshared = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    for extra in [&[][..], &["--dry-run"], &["--tree"]] {
        let result = behind(&scene, &unshared, &[&["signal", "outside", "KILL"], extra].concat());
        assert_eq!(result.code, Some(4), "{result:?}");
        assert!(result.stderr.contains("run this command where the daemon runs"), "{result:?}");
    }
    assert!(agent.signal(0), "it lives");
}

#[test]
fn with_tree_the_descendants_are_signalled_first_and_other_sessions_are_not() {
    let scene = Scene::new("");
    let (home, other_home) = (scene.home("grove"), scene.home("neighbour"));
    let ptys = [Pty::open(), Pty::open()];
    let mut agent = scene.agent(&home, &ptys[0]);
    scene.assert_session(&home, &agent, "live");
    let (mut child, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    let (grandchild, _) = child.bears(&scene.fixture, Verb::Fork, &[]);
    // One whose parent has died since, and that another process has as its child.
    let (mut middle, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    let (orphan, _) = middle.bears(&scene.fixture, Verb::Fork, &[]);
    let row = |pid| scene.daemon.row(pid).expect("a live process");
    assert_eq!(text::u64_any(&row(orphan.pid), "ancestor_pid"), Some(middle.pid.into()));
    let middle_pid = middle.pid.to_string();
    middle.request(Verb::Exit, &[b"0"]);
    agent.does(Verb::Wait, &[middle_pid.as_bytes()]);
    assert_eq!(text::u64_any(&row(orphan.pid), "ancestor_pid"), Some(agent.pid.into()));
    assert_ne!(text::u64_any(&row(orphan.pid), "ppid"), Some(agent.pid.into()));
    // A session that runs in what the agent started, as in a multiplexer.
    let (mut server, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    server.does(Verb::Setsid, &[]);
    let (mut inner, _) = server.bears(&scene.fixture, Verb::Fork, &[]);
    inner.does(Verb::Setsid, &[]);
    inner.does(Verb::GainsTerminal, &[ptys[1].path.to_str().expect("a path").as_bytes()]);
    inner.chdir(&other_home);
    // Where its terminal was reported before it moved, it has to stay for a second.
    eventually("the session of the neighbour", PATIENCE, || {
        scene.session(&other_home).map(drop).ok_or_else(|| format!("{:#?}", scene.daemon.list()))
    });
    scene.assert_session(&other_home, &inner, "live");
    let stranger = scene.fixture.puppet();

    let planned = scene.daemon.observer(&["signal", "grove", "TERM", "--tree", "--dry-run", "--json"]);
    let of = |puppet: &Puppet, outcome: &str| (u64::from(puppet.pid), outcome.to_owned());
    let mut expected = vec![
        of(&grandchild, "planned"),
        of(&inner, "other_session"),
        of(&orphan, "planned"),
        of(&child, "planned"),
        of(&server, "other_session"),
    ];
    let mut found = targets(&planned.json());
    assert_eq!(found.pop(), Some(of(&agent, "planned")), "the primary is last");
    let at = |pid: u32| found.iter().position(|(found, _)| *found == u64::from(pid));
    assert!(at(grandchild.pid) < at(child.pid) && at(inner.pid) < at(server.pid), "{found:?}");
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for puppet in [&agent, &child, &grandchild, &orphan] {
        assert!(puppet.signal(0), "nothing was sent");
    }

    let sent = scene.daemon.observer(&["signal", "grove", "TERM", "--tree", "--wait"]);
    assert_eq!(sent.code, Some(128 + libc::SIGTERM), "{sent:?}");
    for puppet in [&child, &grandchild, &orphan] {
        assert!(puppet.is_gone_within(PATIENCE), "{sent:?}");
    }
    for puppet in [&server, &inner, &stranger] {
        assert!(puppet.signal(0) && !puppet.is_gone_within(Duration::ZERO), "{sent:?}");
    }
}

#[test]
fn with_tree_any_number_of_descendants_is_signalled() {
    let scene = Scene::new("");
    let home = scene.home("forest");
    let pty = Pty::open();
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    // More than are signalled at a time.
    let children = agent.does(Verb::BearsMany, &[b"700"]);
    let few = behind(
        &scene,
        &["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"],
        &["signal", "forest", "USR2", "--tree"],
    );
    assert_eq!((few.code, few.text()), (Some(4), ""), "{few:?}");
    assert!(few.stderr.contains("the limit of open files is reached: raise it"), "{few:?}");
    let sent = scene.daemon.observer(&["signal", "forest", "USR2", "--tree", "--json", "--wait"]);
    let report = sent.json();
    assert_eq!(sent.code, Some(128 + libc::SIGUSR2), "{report:#}");
    assert_eq!(report.get("complete"), Some(&true.into()));
    let mut found = targets(&report);
    assert_eq!(found.pop(), Some((agent.pid.into(), "sent".into())));
    found.sort();
    let mut expected: Vec<_> = children.iter().map(|&pid| (pid, "sent".to_owned())).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn with_tree_and_wait_the_end_of_a_primary_that_ends_with_its_child_is_printed() {
    let scene = Scene::new("");
    let home = scene.home("waiter");
    let pty = Pty::open();
    // This parent reaps it at once.
    let mut agent = scene.wrapped(&["sh", "-c", "\"$@\"; true", "sh"], "agent", &home, &pty);
    scene.assert_session(&home, &agent, "live");
    // The child that it waits for is signalled among the first 512, and the others take another look.
    agent.does(Verb::BearsMany, &[b"700"]);
    let (child, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    // So that it ends by itself however slowly it comes to that.
    agent.does(Verb::Ignore, &[b"15"]);
    agent.request(Verb::Wait, &[child.pid.to_string().as_bytes()]);
    agent.request(Verb::Exit, &[b"7"]);
    let sent = scene.daemon.observer(&["signal", "waiter", "TERM", "--tree", "--wait", "--json"]);
    let report = sent.json();
    let found = targets(&report);
    assert_eq!(found.first(), Some(&(child.pid.into(), "sent".into())));
    let (last, outcome) = found.last().expect("the primary");
    assert!(*last == u64::from(agent.pid) && matches!(outcome.as_str(), "ended" | "sent"), "{report:#}");
    assert_eq!(sent.code, Some(7), "{sent:?}");
    assert_eq!(report.pointer("/end/death/code"), Some(&7.into()), "{report:#}");
}

/// What came of `observer signal` against a session that restarts again and again.
#[derive(Debug, Default)]
struct Aimed {
    sent: u64,
    /// No session was there.
    none: u64,
    /// It ended, or was another one, when it was looked at again.
    between: u64,
}

impl Aimed {
    /// Signals it until `looping` has gone through all lives.
    fn at(scene: &Scene, looping: &Puppet) -> Self {
        let mut aimed = Self::default();
        while looping.is_silent() {
            let result = scene.daemon.observer(&["signal", "looping", "USR1"]);
            match result.code {
                Some(0) if result.text().contains("sent") => aimed.sent += 1,
                Some(1) if result.stderr.contains("nothing was sent") => aimed.between += 1,
                Some(1) if result.text().is_empty() => aimed.none += 1,
                _ => panic!("it is sent, or there is none: {result:?}"),
            }
        }
        aimed
    }
}

/// Lives of the session that is signalled, and strangers that get its pid after each: 100,000 processes in all.
const HERE: (u64, u64) = (2_500, 39);
/// In a machine, which takes ten times as long. Of 500 lives some 64 are gone between the choice and the signal, where it
/// matters who has the pid by then.
const IN_MACHINES: (u64, u64) = (75, 10);

#[test]
fn a_stranger_that_gets_the_pid_of_a_session_is_never_signalled() {
    let scene = Scene::new("");
    let home = scene.home("looping");
    let pty = Pty::open();
    let spare = scene.fixture.puppet();
    let pid = spare.pid.to_string();
    spare.killed(libc::SIGKILL);
    // It stands outside of the homes, and each life of the session goes there.
    let mut looping = scene.agent(&scene.fixture.dir(), &pty);
    let in_machine = std::env::var_os(share::VARIABLE).is_some();
    let (lives, strangers) = if in_machine { IN_MACHINES } else { HERE };
    let (count, of_each) = (lives.to_string(), strangers.to_string());
    let path = home.to_str().expect("a path of text");
    let began = Instant::now();
    looping.patience(Duration::from_secs(300));
    looping.request(
        Verb::Recycles,
        &[pid.as_bytes(), path.as_bytes(), count.as_bytes(), of_each.as_bytes(), USR1],
    );
    let aimed = Aimed::at(&scene, &looping);
    let answer = looping.answer(Verb::Recycles).expect("it went through all lives");
    let [session, stranger] =
        [0, 1].map(|at| answer.get(at).map(|word| observer_harness::fixture::number(word)).expect("a count"));
    println!(
        "{} processes with one pid in {:?}: {aimed:?}, {session} lives ended by the signal, {stranger} strangers got it",
        lives * (strangers + 1),
        began.elapsed()
    );
    assert_eq!(stranger, 0, "strangers were signalled");
    assert!(session <= aimed.sent, "{session} lives ended by {} signals", aimed.sent);
    assert!(session > 0 && aimed.between > 0, "some lives were hit, and some were gone when it looked again");
}

/// The commands of the guide's recipe.
fn recipe() -> &'static str {
    let guide = include_str!("../../../docs/guide.md");
    let (_, after) = guide.split_once("### A task for one life").expect("the recipe's heading");
    let (_, after) = after.split_once("```sh\n").expect("the recipe");
    after.split_once("```").expect("the recipe's end").0
}

#[test]
fn the_recipe_of_the_guide_routes_a_task_to_one_life_of_a_session() {
    let scene = Scene::new("");
    let home = scene.home("alpha");
    let pty = Pty::open();
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.does(Verb::Counts, &[USR1]);
    let bin = scene.fixture.mkdir("path");
    let program = format!(
        "#!/bin/sh\nexec {} --socket {} \"$@\"\n",
        product().display(),
        scene.daemon.socket().display()
    );
    scene.fixture.install(program.as_bytes(), &bin.join("observer"));
    let run = |before_the_task: &str| {
        let script =
            recipe().replace("# Between the steps", &format!("{before_the_task}\n# Between the steps"));
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("PATH", format!("{}:{path}", bin.display())).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("start sh")
    };
    let ended = |child: std::process::Child| {
        let output = child.wait_with_output().expect("wait for sh");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let task = home.join("task");
    // It is told of the task, and does it: its end is what the dispatcher sees.
    let before = Clients::of(&scene);
    let child = run("");
    // One for `list`, one for `pid`, two for `signal` and two for `wait`, which watches.
    before.wait_for(&scene, 6, before.watching + 1);
    assert_eq!(counted(&mut agent), 1);
    assert_eq!(std::fs::read_to_string(&task).expect("the task"), "run the tests\n");
    assert_eq!(agent.ends(Verb::Exit, &[b"0"]).si_status, 0);
    assert_eq!(ended(child), (Some(0), String::new()));
    std::fs::remove_file(&task).expect("the task");
    // The session is restarted after it was chosen: the new life gets neither the task nor the signal.
    let chosen = scene.fixture.dir().join("chosen");
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let go_on = scene.fixture.dir().join("go-on");
    let child =
        run(&format!("> {}; until test -e {}; do sleep 0.05; done", chosen.display(), go_on.display()));
    eventually("that it has chosen", PATIENCE, || {
        if chosen.exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    agent.killed(libc::SIGKILL);
    let mut next = scene.agent(&home, &pty);
    scene.assert_session(&home, &next, "live");
    next.does(Verb::Counts, &[USR1]);
    std::fs::write(&go_on, "").expect("let the recipe go on");
    let (code, stderr) = ended(child);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("alpha is another process now"), "{stderr}");
    assert!(!task.exists() && counted(&mut next) == 0, "nothing reached it");
}
