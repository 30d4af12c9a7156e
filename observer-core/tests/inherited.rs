//! What a process has from those above it, as `explain` tells it.
#![allow(clippy::indexing_slicing)]

mod support;

use observer_core::explanation::{BirthSession, Inherited};
use observer_core::{Rule, Tgid};
use support::{Proc, World, home, only_program, rule, shell};

const SECOND: u64 = 1_000_000_000;

fn world() -> World {
    World::new(vec![Rule { conditions: only_program(&["claude", "sudo"]), ..rule() }])
}

fn inherited(world: &World, of: &Proc) -> Inherited {
    world.core.explain(of.key.tgid).expect("it lives").inherited
}

/// The home of the session in which a process was born, from whom it has that, and whether the session is over.
fn born_in(world: &World, of: &Proc) -> Option<(String, Tgid, bool)> {
    let path = |home: &observer_core::session::Home| String::from_utf8_lossy(&home.path).into_owned();
    inherited(world, of).born_in.map(|session| match session {
        BirthSession::Live { home, of } => (path(&home), of.tgid, false),
        BirthSession::Former { former, of } => (path(&former.home), of.tgid, true),
    })
}

#[test]
fn what_is_below_a_wrapped_session_has_all_of_it_from_those_above() {
    let mut world = world();
    let bash = shell(&mut world);
    let mut sudo = world.spawn(&bash, 40, "sudo");
    world.chdir(&mut sudo, "/srv/a");
    let agent = world.spawn(&sudo, 41, "claude");
    world.wait(2 * SECOND);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(agent.key));
    let child = world.spawn(&agent, 42, "server");
    let below = world.spawn(&child, 43, "server");
    world.exit(&child, 0);
    assert_eq!(born_in(&world, &below), Some(("/srv/a".into(), Tgid(41), false)));
    let expected = inherited(&world, &below);
    assert_eq!((expected.root, expected.wrapper), (Some(sudo.key), Some(sudo.key)));
    assert_eq!(expected.terminal_of, Some(bash.key));
    // The session is the primary's own.
    assert_eq!(born_in(&world, &agent), None);
    let of_agent = inherited(&world, &agent);
    assert_eq!((of_agent.root, of_agent.wrapper), (Some(sudo.key), Some(sudo.key)));
    assert_eq!((inherited(&world, &sudo).wrapper, inherited(&world, &bash)), (None, Inherited::default()));

    // It opens a terminal of its own.
    let mut own = world.fork(&below, 44);
    world.setsid(&mut own, Some("pts9"));
    assert_eq!(inherited(&world, &own).terminal_of, None);
    let on_it = world.fork(&own, 45);
    assert_eq!(inherited(&world, &on_it).terminal_of, Some(own.key));
}

#[test]
fn the_birth_session_of_what_outlives_it_is_that_which_is_over() {
    let mut world = world();
    let bash = shell(&mut world);
    let mut agent = world.spawn(&bash, 40, "claude");
    world.chdir(&mut agent, "/srv/a");
    world.wait(2 * SECOND);
    let server = world.spawn(&agent, 41, "server");
    let below = world.spawn(&server, 42, "server");
    world.exit(&agent, 9);
    world.wait(2 * SECOND);
    assert_eq!(born_in(&world, &server), Some(("/srv/a".into(), Tgid(41), true)));
    assert_eq!(born_in(&world, &below), Some(("/srv/a".into(), Tgid(41), true)));
    let Some(BirthSession::Former { former, .. }) = inherited(&world, &below).born_in else { panic!("over") };
    assert_eq!((&*former.home, former.primary), (&home("/srv/a"), agent.key));
    assert_eq!(inherited(&world, &below).root, None);
}

#[test]
fn a_session_within_another_was_born_in_that() {
    let mut world = world();
    let bash = shell(&mut world);
    let mut outer = world.spawn(&bash, 40, "claude");
    world.chdir(&mut outer, "/srv/a");
    world.wait(2 * SECOND);
    let mut pane = world.fork(&outer, 41);
    world.setsid(&mut pane, Some("pts9"));
    world.exec(&mut pane, "bash");
    let mut inner = world.spawn(&pane, 42, "claude");
    world.chdir(&mut inner, "/srv/b");
    world.wait(2 * SECOND);
    assert_eq!(world.session("/srv/b").map(|session| session.primary), Some(inner.key));
    assert_eq!(born_in(&world, &inner), Some(("/srv/a".into(), Tgid(40), false)));
    let child = world.fork(&inner, 43);
    assert_eq!(born_in(&world, &child), Some(("/srv/b".into(), Tgid(42), false)));
    assert_eq!(inherited(&world, &inner).root, Some(inner.key));
    assert_eq!(inherited(&world, &child).terminal_of, Some(pane.key));
}
