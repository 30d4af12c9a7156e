//! Which process is the primary of which home. Each test shows one fact.

mod support;

use observer_common::record::path_flag;
use observer_core::input::{Block, RawPath};
use observer_core::limits::{SETTLE_NS, STARTING_NS};
use observer_core::rule::{Conditions, HomeRule, Ignore, TtyRule};
use observer_core::session::State;
use observer_core::{BootTime, Input, ProcessKey, Rule, Tgid};
use support::{
    Glob, Proc, World, assert_reported, at_home, comm, globs, home, only_comm, only_program, only_uid, rule,
    shell,
};

fn world() -> World {
    World::new(vec![rule()])
}

#[test]
fn a_shell_is_no_session_and_the_program_that_it_runs_is_one() {
    let mut world = world();
    let bash = at_home(&mut world);
    assert_reported(&mut world, &[]);
    let claude = world.spawn(&bash, 20, "claude");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    assert!(world.reports.watched.contains(&claude.key));
    world.exit(&claude, 9);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 died"]);
    assert!(world.reports.watched.is_empty());
    let session = world.session("/srv/a").expect("the session is kept");
    assert_eq!(session.death.and_then(|death| death.raw_status), Some(9));
}

#[test]
fn a_program_in_a_subdirectory_belongs_to_the_home_above() {
    let mut world = world();
    let mut bash = at_home(&mut world);
    world.chdir(&mut bash, "/srv/a/deep/er");
    world.spawn(&bash, 20, "claude");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn each_move_inside_the_home_is_reported_once() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.chdir(&mut claude, "/srv/a/sub");
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
}

#[test]
fn children_of_the_primary_change_nothing() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    let helper = world.spawn(&claude, 21, "node");
    let make = world.spawn(&helper, 22, "make");
    world.exit(&make, 0);
    world.exit(&helper, 0);
    assert_reported(&mut world, &[]);
}

#[test]
fn a_wrapper_alone_is_no_session() {
    let mut world = world();
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 20, "sudo");
    assert_reported(&mut world, &[]);
    let inner = world.spawn(&sudo, 21, "bash");
    assert_reported(&mut world, &[]);
    let claude = world.spawn(&inner, 22, "claude");
    assert_reported(&mut world, &["started /srv/a 22 live roots=1 wrapper=20"]);
    assert!(world.reports.watched.contains(&sudo.key));
    world.exit(&sudo, 0);
    assert_reported(&mut world, &["changed /srv/a 22 live roots=1"]);
    world.exit(&claude, 0);
    assert_reported(&mut world, &["ended /srv/a 22 ended roots=0 died"]);
}

#[test]
fn a_wrapper_that_execs_its_program_becomes_the_primary() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut env = world.spawn(&bash, 20, "env");
    assert_reported(&mut world, &[]);
    world.exec(&mut env, "claude");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn the_wrappers_of_a_rule_that_names_comms_are_candidates_too() {
    let mut world = World::new(vec![Rule { conditions: only_comm(&["claude"]), ..rule() }]);
    let bash = at_home(&mut world);
    let sudo = world.spawn(&bash, 20, "sudo");
    world.spawn(&sudo, 21, "claude");
    assert_reported(&mut world, &["started /srv/a 21 live roots=1 wrapper=20"]);
    world.spawn(&bash, 22, "vim");
    assert_reported(&mut world, &[]);
}

#[test]
fn two_roots_are_counted_and_the_first_stays_primary() {
    let mut world = world();
    let bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    let second = world.spawn(&bash, 21, "codex");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1", "changed /srv/a 20 live roots=2"]);
    world.exit(&first, 0);
    assert_reported(&mut world, &["changed /srv/a 21 live roots=1"]);
    world.exit(&second, 0);
    assert_reported(&mut world, &["ended /srv/a 21 ended roots=0 died"]);
}

#[test]
fn an_older_process_that_moves_in_does_not_take_over() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut elsewhere = shell_child(&mut world, &bash, 20, "/root");
    world.spawn(&bash, 21, "claude");
    world.chdir(&mut elsewhere, "/srv/a");
    assert_reported(&mut world, &["started /srv/a 21 live roots=1"]);
    world.wait(SETTLE_NS);
    assert_reported(&mut world, &["changed /srv/a 21 live roots=2"]);
}

fn shell_child(world: &mut World, parent: &Proc, tgid: u32, cwd: &str) -> Proc {
    let mut child = world.spawn(parent, tgid, "bash");
    world.chdir(&mut child, cwd);
    world.exec(&mut child, "vim");
    child
}

