//! What was born in a session and outlives it. Each test shows one fact.
#![allow(clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use observer_core::death::{DeathKind, LeftProcesses};
use observer_core::input::{KnownLeft, KnownSession};
use observer_core::left::{FormerSession, KnownBirth, Origins};
use observer_core::limits::{
    BIRTHS_KNOWN_MAX, DESCENDANTS_COUNTED_MAX, LEFT_COUNTS_MAX, LEFT_KEYS_MAX, LEFT_SETTLE_NS,
};
use observer_core::session::State;
use observer_core::{BootTime, Input, ProcessKey};
use proptest::prelude::*;
use support::{Proc, World, home, of_former, only_program, rule, shell};

const SECOND: u64 = 1_000_000_000;
/// Room for all that is recorded.
const BYTES_MAX: usize = 1 << 20;

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

/// The process is killed; returns what it left, which is counted a moment later.
fn left(world: &mut World, proc: &Proc) -> Option<LeftProcesses> {
    world.exit(proc, 9);
    let at_once = world.reports.deaths.last().expect("a death").left.clone();
    if at_once.is_some() {
        return at_once;
    }
    let before = world.reports.left.len();
    world.wait(LEFT_SETTLE_NS);
    let counted = world.reports.left.get(before..).expect("a list").first().cloned();
    counted.filter(|(primary, ..)| *primary == proc.key).map(|(.., left)| left)
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
fn what_began_before_births_were_known_is_not_said_to_have_left_nothing() {
    let mut world = world();
    let bash = shell(&mut world);
    let (old, other) = (agent(&mut world, &bash, 40, "/srv/a"), agent(&mut world, &bash, 50, "/srv/b"));
    let job = world.spawn(&other, 51, "job");
    world.core.set_births_unknown(Some(BootTime(world.now)));
    let young = agent(&mut world, &bash, 60, "/srv/c");
    assert_eq!(left(&mut world, &old), None);
    // The job ends before it is counted.
    world.exit(&other, 9);
    world.exit(&job, 0);
    world.wait(LEFT_SETTLE_NS);
    assert_eq!(world.reports.left, []);
    assert_eq!(world.session("/srv/b").and_then(|it| it.death).and_then(|it| it.left), None);
    assert_eq!(left(&mut world, &young), Some(LeftProcesses::none()));
}

#[test]
fn the_memory_is_that_of_those_which_a_reading_shows() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let server = world.spawn(&agent, 41, "server");
    let watcher = world.spawn(&agent, 42, "watcher");
    let young = world.spawn(&agent, 43, "young");
    world.reports.resident = Some(BTreeMap::from([(server.key, 100), (watcher.key, 20)]));
    let left = left(&mut world, &agent).expect("it was a primary");
    assert_eq!((left.processes, left.rss_pages), (3, Some(120)));
    assert_eq!(left.keys.to_vec(), [server.key, watcher.key, young.key]);
}

#[test]
fn what_ends_a_moment_after_the_session_is_not_left_by_it() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let jobs = [41, 42, 43].map(|tgid| world.spawn(&agent, tgid, "job"));
    // It is about to become a daemon, by another fork.
    let early = world.spawn(&agent, 44, "daemon");
    world.exit(&agent, 9);
    assert_eq!(world.reports.deaths.last().and_then(|death| death.left.clone()), None, "not known yet");
    jobs.iter().for_each(|job| world.exit(job, 1));
    let daemon = world.fork(&early, 45);
    world.exit(&early, 0);
    world.wait(LEFT_SETTLE_NS / 2);
    assert_eq!(world.reports.left, []);
    world.wait(LEFT_SETTLE_NS / 2);
    let left = LeftProcesses { processes: 1, rss_pages: None, keys: [daemon.key].into() };
    let killed = DeathKind::Signaled { signal: 9, core_dumped: false };
    assert_eq!(world.reports.left, [(agent.key, killed, left.clone())]);
    assert_eq!(world.session("/srv/a").and_then(|it| it.death).and_then(|it| it.left), Some(left));
    world.wait(2 * SECOND);
    assert_eq!(world.reports.left.len(), 1, "once");
}

#[test]
fn what_takes_the_session_over_is_not_left_by_it() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let next = world.spawn(&agent, 41, "claude");
    world.exit(&agent, 0);
    world.wait(2 * SECOND);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(next.key));
    assert_eq!(leftovers(&world), []);
}

