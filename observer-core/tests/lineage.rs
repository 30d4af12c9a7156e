//! Which candidates are roots, and which helpers: launchers, terminals, processes that outlive others. Each test shows
//! one fact.

mod support;

use std::sync::Arc;

use observer_core::Rule;
use observer_core::explanation::{ElectionCriterion, Position, Unmet};
use observer_core::limits::{CANDIDATES_A_HOME_MAX, SETTLE_NS};
use observer_core::session::{Home, State};
use support::{Proc, World, assert_reported, at_home, only_program, rule, shell};

const MIN_AGE_NS: u64 = 1_000_000_000;

fn world() -> World {
    World::new(vec![rule()])
}

fn world_with_min_age() -> World {
    World::new(vec![Rule { min_age_ns: MIN_AGE_NS, ..rule() }])
}

/// Returns a shell below `parent` that has a terminal of its own, as a multiplexer starts it.
fn shell_on(world: &mut World, parent: &Proc, tgid: u32, tty: &'static str) -> Proc {
    let mut child = world.fork(parent, tgid);
    world.set_tty(&mut child, Some(tty));
    world.exec(&mut child, "bash");
    child
}

fn only_candidate(home: Arc<Home>) -> Position {
    Position::Primary { home, elected_by: ElectionCriterion::OnlyCandidate, is_substitute: false }
}

fn other_than_primary(home: Arc<Home>) -> Position {
    Position::Other { home, is_substituted: false }
}

fn starts(world: &World, home: &str) -> usize {
    world.session(home).map_or(0, |session| session.starts.len())
}

#[test]
fn a_launcher_stands_aside_for_what_it_starts_as_the_same_program() {
    let mut world = world();
    let bash = at_home(&mut world);
    let outer = world.spawn(&bash, 20, "gemini");
    let inner = world.spawn(&outer, 21, "gemini");
    assert_reported(
        &mut world,
        &["started /srv/a 20 live roots=1", "changed /srv/a 21 live roots=1 wrapper=20"],
    );
    assert_eq!(starts(&world, "/srv/a"), 1, "the program started once");
    world.spawn(&inner, 22, "git");
    world.spawn(&outer, 23, "git");
    assert_reported(&mut world, &[]);
    // The launcher starts it again: that is a start, and the launcher in between is none.
    world.exit(&inner, 1);
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
    assert_eq!(starts(&world, "/srv/a"), 1);
    world.spawn(&outer, 24, "gemini");
    assert_reported(&mut world, &["changed /srv/a 24 live roots=1 wrapper=20"]);
    assert_eq!(starts(&world, "/srv/a"), 2);
}

#[test]
fn a_session_begins_with_what_the_launcher_starts() {
    let mut world = world_with_min_age();
    let bash = at_home(&mut world);
    let outer = world.spawn(&bash, 20, "gemini");
    world.wait(100_000_000);
    world.spawn(&outer, 21, "gemini");
    world.wait(MIN_AGE_NS - 50_000_000);
    assert_reported(&mut world, &[]);
    world.wait(100_000_000);
    assert_reported(&mut world, &["started /srv/a 21 live roots=1 wrapper=20"]);
}

#[test]
fn a_program_that_briefly_runs_itself_stays_the_primary() {
    let mut world = world_with_min_age();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.wait(2 * MIN_AGE_NS);
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    let again = world.spawn(&claude, 21, "claude");
    world.wait(MIN_AGE_NS / 2);
    world.exit(&again, 0);
    assert_reported(&mut world, &[]);
}

