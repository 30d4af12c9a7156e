//! More processes in one home than are looked at, and directories whose paths are too long to be read: what may be a session
//! there is found, or it is said that it is not known.

#![allow(clippy::indexing_slicing)]

mod support;

use observer_common::record::path_flag;
use observer_core::Input;
use observer_core::explanation::Position;
use observer_core::input::RawPath;
use observer_core::limits::{CANDIDATES_A_HOME_MAX, CANDIDATES_IN_ALL_MAX, LONG_PATHS_A_USER_MAX, SETTLE_NS};
use observer_core::rule::Rule;
use observer_core::session::{Doubt, State};
use observer_core::{ProcessKey, Tgid};
use support::{Proc, World, at_home, rule, shell};

const BOUND: u32 = CANDIDATES_A_HOME_MAX as u32;

fn primary(world: &World, home: &str) -> Option<u32> {
    world.session(home).filter(|it| it.state != State::Ended).map(|session| session.primary.tgid.0)
}

fn is_left_out(world: &World, proc: &Proc) -> bool {
    let explanation = world.core.explain(Tgid(proc.key.tgid.0)).expect("it lives");
    matches!(explanation.position, Position::LeftOut(_))
}

/// Homes and users of which it is not known whether they have a session.
type InDoubt = (Vec<(String, Doubt)>, Vec<(u32, ProcessKey, Doubt)>);

fn in_doubt(world: &World) -> InDoubt {
    let homes =
        world.core.undecided().map(|it| (String::from_utf8_lossy(&it.home.path).into_owned(), it.doubt));
    let users = world.core.undecided_users().into_iter().map(|it| (it.uid, it.key, it.doubt));
    (homes.collect(), users.collect())
}

#[test]
fn wrappers_that_run_nothing_keep_no_program_from_being_a_session() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let waiting: Vec<Proc> = (0..BOUND + 9).map(|at| world.spawn(&bash, 100 + at, "sudo")).collect();
    assert!(!is_left_out(&world, &waiting[0]) && is_left_out(&world, &waiting[waiting.len() - 1]));
    assert_eq!(primary(&world, "/srv/a"), None);
    assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()), "a wrapper is no session");
    let claude = world.spawn(&bash, 20, "claude");
    assert_eq!(primary(&world, "/srv/a"), Some(20));
    world.exit(&claude, 0);
    // What the first and the last of them run may be sessions, too.
    for (by, tgid) in [(0, 21), (waiting.len() - 1, 22)] {
        let claude = world.spawn(&waiting[by], tgid, "claude");
        assert_eq!(primary(&world, "/srv/a"), Some(tgid));
        world.exit(&claude, 0);
        world.wait(2 * SETTLE_NS);
    }
    // Also where a daemon finds all of them at once.
    let claude = world.spawn(&bash, 9_999, "claude");
    let mut look = World::new(vec![rule()]);
    look.now = world.now;
    look.dirs.clone_from(&world.dirs);
    look.pass(&[&bash, &claude].into_iter().chain(&waiting).collect::<Vec<_>>());
    assert_eq!(primary(&look, "/srv/a"), Some(9_999));
}

#[test]
fn a_program_that_was_left_out_is_considered_again_when_programs_end_beside_many_helpers() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    (0..BOUND - 10).for_each(|at| drop(world.fork(&first, 100 + at)));
    let others: Vec<Proc> = (1..BOUND).map(|at| world.spawn(&bash, 300 + at, "claude")).collect();
    let last = world.spawn(&bash, 999, "codex");
    assert!(is_left_out(&world, &last));
    others.iter().take(others.len() / 2 + 1).for_each(|other| world.exit(other, 0));
    assert!(!is_left_out(&world, &last));
}

#[test]
fn a_home_has_no_more_candidates_than_all_together_may_be() {
    let mut world = World::new(vec![rule()]);
    let bash = shell(&mut world);
    world.is_large = true;
    let sudo = world.spawn(&bash, 50, "sudo");
    let count = 2 * u32::try_from(CANDIDATES_IN_ALL_MAX).expect("a small number");
    let mut programs: Vec<Proc> = (0..count).map(|at| world.spawn(&sudo, 1_000 + at, "claude")).collect();
    let mut sudo = sudo;
    world.chdir(&mut sudo, "/srv/a");
    world.wait(2 * SETTLE_NS);
    // Each that comes is older than what sudo runs already.
    for program in programs.iter_mut().rev() {
        world.chdir(program, "/srv/a");
        world.wait(2 * SETTLE_NS);
    }
    let left_out = programs.iter().filter(|program| is_left_out(&world, program)).count();
    assert!(programs.len() - left_out <= CANDIDATES_IN_ALL_MAX, "{left_out} of {count} were left out");
}

