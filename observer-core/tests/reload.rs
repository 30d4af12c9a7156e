//! Other rules for a live map. Each test shows one fact.

mod support;

use observer_core::Rule;
use observer_core::limits::SETTLE_NS;
use observer_core::rule::{HomeRule, Ignore};
use support::{World, assert_reported, at_home, globs, only_program, rule};

fn only(program: &'static str) -> Rule {
    Rule { conditions: only_program(&[program]), ..rule() }
}

#[test]
fn a_session_that_the_new_rules_admit_goes_on() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    world.take_reports();
    world.set_rules(vec![only("codex"), only("claude")], Vec::new());
    assert_eq!(world.session("/srv/a").map(|session| (session.rule, session.starts.len())), Some((1, 1)));
    // By another rule.
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
    world.set_rules(vec![only("codex"), only("claude")], Vec::new());
    assert_reported(&mut world, &[]);
}

#[test]
fn a_session_that_no_rule_admits_ends_and_what_they_admit_begins() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    world.spawn(&bash, 21, "codex");
    world.take_reports();
    world.set_rules(vec![only("codex")], Vec::new());
    assert_reported(
        &mut world,
        &["ended /srv/a 20 ended roots=0 not-admitted", "started /srv/a 21 live roots=1"],
    );
    world.set_rules(vec![rule()], vec![Ignore { conditions: only_program(&["codex"]), ..Ignore::default() }]);
    assert_reported(
        &mut world,
        &["ended /srv/a 21 ended roots=0 not-admitted", "started /srv/a 20 live roots=1"],
    );
    world.set_rules(Vec::new(), Vec::new());
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 not-admitted"]);
}

#[test]
fn rules_with_other_homes_move_the_sessions() {
    let mut world = World::new(vec![rule()]);
    let mut bash = at_home(&mut world);
    world.chdir(&mut bash, "/srv/a/sub");
    world.spawn(&bash, 20, "claude");
    world.take_reports();
    let deeper = HomeRule::Prefix(globs(&["/srv/a/*"]));
    world.set_rules(vec![Rule { home: deeper, ..rule() }], Vec::new());
    assert_reported(
        &mut world,
        &["ended /srv/a 20 ended roots=0 to=/srv/a/sub moved", "started /srv/a/sub 20 live roots=1"],
    );
}

#[test]
fn a_primary_that_left_keeps_its_session_and_may_come_back() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    let helper = world.spawn(&claude, 21, "node");
    world.chdir(&mut claude, "/tmp");
    world.take_reports();
    world.set_rules(vec![rule()], Vec::new());
    assert_reported(&mut world, &[]);
    world.chdir(&mut claude, "/srv/a");
    assert_reported(&mut world, &["changed /srv/a 20 live roots=1"]);
    world.exit(&helper, 0);
    world.exit(&claude, 0);
    world.wait(2 * SETTLE_NS);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 died"]);
}

#[test]
fn a_primary_that_stays_elsewhere_while_the_rules_are_read_again_is_a_session_there() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    world.chdir(&mut claude, "/srv/b");
    world.set_rules(vec![rule()], Vec::new());
    world.take_reports();
    world.wait(2 * SETTLE_NS);
    assert_reported(
        &mut world,
        &["ended /srv/a 20 ended roots=0 to=/srv/b moved", "started /srv/b 20 live roots=1"],
    );
}

#[test]
fn what_stood_aside_in_a_session_that_ended_comes_not_before_its_program() {
    let mut world = World::new(vec![rule()]);
    let mut bash = at_home(&mut world);
    let mut launcher = world.spawn(&bash, 20, "claude");
    let inner = world.spawn(&launcher, 21, "claude");
    world.exit(&inner, 0);
    world.chdir(&mut launcher, "/tmp");
    world.set_rules(Vec::new(), Vec::new());
    // The program is started again, and what launched it is another one by now.
    world.exec(&mut launcher, "codex");
    world.chdir(&mut launcher, "/srv/a");
    world.chdir(&mut bash, "/srv/a");
    let again = world.spawn(&bash, 30, "claude");
    world.set_rules(vec![rule()], Vec::new());
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(again.key));
}
