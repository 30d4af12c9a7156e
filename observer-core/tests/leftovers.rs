//! What was born in a session and outlives it. Each test shows one fact.
#![allow(clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use observer_core::death::LeftProcesses;
use observer_core::input::{KnownLeft, KnownSession};
use observer_core::limits::{DESCENDANTS_COUNTED_MAX, LEFT_KEYS_MAX};
use observer_core::session::State;
use observer_core::{BootTime, Input, ProcessKey};
use proptest::prelude::*;
use support::{Proc, World, home, only_program, rule, shell};

const SECOND: u64 = 1_000_000_000;

/// A world whose only sessions are agents below /srv.
fn world() -> World {
    World::new(vec![agents()])
}

fn agents() -> observer_core::Rule {
    observer_core::Rule { conditions: only_program(&["claude"]), ..rule() }
}

fn agent(world: &mut World, above: &Proc, tgid: u32, path: &str) -> Proc {
    let mut agent = world.spawn(above, tgid, "claude");
    world.chdir(&mut agent, path);
    world.wait(2 * SECOND);
    assert_eq!(world.session(path).map(|session| session.primary), Some(agent.key));
    agent
}

/// The process is killed; returns what it left.
fn left(world: &mut World, proc: &Proc) -> Option<LeftProcesses> {
    world.exit(proc, 9);
    world.reports.deaths.last().expect("a death").left.clone()
}

/// The leftovers, each with the primary of its session.
fn leftovers(world: &World) -> Vec<(u32, u32)> {
    let found = world.core.leftovers();
    found.iter().map(|it| (it.process.key.tgid.0, it.former.primary.tgid.0)).collect()
}

#[test]
fn what_is_below_a_primary_that_ends_is_left_by_it_whoever_its_parent_is() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let child = world.spawn(&agent, 41, "server");
    let middle = world.fork(&agent, 42);
    let orphan = world.spawn(&middle, 43, "watcher");
    world.exit(&middle, 0);
    let mut leader = world.fork(&orphan, 44);
    world.setsid(&mut leader, None);
    assert_eq!(leftovers(&world), [], "the session lives");
    let left = left(&mut world, &agent).expect("it was a primary");
    assert_eq!((left.processes, left.rss_pages), (3, None));
    let keys: Vec<ProcessKey> = vec![child.key, orphan.key, leader.key];
    assert_eq!(left.keys.to_vec(), keys);
    assert_eq!(leftovers(&world), [(41, 40), (43, 40), (44, 40)]);
    let former = world.core.leftovers().first().map(|it| it.former.clone()).expect("one");
    assert_eq!((&*former.name, &*former.home), (&b"a"[..], &home("/srv/a")));
    assert_eq!(world.session("/srv/a").and_then(|it| it.death).and_then(|it| it.left), Some(left));
    // What starts below one of them is one too, also when that one has ended.
    let late = world.spawn(&leader, 45, "late");
    world.exit(&leader, 0);
    let later = world.spawn(&late, 46, "later");
    world.exit(&child, 0);
    assert_eq!(leftovers(&world), [(43, 40), (45, 40), (46, 40)]);
    for gone in [&orphan, &late, &later] {
        world.exit(gone, 0);
    }
    assert_eq!(leftovers(&world), []);
}

#[test]
fn the_memory_is_read_when_the_session_ends_and_those_that_ended_with_it_are_not_left() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let server = world.spawn(&agent, 41, "server");
    let watcher = world.spawn(&agent, 42, "watcher");
    world.spawn(&agent, 43, "short");
    world.reports.resident = Some(BTreeMap::from([(server.key, 100), (watcher.key, 20)]));
    let left = left(&mut world, &agent).expect("it was a primary");
    assert_eq!((left.processes, left.rss_pages), (2, Some(120)));
    assert_eq!(left.keys.to_vec(), [server.key, watcher.key]);
}

#[test]
fn what_a_session_left_is_not_known_where_no_reading_tells_who_ended_with_it() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    world.spawn(&agent, 41, "server");
    world.reports.is_reading_late = true;
    assert_eq!(left(&mut world, &agent), None);
    assert_eq!(leftovers(&world), [(41, 40)], "who lives is listed all the same");
}

