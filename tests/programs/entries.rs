//! What is written down of one run of a program: its start, its end, and not much in between.

use std::time::Instant;

use observer_harness::eventually;
use serde_json::Value;

use crate::stage::{LIMIT, Stage, lives};

/// A program in a home is a session at once.
const CONFIG: &str =
    "[[session]]\ncwd = \"{dir}/homes/*\"\ntty = \"any\"\nmin_age = \"0s\"\nprogram = [\"vim\", \"ncdu\"]\n";
/// Directories beside the home, which are homes too.
const HOMES_BESIDE: usize = 1_000;

/// What one session may write about its state: as many entries at once, and one more each time.
/// docs/limits.md has both (`STATES_BURST`, `STATES_EVERY_NS`).
const STATES_AT_ONCE: u128 = 4;
const STATES_EVERY_MS: u128 = 250;

/// Whether a program leaves its home while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    StaysAtHome,
    GoesElsewhere,
}

/// Runs a command until its terminal shows `shown`, and asserts that the journal has one start and one end of it, and at most
/// one change a second besides those of its state. Of those there are none in a program that stays at home, and in one that
/// goes elsewhere as many as the rate allows, whatever the number of its steps.
#[track_caller]
fn assert_few_entries(command: &str, shown: &str, moves: Moves) {
    let stage = Stage::new(CONFIG);
    let home = stage.home("homes/home");
    for at in 0..HOMES_BESIDE {
        stage.fixture.mkdir(format!("homes/beside{at}"));
    }
    let began = Instant::now();
    let mut program = stage.start(command, &home);
    program.shows(shown);
    stage.wait_pids(&home, &[program.pid]);
    program.kill();
    let life = ["session_started", "session_ended"].map(|kind| (kind, u64::from(program.pid)));
    let entries = eventually("its end is written", LIMIT, || {
        let entries = stage.daemon.history();
        if lives(&entries) == life { Ok(entries) } else { Err(format!("{entries:#?}")) }
    });
    let took = began.elapsed();
    let is_change = |entry: &&Value| entry["kind"] == "session_changed";
    let (of_state, others): (Vec<_>, Vec<_>) =
        entries.iter().filter(is_change).partition(|entry| entry["changed"].get("state").is_some());
    let states_max = match moves {
        Moves::StaysAtHome => 0,
        Moves::GoesElsewhere => STATES_AT_ONCE + took.as_millis() / STATES_EVERY_MS,
    };
    assert!(
        of_state.len() as u128 <= states_max,
        "{} changes of the state in {took:?}: {entries:#?}",
        of_state.len()
    );
    assert!(others.len() as u64 <= 1 + took.as_secs(), "{} changes in {took:?}: {entries:#?}", others.len());
    assert_eq!(entries.len(), life.len() + of_state.len() + others.len(), "{entries:#?}");
    assert_eq!((stage.daemon.drops(), stage.daemon.dropped()), (0, 0));
}

#[test]
fn one_run_of_vim_writes_its_start_and_its_end() {
    assert_few_entries("vim -Nu NONE -n notes", "notes", Moves::StaysAtHome);
}

#[test]
fn one_run_of_vim_with_its_defaults_writes_when_it_is_elsewhere_besides() {
    // It goes into the directory of each file of its defaults, about thirty times, and comes back.
    assert_few_entries("vim notes", "notes", Moves::GoesElsewhere);
}

#[test]
fn one_run_of_ncdu_through_thousands_of_homes_writes_few_of_its_steps() {
    assert_few_entries("ncdu ..", "beside", Moves::GoesElsewhere);
}
