//! A program that replaces itself by its child goes on as the session, although something came above it meanwhile. Each test
//! shows one fact.

mod support;

use observer_core::ProcessKey;
use observer_core::limits::SETTLE_NS;
use observer_core::rule::{Instances, Rule};
use observer_core::session::State;
use support::{Proc, World, at_home, rule};

const NS: u64 = 1_000_000_000;

/// One second is enough for a program to be a session.
fn world(instances: Instances) -> World {
    World::new(vec![Rule { instances, min_age_ns: NS, ..rule() }])
}

/// Who has a session, in the order of homes.
fn primaries(world: &World) -> Vec<u32> {
    let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
    live.map(|(session, _)| session.primary.tgid.0).collect()
}

/// A child of `agent` that executes the same program once its parent has ended.
fn hand_over(world: &mut World, agent: &Proc, tgid: u32) -> Proc {
    let mut next = world.fork(agent, tgid);
    world.wait(NS / 2);
    world.exit(agent, 0);
    world.exec(&mut next, agent.comm);
    next
}

/// An agent whose shell has executed `sleep` since it started the agent.
fn agent_below_sleep(world: &mut World) -> Proc {
    let mut bash = at_home(world);
    let agent = world.spawn(&bash, 20, "claude");
    world.wait(2 * NS);
    world.exec(&mut bash, "sleep");
    agent
}

#[test]
fn a_program_that_replaces_itself_again_and_again_keeps_its_session_below_what_its_shell_executed() {
    for instances in [Instances::One, Instances::Each] {
        for tty in [Some("pts3"), None] {
            let mut world = world(instances);
            let mut bash = at_home(&mut world);
            world.set_tty(&mut bash, tty);
            let mut agent = world.spawn(&bash, 20, "claude");
            world.wait(2 * NS);
            agent = hand_over(&mut world, &agent, 21);
            world.exec(&mut bash, "sleep");
            for tgid in 22..27 {
                world.wait(2 * NS);
                assert_eq!(primaries(&world), [tgid - 1], "{instances:?} {tty:?}");
                agent = hand_over(&mut world, &agent, tgid);
                assert_eq!(primaries(&world), [tgid], "{instances:?} {tty:?}");
            }
            world.exit(&agent, 0);
            world.wait(SETTLE_NS);
            assert_eq!(primaries(&world), [bash.key.tgid.0], "nothing else goes on");
        }
    }
}

/// A daemon that is started in the place of the one before it, and finds `procs`.
fn restarted(before: &World, instances: Instances, procs: &[&Proc]) -> World {
    let mut after = World::restarted(vec![Rule { instances, min_age_ns: NS, ..rule() }]);
    (after.now, after.dirs, after.sids) = (before.now, before.dirs.clone(), before.sids.clone());
    after.pass(procs);
    procs.iter().for_each(|proc| after.memory(proc));
    after.resume_recorded(&before.recorded(), 0);
    after.assert_reports_give_the_map();
    after
}

#[test]
fn the_next_daemon_goes_on_with_the_program_that_replaces_itself() {
    for instances in [Instances::One, Instances::Each] {
        for is_seen in [true, false] {
            let mut world = world(instances);
            let mut bash = at_home(&mut world);
            let mut agent = world.spawn(&bash, 20, "claude");
            world.wait(2 * NS);
            if is_seen {
                world.exec(&mut bash, "sleep");
                world.wait(2 * NS);
            } else {
                (bash.comm, bash.exec_id) = ("sleep", bash.exec_id + 1);
            }
            for tgid in 21..24 {
                world = restarted(&world, instances, &[&bash, &agent]);
                world.wait(2 * NS);
                // Who started it is dead from the first time on, so nothing is above it.
                let is_alone = instances == Instances::One || tgid == 21;
                let expected = |tgid| if is_alone { vec![tgid] } else { vec![tgid, bash.key.tgid.0] };
                assert_eq!(primaries(&world), expected(tgid - 1), "{instances:?} {is_seen}");
                agent = hand_over(&mut world, &agent, tgid);
                assert_eq!(primaries(&world), expected(tgid), "{instances:?} {is_seen}");
                world.wait(2 * NS);
                // The kernel gives it another parent.
                agent.parent = ProcessKey::new(1, 1);
            }
        }
    }
}

