//! Rules that are read again, by SIGHUP and by `observer reload`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use observer_harness::manager::ServiceManager;
use observer_harness::{Daemon, Options, Pty, eventually, text, watch};
use serde_json::Value;

use super::Scene;

/// The user of the short lives: what others do on this machine throttles no record of theirs.
const AGENT: u32 = 3101;

fn rule(scene: &Scene, comm: &str) -> String {
    let homes = scene.fixture.dir().join("homes");
    format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ncomm = \"{comm}\"\n", homes.display())
}

#[test]
fn a_hangup_reads_the_rules_again_and_a_wrong_file_changes_nothing() {
    let mut scene = Scene::new("");
    let (kept, ended) = (scene.home("kept"), scene.home("ended"));
    let ptys = [Pty::open(), Pty::open(), Pty::open()];
    let agent = scene.agent(&kept, &ptys[0]);
    let other = scene.named("other", &ended, &ptys[1]);
    scene.assert_session(&kept, &agent, "live");
    scene.assert_session(&ended, &other, "live");
    let daemon = scene.daemon.pid();
    let config = scene.daemon.dir().join("observer.toml");
    assert_eq!(scene.daemon.status().get("config").and_then(Value::as_str), config.to_str());
    let path = scene.daemon.log();
    let log = |part: &str| {
        let log = std::fs::read_to_string(&path).expect("the log");
        if log.contains(part) { Ok(()) } else { Err(log) }
    };

    scene.daemon.write_config("[[session]]\ncmm = \"agent\"\n");
    scene.daemon.hang_up();
    eventually("the error is logged", watch::SOON, || log("the rules stay as they are"));
    scene.assert_session(&ended, &other, "live");

    let rules = rule(&scene, "agent");
    scene.daemon.write_config(&rules);
    scene.daemon.hang_up();
    eventually("the rules are applied", watch::SOON, || log("the rules were read again"));
    let row = scene.assert_session(&kept, &agent, "live");
    let starts = row.get("starts").and_then(Value::as_array).map(Vec::len);
    assert_eq!(starts, Some(1), "the same session: {row:#}");
    scene.assert_none(&ended);
    let frame = scene.wait_for_frame("session_ended", &ended);
    assert_eq!(frame.field("end_reason").and_then(Value::as_str), Some("not_admitted"));
    // What starts from here on is asked by the new rules.
    let late = scene.agent(&scene.home("late"), &ptys[2]);
    let row = scene.assert_session(&scene.home("late"), &late, "live");
    assert_eq!(text::u64_any(&row, "pid"), Some(late.pid.into()));
    assert_eq!(
        (scene.daemon.pid(), scene.daemon.drops()),
        (daemon, 0),
        "the same daemon, and nothing was lost"
    );
}

#[test]
fn observer_reload_waits_and_says_which_rules_are_in_force() {
    let mut scene = Scene::new("");
    let (home, pty) = (scene.home("one"), Pty::open());
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let wrong = "[[session]]\ncmm = \"agent\"\n";
    scene.daemon.write_config(wrong);
    let config = scene.daemon.dir().join("observer.toml");
    let result = scene.daemon.observer(&["reload"]);
    assert_eq!((result.code, result.text()), (Some(2), ""), "{result:?}");
    let place = format!("the former rules stay in force: {}:2:1: ", config.display());
    assert!(result.stderr.contains(&place), "{}", result.stderr);
    let result = scene.daemon.observer(&["reload", "--json"]);
    let json = result.json();
    assert_eq!(
        (result.code, json.get("reloaded"), json.get("rules")),
        (Some(2), Some(&false.into()), Some(&Value::Null)),
        "{json}"
    );
    scene.assert_session(&home, &agent, "live");

    scene.daemon.write_config(&(rule(&scene, "nobody") + &rule(&scene, "noone")));
    let result = scene.daemon.observer(&["reload"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    let said = format!("{}: 2 session rules are in force;", config.display());
    assert!(result.text().starts_with(&said), "{result:?}");
    // Nothing is waited for: the command did.
    scene.assert_none(&home);

    let check = |text: &str| {
        std::fs::write(&config, text).expect("write the configuration");
        scene.daemon.observer(&["check-config", config.to_str().expect("a plain path")])
    };
    let result = check(wrong);
    assert_eq!(result.code, Some(2), "{result:?}");
    assert!(result.stderr.contains("observer.toml:2:1: "), "{}", result.stderr);
    let result = check("[daemon]\nring_bytes = 65536\n");
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(result.text().contains("ring_bytes     65536"), "{result:?}");
}

/// The clock with which a service says when it began to reload, µs.
fn monotonic_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the kernel to fill.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }, 0);
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000
}

