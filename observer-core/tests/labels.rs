//! Labels of sessions: the variables of what is executed in them. Each test shows one fact.

mod support;

use std::sync::Arc;

use observer_core::label::LabelVariable;
use observer_core::limits::{LABEL_BYTES_MAX, LABELLING_PROCESSES_MAX};
use observer_core::{Rule, Settings};
use support::{Proc, World, at_home, only_comm, rule};

fn variables(of: &[(&str, &str)]) -> Vec<LabelVariable> {
    let label = |&(name, variable): &(&str, &str)| LabelVariable {
        name: Arc::from(name),
        variable: variable.as_bytes().to_vec(),
    };
    of.iter().map(label).collect()
}

fn world_of(rule: Rule) -> World {
    let labels = variables(&[("agent", "AGENT_ID"), ("task", "TASK")]);
    World::with(Settings { rules: vec![rule], labels, host_mnt_ns: 1, ..Settings::default() })
}

fn world() -> World {
    world_of(rule())
}

/// Fork and exec with this environment.
fn spawn_in(world: &mut World, parent: &Proc, tgid: u32, name: &'static str, env: &[u8]) -> Proc {
    let mut child = world.fork(parent, tgid);
    world.exec_in(&mut child, name, env);
    child
}

fn labels(world: &World) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let session = world.session("/srv/a").expect("a session");
    session.labels.iter().map(|label| (label.name.to_string(), text(&label.value))).collect()
}

#[track_caller]
fn assert_labels(world: &World, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(labels(world), expected);
    world.assert_reports_give_the_map();
}

#[test]
fn the_primary_and_what_is_born_in_its_session_label_it_and_the_latest_wins() {
    let mut world = world();
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"HOME=/x\0AGENT_ID=1\0");
    assert_labels(&world, &[("agent", "1")]);
    // A tool without a terminal, below a shell that no rule admits.
    let mut shell = spawn_in(&mut world, &agent, 21, "bash", b"TASK=t\0");
    world.set_tty(&mut shell, None);
    assert_labels(&world, &[("agent", "1"), ("task", "t")]);
    spawn_in(&mut world, &shell, 22, "tool", b"TASK=u\0AGENT_ID=2\0");
    assert_labels(&world, &[("agent", "2"), ("task", "u")]);
    // What has no such variable changes nothing, and the first of two variables of one name counts.
    spawn_in(&mut world, &shell, 23, "tool", b"PATH=/bin\0");
    spawn_in(&mut world, &shell, 24, "tool", b"TASK=v\0TASK=w\0");
    assert_labels(&world, &[("agent", "2"), ("task", "v")]);
}

#[test]
fn a_label_that_is_as_it_was_is_not_reported_again() {
    let mut world = world();
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"AGENT_ID=1\0");
    let before = world.take_reports().len();
    assert_eq!(before, 1, "the start has the label");
    spawn_in(&mut world, &agent, 21, "bash", b"AGENT_ID=1\0");
    assert_eq!(world.take_reports(), Vec::<String>::new());
    spawn_in(&mut world, &agent, 22, "bash", b"AGENT_ID=2\0");
    assert_eq!(world.take_reports().len(), 1);
}

#[test]
fn what_was_executed_before_the_session_began_labels_it() {
    let mut world = world_of(Rule { min_age_ns: 1_000_000_000, ..rule() });
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"AGENT_ID=1\0");
    spawn_in(&mut world, &agent, 21, "bash", b"AGENT_ID=2\0");
    let last = spawn_in(&mut world, &agent, 22, "bash", b"AGENT_ID=3\0");
    // A child inherits its environment and executes nothing.
    world.exit(&last, 0);
    world.wait(1_000_000_000);
    assert_labels(&world, &[("agent", "2")]);
}

#[test]
fn another_primary_has_labels_of_its_own() {
    let mut world = world();
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"AGENT_ID=1\0TASK=t\0");
    world.exit(&agent, 0);
    assert_labels(&world, &[("agent", "1"), ("task", "t")]);
    spawn_in(&mut world, &bash, 21, "agent", b"AGENT_ID=2\0");
    assert_labels(&world, &[("agent", "2")]);
}

#[test]
fn others_and_what_is_on_a_terminal_of_its_own_label_nothing() {
    let mut world = world();
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"");
    spawn_in(&mut world, &bash, 30, "bash", b"AGENT_ID=9\0");
    // It could be the primary of the home, and is another program.
    let other = spawn_in(&mut world, &bash, 31, "agent", b"AGENT_ID=9\0");
    spawn_in(&mut world, &other, 32, "bash", b"AGENT_ID=9\0");
    let mut pane = world.fork(&agent, 21);
    world.set_tty(&mut pane, Some("pts9"));
    world.exec_in(&mut pane, "bash", b"AGENT_ID=9\0");
    assert_labels(&world, &[]);
}

#[test]
fn long_values_and_other_variables_are_not_kept() {
    let mut world = world();
    let bash = at_home(&mut world);
    let long = [b"AGENT_ID=".as_slice(), &[b'x'; LABEL_BYTES_MAX + 1], b"\0SECRET=s\0TASK=\0"].concat();
    let agent = spawn_in(&mut world, &bash, 20, "agent", &long);
    assert_labels(&world, &[("task", "")]);
    let env = world.core.process_by_key(agent.key).and_then(|process| process.env.clone());
    assert_eq!(env.as_deref(), Some([Arc::from(b"TASK=".as_slice())].as_slice()));
    let longest = [b"AGENT_ID=".as_slice(), &[b'y'; LABEL_BYTES_MAX], b"\0"].concat();
    spawn_in(&mut world, &agent, 21, "bash", &longest);
    assert_eq!(labels(&world).first().map(|(_, value)| value.len()), Some(LABEL_BYTES_MAX));
}

