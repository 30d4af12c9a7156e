//! Several sessions of one user in one home. Each test shows one fact.

mod support;

use observer_core::cost::ProcessUsage;
use observer_core::limits::{INSTANCES_MAX, SETTLE_NS};
use observer_core::rule::{HomeRule, Instances};
use observer_core::session::{EndReason, Session, State};
use observer_core::{Input, Rule};
use support::{Proc, World, at_home, only_program, rule, shell};

const MIN_AGE_NS: u64 = 1_000_000_000;

fn each() -> Rule {
    Rule { instances: Instances::Each, ..rule() }
}

/// As the built-in rule.
fn by_cwd() -> Rule {
    Rule { home: HomeRule::Cwd, min_age_ns: MIN_AGE_NS, ..each() }
}

/// A shell on another terminal in /srv/a.
fn shell_on(world: &mut World, parent: &Proc, tgid: u32, tty: &'static str) -> Proc {
    let mut child = world.fork(parent, tgid);
    world.set_tty(&mut child, Some(tty));
    world.exec(&mut child, "bash");
    child
}

fn sessions(world: &World) -> Vec<Session> {
    world.core.sessions().map(|(session, _)| session.clone()).collect()
}

/// Name, primary and state of each session, by number.
fn shown(world: &World) -> Vec<(String, u32, State)> {
    let name = |session: &Session| String::from_utf8_lossy(&session.name).into_owned();
    sessions(world).iter().map(|it| (name(it), it.primary.tgid.0, it.state)).collect()
}

fn row(name: &str, tgid: u32, state: State) -> (String, u32, State) {
    (name.into(), tgid, state)
}

#[test]
fn each_program_of_a_home_has_a_session_of_its_own() {
    let mut world = World::new(vec![each()]);
    let one = at_home(&mut world);
    let two = shell_on(&mut world, &one, 11, "pts4");
    let claude = world.spawn(&one, 20, "claude");
    let codex = world.spawn(&two, 21, "codex");
    assert_eq!(shown(&world), [row("a", 20, State::Live), row("a#2", 21, State::Live)]);
    assert!(sessions(&world).iter().all(|session| session.roots == 1 && session.others.is_empty()));
    // What they start are their helpers.
    world.spawn(&claude, 22, "git");
    world.spawn(&codex, 23, "git");
    world.wait(10 * SETTLE_NS);
    assert_eq!(shown(&world).len(), 2);
    world.assert_reports_give_the_map();
    // One ends, the other is not affected.
    world.exit(&claude, 0);
    assert_eq!(shown(&world).last(), Some(&row("a#2", 21, State::Live)));
}

#[test]
fn a_program_that_is_restarted_takes_the_number_that_it_had() {
    let mut world = World::new(vec![by_cwd()]);
    let one = at_home(&mut world);
    let two = shell_on(&mut world, &one, 11, "pts4");
    let claude = world.spawn(&one, 20, "claude");
    world.wait(10);
    let codex = world.spawn(&two, 21, "codex");
    world.wait(2 * MIN_AGE_NS);
    assert_eq!(shown(&world), [row("a", 20, State::Live), row("a#2", 21, State::Live)]);
    world.exit(&claude, 0);
    world.exit(&codex, 0);
    world.spawn(&one, 30, "codex");
    assert_eq!(shown(&world).last(), Some(&row("a#2", 30, State::Live)), "at once: it ran there");
    world.spawn(&two, 31, "claude");
    assert_eq!(shown(&world), [row("a", 31, State::Live), row("a#2", 30, State::Live)]);
    assert!(sessions(&world).iter().all(|session| session.starts.len() == 2));
}

#[test]
fn a_command_that_ends_soon_takes_no_number() {
    let mut world = World::new(vec![by_cwd()]);
    let one = at_home(&mut world);
    let two = shell_on(&mut world, &one, 11, "pts4");
    let make = world.spawn(&two, 20, "make");
    let claude = world.spawn(&one, 21, "claude");
    world.wait(MIN_AGE_NS / 2);
    world.exit(&make, 0);
    world.wait(MIN_AGE_NS);
    assert_eq!(shown(&world), [row("a", 21, State::Live)]);
    world.exit(&claude, 0);
}

