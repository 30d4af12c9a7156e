//! The daemon is started again: history records what happened to the sessions, not what the daemon did.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use observer_harness::Verb;
use observer_harness::text::{moment_ms, u64_any};
use observer_harness::wait::Waited;
use observer_harness::{Pty, eventually};
use serde_json::{Value, json};

use crate::{SOON, Scene, count, kind};

/// Whether the daemon is killed instead of stopped.
const ENDS: [bool; 2] = [false, true];

impl Scene {
    /// Ends the daemon by a kill or a stop, runs `meanwhile`, and starts the daemon again.
    fn again(&mut self, killed: bool, meanwhile: impl FnOnce(&Scene)) {
        if killed {
            self.daemon.kill();
        } else {
            assert_eq!(self.daemon.stop(), Some(0));
        }
        meanwhile(self);
        self.daemon.restart();
        self.wait_written();
    }
}

fn ms(entry: &Value, field: &str) -> String {
    entry[field].as_str().unwrap_or_else(|| panic!("{field} is a moment: {entry:#}")).to_owned()
}

#[test]
fn a_session_that_survives_a_restart_is_not_recorded_again() {
    for killed in ENDS {
        let mut scene = Scene::new();
        let home = scene.home("on");
        let mut agent = scene.agent(&home, None);
        scene.wait_live(&home, &agent);
        let before = (scene.entries_of(&home), scene.row(&home).expect("a row"));
        for _ in 0..3 {
            scene.again(killed, |_| {});
        }
        let after = scene.row(&home).expect("a row");
        for field in ["pid", "start_boottime_ns", "since", "starts", "state", "name", "started_at"] {
            assert_eq!(after[field], before.1[field], "killed {killed}: {field}");
        }
        // The session is still observed: its next change is recorded.
        agent.chdir(&scene.fixture.mkdir("homes/on/below"));
        let received = eventually("the move is reported", SOON, || {
            let received = scene.entries_of(&home);
            let moved = received
                .last()
                .is_some_and(|last| last["cwd"].as_str().is_some_and(|it| it.ends_with("below")));
            if moved { Ok(received) } else { Err(format!("{received:#?}")) }
        });
        assert_eq!(received.len(), before.0.len() + 1, "killed {killed}: {received:#?}");
        assert_eq!(count(&received, "session_started"), 1);
        let gaps: Vec<_> = scene.history(&[]).into_iter().filter(|entry| kind(entry) == "gap").collect();
        assert_eq!(gaps.len(), 3, "each absence is reported: {gaps:#?}");
        for gap in gaps {
            assert_eq!((&gap["reason"], &gap["count"]), (&json!("not_running"), &Value::Null));
            assert!(ms(&gap, "from") <= ms(&gap, "to"), "{gap:#}");
        }
    }
}

#[test]
fn a_process_that_died_during_the_absence_has_an_unobserved_death_with_an_interval() {
    for killed in ENDS {
        let mut scene = Scene::new();
        let home = scene.home("died");
        let agent = scene.agent(&home, None);
        let pid = agent.pid;
        let last = scene.wait_live(&home, &agent).pop().expect("an entry");
        scene.again(killed, |_| {
            agent.killed(libc::SIGKILL);
        });
        let received = scene.entries_of(&home);
        let end = received.last().expect("entries");
        assert_eq!((kind(end), end["pid"].as_u64()), ("session_ended", Some(pid.into())), "{end:#}");
        assert_eq!((&end["state"], &end["end_reason"]), (&json!("ended"), &json!("died")));
        assert_eq!(end["start_boottime_ns"], last["start_boottime_ns"]);
        assert_eq!(end["argv"], last["argv"], "what was known of it stands");
        let death = &end["death"];
        assert_eq!(
            (&death["kind"], &death["raw_status"], &death["lifetime_ms"]),
            (&json!("unobserved"), &Value::Null, &Value::Null)
        );
        let [from, to] = [0, 1].map(|at| death["between"][at].as_str().expect("a moment"));
        assert!(ms(&last, "at").as_str() <= from && from < to, "{end:#}");
        assert_eq!([&end["at"], &death["at"]], [to, to]);
        assert!(scene.row(&home).is_none_or(|row| row["state"] == "ended"));
        // The end is recorded once, however often a daemon starts.
        scene.again(killed, |_| {});
        assert_eq!(count(&scene.entries_of(&home), "session_ended"), 1);
    }
}