#[test]
fn it_is_not_known_whether_a_home_has_a_session_while_it_left_out_a_program_and_has_none() {
    let min_age_ns = 10 * SETTLE_NS;
    for name in ["{basename}", "{program}"] {
        let mut world = World::new(vec![Rule { min_age_ns, name: name.into(), ..rule() }]);
        let bash = at_home(&mut world);
        (0..BOUND).for_each(|at| drop(world.spawn(&bash, 100 + at, "claude")));
        assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()));
        let last = world.spawn(&bash, 999, "codex");
        let doubt = Doubt::TooManyCandidates;
        let expected = match name {
            "{basename}" => (vec![("/srv/a".to_owned(), doubt)], Vec::new()),
            _ => (Vec::new(), vec![(7, last.key, doubt)]),
        };
        assert_eq!(in_doubt(&world), expected, "{name}");
        world.wait(2 * min_age_ns);
        assert!(primary(&world, "/srv/a").is_some());
        assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()), "there is one");
    }
}

/// A process goes to a directory whose path is too long for a record and for a row.
fn go_deep(world: &mut World, proc: &mut Proc) {
    proc.cwd = "/srv/a/deep".into();
    let (at, cwd) = (world.tick_clock(), world.dir(&proc.cwd));
    let path = RawPath { components: b"deep\0", flags: path_flag::TRUNCATED };
    world.feed(Input::Cwd { at, key: proc.key, cwd, mnt_ns: proc.mnt_ns, path, fs_shared: false });
    world.wait(2 * SETTLE_NS);
}

#[test]
fn a_directory_whose_path_is_too_long_may_be_in_any_home() {
    let mut world = World::new(vec![rule()]);
    let mut bash = shell(&mut world);
    go_deep(&mut world, &mut bash);
    assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()), "no rule admits a shell");
    let mut claude = world.spawn(&bash, 20, "claude");
    let codex = world.spawn(&bash, 21, "codex");
    let expected = vec![(7, claude.key, Doubt::PathTooLong)];
    assert_eq!(in_doubt(&world), (Vec::new(), expected), "one of each user is named");
    assert_eq!(world.session("/srv/a"), None);
    world.exit(&codex, 0);
    world.chdir(&mut claude, "/srv/a");
    world.wait(2 * SETTLE_NS);
    assert_eq!((primary(&world, "/srv/a"), in_doubt(&world)), (Some(20), (Vec::new(), Vec::new())));
    // What a session starts, and the session itself, are known.
    let mut helper = world.spawn(&claude, 22, "git");
    go_deep(&mut world, &mut helper);
    go_deep(&mut world, &mut claude);
    assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()));
    world.exit(&claude, 0);
    assert_eq!(in_doubt(&world).1, [(7, helper.key, Doubt::PathTooLong)]);
    world.exit(&helper, 0);
    assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()));
}

#[test]
fn of_a_user_with_many_paths_that_are_too_long_so_many_are_looked_at() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let mut helpers: Vec<Proc> =
        (0..=LONG_PATHS_A_USER_MAX as u32).map(|at| world.spawn(&claude, 100 + at, "git")).collect();
    let last = helpers.pop().expect("one more than are looked at");
    helpers.iter_mut().for_each(|helper| go_deep(&mut world, helper));
    assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()), "each is of the session");
    let mut last = last;
    go_deep(&mut world, &mut last);
    assert_eq!(in_doubt(&world).1, [(7, last.key, Doubt::PathTooLong)], "this one is not looked at");
}

#[test]
fn a_program_below_a_wrapper_that_runs_an_older_one_is_left_out_as_a_program() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    (1..BOUND).for_each(|at| drop(world.spawn(&bash, 100 + at, "sudo")));
    let wrapper = world.spawn(&bash, 50, "sudo");
    let claude = world.spawn(&wrapper, 20, "claude");
    let codex = world.spawn(&wrapper, 21, "codex");
    assert_eq!(primary(&world, "/srv/a"), Some(20));
    world.exit(&claude, 0);
    world.wait(2 * SETTLE_NS);
    assert_eq!(primary(&world, "/srv/a"), Some(codex.key.tgid.0));
}