#[test]
fn a_restart_keeps_the_session_and_its_starts() {
    let mut world = world();
    let bash = at_home(&mut world);
    let first = world.spawn(&bash, 20, "claude");
    world.exit(&first, 9);
    world.spawn(&bash, 21, "claude");
    assert_reported(
        &mut world,
        &[
            "started /srv/a 20 live roots=1",
            "ended /srv/a 20 ended roots=0 died",
            "started /srv/a 21 live roots=1",
        ],
    );
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(2));
}

#[test]
fn min_age_holds_back_a_first_session_only() {
    let mut world = World::new(vec![Rule { min_age_ns: 1_000_000, ..rule() }]);
    let bash = at_home(&mut world);
    let short = world.spawn(&bash, 20, "claude");
    world.exit(&short, 1);
    assert_eq!(world.core.poll_timeout(), None);
    let claude = world.spawn(&bash, 21, "claude");
    assert_reported(&mut world, &[]);
    let due = world.core.poll_timeout().expect("a root grows old");
    assert_eq!(due, BootTime(world.now + 1_000_000), "since its exec");
    world.wait(900_000);
    assert_reported(&mut world, &[]);
    world.wait(200_000);
    assert_reported(&mut world, &["started /srv/a 21 live roots=1"]);
    world.exit(&claude, 1);
    world.take_reports();
    // A crash loop in a home that has a session is reported at once.
    for tgid in 30..40 {
        let crash = world.spawn(&bash, tgid, "claude");
        world.exit(&crash, 1);
        assert_reported(
            &mut world,
            &[
                &format!("started /srv/a {tgid} live roots=1"),
                &format!("ended /srv/a {tgid} ended roots=0 died"),
            ],
        );
    }
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(11));
}

#[test]
fn min_age_holds_back_another_program_in_a_known_home() {
    let mut world = World::new(vec![Rule { min_age_ns: 1_000_000, ..rule() }]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.wait(1_100_000);
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    // Neither a second root while it is short-lived…
    let ls = world.spawn(&bash, 21, "ls");
    world.exit(&ls, 0);
    assert_reported(&mut world, &[]);
    // …nor a session of its own where one ended.
    world.exit(&claude, 0);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 died"]);
    let git = world.spawn(&bash, 22, "git");
    assert_reported(&mut world, &[]);
    world.wait(1_100_000);
    assert_reported(&mut world, &["started /srv/a 22 live roots=1"]);
    let codex = world.spawn(&bash, 23, "codex");
    assert_reported(&mut world, &[]);
    world.wait(1_100_000);
    assert_reported(&mut world, &["changed /srv/a 22 live roots=2"]);
    world.exit(&codex, 0);
    assert_reported(&mut world, &["changed /srv/a 22 live roots=1"]);
    world.exit(&git, 0);
}

#[test]
fn a_crash_loop_is_reported_though_its_launcher_was_a_candidate_before_the_exec() {
    let mut world = World::new(vec![Rule { min_age_ns: 1_000_000, ..rule() }]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.wait(1_100_000);
    world.exit(&claude, 1);
    world.take_reports();
    // As where a terminal is acquired between fork and exec: the child is another program's image in the
    // home.
    let mut launched = world.spawn(&bash, 21, "launcher");
    assert_reported(&mut world, &[]);
    world.exec(&mut launched, "claude");
    assert_reported(&mut world, &["started /srv/a 21 live roots=1"]);
    world.exit(&launched, 1);
    assert_reported(&mut world, &["ended /srv/a 21 ended roots=0 died"]);
}

#[test]
fn at_most_64_starts_are_kept() {
    let mut world = world();
    let bash = at_home(&mut world);
    for tgid in 100..200 {
        let crash = world.spawn(&bash, tgid, "claude");
        world.exit(&crash, 1);
    }
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(64));
}

#[test]
fn a_deleted_home_keeps_its_session_and_a_recreated_one_starts_another() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    claude.deleted = true;
    world.pass(&[&bash, &claude]);
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1 deleted"]);
    world.dirs.insert("/srv/a".into(), 9_999);
    let mut other = shell_child(&mut world, &bash, 21, "/root");
    world.chdir(&mut other, "/srv/a");
    world.wait(SETTLE_NS);
    assert_reported(
        &mut world,
        &[
            "ended /srv/a 20 ended roots=0 deleted replaced",
            "started /srv/a 21 live roots=1",
            "started /srv/a 20 live roots=1 deleted",
        ],
    );
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(1));
    world.exit(&claude, 0);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 deleted died"]);
}

