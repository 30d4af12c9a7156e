//! Events in the life of a session: a young age, crashes, a lost terminal, moves and execs.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use observer_harness::Verb;
use observer_harness::{Pty, Puppet, eventually, protocol, skip, text, watch};
use serde_json::Value;

use crate::Scene;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_program_younger_than_min_age_is_no_session_yet() {
    let scene = Scene::new("min_age = \"2s\"");
    let (home, pty) = (scene.home("young"), Pty::open());
    let started = Instant::now();
    let agent = scene.agent(&home, &pty);
    let seen = scene.session(&home);
    assert!(seen.is_none() || started.elapsed() > Duration::from_secs(2), "too young: {seen:?}");
    scene.wait_for_frame("session_started", &home);
    assert!(started.elapsed() >= Duration::from_millis(1_900), "reported after {:?}", started.elapsed());
    scene.assert_session(&home, &agent, "live");
}

#[test]
fn crashes_in_a_known_home_are_reported_even_below_min_age() {
    let scene = Scene::new("min_age = \"1s\"");
    let home = scene.home("crashing");
    let first_pty = Pty::open();
    let first = scene.agent(&home, &first_pty);
    scene.wait_for_frame("session_started", &home);
    first.killed(libc::SIGKILL);
    let mut pids = Vec::new();
    for _ in 0..5 {
        let pty = Pty::open();
        let agent = scene.agent(&home, &pty);
        pids.push(agent.pid);
        scene.assert_session(&home, &agent, "live");
        agent.killed(libc::SIGUSR1);
        scene.assert_none(&home);
    }
    for pid in pids {
        scene.watch.wait_for(&format!("start of {pid}"), |frame| frame.is("session_started", pid));
        let end = scene.watch.wait_for(&format!("end of {pid}"), |frame| frame.is("session_ended", pid));
        assert_eq!(end.death().get("signal"), Some(&libc::SIGUSR1.into()), "{end:?}");
    }
}

#[test]
fn a_program_that_crashes_in_a_loop_is_counted_and_nothing_of_it_is_lost() {
    const CRASHES: u64 = 40;
    let scene = Scene::new("");
    let home = scene.home("looping");
    for _ in 0..CRASHES {
        let pty = Pty::open();
        scene.agent(&home, &pty).killed(libc::SIGKILL);
    }
    let of_home = |entry: &Value| entry.get("home").and_then(Value::as_str) == home.to_str();
    let number = |entry: &Value, path: &str| entry.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let entries = eventually("the last end is written", LIMIT, || {
        let entries: Vec<Value> = scene.daemon.history().into_iter().filter(of_home).collect();
        let deaths: u64 = entries
            .iter()
            .map(|entry| match entry.get("restarts") {
                Some(_) => number(entry, "/restarts/deaths/signaled"),
                None => u64::from(number(entry, "/death/signal") == 9),
            })
            .sum();
        let ended = entries.last().is_some_and(|last| last["kind"] == "session_ended");
        if ended && deaths == CRASHES { Ok(entries) } else { Err(format!("{deaths} deaths: {entries:#?}")) }
    });
    let counted: u64 = entries.iter().map(|entry| number(entry, "/restarts/count")).sum();
    let started = |entry: &&Value| entry["kind"] == "session_started" && entry.get("restarts").is_none();
    let at_once = entries.iter().filter(started).count() as u64;
    assert!(counted > 0 && at_once >= 10 && at_once + counted == CRASHES, "{at_once} and {counted}");
    // Whoever watches sees each.
    eventually("each end is a frame", LIMIT, || {
        let ends = scene.frame_kinds(&home).iter().filter(|kind| *kind == "session_ended").count() as u64;
        if ends >= CRASHES { Ok(()) } else { Err(ends.to_string()) }
    });
}

#[test]
fn a_primary_that_a_signal_stopped_is_marked_until_it_is_continued() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("stopped"), Pty::open());
    let agent = scene.agent(&home, &pty);
    let stopped = |scene: &Scene| {
        let row = scene.assert_session(&home, &agent, "live");
        let list = scene.daemon.observer(&["list"]);
        let is_stopped = row.get("stopped").and_then(Value::as_bool);
        assert_eq!(list.text().contains("(stopped)"), is_stopped == Some(true), "{list:?}");
        is_stopped
    };
    for (signal, state, is_stopped) in [(libc::SIGSTOP, 'T', true), (libc::SIGCONT, 'S', false)] {
        agent.signal(signal);
        eventually("the kernel shows the state", LIMIT, || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.pid)).expect("it lives");
            let seen = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if seen == Some(state) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        assert_eq!(stopped(&scene), Some(is_stopped));
    }
}

