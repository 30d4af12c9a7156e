//! By which criterion a primary was elected, as an explanation has it. Each test shows one criterion, with another candidate
//! that it decides against.

mod support;

use observer_core::explanation::{ElectionCriterion, Position};
use observer_core::limits::SETTLE_NS;
use support::{Proc, World, at_home, rule};

fn world() -> World {
    World::new(vec![rule()])
}

#[track_caller]
fn assert_elected_by(world: &World, proc: &Proc, expected: ElectionCriterion) {
    match world.core.explain(proc.key.tgid).expect("in the map").position {
        Position::Primary { elected_by, .. } => assert_eq!(elected_by, expected),
        other => panic!("it is the primary: {other:?}"),
    }
}

/// What a first look finds: the processes of a shell, of which the first is the older one.
fn first_look(change: impl FnOnce(&mut World, &mut Proc, &mut Proc)) -> (World, Proc, Proc) {
    let mut world = world();
    let bash = at_home(&mut World::new(vec![]));
    let (mut older, mut younger) = (world.child(&bash, 30, "claude"), world.child(&bash, 31, "codex"));
    change(&mut world, &mut older, &mut younger);
    world.pass(&[&bash, &older, &younger]);
    (world, older, younger)
}

#[test]
fn the_only_candidate_stays_that_when_others_come() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    assert_elected_by(&world, &claude, ElectionCriterion::OnlyCandidate);
    let codex = world.spawn(&bash, 21, "codex");
    assert_elected_by(&world, &claude, ElectionCriterion::OnlyCandidate);
    let other = world.core.explain(codex.key.tgid).expect("in the map").position;
    assert!(matches!(other, Position::Other { is_substituted: false, .. }), "{other:?}");
}

#[test]
fn a_terminal_decides_before_who_leads_and_who_is_older() {
    let (world, _, younger) = first_look(|world, older, _| {
        older.tty = None;
        world.sids.insert(older.key, older.key.tgid.0);
    });
    assert_elected_by(&world, &younger, ElectionCriterion::Terminal);
}

#[test]
fn who_leads_its_posix_session_decides_before_who_is_older() {
    let (world, _, younger) = first_look(|world, _, younger| {
        world.sids.insert(younger.key, younger.key.tgid.0);
    });
    assert_elected_by(&world, &younger, ElectionCriterion::SessionLeader);
}

#[test]
fn of_equals_the_oldest_is_elected() {
    let (world, older, _) = first_look(|_, _, _| {});
    assert_elected_by(&world, &older, ElectionCriterion::Oldest);
}

#[test]
fn the_next_best_is_what_the_elected_is_compared_with() {
    let mut world = world();
    let bash = at_home(&mut World::new(vec![]));
    let daemon = Proc { tty: None, ..world.child(&bash, 30, "app-server") };
    let (older, younger) = (world.child(&bash, 31, "claude"), world.child(&bash, 32, "codex"));
    world.pass(&[&bash, &daemon, &older, &younger]);
    assert_elected_by(&world, &older, ElectionCriterion::Oldest);
}

#[test]
fn the_program_of_the_session_decides_before_a_terminal() {
    let mut world = world();
    let bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    world.spawn(&bash, 21, "vim");
    let mut second = world.fork(&bash, 22);
    world.set_tty(&mut second, None);
    world.exec(&mut second, "claude");
    world.exit(&first, 0);
    assert_elected_by(&world, &second, ElectionCriterion::Program);
}

#[test]
fn the_launcher_of_the_former_primary_decides_before_age_and_what_it_starts_takes_its_place() {
    let mut world = world();
    let bash = at_home(&mut world);
    let older = world.fork(&bash, 19);
    let launcher = world.spawn(&bash, 20, "gemini");
    let first = world.spawn(&launcher, 21, "gemini");
    assert_elected_by(&world, &first, ElectionCriterion::SameChain);
    let mut older = older;
    world.exec(&mut older, "gemini");
    world.exit(&first, 1);
    assert_elected_by(&world, &launcher, ElectionCriterion::Launcher);
    let second = world.spawn(&launcher, 22, "gemini");
    assert_elected_by(&world, &second, ElectionCriterion::SameChain);
}

#[test]
fn the_program_of_the_session_takes_it_back_from_a_substitute() {
    let mut world = world();
    let bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    let vim = world.spawn(&bash, 21, "vim");
    let less = world.spawn(&bash, 22, "less");
    world.exit(&first, 9);
    assert_elected_by(&world, &vim, ElectionCriterion::Oldest);
    let other = world.core.explain(less.key.tgid).expect("in the map").position;
    assert!(matches!(other, Position::Other { is_substituted: true, .. }), "{other:?}");
    let primary = world.core.explain(vim.key.tgid).expect("in the map").position;
    assert!(matches!(primary, Position::Primary { is_substitute: true, .. }), "{primary:?}");
    let second = world.spawn(&bash, 23, "claude");
    assert_elected_by(&world, &second, ElectionCriterion::Returned);
    let primary = world.core.explain(second.key.tgid).expect("in the map").position;
    assert!(matches!(primary, Position::Primary { is_substitute: false, .. }), "{primary:?}");
    let other = world.core.explain(less.key.tgid).expect("in the map").position;
    assert!(matches!(other, Position::Other { is_substituted: false, .. }), "{other:?}");
}

#[test]
fn who_is_in_the_directory_that_is_at_the_path_begins_a_session() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    claude.deleted = true;
    world.pass(&[&bash, &claude]);
    world.dirs.insert("/srv/a".into(), 9_999);
    let mut codex = world.fork(&bash, 21);
    world.chdir(&mut codex, "/root");
    world.exec(&mut codex, "codex");
    world.chdir(&mut codex, "/srv/a");
    world.wait(SETTLE_NS);
    assert_elected_by(&world, &codex, ElectionCriterion::NewDirectory);
}

#[test]
fn a_primary_that_was_known_was_it_already_after_a_restart() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut daemon = world.fork(&bash, 20);
    world.set_tty(&mut daemon, None);
    world.exec(&mut daemon, "app-server");
    let codex = world.spawn(&bash, 21, "codex");
    assert_elected_by(&world, &daemon, ElectionCriterion::OnlyCandidate);
    let mut after = World::restarted(vec![rule()]);
    after.now = world.now;
    after.dirs.clone_from(&world.dirs);
    after.pass(&[&bash, &daemon, &codex]);
    after.resume_recorded(&world.recorded(), 0);
    assert_elected_by(&after, &daemon, ElectionCriterion::WasPrimary);
    after.exit(&daemon, 0);
    assert_elected_by(&after, &codex, ElectionCriterion::OnlyCandidate);
}