#[test]
fn another_root_whose_directory_was_deleted_is_counted_no_more() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let mut other = world.spawn(&bash, 21, "claude");
    assert_eq!(world.session("/srv/a").map(|session| session.roots), Some(2));
    world.take_reports();
    other.deleted = true;
    world.pass(&[&bash, &claude, &other]);
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
}

#[test]
fn a_home_recreated_after_the_end_of_its_session_counts_starts_from_one() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.exit(&claude, 0);
    world.dirs.insert("/srv/a".into(), 9_999);
    let mut other = shell_child(&mut world, &bash, 21, "/root");
    world.take_reports();
    world.chdir(&mut other, "/srv/a");
    world.wait(SETTLE_NS);
    assert_reported(&mut world, &["started /srv/a 21 live roots=1"]);
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(1));
}

#[test]
fn a_directory_that_got_the_inode_number_of_a_deleted_one_is_another() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.exit(&claude, 0);
    world.incarnations.insert("/srv/a".into(), (7, 0));
    let mut other = shell_child(&mut world, &bash, 21, "/root");
    world.chdir(&mut other, "/srv/a");
    world.wait(SETTLE_NS);
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(1));
}

#[test]
fn an_inode_that_was_read_again_is_the_same_directory_unless_both_are_in_use() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.exit(&claude, 0);
    world.incarnations.insert("/srv/a".into(), (0, 7));
    let mut other = shell_child(&mut world, &bash, 21, "/root");
    world.chdir(&mut other, "/srv/a");
    world.wait(SETTLE_NS);
    assert_eq!(
        world.session("/srv/a").map(|session| session.starts.len()),
        Some(2),
        "it was freed meanwhile"
    );
    // The root of another subvolume has the same number and may have the same generation.
    world.incarnations.insert("/srv/a".into(), (0, 8));
    let mut next = shell_child(&mut world, &bash, 22, "/root");
    world.take_reports();
    world.chdir(&mut next, "/srv/a");
    world.wait(SETTLE_NS);
    let session = world.session("/srv/a").expect("a session");
    assert_eq!((session.primary, session.starts.len()), (next.key, 1), "{:?}", world.take_reports());
}

#[test]
fn a_deleted_directory_is_no_new_home() {
    let mut world = world();
    let mut bash = at_home(&mut world);
    bash.deleted = true;
    world.pass(&[&bash]);
    let mut child = world.spawn(&bash, 20, "claude");
    assert_reported(&mut world, &[]);
    child.deleted = false;
    world.chdir(&mut child, "/srv/a");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn a_birth_and_the_first_exec_are_one_start_and_the_next_exec_is_another() {
    let mut world = World::new(vec![rule()]);
    let mut bash = shell(&mut world);
    world.chdir(&mut bash, "/srv/a");
    let mut claude = world.fork(&bash, 20);
    // It takes its time, and the name comes before the rest.
    world.now += 60_000_000_000;
    claude.comm = "claude";
    let (at, key) = (world.tick_clock(), claude.key);
    world.feed(Input::Comm { at, key, comm: comm("claude") });
    let starts = |world: &World| world.session("/srv/a").expect("a session").starts.to_vec();
    assert_eq!(starts(&world), [key.start_boottime]);
    world.exec(&mut claude, "claude");
    assert_eq!(starts(&world), [BootTime(world.now)]);
    world.now += STARTING_NS;
    world.exec(&mut claude, "claude");
    assert_eq!(starts(&world).len(), 2);
}

#[test]
fn what_an_interpreter_executes_is_no_second_start_however_often_it_goes_on() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.fork(&bash, 20);
    world.exec(&mut claude, "claude");
    let first = BootTime(world.now);
    let starts = |world: &World| world.session("/srv/a").expect("a session").starts.to_vec();
    for _ in 0..3 {
        world.now += STARTING_NS / 4;
        world.exec(&mut claude, "claude");
        assert_eq!(starts(&world), [first]);
    }
    world.now += STARTING_NS / 4;
    world.exec(&mut claude, "claude");
    assert_eq!(starts(&world), [first, BootTime(world.now)], "it does not start for ever");
    // Another process is another start, however soon.
    world.exit(&claude, 1);
    world.spawn(&bash, 21, "claude");
    assert_eq!(starts(&world).len(), 3);
}

#[test]
fn the_session_of_a_renamed_home_moves_to_the_new_path() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    let ino = world.dirs.get("/srv/a").copied().unwrap_or_default();
    world.dirs.insert("/srv/b".into(), ino);
    claude.cwd = "/srv/b".into();
    let mut bash = bash;
    bash.cwd = "/srv/b".into();
    world.pass(&[&bash, &claude]);
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/srv/b"]);
    world.wait(SETTLE_NS);
    let moved = "ended /srv/a 20 ended roots=0 to=/srv/b moved";
    assert_reported(&mut world, &[moved, "started /srv/b 20 live roots=1"]);
    world.exit(&claude, 0);
    assert_reported(&mut world, &["ended /srv/b 20 ended roots=0 died"]);
}

