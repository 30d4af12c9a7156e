//! What a restarted daemon's core restores of the sessions that the one before it knew. Each test shows one
//! fact.

mod support;

use std::sync::Arc;

use observer_core::limits::{ENDED_SESSIONS_MAX, SETTLE_NS};
use observer_core::process::DirId;
use observer_core::rule::{HomeRule, Ignore, Instances};
use observer_core::session::{EndReason, Home, State};
use observer_core::{BootTime, Input, Rule, Session};
use support::{
    Proc, Recorded, World, assert_reported, globs, home, on_pty, only_comm, only_program, only_uid, rule,
    shell,
};

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
    after.now += observer_core::limits::STARTING_NS;
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

/// A rule for scripts of an interpreter: their arguments alone tell whether it admits them.
fn scripts() -> Vec<Rule> {
    vec![Rule { conditions: only_program(&["gemini", "codex"]), ..rule() }]
}

/// Returns a world in which every program is a script of node.
fn of_scripts(mut world: World) -> World {
    world.interpreter = Some("node");
    world
}

/// Returns the core of the next daemon, before it is given the known sessions: it has read no arguments.
fn unread(before: &World, rules: Vec<Rule>, procs: &[&Proc]) -> World {
    let mut world = of_scripts(World::restarted(rules));
    world.now = before.now + 5_000_000_000;
    world.dirs.clone_from(&before.dirs);
    world.pass(procs);
    world
}

