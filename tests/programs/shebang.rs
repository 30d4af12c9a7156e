//! Scripts whose first line names another program: the process execs several times before it is what a person started.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use observer_harness::{Truth, eventually};

use crate::stage::{LIMIT, Program, Stage, lives};

/// The scripts. Each becomes its interpreter, through `env`, through a shell, or through several of both.
const SCRIPTS: [(&str, &str); 4] = [
    ("agent", "#!/usr/bin/env node\nsetInterval(() => {}, 1e6)\n"),
    ("helper", "#!/usr/bin/env python3\nimport time\ntime.sleep(1e6)\n"),
    ("once.sh", "#!/bin/sh\nexec ./helper\n"),
    ("twice.sh", "#!/bin/sh\nexec ./once.sh\n"),
];

/// A script, the first word of the command line that it ends as, a condition of a rule, and whether it is a session under that
/// rule. A rule that names the script of a shell admits the shell while it runs it, and so is not here.
struct Case {
    script: &'static str,
    interpreter: &'static str,
    condition: &'static str,
    is_session: bool,
}

const fn case(
    script: &'static str,
    interpreter: &'static str,
    condition: &'static str,
    is_session: bool,
) -> Case {
    Case { script, interpreter, condition, is_session }
}

#[rustfmt::skip]
const CASES: [Case; 12] = [
    case("agent",     "node",     r#"program = "agent""#,                 true),
    case("agent",     "node",     r#"comm = ["node*", "MainThread"]"#,    true),
    case("agent",     "node",     r#"comm = "agent""#,                    false),
    case("agent",     "node",     r#"comm = "env""#,                      false),
    case("helper",    "python3",  r#"program = "helper""#,                true),
    case("helper",    "python3",  r#"comm = "python3""#,                  true),
    case("helper",    "python3",  r#"comm = "helper""#,                   false),
    case("once.sh",   "python3",  r#"program = "helper""#,                true),
    case("once.sh",   "python3",  r#"comm = "python3""#,                  true),
    case("once.sh",   "python3",  r#"comm = "helper""#,                   false),
    case("twice.sh",  "python3",  r#"program = ["helper", "sh"]"#,        true),
    case("twice.sh",  "python3",  r#"comm = "python3""#,                  true),
];

#[test]
fn a_chain_of_scripts_is_one_start_when_programs_are_sessions_at_once() {
    assert_starts("min_age = \"0s\"\n");
}

#[test]
fn a_chain_of_scripts_is_one_start_with_the_usual_age() {
    assert_starts("");
}

/// Runs each case in a home of its own, under a rule of its own that has this setting.
#[track_caller]
fn assert_starts(setting: &str) {
    let rule = |(number, case): (usize, &Case)| {
        let condition = case.condition;
        format!("[[session]]\ncwd = \"{{dir}}/case{number}/*\"\ntty = \"any\"\n{condition}\n{setting}")
    };
    let stage = Stage::new(&CASES.iter().enumerate().map(rule).collect::<Vec<_>>().join("\n"));
    let mut started: Vec<(&Case, PathBuf, Program)> = Vec::new();
    // Those that are no sessions start first: they have lived longer than any age when the others are sessions.
    let mut order: Vec<(usize, &Case)> = CASES.iter().enumerate().collect();
    order.sort_by_key(|(_, case)| case.is_session);
    for (number, case) in order {
        let home = stage.home(&format!("case{number}/home"));
        for (name, text) in SCRIPTS {
            let path = home.join(name);
            std::fs::write(&path, text).expect("write a script");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("make it executable");
        }
        let program = stage.start(&format!("./{}", case.script), &home);
        eventually("it is its interpreter", LIMIT, || {
            let argv = Truth::of(program.pid).map(|process| process.argv).unwrap_or_default();
            let is_last = argv.first().is_some_and(|word| word == case.interpreter.as_bytes());
            if is_last { Ok(()) } else { Err(format!("{argv:?}")) }
        });
        started.push((case, home, program));
    }
    for (case, home, program) in &started {
        let pids = [program.pid];
        stage.wait_pids(home, if case.is_session { &pids } else { &[] });
    }
    for (_, _, program) in &mut started {
        program.kill();
    }
    eventually("the history has one start and one end of each", LIMIT, || {
        let mut wrong = Vec::new();
        for (case, home, program) in &started {
            let entries = stage.entries(home);
            let life = ["session_started", "session_ended"].map(|kind| (kind, u64::from(program.pid)));
            let expected = if case.is_session { &life[..] } else { &[] };
            if lives(&entries) != expected {
                let Case { script, condition, .. } = case;
                wrong.push(format!("{script}, {condition}: {:?} and not {expected:?}", lives(&entries)));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    });
}