#[test]
fn a_service_manager_hears_when_a_reload_begins_and_when_it_is_over_whatever_came_of_it() {
    let manager = ServiceManager::new();
    let environment = manager.environment(None);
    let config = Some("[daemon]\n".into());
    let mut daemon = Daemon::start(&Options { config, environment, ..Options::default() });
    manager.wait_for("READY=1", watch::SOON);
    for (rules, code) in [("[[session]]\nprogram = \"vim\"\n", 0), ("[[session]]\ncmm = \"vim\"\n", 2)] {
        daemon.write_config(rules);
        for by_signal in [true, false] {
            let before = monotonic_us();
            if by_signal {
                daemon.hang_up();
            } else {
                assert_eq!(daemon.observer(&["reload"]).code, Some(code), "{rules}");
            }
            let begun = manager.wait_for("RELOADING=1", watch::SOON);
            let at = begun.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            let at = at.and_then(|at| at.parse::<u64>().ok()).unwrap_or_else(|| panic!("a time: {begun}"));
            assert!((before..=monotonic_us()).contains(&at), "{before}, then {begun}");
            let over = manager.wait_for("READY=1", watch::SOON);
            assert!(!over.contains("RELOADING=1"), "{over}");
        }
    }
    assert!(daemon.is_running(), "a wrong file ends nothing");
}

/// Has the daemon read these rules, which are in force when this returns.
fn reload(daemon: &Daemon, rules: &str) {
    std::fs::write(daemon.dir().join("observer.toml"), rules).expect("write the configuration");
    let result = daemon.observer(&["reload"]);
    assert_eq!(result.code, Some(0), "{result:?}");
}

#[test]
fn rules_that_are_read_again_while_sessions_start_and_end_at_a_high_rate_miss_none() {
    const LIVES: usize = 1_000;
    let scene = Scene::new("");
    let (kept, pty) = (scene.home("kept"), Pty::open());
    let agent = scene.agent(&kept, &pty);
    scene.assert_session(&kept, &agent, "live");
    // The rule that admits them is another one each time, and has another number.
    let rules = [rule(&scene, "agent"), rule(&scene, "nobody") + &rule(&scene, "agent")];
    // Under those that the daemon began with, they would be no sessions.
    let [_, last] = &rules;
    reload(&scene.daemon, last);
    let over = AtomicBool::new(false);
    let short = scene.fixture.dir().join("homes/short");
    let times = std::thread::scope(|threads| {
        let reloads = threads.spawn(|| {
            let turns = rules.iter().cycle().take_while(|_| !over.load(Ordering::Relaxed));
            turns.map(|rules| reload(&scene.daemon, rules)).count()
        });
        scene.fixture.short_lives_of(Some(AGENT), &short, &[], LIVES);
        over.store(true, Ordering::Relaxed);
        reloads.join().expect("the rules were read again")
    });
    assert!(times >= 5, "the rules were read again {times} times");
    let is_short = |entry: &Value| {
        let home = entry["home"].as_str().map(Path::new);
        home.is_some_and(|home| home.to_string_lossy().starts_with(&*short.to_string_lossy()))
    };
    eventually("each start and each end is written", watch::SOON, || {
        let history = scene.daemon.history();
        let of = |kind: &str| history.iter().filter(|entry| entry["kind"] == kind && is_short(entry)).count();
        let lives = [of("session_started"), of("session_ended")];
        let is_all = lives == [LIVES; 2];
        if is_all { Ok(()) } else { Err(format!("{lives:?} of {LIVES}")) }
    });
    let row = scene.assert_session(&kept, &agent, "live");
    assert_eq!(row.get("starts").and_then(Value::as_array).map(Vec::len), Some(1), "{row:#}");
    assert!(
        !scene.frame_kinds(&kept).contains(&"session_ended".to_owned()),
        "the session of the agent goes on"
    );
    assert_eq!((scene.daemon.drops(), scene.daemon.dropped()), (0, 0));
}