#[test]
fn a_session_whose_arguments_are_not_read_yet_stays_what_it_was() {
    let mut world = of_scripts(World::new(scripts()));
    let bash = at_home(&mut world);
    let gemini = world.spawn(&bash, 20, "gemini");
    let before = session(&world);
    assert!(!before.unconfirmed);
    let mut after = unread(&world, scripts(), &[&bash, &gemini]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert_same(&before, &session(&after));
    assert!(session(&after).unconfirmed, "nobody knows whether the rule admits it");
    after.wait(10 * SETTLE_NS);
    after.set_rules(scripts(), Vec::new());
    assert_same(&before, &session(&after));
    // The arguments confirm it, and nothing is reported but that.
    after.take_reports();
    after.memory(&gemini);
    assert_same(&before, &session(&after));
    assert!(!session(&after).unconfirmed);
    assert_eq!(after.take_reports(), ["changed /srv/a 20 live roots=1"]);
    // It was not confirmed when it ended.
    let mut after = unread(&world, scripts(), &[&bash, &gemini]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    after.exit(&gemini, 9);
    assert_eq!((session(&after).state, session(&after).unconfirmed), (State::Ended, false));
}

#[test]
fn a_session_ends_when_its_arguments_show_that_its_primary_executed_what_no_rule_admits() {
    let mut world = of_scripts(World::new(scripts()));
    let bash = at_home(&mut world);
    let mut gemini = world.spawn(&bash, 20, "gemini");
    for cwd in ["/srv/a", "/tmp"] {
        world.chdir(&mut gemini, cwd);
        let mut other = gemini.clone();
        other.exec_id += 1;
        other.comm = "vite";
        let mut after = unread(&world, scripts(), &[&bash, &other]);
        after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
        assert_eq!(session(&after).primary, gemini.key);
        after.memory(&other);
        let ended = session(&after);
        assert_eq!((ended.state, ended.end_reason), (State::Ended, Some(EndReason::ExecedAway)), "{cwd}");
        after.assert_reports_give_the_map();
    }
}

#[test]
fn a_session_whose_arguments_are_never_read_goes_on_over_a_second_restart() {
    let named = || vec![Rule { name: "{program}".into(), ..scripts().remove(0) }];
    let mut world = of_scripts(World::new(named()));
    let bash = at_home(&mut world);
    let gemini = world.spawn(&bash, 20, "gemini");
    // It stands in for codex on the other way.
    let mut substitute = world.recorded();
    substitute.iter_mut().for_each(|it| it.session.stands_in_for = Some(Arc::from(&b"codex"[..])));
    for mut recorded in [world.recorded(), substitute] {
        for _ in 0..2 {
            let mut after = unread(&world, named(), &[&bash, &gemini]);
            after.resume_recorded(&recorded, REPORTED_OFFSET_NS);
            let restored = session(&after);
            assert_eq!((restored.primary, restored.state), (gemini.key, State::Live));
            assert_eq!(&*restored.name, b"gemini", "the executed file is node");
            // The next daemon is given it again.
            recorded = after.recorded();
            assert_eq!(recorded.first().and_then(|it| it.program.as_deref()), Some(&b"gemini"[..]));
            after.memory(&gemini);
            assert_eq!(session(&after).recorded_program, None);
        }
    }
}

#[test]
fn a_session_that_ends_before_its_arguments_are_read_ends_as_the_recorded_program() {
    let mut world = of_scripts(World::new(scripts()));
    let bash = at_home(&mut world);
    let gemini = world.spawn(&bash, 20, "gemini");
    let mut after = unread(&world, scripts(), &[&bash, &gemini]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    after.exit(&gemini, 9);
    let ended = &after.recorded()[..];
    let [ended] = ended else { panic!("one session") };
    assert_eq!((ended.program.as_deref(), &ended.session.stands_in_for), (Some(&b"gemini"[..]), &None));
}

#[test]
fn among_several_rules_the_one_that_admits_the_recorded_program_goes_on() {
    let named = |program, name: &'static str| Rule {
        conditions: only_program(&[program]),
        name: name.into(),
        ..rule()
    };
    let rules = || vec![named("gemini", "first {program}"), named("codex", "second {program}")];
    let mut world = of_scripts(World::new(rules()));
    let bash = at_home(&mut world);
    let codex = world.spawn(&bash, 20, "codex");
    let mut recorded = world.recorded();
    for knows_program in [true, false] {
        let mut after = unread(&world, rules(), &[&bash, &codex]);
        after.resume_recorded(&recorded, REPORTED_OFFSET_NS);
        assert!(session(&after).unconfirmed);
        if knows_program {
            assert_eq!(&*session(&after).name, b"second codex");
        }
        after.memory(&codex);
        assert_eq!((session(&after).state, &*session(&after).name), (State::Live, &b"second codex"[..]));
        assert_eq!(session(&after).starts.len(), 1);
        recorded.iter_mut().for_each(|it| it.program = None);
    }
}

#[test]
fn an_ignored_program_is_known_by_its_arguments_too() {
    let ignored = |program| Ignore { conditions: only_program(&[program]), ..Ignore::default() };
    let mut world = of_scripts(World::new(vec![rule()]));
    let bash = at_home(&mut world);
    let gemini = world.spawn(&bash, 20, "gemini");
    for (program, state) in [("codex", State::Live), ("gemini", State::Ended)] {
        let mut after = unread(&world, vec![rule()], &[&bash, &gemini]);
        after.set_rules(vec![rule()], vec![ignored(program)]);
        after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
        assert_eq!((session(&after).state, session(&after).unconfirmed), (State::Live, true));
        after.memory(&gemini);
        assert_eq!((session(&after).state, session(&after).unconfirmed), (state, false));
    }
    // Nothing but the arguments would tell what this one runs, and they are not asked for.
    let mut after = unread(&world, vec![rule()], &[&bash, &gemini]);
    after.set_rules(vec![rule()], vec![Ignore { conditions: only_uid(1), ..ignored("gemini") }]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert!(!session(&after).unconfirmed);
}

#[test]
fn a_program_that_the_rule_refuses_is_known_by_its_arguments_too() {
    let refusing = || vec![Rule { not_program: globs(&["vite"]), ..rule() }];
    let mut world = of_scripts(World::new(refusing()));
    let bash = at_home(&mut world);
    let gemini = world.spawn(&bash, 20, "gemini");
    let vite = Proc { comm: "vite", exec_id: gemini.exec_id + 1, ..gemini.clone() };
    for (proc, state) in [(&gemini, State::Live), (&vite, State::Ended)] {
        let mut after = unread(&world, refusing(), &[&bash, proc]);
        after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
        assert_eq!((session(&after).state, session(&after).unconfirmed), (State::Live, true));
        after.memory(proc);
        assert_eq!((session(&after).state, session(&after).unconfirmed), (state, false));
    }
    // An executable that is no interpreter has its name whatever the arguments are.
    let mut world = World::new(refusing());
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let after = next_daemon(&world, refusing(), &[&bash, &claude], &[(session(&world), true)]);
    assert!(!session(&after).unconfirmed);
}

#[test]
fn a_launcher_whose_arguments_are_read_late_takes_no_session_of_its_own() {
    let rules = || vec![Rule { instances: Instances::Each, ..scripts().remove(0) }];
    let mut world = of_scripts(World::new(rules()));
    let bash = at_home(&mut world);
    let launchers = [20, 21].map(|tgid| world.spawn(&bash, tgid, "gemini"));
    let first = world.spawn(&launchers[0], 22, "gemini");
    let second = world.spawn(&launchers[1], 23, "gemini");
    let expected = [(22, State::Live), (23, State::Live)];
    assert_eq!(live(&world), expected);
    let mut after = unread(&world, rules(), &[&bash, &launchers[0], &launchers[1], &first, &second]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    for proc in [&launchers[1], &launchers[0], &second, &first] {
        after.memory(proc);
        assert_eq!(live(&after), expected);
    }
    after.wait(10 * SETTLE_NS);
    assert_eq!(live(&after), expected);
    let wrappers = after.core.sessions().map(|(session, _)| session.wrapper.map(|key| key.tgid.0));
    assert_eq!(wrappers.collect::<Vec<_>>(), [Some(20), Some(21)]);
}

#[test]
fn a_program_that_comes_back_after_a_restart_has_the_number_and_the_starts_that_it_had() {
    let rules = || vec![Rule { instances: Instances::Each, min_age_ns: SETTLE_NS, ..rule() }];
    let mut world = World::new(rules());
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let codex = world.spawn(&bash, 21, "codex");
    world.wait(2 * SETTLE_NS);
    assert_eq!(live(&world), [(20, State::Live), (21, State::Live)]);
    // One ends before the restart, and the other one without a daemon.
    world.exit(&codex, 9);
    let mut after = World::restarted(rules());
    after.now = world.now;
    after.dirs.clone_from(&world.dirs);
    after.pass(&[&bash]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert_eq!(after.core.sessions().count(), 0, "they are not shown");
    assert_reported(&mut after, &[]);
    after.spawn(&bash, 31, "codex");
    after.spawn(&bash, 32, "vim");
    after.spawn(&bash, 30, "claude");
    assert_eq!(live(&after), [(30, State::Live), (31, State::Live)], "they run here again, and vim is young");
    let sessions: Vec<_> = after.core.sessions().map(|(session, _)| session.clone()).collect();
    let shown = |session: &Session| (session.home.instance, session.starts.len(), session.name.to_vec());
    let expected = [(1, 2, b"a".to_vec()), (2, 2, b"a#2".to_vec())];
    assert_eq!(sessions.iter().map(shown).collect::<Vec<_>>(), expected);
    after.wait(2 * SETTLE_NS);
    assert_eq!(live(&after).last(), Some(&(32, State::Live)));
    after.assert_reports_give_the_map();
    drop(claude);
}

#[test]
fn the_program_that_a_session_was_of_is_elected_after_a_restart() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.exit(&claude, 9);
    let mut after = World::restarted(vec![rule()]);
    after.now = world.now;
    after.dirs.clone_from(&world.dirs);
    let other = world.child(&bash, 21, "codex");
    let again = world.child(&bash, 22, "claude");
    after.pass(&[&bash, &other, &again]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert_eq!(session(&after).primary, again.key, "codex is older");
}

#[test]
fn a_home_that_was_made_again_after_its_session_ended_has_no_starts_from_before() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.exit(&claude, 9);
    let next = || {
        let mut after = World::restarted(vec![rule()]);
        after.now = world.now;
        after.dirs.clone_from(&world.dirs);
        after
    };
    let starts_again = |mut after: World, recorded: &[_]| {
        after.pass(&[&bash]);
        after.resume_recorded(recorded, REPORTED_OFFSET_NS);
        after.spawn(&bash, 30, "claude");
        session(&after).starts.len()
    };
    let recorded = world.recorded();
    assert_eq!(starts_again(next(), &recorded), 2);
    let mut inode_used_again = next();
    inode_used_again.incarnations.insert("/srv/a".into(), (1, 0));
    assert_eq!(starts_again(inode_used_again, &recorded), 1);
    let mut other_inode = next();
    other_inode.dirs.insert("/srv/a".into(), 7);
    assert_eq!(starts_again(other_inode, &recorded), 1);
    // The root of a subvolume, of which the inode in memory is not recorded.
    let mut subvolume = next();
    subvolume.dirs.insert("/srv/a".into(), 256);
    subvolume.incarnations.insert("/srv/a".into(), (0, 9));
    let mut of_subvolume = recorded.clone();
    of_subvolume.iter_mut().for_each(|it| it.session.home_dir.ino = 256);
    assert_eq!(starts_again(subvolume, &of_subvolume), 2);
    let mut deleted = recorded.clone();
    deleted.iter_mut().for_each(|it| it.session.cwd_deleted = true);
    assert_eq!(starts_again(next(), &deleted), 1);
    let mut not_known = recorded;
    not_known.iter_mut().for_each(|it| it.session.home_dir = DirId::default());
    assert_eq!(starts_again(next(), &not_known), 2);
}

#[test]
fn ended_sessions_of_one_user_push_out_none_of_another() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.exit(&claude, 9);
    // The session of the user is the oldest, and another one has thousands.
    let mut recorded = world.recorded();
    let ended = recorded.first().cloned().expect("one session");
    recorded.extend((0..ENDED_SESSIONS_MAX as u64).map(|number| {
        let mut of_other = ended.clone();
        of_other.session.home = Arc::new(Home { uid: 8, ..home(&format!("/srv/{number}")) });
        of_other.session.since = BootTime(world.now + number);
        of_other
    }));
    let mut after = World::restarted(vec![rule()]);
    after.now = world.now;
    after.dirs.clone_from(&world.dirs);
    after.pass(&[&bash]);
    after.resume_recorded(&recorded, REPORTED_OFFSET_NS);
    assert_eq!(after.core.counters().sessions_dropped, 1);
    after.spawn(&bash, 30, "claude");
    assert_eq!(session(&after).starts.len(), 2);
}

#[test]
fn no_more_ended_sessions_are_resumed_than_are_kept() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.exit(&claude, 9);
    let [ended] = &world.recorded()[..] else { panic!("one session") };
    let of = |number| {
        let mut recorded = ended.clone();
        recorded.session.home = Arc::new(home(&format!("/srv/{number}")));
        recorded.session.since = BootTime(number);
        recorded
    };
    let recorded: Vec<_> = (0..ENDED_SESSIONS_MAX as u64 + 10).map(of).collect();
    let mut after = World::restarted(vec![rule()]);
    after.now = world.now;
    after.pass(&[&bash]);
    after.resume_recorded(&recorded, REPORTED_OFFSET_NS);
    assert_eq!(after.core.counters().sessions_dropped, 10);
}

/// Returns the core of the next daemon, which finds `procs` and is given `known`. The arguments of all are read in time.
fn after_reading_all(before: &World, rules: Vec<Rule>, procs: &[&Proc], known: &[Recorded]) -> World {
    let mut world = World::restarted(rules);
    world.now = before.now;
    world.dirs.clone_from(&before.dirs);
    world.pass(procs);
    procs.iter().for_each(|proc| world.memory(proc));
    world.resume_recorded(known, 0);
    world.assert_reports_give_the_map();
    world
}

#[test]
fn a_primary_that_executed_a_refused_program_between_the_daemons_ends_its_session_by_that() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let known = world.recorded();
    world.exec(&mut claude, "bash");
    let expected = session(&world);
    let after = after_reading_all(&world, vec![rule()], &[&bash, &claude], &known);
    let ended = session(&after);
    assert_eq!((ended.state, ended.end_reason), (State::Ended, Some(EndReason::ExecedAway)));
    assert_eq!((&ended.stands_in_for, ended.starts.len()), (&expected.stands_in_for, expected.starts.len()));
}

#[test]
fn who_took_the_place_of_a_program_between_the_daemons_gives_it_back() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let codex = world.spawn(&bash, 21, "codex");
    let known = world.recorded();
    world.exec(&mut claude, "bash");
    let mut after = after_reading_all(&world, vec![rule()], &[&bash, &claude, &codex], &known);
    for world in [&mut world, &mut after] {
        assert_eq!(session(world).primary, codex.key);
        assert_eq!(session(world).stands_in_for.as_deref(), Some(b"claude".as_slice()));
        let again = world.spawn(&bash, 22, "claude");
        assert_eq!(session(world).primary, again.key);
    }
}

