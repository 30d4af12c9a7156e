//! What a restarted daemon's core restores of the sessions that the one before it knew. Each test shows one
//! fact.

mod support;

use std::sync::Arc;

use observer_core::limits::SETTLE_NS;
use observer_core::rule::{HomeRule, Instances};
use observer_core::session::State;
use observer_core::{BootTime, Input, Rule, Session};
use support::{Proc, World, globs, home, on_pty, only_comm, only_uid, rule, shell};

/// Realtime minus boot time, ns, by which the sessions were reported. The next daemon's clock differs.
const REPORTED_OFFSET_NS: i64 = 1_700_000_000_000_000_000;

fn at_home(world: &mut World) -> Proc {
    let mut bash = shell(world);
    world.chdir(&mut bash, "/srv/a");
    world.take_reports();
    bash
}

/// Returns the core of the next daemon. Its first pass finds `procs`, and it is given `sessions`, each with
/// whether its primary had a terminal.
fn next_daemon(before: &World, rules: Vec<Rule>, procs: &[&Proc], sessions: &[(Session, bool)]) -> World {
    let mut world = World::restarted(rules);
    world.now = before.now + 5_000_000_000;
    world.dirs.clone_from(&before.dirs);
    world.pass(procs);
    assert_eq!(world.core.sessions().count(), 0, "there are no sessions before the known ones were given");
    world.resume(sessions, REPORTED_OFFSET_NS);
    world.assert_reports_give_the_map();
    world
}

fn session(world: &World) -> Session {
    world.session("/srv/a").expect("a session")
}

/// Asserts that the next daemon shows what the one before showed.
#[track_caller]
fn assert_same(before: &Session, after: &Session) {
    let of =
        |it: &Session| (it.home.clone(), it.primary, it.state, it.since, it.moved_to.clone(), it.cwd_deleted);
    assert_eq!(of(before), of(after));
    assert_eq!((before.wrapper, before.roots), (after.wrapper, after.roots));
    assert_eq!(before.starts.len(), after.starts.len(), "{:?}, {:?}", before.starts, after.starts);
}

#[test]
fn a_live_session_keeps_its_starts_and_the_time_of_its_state() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 19, "sudo");
    let mut claude = world.spawn(&sudo, 20, "claude");
    world.now += 7_000_000_000;
    world.exec(&mut claude, "claude");
    let before = session(&world);
    assert_eq!(before.starts.len(), 2);
    let mut after = next_daemon(&world, vec![rule()], &[&bash, &sudo, &claude], &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
    // It goes on from there: another exec is one more start, and the death ends it.
    after.take_reports();
    after.exec(&mut claude, "claude");
    assert_eq!(session(&after).starts.len(), 3);
    after.exit(&claude, 9);
    assert_eq!(session(&after).state, State::Ended);
}

#[test]
fn a_primary_keeps_the_clock_by_which_it_was_reported_and_others_have_the_new_one() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let before = session(&world);
    let after = next_daemon(&world, vec![rule()], &[&bash, &claude], &[(before, true)]);
    let wall = |it: &Proc| after.core.process_by_key(it.key).expect("it lives").wall_offset_ns;
    assert_eq!(wall(&claude), REPORTED_OFFSET_NS);
    assert_ne!(wall(&bash), REPORTED_OFFSET_NS);
}

#[test]
fn a_start_that_was_kept_in_milliseconds_is_not_counted_twice() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    world.now += 1_234_567_891;
    let claude = world.spawn(&bash, 20, "claude");
    let mut before = session(&world);
    let started = claude.key.start_boottime.0;
    before.starts = vec![BootTime(started / 1_000_000 * 1_000_000)].into();
    let after = next_daemon(&world, vec![rule()], &[&bash, &claude], &[(before, true)]);
    assert_eq!(session(&after).starts.len(), 1);
}