#[test]
fn a_program_that_visits_another_home_for_less_than_a_second_is_no_session_there() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.chdir(&mut claude, "/srv/b");
    world.wait(SETTLE_NS - 1_000);
    world.chdir(&mut claude, "/srv/a");
    world.wait(SETTLE_NS);
    assert_reported(
        &mut world,
        &["changed /srv/a 20 left roots=1 to=/srv/b", "changed /srv/a 20 live roots=1"],
    );
    assert_eq!(world.core.sessions().count(), 1);
}

#[test]
fn a_walk_through_homes_is_one_session_and_one_change_a_step() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut walker = world.spawn(&bash, 20, "mc");
    world.take_reports();
    for step in 0..1_000 {
        world.chdir(&mut walker, &format!("/srv/{step}"));
        assert!(world.take_reports().len() <= 1);
        assert_eq!(world.core.sessions().count(), 1);
        assert!(world.reports.watched.len() <= 1);
    }
    world.wait(SETTLE_NS);
    let moved = "ended /srv/a 20 ended roots=0 to=/srv/999 moved";
    assert_reported(&mut world, &[moved, "started /srv/999 20 live roots=1"]);
    world.exit(&walker, 0);
    assert_reported(&mut world, &["ended /srv/999 20 ended roots=0 died"]);
    assert_eq!(world.core.poll_timeout(), None);
}

#[test]
fn a_walker_that_renames_itself_or_forks_at_each_step_is_no_session_of_any_step() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut walker = world.spawn(&bash, 20, "mc");
    world.take_reports();
    for step in 0..100 {
        world.chdir(&mut walker, &format!("/srv/{step}"));
        let (at, key) = (world.tick_clock(), walker.key);
        world.feed(Input::Comm { at, key, comm: comm(if step % 2 == 0 { "mc" } else { "md" }) });
        let child = world.fork(&walker, 100 + step);
        world.exit(&child, 0);
        assert_eq!(world.core.sessions().count(), 1);
    }
}

#[test]
fn a_primary_that_execs_in_another_home_is_no_session_there_before_it_stays() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    for step in 0..100 {
        world.chdir(&mut claude, &format!("/srv/{step}"));
        world.exec(&mut claude, "claude");
        assert!(world.take_reports().iter().all(|change| change.starts_with("changed /srv/a 20 left")));
    }
    world.wait(SETTLE_NS);
    let moved = "ended /srv/a 20 ended roots=0 to=/srv/99 moved";
    assert_reported(&mut world, &[moved, "started /srv/99 20 live roots=1"]);
}

#[test]
fn a_program_that_moves_before_its_exec_is_a_session_at_the_exec() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut child = world.fork(&bash, 20);
    world.chdir(&mut child, "/srv/b");
    world.exec(&mut child, "claude");
    assert_reported(&mut world, &["started /srv/b 20 live roots=1"]);
}

#[test]
fn a_primary_that_moves_into_the_home_of_another_ends_its_former_session() {
    let mut world = world();
    let mut bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.chdir(&mut bash, "/srv/b");
    world.spawn(&bash, 21, "codex");
    world.take_reports();
    world.chdir(&mut claude, "/srv/b");
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/srv/b"]);
    world.wait(SETTLE_NS);
    let moved = "ended /srv/a 20 ended roots=0 to=/srv/b moved";
    assert_reported(&mut world, &[moved, "changed /srv/b 21 live roots=2"]);
}

/// The home is the directory itself, as under the default rule.
fn follows_cwd() -> Rule {
    Rule { home: HomeRule::Cwd, min_age_ns: 1_000_000, ..rule() }
}

#[test]
fn under_a_rule_without_a_home_pattern_a_session_keeps_the_home_in_which_it_started() {
    let mut world = World::new(vec![follows_cwd()]);
    let bash = at_home(&mut world);
    let mut mc = world.spawn(&bash, 20, "mc");
    world.chdir(&mut mc, "/srv/settled");
    world.wait(1_000_000);
    assert_reported(&mut world, &["started /srv/settled 20 live roots=1"]);
    for step in 0..100 {
        world.chdir(&mut mc, &format!("/usr/{step}"));
        assert_reported(&mut world, &["changed /srv/settled 20 live roots=1"]);
        world.wait(2 * SETTLE_NS);
    }
    assert_reported(&mut world, &[]);
    world.exec(&mut mc, "mc");
    assert_reported(&mut world, &["changed /srv/settled 20 live roots=1"]);
    world.exec(&mut mc, "vim");
    assert_reported(&mut world, &["changed /srv/settled 20 left roots=1 to=/usr/99"]);
    world.wait(SETTLE_NS);
    assert_reported(
        &mut world,
        &["ended /srv/settled 20 ended roots=0 to=/usr/99 moved", "started /usr/99 20 live roots=1"],
    );
}