#[test]
fn a_program_that_moved_between_the_daemons_has_its_number_when_it_is_started_again() {
    let each = || vec![Rule { instances: Instances::Each, ..rule() }];
    let mut world = World::new(each());
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let mut codex = world.spawn(&bash, 21, "codex");
    let known = world.recorded();
    world.chdir(&mut codex, "/srv/b");
    world.wait(2 * SETTLE_NS);
    let mut after = after_reading_all(&world, each(), &[&bash, &claude, &codex], &known);
    for world in [&mut world, &mut after] {
        world.exit(&claude, 0);
        let again = world.spawn(&bash, 22, "codex");
        let mut sessions = world.core.sessions().map(|(session, _)| session);
        let session = sessions.find(|it| it.primary == again.key);
        assert_eq!(session.map(|session| session.home.instance), Some(2));
    }
}

#[test]
fn what_a_primary_executed_between_the_daemons_is_said_when_it_is_known() {
    let mut world = of_scripts(World::new(scripts()));
    let bash = at_home(&mut world);
    let mut gemini = world.spawn(&bash, 20, "gemini");
    let codex = world.spawn(&bash, 21, "codex");
    let known = world.recorded();
    world.exec(&mut gemini, "tool");
    let mut after = unread(&world, scripts(), &[&bash, &gemini, &codex]);
    after.resume_recorded(&known, REPORTED_OFFSET_NS);
    assert_eq!((session(&after).state, session(&after).primary), (State::Live, gemini.key));
    after.memory(&codex);
    assert_eq!((session(&after).state, session(&after).primary), (State::Live, gemini.key));
    after.memory(&gemini);
    for world in [&world, &after] {
        let session = session(world);
        assert_eq!(session.primary, codex.key);
        assert_eq!(session.stands_in_for.as_deref(), Some(b"gemini".as_slice()));
    }
    // Nobody takes its place.
    let mut after = unread(&world, scripts(), &[&bash, &gemini]);
    after.resume_recorded(&known, REPORTED_OFFSET_NS);
    after.memory(&gemini);
    assert_eq!(session(&after).end_reason, Some(EndReason::ExecedAway));
}

