//! What an event costs does not depend on how many other processes there are: it is counted how many processes the core
//! looks at because of one.

#![allow(clippy::indexing_slicing)]

mod support;

use observer_core::Input;
use observer_core::limits::{CANDIDATES_A_HOME_MAX, LINEAGE_STEPS_MAX, SETTLE_NS};
use observer_core::rule::{Instances, Rule};
use observer_core::session::State;
use support::{Proc, World, at_home, comm, rule, shell};

const STEPS: u64 = LINEAGE_STEPS_MAX as u64;
const CANDIDATES: u64 = CANDIDATES_A_HOME_MAX as u64;

/// Returns how many processes were looked at since `before`, which is where that was counted last.
fn visited(world: &World, before: &mut u64) -> u64 {
    let now = world.core.counters().processes_visited;
    now - std::mem::replace(before, now)
}

/// Shells one below the other, the innermost one of them. No rule admits any.
fn nested_shells(world: &mut World, outermost: &Proc) -> Proc {
    (0..).take(LINEAGE_STEPS_MAX).fold(outermost.clone(), |above, at| world.fork(&above, 1_000 + at))
}

/// The name of a terminal.
fn terminal(number: u32) -> &'static str {
    Box::leak(format!("pts{number}").into_boxed_str())
}

/// What else there is in a home in which a program is started again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Roots {
    OnOneTerminal,
    /// Each has a terminal of its own.
    OnTerminals,
    /// They are too young to be sessions.
    Young,
    /// Each has a terminal of its own, and has started the next one.
    Nested,
}

/// Returns how many processes are looked at for a program that is started and ends, beside as many others as there may be,
/// all below the same shells, and how often it is looked where a candidate is among the others.
fn visited_by_a_life(roots: Roots, instances: Instances) -> (u64, u64) {
    let min_age_ns = if roots == Roots::Young { u64::MAX / 2 } else { 0 };
    let mut world = World::new(vec![Rule { instances, min_age_ns, ..rule() }]);
    let bash = at_home(&mut world);
    world.is_large = true;
    let innermost = nested_shells(&mut world, &bash);
    let mut above = innermost.clone();
    for at in 0..u32::try_from(CANDIDATES).expect("a small number") - 1 {
        let mut other = world.fork(&above, 2_000 + at);
        if matches!(roots, Roots::OnTerminals | Roots::Nested) {
            world.set_tty(&mut other, Some(terminal(at)));
        }
        world.exec(&mut other, "claude");
        if roots == Roots::Nested {
            above = other;
        }
    }
    let lives = 16;
    let mut before = 0;
    visited(&world, &mut before);
    let placed = world.core.counters().candidates_placed;
    for at in 0..lives {
        let codex = world.spawn(&innermost, 3_000 + at, "codex");
        world.exit(&codex, 0);
    }
    let placed = world.core.counters().candidates_placed - placed;
    (visited(&world, &mut before) / u64::from(lives), placed / u64::from(lives))
}

#[test]
fn a_program_that_starts_and_ends_costs_no_walk_for_each_other_one_in_its_home() {
    for instances in [Instances::One, Instances::Each] {
        for roots in [Roots::OnOneTerminal, Roots::OnTerminals, Roots::Young, Roots::Nested] {
            let (visited, placed) = visited_by_a_life(roots, instances);
            println!("{roots:?}, {instances:?}: {visited}, {placed} placed");
            // Each walk up for one process is so long, and each candidate is looked at a few times.
            let bound = 24 * STEPS + 24 * CANDIDATES;
            assert!(visited <= bound, "{roots:?}, {instances:?}: {visited} processes, at most {bound}");
            // Beside a primary that stays, and below no candidate, it is counted, and nobody is elected.
            if instances == Instances::One && matches!(roots, Roots::OnOneTerminal | Roots::OnTerminals) {
                assert_eq!(placed, 1, "{roots:?}");
                // Each process above it is looked at once, and the nearest again when it ends.
                let bound = STEPS + STEPS / 4;
                assert!(visited <= bound, "{roots:?}: {visited} processes, at most {bound}");
            }
        }
    }
}