#[test]
fn a_session_without_leftovers_left_none_and_what_is_no_session_left_nothing() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let child = world.spawn(&agent, 41, "server");
    world.spawn(&child, 42, "below");
    assert_eq!(left(&mut world, &child), None);
    let below = Proc { key: world.core.process(observer_core::Tgid(42)).expect("it lives").key, ..child };
    world.exit(&below, 0);
    let left = left(&mut world, &agent).expect("it was a primary");
    assert_eq!((left.processes, left.rss_pages, left.keys.len()), (0, Some(0), 0));
}

#[test]
fn a_process_belongs_to_the_innermost_session_in_which_it_was_born() {
    let mut world = world();
    let bash = shell(&mut world);
    let outer = agent(&mut world, &bash, 40, "/srv/a");
    let own = world.spawn(&outer, 41, "server");
    // A multiplexer, and a session in it.
    let mut mux = world.fork(&outer, 42);
    world.setsid(&mut mux, None);
    world.exec(&mut mux, "tmux");
    let mut pane = world.fork(&mux, 43);
    world.setsid(&mut pane, Some("pts9"));
    world.exec(&mut pane, "bash");
    let inner = agent(&mut world, &pane, 44, "/srv/b");
    world.spawn(&inner, 45, "server");
    let ended = left(&mut world, &inner).expect("it was a primary");
    assert_eq!(ended.processes, 1);
    assert_eq!(leftovers(&world), [(45, 44)], "the outer one lives");
    let inner = agent(&mut world, &pane, 46, "/srv/b");
    world.spawn(&inner, 47, "server");
    let ended = left(&mut world, &outer).expect("it was a primary");
    assert_eq!(
        ended.keys.to_vec(),
        [own.key, mux.key, pane.key],
        "without the session within and what that left"
    );
    assert_eq!(leftovers(&world), [(41, 40), (42, 40), (43, 40), (45, 44)]);
    let found = world.core.leftovers();
    let running = found.iter().filter(|it| it.runs_session).map(|it| it.process.key);
    assert_eq!(running.collect::<Vec<_>>(), [mux.key, pane.key]);
    left(&mut world, &inner);
    assert_eq!(leftovers(&world), [(41, 40), (42, 40), (43, 40), (45, 44), (47, 46)]);
}

#[test]
fn what_becomes_a_session_is_no_leftover_while_it_is_one() {
    let mut world = world();
    let bash = shell(&mut world);
    let first = agent(&mut world, &bash, 40, "/srv/a");
    let mut helper = world.fork(&first, 41);
    let below = world.spawn(&helper, 42, "server");
    assert_eq!(left(&mut world, &first).map(|it| it.processes), Some(2));
    world.exec(&mut helper, "claude");
    world.wait(2 * SECOND);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(helper.key));
    assert_eq!(leftovers(&world), []);
    let ended = left(&mut world, &helper).expect("it was a primary");
    assert_eq!((ended.keys.to_vec(), leftovers(&world)), (vec![below.key], vec![(42, 41)]));
}

#[test]
fn the_leftovers_of_a_former_life_stay_its_own() {
    let mut world = world();
    let bash = shell(&mut world);
    let first = agent(&mut world, &bash, 40, "/srv/a");
    world.spawn(&first, 41, "server");
    left(&mut world, &first);
    let second = agent(&mut world, &bash, 50, "/srv/a");
    world.spawn(&second, 51, "server");
    assert_eq!(leftovers(&world), [(41, 40)]);
    left(&mut world, &second);
    assert_eq!(leftovers(&world), [(41, 40), (51, 50)]);
}

#[test]
fn what_a_primary_started_before_it_became_another_program_is_left() {
    let mut world = world();
    let bash = shell(&mut world);
    let mut agent = agent(&mut world, &bash, 40, "/srv/a");
    world.spawn(&agent, 41, "server");
    world.exec(&mut agent, "vim");
    let later = world.spawn(&agent, 42, "later");
    assert_eq!(leftovers(&world), [(41, 40)]);
    world.exit(&agent, 0);
    assert_eq!(leftovers(&world), [(41, 40)], "{:?} was born in no session", later.key);
}

