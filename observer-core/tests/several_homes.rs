//! Who is a session where the programs of several homes, or of several instances of one, are above each other. Each test shows
//! one fact.

mod support;

use observer_core::explanation::Position;
use observer_core::limits::SETTLE_NS;
use observer_core::rule::Instances;
use observer_core::session::State;
use observer_core::{Rule, Tgid};
use support::{Proc, World, at_home, only_program, rule};

fn each() -> Rule {
    Rule { instances: Instances::Each, ..rule() }
}

/// A core that knows nothing of the past, and looks at these processes.
fn look(before: &World, rules: Vec<Rule>, procs: &[&Proc]) -> World {
    let mut world = World::new(rules);
    (world.now, world.dirs, world.sids) = (before.now, before.dirs.clone(), before.sids.clone());
    world.pass(procs);
    procs.iter().for_each(|proc| world.memory(proc));
    world
}

/// A program in `home` that leads its POSIX session.
fn leader(world: &mut World, parent: &Proc, tgid: u32, home: &str, name: &'static str) -> Proc {
    let mut child = world.fork(parent, tgid);
    world.sids.insert(child.key, tgid);
    world.exec(&mut child, name);
    world.chdir(&mut child, home);
    child
}

fn below(world: &mut World, parent: &Proc, tgid: u32, home: &str, name: &'static str) -> Proc {
    let mut child = world.spawn(parent, tgid, name);
    world.chdir(&mut child, home);
    child
}

/// The primaries of the live sessions, the oldest first.
fn primaries(world: &World) -> Vec<u32> {
    let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
    let mut primaries: Vec<u32> = live.map(|(session, _)| session.primary.tgid.0).collect();
    primaries.sort_unstable();
    primaries
}

#[test]
fn of_two_homes_whose_programs_started_each_other_a_look_finds_those_that_nothing_started() {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    let outer = leader(&mut world, &bash, 20, "/srv/a", "claude");
    let its_helper = below(&mut world, &outer, 21, "/srv/b", "codex");
    let other = leader(&mut world, &bash, 22, "/srv/b", "codex");
    let helper_of_other = below(&mut world, &other, 23, "/srv/a", "codex");
    let look = look(&world, vec![each()], &[&bash, &outer, &its_helper, &other, &helper_of_other]);
    assert_eq!(primaries(&look), [20, 22]);
}

#[test]
fn of_three_homes_in_a_circle_a_look_finds_those_that_nothing_started() {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    let homes = ["/srv/a", "/srv/b", "/srv/c"];
    let mut procs = vec![bash.clone()];
    for (number, home) in homes.into_iter().enumerate() {
        let tgid = 20 + 10 * u32::try_from(number).unwrap_or(0);
        let outer = leader(&mut world, &bash, tgid, home, "claude");
        let next = homes.iter().cycle().nth(number + 1).copied().unwrap_or(home);
        let helper = below(&mut world, &outer, tgid + 1, next, "codex");
        let last = homes.iter().cycle().nth(number + 2).copied().unwrap_or(home);
        let further = below(&mut world, &helper, tgid + 2, last, "gemini");
        procs.extend([outer, helper, further]);
    }
    let look = look(&world, vec![each()], &procs.iter().collect::<Vec<_>>());
    assert_eq!(primaries(&look), [20, 30, 40]);
}

#[test]
fn what_waits_in_a_look_for_one_that_is_no_session_after_all_is_one() {
    let one = || Rule { conditions: only_program(&["claude"]), ..rule() };
    let rules = || vec![one(), each()];
    let mut world = World::new(rules());
    let bash = at_home(&mut world);
    // One session for all of them in a home: the one that leads its POSIX session.
    let beside = below(&mut world, &bash, 20, "/srv/a", "claude");
    let first = leader(&mut world, &bash, 21, "/srv/a", "claude");
    let waits = below(&mut world, &beside, 22, "/srv/b", "codex");
    let other = leader(&mut world, &bash, 23, "/srv/b", "codex");
    let helper = below(&mut world, &other, 24, "/srv/a", "codex");
    let its_helper = below(&mut world, &waits, 25, "/srv/c", "gemini");
    let procs = [&bash, &beside, &first, &waits, &other, &helper, &its_helper];
    let look = look(&world, rules(), &procs);
    assert_eq!(primaries(&look), [21, 22, 23]);
}

