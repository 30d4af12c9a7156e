//! More sessions of one user than there may be, and many homes at the first look.

#![allow(clippy::indexing_slicing)]

mod support;

use observer_core::explanation::Position;
use observer_core::limits::{CANDIDATES_A_HOME_MAX, SESSIONS_A_USER_MAX};
use observer_core::rule::{Instances, Rule};
use observer_core::{ProcessKey, Tgid};
use support::{Proc, World, rule, shell};

/// The first process of the user with too many.
const FIRST: u32 = 1_000;

fn position(world: &World, tgid: u32) -> Position {
    world.core.explain(Tgid(tgid)).expect("it lives").position
}

fn is_primary(world: &World, tgid: u32) -> bool {
    matches!(position(world, tgid), Position::Primary(_))
}

fn full_users(world: &World) -> Vec<u32> {
    world.core.users_with_too_many_sessions().collect()
}

/// Processes that were there before the daemon, each in a home of its own: four more than may have sessions.
fn crowded() -> (World, Proc, Vec<Proc>) {
    // The daemon that looks for the first time has not seen it.
    let bash = shell(&mut World::new(vec![rule()]));
    let mut world = World::new(vec![rule()]);
    let agent = |at: u32| Proc {
        key: ProcessKey::new(FIRST + at, 100 + u64::from(at)),
        comm: "claude",
        cwd: format!("/srv/{at}"),
        uid: 8,
        ..bash.clone()
    };
    let count = u32::try_from(SESSIONS_A_USER_MAX).expect("a small number") + 4;
    let agents: Vec<Proc> = (0..count).map(agent).collect();
    world.is_large = true;
    world.now = 1_000_000;
    world.pass(&std::iter::once(&bash).chain(&agents).collect::<Vec<_>>());
    world.is_large = false;
    (world, bash, agents)
}

#[test]
fn a_user_has_so_many_sessions_and_further_ones_begin_when_others_have_ended() {
    let (mut world, bash, agents) = crowded();
    let live = |world: &World| world.core.sessions().filter(|(session, _)| session.home.uid == 8).count();
    assert_eq!((live(&world), world.core.counters().sessions_left_out), (SESSIONS_A_USER_MAX, 4));
    assert_eq!(full_users(&world), [8]);
    let left_out: Vec<u32> =
        agents.iter().map(|agent| agent.key.tgid.0).filter(|&tgid| !is_primary(&world, tgid)).collect();
    let [first, second, third, fourth] = *left_out else { panic!("{left_out:?}") };
    assert!(first >= FIRST + u32::try_from(SESSIONS_A_USER_MAX).expect("a small number"), "the youngest");
    assert!(matches!(position(&world, first), Position::TooManySessions(_)));

    // Another user has sessions beside them.
    let mut other = world.spawn(&bash, 50, "claude");
    world.chdir(&mut other, "/srv/0");
    world.wait(2_000_000_000);
    assert!(is_primary(&world, 50));

    // Two sessions end.
    world.exit(&agents[0], 0);
    let begun = |world: &World| left_out.iter().filter(|&&tgid| is_primary(world, tgid)).count();
    assert_eq!(begun(&world), 1);
    world.exit(&agents[1], 0);
    assert_eq!((begun(&world), full_users(&world)), (2, vec![8]));
    // One moves to a home that has none.
    let mut moved = agents[2].clone();
    world.chdir(&mut moved, "/srv/moved");
    world.wait(2_000_000_000);
    assert!(is_primary(&world, moved.key.tgid.0));
    assert_eq!(begun(&world), 2);
    // Those that were left out end.
    for tgid in [first, second, third, fourth] {
        let agent = agents.iter().find(|agent| agent.key.tgid.0 == tgid).expect("it is one of them");
        world.exit(agent, 0);
    }
    assert_eq!(full_users(&world), Vec::<u32>::new());
    assert_eq!(world.core.counters().sessions_left_out, 4);
    world.assert_reports_give_the_map();
}

#[test]
fn a_user_with_too_many_has_no_more_under_other_rules() {
    let (mut world, _, agents) = crowded();
    world.set_rules(vec![rule()], Vec::new());
    let live =
        world.core.sessions().filter(|(session, _)| session.state != observer_core::session::State::Ended);
    assert_eq!(live.count(), SESSIONS_A_USER_MAX);
    assert_eq!(full_users(&world), [8]);
    world.exit(&agents[7], 0);
    let live =
        world.core.sessions().filter(|(session, _)| session.state != observer_core::session::State::Ended);
    assert_eq!(live.count(), SESSIONS_A_USER_MAX);
}

/// The agents of a first look: in one home as many as there may be, each but the oldest below a parent in a home of its own,
/// under a rule whose homes have one session or several. The oldest one has no terminal, so it comes last.
fn nested(instances: Instances) -> (u64, usize) {
    let bash = shell(&mut World::new(vec![rule()]));
    let mut world = World::new(vec![Rule { instances, ..rule() }]);
    let count = u32::try_from(CANDIDATES_A_HOME_MAX).expect("a small number") - 1;
    let agent = |at: u32, parent: &Proc, cwd: String| Proc {
        key: ProcessKey::new(FIRST + at, 100 + u64::from(at)),
        parent: parent.key,
        comm: "claude",
        cwd,
        ..bash.clone()
    };
    let oldest = Proc { tty: None, ..agent(0, &bash, "/srv/all".into()) };
    let above: Vec<Proc> = (1..=count).map(|at| agent(at, &bash, format!("/srv/{at}"))).collect();
    let below: Vec<Proc> =
        (1..).zip(&above).map(|(at, above)| agent(count + at, above, "/srv/all".into())).collect();
    world.is_large = true;
    world.now = 1_000_000;
    world.pass(&[&bash, &oldest].into_iter().chain(&above).chain(&below).collect::<Vec<_>>());
    world.is_large = false;
    world.wait(10);
    assert!(is_primary(&world, oldest.key.tgid.0));
    assert!(above.iter().all(|above| is_primary(&world, above.key.tgid.0)));
    assert!(below.iter().all(|below| matches!(position(&world, below.key.tgid.0), Position::Helper { .. })));
    (world.core.counters().candidates_placed, above.len() + below.len())
}

#[test]
fn a_first_look_places_each_candidate_so_many_times_however_many_are_above_others() {
    for instances in [Instances::One, Instances::Each] {
        let (placed, count) = nested(instances);
        assert!(placed <= 10 * count as u64, "{instances:?}: {placed} for {count}");
    }
}
