//! Who owns the directory of a home, which changes without an event of any process. Each test shows one fact.

mod support;

use std::collections::BTreeSet;

use observer_core::explanation::{Position, Unmet};
use observer_core::limits::{OWNER_CHECK_NS, OWNER_CHECKS_A_USER, OWNERS_A_TURN_MAX};
use observer_core::process::Uids;
use observer_core::rule::{HomeRule, Instances};
use observer_core::session::{Home, State};
use observer_core::{Input, Rule};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use support::{Proc, World, at_home, globs, only_uid, rule, shell};

const VICTIM: u32 = 7;
const STRANGER: u32 = 8;
const MIN_AGE_NS: u64 = 1_000_000_000;

fn owned() -> Rule {
    Rule { owner: true, ..rule() }
}

/// Answers each request, and those that follow, until there are no more. Returns how many there were.
fn answer_all(world: &mut World, owner_of: impl Fn(&Home) -> Option<u32>) -> usize {
    let mut answers = 0;
    while let Some(home) = world.reports.unanswered.pop() {
        let at = world.tick_clock();
        let owner = owner_of(&home);
        world.feed(Input::HomeOwner { at, home: &home, owner });
        answers += 1;
        assert!(answers < 10_000, "there is no end to the requests");
    }
    answers
}

/// Lets the time pass after which an owner is read again, and answers. Returns how many were read.
fn check_all(world: &mut World, owner_of: impl Fn(&Home) -> Option<u32>) -> usize {
    world.wait(OWNER_CHECK_NS);
    let mut answers = 0;
    loop {
        let more = answer_all(world, &owner_of);
        if more == 0 {
            return answers;
        }
        answers += more;
        // Only some are read at a time.
        world.wait(0);
    }
}

fn is(path: &str, home: &Home) -> bool {
    *home.path == *path.as_bytes()
}

#[test]
fn who_was_refused_is_a_session_once_the_directory_is_theirs() {
    let mut world = World::new(vec![owned()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.answer_owner(VICTIM, Some(STRANGER));
    // Its child was refused with it, so nobody asks for that one.
    world.fork(&claude, 21);
    assert_eq!((world.sessions_of_users(), world.reports.owner_requests.len()), (vec![], 1));
    world.wait(OWNER_CHECK_NS);
    assert_eq!(world.reports.owner_requests.len(), 2, "a chown is no event, so the owner is read again");
    world.answer_owner(VICTIM, Some(STRANGER));
    world.wait(OWNER_CHECK_NS);
    world.answer_owner(VICTIM, Some(VICTIM));
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Live)]);
    world.exit(&claude, 0);
    assert_eq!(world.sessions_of_users(), [(VICTIM, 21, State::Live)], "its child was no stranger either");
    world.assert_reports_give_the_map();
}