#[test]
fn a_launcher_stands_aside_in_every_session() {
    let mut world = World::new(vec![each()]);
    let one = at_home(&mut world);
    let two = shell_on(&mut world, &one, 11, "pts4");
    world.spawn(&one, 20, "claude");
    let outer = world.spawn(&two, 21, "gemini");
    let inner = world.spawn(&outer, 22, "gemini");
    assert_eq!(shown(&world), [row("a", 20, State::Live), row("a#2", 22, State::Live)]);
    world.exit(&inner, 0);
    world.spawn(&outer, 23, "gemini");
    assert_eq!(shown(&world).last(), Some(&row("a#2", 23, State::Live)));
    assert_eq!(sessions(&world).last().map(|session| session.starts.len()), Some(2));
}

#[test]
fn a_session_that_left_keeps_its_number() {
    let mut world = World::new(vec![each()]);
    let one = at_home(&mut world);
    let two = shell_on(&mut world, &one, 11, "pts4");
    let mut claude = world.spawn(&one, 20, "claude");
    world.chdir(&mut claude, "/tmp");
    world.spawn(&two, 21, "claude");
    assert_eq!(shown(&world), [row("a", 20, State::Left), row("a#2", 21, State::Live)]);
    world.chdir(&mut claude, "/srv/a");
    assert_eq!(shown(&world), [row("a", 20, State::Live), row("a#2", 21, State::Live)]);
}

#[test]
fn the_first_look_numbers_by_age() {
    let mut world = World::new(vec![each()]);
    let init = shell(&mut world);
    let mut procs = vec![init.clone()];
    for (tgid, tty) in [(23, "pts4"), (22, "pts5"), (21, "pts6")] {
        let child = world.child(&init, tgid, "claude");
        procs.push(Proc { tty: Some(tty), cwd: "/srv/a".into(), ..child });
    }
    let mut found = World::new(vec![each()]);
    found.now = world.now;
    found.pass(&procs.iter().rev().collect::<Vec<_>>());
    assert_eq!(
        shown(&found),
        [row("a", 23, State::Live), row("a#2", 22, State::Live), row("a#3", 21, State::Live)]
    );
}

#[test]
fn numbers_are_resumed_as_they_were() {
    let mut before = World::new(vec![by_cwd()]);
    let one = at_home(&mut before);
    let two = shell_on(&mut before, &one, 11, "pts4");
    let first = before.spawn(&one, 20, "claude");
    before.wait(10);
    let second = before.spawn(&two, 21, "codex");
    before.wait(2 * MIN_AGE_NS);
    before.exit(&first, 0);
    let again = before.spawn(&one, 22, "claude");
    assert_eq!(shown(&before), [row("a", 22, State::Live), row("a#2", 21, State::Live)]);
    // By age alone, codex would be the first.
    let mut after = World::new(vec![by_cwd()]);
    after.now = before.now;
    after.pass(&[&one, &two, &second, &again]);
    assert_eq!(shown(&after), [row("a", 21, State::Live)], "claude is too young yet");
    let known: Vec<_> = sessions(&before).into_iter().map(|session| (session, true)).collect();
    after.resume(&known, 0);
    let live: Vec<_> = shown(&after).into_iter().filter(|(.., state)| *state != State::Ended).collect();
    assert_eq!(live, [row("a", 22, State::Live), row("a#2", 21, State::Live)]);
    after.assert_reports_give_the_map();
}

#[test]
fn the_process_of_a_deleted_home_keeps_a_session_beside_the_one_of_the_new_directory() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut old = world.spawn(&bash, 20, "claude");
    old.deleted = true;
    world.pass(&[&bash, &old]);
    assert_eq!(shown(&world), [row("a", 20, State::Live)]);
    world.dirs.remove("/srv/a");
    world.dirs.insert("/srv/a".into(), 999);
    let mut shell = shell_on(&mut world, &bash, 12, "pts4");
    world.chdir(&mut shell, "/srv/a");
    world.spawn(&shell, 30, "claude");
    assert_eq!(shown(&world), [row("a", 30, State::Live), row("a#2", 20, State::Live)]);
    let deleted: Vec<bool> = sessions(&world).iter().map(|session| session.cwd_deleted).collect();
    assert_eq!(deleted, [false, true]);
    world.assert_reports_give_the_map();
    world.exit(&old, 0);
    assert_eq!(shown(&world), [row("a", 30, State::Live), row("a#2", 20, State::Ended)]);
}