#[test]
fn a_detached_session_stays_detached_though_its_rule_requires_a_terminal() {
    let pty = || Rule { conditions: on_pty(), ..rule() };
    let mut world = World::new(vec![pty()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    claude.tty = None;
    let (at, key) = (world.tick_clock(), claude.key);
    world.feed(Input::Ids { at, key, sid: 1, pgid: 1, tty: None });
    let before = session(&world);
    assert_eq!(before.state, State::Detached);
    let mut after = next_daemon(&world, vec![pty()], &[&bash, &claude], &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
    assert!(after.reports.watched.contains(&claude.key));
    after.exit(&claude, 9);
    assert_eq!(session(&after).state, State::Ended);
    // Where it is not known that it had a terminal, no rule admits it.
    let after = next_daemon(&world, vec![pty()], &[&bash, &claude], &[(before, false)]);
    assert!(after.session("/srv/a").is_none());
}

#[test]
fn a_primary_that_lost_its_terminal_between_the_daemons_is_detached_from_then_on() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let before = session(&world);
    claude.tty = None;
    let after = next_daemon(&world, vec![rule()], &[&bash, &claude], &[(before.clone(), true)]);
    let now = session(&after);
    assert_eq!(now.state, State::Detached);
    assert!(now.since > before.since);
}

#[test]
fn a_session_in_state_left_stays_left_and_its_primary_may_come_back() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.chdir(&mut claude, "/tmp");
    let before = session(&world);
    assert_eq!(before.state, State::Left);
    let mut after = next_daemon(&world, vec![rule()], &[&bash, &claude], &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
    after.chdir(&mut claude, "/srv/a");
    assert_eq!(session(&after).state, State::Live);
}

#[test]
fn a_primary_that_moved_between_the_daemons_is_a_session_of_the_new_home_alone() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let before = session(&world);
    claude.cwd = "/srv/b".into();
    world.dir("/srv/b");
    let after = next_daemon(&world, vec![rule()], &[&bash, &claude], &[(before, true)]);
    assert_eq!(after.session("/srv/a"), None);
    let other = after.session("/srv/b").expect("a session");
    assert_eq!((other.state, other.primary), (State::Live, claude.key));
}

#[test]
fn under_a_rule_without_a_home_pattern_a_session_keeps_its_home_over_a_restart() {
    let rules = || vec![Rule { home: HomeRule::Cwd, ..rule() }];
    let mut world = World::new(rules());
    let bash = at_home(&mut world);
    let mut mc = world.spawn(&bash, 20, "mc");
    world.chdir(&mut mc, "/usr");
    let before = session(&world);
    assert_eq!(before.state, State::Live);
    let after = next_daemon(&world, rules(), &[&bash, &mc], &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
    assert_eq!(after.core.sessions().count(), 1);
}

#[test]
fn a_home_that_its_primary_had_left_is_not_given_back_to_it_where_it_is_not() {
    let rules = || vec![Rule { home: HomeRule::Cwd, ..rule() }];
    let mut world = World::new(rules());
    let bash = at_home(&mut world);
    let mut mc = world.spawn(&bash, 20, "mc");
    let mut before = session(&world);
    before.state = State::Left;
    mc.cwd = "/srv/b".into();
    world.dir("/srv/b");
    let after = next_daemon(&world, rules(), &[&bash, &mc], &[(before, true)]);
    assert_eq!(after.session("/srv/a"), None);
    assert_eq!(after.session("/srv/b").map(|session| session.primary), Some(mc.key));
}

#[test]
fn a_process_that_two_known_sessions_name_is_the_primary_of_one() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let first = session(&world);
    let mut second = first.clone();
    second.home = Arc::new(home("/srv/b"));
    claude.cwd = "/tmp".into();
    world.dir("/tmp");
    let after = next_daemon(&world, vec![rule()], &[&bash, &claude], &[(first, true), (second, true)]);
    let live = after.core.sessions().filter(|(session, _)| session.state != State::Ended);
    assert_eq!(live.count(), 1);
}

#[test]
fn the_next_primary_of_a_home_does_not_take_over_the_start_of_one_that_was_never_there() {
    let rules = || vec![Rule { home: HomeRule::Cwd, ..rule() }];
    let mut world = World::new(rules());
    let mut bash = at_home(&mut world);
    world.chdir(&mut bash, "/srv/b");
    let codex = world.spawn(&bash, 20, "codex");
    world.chdir(&mut bash, "/srv/a");
    let mut mc = world.spawn(&bash, 30, "mc");
    world.chdir(&mut mc, "/srv/b");
    let known = ["/srv/a", "/srv/b"].map(|home| (world.session(home).expect("a session"), true));
    // The iterator shows the younger one first.
    let after = next_daemon(&world, rules(), &[&bash, &mc, &codex], &known);
    let other = after.session("/srv/b").expect("a session");
    assert_eq!((other.primary, other.starts.len()), (codex.key, 1));
    assert_eq!(after.session("/srv/a").map(|session| session.primary), Some(mc.key));
}

#[test]
fn a_deleted_home_keeps_its_primary() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    claude.deleted = true;
    world.pass(&[&bash, &claude]);
    let before = session(&world);
    assert!(before.cwd_deleted && before.state == State::Live);
    let after = next_daemon(&world, vec![rule()], &[&bash, &claude], &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
}

#[test]
fn a_known_primary_has_precedence_over_another_root() {
    let pty = || Rule { conditions: on_pty(), ..rule() };
    let mut world = World::new(vec![pty()]);
    let bash = at_home(&mut world);
    let mut first = world.spawn(&bash, 20, "claude");
    let sudo = world.spawn(&bash, 21, "sudo");
    let second = world.spawn(&sudo, 22, "claude");
    first.tty = None;
    let (at, key) = (world.tick_clock(), first.key);
    world.feed(Input::Ids { at, key, sid: 1, pgid: 1, tty: None });
    let before = session(&world);
    assert_eq!((before.primary, before.roots), (first.key, 2));
    let mut after =
        next_daemon(&world, vec![pty()], &[&bash, &first, &sudo, &second], &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
    assert_eq!(after.reports.watched.iter().copied().collect::<Vec<_>>(), [first.key]);
    after.exit(&first, 9);
    assert_eq!(session(&after).primary, second.key);
}

#[test]
fn a_dead_or_refused_primary_is_not_restored() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let before = session(&world);
    let after = next_daemon(&world, vec![rule()], &[&bash], &[(before.clone(), true)]);
    assert!(after.session("/srv/a").is_none());
    // Other rules, another home.
    claude.cwd = "/tmp".into();
    world.dir("/tmp");
    for rules in [
        vec![Rule { conditions: only_comm(&["codex"]), ..rule() }],
        vec![Rule { conditions: only_uid(8), ..rule() }],
        vec![Rule { home: HomeRule::Prefix(globs(&["/home/*"])), ..rule() }],
        vec![],
    ] {
        let after = next_daemon(&world, rules, &[&bash, &claude], &[(before.clone(), true)]);
        assert!(after.session("/srv/a").is_none());
    }
}

#[test]
fn a_program_that_started_between_the_daemons_keeps_its_home_and_the_starts_there() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let before = session(&world);
    world.exit(&claude, 9);
    world.now += 2_000_000;
    let codex = world.spawn(&bash, 21, "codex");
    let after = next_daemon(&world, vec![rule()], &[&bash, &codex], &[(before, true)]);
    assert_eq!(session(&after).primary, codex.key);
    assert_eq!(session(&after).starts.len(), 2);
}