#[test]
fn a_home_whose_owner_is_not_known_is_undecided() {
    let undecided = |world: &World| -> Vec<String> {
        let names = world
            .core
            .undecided()
            .map(|it| format!("{} {}", String::from_utf8_lossy(&it.name), it.key.tgid.0));
        names.collect()
    };
    let mut world = World::new(vec![owned()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let expected = ["a 20"];
    assert_eq!(undecided(&world), expected, "nobody has answered");
    world.answer_owner(VICTIM, None);
    assert_eq!(undecided(&world), expected, "it cannot be read");
    world.wait(OWNER_CHECK_NS);
    assert_eq!(undecided(&world), expected, "it is read again");
    world.answer_owner(VICTIM, Some(STRANGER));
    assert!(undecided(&world).is_empty(), "it is a stranger's");
    world.wait(OWNER_CHECK_NS);
    assert!(undecided(&world).is_empty(), "it was a stranger's a moment ago");
    world.answer_owner(VICTIM, Some(VICTIM));
    assert!(undecided(&world).is_empty(), "it is a session");
    world.exit(&claude, 0);
    assert!(undecided(&world).is_empty());
    world.assert_reports_give_the_map();
}

#[test]
fn the_owner_of_a_home_is_read_again_as_long_as_that_decides_anything() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    world.answer_owner(VICTIM, Some(VICTIM));
    for (owner, is_foreign) in
        [(Some(STRANGER), Some(true)), (Some(VICTIM), Some(false)), (None, Some(false))]
    {
        let asked = world.reports.owner_requests.len();
        world.wait(OWNER_CHECK_NS);
        assert_eq!(world.reports.owner_requests.len(), asked + 1);
        world.wait(10 * OWNER_CHECK_NS);
        assert_eq!(world.reports.owner_requests.len(), asked + 1, "not before there is an answer");
        world.answer_owner(VICTIM, owner);
        assert_eq!(world.foreign(VICTIM), is_foreign);
    }
    world.exit(&claude, 0);
    let asked = world.reports.owner_requests.len();
    world.wait(10 * OWNER_CHECK_NS);
    assert_eq!(world.reports.owner_requests.len(), asked, "an ended session is nobody's");
}

#[test]
fn who_was_refused_and_went_elsewhere_or_died_claims_nothing() {
    let mut world = World::new(vec![owned()]);
    let bash = at_home(&mut world);
    let mut moved = world.spawn(&bash, 20, "claude");
    world.answer_owner(VICTIM, Some(STRANGER));
    let died = world.spawn(&bash, 21, "codex");
    world.answer_owner(VICTIM, Some(STRANGER));
    world.chdir(&mut moved, "/tmp");
    world.exit(&died, 0);
    let asked = world.reports.owner_requests.len();
    world.wait(10 * OWNER_CHECK_NS);
    assert_eq!(world.reports.owner_requests.len(), asked);
}

#[test]
fn a_user_with_many_homes_has_no_more_owners_read_in_a_second() {
    let mut world = World::new(vec![owned()]);
    let init = shell(&mut world);
    let homes = 3 * OWNER_CHECKS_A_USER;
    for number in 0..homes as u32 {
        let mut bash = world.fork(&init, 100 + 2 * number);
        world.chdir(&mut bash, &format!("/srv/{number}"));
        world.spawn(&bash, 101 + 2 * number, "claude");
    }
    answer_all(&mut world, |_| Some(STRANGER));
    let (mut reads, mut read) = (0, BTreeSet::new());
    let periods = 6;
    for _ in 0..periods {
        world.reports.owner_requests.clear();
        reads += check_all(&mut world, |_| Some(STRANGER)) as u64;
        read.extend(world.reports.owner_requests.iter().cloned());
    }
    assert!(reads <= periods * OWNER_CHECKS_A_USER, "{reads} reads in {periods} periods");
    assert_eq!(read.len() as u64, homes, "each has its turn");
}

#[test]
fn two_rules_with_owner_and_homes_of_their_own_ask_for_each_home_once() {
    let deeper = Rule { home: HomeRule::Prefix(globs(&["/srv/a/*"])), ..owned() };
    let mut world = World::new(vec![owned(), deeper]);
    let mut bash = at_home(&mut world);
    world.chdir(&mut bash, "/srv/a/b");
    let claude = world.spawn(&bash, 20, "claude");
    let asked = answer_all(&mut world, |_| Some(STRANGER));
    assert_eq!((asked, world.sessions_of_users()), (2, vec![]));
    let position = world.core.explain(claude.key.tgid).map(|explanation| explanation.position);
    assert_eq!(position, Some(Position::NotAdmitted));
    world.reports.owner_requests.clear();
    check_all(&mut world, |_| Some(STRANGER));
    assert_eq!(world.reports.owner_requests, [b"/srv/a".to_vec(), b"/srv/a/b".to_vec()]);
    check_all(&mut world, |home| Some(if is("/srv/a/b", home) { VICTIM } else { STRANGER }));
    assert!(world.session("/srv/a/b").is_some() && world.session("/srv/a").is_none());
}

#[test]
fn the_owner_is_read_again_of_a_session_that_waited_for_its_age() {
    let mut world = World::new(vec![Rule { min_age_ns: MIN_AGE_NS, ..owned() }]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    answer_all(&mut world, |_| Some(VICTIM));
    world.wait(MIN_AGE_NS);
    assert_eq!(
        (world.sessions_of_users(), world.foreign(VICTIM)),
        (vec![(VICTIM, 20, State::Live)], Some(false))
    );
    check_all(&mut world, |_| Some(STRANGER));
    assert_eq!(world.foreign(VICTIM), Some(true));
}

#[test]
fn other_rules_keep_a_session_whose_owner_is_being_read_again_or_cannot_be_read() {
    let mut world = World::new(vec![owned()]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    answer_all(&mut world, |_| Some(VICTIM));
    world.wait(OWNER_CHECK_NS);
    world.take_reports();
    world.set_rules(vec![owned()], Vec::new());
    assert_eq!(world.take_reports(), Vec::<String>::new());
    answer_all(&mut world, |_| Some(VICTIM));
    check_all(&mut world, |_| None);
    world.set_rules(vec![owned()], Vec::new());
    assert_eq!((world.take_reports(), world.foreign(VICTIM)), (vec![], Some(false)));
    check_all(&mut world, |_| Some(STRANGER));
    assert_eq!(world.foreign(VICTIM), Some(true), "and it is read again after that");
}

#[test]
fn the_owner_is_read_of_a_session_on_which_it_has_no_bearing_before_other_rules() {
    let mut world = World::new(vec![Rule { conditions: only_uid(VICTIM), ..rule() }]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    assert_eq!((answer_all(&mut world, |_| Some(STRANGER)), world.foreign(VICTIM)), (0, Some(false)));
    world.set_rules(vec![rule()], Vec::new());
    answer_all(&mut world, |_| Some(STRANGER));
    assert_eq!(world.foreign(VICTIM), Some(true));
}

#[test]
fn each_session_of_a_home_has_its_owner_and_stays_under_the_same_rules() {
    let mut world = World::new(vec![Rule { instances: Instances::Each, ..owned() }]);
    let bash = at_home(&mut world);
    for (tgid, tty) in [(20, "pts4"), (30, "pts5")] {
        let mut shell = world.fork(&bash, tgid);
        world.set_tty(&mut shell, Some(tty));
        world.exec(&mut shell, "bash");
        world.spawn(&shell, tgid + 1, "claude");
        answer_all(&mut world, |_| Some(VICTIM));
    }
    let shown = |world: &World| -> Vec<_> {
        let sessions = world.core.sessions();
        sessions.map(|(session, _)| (session.home.instance, session.owner, session.foreign)).collect()
    };
    let expected = [(1, Some(VICTIM), Some(false)), (2, Some(VICTIM), Some(false))];
    assert_eq!(shown(&world), expected);
    world.take_reports();
    world.set_rules(vec![Rule { instances: Instances::Each, ..owned() }], Vec::new());
    answer_all(&mut world, |_| Some(VICTIM));
    assert_eq!((world.take_reports(), &shown(&world)[..]), (vec![], &expected[..]));
}

#[test]
fn who_comes_again_and_again_does_not_keep_its_session_from_being_foreign() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let mut claude = world.spawn(&bash, 20, "claude");
    for _ in 0..10 {
        world.chdir(&mut claude, "/tmp");
        world.chdir(&mut claude, "/srv/a");
        world.answer_owner(VICTIM, Some(STRANGER));
    }
    assert_eq!(world.foreign(VICTIM), Some(true));
}

#[test]
fn of_many_who_claim_a_home_some_are_decided_on_at_a_time() {
    let mut world = World::new(vec![owned()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    answer_all(&mut world, |_| Some(STRANGER));
    let claimants = 5 * OWNERS_A_TURN_MAX;
    for number in 0..claimants as u32 {
        world.fork(&claude, 100 + number);
    }
    let reads = check_all(&mut world, |_| Some(VICTIM));
    assert!((6..10).contains(&reads), "{reads} reads for five turns and a rest");
    assert_eq!(world.sessions_of_users(), [(VICTIM, 20, State::Live)]);
}

#[test]
fn that_an_owner_cannot_be_read_is_not_taken_for_another_owner() {
    let mut world = World::new(vec![owned()]);
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let unmet = |world: &World| {
        world.core.explain(claude.key.tgid).and_then(|explanation| *explanation.rules.first()?)
    };
    answer_all(&mut world, |_| None);
    assert_eq!(unmet(&world), Some(Unmet::OwnerUnknown));
    check_all(&mut world, |_| Some(STRANGER));
    assert_eq!(unmet(&world), Some(Unmet::Owner));
    world.wait(OWNER_CHECK_NS);
    assert_eq!(unmet(&world), Some(Unmet::Owner), "while it is read again");
}

/// A program of `uid` in `home`, which its rule refuses.
fn refused(world: &mut World, init: &Proc, tgid: u32, uid: u32, home: &str) {
    let mut bash = world.fork(init, tgid);
    let at = world.tick_clock();
    bash.uid = uid;
    world.feed(Input::Creds { at, key: bash.key, uids: Uids { uid, euid: uid, suid: uid } });
    world.chdir(&mut bash, home);
    world.spawn(&bash, tgid + 1, "claude");
    answer_all(world, |_| Some(STRANGER + 1));
}

#[test]
fn owners_that_nobody_answers_keep_no_other_from_being_read_for_long() {
    let mut world = World::new(vec![owned()]);
    let init = shell(&mut world);
    for (number, home) in ["/srv/a", "/srv/b", "/srv/c"].into_iter().enumerate() {
        refused(&mut world, &init, 100 + 10 * number as u32, VICTIM, home);
    }
    world.wait(OWNER_CHECK_NS);
    assert_eq!(world.reports.unanswered.len(), 2, "so many at a time");
    let unanswered = std::mem::take(&mut world.reports.unanswered);
    refused(&mut world, &init, 200, STRANGER, "/srv/d");
    for _ in 0..10 {
        world.wait(OWNER_CHECK_NS);
    }
    let asked: Vec<&Home> = world.reports.unanswered.iter().collect();
    assert!(asked.iter().all(|home| home.uid == STRANGER) && !asked.is_empty(), "{asked:?}");
    for home in &unanswered {
        let at = world.tick_clock();
        world.feed(Input::HomeOwner { at, home, owner: Some(VICTIM) });
    }
    assert_eq!(world.core.sessions().count(), 2, "late answers count");
}

#[test]
fn a_user_with_many_homes_delays_the_reads_of_no_other() {
    let mut world = World::new(vec![owned()]);
    let init = shell(&mut world);
    for number in 0..3 * OWNER_CHECKS_A_USER as u32 {
        refused(&mut world, &init, 1000 + 2 * number, VICTIM, &format!("/srv/{number}"));
    }
    refused(&mut world, &init, 10, STRANGER, "/srv/other");
    world.reports.owner_requests.clear();
    check_all(&mut world, |_| Some(STRANGER + 1));
    assert!(world.reports.owner_requests.contains(&b"/srv/other".to_vec()));
}

#[derive(Clone, Debug)]
enum Step {
    Spawn { parent: Index, is_agent: bool },
    Fork { parent: Index },
    Chdir { process: Index, dir: &'static str },
    Exec { process: Index, is_agent: bool },
    Exit { process: Index },
    Answer { owner: Option<u32> },
    Wait { ns: u64 },
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = prop_oneof![Just(None), Just(Some(VICTIM)), Just(Some(STRANGER))];
    let dir = select(vec!["/srv/a", "/srv/b", "/srv/a/b", "/tmp"]);
    let step = prop_oneof![
        3 => any::<(Index, bool)>().prop_map(|(parent, is_agent)| Step::Spawn { parent, is_agent }),
        2 => any::<Index>().prop_map(|parent| Step::Fork { parent }),
        3 => (any::<Index>(), dir).prop_map(|(process, dir)| Step::Chdir { process, dir }),
        2 => any::<(Index, bool)>().prop_map(|(process, is_agent)| Step::Exec { process, is_agent }),
        2 => any::<Index>().prop_map(|process| Step::Exit { process }),
        6 => owner.prop_map(|owner| Step::Answer { owner }),
        3 => (0..3 * OWNER_CHECK_NS).prop_map(|ns| Step::Wait { ns }),
        1 => Just(Step::Reload),
    ];
    proptest::collection::vec(step, 0..60)
}

fn rules() -> Vec<Rule> {
    let deeper = Rule { home: HomeRule::Prefix(globs(&["/srv/a/*"])), ..owned() };
    vec![deeper, owned()]
}

/// Makes the world that follows from the steps, and returns its processes. The invariants are checked after each.
fn world_of(steps: &[Step]) -> (World, Vec<Proc>) {
    let mut world = World::new(rules());
    let mut processes = vec![at_home(&mut world)];
    let name = |is_agent: bool| if is_agent { "claude" } else { "bash" };
    for (tgid, step) in (100..).zip(steps) {
        match step {
            Step::Spawn { parent, is_agent } => {
                let parent = parent.get(&processes).clone();
                processes.push(world.spawn(&parent, tgid, name(*is_agent)));
            }
            Step::Fork { parent } => {
                let parent = parent.get(&processes).clone();
                processes.push(world.fork(&parent, tgid));
            }
            Step::Chdir { process, dir } => world.chdir(process.get_mut(&mut processes), dir),
            Step::Exec { process, is_agent } => world.exec(process.get_mut(&mut processes), name(*is_agent)),
            Step::Exit { process } if processes.len() > 1 => {
                world.exit(&processes.remove(process.index(processes.len())), 0);
            }
            Step::Exit { .. } => {}
            Step::Answer { owner } => {
                if let Some(home) = world.reports.unanswered.pop() {
                    let at = world.tick_clock();
                    world.feed(Input::HomeOwner { at, home: &home, owner: *owner });
                }
            }
            Step::Wait { ns } => world.wait(*ns),
            Step::Reload => world.set_rules(rules(), Vec::new()),
        }
    }
    (world, processes)
}

proptest! {
    #[test]
    fn whoever_owns_its_home_in_the_end_was_not_left_out(steps in steps()) {
        let (mut world, processes) = world_of(&steps);
        for _ in 0..3 {
            answer_all(&mut world, |_| Some(VICTIM));
            check_all(&mut world, |_| Some(VICTIM));
        }
        for process in processes.iter().filter(|process| process.comm == "claude" && process.cwd != "/tmp") {
            let explanation = world.core.explain(process.key.tgid).expect("it lives");
            prop_assert!(
                !matches!(explanation.position, Position::NotAdmitted | Position::AwaitsOwner),
                "{explanation:?}"
            );
        }
    }
}