#[test]
fn a_launcher_that_starts_nothing_for_long_is_the_primary_itself() {
    let mut world = world_with_min_age();
    let bash = at_home(&mut world);
    let outer = world.spawn(&bash, 20, "gemini");
    for tgid in 30..34 {
        let inner = world.spawn(&outer, tgid, "gemini");
        world.wait(MIN_AGE_NS / 2);
        world.exit(&inner, 1);
    }
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn two_of_the_same_program_below_one_launch_nothing() {
    let mut world = world();
    let bash = at_home(&mut world);
    let outer = world.spawn(&bash, 20, "claude");
    let mut first = world.fork(&outer, 21);
    let second = world.fork(&outer, 22);
    world.take_reports();
    world.exec(&mut first, "claude");
    assert_reported(&mut world, &["changed /srv/a 21 live roots=1 wrapper=20"]);
    // Which of them is meant is not known any more. The primary goes on.
    let mut second = second;
    world.exec(&mut second, "claude");
    assert_reported(&mut world, &[]);
    world.exit(&first, 0);
    assert_reported(&mut world, &["changed /srv/a 22 live roots=1 wrapper=20"]);
}

#[test]
fn a_fork_and_what_runs_below_a_shell_are_not_launched() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let tool = world.spawn(&claude, 21, "bash");
    world.spawn(&tool, 22, "claude");
    world.fork(&claude, 23);
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn a_launcher_that_runs_itself_by_a_wrapper_stands_aside_too() {
    let mut world = world();
    let bash = at_home(&mut world);
    let outer = world.spawn(&bash, 20, "gemini");
    let env = world.spawn(&outer, 21, "env");
    world.spawn(&env, 22, "gemini");
    assert_reported(
        &mut world,
        &["started /srv/a 20 live roots=1", "changed /srv/a 22 live roots=1 wrapper=20"],
    );
    world.exit(&env, 0);
    assert_eq!(world.session("/srv/a").map(|session| session.primary.tgid.0), Some(22));
}

#[test]
fn a_script_of_a_shell_is_a_wrapper_unless_a_rule_names_it() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut script = world.fork(&bash, 20);
    world.exec_script(&mut script, "start.sh");
    assert_reported(&mut world, &[]);
    let agent = world.spawn(&script, 21, "claude");
    assert_reported(&mut world, &["started /srv/a 21 live roots=1 wrapper=20"]);
    world.exit(&agent, 1);
    world.spawn(&script, 22, "claude");
    assert_eq!(starts(&world, "/srv/a"), 2, "the restart of the inner process is a start");

    let mut world = World::new(vec![Rule { conditions: only_program(&["start.sh"]), ..rule() }]);
    let bash = at_home(&mut world);
    let mut script = world.fork(&bash, 20);
    world.exec_script(&mut script, "start.sh");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn a_helper_is_no_session_of_the_home_in_which_it_runs() {
    let mut world = world();
    let mut bash = at_home(&mut world);
    let mut tail = {
        let claude = world.spawn(&bash, 20, "claude");
        world.fork(&claude, 21)
    };
    world.take_reports();
    world.chdir(&mut tail, "/srv/b");
    world.exec(&mut tail, "tail");
    world.wait(10 * SETTLE_NS);
    assert_reported(&mut world, &[]);
    // The agent of that home takes its place at once.
    world.chdir(&mut bash, "/srv/b");
    world.spawn(&bash, 22, "codex");
    assert_reported(&mut world, &["started /srv/b 22 live roots=1"]);
}

#[test]
fn what_has_a_terminal_of_its_own_below_a_session_is_no_helper() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let mut other = world.fork(&claude, 21);
    world.take_reports();
    world.set_tty(&mut other, Some("pts9"));
    assert_reported(&mut world, &["changed /srv/a 20 live roots=2"]);
    world.exec(&mut other, "codex");
    world.take_reports();
    world.spawn(&other, 22, "node");
    assert_reported(&mut world, &[]);
    let others = world.session("/srv/a").map(|session| session.others).unwrap_or_default();
    let others: Vec<_> =
        others.iter().map(|other| (other.key, &*other.program, other.tty.is_some())).collect();
    assert_eq!(others, [(other.key, b"codex".as_slice(), true)]);
}

#[test]
fn what_runs_in_a_multiplexer_that_a_session_started_is_no_helper() {
    let mut world = world();
    let mut bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let mut server = world.fork(&claude, 21);
    world.set_tty(&mut server, None);
    world.exec(&mut server, "bash");
    let pane = shell_on(&mut world, &server, 22, "pts9");
    world.take_reports();
    // It has no terminal, but the shell of a pane is above it.
    let mut agent = world.fork(&pane, 23);
    world.set_tty(&mut agent, None);
    world.chdir(&mut agent, "/srv/b");
    world.exec(&mut agent, "codex");
    assert_reported(&mut world, &["started /srv/b 23 live roots=1"]);
    // The session that started the server ends, and is started again in the pane.
    world.exit(&claude, 0);
    world.take_reports();
    world.chdir(&mut bash, "/srv/a");
    world.wait(2 * SETTLE_NS);
    world.spawn(&pane, 24, "claude");
    assert_reported(&mut world, &["started /srv/a 24 live roots=1"]);
}

