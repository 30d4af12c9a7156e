//! Programs of others in the home of an agent: what an agent starts in the home of another, and what an operator looks with.

use std::path::Path;

use observer_harness::eventually;

use crate::stage::{LIMIT, Program, Stage, lives};
use crate::witness;

/// Every program in a home is a session, at once.
const CONFIG: &str = "[[session]]\ncwd = \"{dir}/homes/*\"\ntty = \"any\"\nmin_age = \"0s\"\n";
/// Lives until it is killed. Given a directory, it follows the notes there meanwhile.
const AGENT: &str = "import subprocess
import sys
import time

for directory in sys.argv[1:]:
    subprocess.Popen(['tail', '-f', 'notes'], cwd=directory)
time.sleep(1e6)
";

fn agent(stage: &Stage, home: &Path, followed: &str) -> Program {
    std::fs::write(home.join("agent.py"), AGENT).expect("write the agent");
    stage.start(&format!("python3 agent.py {followed}"), home)
}

#[test]
fn what_an_agent_starts_in_the_home_of_another_agent_is_no_session_there() {
    let mut stage = Stage::new(CONFIG);
    let homes = ["one", "other"].map(|name| stage.home(&format!("homes/{name}")));
    let [one, other] = &homes;
    let first = agent(&stage, one, "../other");
    let tail = eventually("it follows the notes of the other", LIMIT, || {
        witness::right_process(other, "tail -f notes")
    });
    stage.wait_pids(one, &[first.pid]);
    stage.wait_pids(other, &[]);
    let mut second = agent(&stage, other, "");
    stage.wait_pids(other, &[second.pid]);
    stage.daemon.kill();
    stage.daemon.restart();
    stage.wait_pids(one, &[first.pid]);
    stage.wait_pids(other, &[second.pid]);
    second.kill();
    stage.wait_pids(other, &[]);
    let third = agent(&stage, other, "");
    stage.wait_pids(other, &[third.pid]);
    let entries = stage.entries(other);
    assert!(lives(&entries).iter().all(|(_, pid)| *pid != u64::from(tail.pid)), "{entries:#?}");
}

#[test]
fn what_an_operator_looks_with_only_stands_in_for_an_agent_that_is_started_again() {
    assert_taken_back(CONFIG, true);
}

#[test]
fn what_an_operator_looks_with_is_never_a_session_where_the_rule_names_the_agent() {
    assert_taken_back(&format!("{CONFIG}program = \"agent\"\n"), false);
}

/// Asserts that an agent has its home again after a restart, whatever else runs there, which may be shown meanwhile where it
/// `stands_in`.
#[track_caller]
fn assert_taken_back(config: &str, stands_in: bool) {
    let stage = Stage::new(config);
    for (name, command, shown) in [
        ("less", "less notes", "notes"),
        ("tail", "tail -f notes", "notes"),
        ("vim", "vim -Nu NONE -n notes", "notes"),
        ("ncdu", "ncdu", "notes"),
    ] {
        let home = stage.home(&format!("homes/{name}"));
        std::fs::write(home.join("notes"), "notes\n").expect("write the notes");
        let mut first = agent(&stage, &home, "");
        stage.wait_pids(&home, &[first.pid]);
        let stranger = stage.start(command, &home);
        stranger.shows(shown);
        stage.wait_pids(&home, &[first.pid]);
        first.kill();
        let second = agent(&stage, &home, "");
        stage.wait_pids(&home, &[second.pid]);
        let entries = eventually("the second is written", LIMIT, || {
            let entries = stage.entries(&home);
            let is_last = entries.last().is_some_and(|last| last["pid"] == second.pid);
            if is_last { Ok(entries) } else { Err(format!("{entries:#?}")) }
        });
        let is_shown = entries.iter().any(|entry| entry["pid"] == stranger.pid);
        assert!(stands_in || !is_shown, "{name}: {entries:#?}");
    }
}