#[test]
fn a_session_that_is_started_again_at_once_does_not_change_what_the_former_life_left() {
    let mut world = world();
    let bash = shell(&mut world);
    let first = agent(&mut world, &bash, 40, "/srv/a");
    let server = world.spawn(&first, 41, "server");
    world.exit(&first, 9);
    let mut second = world.spawn(&bash, 50, "claude");
    world.chdir(&mut second, "/srv/a");
    world.spawn(&second, 51, "server");
    world.wait(LEFT_SETTLE_NS);
    let [(primary, _, left)] = &world.reports.left[..] else { panic!("{:?}", world.reports.left) };
    assert_eq!((*primary, left.keys.to_vec()), (first.key, vec![server.key]));
}

#[test]
fn nobody_keeps_the_sessions_of_another_user_from_being_counted() {
    let mut world = world();
    let bash = shell(&mut world);
    let mine = agent(&mut world, &bash, 40, "/srv/mine");
    let server = world.spawn(&mine, 41, "server");
    let mut greedy: Vec<Proc> = Vec::new();
    for number in 0..LEFT_COUNTS_MAX as u32 + 5 {
        let mut it = world.fork(&bash, 1_000 + 2 * number);
        it.uid = 1001;
        world.exec(&mut it, "claude");
        world.chdir(&mut it, &format!("/srv/h{number}"));
        world.fork(&it, 1_001 + 2 * number);
        greedy.push(it);
    }
    // They are admitted by and by.
    while primaries(&world).len() <= greedy.len() {
        world.wait(2 * SECOND);
    }
    greedy.iter().for_each(|it| world.exit(it, 9));
    world.exit(&mine, 9);
    world.wait(LEFT_SETTLE_NS);
    assert_eq!(world.reports.left.len(), LEFT_COUNTS_MAX);
    assert_eq!(world.core.counters().left_uncounted, 6);
    let left = world.reports.left.iter().find(|(primary, ..)| *primary == mine.key);
    assert_eq!(left.map(|(.., left)| left.keys.to_vec()), Some(vec![server.key]));
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
    let mut helper = world.spawn(&first, 41, "server");
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
        exec_id: None,
        stands_in_for: None,
        starts: &[],
        labels: &[],
    }
}

/// What a daemon that ends leaves to the next one.
struct Recorded {
    births: Vec<KnownBirth>,
    left: Vec<(FormerSession, Vec<ProcessKey>)>,
}

impl Recorded {
    fn by(world: &World) -> Self {
        let Origins { births, left, surplus } = world.core.origins(BYTES_MAX, |_| 1);
        assert_eq!(surplus, 0);
        Self { births, left: left.into_iter().map(|(former, keys)| (former.clone(), keys)).collect() }
    }

    /// What `key` was born below.
    fn above(&self, key: ProcessKey) -> Option<ProcessKey> {
        self.births.iter().find(|it| it.key == key).map(|it| it.above)
    }

    /// Gives it to a daemon, with the sessions that there were.
    fn resume(&self, again: &mut World, known: &[KnownSession<'_>]) {
        let left: Vec<KnownLeft<'_>> =
            self.left.iter().map(|(former, keys)| of_former(former, keys)).collect();
        let at = again.tick_clock();
        again.feed(Input::Resume { at, known, left: &left, births: &self.births });
    }
}

/// A daemon that was started again, and has made its first pass over these.
fn restarted(world: &World, procs: &[&Proc]) -> World {
    let mut again = World::restarted(vec![agents()]);
    again.now = world.now;
    again.pass(procs);
    again
}

const INIT: ProcessKey = ProcessKey::new(1, 1);

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
    orphan.parent = INIT;
    world.pass(&[&bash, &agent, &child, &orphan, &below]);
    let recorded = Recorded::by(&world);
    let above = [&child, &orphan, &below].map(|proc| recorded.above(proc.key));
    assert_eq!(above, [Some(agent.key), Some(agent.key), Some(orphan.key)]);
    let home = home("/srv/a");
    for lives in [true, false] {
        let orphaned = Proc { parent: INIT, ..child.clone() };
        let mut again = match lives {
            true => restarted(&world, &[&bash, &agent, &child, &orphan, &below]),
            false => restarted(&world, &[&bash, &orphaned, &orphan, &below]),
        };
        recorded.resume(&mut again, &[known(&home, agent.key)]);
        if lives {
            assert_eq!(leftovers(&again), []);
            assert_eq!(left(&mut again, &agent).map(|it| it.processes), Some(3));
        }
        assert_eq!(leftovers(&again), [(41, 40), (43, 40), (44, 40)], "{lives}");
        // What was left is left to the daemon after that as well.
        let recorded = Recorded::by(&again);
        assert_eq!(recorded.left.len(), 1);
        assert!(recorded.left[0].1.contains(&child.key) && recorded.left[0].1.contains(&orphan.key));
    }
}

