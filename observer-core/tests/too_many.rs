//! More sessions of one user than there may be, and many homes at the first look.

#![allow(clippy::indexing_slicing)]

mod support;

use observer_core::explanation::Position;
use observer_core::limits::{CANDIDATES_A_HOME_MAX, SESSIONS_A_USER_MAX};
use observer_core::rule::{Instances, Rule};
use observer_core::session::{Home, State};
use observer_core::{ProcessKey, Tgid};
use std::sync::Arc;
use support::{Proc, Recorded, World, rule, shell};

/// The first process of the user with too many.
const FIRST: u32 = 1_000;

fn position(world: &World, tgid: u32) -> Position {
    world.core.explain(Tgid(tgid)).expect("it lives").position
}

fn is_primary(world: &World, tgid: u32) -> bool {
    matches!(position(world, tgid), Position::Primary { .. })
}

fn full_users(world: &World) -> Vec<u32> {
    let over_limit = world.core.over_limit();
    assert_eq!(over_limit.users_of_others, []);
    let users: std::collections::BTreeSet<u32> = over_limit.candidates.iter().map(|it| it.home.uid).collect();
    users.into_iter().collect()
}

/// How many processes have sessions, and how many are there.
const BOUND: usize = SESSIONS_A_USER_MAX;
const COUNT: usize = BOUND + 4;

/// A shell, and processes each in a home of its own: four more than may have sessions. Their homes are in the opposite order.
fn crowd() -> (Proc, Vec<Proc>) {
    let bash = shell(&mut World::new(vec![rule()]));
    let agent = |at: u32| Proc {
        key: ProcessKey::new(FIRST + at, 100 + u64::from(at)),
        comm: "claude",
        cwd: format!("/srv/{}", 9_999 - at),
        uid: 8,
        ..bash.clone()
    };
    let count = u32::try_from(COUNT).expect("a small number");
    let agents = (0..count).map(agent).collect();
    (bash, agents)
}

/// The first pass of a daemon shows all of them.
fn first_pass(world: &mut World, bash: &Proc, agents: &[Proc]) {
    world.is_large = true;
    world.now = 1_000_000;
    world.pass(&std::iter::once(bash).chain(agents).collect::<Vec<_>>());
    world.is_large = false;
}

/// Processes that were there before the daemon.
fn crowded() -> (World, Proc, Vec<Proc>) {
    // The daemon that looks for the first time has not seen the shell.
    let (bash, agents) = crowd();
    let mut world = World::new(vec![rule()]);
    first_pass(&mut world, &bash, &agents);
    (world, bash, agents)
}

/// A daemon that is started again, and has seen all of them.
fn restarted(bash: &Proc, agents: &[Proc]) -> World {
    let mut world = World::restarted(vec![rule()]);
    first_pass(&mut world, bash, agents);
    world
}

/// What a journal has in which each of `agents` is the primary of a session.
fn recorded(world: &World, agents: &[Proc]) -> Vec<Recorded> {
    let sample = world.recorded().swap_remove(0);
    let of = |agent: &Proc| {
        let path = Arc::from(agent.cwd.as_bytes());
        let mut recorded = sample.clone();
        recorded.session.home = Arc::new(Home { path, ..(*sample.session.home).clone() });
        recorded.session.primary = agent.key;
        recorded
    };
    agents.iter().map(of).collect()
}

/// Which of `agents` have live sessions, by their places among them.
fn primaries(world: &World, agents: &[Proc]) -> Vec<usize> {
    let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
    let live: std::collections::BTreeSet<ProcessKey> = live.map(|(session, _)| session.primary).collect();
    (0..agents.len()).filter(|&at| live.contains(&agents[at].key)).collect()
}

fn range(of: std::ops::Range<usize>) -> Vec<usize> {
    of.collect()
}

#[test]
fn of_known_sessions_no_more_go_on_than_a_user_may_have() {
    let (world, bash, agents) = crowded();
    let known = recorded(&world, &agents);
    let mut resumed = restarted(&bash, &agents);
    resumed.resume_recorded(&known, 0);
    assert_eq!(primaries(&resumed, &agents), range(0..BOUND), "the oldest");
    assert_eq!(full_users(&resumed), [8]);
    assert!(matches!(position(&resumed, agents[BOUND].key.tgid.0), Position::TooManySessions(_)));
    resumed.assert_reports_give_the_map();

    // The journal could not be read before.
    let mut late = restarted(&bash, &agents);
    late.resume_recorded(&[], 0);
    late.is_large = true;
    late.resume_recorded(&known[4..], 0);
    late.is_large = false;
    late.wait(10);
    assert_eq!(primaries(&late, &agents), range(0..BOUND), "who is the primary goes on");
    assert_eq!(full_users(&late), [8]);
    late.assert_reports_give_the_map();
}

#[test]
fn known_sessions_come_before_others_and_then_the_oldest_process() {
    let (world, bash, agents) = crowded();
    let mut resumed = restarted(&bash, &agents);
    resumed.resume_recorded(&recorded(&world, &agents[4..]), 0);
    assert_eq!(primaries(&resumed, &agents), range(4..COUNT));
    resumed.exit(&agents[COUNT - 1], 0);
    let with = |first: usize| std::iter::once(first).chain(4..COUNT - 1).collect::<Vec<_>>();
    assert_eq!(primaries(&resumed, &agents), with(0));
    resumed.exit(&agents[0], 0);
    assert_eq!(primaries(&resumed, &agents), with(1), "as a look at them has it");
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
    assert!(begun(&world) == 1 && is_primary(&world, first), "the oldest");
    world.exit(&agents[1], 0);
    assert_eq!((begun(&world), full_users(&world)), (2, vec![8]));
    assert!(is_primary(&world, second), "the next");
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
    let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
    assert_eq!(live.count(), SESSIONS_A_USER_MAX);
    assert_eq!(full_users(&world), [8]);
    world.exit(&agents[7], 0);
    let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
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