/// Processes that no session has.
struct Bystanders(Child);

impl Bystanders {
    fn start(count: usize) -> Self {
        let script = format!("at=0; while [ $at -lt {count} ]; do sleep 600 & at=$((at + 1)); done; wait");
        Self(Command::new("sh").args(["-c", &script]).process_group(0).spawn().expect("start a shell"))
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        // SAFETY: integers. The shell is a child that is not reaped, so its group is no stranger's.
        unsafe { libc::kill(-self.0.id().cast_signed(), libc::SIGKILL) };
        let _ = self.0.wait();
    }
}

#[test]
fn a_list_reads_what_no_event_reports_without_a_pass_over_all_processes() {
    let scene = Scene::new("");
    let status = scene.daemon.status();
    let spots = status.get("blind_spots").and_then(Value::as_array).expect("status has them");
    let unread = ["signal", "oom", "oom_scope", "cpu_time", "older argv"];
    if let Some(spot) = spots.iter().find(|spot| !unread.iter().any(|fact| spot["fact"] == **fact)) {
        skip!("every question reads all processes where there is such a blind spot: {spot}");
    }
    let _bystanders = Bystanders::start(60);
    let (home, pty) = (scene.home("listed"), Pty::open());
    let agent = scene.agent(&home, &pty);
    let passes = || scene.daemon.status().pointer("/passes/total").and_then(Value::as_u64).expect("a count");
    for (signal, is_stopped) in [(libc::SIGSTOP, true), (libc::SIGCONT, false)] {
        agent.signal(signal);
        // Other processes of the host request passes.
        eventually("a list that no pass preceded shows the state", LIMIT, || {
            let before = passes();
            let row = scene.session(&home).ok_or("it is listed")?;
            let after = passes();
            let shown = (row.get("stopped").and_then(Value::as_bool), after - before);
            if shown == (Some(is_stopped), 0) { Ok(()) } else { Err(format!("{shown:?}")) }
        });
    }
}

#[test]
fn crashes_below_min_age_in_an_unknown_home_are_no_sessions() {
    let scene = Scene::new("min_age = \"5s\"");
    let home = scene.home("unknown");
    for _ in 0..5 {
        let pty = Pty::open();
        let agent = scene.agent(&home, &pty);
        let pid = agent.pid;
        agent.killed(libc::SIGKILL);
        scene.watch.end_of(pid);
    }
    assert!(
        scene.session(&home).is_none() && scene.frame_kinds(&home).is_empty(),
        "{:?}",
        scene.frame_kinds(&home)
    );
}

#[test]
fn a_session_whose_terminal_is_gone_is_detached() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("detached"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    agent.does(Verb::Ignore, &[b"1"]);
    scene.assert_session(&home, &agent, "live");
    pty.hang_up(agent.pid);
    let row = scene.assert_session(&home, &agent, "detached");
    assert_eq!(row.get("tty"), Some(&Value::Null), "{row:#}");
    scene.watch.wait_for("the change", |frame| {
        frame.is("session_changed", agent.pid) && frame.field("state") == Some(&"detached".into())
    });
}

