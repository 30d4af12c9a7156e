//! What sessions and the processes below them used. Each test shows one fact.

mod support;

use observer_core::Input;
use observer_core::cost::{Cost, ProcessUsage};
use observer_core::death::Death;
use support::{Proc, World, rule, shell};

const MS: u64 = 1_000_000;

fn used(cpu_ns: u64) -> ProcessUsage {
    ProcessUsage { cpu_ns, children_cpu_ns: 0, max_rss_pages: cpu_ns / MS }
}

/// The process ends; returns what it cost.
fn cost(world: &mut World, proc: &Proc, usage: ProcessUsage) -> Option<Cost> {
    world.exit_after_using(proc, 0, usage);
    world.reports.deaths.last().cloned().expect("a death").cost
}

fn release(world: &mut World, proc: &Proc, cpu_ns: u64) {
    let at = world.tick_clock();
    world.feed(Input::Release { at, key: proc.key, cpu_ns });
}

/// An agent in a home of the rule, whose birth was observed.
fn agent(world: &mut World) -> Proc {
    let bash = shell(world);
    let mut agent = world.spawn(&bash, 40, "claude");
    world.chdir(&mut agent, "/srv/a");
    world.wait(2_000 * MS);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(agent.key));
    agent
}

#[test]
fn whoever_ends_below_a_process_counts_whether_anybody_waits_or_not() {
    let mut world = World::new(vec![rule()]);
    let agent = agent(&mut world);
    let child = world.fork(&agent, 41);
    let grandchild = world.fork(&child, 42);
    world.exit_after_using(&child, 0, used(10 * MS));
    // Its parent has ended; it is still below the agent.
    world.exit_after_using(&grandchild, 0, used(300 * MS));
    let cost =
        cost(&mut world, &agent, ProcessUsage { cpu_ns: 5 * MS, children_cpu_ns: 10 * MS, max_rss_pages: 7 });
    let expected = Cost { cpu_ns: 5 * MS, children_cpu_ns: 310 * MS, max_rss_pages: 300, processes: Some(2) };
    assert_eq!(cost, Some(expected));
}

#[test]
fn what_lives_on_is_no_part_of_the_cost_of_a_death_but_is_counted() {
    let mut world = World::new(vec![rule()]);
    let agent = agent(&mut world);
    let child = world.fork(&agent, 41);
    let grandchild = world.fork(&child, 42);
    world.exit_after_using(&grandchild, 0, used(3 * MS));
    let so_far = world.core.cost_so_far(agent.key, 10).expect("it lives");
    assert_eq!((so_far.known.processes, so_far.descendants), (Some(2), vec![child.key]));
    assert_eq!((so_far.known.children_cpu_ns, so_far.known.max_rss_pages), (3 * MS, 3));
    assert_eq!(world.core.cost_so_far(agent.key, 0), None, "more descendants than are wanted");
    let cost = cost(&mut world, &agent, used(MS)).expect("it was observed");
    assert_eq!((cost.children_cpu_ns, cost.processes), (3 * MS, Some(2)));
}

#[test]
fn the_time_since_the_last_tick_is_added_when_the_kernel_releases_a_process() {
    let mut world = World::new(vec![rule()]);
    let agent = agent(&mut world);
    let child = world.fork(&agent, 41);
    let grandchild = world.fork(&child, 42);
    world.exit_after_using(&grandchild, 0, used(0));
    world.exit_after_using(&child, 0, used(MS));
    // The process above the first has ended meanwhile.
    release(&mut world, &grandchild, 3 * MS);
    release(&mut world, &child, 2 * MS);
    release(&mut world, &child, 2 * MS);
    let cost = cost(&mut world, &agent, used(MS)).expect("it was observed");
    assert_eq!(cost.children_cpu_ns, 5 * MS);
}