#[test]
fn a_bounded_number_of_processes_is_looked_at_when_a_session_begins() {
    let mut world = world_of(Rule { min_age_ns: 1_000_000_000, ..rule() });
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"AGENT_ID=0\0");
    for n in 0..LABELLING_PROCESSES_MAX as u32 {
        let env = format!("AGENT_ID={}\0", n + 1);
        spawn_in(&mut world, &agent, 100 + n, "bash", env.as_bytes());
    }
    world.wait(1_000_000_000);
    assert_labels(&world, &[("agent", &(LABELLING_PROCESSES_MAX - 1).to_string())]);
}

#[test]
fn other_variables_label_what_is_there_as_far_as_it_is_known() {
    let mut world = world();
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"AGENT_ID=1\0TASK=t\0NEW=n\0");
    let at = world.tick_clock();
    world.core.set_labels(
        at,
        variables(&[("agent", "AGENT_ID"), ("job", "TASK"), ("new", "NEW")]),
        &mut world.reports,
    );
    assert_labels(&world, &[("agent", "1"), ("job", "t")]);
    spawn_in(&mut world, &agent, 21, "bash", b"NEW=m\0");
    assert_labels(&world, &[("agent", "1"), ("job", "t"), ("new", "m")]);
    let at = world.tick_clock();
    world.core.set_labels(at, variables(&[("agent", "NEW")]), &mut world.reports);
    assert_labels(&world, &[("agent", "m")]);
    world.core.set_labels(at, Vec::new(), &mut world.reports);
    assert_labels(&world, &[]);
    spawn_in(&mut world, &agent, 22, "bash", b"NEW=o\0");
    assert_labels(&world, &[]);
}

#[test]
fn labels_of_before_a_restart_stay_until_a_later_exec() {
    let mut first = world();
    let bash = at_home(&mut first);
    let agent = spawn_in(&mut first, &bash, 20, "agent", b"AGENT_ID=1\0");
    spawn_in(&mut first, &agent, 21, "bash", b"AGENT_ID=2\0TASK=t\0");
    let known = first.session("/srv/a").expect("a session");
    let labels = variables(&[("agent", "AGENT_ID")]);
    let settings =
        Settings { rules: vec![rule()], labels, host_mnt_ns: 1, awaits_known: true, ..Settings::default() };
    let mut world = World::with(settings);
    (world.now, world.dirs) = (first.now, first.dirs.clone());
    world.pass(&[&bash, &agent]);
    world.resume(&[(known, true)], 0);
    assert_labels(&world, &[("agent", "2")]);
    spawn_in(&mut world, &agent, 22, "bash", b"AGENT_ID=3\0");
    assert_labels(&world, &[("agent", "3")]);
}

#[test]
fn a_label_of_another_variable_does_not_outlive_a_restart() {
    let mut first = world();
    let bash = at_home(&mut first);
    let agent = spawn_in(&mut first, &bash, 20, "agent", b"AGENT_ID=1\0");
    let known = first.session("/srv/a").expect("a session");
    let mut without_variable = known.clone();
    without_variable.labels.iter_mut().for_each(|label| label.variable = Arc::default());
    for (variable, known, expected) in [
        ("AGENT_ID", &known, &[("agent", "1")][..]),
        ("OTHER", &known, &[]),
        // An entry of an older version.
        ("OTHER", &without_variable, &[("agent", "1")]),
    ] {
        let labels = variables(&[("agent", variable)]);
        let (rules, awaits_known) = (vec![rule()], true);
        let settings = Settings { rules, labels, host_mnt_ns: 1, awaits_known, ..Settings::default() };
        let mut world = World::with(settings);
        (world.now, world.dirs) = (first.now, first.dirs.clone());
        world.pass(&[&bash, &agent]);
        world.resume(&[(known.clone(), true)], 0);
        assert_labels(&world, expected);
    }
}

#[test]
fn without_variables_there_are_no_labels() {
    let mut world = World::new(vec![Rule { conditions: only_comm(&["agent"]), ..rule() }]);
    let bash = at_home(&mut world);
    spawn_in(&mut world, &bash, 20, "agent", b"AGENT_ID=1\0");
    assert_labels(&world, &[]);
}

#[test]
fn a_program_on_a_terminal_of_its_own_below_the_primary_labels_nothing() {
    let mut world = world();
    let bash = at_home(&mut world);
    let agent = spawn_in(&mut world, &bash, 20, "agent", b"AGENT_ID=1\0");
    let mut other = world.fork(&agent, 21);
    world.set_tty(&mut other, Some("pts9"));
    world.exec_in(&mut other, "agent", b"AGENT_ID=2\0");
    spawn_in(&mut world, &other, 22, "tool", b"TASK=t\0");
    assert_eq!(world.session("/srv/a").map(|session| session.roots), Some(2));
    assert_labels(&world, &[("agent", "1")]);
}