#[test]
fn a_number_does_not_depend_on_where_a_program_was_born() {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    let mut second = world.spawn(&bash, 21, "claude");
    let helper = world.spawn(&second, 22, "codex");
    world.chdir(&mut second, "/srv/b");
    world.wait(2 * SETTLE_NS);
    world.exit(&first, 0);
    // Among the candidates of the second session, which both numbers are free of.
    let mut third = world.fork(&helper, 23);
    world.set_tty(&mut third, Some("pts5"));
    world.exec(&mut third, "claude");
    world.wait(2 * SETTLE_NS);
    assert_eq!(
        shown(&world),
        [row("a", 23, State::Live), row("a#2", 21, State::Ended), row("b", 21, State::Live)]
    );
    // codex had none, and takes the lowest that is free.
    let mut fourth = world.fork(&helper, 24);
    world.set_tty(&mut fourth, Some("pts6"));
    world.exec(&mut fourth, "codex");
    assert_eq!(shown(&world).get(1), Some(&row("a#2", 24, State::Live)));
    world.assert_reports_give_the_map();
}

#[test]
fn a_primary_that_is_on_its_way_to_another_home_cuts_nothing_off() {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let mut codex = shell_on(&mut world, &claude, 21, "pts5");
    world.exec(&mut codex, "codex");
    // On the terminal of claude, whose helper it is.
    let mut helper = world.fork(&codex, 22);
    world.set_tty(&mut helper, claude.tty);
    world.exec(&mut helper, "claude");
    world.wait(2 * SETTLE_NS);
    let (first, second) = (row("a", 20, State::Live), row("a#2", 21, State::Live));
    assert_eq!(shown(&world), [first.clone(), second]);
    world.chdir(&mut codex, "/srv/b");
    assert_eq!(shown(&world), [first.clone(), row("a#2", 21, State::Left)]);
    world.wait(2 * SETTLE_NS);
    assert_eq!(shown(&world), [first, row("a#2", 21, State::Ended), row("b", 21, State::Live)]);
}

#[test]
fn who_could_be_no_session_beside_a_second_one_keeps_its_home_over_a_restart() {
    let rules = || vec![Rule { conditions: only_program(&["claude", "codex"]), ..each() }];
    let mut before = World::new(rules());
    before.interpreter = Some("node");
    // In no home.
    let mut bash = shell(&mut before);
    let mut starter = before.spawn(&bash, 21, "claude");
    before.chdir(&mut bash, "/srv/a");
    let first = before.spawn(&bash, 20, "claude");
    let mut second = before.spawn(&starter, 22, "codex");
    let mut third = before.spawn(&starter, 23, "codex");
    // The second is a session beside the first, and below what started it. So the third can be none there.
    for (proc, home) in [(&mut second, "/srv/a"), (&mut third, "/srv/b"), (&mut starter, "/srv/a")] {
        before.chdir(proc, home);
        before.wait(2 * SETTLE_NS);
    }
    before.chdir(&mut third, "/srv/a");
    before.wait(2 * SETTLE_NS);
    let expected = [row("a", 20, State::Live), row("a#2", 22, State::Live), row("b", 23, State::Left)];
    assert_eq!(shown(&before), expected);
    let mut after = World::restarted(rules());
    after.interpreter = before.interpreter;
    after.now = before.now;
    after.dirs.clone_from(&before.dirs);
    after.pass(&[&bash, &first, &starter, &second, &third]);
    [&bash, &third].into_iter().for_each(|read| after.memory(read));
    after.resume_recorded(&before.recorded(), 0);
    assert_eq!(shown(&after), expected);
}