/// Returns primary and state of each session that has not ended.
fn live(world: &World) -> Vec<(u32, State)> {
    let sessions = world.core.sessions().map(|(session, _)| (session.primary.tgid.0, session.state));
    sessions.filter(|(_, state)| *state != State::Ended).collect()
}

#[test]
fn what_a_known_primary_started_in_a_namespace_is_its_helper_again() {
    let mut world = World::new(vec![rule()]);
    let mut bash = shell(&mut world);
    let mut older = world.spawn(&bash, 20, "claude");
    world.chdir(&mut bash, "/srv/a");
    let claude = world.spawn(&bash, 21, "claude");
    let mut inner = world.fork(&claude, 22);
    inner.mnt_ns = 2;
    world.chdir(&mut inner, "/srv/a");
    world.exec(&mut inner, "claude");
    world.chdir(&mut older, "/srv/a");
    world.wait(2 * SETTLE_NS);
    let before = session(&world);
    assert_eq!(live(&world), [(21, State::Live)]);
    // The first pass elects the older one, of which the one in the namespace is no helper.
    let procs = [&bash, &older, &claude, &inner];
    let after = next_daemon(&world, vec![rule()], &procs, &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
    assert_eq!(live(&after), [(21, State::Live)]);
}

#[test]
fn a_primary_that_left_keeps_its_home_from_what_it_started() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.chdir(&mut claude, "/tmp");
    let mut helper = world.spawn(&claude, 21, "claude");
    world.chdir(&mut helper, "/srv/a");
    world.wait(2 * SETTLE_NS);
    let before = session(&world);
    assert_eq!(live(&world), [(20, State::Left)]);
    let after = next_daemon(&world, vec![rule()], &[&bash, &claude, &helper], &[(before.clone(), true)]);
    assert_same(&before, &session(&after));
    assert_eq!(live(&after), [(20, State::Left)]);
}