#[test]
fn what_started_others_and_executes_programs_costs_no_walk_for_each_other_one_in_its_home() {
    for instances in [Instances::One, Instances::Each] {
        let mut world = World::new(vec![Rule { instances, ..rule() }]);
        let bash = at_home(&mut world);
        world.is_large = true;
        // It started first, so each other process could be below it.
        let mut looping = world.fork(&bash, 500);
        world.fork(&looping, 501);
        let innermost = nested_shells(&mut world, &bash);
        for at in 0..u32::try_from(CANDIDATES).expect("a small number") - 2 {
            world.spawn(&innermost, 2_000 + at, "claude");
        }
        let (lives, mut before) = (16, 0);
        visited(&world, &mut before);
        for _ in 0..lives {
            world.exec(&mut looping, "codex");
            world.exec(&mut looping, "bash");
        }
        let visited = visited(&world, &mut before) / lives;
        println!("{instances:?}: {visited}");
        let bound = 24 * STEPS + 24 * CANDIDATES;
        assert!(visited <= bound, "{instances:?}: {visited} processes, at most {bound}");
    }
}

#[test]
fn a_root_that_executes_programs_beside_others_costs_no_election() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    world.is_large = true;
    let innermost = nested_shells(&mut world, &bash);
    let count = u32::try_from(CANDIDATES).expect("a small number");
    let roots: Vec<Proc> = (0..count).map(|at| world.spawn(&innermost, 2_000 + at, "claude")).collect();
    // There is no room for this one.
    world.spawn(&innermost, 3_000, "claude");
    assert_eq!(world.core.counters().candidates_left_out, 1);
    let shown = |world: &World, at: usize| {
        let others = world.session("/srv/a").map(|session| session.others).unwrap_or_default();
        others.get(at).map(|other| (other.key, other.program.to_vec()))
    };
    let lives = 16;
    for at in [1, roots.len() - 1] {
        let mut looping = roots[at].clone();
        let (mut before, placed) = (0, world.core.counters().candidates_placed);
        visited(&world, &mut before);
        for _ in 0..lives {
            world.exec(&mut looping, "codex");
            assert!(at > 1 || shown(&world, 0) == Some((looping.key, b"codex".to_vec())));
            world.exec(&mut looping, "claude");
        }
        let placed = world.core.counters().candidates_placed - placed;
        let visited = visited(&world, &mut before) / (2 * lives);
        println!("{at}: {visited}, {placed} placed");
        assert_eq!(placed, 2 * lives);
        let bound = STEPS + STEPS / 4;
        assert!(visited <= bound, "{visited} processes, at most {bound}");
        assert_eq!(world.session("/srv/a").map(|session| u64::from(session.roots)), Some(CANDIDATES));
    }
}

#[test]
fn a_root_that_its_rule_refuses_for_a_moment_beside_others_costs_no_election() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    world.is_large = true;
    let innermost = nested_shells(&mut world, &bash);
    let count = u32::try_from(CANDIDATES).expect("a small number") - 1;
    let roots: Vec<Proc> = (0..count).map(|at| world.spawn(&innermost, 2_000 + at, "claude")).collect();
    let mut looping = roots[roots.len() - 1].clone();
    let lives = 16;
    for execs in [true, false] {
        let (mut before, placed) = (0, world.core.counters().candidates_placed);
        visited(&world, &mut before);
        for name in ["bash", "claude"].into_iter().cycle().take(2 * lives) {
            if execs {
                world.exec(&mut looping, name);
            } else {
                let at = world.tick_clock();
                looping.comm = name;
                world.feed(Input::Comm { at, key: looping.key, comm: comm(name) });
            }
            let roots = CANDIDATES - 1 - u64::from(name == "bash");
            assert_eq!(world.session("/srv/a").map(|session| u64::from(session.roots)), Some(roots));
        }
        let placed = world.core.counters().candidates_placed - placed;
        let visited = visited(&world, &mut before) / (2 * lives as u64);
        println!("execs {execs}: {visited}, {placed} placed");
        assert_eq!(placed, lives as u64, "it is placed when it comes back");
        let bound = STEPS + STEPS / 4;
        assert!(visited <= bound, "{visited} processes, at most {bound}");
    }
}

#[test]
fn many_candidates_one_below_the_other_cost_no_walk_to_the_top_for_each() {
    const COUNT: u32 = 3_500;
    const MOVES: u32 = 120;
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    world.is_large = true;
    let mut nested = vec![world.spawn(&bash, 1_000, "claude")];
    for at in 1..COUNT {
        let child = world.fork(&nested[nested.len() - 1], 1_000 + at);
        nested.push(child);
    }
    let mut before = 0;
    println!("births: {}", visited(&world, &mut before) / u64::from(COUNT));
    for at in 0..MOVES {
        let moving = &mut nested[64];
        world.chdir(moving, if at % 2 == 0 { "/srv/b" } else { "/srv/a" });
        world.wait(10);
    }
    let of_moves = visited(&world, &mut before) / u64::from(MOVES);
    println!("moves: {of_moves}");
    for outermost in &nested {
        world.exit(outermost, 9);
    }
    world.wait(2 * SETTLE_NS);
    let of_deaths = visited(&world, &mut before) / u64::from(COUNT);
    println!("deaths: {of_deaths}");
    assert_eq!(world.session("/srv/a").map(|it| it.state), Some(State::Ended));
    let bound = 24 * STEPS + 24 * CANDIDATES;
    assert!(of_moves <= bound && of_deaths <= bound, "{of_moves} and {of_deaths}, at most {bound}");
}