#[test]
fn what_goes_on_after_the_program_that_started_it_is_the_session_after_a_second() {
    let mut world = world();
    let bash = at_home(&mut world);
    let launcher = world.spawn(&bash, 20, "launcher");
    world.spawn(&launcher, 21, "claude");
    world.take_reports();
    world.exit(&launcher, 0);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 died"]);
    world.wait(SETTLE_NS / 2);
    assert_reported(&mut world, &[]);
    world.wait(SETTLE_NS);
    assert_reported(&mut world, &["started /srv/a 21 live roots=1"]);
}

#[test]
fn a_program_that_replaces_itself_by_its_child_is_the_same_session() {
    let mut world = world();
    let bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    world.fork(&first, 21);
    world.take_reports();
    world.exit(&first, 0);
    assert_reported(&mut world, &["changed /srv/a 21 live roots=1"]);
}

#[test]
fn helpers_that_die_just_after_their_primary_are_no_session() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let tool = world.spawn(&claude, 21, "bash");
    let helper = world.spawn(&tool, 22, "make");
    world.take_reports();
    world.exit(&claude, 9);
    world.wait(SETTLE_NS / 2);
    world.exit(&tool, 1);
    world.exit(&helper, 1);
    world.wait(10 * SETTLE_NS);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 died"]);
}

#[test]
fn what_takes_the_place_of_another_program_gives_it_back_when_that_one_returns() {
    let mut world = world();
    let bash = at_home(&mut world);
    let other = shell_on(&mut world, &bash, 19, "pts9");
    let claude = world.spawn(&bash, 20, "claude");
    world.spawn(&other, 21, "less");
    world.take_reports();
    world.exit(&claude, 9);
    assert_reported(&mut world, &["changed /srv/a 21 live roots=1"]);
    world.spawn(&bash, 22, "claude");
    assert_reported(&mut world, &["changed /srv/a 22 live roots=2"]);
    // It stays where no other program stood before.
    world.spawn(&other, 23, "less");
    assert_reported(&mut world, &["changed /srv/a 22 live roots=3"]);
}

#[test]
fn among_several_the_program_that_stood_here_then_one_with_a_terminal_is_elected() {
    let mut world = world();
    let mut bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    world.spawn(&bash, 21, "vim");
    bash.tty = None;
    let mut daemon = world.fork(&bash, 22);
    world.set_tty(&mut daemon, None);
    world.exec(&mut daemon, "claude");
    world.take_reports();
    world.exit(&first, 0);
    assert_reported(&mut world, &["changed /srv/a 22 live roots=2"]);

    // In a first look, the order in which processes are found has no part in it.
    let mut world = World::new(vec![rule()]);
    let daemon = Proc { tty: None, ..world.child(&bash, 30, "app-server") };
    let agent = Proc { tty: Some("pts3"), ..world.child(&bash, 31, "codex") };
    world.pass(&[&bash, &daemon, &agent]);
    assert_eq!(world.session("/srv/a").map(|session| session.primary.tgid.0), Some(31));
}

#[test]
fn an_explanation_names_the_rule_the_condition_and_the_session() {
    let mut world = World::new(vec![Rule { conditions: only_program(&["codex"]), ..rule() }, rule()]);
    let mut bash = at_home(&mut world);
    let explain = |world: &World, proc: &Proc| world.core.explain(proc.key.tgid).expect("in the map");
    let home = |world: &World| Arc::clone(&world.session("/srv/a").expect("a session").home);
    let sudo = world.spawn(&bash, 19, "sudo");
    assert!(matches!(explain(&world, &sudo).position, Position::WrapperAlone(_)));
    let claude = world.spawn(&sudo, 20, "claude");
    let found = explain(&world, &claude);
    assert_eq!(found.rules, [Some(Unmet::Program), None]);
    assert_eq!((found.admitted_by, found.position), (Some(1), only_candidate(home(&world))));
    let stands_aside = Position::StandsAside { home: home(&world), primary: claude.key };
    assert_eq!(explain(&world, &sudo).position, stands_aside);
    let helper = world.spawn(&claude, 21, "node");
    let of_claude = Position::Helper { home: home(&world), of: claude.key };
    assert_eq!(explain(&world, &helper).position, of_claude);
    let other = world.spawn(&bash, 22, "vim");
    assert_eq!(explain(&world, &other).position, other_than_primary(home(&world)));
    let below = world.spawn(&other, 23, "git");
    assert_eq!(explain(&world, &below).position, Position::Below { home: home(&world), above: other.key });
    assert_eq!(explain(&world, &bash).rules, [Some(Unmet::NotComm), Some(Unmet::NotComm)]);
    assert_eq!(explain(&world, &bash).position, Position::NotAdmitted);
    world.chdir(&mut bash, "/tmp");
    let outside = world.spawn(&bash, 24, "codex");
    assert_eq!(explain(&world, &outside).rules, [Some(Unmet::Cwd), Some(Unmet::Cwd)]);
    let mut walker = outside;
    world.chdir(&mut walker, "/srv/b");
    assert!(matches!(explain(&world, &walker).position, Position::Settling { .. }));
    assert_eq!(world.core.explain(observer_core::Tgid(999)), None);
}