#[test]
fn of_a_primary_that_other_rules_exclude_it_is_not_said_that_it_executed_another_program() {
    let mut world = of_scripts(World::new(scripts()));
    let bash = at_home(&mut world);
    let gemini = world.spawn(&bash, 20, "gemini");
    let others = || vec![Rule { conditions: only_program(&["codex"]), ..rule() }];
    // Whether its arguments are read before the rules are applied, after that, or never.
    let mut after = unread(&world, others(), &[&bash, &gemini]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert_eq!(after.take_reports(), Vec::<String>::new());
    after.memory(&gemini);
    assert_eq!(after.take_reports(), Vec::<String>::new());
    let mut after = unread(&world, others(), &[&bash, &gemini]);
    after.memory(&gemini);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert_eq!(after.take_reports(), Vec::<String>::new());
}

#[test]
fn a_program_that_is_called_otherwise_without_an_exec_is_no_other_program() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let recorded = |program: &[u8], exec_id| -> Vec<Recorded> {
        let recorded = world.recorded().into_iter();
        recorded.map(|it| Recorded { program: Some(program.to_vec()), exec_id, ..it }).collect()
    };
    // The exec was observed, and the link that it was given has another name than the executable.
    let known = recorded(b"agent", Some(claude.exec_id));
    let others = || vec![Rule { conditions: only_program(&["agent"]), ..rule() }];
    let procs = [&bash, &claude];
    let sessions = |world: &World| world.core.sessions().count();
    assert_eq!(sessions(&after_reading_all(&world, others(), &procs, &known)), 0);
    let mut after = unread(&world, others(), &procs);
    after.resume_recorded(&known, REPORTED_OFFSET_NS);
    assert_eq!((session(&after).primary, session(&after).end_reason), (claude.key, None));
    after.memory(&claude);
    assert_eq!(session(&after).end_reason, Some(EndReason::NotAdmitted));
    // Nor where it is not known whether it executed one.
    let known = recorded(b"codex", None);
    assert_eq!(sessions(&after_reading_all(&world, others(), &procs, &known)), 0);
    // With an exec, it is.
    let known = recorded(b"codex", Some(claude.exec_id - 1));
    let ended = session(&after_reading_all(&world, others(), &procs, &known));
    assert_eq!(ended.end_reason, Some(EndReason::ExecedAway));
}