#[test]
fn a_session_that_begins_in_a_namespace_costs_no_look_at_all_processes() {
    const COUNT: u32 = 5_000;
    let mut world = World::new(vec![rule()]);
    let bash = shell(&mut world);
    world.is_large = true;
    (0..COUNT).for_each(|at| drop(world.fork(&bash, 1_000 + at)));
    // A look at all of them comes to it last.
    let mut inside = world.fork(&bash, 30_000);
    inside.mnt_ns = 2;
    world.chdir(&mut inside, "/srv/a");
    let claude = world.spawn(&inside, 20_000, "claude");
    world.exit(&claude, 0);
    let (lives, mut before) = (16, 0);
    visited(&world, &mut before);
    for at in 0..lives {
        let claude = world.spawn(&inside, 20_001 + at, "claude");
        assert_eq!(world.session("/srv/a").map(|it| it.state), Some(State::Live));
        world.exit(&claude, 0);
    }
    let visited = visited(&world, &mut before) / u64::from(lives);
    println!("{visited}");
    assert!(visited <= 100, "{visited} of {COUNT} processes");
}

#[test]
fn a_home_that_has_room_again_costs_no_look_at_what_others_left_out() {
    const COUNT: u32 = 6_000;
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    world.is_large = true;
    let claude = world.spawn(&bash, 500, "claude");
    (0..COUNT).for_each(|at| drop(world.spawn(&claude, 1_000 + at, "git")));
    let mut elsewhere = bash.clone();
    elsewhere = world.fork(&elsewhere, 600);
    world.chdir(&mut elsewhere, "/srv/b");
    let other = world.spawn(&elsewhere, 601, "claude");
    let (mut most, mut before) = (0, 0);
    for (home, round) in [(&other, 0), (&other, 1), (&claude, 2), (&claude, 3)] {
        let count = u32::try_from(CANDIDATES).expect("a small number");
        let helpers: Vec<Proc> =
            (0..2 * count).map(|at| world.spawn(home, 10_000 + 1_000 * round + at, "git")).collect();
        visited(&world, &mut before);
        for helper in &helpers {
            world.exit(helper, 0);
            most = most.max(visited(&world, &mut before));
        }
    }
    println!("{most}");
    let bound = 24 * STEPS + 24 * CANDIDATES;
    assert!(most <= bound, "{most} processes for one death, at most {bound}");
}

#[test]
fn a_program_that_replaces_itself_below_another_one_costs_no_walk_for_each_candidate() {
    for instances in [Instances::One, Instances::Each] {
        let mut world = World::new(vec![Rule { instances, ..rule() }]);
        let bash = at_home(&mut world);
        world.is_large = true;
        let mut above = world.fork(&bash, 500);
        // It is as far above as is looked.
        let innermost = (3..).take(LINEAGE_STEPS_MAX - 2);
        let innermost = innermost.fold(above.clone(), |above, at| world.fork(&above, 1_000 + at));
        let agent = world.spawn(&innermost, 1_900, "claude");
        let count = u32::try_from(CANDIDATES).expect("a small number") - 3;
        let mut procs: Vec<Proc> = (0..count).map(|at| world.spawn(&agent, 2_000 + at, "claude")).collect();
        procs.push(agent);
        world.exec(&mut above, "codex");
        world.wait(2 * SETTLE_NS);
        let (mut most, mut before) = (0, 0);
        for at in 0..16 {
            let primary = world.session("/srv/a").map(|session| session.primary);
            let agent = procs.iter().find(|proc| Some(proc.key) == primary).expect("an agent").clone();
            procs.push(world.spawn(&agent, 3_000 + at, "claude"));
            visited(&world, &mut before);
            world.exit(&agent, 0);
            most = most.max(visited(&world, &mut before));
            world.wait(2 * SETTLE_NS);
        }
        println!("{instances:?}: {most}");
        let bound = 24 * STEPS + 24 * CANDIDATES;
        assert!(most <= bound, "{instances:?}: {most} processes, at most {bound}");
    }
}