#[test]
fn what_is_between_a_process_and_its_session_may_end_while_no_daemon_runs() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let middle = world.spawn(&agent, 41, "server");
    let lower = world.spawn(&middle, 42, "server");
    let last = world.spawn(&lower, 43, "server");
    let recorded = Recorded::by(&world);
    let orphan = Proc { parent: INIT, ..last };
    let home = home("/srv/a");
    for lives in [true, false] {
        let mut again = match lives {
            true => restarted(&world, &[&bash, &agent, &orphan]),
            false => restarted(&world, &[&bash, &orphan]),
        };
        recorded.resume(&mut again, &[known(&home, agent.key)]);
        if lives {
            assert_eq!(leftovers(&again), []);
            again.exit(&agent, 9);
        }
        assert_eq!(leftovers(&again), [(43, 40)], "{lives}");
    }
}

#[test]
fn a_restart_of_the_daemon_forgets_nothing_that_a_primary_left_which_is_another_program() {
    let mut world = world();
    let bash = shell(&mut world);
    let mut agent = agent(&mut world, &bash, 40, "/srv/a");
    let server = world.spawn(&agent, 41, "server");
    world.exec(&mut agent, "vim");
    let later = world.spawn(&agent, 42, "later");
    let recorded = Recorded::by(&world);
    let mut again = restarted(&world, &[&bash, &agent, &server, &later]);
    recorded.resume(&mut again, &[]);
    assert_eq!(leftovers(&again), [(41, 40)]);
    let former = again.core.leftovers().first().map(|it| it.former.clone()).expect("one");
    assert_eq!((&*former.name, &*former.home, former.primary), (&b"a"[..], &home("/srv/a"), agent.key));
    again.exit(&agent, 0);
    assert_eq!(leftovers(&again), [(41, 40)], "{:?} was born in no session", later.key);
}

#[test]
fn what_a_primary_started_that_becomes_another_program_while_no_daemon_runs_is_left() {
    let mut world = world();
    let bash = shell(&mut world);
    let mut agent = agent(&mut world, &bash, 40, "/srv/a");
    let server = world.spawn(&agent, 41, "server");
    let recorded = Recorded::by(&world);
    world.exec(&mut agent, "vim");
    let later = world.spawn(&agent, 42, "later");
    let mut again = restarted(&world, &[]);
    let procs = [&bash, &agent, &server, &later];
    again.pass(&procs);
    for proc in procs {
        again.memory(proc);
    }
    let home = home("/srv/a");
    recorded.resume(&mut again, &[known(&home, agent.key)]);
    assert_eq!(leftovers(&again), [(41, 40)]);
}

#[test]
fn what_a_primary_leaves_that_dies_while_the_daemon_starts_is_left() {
    // The daemon before may have been killed, so that it left nothing.
    for is_recorded in [true, false] {
        let mut world = world();
        let bash = shell(&mut world);
        let agent = agent(&mut world, &bash, 40, "/srv/a");
        let middle = world.spawn(&agent, 41, "server");
        let server = world.spawn(&middle, 42, "server");
        let recorded = is_recorded.then(|| Recorded::by(&world));
        let recorded = recorded.unwrap_or(Recorded { births: Vec::new(), left: Vec::new() });
        // It was born while no daemon ran.
        let late = Proc { key: ProcessKey::new(43, world.now), parent: agent.key, ..server.clone() };
        let mut again = restarted(&world, &[&bash, &agent, &middle, &server, &late]);
        again.exit(&middle, 0);
        again.exit(&agent, 9);
        let home = home("/srv/a");
        recorded.resume(&mut again, &[known(&home, agent.key)]);
        assert_eq!(leftovers(&again), [(42, 40), (43, 40)], "{is_recorded}");
    }
}

#[test]
fn nobody_pushes_out_what_is_told_of_the_sessions_of_another_user() {
    let mut world = world();
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let mut greedy = world.fork(&bash, 50);
    greedy.uid = 1001;
    world.exec(&mut greedy, "claude");
    world.chdir(&mut greedy, "/srv/b");
    world.wait(2 * SECOND);
    let first = 1_000;
    for tgid in first..first + BIRTHS_KNOWN_MAX as u32 + 10 {
        world.fork(&greedy, tgid);
    }
    // It is the youngest of all.
    let server = world.fork(&agent, 900_000);
    let Origins { births, surplus, .. } = world.core.origins(BYTES_MAX, |_| 1);
    assert_eq!((births.len(), surplus), (BIRTHS_KNOWN_MAX, 11));
    assert!(births.contains(&KnownBirth { key: server.key, above: agent.key }));
}