#[test]
fn births_that_may_have_been_missed_leave_their_number_unknown() {
    // Known from a pass only.
    let mut world = World::new(vec![rule()]);
    let bash = shell(&mut world);
    let found = world.child(&bash, 50, "claude");
    world.pass(&[&bash, &found]);
    assert_eq!(cost(&mut world, &found, used(MS)).map(|cost| cost.processes), Some(None));
    // Records were lost.
    let agent = world.fork(&bash, 60);
    world.drops += 1;
    world.pass(&[&bash, &agent]);
    let younger = world.fork(&bash, 61);
    assert_eq!(cost(&mut world, &agent, used(MS)).map(|cost| cost.processes), Some(None));
    assert_eq!(cost(&mut world, &younger, used(MS)).map(|cost| cost.processes), Some(Some(0)));
}

#[test]
fn what_the_kernel_counted_before_the_map_counts() {
    let mut world = World::new(vec![rule()]);
    let bash = shell(&mut world);
    let old = world.child(&bash, 50, "claude");
    world.usage = ProcessUsage { cpu_ns: 0, children_cpu_ns: 70 * MS, max_rss_pages: 9 };
    world.pass(&[&bash, &old]);
    assert_eq!(world.core.cost_so_far(old.key, 10).map(|it| it.known.max_rss_pages), Some(9));
    let child = world.fork(&old, 51);
    world.exit_after_using(&child, 0, used(5 * MS));
    let cost =
        cost(&mut world, &old, ProcessUsage { children_cpu_ns: 70 * MS, ..used(MS) }).expect("observed");
    assert_eq!(cost.children_cpu_ns, 75 * MS);
}

#[test]
fn a_death_that_nobody_observed_has_no_cost() {
    let mut world = World::new(vec![rule()]);
    let bash = shell(&mut world);
    let agent = world.fork(&bash, 60);
    world.pass(&[&bash]);
    world.pass(&[&bash]);
    let death: Death = world.reports.deaths.last().cloned().expect("a death");
    assert_eq!((death.raw_status, death.cost), (None, None), "{agent:?}");
}

#[test]
fn what_a_short_lived_parent_waited_for_counts_once() {
    let mut world = World::new(vec![rule()]);
    let agent = agent(&mut world);
    let parent = world.fork(&agent, 41);
    let child = world.fork(&parent, 42);
    world.exit_after_using(&child, 0, used(0));
    // The kernel has the child's time whole; its release comes after the end of its parent.
    world.exit_after_using(&parent, 0, ProcessUsage { children_cpu_ns: 3 * MS, ..used(MS) });
    release(&mut world, &child, 3 * MS);
    release(&mut world, &parent, MS);
    let cost = cost(&mut world, &agent, used(MS)).expect("it was observed");
    assert_eq!(cost.children_cpu_ns, 4 * MS);
}

#[test]
fn what_ends_below_a_process_that_was_there_before_the_map_is_made_exact() {
    let mut world = World::new(vec![rule()]);
    let bash = shell(&mut world);
    let mut agent = world.spawn(&bash, 40, "claude");
    // It becomes a candidate when it has a child already.
    let child = world.fork(&agent, 41);
    world.chdir(&mut agent, "/srv/a");
    world.wait(2_000 * MS);
    assert!(world.session("/srv/a").is_some());
    let grandchild = world.fork(&child, 42);
    world.exit_after_using(&grandchild, 0, used(0));
    release(&mut world, &grandchild, 2 * MS);
    world.exit_after_using(&child, 0, used(MS));
    assert_eq!(cost(&mut world, &agent, used(0)).map(|cost| cost.children_cpu_ns), Some(3 * MS));
}

#[test]
fn ends_one_below_the_other_are_counted_at_a_bounded_rate() {
    let mut world = World::new(vec![rule()]);
    let mut above = vec![shell(&mut world)];
    for tgid in 100..140 {
        let child = world.fork(above.last().expect("one"), tgid);
        above.push(child);
    }
    // More below it than are counted of a process that is no candidate.
    let first = above.remove(1);
    assert_eq!(cost(&mut world, &first, used(0)).map(|cost| cost.processes), Some(None));
    let late = above.remove(20);
    assert_eq!(cost(&mut world, &late, used(0)).map(|cost| cost.processes), Some(Some(19)));
}