#[test]
fn launchers_take_no_sessions_of_their_own_where_each_process_has_one() {
    let rules = || vec![Rule { instances: Instances::Each, ..rule() }];
    let mut world = World::new(rules());
    let bash = at_home(&mut world);
    let launchers = [20, 21].map(|tgid| world.spawn(&bash, tgid, "claude"));
    let second = world.spawn(&launchers[1], 22, "claude");
    let first = world.spawn(&launchers[0], 23, "claude");
    let expected = [(23, State::Live), (22, State::Live)];
    assert_eq!(live(&world), expected);
    let known: Vec<_> = world.core.sessions().map(|(session, _)| (session.clone(), true)).collect();
    let procs = [&bash, &launchers[0], &launchers[1], &second, &first];
    let after = next_daemon(&world, rules(), &procs, &known);
    assert_eq!(live(&after), expected);
}

#[test]
fn a_core_that_awaits_known_sessions_elects_once_it_was_given_none() {
    let mut world = World::restarted(vec![rule()]);
    let mut bash = shell(&mut world);
    world.chdir(&mut bash, "/srv/a");
    let claude = world.spawn(&bash, 20, "claude");
    let dead = world.spawn(&bash, 21, "claude");
    world.exit(&dead, 0);
    world.set_rules(vec![rule()], Vec::new());
    world.wait(2 * SETTLE_NS);
    assert_eq!(live(&world), []);
    world.resume(&[], REPORTED_OFFSET_NS);
    assert_eq!(live(&world), [(20, State::Live)]);
    world.spawn(&claude, 22, "claude");
    assert_eq!(live(&world), [(22, State::Live)]);
}

#[test]
fn a_primary_that_left_for_a_home_where_it_can_be_no_session_keeps_its_own() {
    let mut world = World::new(vec![rule()]);
    let mut bash = shell(&mut world);
    world.chdir(&mut bash, "/srv/b");
    let mut host = world.spawn(&bash, 20, "claude");
    world.chdir(&mut bash, "/srv/a");
    world.chdir(&mut host, "/tmp");
    let mut helper = world.fork(&host, 21);
    helper.tty = Some("pts9");
    world.set_tty(&mut helper, Some("pts9"));
    world.chdir(&mut helper, "/srv/a");
    world.exec(&mut helper, "codex");
    world.wait(2 * SETTLE_NS);
    assert_eq!(live(&world), [(21, State::Live), (20, State::Left)]);
    world.set_tty(&mut helper, Some("pts3"));
    world.chdir(&mut helper, "/srv/b");
    world.wait(2 * SETTLE_NS);
    let expected = [(21, State::Left), (20, State::Left)];
    assert_eq!(live(&world), expected);
    let known: Vec<_> = world.core.sessions().map(|(session, _)| (session.clone(), true)).collect();
    let after = next_daemon(&world, vec![rule()], &[&bash, &host, &helper], &known);
    assert_eq!(live(&after), expected);
}