/// Asserts that the death has the status that wait(2) returned, and nothing that nobody saw.
#[track_caller]
fn assert_found_dead(death: &Value, waited: Waited) {
    let (kind, code, signal) = match waited.si_code {
        libc::CLD_EXITED => ("exited", json!(waited.si_status), Value::Null),
        _ => ("signaled", Value::Null, json!(waited.si_status)),
    };
    let core = if kind == "exited" { Value::Null } else { json!(waited.si_code == libc::CLD_DUMPED) };
    for (field, truth) in [
        ("kind", json!(kind)),
        ("code", code),
        ("signal", signal),
        ("core_dumped", core),
        ("raw_status", json!(waited.raw_status)),
        ("lifetime_ms", Value::Null),
        ("sender", Value::Null),
        ("polite_signal", Value::Null),
    ] {
        assert_eq!(death[field], truth, "{field} of {waited:?}: {death:#}");
    }
    assert!(death["between"].is_array(), "when, nobody saw: {death:#}");
}

#[test]
fn a_zombie_that_is_found_at_start_has_an_exact_status() {
    let mut scene = Scene::new();
    let ends: [(&str, Verb, &[&[u8]]); 6] = [
        ("exits", Verb::Exit, &[b"3"]),
        ("killed", Verb::Die, &[b"15", b"0"]),
        ("quits", Verb::Die, &[b"3", b"1"]),
        ("aborts", Verb::Die, &[b"6", b"1"]),
        ("led", Verb::Exit, &[b"9"]),
        ("threads", Verb::ExitThread, &[b"7"]),
    ];
    let mut agents = ends.map(|(name, ..)| {
        let home = scene.home(name);
        let mut agent = scene.agent(&home, None);
        scene.wait_live(&home, &agent);
        if ["led", "threads"].contains(&name) {
            agent.does(Verb::LeaderExits, &[b"4"]);
        }
        agent
    });
    scene.again(true, |_| {
        for (agent, (_, verb, args)) in agents.iter_mut().zip(ends) {
            agent.request(verb, args);
            assert!(agent.is_gone_within(SOON), "it ends, and is not reaped");
        }
    });
    let mut seen = Vec::new();
    for (agent, (name, ..)) in agents.iter_mut().zip(ends) {
        let end = scene.entries_of(&scene.home(name)).pop().expect("entries");
        assert_eq!((kind(&end), end["pid"].as_u64()), ("session_ended", Some(agent.pid.into())), "{end:#}");
        let waited = agent.reap();
        assert_found_dead(&end["death"], waited);
        seen.push(waited.si_code);
    }
    let (exited, killed, dumped) = (libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED);
    assert_eq!(seen, [exited, killed, dumped, dumped, exited, exited]);
}

#[test]
fn a_session_that_began_during_the_absence_has_its_true_start() {
    let mut scene = Scene::new();
    let home = scene.home("new");
    let mut agent = None;
    scene.again(true, |scene| agent = Some(scene.agent(&home, None)));
    let agent = agent.expect("it was born");
    let received = scene.wait_live(&home, &agent);
    assert_eq!(count(&received, "session_started"), 1);
    let start = &received[0];
    assert_eq!((kind(start), &start["at"]), ("session_started", &start["started_at"]), "{start:#}");
    assert_eq!(start["boottime_ns"], start["start_boottime_ns"]);
    assert!(ms(start, "found_at") > ms(start, "at"), "{start:#}");
    let row = scene.row(&home).expect("a row");
    assert_eq!(row["started_at"], start["started_at"]);
}