#[test]
fn beyond_a_bound_programs_are_listed_in_the_first_session() {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    for tgid in 100..100 + INSTANCES_MAX + 3 {
        world.spawn(&bash, tgid, "claude");
    }
    let live = sessions(&world);
    assert_eq!(live.len(), INSTANCES_MAX as usize);
    assert_eq!(live.first().map(|session| (session.roots, session.others.len())), Some((4, 3)));
    // A number that becomes free is taken by one of them.
    let second = world.core.sessions().nth(1).map(|(_, process)| process.key.tgid);
    assert_eq!(second.map(|tgid| tgid.0), Some(101));
    let key = live.get(1).map(|session| session.primary).expect("a second session");
    let at = world.tick_clock();
    world.feed(Input::Exit { at, key, raw_status: 0, led_sid: None, usage: ProcessUsage::default() });
    world.spawn(&bash, 300, "claude");
    let live = sessions(&world).iter().filter(|session| session.state == State::Live).count();
    assert_eq!(live, INSTANCES_MAX as usize);
    world.assert_reports_give_the_map();
}

#[test]
fn what_a_primary_started_that_executes_a_refused_program_goes_where_what_is_above_it_goes() {
    let mut world = World::new(vec![each()]);
    let bash = at_home(&mut world);
    let mut outer = world.spawn(&bash, 20, "claude");
    let mut inner = world.spawn(&outer, 21, "claude");
    let helper = world.spawn(&inner, 22, "codex");
    let other = world.spawn(&bash, 23, "codex");
    world.exit(&other, 0);
    world.exec(&mut outer, "codex");
    // The outer one takes the number that its program had, and what is below it with it.
    world.exec(&mut inner, "bash");
    assert_eq!(shown(&world).last(), Some(&row("a#2", 20, State::Live)));
    world.exec(&mut inner, "codex");
    assert_eq!(shown(&world).last(), Some(&row("a#2", helper.key.tgid.0, State::Live)));
}

#[test]
fn what_a_launcher_hands_over_to_again_stands_in_for_nothing_that_the_launcher_replaced() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut launcher = world.spawn(&bash, 20, "claude");
    let inner = world.spawn(&launcher, 21, "claude");
    world.exit(&inner, 0);
    let mut again = world.spawn(&launcher, 22, "bash");
    world.exec(&mut again, "codex");
    // Both run codex from here on, and claude is no program that the session waits for.
    world.exec(&mut launcher, "codex");
    let session = world.session("/srv/a").expect("a session");
    assert_eq!((session.primary, session.stands_in_for), (again.key, None));
    world.spawn(&bash, 23, "claude");
    assert_eq!(shown(&world), [row("a", 22, State::Live)]);
}

/// The same map after the rules were read again, and in a daemon that was started again with these rules.
fn with_rules(world: World, rules: fn() -> Vec<Rule>, procs: &[&Proc]) -> [World; 2] {
    let mut after = World::restarted(rules());
    (after.now, after.dirs, after.sids) = (world.now, world.dirs.clone(), world.sids.clone());
    after.pass(procs);
    procs.iter().for_each(|proc| after.memory(proc));
    after.resume_recorded(&world.recorded(), 0);
    let mut reloaded = world;
    reloaded.set_rules(rules(), Vec::new());
    for world in [&mut reloaded, &mut after] {
        world.wait(2 * SETTLE_NS);
        world.assert_reports_give_the_map();
    }
    [reloaded, after]
}

/// Live sessions by name, each with its primary and the others.
fn live(world: &World) -> Vec<(String, u32, Vec<u32>)> {
    let mut live = sessions(world);
    live.retain(|session| session.state != State::Ended);
    let name = |session: &Session| String::from_utf8_lossy(&session.name).into_owned();
    let others = |session: &Session| session.others.iter().map(|other| other.key.tgid.0).collect();
    live.iter().map(|it| (name(it), it.primary.tgid.0, others(it))).collect()
}