#[test]
fn what_is_too_young_is_explained_by_its_own_age_and_what_is_old_enough_is_not_young() {
    let mut world = world_with_min_age();
    let bash = at_home(&mut world);
    let explain =
        |world: &World, proc: &Proc| world.core.explain(proc.key.tgid).expect("in the map").position;
    let claude = world.spawn(&bash, 20, "claude");
    world.wait(2 * MIN_AGE_NS);
    let home = Arc::clone(&world.session("/srv/a").expect("a session").home);
    let other = world.spawn(&bash, 21, "vim");
    world.wait(2 * MIN_AGE_NS);
    // They are due one after the other, and the home when the first of them is.
    let first = world.spawn(&bash, 22, "codex");
    let execed_first = world.now;
    world.wait(MIN_AGE_NS / 2);
    let sudo = world.spawn(&bash, 23, "sudo");
    let second = world.spawn(&sudo, 24, "gemini");
    let execed_second = world.now;
    let young = |program: &Proc, execed: u64| {
        let until = observer_core::BootTime(execed + MIN_AGE_NS);
        Position::Young { home: Arc::clone(&home), program: program.key, until }
    };
    assert_eq!(explain(&world, &claude), only_candidate(Arc::clone(&home)));
    assert_eq!(explain(&world, &other), other_than_primary(Arc::clone(&home)));
    assert_eq!(explain(&world, &first), young(&first, execed_first));
    assert_eq!(explain(&world, &second), young(&second, execed_second));
    assert_eq!(explain(&world, &sudo), young(&second, execed_second), "it stands aside for that");
}

#[test]
fn who_is_left_out_of_a_home_with_too_many_candidates_is_told_so() {
    let mut world = world();
    let bash = at_home(&mut world);
    let count = u32::try_from(CANDIDATES_A_HOME_MAX).expect("a small number");
    let agents: Vec<Proc> = (0..=count).map(|at| world.spawn(&bash, 100 + at, "claude")).collect();
    let (last, others) = agents.split_last().expect("some");
    let explain = |world: &World| world.core.explain(last.key.tgid).expect("in the map");
    let home = Arc::clone(&world.session("/srv/a").expect("a session").home);
    assert_eq!(explain(&world).position, Position::LeftOut(Arc::clone(&home)));
    assert_eq!((explain(&world).rules, explain(&world).admitted_by), (vec![None], None));
    // No rule admits it where it goes.
    let mut last = last.clone();
    world.chdir(&mut last, "/tmp");
    assert_eq!(explain(&world).position, Position::NotAdmitted);
    world.chdir(&mut last, "/srv/a");
    world.wait(2 * SETTLE_NS);
    assert_eq!(explain(&world).position, Position::LeftOut(Arc::clone(&home)));
    for agent in others.iter().take(others.len() / 2) {
        world.exit(agent, 0);
    }
    assert_eq!(explain(&world).position, other_than_primary(home));
}

#[test]
fn a_home_with_more_candidates_than_its_bound_loses_none_for_good() {
    let mut world = world();
    let bash = at_home(&mut world);
    let count = 3 * u32::try_from(CANDIDATES_A_HOME_MAX).expect("a small number");
    let agents: Vec<Proc> = (0..count).map(|at| world.spawn(&bash, 100 + at, "claude")).collect();
    let roots = world.session("/srv/a").map(|session| session.roots);
    assert_eq!(roots, Some(u32::try_from(CANDIDATES_A_HOME_MAX).expect("a small number")));
    assert!(world.core.counters().candidates_left_out > 0);
    let (last, others) = agents.split_last().expect("agents");
    for agent in others {
        world.exit(agent, 0);
        let session = world.session("/srv/a").expect("a session");
        assert_ne!(session.state, State::Ended, "one of them lives");
    }
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(last.key));
    // What stands below many helpers is found, too.
    let helpers: Vec<Proc> = (0..count).map(|at| world.fork(last, 1_000 + at)).collect();
    world.exit(last, 0);
    for helper in helpers.split_last().expect("helpers").1 {
        world.exit(helper, 0);
    }
    world.wait(2 * SETTLE_NS);
    let session = world.session("/srv/a").expect("a session");
    assert_eq!(session.primary, helpers.last().expect("helpers").key);
}