#[test]
fn an_end_and_a_start_in_one_home_during_the_absence_are_both_entries() {
    let mut scene = Scene::new();
    let home = scene.home("both");
    let first = scene.agent(&home, None);
    scene.wait_live(&home, &first);
    let mut second = None;
    scene.again(true, |scene| {
        first.killed(libc::SIGKILL);
        second = Some(scene.agent(&home, None));
    });
    let second = second.expect("it was born");
    let received = scene.wait_live(&home, &second);
    let story: Vec<_> = received.iter().map(kind).filter(|kind| *kind != "session_changed").collect();
    assert_eq!(story, ["session_started", "session_ended", "session_started"]);
    let row = scene.row(&home).expect("a row");
    assert_eq!(row["starts"].as_array().map(Vec::len), Some(2), "the home's starts go on: {row:#}");
}

#[test]
fn a_detached_or_left_session_keeps_its_state_after_a_restart() {
    let mut scene = Scene::with("tty = \"pts/*\"", None);
    let (detached, left, pty, other) = (scene.home("detached"), scene.home("left"), Pty::open(), Pty::open());
    let mut one = scene.agent(&detached, Some(&pty));
    let mut two = scene.agent(&left, Some(&other));
    one.does(Verb::Ignore, &[b"1"]);
    pty.hang_up(one.pid);
    two.chdir(&scene.fixture.mkdir("outside"));
    for (home, state) in [(&detached, "detached"), (&left, "left")] {
        eventually(state, SOON, || match scene.entries_of(home).last() {
            Some(last) if last["state"] == state => Ok(()),
            last => Err(format!("{last:?}")),
        });
    }
    let received = (scene.entries_of(&detached), scene.entries_of(&left));
    scene.again(true, |_| {});
    for (home, state, agent) in [(&detached, "detached", &one), (&left, "left", &two)] {
        let row = scene.row(home).expect("a row");
        assert_eq!((&row["state"], u64_any(&row, "pid")), (&json!(state), Some(agent.pid.into())), "{row:#}");
    }
    assert_eq!((scene.entries_of(&detached), scene.entries_of(&left)), received, "nothing happened");
    two.chdir(&left);
    eventually("it came back", SOON, || match scene.entries_of(&left).last() {
        Some(last) if last["state"] == "live" => Ok(()),
        last => Err(format!("{last:?}")),
    });
}

#[test]
fn a_move_during_the_absence_is_dated_when_it_is_found() {
    let mut scene = Scene::new();
    let home = scene.home("moves");
    let mut agent = scene.agent(&home, None);
    let before = scene.wait_live(&home, &agent);
    let below = scene.fixture.mkdir("homes/moves/below");
    scene.again(true, |_| agent.chdir(&below));
    let received = scene.entries_of(&home);
    assert_eq!(received.len(), before.len() + 1, "{received:#?}");
    let change = received.last().expect("entries");
    assert_eq!((kind(change), change["cwd"].as_str()), ("session_changed", below.to_str()));
    assert_eq!(change["at"], change["found_at"], "when, nobody saw: {change:#}");
}

#[test]
fn an_exec_during_the_absence_is_recorded_by_the_next_daemon() {
    let mut scene = Scene::new();
    let (again, away) = (scene.home("again"), scene.home("away"));
    let (mut one, mut other) = (scene.agent(&again, None), scene.agent(&away, None));
    let (before, _) = (scene.wait_live(&again, &one), scene.wait_live(&away, &other));
    let tokens = [scene.fixture.token(), scene.fixture.token()];
    let mut met = Vec::new();
    scene.again(true, |scene| {
        for ((puppet, program), token) in [(&mut one, "agent"), (&mut other, "bash")].into_iter().zip(&tokens)
        {
            let program = scene.fixture.program(program);
            puppet.request(Verb::Exec, &[program.as_os_str().as_bytes(), token.as_bytes()]);
            met.push(scene.fixture.meet(token));
        }
    });
    eventually("its session ended by the exec", SOON, || match scene.entries_of(&away).pop() {
        Some(end) if kind(&end) == "session_ended" && end["end_reason"] == "execed_away" => Ok(()),
        last => Err(format!("{last:?}")),
    });
    let received = scene.entries_of(&again);
    assert_eq!(received.len(), before.len() + 1, "{received:#?}");
    let change = received.last().expect("entries");
    let [from, to] = [0, 1].map(|at| change["changed"]["exec_id"][at].as_u64().expect("a count"));
    assert_eq!((kind(change), to), ("session_changed", from + 1), "{change:#}");
    scene.again(true, |_| {});
    assert_eq!(scene.entries_of(&again), received, "nothing happened");
}