#[test]
fn a_session_that_moves_out_is_left_and_is_live_again_on_its_return() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("left"), Pty::open());
    let outside = scene.fixture.mkdir("outside");
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.chdir(&outside);
    scene.assert_session(&home, &agent, "left");
    agent.chdir(&home);
    scene.assert_session(&home, &agent, "live");
    let states = || {
        let received =
            scene.watch.frames().into_iter().filter(|frame| frame.is("session_changed", agent.pid));
        received
            .filter_map(|frame| frame.field("state").and_then(Value::as_str).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    eventually("both changes are reported", watch::SOON, || {
        // The start before the moves may be published in parts: first the process in the home on its terminal
        // with its creator's image, then the exec.
        let states = states();
        let moves: Vec<_> = states.iter().skip_while(|state| *state == "live").collect();
        if moves == ["left", "live"] { Ok(()) } else { Err(format!("{states:?}")) }
    });
}

#[test]
fn a_session_that_stays_a_second_in_another_home_moves_to_that_home() {
    let scene = Scene::new("");
    let (home, other) = (scene.home("here"), scene.home("there"));
    let pty = Pty::open();
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.chdir(&other);
    let left = scene.watch.wait_for("it left", |frame| {
        frame.is("session_changed", agent.pid) && frame.field("state") == Some(&"left".into())
    });
    assert_eq!(left.field("moved_to").and_then(Value::as_str), other.to_str(), "{left:?}");
    scene.wait_for_frame("session_started", &other);
    scene.assert_session(&other, &agent, "live");
    scene.assert_none(&home);
    // The name of the directory that it left does not name it any more.
    for (name, code) in [("here", 1), ("there", 0)] {
        let answer = scene.daemon.observer(&["pid", name]);
        assert_eq!(answer.code, Some(code), "{name}: {answer:?}");
    }
}

#[test]
fn a_program_that_walks_through_thousands_of_homes_is_one_session_and_causes_no_loss() {
    const HOMES: usize = 10_000;
    const ROUNDS: usize = 10;
    const SECOND_NS: u64 = 1_000_000_000;
    let scene = Scene::new("");
    let (home, pty) = (scene.home("start"), Pty::open());
    let homes: Vec<PathBuf> = (0..HOMES).map(|at| scene.home(&format!("h{at}"))).collect();
    let mut walker = scene.agent(&home, &pty);
    scene.assert_session(&home, &walker, "live");
    let began = Instant::now();
    let (prefix, count) = (scene.fixture.dir().join("homes/h"), HOMES.to_string());
    let mut others = Vec::new();
    for round in 0..ROUNDS {
        walker.request(Verb::Walks, &[prefix.as_os_str().as_bytes(), count.as_bytes(), count.as_bytes()]);
        // Another session starts and ends beside it.
        let (other_home, other_pty) = (scene.home(&format!("other{round}")), Pty::open());
        let other = scene.agent(&other_home, &other_pty);
        scene.assert_session(&other_home, &other, "live");
        assert_eq!(scene.daemon.list().len(), 2, "one process is one session");
        others.push(other.pid);
        other.killed(libc::SIGKILL);
        walker.answer(Verb::Walks).expect("it walks to the end");
    }
    // The watcher has tens of thousands of frames to read before this one, so the answer is asked for instead.
    let end = homes.last().expect("homes");
    eventually("the walker has settled", watch::SOON, || {
        scene.session(end).ok_or_else(|| format!("{:#?}", scene.daemon.list()))
    });
    scene.assert_session(end, &walker, "live");
    scene.assert_none(&home);
    assert_listed_while_it_walks(&scene, &mut walker, end, &[&prefix, Path::new(&count)]);
    let of = |history: &[Value], kind: &str, pid: u32| {
        history.iter().filter(|entry| entry["kind"] == kind && entry["pid"] == pid).count() as u64
    };
    let lives_of =
        |history: &[Value], pid| [of(history, "session_started", pid), of(history, "session_ended", pid)];
    let history = eventually("the start and the end of the others are written", LIMIT, || {
        let history = scene.daemon.history();
        let lives: Vec<_> = others.iter().map(|&pid| lives_of(&history, pid)).collect();
        if lives.iter().all(|life| *life == [1, 1]) { Ok(history) } else { Err(format!("{lives:?}")) }
    });
    let changes: Vec<u64> = history
        .iter()
        .filter(|entry| entry["kind"] == "session_changed" && entry["pid"] == walker.pid)
        .map(|entry| text::u64_any(entry, "boottime_ns").expect("a time"))
        .collect();
    assert!(changes.is_sorted(), "entries are in the order of their times: {changes:?}");
    let in_second =
        |first: &u64| changes.iter().filter(|at| (*first..*first + SECOND_NS).contains(at)).count();
    let most = changes.iter().map(in_second).max();
    let most = most.expect("it left its home");
    assert!(most <= 10, "{most} entries in one second, {} in {:?}", changes.len(), began.elapsed());
    assert_eq!((scene.daemon.drops(), scene.daemon.dropped()), (0, 0));
}

/// Asserts that every answer of `list` has the one session of the walker, at its home, while it walks through the directories
/// that `walk` names: 100,000 times, and again until some questions were asked and answered meanwhile.
#[track_caller]
fn assert_listed_while_it_walks(scene: &Scene, walker: &mut Puppet, home: &Path, walk: &[&Path; 2]) {
    const ANSWERS: usize = 3;
    const WALKS_MAX: usize = 50;
    let [prefix, count] = walk.map(|word| word.as_os_str().as_bytes());
    let mut answers = 0;
    for _ in 0..WALKS_MAX {
        walker.request(Verb::Walks, &[prefix, count, b"100000"]);
        while walker.is_silent() {
            let rows = scene.daemon.list();
            let [row] = &rows[..] else { panic!("one process is one session: {rows:#?}") };
            assert_eq!(text::u64_any(row, "pid"), Some(walker.pid.into()), "{row:#}");
            assert_eq!(row["home"].as_str(), home.to_str(), "it stays nowhere else: {row:#}");
            assert!(["live", "left"].contains(&row["state"].as_str().unwrap_or_default()), "{row:#}");
            answers += usize::from(walker.is_silent());
        }
        walker.answer(Verb::Walks).expect("it walks to the end");
        if answers >= ANSWERS {
            break;
        }
    }
    assert!(answers >= ANSWERS, "{answers} questions were answered while it walked");
    scene.assert_session(home, walker, "live");
}

#[test]
fn a_primary_that_execs_its_own_program_is_the_same_session_with_one_more_start() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("again"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    let before = scene.assert_session(&home, &agent, "live");
    // An exec in the first second belongs to the start.
    let started = text::u64_any(&before, "start_boottime_ns").expect("a number");
    let is_young = |now: u64| now < started + 1_100_000_000;
    eventually("it is older than a second", watch::SOON, || match protocol::boottime_ns() {
        now if is_young(now) => Err(now.to_string()),
        _ => Ok(()),
    });
    let token = scene.fixture.token();
    agent.request(
        Verb::Exec,
        &[scene.fixture.program("agent").as_os_str().as_bytes(), token.as_bytes(), b"again"],
    );
    let again = scene.fixture.meet(&token);
    let row = scene.assert_session(&home, &again, "live");
    assert_eq!(row.get("start_boottime_ns"), before.get("start_boottime_ns"), "the same process");
    let starts = |row: &Value| row.get("starts").and_then(Value::as_array).map(Vec::len);
    assert_eq!(starts(&row), starts(&before).map(|count| count + 1), "one start more: {row:#}");
    assert_ne!(row.get("exec_at"), before.get("exec_at"), "at another time");
    assert!(
        !scene.frame_kinds(&home).contains(&"session_ended".to_owned()),
        "{:?}",
        scene.frame_kinds(&home)
    );
}

#[test]
fn a_primary_that_execs_into_a_shell_ends_its_session_without_a_death() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("shell"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let token = scene.fixture.token();
    agent.request(Verb::Exec, &[scene.fixture.program("bash").as_os_str().as_bytes(), token.as_bytes()]);
    let shell = scene.fixture.meet(&token);
    scene.assert_none(&home);
    let end = scene.wait_for_frame("session_ended", &home);
    assert_eq!(end.0.get("death"), Some(&Value::Null), "nobody died: {end:?}");
    assert!(scene.daemon.row(shell.pid).is_some(), "the process lives");
}

#[test]
fn a_session_that_stops_matching_its_rule_stays_a_session() {
    let scene = Scene::new("comm = [\"agent\"]");
    let (home, pty) = (scene.home("renamed"), Pty::open());
    let other = Pty::open();
    let stranger = scene.named("stranger", &home, &other);
    assert!(scene.session(&home).is_none(), "no rule admits it");
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.does(Verb::Setname, &[b"something else"]);
    let row = scene.assert_session(&home, &agent, "live");
    assert_eq!(text::u64_any(&row, "roots"), Some(1), "the stranger is none: {row:#}");
    drop(stranger);
}

#[test]
fn a_rule_with_tty_none_admits_processes_without_a_terminal() {
    let fixture = observer_harness::Fixture::new();
    let home = fixture.mkdir("homes/daemonic");
    let config = format!(
        "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"none\"\ncomm = [\"puppet\"]\n",
        fixture.dir().join("homes").display()
    );
    let daemon = observer_harness::Daemon::start(&observer_harness::Options {
        config: Some(config),
        ..Default::default()
    });
    let mut parent = fixture
        .cast(&observer_harness::fixture::PuppetOptions { dir: Some(fixture.dir()), ..Default::default() });
    let (mut puppet, _) = parent.bears(&fixture, Verb::Fork, &[]);
    puppet.does(Verb::Setsid, &[]);
    puppet.chdir(&home);
    eventually("it has settled in its home", watch::SOON, || {
        let list = daemon.list();
        let pids: Vec<_> = list.iter().filter_map(|row| text::u64_any(row, "pid")).collect();
        if pids == [u64::from(puppet.pid)] { Ok(()) } else { Err(format!("{list:#?}")) }
    });
}
