//! Processes that are in a home where they could be no session, and what a launcher or a wrapper runs beside them.

mod support;

use observer_core::limits::SETTLE_NS;
use support::{Proc, World, assert_reported, at_home, rule};

/// A process goes to `path` and stays there.
fn settle(world: &mut World, proc: &mut Proc, path: &str) {
    world.chdir(proc, path);
    world.wait(2 * SETTLE_NS);
}

fn primary(world: &World, home: &str) -> Option<u32> {
    world.session(home).filter(|it| it.end_reason.is_none()).map(|session| session.primary.tgid.0)
}

/// In /srv/a, codex (21) is the session, and claude (22) came back beside it from its session in /srv/b.
fn passed_over() -> (World, Proc, Proc) {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 20, "sudo");
    let codex = world.spawn(&sudo, 21, "codex");
    let mut claude = world.spawn(&sudo, 22, "claude");
    settle(&mut world, &mut claude, "/srv/b");
    settle(&mut world, &mut claude, "/srv/a");
    (world, codex, claude)
}

#[test]
fn who_could_be_no_session_where_it_went_is_one_when_the_session_there_ends() {
    let (mut world, codex, _) = passed_over();
    assert_eq!((primary(&world, "/srv/a"), primary(&world, "/srv/b")), (Some(21), Some(22)));
    world.take_reports();
    world.exit(&codex, 9);
    assert_reported(
        &mut world,
        &[
            "ended /srv/a 21 ended roots=0 died",
            "ended /srv/b 22 ended roots=0 to=/srv/a moved",
            "started /srv/a 22 live roots=1 wrapper=20",
        ],
    );
}

#[test]
fn who_died_where_it_could_be_no_session_is_not_looked_at_again() {
    let (mut world, codex, claude) = passed_over();
    world.exit(&claude, 0);
    world.take_reports();
    world.exit(&codex, 9);
    assert_reported(&mut world, &["ended /srv/a 21 ended roots=0 died"]);
}

#[test]
fn what_a_launcher_runs_below_a_wrapper_is_as_old_as_the_launcher() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 20, "sudo");
    let launcher = world.spawn(&sudo, 21, "claude");
    let mut codex = world.spawn(&sudo, 22, "codex");
    settle(&mut world, &mut codex, "/srv/b");
    world.spawn(&launcher, 23, "claude");
    settle(&mut world, &mut codex, "/srv/a");
    // It started after the launcher, so it is not the program that sudo was started for.
    assert_eq!((primary(&world, "/srv/a"), primary(&world, "/srv/b")), (Some(23), Some(22)));
}

#[test]
fn what_the_launcher_of_a_dead_primary_still_runs_comes_before_an_older_root() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let launcher = world.spawn(&bash, 20, "claude");
    world.spawn(&bash, 21, "claude");
    let child = world.spawn(&launcher, 22, "claude");
    world.fork(&child, 23);
    assert_eq!(primary(&world, "/srv/a"), Some(22));
    world.exit(&child, 9);
    assert_eq!(primary(&world, "/srv/a"), Some(23));
    world.wait(2 * SETTLE_NS);
    assert_eq!(primary(&world, "/srv/a"), Some(23));
}

#[test]
fn what_goes_on_in_another_home_has_its_session_before_what_is_below_it() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 20, "sudo");
    let outer = world.spawn(&sudo, 21, "claude");
    let mut inner = world.spawn(&outer, 22, "claude");
    settle(&mut world, &mut inner, "/srv/b");
    let mut innermost = world.spawn(&inner, 23, "claude");
    settle(&mut world, &mut innermost, "/srv/a");
    assert_eq!((primary(&world, "/srv/a"), primary(&world, "/srv/b")), (Some(21), None));
    world.exit(&outer, 9);
    // What is below it is its helper, wherever that is.
    assert_eq!((primary(&world, "/srv/a"), primary(&world, "/srv/b")), (None, Some(22)));
}

#[test]
fn what_goes_on_below_what_no_rule_admits_has_its_session_before_what_is_below_it() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let shell = world.spawn(&claude, 21, "bash");
    let mut inner = world.spawn(&shell, 22, "claude");
    settle(&mut world, &mut inner, "/srv/b");
    let mut innermost = world.spawn(&inner, 23, "claude");
    settle(&mut world, &mut innermost, "/srv/a");
    assert_eq!((primary(&world, "/srv/a"), primary(&world, "/srv/b")), (Some(20), None));
    world.exit(&claude, 9);
    world.wait(2 * SETTLE_NS);
    assert_eq!((primary(&world, "/srv/a"), primary(&world, "/srv/b")), (None, Some(22)));
}