#[test]
fn a_session_that_the_rules_exclude_after_a_restart_ends_as_not_admitted() {
    let mut scene = Scene::new();
    let home = scene.home("rules");
    let agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    let config =
        std::fs::read_to_string(scene.daemon.dir().join("observer.toml")).expect("the configuration");
    scene.again(true, |_| {});
    scene.daemon.configure(&config.replace("agent", "another"));
    scene.again(true, |_| {});
    let end = scene.entries_of(&home).pop().expect("entries");
    assert_eq!(
        (kind(&end), &end["end_reason"], &end["death"]),
        ("session_ended", &json!("not_admitted"), &Value::Null)
    );
    assert!(scene.row(&home).is_none());
    scene.daemon.configure(&config);
    scene.again(true, |_| {});
    let received = scene.wait_live(&home, &agent);
    let start = received.iter().rfind(|entry| kind(entry) == "session_started").expect("a start");
    assert!(start["at"].as_str() > start["started_at"].as_str(), "it was none before: {start:#}");
}

/// Returns when this boot began, in ns since 1970.
fn began_ns() -> i64 {
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is valid for the kernel to fill.
        assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    };
    read(libc::CLOCK_REALTIME) - read(libc::CLOCK_BOOTTIME)
}

fn rfc3339_s(text: &str) -> i64 {
    moment_ms(text).expect("a moment") / 1_000
}

#[test]
fn a_reboot_ends_the_sessions_of_the_previous_boot() {
    let mut scene = Scene::new();
    let (home, alive) = (scene.home("old"), scene.home("alive"));
    let gone = scene.agent(&home, None);
    let agent = scene.agent(&alive, None);
    scene.wait_live(&home, &gone);
    scene.wait_live(&alive, &agent);
    scene.again(true, |scene| {
        gone.killed(libc::SIGKILL);
        // The state is rewritten to that of a daemon of another boot, which ran until a minute before this
        // boot began.
        let state = scene.daemon.state_dir();
        let journal = rusqlite::Connection::open(state.join("journal.sqlite")).expect("open");
        let left = began_ns() - 60_000_000_000;
        let old = format!(
            "UPDATE live SET boot_id = 'another', at_unix_ns = {left};
             UPDATE entry SET boot_id = 'another', at_unix_ns = {left}"
        );
        journal.execute_batch(&old).expect("rewrite");
        let note = std::fs::read_to_string(state.join("lock")).expect("the note");
        let rest = note.split_once(' ').expect("words").1;
        std::fs::write(state.join("lock"), format!("{left} {rest}")).expect("rewrite");
    });
    for (home, again) in [(&home, false), (&alive, true)] {
        let received = scene.entries_of(home);
        let end = received.iter().find(|entry| kind(entry) == "session_ended").expect("it ended");
        assert_eq!((&end["boot_id"], &end["boottime_ns"]), (&json!("another"), &Value::Null), "{end:#}");
        assert_eq!(end["death"]["kind"], "unobserved");
        let began = began_ns() / 1_000_000_000;
        let at: i64 = rfc3339_s(&ms(end, "at"));
        assert!((began - 2..=began + 2).contains(&at), "no later than this boot: {end:#}");
        let from = rfc3339_s(end["death"]["between"][0].as_str().expect("a moment"));
        assert!((58..=62).contains(&(at - from)), "{end:#}");
        // The same pid and start time in another boot are another process.
        assert_eq!(count(&received, "session_started"), if again { 2 } else { 1 }, "{received:#?}");
    }
    let before = scene.history(&[]).len();
    scene.again(true, |_| {});
    let received = scene.history(&[]);
    assert_eq!(received.len(), before + 1, "one absence more: {:#?}", received.last());
}