#[test]
fn what_a_wrapper_runs_on_another_terminal_waits_for_who_started_the_wrapper() {
    let mut world = world();
    let mut bash = shell(&mut world);
    world.chdir(&mut bash, "/srv/b");
    let claude = world.spawn(&bash, 20, "claude");
    let codex = world.spawn(&claude, 21, "codex");
    let mut sudo = world.spawn(&codex, 22, "sudo");
    world.chdir(&mut sudo, "/srv/a");
    world.wait(2 * SETTLE_NS);
    let mut vim = world.fork(&sudo, 23);
    world.set_tty(&mut vim, Some("pts5"));
    world.exec(&mut vim, "vim");
    world.wait(2 * SETTLE_NS);
    assert_eq!(world.session("/srv/a"), None, "sudo is a helper of claude, and vim runs for sudo");
    // codex is the session in a moment, and sudo its helper.
    world.exit(&claude, 9);
    for _ in 0..3 {
        world.wait(2 * SETTLE_NS);
    }
    assert_eq!(world.session("/srv/b").map(|session| session.primary), Some(codex.key));
    assert_eq!(world.session("/srv/a"), None);
    // Without it, vim is one.
    world.exit(&codex, 9);
    world.wait(2 * SETTLE_NS);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(vim.key));
}

#[test]
fn a_first_look_takes_no_helper_for_a_session_whichever_home_is_older() {
    // A wrapper that runs nothing is the oldest of its home, and then a program without a terminal.
    for (oldest, expected) in [("sudo", None), ("codex", Some(20))] {
        let mut world = world();
        let mut bash = shell(&mut world);
        bash.cwd = "/tmp".into();
        let oldest = Proc { cwd: "/srv/a".into(), tty: None, ..world.child(&bash, 20, oldest) };
        let claude = Proc { cwd: "/srv/b".into(), ..world.child(&bash, 21, "claude") };
        let tail = Proc { cwd: "/srv/a".into(), ..world.child(&claude, 22, "tail") };
        let mut world = World::new(vec![rule()]);
        world.pass(&[&bash, &oldest, &claude, &tail]);
        assert_eq!(world.session("/srv/b").map(|session| session.primary.tgid.0), Some(21));
        assert_eq!(world.session("/srv/a").map(|session| session.primary.tgid.0), expected);
        let reported = world.take_reports();
        assert!(!reported.iter().any(|line| line.starts_with("started /srv/a 22")), "{reported:?}");
    }
}

#[test]
fn a_first_look_takes_no_more_candidates_than_the_bound_and_finds_the_roots() {
    let bash = at_home(&mut world());
    let mut world = world();
    let count = 3 * u32::try_from(CANDIDATES_A_HOME_MAX).expect("a small number");
    let claude = world.child(&bash, 50, "claude");
    let helpers: Vec<Proc> = (0..count).map(|at| world.child(&claude, 100 + at, "node")).collect();
    let other = world.child(&bash, 51, "codex");
    let all: Vec<&Proc> = [&bash, &claude, &other].into_iter().chain(&helpers).collect();
    world.pass(&all);
    let session = world.session("/srv/a").expect("a session");
    assert_eq!((session.primary, session.roots), (claude.key, 2), "the younger root is found, too");
    assert!(world.core.counters().candidates_left_out > 0);

    let mut world = World::new(vec![rule()]);
    let agents: Vec<Proc> = (0..count).map(|at| world.child(&bash, 100 + at, "claude")).collect();
    let all: Vec<&Proc> = [&bash].into_iter().chain(&agents).collect();
    world.pass(&all);
    let roots = world.session("/srv/a").map(|session| session.roots);
    assert_eq!(roots, Some(u32::try_from(CANDIDATES_A_HOME_MAX).expect("a small number")));
}