#[test]
fn a_program_that_replaced_itself_while_no_daemon_ran_is_the_session_still() {
    for instances in [Instances::One, Instances::Each] {
        let mut world = world(instances);
        let mut bash = at_home(&mut world);
        world.spawn(&bash, 20, "claude");
        world.wait(2 * NS);
        world.exec(&mut bash, "sleep");
        world.wait(2 * NS);
        let mut next = world.child(&bash, 21, "claude");
        next.parent = ProcessKey::new(1, 1);
        let mut after = restarted(&world, instances, &[&bash, &next]);
        after.wait(2 * NS);
        assert!(primaries(&after).contains(&21), "{:?}", primaries(&after));
        let last = hand_over(&mut after, &next, 22);
        assert!(primaries(&after).contains(&last.key.tgid.0), "{:?}", primaries(&after));
    }
}

#[test]
fn a_program_that_replaces_itself_below_the_session_of_another_home_keeps_its_own() {
    let mut world = world(Instances::One);
    let mut bash = at_home(&mut world);
    let mut agent = world.fork(&bash, 20);
    world.chdir(&mut agent, "/srv/b");
    world.exec(&mut agent, "claude");
    world.wait(2 * NS);
    world.exec(&mut bash, "sleep");
    for tgid in 21..24 {
        world.wait(2 * NS);
        assert_eq!(primaries(&world), [10, tgid - 1]);
        agent = hand_over(&mut world, &agent, tgid);
        assert_eq!(primaries(&world), [10, tgid]);
    }
}

#[test]
fn a_program_that_replaces_itself_comes_before_what_else_its_wrapper_runs() {
    let mut world = world(Instances::One);
    let bash = at_home(&mut world);
    let wrapper = world.spawn(&bash, 20, "env");
    let mut agent = world.spawn(&wrapper, 21, "claude");
    world.spawn(&wrapper, 22, "tail");
    for tgid in 23..26 {
        world.wait(2 * NS);
        agent = hand_over(&mut world, &agent, tgid);
        assert_eq!(primaries(&world), [tgid]);
    }
    world.exit(&agent, 0);
    assert_eq!(primaries(&world), [22]);
}

#[test]
fn a_program_that_replaces_itself_by_a_wrapper_goes_on_as_what_that_runs() {
    let mut world = world(Instances::One);
    let agent = agent_below_sleep(&mut world);
    let wrapper = world.spawn(&agent, 21, "env");
    let next = world.spawn(&wrapper, 22, "claude");
    world.wait(2 * NS);
    world.exit(&agent, 0);
    assert_eq!(primaries(&world), [next.key.tgid.0]);
}

#[test]
fn a_successor_that_briefly_runs_itself_is_the_session_all_the_same() {
    let mut world = world(Instances::One);
    let agent = agent_below_sleep(&mut world);
    let next = world.spawn(&agent, 21, "claude");
    let other = world.spawn(&agent, 22, "claude");
    let brief = world.spawn(&next, 23, "claude");
    world.wait(2 * NS);
    world.exit(&agent, 0);
    assert_eq!(primaries(&world), [next.key.tgid.0]);
    world.exit(&brief, 0);
    world.exit(&other, 0);
    world.wait(2 * NS);
    assert_eq!(primaries(&world), [next.key.tgid.0]);
}

#[test]
fn a_program_that_replaces_itself_and_executes_what_no_rule_admits_goes_on_as_its_child() {
    let mut world = world(Instances::One);
    let mut agent = agent_below_sleep(&mut world);
    let next = world.spawn(&agent, 21, "claude");
    world.wait(2 * NS);
    world.exec(&mut agent, "bash");
    assert_eq!(primaries(&world), [next.key.tgid.0]);
    world.exit(&agent, 0);
    world.wait(2 * NS);
    assert_eq!(primaries(&world), [next.key.tgid.0]);
}

#[test]
fn what_a_session_leaves_of_another_program_is_no_successor() {
    let mut world = world(Instances::One);
    let mut bash = at_home(&mut world);
    let agent = world.spawn(&bash, 20, "claude");
    world.wait(2 * NS);
    world.exec(&mut bash, "sleep");
    world.spawn(&agent, 21, "tail");
    world.wait(2 * NS);
    world.exit(&agent, 0);
    assert_eq!(primaries(&world), [bash.key.tgid.0]);
}

#[test]
fn an_agent_that_executes_itself_keeps_its_helpers() {
    let mut world = world(Instances::One);
    let bash = at_home(&mut world);
    let mut agent = world.spawn(&bash, 20, "claude");
    world.spawn(&agent, 21, "claude");
    world.spawn(&agent, 22, "claude");
    world.wait(2 * NS);
    world.exec(&mut agent, "claude");
    world.wait(2 * NS);
    assert_eq!(primaries(&world), [20]);
}