#[test]
fn a_primary_that_left_may_come_back() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.chdir(&mut claude, "/tmp");
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/tmp"]);
    world.chdir(&mut claude, "/var");
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/var"]);
    world.chdir(&mut claude, "/srv/a");
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
}

#[test]
fn another_root_becomes_primary_when_the_primary_leaves() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.spawn(&bash, 21, "codex");
    world.take_reports();
    world.chdir(&mut claude, "/srv/b");
    assert_reported(&mut world, &["changed /srv/a 21 live roots=1"]);
    world.wait(SETTLE_NS);
    assert_reported(&mut world, &["started /srv/b 20 live roots=1"]);
}

#[test]
fn a_helper_does_not_take_over_from_a_primary_that_left() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.spawn(&claude, 21, "node");
    world.take_reports();
    world.chdir(&mut claude, "/tmp");
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/tmp"]);
}

#[test]
fn a_session_whose_terminal_is_gone_is_detached() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    let at = world.tick_clock();
    world.feed(Input::Ids { at, key: claude.key, sid: 1, pgid: 1, tty: None });
    assert_reported(&mut world, &["changed /srv/a 20 detached roots=1"]);
    assert_eq!(world.session("/srv/a").map(|session| session.since), Some(at));
}

#[test]
fn a_daemon_that_never_had_a_terminal_is_live() {
    let mut world = world();
    let mut bash = at_home(&mut world);
    bash.tty = None;
    world.spawn(&bash, 20, "claude");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn a_candidate_stays_when_its_comm_or_terminal_no_longer_matches() {
    let tty = TtyRule::Matches(Box::new(Glob("pts/*")));
    let mut world =
        World::new(vec![Rule { conditions: Conditions { tty, ..only_comm(&["claude"]) }, ..rule() }]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    let at = world.tick_clock();
    world.feed(Input::Comm { at, key: claude.key, comm: support::comm("bash") });
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
    let at = world.tick_clock();
    world.feed(Input::Ids { at, key: claude.key, sid: 1, pgid: 1, tty: None });
    assert_reported(&mut world, &["changed /srv/a 20 detached roots=1"]);
}

#[test]
fn an_exec_of_a_program_that_no_rule_admits_ends_the_session() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.exec(&mut claude, "bash");
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 execed-away"]);
    assert_eq!(world.session("/srv/a").and_then(|session| session.death), None);
    world.exec(&mut claude, "claude");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
}

#[test]
fn another_root_becomes_primary_when_the_primary_execs_away() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.spawn(&bash, 21, "codex");
    world.take_reports();
    world.exec(&mut claude, "bash");
    assert_reported(&mut world, &["changed /srv/a 21 live roots=1"]);
}

#[test]
fn an_exec_away_ends_a_session_in_state_left() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.chdir(&mut claude, "/tmp");
    world.take_reports();
    world.exec(&mut claude, "bash");
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 to=/tmp execed-away"]);
}

#[test]
fn an_exec_of_the_same_program_is_one_more_start() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.now += STARTING_NS;
    world.exec(&mut claude, "claude");
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(2));
}

#[test]
fn two_homes_with_the_same_basename_are_two_sessions() {
    let mut world = World::new(vec![Rule { home: HomeRule::Cwd, ..rule() }]);
    let mut bash = at_home(&mut world);
    world.chdir(&mut bash, "/x/app");
    world.spawn(&bash, 20, "claude");
    world.chdir(&mut bash, "/y/app");
    world.spawn(&bash, 21, "claude");
    assert_reported(&mut world, &["started /x/app 20 live roots=1", "started /y/app 21 live roots=1"]);
    let names: Vec<Vec<u8>> = world.core.sessions().map(|(session, _)| session.name.to_vec()).collect();
    assert_eq!(names, [b"app".to_vec(), b"app".to_vec()]);
}