#[test]
fn what_a_primary_starts_where_it_went_is_a_session_there_when_it_goes_on_alone() {
    let mut world = world();
    let init = support::shell(&mut world);
    // A session of /srv/b, in whose pane the primary of /srv/a is started.
    let mut agent = world.spawn(&init, 20, "claude");
    world.chdir(&mut agent, "/srv/b");
    world.wait(2 * SETTLE_NS);
    let mut inner = world.fork(&agent, 21);
    world.set_tty(&mut inner, Some("pts4"));
    world.chdir(&mut inner, "/srv/a");
    world.exec(&mut inner, "codex");
    world.wait(2 * SETTLE_NS);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(inner.key));
    // It loses its terminal, so that it is a helper wherever else it goes.
    world.set_tty(&mut inner, None);
    world.chdir(&mut inner, "/srv/c");
    world.wait(2 * SETTLE_NS);
    let child = world.fork(&inner, 22);
    world.exit(&inner, 0);
    world.exit(&agent, 0);
    world.wait(2 * SETTLE_NS);
    let live = world.session("/srv/c").filter(|session| session.state == State::Live);
    assert_eq!(live.map(|session| session.primary), Some(child.key));
}

#[test]
fn what_a_session_started_stays_its_helper_when_the_session_moves() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.spawn(&claude, 21, "codex");
    world.take_reports();
    world.chdir(&mut claude, "/srv/b");
    world.wait(2 * SETTLE_NS);
    assert_reported(
        &mut world,
        &[
            "changed /srv/a 20 left roots=1 to=/srv/b",
            "ended /srv/a 20 ended roots=0 to=/srv/b moved",
            "started /srv/b 20 live roots=1",
        ],
    );
}

#[test]
fn what_a_session_started_waits_until_it_has_settled_elsewhere() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.fork(&claude, 21);
    world.spawn(&bash, 22, "codex");
    world.take_reports();
    // Another program takes the home at once. The child, which runs the program of the session, is no helper for a moment.
    world.chdir(&mut claude, "/srv/b");
    world.wait(2 * SETTLE_NS);
    let primary = |world: &World, home| world.session(home).map(|session| session.primary.tgid.0);
    assert_eq!((primary(&world, "/srv/a"), primary(&world, "/srv/b")), (Some(22), Some(20)));
}

#[test]
fn what_a_process_started_that_goes_on_from_home_to_home_is_a_session_all_the_same() {
    let mut world = world();
    let bash = shell(&mut world);
    let mut walker = world.spawn(&bash, 20, "claude");
    let mut child = world.spawn(&walker, 21, "codex");
    world.chdir(&mut walker, "/srv/b");
    world.chdir(&mut child, "/srv/d");
    for step in 0..20 {
        world.chdir(&mut walker, if step % 2 == 0 { "/srv/c" } else { "/srv/b" });
        world.wait(SETTLE_NS / 3);
    }
    let live = world.session("/srv/d").filter(|session| session.state == State::Live);
    assert_eq!(live.map(|session| session.primary), Some(child.key));
}

#[test]
fn of_what_a_dead_session_started_the_oldest_is_a_session_first() {
    for is_direct in [true, false] {
        let mut world = world();
        let bash = at_home(&mut world);
        let claude = world.spawn(&bash, 20, "codex");
        let mut older = world.spawn(&claude, 21, "claude");
        let mut younger = world.fork(&older, 22);
        // Both are helpers wherever they are.
        let moved = if is_direct { &mut older } else { &mut younger };
        world.chdir(moved, "/srv/b");
        world.wait(2 * SETTLE_NS);
        world.exit(&claude, 9);
        world.wait(2 * SETTLE_NS);
        world.wait(2 * SETTLE_NS);
        let live = world.core.sessions().filter(|(session, _)| session.state == State::Live);
        let live: Vec<u32> = live.map(|(session, _)| session.primary.tgid.0).collect();
        assert_eq!(live, [21], "{is_direct}");
    }
}

#[test]
fn helpers_that_die_just_after_a_primary_that_had_left_are_no_session() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let helper = world.spawn(&claude, 21, "make");
    world.chdir(&mut claude, "/tmp");
    world.take_reports();
    world.exit(&claude, 9);
    world.wait(SETTLE_NS / 2);
    world.exit(&helper, 1);
    world.wait(10 * SETTLE_NS);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 to=/tmp died"]);
}

#[test]
fn a_program_that_comes_back_below_its_wrapper_is_the_session_there() {
    let mut world = world();
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 20, "sudo");
    let mut claude = world.spawn(&sudo, 21, "claude");
    world.chdir(&mut claude, "/srv/b");
    world.wait(2 * SETTLE_NS);
    world.take_reports();
    world.chdir(&mut claude, "/srv/a");
    world.wait(2 * SETTLE_NS);
    assert_reported(
        &mut world,
        &[
            "changed /srv/b 21 left roots=1 to=/srv/a",
            "ended /srv/b 21 ended roots=0 to=/srv/a moved",
            "started /srv/a 21 live roots=1 wrapper=20",
        ],
    );
}