#[test]
fn by_rules_of_one_session_the_first_one_goes_on_and_the_others_are_listed_in_it() {
    let mut world = World::new(vec![each()]);
    let one = at_home(&mut world);
    let claude = world.spawn(&one, 20, "claude");
    let codex = world.spawn(&one, 21, "codex");
    let inner = world.spawn(&codex, 22, "codex");
    let helper = world.spawn(&claude, 23, "git");
    world.wait(2 * SETTLE_NS);
    assert_eq!(live(&world), [("a".into(), 20, vec![]), ("a#2".into(), 22, vec![])]);
    for world in with_rules(world, || vec![rule()], &[&one, &claude, &codex, &inner, &helper]) {
        assert_eq!(live(&world), [("a".into(), 20, vec![22])]);
    }
}

#[test]
fn the_session_that_ends_because_its_directory_has_one_is_not_admitted() {
    let mut world = World::new(vec![each()]);
    let one = at_home(&mut world);
    world.spawn(&one, 20, "claude");
    world.spawn(&one, 21, "codex");
    world.set_rules(vec![rule()], Vec::new());
    let ended =
        sessions(&world).into_iter().find(|session| session.state == State::Ended).expect("one ended");
    assert_eq!(
        (&*ended.name, ended.end_reason, ended.death),
        (&b"a#2"[..], Some(EndReason::NotAdmitted), None)
    );
    // The same rules once more change nothing.
    world.take_reports();
    world.set_rules(vec![rule()], Vec::new());
    assert!(world.take_reports().is_empty());
}

#[test]
fn where_the_first_session_has_ended_the_one_is_elected_as_without_a_past() {
    let mut world = World::new(vec![each()]);
    let mut one = at_home(&mut world);
    world.set_tty(&mut one, None);
    let two = shell_on(&mut world, &one, 11, "pts4");
    let claude = world.spawn(&one, 20, "claude");
    let codex = world.spawn(&one, 21, "codex");
    let vim = world.spawn(&two, 22, "vim");
    world.wait(2 * SETTLE_NS);
    world.exit(&claude, 0);
    assert_eq!(live(&world), [("a#2".into(), 21, vec![]), ("a#3".into(), 22, vec![])]);
    for world in with_rules(world, || vec![rule()], &[&one, &two, &codex, &vim]) {
        assert_eq!(live(&world), [("a".into(), 22, vec![21])]);
    }
}

#[test]
fn the_session_of_a_deleted_directory_goes_on_where_each_directory_has_one() {
    let mut world = World::new(vec![each()]);
    let mut one = at_home(&mut world);
    let mut claude = world.spawn(&one, 20, "claude");
    claude.deleted = true;
    world.chdir(&mut claude, "/srv/a");
    world.chdir(&mut one, "/tmp");
    world.dirs.remove("/srv/a");
    world.chdir(&mut one, "/srv/a");
    let codex = world.spawn(&one, 21, "codex");
    world.wait(2 * SETTLE_NS);
    let before = live(&world);
    assert_eq!(before, [("a".into(), 21, vec![]), ("a#2".into(), 20, vec![])]);
    for mut world in with_rules(world, || vec![rule()], &[&one, &claude, &codex]) {
        assert_eq!(live(&world), before);
        // Also alone.
        world.exit(&codex, 0);
        for world in with_rules(world, || vec![rule()], &[&one, &claude]) {
            assert_eq!(live(&world), [("a#2".into(), 20, vec![])]);
        }
    }
}

#[test]
fn where_any_rule_gives_each_program_a_session_none_ends() {
    let rules = || {
        let of_claude = Rule { conditions: only_program(&["claude"]), ..each() };
        vec![of_claude, Rule { conditions: only_program(&["codex"]), ..rule() }]
    };
    let mut world = World::new(rules());
    let one = at_home(&mut world);
    let claude = world.spawn(&one, 20, "claude");
    let other = world.spawn(&one, 21, "claude");
    let codex = world.spawn(&other, 22, "codex");
    world.wait(2 * SETTLE_NS);
    world.exit(&other, 0);
    world.wait(2 * SETTLE_NS);
    let before = live(&world);
    assert_eq!(before, [("a".into(), 20, vec![]), ("a#2".into(), 22, vec![])]);
    for world in with_rules(world, rules, &[&one, &claude, &codex]) {
        assert_eq!(live(&world), before);
    }
}