#[test]
fn other_rules_find_the_same_as_a_look_under_them() {
    let mut world = World::new(vec![Rule { conditions: only_program(&["nothing"]), ..rule() }]);
    let bash = at_home(&mut world);
    let outer = leader(&mut world, &bash, 20, "/srv/a", "claude");
    let its_helper = below(&mut world, &outer, 21, "/srv/b", "codex");
    let other = leader(&mut world, &bash, 22, "/srv/b", "codex");
    let helper_of_other = below(&mut world, &other, 23, "/srv/a", "codex");
    world.wait(2 * SETTLE_NS);
    world.set_rules(vec![each()], Vec::new());
    assert_eq!(primaries(&world), [20, 22]);
    let look = look(&world, vec![each()], &[&bash, &outer, &its_helper, &other, &helper_of_other]);
    assert_eq!(primaries(&look), primaries(&world));
}

/// A wrapper below a program on its terminal, and a program that the wrapper started through a shell on another terminal, which
/// has a session of its own. Then the wrapper has the terminal of the shell, by which the program is what it runs.
fn wrapper_that_comes_above_a_session() -> (World, Vec<Proc>) {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    let outer = world.spawn(&bash, 20, "claude");
    let mut sudo = world.spawn(&outer, 21, "sudo");
    let mut shell = world.fork(&sudo, 22);
    world.set_tty(&mut shell, Some("pts5"));
    world.exec(&mut shell, "bash");
    let inner = world.spawn(&shell, 23, "codex");
    world.wait(2 * SETTLE_NS);
    assert_eq!(primaries(&world), [20, 23]);
    world.set_tty(&mut sudo, Some("pts5"));
    world.wait(2 * SETTLE_NS);
    (world, vec![bash, outer, sudo, shell, inner])
}

#[test]
fn a_wrapper_that_comes_above_a_session_is_explained_by_what_it_runs() {
    let (world, procs) = wrapper_that_comes_above_a_session();
    let look = look(&world, vec![each()], &procs.iter().collect::<Vec<_>>());
    for world in [&world, &look] {
        assert_eq!(primaries(world), [20, 23]);
        let position = world.core.explain(Tgid(21)).map(|it| it.position);
        assert!(
            matches!(&position, Some(Position::StandsAside { primary, .. }) if primary.tgid.0 == 23),
            "{position:?}"
        );
    }
}

#[test]
fn what_a_wrapper_starts_that_came_above_a_session_is_of_that_session() {
    let (mut world, procs) = wrapper_that_comes_above_a_session();
    let sudo = procs.iter().find(|proc| proc.comm == "sudo").expect("it is one of them").clone();
    let mut procs = procs;
    procs.push(world.spawn(&sudo, 30, "gemini"));
    world.wait(2 * SETTLE_NS);
    let look = look(&world, vec![each()], &procs.iter().collect::<Vec<_>>());
    assert_eq!(primaries(&world), [20, 23]);
    assert_eq!(primaries(&look), [20, 23]);
}

#[test]
fn a_wrapper_whose_own_program_ends_is_explained_by_what_it_runs_besides() {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    let mut sudo = world.spawn(&bash, 20, "sudo");
    let own = world.spawn(&sudo, 21, "claude");
    let mut shell = world.fork(&sudo, 22);
    world.set_tty(&mut shell, Some("pts5"));
    world.exec(&mut shell, "bash");
    let inner = world.spawn(&shell, 23, "codex");
    world.set_tty(&mut sudo, Some("pts5"));
    assert_eq!(primaries(&world), [21, 23]);
    world.exit(&own, 0);
    world.wait(2 * SETTLE_NS);
    let next = world.spawn(&sudo, 30, "gemini");
    world.wait(2 * SETTLE_NS);
    let look = look(&world, vec![each()], &[&bash, &sudo, &shell, &inner, &next]);
    for world in [&world, &look] {
        assert_eq!(primaries(world), [23]);
        let position = world.core.explain(Tgid(20)).map(|it| it.position);
        assert!(
            matches!(&position, Some(Position::StandsAside { primary, .. }) if primary.tgid.0 == 23),
            "{position:?}"
        );
    }
}