#[test]
fn sessions_that_ended_are_listed_by_the_next_daemon_and_without_one() {
    // Entries are compared with what root is shown.
    let mut scene = Scene::with("[journal]\nargv = true", None);
    let [before, meanwhile, again] = ["before", "meanwhile", "again"].map(|name| scene.home(name));
    let start = |scene: &Scene, home: &Path| {
        let agent = scene.agent(home, None);
        scene.wait_live(home, &agent);
        agent
    };
    let [first, second, third] = [&before, &meanwhile, &again].map(|home| start(&scene, home));
    let absent = second.pid;
    first.killed(libc::SIGTERM);
    third.killed(libc::SIGKILL);
    let rows_of = |rows: Vec<Value>, home: &Path| -> Vec<Value> {
        rows.into_iter().filter(|row| row["home"].as_str() == home.to_str()).collect()
    };
    let listed = |scene: &Scene, args: &[&str]| -> Vec<Value> {
        let result = scene.daemon.observer(&[&["list", "--ended", "--json"], args].concat());
        serde_json::from_value(result.json()).expect("an array")
    };
    let ended = eventually("both have ended", SOON, || {
        let rows = listed(&scene, &[]);
        let ended: Vec<_> = rows.iter().filter(|row| row["state"] == "ended").cloned().collect();
        if ended.len() == 2 { Ok(ended) } else { Err(format!("{rows:#?}")) }
    });
    let mut former = rows_of(ended, &before).pop().expect("a row");
    assert_eq!(former["death"]["signal"], json!(libc::SIGTERM), "{former:#}");
    // Half a second after its end, what it left is counted.
    former["death"]["left"] = Value::Null;
    let mut second = Some(second);
    for killed in ENDS {
        scene.again(killed, |_| {
            if let Some(second) = second.take() {
                second.killed(libc::SIGKILL);
            }
        });
        let rows = listed(&scene, &[]);
        let mut row = rows_of(rows.clone(), &before).pop().expect("what ended before the first stop");
        row["death"]["left"] = Value::Null;
        assert_eq!(row, former, "killed: {killed}");
        let lost = rows_of(rows, &meanwhile);
        assert_eq!((lost.len(), lost[0]["pid"].as_u64()), (1, Some(absent.into())), "{lost:#?}");
        assert_eq!((&lost[0]["state"], &lost[0]["death"]["kind"]), (&json!("ended"), &json!("unobserved")));
        assert!(scene.row(&before).is_none(), "only those who ask for the ended see them");
    }
    // A later session takes the place of the one that ended.
    let fourth = start(&scene, &again);
    let rows = rows_of(listed(&scene, &[]), &again);
    assert_eq!((rows.len(), rows[0]["pid"].as_u64()), (1, Some(fourth.pid.into())), "{rows:#?}");
    fourth.killed(libc::SIGKILL);
    scene.wait_written();
    let with_daemon = eventually("its end", SOON, || {
        let rows = listed(&scene, &[]);
        if rows.iter().all(|row| row["state"] == "ended") { Ok(rows) } else { Err(format!("{rows:#?}")) }
    });
    scene.wait_written();
    assert_eq!(scene.daemon.stop(), Some(0));
    let state_dir = scene.daemon.state_dir();
    let config = scene.daemon.dir().join("observer.toml");
    let [state_dir, config] = [&state_dir, &config].map(|path| path.to_str().expect("a path of text"));
    let without = listed(&scene, &["--state-dir", state_dir, "--config", config]);
    let named = |rows: &[Value]| -> Vec<(Value, Value, Value)> {
        rows.iter()
            .map(|row| (row["home"].clone(), row["pid"].clone(), row["death"]["kind"].clone()))
            .collect()
    };
    assert_eq!(named(&without), named(&with_daemon));
}