#[test]
fn a_daemon_that_is_started_again_knows_what_was_left() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let mut server = world.spawn(&agent, 41, "server");
    let mut below = world.spawn(&server, 42, "below");
    let stranger = world.spawn(&bash, 43, "server");
    let ended = left(&mut world, &agent).expect("it was a primary");
    (server.parent, below.parent) = (ProcessKey::new(1, 1), server.key);
    let mut again = World::restarted(vec![agents()]);
    again.now = world.now;
    again.pass(&[&bash, &server, &below, &stranger]);
    let at = again.tick_clock();
    let of = |primary: u32, processes| KnownLeft {
        home: Box::leak(Box::new(home("/srv/a"))),
        name: b"a",
        foreign: None,
        primary: ProcessKey::new(primary, 30),
        ended_at: BootTime(1),
        wall_offset_ns: 5,
        processes,
    };
    // Another process has a pid of the second.
    let reused = [ProcessKey::new(43, 1), server.key];
    again.feed(Input::Resume { at, known: &[], left: &[of(40, &ended.keys), of(39, &reused)], births: &[] });
    assert_eq!(leftovers(&again), [(41, 40), (42, 40)]);
    let late = again.spawn(&below, 44, "late");
    again.exit(&server, 0);
    again.exit(&below, 0);
    assert_eq!(leftovers(&again), [(44, 40)], "{:?}", late.key);
}

/// A session of /srv/a as the journal has it.
fn known<'a>(home: &'a observer_core::session::Home, primary: ProcessKey) -> KnownSession<'a> {
    KnownSession {
        home,
        home_dir: Default::default(),
        home_deleted: false,
        name: b"a",
        primary,
        wall_offset_ns: 0,
        state: State::Live,
        since: BootTime(1),
        had_tty: true,
        wrapper: None,
        others: &[],
        program: Some(b"claude"),
        stands_in_for: None,
        starts: &[],
        labels: &[],
    }
}

#[test]
fn births_that_the_kernel_does_not_keep_survive_a_restart_of_the_daemon() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let child = world.spawn(&agent, 41, "server");
    let middle = world.spawn(&agent, 42, "server");
    let mut orphan = world.spawn(&middle, 43, "server");
    let below = world.spawn(&orphan, 44, "server");
    world.exit(&middle, 0);
    let init = ProcessKey::new(1, 1);
    orphan.parent = init;
    world.pass(&[&bash, &agent, &child, &orphan, &below]);
    let (births, surplus) = world.core.births();
    assert_eq!(surplus, 0);
    let of = |key: &Proc| births.iter().find(|it| it.key == key.key).map(|it| it.above);
    assert_eq!([of(&child), of(&orphan), of(&below)], [Some(agent.key), Some(agent.key), None]);
    let home = home("/srv/a");
    for lives in [true, false] {
        let mut again = World::restarted(vec![agents()]);
        again.now = world.now;
        let orphaned = Proc { parent: init, ..child.clone() };
        if lives {
            again.pass(&[&bash, &agent, &child, &orphan, &below]);
        } else {
            again.pass(&[&bash, &orphaned, &orphan, &below]);
        }
        let at = again.tick_clock();
        let known = [known(&home, agent.key)];
        again.feed(Input::Resume { at, known: &known, left: &[], births: &births });
        if lives {
            assert_eq!(leftovers(&again), []);
            assert_eq!(left(&mut again, &agent).map(|it| it.processes), Some(3));
        }
        assert_eq!(leftovers(&again), [(41, 40), (43, 40), (44, 40)], "{lives}");
        // What was left is left to the daemon after that as well.
        let (births, _) = again.core.births();
        let of_session = births.iter().filter(|it| it.above == agent.key).map(|it| it.key);
        assert_eq!(of_session.collect::<Vec<_>>(), [child.key, orphan.key]);
    }
}