#[test]
fn the_name_follows_the_template() {
    let mut world = World::new(vec![Rule { name: "[{basename}] {home} {other}".into(), ..rule() }]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    let name = world.session("/srv/a").map(|session| session.name.to_vec());
    assert_eq!(name, Some(b"[a] /srv/a {other}".to_vec()));
}

#[test]
fn a_rule_admits_a_program_whatever_its_comm() {
    let rule = Rule { conditions: only_program(&["claude", "codex"]), name: "{program}".into(), ..rule() };
    let mut world = World::new(vec![rule]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 19, "vim");
    assert_reported(&mut world, &[]);
    let mut claude = world.spawn(&bash, 20, "claude");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    let at = world.tick_clock();
    world.feed(Input::Comm { at, key: claude.key, comm: comm("MainThread") });
    assert_eq!(world.session("/srv/a").map(|session| session.name.to_vec()), Some(b"claude".to_vec()));
    world.exec(&mut claude, "codex");
    assert_eq!(world.session("/srv/a").map(|session| session.name.to_vec()), Some(b"codex".to_vec()));
    world.take_reports();
    world.exec(&mut claude, "vim");
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 execed-away"]);
}

#[test]
fn a_program_that_is_known_later_is_admitted_then() {
    let mut world = World::new(vec![Rule { conditions: only_program(&["gemini"]), ..rule() }]);
    let bash = at_home(&mut world);
    let node = Proc { key: ProcessKey::new(20, 7), parent: bash.key, comm: "node", ..bash.clone() };
    world.pass(&[&bash, &node]);
    assert_reported(&mut world, &[]);
    let at = world.tick_clock();
    let argv = Block { bytes: b"node\0/usr/bin/gemini\0", truncated: false };
    let env = Block::default();
    world.feed(Input::Memory { at, key: node.key, exec_id: node.exec_id, argv, env });
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    // A child inherits its parent's image, and is another program once it has executed one.
    let mut child = world.fork(&node, 21);
    let program = |world: &World| world.core.process(Tgid(21)).and_then(|it| it.program.clone());
    assert_eq!(program(&world).as_deref(), Some(b"gemini".as_slice()));
    world.exec(&mut child, "git");
    assert_eq!(program(&world).as_deref(), Some(b"git".as_slice()));
}

#[test]
fn what_is_ignored_is_no_session_and_no_wrapper() {
    let ignored = vec![
        Ignore { conditions: only_comm(&["less", "env"]), ..Ignore::default() },
        Ignore { cwd: globs(&["/srv/b"]), conditions: only_comm(&["tail"]) },
    ];
    let mut world = World::ignoring(ignored, vec![rule()]);
    let bash = at_home(&mut world);
    let less = world.spawn(&bash, 20, "less");
    let env = world.spawn(&bash, 21, "env");
    assert_reported(&mut world, &[]);
    // The program below an ignored wrapper stands for itself.
    world.spawn(&env, 22, "claude");
    assert_reported(&mut world, &["started /srv/a 22 live roots=1"]);
    world.spawn(&less, 23, "tail");
    assert_reported(&mut world, &["changed /srv/a 22 live roots=2"]);
}

#[test]
fn a_process_below_a_directory_that_is_ignored_there_is_no_session() {
    let ignored = vec![Ignore { cwd: globs(&["/srv/a"]), ..Ignore::default() }];
    let mut world = World::ignoring(ignored, vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.chdir(&mut claude, "/srv/a/below");
    assert_reported(&mut world, &[]);
}

#[test]
fn a_rule_on_the_executable_does_not_match_a_file_in_memory() {
    let exe = Conditions { exe: globs(&["/memfd:*"]), ..Conditions::default() };
    let mut world = World::new(vec![Rule { conditions: exe, ..rule() }]);
    let bash = at_home(&mut world);
    let child = world.fork(&bash, 20);
    let (at, facts) = (world.tick_clock(), world.facts(&child));
    let flags = path_flag::UNREACHABLE | path_flag::DELETED;
    world.feed(Input::Exec {
        at,
        key: child.key,
        facts,
        exe: RawPath { components: b"memfd:agent\0", flags },
        filename: b"/proc/self/fd/3",
        argv: Block::default(),
        env: Block::default(),
    });
    let exe = world.core.process(Tgid(20)).and_then(|process| process.exe.clone());
    assert_eq!(exe.as_deref(), Some(b"/memfd:agent".as_slice()));
    assert_reported(&mut world, &[]);
}

#[test]
fn a_primary_that_execs_what_is_ignored_ends_its_session() {
    let ignored = vec![Ignore { conditions: only_comm(&["less"]), ..Ignore::default() }];
    let mut world = World::ignoring(ignored, vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.exec(&mut claude, "less");
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 execed-away"]);
}

#[test]
fn a_rule_with_owner_waits_for_the_owner_of_the_home() {
    let mut world = World::new(vec![Rule { owner: true, ..rule() }]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    assert_reported(&mut world, &[]);
    assert_eq!(world.reports.owner_requests, [b"/srv/a".to_vec()]);
    let at = world.tick_clock();
    world.feed(Input::HomeOwner { at, home: &home("/srv/a"), owner: Some(7) });
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    world.exit(&claude, 0);
    world.take_reports();
    world.spawn(&bash, 21, "claude");
    let at = world.tick_clock();
    world.feed(Input::HomeOwner { at, home: &home("/srv/a"), owner: Some(8) });
    assert_reported(&mut world, &[]);
    assert_eq!(world.reports.owner_requests.len(), 2);
}

#[test]
fn the_owner_of_a_home_counts_for_a_program_that_starts_after_the_asker_has_died() {
    let mut world = World::new(vec![Rule { owner: true, ..rule() }]);
    let bash = at_home(&mut world);
    let ls = world.spawn(&bash, 20, "ls");
    world.exit(&ls, 0);
    world.spawn(&bash, 21, "claude");
    for _ in 0..2 {
        // The first answer may be from before it started.
        let at = world.tick_clock();
        world.feed(Input::HomeOwner { at, home: &home("/srv/a"), owner: Some(7) });
    }
    assert_reported(&mut world, &["started /srv/a 21 live roots=1"]);
}

#[test]
fn the_owner_is_asked_for_again_when_a_process_joins_or_comes_back() {
    let mut world = World::new(vec![Rule { owner: true, ..rule() }]);
    let bash = at_home(&mut world);
    let answer = |world: &mut World, uid| {
        let at = world.tick_clock();
        world.feed(Input::HomeOwner { at, home: &home("/srv/a"), owner: Some(uid) });
    };
    let mut claude = world.spawn(&bash, 20, "claude");
    answer(&mut world, 7);
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    world.spawn(&bash, 21, "codex");
    assert_reported(&mut world, &[]);
    answer(&mut world, 8);
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
    assert_eq!(world.session("/srv/a").and_then(|session| session.foreign), Some(true));
    // It leaves, the directory is replaced by one of another user, and it comes back.
    world.chdir(&mut claude, "/tmp");
    world.take_reports();
    let asked = world.reports.owner_requests.len();
    world.chdir(&mut claude, "/srv/a");
    assert_eq!(world.reports.owner_requests.len(), asked + 1);
    answer(&mut world, 8);
    world.wait(10 * SETTLE_NS);
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/srv/a"]);
    assert_eq!(world.session("/srv/a").map(|session| session.state), Some(State::Left));
}

#[test]
fn an_answer_that_nobody_waits_for_leaves_the_home_to_be_asked_for_again() {
    let mut world = World::new(vec![Rule { owner: true, ..rule() }]);
    let bash = at_home(&mut world);
    let ls = world.spawn(&bash, 20, "ls");
    world.exit(&ls, 0);
    let at = world.tick_clock();
    world.feed(Input::HomeOwner { at, home: &home("/srv/a"), owner: Some(7) });
    world.spawn(&bash, 21, "claude");
    assert_eq!(world.reports.owner_requests.len(), 2);
    let at = world.tick_clock();
    world.feed(Input::HomeOwner { at, home: &home("/srv/a"), owner: Some(7) });
    assert_reported(&mut world, &["started /srv/a 21 live roots=1"]);
}

#[test]
fn what_a_session_runs_where_it_went_is_no_session_of_that_directory() {
    let mut world = World::new(vec![follows_cwd()]);
    let bash = at_home(&mut world);
    let mut mc = world.spawn(&bash, 20, "mc");
    world.wait(1_000_000);
    world.chdir(&mut mc, "/usr/share");
    world.take_reports();
    world.spawn(&mc, 21, "htop");
    world.wait(10 * SETTLE_NS);
    assert_reported(&mut world, &[]);
    assert_eq!(world.core.sessions().count(), 1);
}

#[test]
fn a_primary_that_moves_to_the_home_of_a_session_above_it_keeps_its_session() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut above = world.spawn(&bash, 19, "bash");
    let mut claude = world.spawn(&above, 20, "claude");
    world.chdir(&mut above, "/srv/b");
    world.exec(&mut above, "codex");
    world.wait(SETTLE_NS);
    world.take_reports();
    world.chdir(&mut claude, "/srv/b");
    world.wait(SETTLE_NS);
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/srv/b"]);
}

#[test]
fn a_process_that_moves_on_before_it_has_settled_waits_again() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.chdir(&mut claude, "/srv/b");
    world.wait(SETTLE_NS / 2);
    // A rename: the same directory is found at another path.
    let ino = world.dirs.get("/srv/b").copied().unwrap_or_default();
    world.dirs.insert("/srv/c".into(), ino);
    claude.cwd = "/srv/c".into();
    world.pass(&[&bash, &claude]);
    world.take_reports();
    world.wait(SETTLE_NS * 3 / 4);
    assert_reported(&mut world, &[]);
    world.wait(SETTLE_NS / 2);
    assert_reported(
        &mut world,
        &["ended /srv/a 20 ended roots=0 to=/srv/c moved", "started /srv/c 20 live roots=1"],
    );
}

#[test]
fn a_process_that_goes_on_inside_the_home_in_which_it_settles_does_not_wait_again() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.chdir(&mut claude, "/srv/b");
    world.wait(SETTLE_NS / 2);
    world.chdir(&mut claude, "/srv/b/below");
    world.take_reports();
    world.wait(SETTLE_NS / 2);
    assert_reported(
        &mut world,
        &["ended /srv/a 20 ended roots=0 to=/srv/b moved", "started /srv/b 20 live roots=1"],
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    let named = Rule { conditions: only_comm(&["codex"]), name: "codex".into(), ..rule() };
    let by_user = Rule { conditions: only_uid(8), name: "user".into(), ..rule() };
    let mut world = World::new(vec![by_user, named, rule()]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "codex");
    let session = world.session("/srv/a").expect("admitted");
    assert_eq!((session.rule, &*session.name), (1, b"codex".as_slice()));
}

#[test]
fn the_same_path_in_another_mount_namespace_is_another_home() {
    let mut world = world();
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    world.take_reports();
    let child = world.spawn(&bash, 21, "claude");
    world.take_reports();
    let at = world.tick_clock();
    let raw = support::components("/srv/a");
    let path = observer_core::input::RawPath { components: &raw, flags: 0 };
    let cwd = world.dir("/srv/a");
    world.feed(Input::Cwd { at, key: child.key, cwd, mnt_ns: 2, path, fs_shared: false });
    let homes: Vec<Option<u32>> = world.core.sessions().map(|(session, _)| session.home.mnt_ns).collect();
    assert_eq!(homes, [None, Some(2)]);
}

#[test]
fn a_number_that_another_mount_namespace_gets_is_another_home() {
    let mut world = world();
    let bash = at_home(&mut world);
    let contained = |world: &mut World, tgid| {
        let mut child = world.fork(&bash, tgid);
        child.mnt_ns = 2;
        world.exec(&mut child, "claude");
        world.chdir(&mut child, "/srv/a");
        world.wait(SETTLE_NS);
        child
    };
    let starts = |world: &World| {
        let mut sessions = world.core.sessions();
        let of_home = sessions.find(|(session, _)| session.home.mnt_ns == Some(2));
        of_home.map(|(session, _)| session.starts.len())
    };
    let first = contained(&mut world, 20);
    world.exit(&first, 0);
    let second = contained(&mut world, 21);
    assert_eq!(starts(&world), Some(1), "nothing of the first namespace is left");
    // A process that stays keeps the namespace: the next start is one of the same home.
    let mut init = world.fork(&second, 22);
    world.exec(&mut init, "bash");
    world.exit(&second, 0);
    contained(&mut world, 23);
    assert_eq!(starts(&world), Some(2));
}

#[test]
fn a_candidate_whose_cwd_is_being_read_again_stays_a_candidate() {
    let mut world = world();
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    // The exec names a directory whose path is not known yet.
    claude.cwd = "/tmp".into();
    world.exec(&mut claude, "claude");
    assert_eq!(world.session("/srv/a").map(|session| session.state), Some(State::Live));
    assert!(!world.reports.pass_requests.is_empty());
    world.take_reports();
    world.pass(&[&bash, &claude]);
    assert_reported(&mut world, &["changed /srv/a 20 left roots=1 to=/tmp"]);
}

#[test]
fn doubled_inputs_report_nothing_twice() {
    let mut world = world();
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.take_reports();
    let at = BootTime(world.now);
    let facts = world.facts(&claude);
    world.feed(Input::Fork { at: claude.key.start_boottime, key: claude.key, facts, creator: bash.key });
    world.feed(Input::Comm { at, key: claude.key, comm: support::comm("claude") });
    assert_reported(&mut world, &[]);
    world.exit(&claude, 9);
    world.exit(&claude, 0);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 died"]);
    assert_eq!(world.core.counters().duplicate_exits, 1);
}