#[test]
fn what_ran_beside_a_session_that_ends_may_be_the_next_while_its_arguments_are_not_known() {
    let mut world = of_scripts(World::new(scripts()));
    let bash = at_home(&mut world);
    let gemini = world.spawn(&bash, 20, "gemini");
    let codex = world.spawn(&bash, 21, "codex");
    let in_doubt = |world: &World| -> Vec<u32> {
        let found = world.core.unread_arguments();
        found.homes.iter().map(|it| it.key.tgid.0).chain(found.users.iter().map(|it| it.uid)).collect()
    };
    let mut after = unread(&world, scripts(), &[&bash, &gemini, &codex]);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert_eq!((session(&after).primary, in_doubt(&after)), (gemini.key, Vec::new()));
    after.exit(&gemini, 0);
    after.wait(2 * SETTLE_NS);
    assert_eq!((session(&after).state, in_doubt(&after)), (State::Ended, vec![21]));
    after.memory(&codex);
    assert_eq!((session(&after).primary, in_doubt(&after)), (codex.key, Vec::new()));
}

#[test]
fn what_launched_a_primary_below_another_one_stays_with_it() {
    let each = || vec![Rule { instances: Instances::Each, ..scripts().remove(0) }];
    let mut world = of_scripts(World::new(each()));
    let bash = at_home(&mut world);
    let mut outer = world.spawn(&bash, 20, "bash");
    let first = world.spawn(&outer, 21, "gemini");
    let launcher = world.spawn(&outer, 22, "codex");
    let inner = world.spawn(&launcher, 23, "codex");
    // What started both becomes a session, and runs what the second one does.
    world.exec(&mut outer, "gemini");
    world.exit(&first, 0);
    world.exec(&mut outer, "codex");
    let primaries = |world: &World| -> Vec<(u32, u32)> {
        let live = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
        live.map(|(session, _)| (session.home.instance, session.primary.tgid.0)).collect()
    };
    let expected = [(1, 20), (2, 23)];
    assert_eq!(primaries(&world), expected);
    let procs = [&bash, &outer, &launcher, &inner];
    let mut after = unread(&world, each(), &procs);
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    for read in procs {
        assert_eq!(primaries(&after), expected);
        after.memory(read);
    }
    assert_eq!(primaries(&after), expected);
    let mut after = unread(&world, each(), &procs);
    procs.iter().for_each(|proc| after.memory(proc));
    after.resume_recorded(&world.recorded(), REPORTED_OFFSET_NS);
    assert_eq!(primaries(&after), expected);
}