#[test]
fn the_end_names_so_many_and_counts_the_others() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    for tgid in 100..100 + LEFT_KEYS_MAX as u32 + 3 {
        world.spawn(&agent, tgid, "server");
    }
    let ended = left(&mut world, &agent).expect("it was a primary");
    assert_eq!((ended.processes as usize, ended.keys.len()), (LEFT_KEYS_MAX + 3, LEFT_KEYS_MAX));
    assert_eq!(world.core.counters().left_unnamed, 3);
    assert_eq!(leftovers(&world).len(), LEFT_KEYS_MAX + 3);
}

#[test]
fn more_than_are_counted_are_listed_though_their_number_is_not_in_the_end() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let mut last = world.spawn(&agent, 41, "server");
    let deep = DESCENDANTS_COUNTED_MAX as u32 + 1;
    for tgid in 101..100 + deep {
        let at = world.tick_clock();
        let facts = world.facts(&last);
        let key = ProcessKey::new(tgid, at.0);
        world.core.handle(Input::Fork { at, key, facts, creator: last.key }, &mut world.reports);
        last.key = key;
    }
    assert_eq!(left(&mut world, &agent), None);
    assert_eq!(leftovers(&world).len(), deep as usize, "a chain, one below the other");
}

#[test]
fn sessions_that_ended_and_left_nothing_that_lives_take_no_memory() {
    let mut world = world();
    let bash = shell(&mut world);
    for round in 0..2_000 {
        let mut agent = world.spawn(&bash, 40 + 2 * round, "claude");
        world.chdir(&mut agent, "/srv/a");
        world.wait(2 * SECOND);
        let child = world.spawn(&agent, 41 + 2 * round, "server");
        world.exit(&agent, 9);
        assert_eq!(world.core.leftovers().len(), 1);
        world.exit(&child, 0);
    }
    assert_eq!((world.core.leftovers().len(), world.core.process_count()), (0, 1));
}

/// The primaries of the sessions that live.
fn primaries(world: &World) -> BTreeSet<u32> {
    let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
    live.map(|(session, _)| session.primary.tgid.0).collect()
}

proptest! {
    /// Births, ends and sessions in any order. In the model each process knows everybody above it, from the nearest: the first
    /// of these that lives and is a session, or died as one, decides.
    #[test]
    fn leftovers_are_those_of_a_model_that_knows_all_ancestors(
        steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..60),
    ) {
        let mut world = world();
        let bash = shell(&mut world);
        let mut live: Vec<(Proc, Vec<u32>)> = vec![(bash, Vec::new())];
        let (mut died_as_session, mut next) = (BTreeSet::<u32>::new(), 100);
        for (what, index) in steps {
            let at = index.index(live.len());
            let (proc, above) = live[at].clone();
            let above: Vec<u32> = [proc.key.tgid.0].into_iter().chain(above).collect();
            match what {
                0 => live.push((world.spawn(&proc, next, "server"), above)),
                1 => {
                    // A terminal of its own, so that it is a session within another.
                    let mut agent = world.fork(&proc, next);
                    world.setsid(&mut agent, Some(["pts4", "pts5", "pts6", "pts7"][next as usize % 4]));
                    world.exec(&mut agent, "claude");
                    world.chdir(&mut agent, &format!("/srv/h{next}"));
                    live.push((agent, above));
                }
                _ if at > 0 => {
                    died_as_session.extend(primaries(&world).get(&proc.key.tgid.0));
                    world.exit(&proc, 0);
                    live.remove(at);
                }
                _ => {}
            }
            world.wait(2 * SECOND);
            next += 1;
            let primaries = primaries(&world);
            let decides = |above: &&u32| primaries.contains(above) || died_as_session.contains(*above);
            let former = |(proc, above): &(Proc, Vec<u32>)| {
                let tgid = proc.key.tgid.0;
                let former = above.iter().find(decides).filter(|it| !primaries.contains(it));
                former.filter(|_| !primaries.contains(&tgid)).map(|&former| (tgid, former))
            };
            let expected: BTreeSet<(u32, u32)> = live.iter().filter_map(former).collect();
            prop_assert_eq!(leftovers(&world).into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
}