#[test]
fn what_is_told_takes_so_many_bytes_of_which_nobody_takes_those_of_another_user() {
    let mut world = world();
    let bash = shell(&mut world);
    let homes: Vec<&str> = vec!["/srv/b", "/srv/c", "/srv/d", "/srv/e", "/srv/f", "/srv/g"];
    let mut of_greedy = Vec::new();
    for (number, home) in (0..).zip(&homes) {
        let mut greedy = world.fork(&bash, 50 + 10 * number);
        greedy.uid = 1001;
        world.exec(&mut greedy, "claude");
        world.chdir(&mut greedy, home);
        world.wait(2 * SECOND);
        of_greedy.extend([51, 52].map(|tgid| world.spawn(&greedy, tgid + 10 * number, "server").key));
        world.exit(&greedy, 9);
    }
    // This session is the youngest of all.
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let server = world.spawn(&agent, 900_000, "server");
    world.exit(&agent, 9);
    world.wait(2 * SECOND);
    // A session takes much more than a process does.
    let bytes_of = |former: Option<&FormerSession>| former.map_or(1, |_| 100);
    let recorded = |bytes_max| {
        let Origins { left, surplus, .. } = world.core.origins(bytes_max, bytes_of);
        let bytes: usize = left.iter().map(|(_, keys)| 100 + keys.len()).sum();
        assert!(bytes <= bytes_max, "{bytes} of {bytes_max}");
        let mut keys: Vec<ProcessKey> = left.into_iter().flat_map(|(_, keys)| keys).collect();
        keys.sort_unstable();
        (keys, surplus)
    };
    let all: Vec<ProcessKey> = of_greedy.iter().copied().chain([server.key]).collect();
    assert_eq!(recorded(6 * 102 + 101), (all, 0));
    let kept = |of_greedy: &[ProcessKey]| of_greedy.iter().copied().chain([server.key]).collect::<Vec<_>>();
    assert_eq!(recorded(3 * 102 + 101), (kept(&of_greedy[..6]), 6), "of the greedy the oldest");
    // There is room for one of the two that a session left.
    assert_eq!(recorded(102 + 101 + 101), (kept(&of_greedy[..3]), 9));
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

/// What the daemon of `world` says of a home, and what one that was started just now would say.
fn sessions_by_both(world: &World, rule: fn() -> observer_core::Rule, live: &[&Proc]) -> [Vec<u32>; 2] {
    let mut look = World::restarted(vec![rule()]);
    look.pass(live);
    look.wait(2 * SECOND);
    [world, &look].map(|world| {
        let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
        live.map(|(session, _)| session.primary.tgid.0).collect()
    })
}

/// A rule for agents on a terminal.
fn on_terminals() -> observer_core::Rule {
    observer_core::Rule { conditions: support::on_pty(), ..agents() }
}

#[test]
fn a_child_that_left_the_terminal_is_left_by_a_primary_that_ends_and_is_no_session() {
    let mut world = World::new(vec![on_terminals()]);
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let mut child = world.fork(&agent, 41);
    world.setsid(&mut child, None);
    let below = world.fork(&child, 42);
    world.wait(2 * SECOND);
    left(&mut world, &agent);
    world.wait(2 * SECOND);
    assert_eq!(world.session("/srv/a").map(|it| (it.state, it.primary)), Some((State::Ended, agent.key)));
    assert_eq!(sessions_by_both(&world, on_terminals, &[&bash, &child, &below]), [vec![], vec![]]);
    assert_eq!(leftovers(&world), [(41, 40), (42, 40)]);
    // On a terminal of its own it is what the rule wants.
    world.set_tty(&mut child, Some("pts4"));
    world.wait(2 * SECOND);
    assert_eq!(world.session("/srv/a").map(|it| (it.state, it.primary)), Some((State::Live, child.key)));
}

#[test]
fn a_child_with_another_name_is_no_session_of_a_rule_by_names() {
    fn named() -> observer_core::Rule {
        observer_core::Rule { conditions: support::only_comm(&["claude"]), ..rule() }
    }
    let mut world = World::new(vec![named()]);
    let bash = shell(&mut world);
    let agent = agent(&mut world, &bash, 40, "/srv/a");
    let mut child = world.fork(&agent, 41);
    let at = world.tick_clock();
    child.comm = "worker";
    world.feed(Input::Comm { at, key: child.key, comm: support::comm("worker") });
    world.exit(&agent, 9);
    world.wait(2 * SECOND);
    assert_eq!(world.session("/srv/a").map(|it| it.state), Some(State::Ended));
    assert_eq!(sessions_by_both(&world, named, &[&bash, &child]), [vec![], vec![]]);
}
