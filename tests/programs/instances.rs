//! Two programs in one home, whose rule gives each a session, and gives the home one from a restart of the daemon on.

use std::path::{Path, PathBuf};

use observer_harness::eventually;

use crate::stage::{LIMIT, Program, Stage, lives};

const CONFIG: &str = "[[session]]\ncwd = \"{dir}/homes/*\"\ntty = \"any\"\nmin_age = \"0s\"\n";

/// A daemon whose rule gives each program a session, two programs in one home, and the home.
fn two_sessions() -> (Stage, [Program; 2], PathBuf) {
    let stage = Stage::new(&format!("{CONFIG}instances = \"each\"\n"));
    let home = stage.home("homes/home");
    let first = stage.start("python3 tool.py", &home);
    wait(&stage, &home, &[first.pid]);
    let second = stage.start("python3 tool.py", &home);
    wait(&stage, &home, &[first.pid, second.pid]);
    (stage, [first, second], home)
}

#[track_caller]
fn wait(stage: &Stage, home: &Path, expected: &[u32]) {
    eventually("the sessions of the home", LIMIT, || match stage.pids(home) {
        pids if pids == expected => Ok(()),
        pids => Err(format!("{pids:?} and not {expected:?}")),
    });
}

fn restart_with_one(stage: &mut Stage) {
    stage.daemon.stop();
    let config = CONFIG.replace("{dir}", &stage.fixture.dir().to_string_lossy());
    stage.daemon.configure(&format!("{config}instances = \"one\"\n"));
    stage.daemon.restart();
}

/// The reasons of the ends of sessions, in their order.
fn reasons(stage: &Stage, home: &Path) -> Vec<String> {
    let entries = stage.entries(home);
    entries.iter().filter_map(|entry| Some(entry.get("end_reason")?.as_str()?.to_owned())).collect()
}

#[test]
fn the_first_session_goes_on_and_the_second_program_is_beside_it() {
    let (mut stage, [first, second], home) = two_sessions();
    restart_with_one(&mut stage);
    stage.wait_pids(&home, &[first.pid]);
    let rows = stage.daemon.list();
    let other = rows.first().and_then(|row| row.pointer("/others/0/pid")?.as_u64());
    assert_eq!(other, Some(second.pid.into()), "{rows:#?}");
    assert_eq!(reasons(&stage, &home), ["not_admitted"]);
    assert_eq!(lives(&stage.entries(&home)).last(), Some(&("session_ended", second.pid.into())));
}

#[test]
fn without_the_first_session_the_second_program_begins_it() {
    let (mut stage, [mut first, second], home) = two_sessions();
    first.kill();
    wait(&stage, &home, &[second.pid]);
    restart_with_one(&mut stage);
    stage.wait_pids(&home, &[second.pid]);
    assert_eq!(reasons(&stage, &home), ["died", "not_admitted"]);
    let entries = stage.entries(&home);
    let second = u64::from(second.pid);
    // What differs at a start is written home by home.
    let mut found = lives(&entries).split_off(3);
    found.sort_unstable();
    assert_eq!(found, [("session_ended", second), ("session_started", second)], "{entries:#?}");
}
