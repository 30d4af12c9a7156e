//! Whose a session is: homes of several users in one directory, wrappers that change the user, owners. Each test shows
//! one fact.

mod support;

use std::sync::Arc;

use observer_core::process::Uids;
use observer_core::session::{EndReason, State};
use observer_core::{Input, Rule};
use support::{Proc, World, at_home, home, only_uid, rule, shell};

const VICTIM: u32 = 7;
const STRANGER: u32 = 8;

fn world() -> World {
    World::new(vec![rule()])
}

/// A shell of another user in `cwd`.
fn shell_of(world: &mut World, parent: &Proc, tgid: u32, uid: u32, cwd: &str) -> Proc {
    let mut child = world.fork(parent, tgid);
    set_uid(world, &mut child, uid);
    world.chdir(&mut child, cwd);
    world.exec(&mut child, "bash");
    child
}

fn set_uid(world: &mut World, proc: &mut Proc, uid: u32) {
    let at = world.tick_clock();
    proc.uid = uid;
    world.feed(Input::Creds { at, key: proc.key, uids: Uids { uid, euid: uid, suid: uid } });
}

#[test]
fn a_stranger_who_stood_in_a_home_first_does_not_have_it() {
    let mut world = world();
    let init = shell(&mut world);
    let stranger = shell_of(&mut world, &init, 30, STRANGER, "/srv/a");
    world.spawn(&stranger, 31, "claude");
    let bash = shell_of(&mut world, &init, 11, VICTIM, "/srv/a");
    let claude = world.spawn(&bash, 20, "claude");
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Live), (STRANGER, 31, State::Live)]);
    world.answer_owner(VICTIM, Some(VICTIM));
    world.answer_owner(STRANGER, Some(VICTIM));
    assert_eq!((world.foreign(VICTIM), world.foreign(STRANGER)), (Some(false), Some(true)));
    // While it restarts, nobody takes its place.
    world.exit(&claude, 9);
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Ended), (STRANGER, 31, State::Live)]);
    world.spawn(&bash, 21, "claude");
    assert_eq!(world.sessions_of_users(), [(VICTIM, 21, State::Live), (STRANGER, 31, State::Live)]);
    let starts = world.session("/srv/a").map(|session| session.starts.len());
    assert_eq!(starts, Some(2));
}

#[test]
fn whose_a_session_is_is_unknown_until_the_owner_is_known() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let awaiting = |world: &World| world.core.awaiting_owners().map(|key| key.tgid.0).collect::<Vec<_>>();
    assert_eq!((world.foreign(VICTIM), awaiting(&world)), (None, vec![20]));
    world.answer_owner(VICTIM, None);
    assert_eq!((world.foreign(VICTIM), awaiting(&world)), (None, vec![]), "it could not be read");
    world.chdir(&mut claude, "/tmp");
    world.chdir(&mut claude, "/srv/a");
    world.answer_owner(VICTIM, Some(VICTIM));
    assert_eq!(world.foreign(VICTIM), Some(false), "it is asked for when the primary is back");
    world.assert_reports_give_the_map();
    world.chdir(&mut claude, "/tmp");
    world.chdir(&mut claude, "/srv/a");
    world.answer_owner(VICTIM, None);
    assert_eq!(world.foreign(VICTIM), Some(false), "the last answer stays where there is none");
}

#[test]
fn an_answer_from_before_a_process_came_does_not_count_for_it() {
    let mut world = World::new(vec![Rule { owner: true, ..rule() }]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    assert_eq!(world.reports.owner_requests.len(), 1);
    world.spawn(&bash, 21, "codex");
    world.answer_owner(VICTIM, Some(VICTIM));
    assert_eq!(
        (world.sessions_of_users(), world.reports.owner_requests.len()),
        (vec![], 2),
        "it is read again"
    );
    world.answer_owner(VICTIM, Some(VICTIM));
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Live)]);
}

#[test]
fn root_and_the_users_that_a_rule_names_are_not_foreign_anywhere() {
    let mut root = world();
    let init = shell(&mut root);
    let bash = shell_of(&mut root, &init, 11, 0, "/srv/a");
    root.spawn(&bash, 20, "claude");
    assert_eq!((root.foreign(0), root.reports.owner_requests.len()), (Some(false), 0));
    let mut named = World::new(vec![Rule { conditions: only_uid(VICTIM), ..rule() }]);
    let bash = at_home(&mut named);
    named.spawn(&bash, 20, "claude");
    assert_eq!((named.foreign(VICTIM), named.reports.owner_requests.len()), (Some(false), 0));
}

#[test]
fn a_rule_with_owner_admits_root() {
    let mut world = World::new(vec![Rule { owner: true, ..rule() }]);
    let init = shell(&mut world);
    let bash = shell_of(&mut world, &init, 11, 0, "/srv/a");
    world.spawn(&bash, 20, "claude");
    assert_eq!(world.sessions_of_users(), [(0, 20, State::Live)]);
    let stranger = shell_of(&mut world, &init, 12, STRANGER, "/srv/a");
    world.spawn(&stranger, 21, "claude");
    world.answer_owner(STRANGER, Some(VICTIM));
    assert_eq!(world.sessions_of_users(), [(0, 20, State::Live)]);
}

#[test]
fn a_wrapper_of_one_user_runs_the_session_of_another() {
    let mut world = world();
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 20, "sudo");
    let mut claude = world.fork(&sudo, 21);
    set_uid(&mut world, &mut claude, 0);
    world.exec(&mut claude, "claude");
    assert_eq!(world.sessions_of_users(), [(0, 21, State::Live)]);
    let wrapper = |world: &World| world.session("/srv/a").and_then(|it| it.wrapper).map(|key| key.tgid.0);
    assert_eq!(wrapper(&world), Some(20));
    // The program's own children are its helpers.
    world.spawn(&claude, 22, "git");
    assert_eq!(world.sessions_of_users(), [(0, 21, State::Live)]);
    world.exit(&sudo, 0);
    assert_eq!((world.sessions_of_users(), wrapper(&world)), (vec![(0, 21, State::Live)], None));
}

#[test]
fn what_a_session_runs_for_another_user_is_its_helper() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let sudo = world.spawn(&claude, 21, "sudo");
    let mut apt = world.fork(&sudo, 22);
    set_uid(&mut world, &mut apt, 0);
    world.exec(&mut apt, "apt");
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Live)]);
}

#[test]
fn a_primary_that_changes_its_user_ends_the_session_of_the_former_one() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    set_uid(&mut world, &mut claude, STRANGER);
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Ended), (STRANGER, 20, State::Live)]);
    let ended = world.core.sessions().next().map(|(session, last)| (session.end_reason, last.uids.uid));
    assert_eq!(ended, Some((Some(EndReason::UserChanged), VICTIM)));
    world.assert_reports_give_the_map();
    // Also where it had left its home.
    world.chdir(&mut claude, "/tmp");
    set_uid(&mut world, &mut claude, 0);
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Ended), (STRANGER, 20, State::Ended)]);
}

#[test]
fn a_session_is_not_resumed_for_another_user() {
    let mut before = world();
    let bash = at_home(&mut before);
    let mut claude = before.spawn(&bash, 20, "claude");
    let known = before.session("/srv/a").expect("a session");
    claude.uid = STRANGER;
    let mut after = world();
    after.now = before.now;
    after.pass(&[&bash, &claude]);
    after.resume(&[(known, true)], 0);
    assert_eq!(after.sessions_of_users(), [(STRANGER, 20, State::Live)]);
    assert!(after.core.session(&Arc::new(home("/srv/a"))).is_none());
}
