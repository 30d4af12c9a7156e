//! The map of processes: births, execs, ends, passes and loss. Each test shows one fact.
#![allow(clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use observer_common::record::hint;
use observer_core::audit::{Audit, AuditReport};
use observer_core::cost::{Cost, ProcessUsage};
use observer_core::death::{Death, DeathKind};
use observer_core::input::{Block, ProcessFacts, RawPath, TaskRow};
use observer_core::limits::ENDING_PASSES_MAX;
use observer_core::process::{ArgvSource, Bytes, Comm, Uids};
use observer_core::{BootTime, Change, Core, Input, ProcessKey, Request, Sink, Tgid};
use support::{Proc, World, components, shell};

fn world() -> (World, Proc) {
    let mut world = World::new(Vec::new());
    let bash = shell(&mut world);
    (world, bash)
}

/// The deaths that were reported.
#[derive(Default)]
struct Deaths(Vec<(ProcessKey, Death)>);

impl Sink for Deaths {
    fn change(&mut self, _at: BootTime, change: Change<'_>) {
        if let Change::ProcessEnded(process, death) = change {
            self.0.push((process.key, death.clone()));
        }
    }
    fn request(&mut self, _request: Request<'_>) {}
}

/// Handles `input` and returns the deaths that were reported.
fn deaths_of(core: &mut Core, input: Input<'_>) -> Vec<(ProcessKey, Death)> {
    let mut deaths = Deaths::default();
    core.handle(input, &mut deaths);
    deaths.0
}

fn row_of<'a>(at: BootTime, key: ProcessKey, facts: ProcessFacts, raw: &'a [u8]) -> TaskRow<'a> {
    let cwd_path = RawPath { components: raw, flags: 0 };
    let (exe, cgroup) = (RawPath { components: b"bash\0bin\0", flags: 0 }, RawPath::default());
    TaskRow {
        at,
        key,
        facts,
        cwd_path,
        exe,
        cgroup,
        tty_pgrp: 0,
        stopped: false,
        executing: false,
        dead: None,
        usage: ProcessUsage::default(),
        rss_pages: 0,
    }
}

#[test]
fn a_child_inherits_what_is_provably_the_same() {
    let (mut world, mut bash) = world();
    world.exec(&mut bash, "bash");
    world.reports.pass_requests.clear();
    let child = world.fork(&bash, 20);
    let process = world.core.process_by_key(child.key).expect("born");
    assert_eq!(process.cwd.path.as_deref(), Some(b"/root".as_slice()));
    assert_eq!(process.argv.as_ref().map(|argv| &*argv.bytes), Some(b"bash\0".as_slice()));
    assert_eq!((process.exec_at, process.lineage), (None, Some(bash.key)));
    assert!(world.reports.pass_requests.is_empty());
}

#[test]
fn a_child_in_another_directory_or_image_is_read_again() {
    let (mut world, bash) = world();
    let moved = Proc { cwd: "/other".into(), exec_id: 9, ..bash };
    let child = world.fork(&moved, 20);
    let process = world.core.process_by_key(child.key).expect("born");
    assert_eq!((process.cwd.path.clone(), process.exe.clone(), process.argv.clone()), (None, None, None));
    assert_eq!(world.reports.pass_requests.len(), 1);
}

#[test]
fn a_late_record_does_not_undo_a_newer_one() {
    let (mut world, mut bash) = world();
    let old = world.tick_clock();
    world.chdir(&mut bash, "/new");
    let raw = components("/old");
    let cwd = world.dir("/old");
    let path = RawPath { components: &raw, flags: 0 };
    world.feed(Input::Cwd { at: old, key: bash.key, cwd, mnt_ns: 1, path, fs_shared: false });
    let process = world.core.process_by_key(bash.key).expect("live");
    assert_eq!(process.cwd.path.as_deref(), Some(b"/new".as_slice()));
}

#[test]
fn a_late_row_or_birth_of_an_ended_process_creates_nothing() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    world.exit(&child, 0);
    world.pass(&[&bash, &child]);
    let facts = world.facts(&child);
    let at = world.tick_clock();
    world.feed(Input::Fork { at, key: child.key, facts, creator: bash.key });
    assert_eq!(world.core.process(Tgid(20)), None);
    // The same holds for a process of which no birth record came.
    let key = ProcessKey::new(21, 900);
    let at = world.tick_clock();
    world.feed(Input::Exit { at, key, raw_status: 0, led_sid: None, usage: ProcessUsage::default() });
    let at = world.tick_clock();
    world.feed(Input::Fork { at, key, facts, creator: bash.key });
    assert_eq!(world.core.process(Tgid(21)), None);
    assert_eq!(world.core.counters().orphans, 1);
}

#[test]
fn a_process_with_a_reused_tgid_inherits_nothing_and_ends_the_older_one_unobserved() {
    let (mut world, bash) = world();
    let first = world.spawn(&bash, 20, "claude");
    let seen = BootTime(world.now);
    let at = world.tick_clock();
    let key = ProcessKey::new(20, at.0);
    let facts = world.facts(&bash);
    let deaths = deaths_of(&mut world.core, Input::Fork { at, key, facts, creator: bash.key });
    let [(dead, death)] = deaths.as_slice() else { panic!("one end: {deaths:?}") };
    assert_eq!(*dead, first.key);
    assert_eq!((death.kind, death.raw_status), (DeathKind::Unobserved { from: seen, to: at }, None));
    let process = world.core.process(Tgid(20)).expect("the younger");
    assert_eq!((process.key, process.comm.as_bytes()), (key, b"bash".as_slice()));
    let late =
        Input::Exit { at, key: first.key, raw_status: 9, led_sid: None, usage: ProcessUsage::default() };
    assert_eq!(deaths_of(&mut world.core, late), []);
    assert_eq!(world.core.counters().duplicate_exits, 1);
}

#[test]
fn the_first_of_two_exits_is_the_death_and_the_second_is_counted() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    // Without `group_dead` two threads that exit at once can both see themselves as the last.
    let exit = |at, raw_status| Input::Exit {
        at,
        key: child.key,
        raw_status,
        led_sid: None,
        usage: ProcessUsage::default(),
    };
    let (first, second) = (world.tick_clock(), world.tick_clock());
    let deaths = deaths_of(&mut world.core, exit(first, 3 << 8));
    let cost = Some(Cost { processes: Some(0), ..Cost::default() });
    let expected = Death { cost, ..Death::from_status(3 << 8, first) };
    assert_eq!(deaths, [(child.key, expected)]);
    assert_eq!(deaths_of(&mut world.core, exit(second, 0)), []);
    assert_eq!(world.core.counters().duplicate_exits, 1);
}

#[test]
fn a_process_ends_only_when_two_passes_in_a_row_do_not_show_it() {
    let (mut world, bash) = world();
    let child = world.spawn(&bash, 20, "claude");
    world.pass(&[&bash]);
    assert!(world.core.process(Tgid(20)).is_some());
    world.reports.pass_requests.clear();
    world.wait(30_000_000);
    assert_eq!(world.reports.pass_requests.len(), 1, "a second pass is requested");
    world.pass(&[&bash]);
    assert!(world.core.process(Tgid(20)).is_none());
    assert_eq!(world.reports.ended.get(&child.key), Some(&1));
    world.wait(2_000_000_000);
    assert_eq!(world.core.counters().drift_total, 1, "an exit was lost with no loss counted");
}

/// The record of a birth has no path of the cgroup, so a pass reads it (CLONE_INTO_CGROUP).
#[test]
fn a_birth_in_another_cgroup_is_no_drift_and_an_unrecorded_move_to_one_is() {
    let (mut world, bash) = world();
    let child = Proc { key: ProcessKey::new(20, world.tick_clock().0), parent: bash.key, ..bash.clone() };
    let at = world.tick_clock();
    let facts = ProcessFacts { cgroup_id: 7, ..world.facts(&child) };
    world.feed(Input::Fork { at, key: child.key, facts, creator: bash.key });
    let read_in = |world: &mut World, cgroup_id, cgroup: &'static [u8]| {
        let (begin, at, end) = (world.tick_clock(), world.tick_clock(), world.tick_clock());
        let (raw, facts) = (components(&child.cwd), ProcessFacts { cgroup_id, ..world.facts(&child) });
        let row = row_of(at, child.key, facts, &raw);
        world.feed(Input::PassBegin { at: begin, drops_total: 0 });
        world.feed(Input::PassRow(TaskRow { cgroup: RawPath { components: cgroup, flags: 0 }, ..row }));
        world.feed(Input::PassEnd { at: end, complete: false });
        world.wait(2_000_000_000);
        let known = world.core.process_by_key(child.key).and_then(|process| process.cgroup.clone());
        (known, world.core.counters().drift_total)
    };
    assert_eq!(read_in(&mut world, 7, b"a.service\0"), (Some(Bytes::from(&b"/a.service"[..])), 0));
    assert_eq!(read_in(&mut world, 8, b"b.service\0"), (Some(Bytes::from(&b"/b.service"[..])), 1));
}

/// The pass has read the process before the change that the hint is about.
#[test]
fn a_hint_that_comes_while_a_pass_reads_explains_what_the_next_one_finds() {
    let (mut world, bash) = world();
    let (begin, read) = (world.tick_clock(), world.tick_clock());
    let (raw, facts) = (components(&bash.cwd), world.facts(&bash));
    let changed = Proc { comm: "agent", ..bash.clone() };
    let at = world.tick_clock();
    world.feed(Input::PassBegin { at: begin, drops_total: 0 });
    world.feed(Input::Hint { at, bits: hint::THROTTLED });
    world.feed(Input::PassRow(row_of(read, bash.key, facts, &raw)));
    world.feed(Input::PassEnd { at, complete: true });
    world.pass(&[&changed]);
    world.wait(2_000_000_000);
    assert_eq!(world.core.counters().drift_total, 0);
    world.pass(&[&bash]);
    world.wait(2_000_000_000);
    assert_eq!(world.core.counters().drift_total, 1, "the hint was answered");
}

/// Its exit record was sent before the programs were attached.
#[test]
fn children_of_a_process_that_is_about_to_end_at_the_start_are_read_until_they_have_another_parent() {
    let (mut world, bash) = world();
    let parent = Proc { key: ProcessKey::new(20, 6), parent: bash.key, ..bash.clone() };
    let child = Proc { key: ProcessKey::new(21, 7), parent: parent.key, ..bash.clone() };
    let (begin, at, end) = (world.tick_clock(), world.tick_clock(), world.tick_clock());
    let raw = components(&bash.cwd);
    let ending = ProcessFacts { no_mm: true, cwd: Default::default(), ..world.facts(&parent) };
    let facts = [world.facts(&bash), world.facts(&child)];
    world.reports.pass_requests.clear();
    world.feed(Input::PassBegin { at: begin, drops_total: 0 });
    for (key, facts) in [(bash.key, facts[0]), (parent.key, ending), (child.key, facts[1])] {
        world.feed(Input::PassRow(row_of(at, key, facts, &raw)));
    }
    world.feed(Input::PassEnd { at: end, complete: true });
    assert_eq!(world.reports.pass_requests.len(), 1);
    world.reports.pass_requests.clear();
    world.pass(&[&bash, &Proc { parent: bash.key, ..child.clone() }]);
    assert_eq!(world.core.process_by_key(child.key).map(|child| child.parent), Some(bash.key));
    assert!(world.reports.pass_requests.is_empty());
}

/// Its directory was renamed before the pass read its creator, and the pass does not show it.
#[test]
fn a_child_that_is_born_while_paths_are_read_again_is_read_again_itself() {
    let (mut world, bash) = world();
    let at = world.tick_clock();
    world.feed(Input::Hint { at, bits: hint::PATHS });
    let (begin, read) = (world.tick_clock(), world.tick_clock());
    let facts = world.facts(&bash);
    world.feed(Input::PassBegin { at: begin, drops_total: 0 });
    world.reports.pass_requests.clear();
    let child = world.fork(&bash, 20);
    let renamed = components("/renamed");
    world.feed(Input::PassRow(row_of(read, bash.key, facts, &renamed)));
    let end = world.tick_clock();
    world.feed(Input::PassEnd { at: end, complete: true });
    let path = |key| world.core.process_by_key(key).and_then(|process| process.cwd.path.clone());
    assert_eq!(path(bash.key).as_deref(), Some(b"/renamed".as_slice()));
    assert_eq!(path(child.key).as_deref(), Some(b"/root".as_slice()), "as it was when it was born");
    assert_eq!(world.reports.pass_requests.len(), 1);
}

/// The leader of bash has exited, so no pass reads where that is, and a directory above is renamed.
fn without_leader() -> (World, Proc) {
    let (mut world, bash) = world();
    let hint_at = world.tick_clock();
    world.feed(Input::Hint { at: hint_at, bits: hint::PATHS });
    let (begin, read, end) = (world.tick_clock(), world.tick_clock(), world.tick_clock());
    let leader_gone = ProcessFacts { leader_gone: true, cwd: Default::default(), ..world.facts(&bash) };
    world.feed(Input::PassBegin { at: begin, drops_total: 0 });
    world.feed(Input::PassRow(row_of(read, bash.key, leader_gone, &[])));
    world.feed(Input::PassEnd { at: end, complete: true });
    world.reports.pass_requests.clear();
    (world, bash)
}

fn path_of(world: &World, of: &Proc) -> Option<Vec<u8>> {
    world.core.process_by_key(of.key).and_then(|process| process.cwd.path.as_ref().map(|path| path.to_vec()))
}

#[test]
fn a_child_has_no_path_that_its_creator_had_before_paths_were_read_again() {
    let (mut world, bash) = without_leader();
    assert_eq!(path_of(&world, &bash), Some(b"/root".to_vec()), "its last one stays");
    let child = world.fork(&bash, 20);
    assert_eq!(path_of(&world, &child), None);
    assert_eq!(world.reports.pass_requests.len(), 1);
}

#[test]
fn a_child_has_the_path_that_was_read_with_those_of_others() {
    let (mut world, bash) = world();
    let at = world.tick_clock();
    world.feed(Input::Hint { at, bits: hint::PATHS });
    world.pass(&[&bash]);
    let child = world.fork(&bash, 20);
    assert_eq!(path_of(&world, &child), Some(b"/root".to_vec()));
}

/// The record of the exec names the directory and has no path.
#[test]
fn a_thread_that_executes_after_its_leader_exited_is_read_again() {
    let (mut world, mut bash) = without_leader();
    world.exec(&mut bash, "agent");
    assert_eq!(world.reports.pass_requests.len(), 1);
}

/// The record of the exec names the directory and has no path.
#[test]
fn an_exec_while_a_pass_reads_does_not_hide_the_path_that_it_read() {
    let (mut world, mut bash) = world();
    let (begin, read) = (world.tick_clock(), world.tick_clock());
    let facts = world.facts(&bash);
    world.feed(Input::PassBegin { at: begin, drops_total: 0 });
    world.exec(&mut bash, "agent");
    let renamed = components("/renamed");
    world.feed(Input::PassRow(row_of(read, bash.key, facts, &renamed)));
    let process = world.core.process_by_key(bash.key).expect("it lives");
    assert_eq!(process.cwd.path.as_deref(), Some(b"/renamed".as_slice()));
    assert_eq!(process.comm.as_bytes(), b"agent");
}

/// A pass after one record was lost, which shows these processes in one directory.
fn pass_after_loss(world: &mut World, cwd: &[u8], rows: &[(ProcessKey, ProcessFacts)]) {
    let begin = world.tick_clock();
    world.feed(Input::PassBegin { at: begin, drops_total: 1 });
    for &(key, facts) in rows {
        let at = world.tick_clock();
        world.feed(Input::PassRow(row_of(at, key, facts, cwd)));
    }
    let at = world.tick_clock();
    world.feed(Input::PassEnd { at, complete: true });
}

/// Its exit record was lost, and a file system does not answer when its files are closed.
#[test]
fn a_process_that_hangs_in_its_exit_keeps_no_gap_open_and_is_found_gone() {
    for is_zombie in [false, true] {
        let (mut world, bash) = world();
        let child = world.fork(&bash, 20);
        let raw = components(&bash.cwd);
        let lives = (bash.key, world.facts(&bash));
        let ending = (child.key, ProcessFacts { no_mm: true, ..world.facts(&child) });
        let at = world.tick_clock();
        world.feed(Input::Dropped { at, total: 1 });
        for _ in 0..=ENDING_PASSES_MAX {
            pass_after_loss(&mut world, &raw, &[lives, ending]);
            assert!(world.core.in_gap());
        }
        world.reports.pass_requests.clear();
        pass_after_loss(&mut world, &raw, &[lives, ending]);
        assert!(
            !world.core.in_gap() && world.core.process(Tgid(20)).is_some(),
            "it is there, and nothing else is in doubt"
        );
        assert_eq!(world.reports.pass_requests.len(), 1, "nothing else tells when it is gone");
        if is_zombie {
            let at = world.tick_clock();
            world.feed(Input::PassBegin { at, drops_total: 1 });
            let row = row_of(at, ending.0, ending.1, &raw);
            world.feed(Input::PassRow(row_of(at, lives.0, lives.1, &raw)));
            world.feed(Input::PassRow(TaskRow { dead: Some(7 << 8), ..row }));
            let at = world.tick_clock();
            world.feed(Input::PassEnd { at, complete: true });
        } else {
            pass_after_loss(&mut world, &raw, &[lives]);
            assert!(world.core.process(Tgid(20)).is_some(), "one absence proves nothing");
            pass_after_loss(&mut world, &raw, &[lives]);
        }
        assert!(world.core.process(Tgid(20)).is_none(), "a zombie: {is_zombie}");
        world.reports.pass_requests.clear();
        pass_after_loss(&mut world, &raw, &[lives]);
        world.wait(60_000_000_000);
        assert_eq!(world.reports.pass_requests.len(), 0, "no pass looks for it any more");
        assert_eq!(world.core.counters().drift_total, 0);
    }
}

/// Its exit record was lost, and the pass that heals the loss finds it before it is a zombie.
#[test]
fn a_gap_stays_open_while_a_process_is_about_to_end() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    let raw = components(&bash.cwd);
    let facts = [world.facts(&bash), ProcessFacts { no_mm: true, ..world.facts(&child) }];
    let pass = |world: &mut World, rows: &[(ProcessKey, ProcessFacts)]| pass_after_loss(world, &raw, rows);
    let at = world.tick_clock();
    world.feed(Input::Dropped { at, total: 1 });
    pass(&mut world, &[(bash.key, facts[0]), (child.key, facts[1])]);
    assert!(world.core.in_gap());
    world.reports.pass_requests.clear();
    world.wait(30_000_000);
    assert_eq!(world.reports.pass_requests.len(), 1);
    pass(&mut world, &[(bash.key, facts[0]), (child.key, facts[1])]);
    assert!(world.core.in_gap() && world.core.process(Tgid(20)).is_some(), "it has not ended yet");
    pass(&mut world, &[(bash.key, facts[0])]);
    assert!(!world.core.in_gap() && world.core.process(Tgid(20)).is_none());
    assert_eq!(world.core.counters().drift_total, 0);
}

/// A question reads it after the pass, or another process moves it to another process group.
#[test]
fn what_is_seen_of_a_process_that_is_about_to_end_does_not_close_a_gap() {
    for is_read in [true, false] {
        let (mut world, bash) = world();
        let child = world.fork(&bash, 20);
        let other = world.fork(&bash, 21);
        let raw = components(&bash.cwd);
        let ending = ProcessFacts { no_mm: true, cwd: Default::default(), ..world.facts(&child) };
        let facts = [(bash.key, world.facts(&bash)), (child.key, ending), (other.key, world.facts(&other))];
        let begin = world.tick_clock();
        world.feed(Input::PassBegin { at: begin, drops_total: 1 });
        for (key, facts) in facts {
            let at = world.tick_clock();
            world.feed(Input::PassRow(row_of(at, key, facts, &raw)));
        }
        let at = world.tick_clock();
        world.feed(Input::PassEnd { at, complete: true });
        let at = world.tick_clock();
        world.feed(match is_read {
            true => Input::LoneRow(row_of(at, child.key, ending, &raw)),
            false => Input::Ids { at, key: child.key, sid: 1, pgid: 7, tty: None },
        });
        world.exit(&other, 0);
        world.wait(30_000_000);
        assert!(world.core.in_gap() && world.core.process(Tgid(20)).is_some(), "read: {is_read}");
    }
}

/// The task iterator did not show it, and a record of it came, so nothing doubts that it lives.
#[test]
fn what_a_pass_was_to_read_again_is_read_of_a_process_that_it_did_not_show() {
    for bits in [hint::PATHS, hint::THROTTLED] {
        let (mut world, bash) = world();
        let child = world.fork(&bash, 20);
        let at = world.tick_clock();
        world.feed(Input::Hint { at, bits });
        let begin = world.tick_clock();
        world.feed(Input::PassBegin { at: begin, drops_total: 0 });
        let at = world.tick_clock();
        world.feed(Input::Comm { at, key: child.key, comm: support::comm("agent") });
        world.row(&bash);
        world.reports.pass_requests.clear();
        let end = world.tick_clock();
        world.feed(Input::PassEnd { at: end, complete: true });
        assert_eq!(world.reports.pass_requests.len(), 1, "{bits}");
        let renamed = components("/renamed");
        let facts = ProcessFacts { comm: support::comm("agent"), ..world.facts(&child) };
        let begin = world.tick_clock();
        world.feed(Input::PassBegin { at: begin, drops_total: 0 });
        world.row(&bash);
        let read = world.tick_clock();
        world.feed(Input::PassRow(row_of(read, child.key, facts, &renamed)));
        let end = world.tick_clock();
        world.reports.pass_requests.clear();
        world.feed(Input::PassEnd { at: end, complete: true });
        assert_eq!(world.reports.pass_requests.len(), 0, "{bits}: it has read everything");
        assert_eq!(path_of(&world, &child), Some(b"/renamed".to_vec()));
        world.wait(2_000_000_000);
        assert_eq!(world.core.counters().drift_total, 0, "{bits}");
    }
}

#[test]
fn an_exit_record_explains_an_absence() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    world.pass(&[&bash]);
    world.exit(&child, 0);
    world.reports.pass_requests.clear();
    world.wait(2_000_000_000);
    assert!(world.reports.pass_requests.is_empty());
    assert_eq!(world.core.counters().drift_total, 0);
}

#[test]
fn a_pass_that_failed_ends_no_process() {
    let (mut world, bash) = world();
    world.fork(&bash, 20);
    for _ in 0..3 {
        let at = world.tick_clock();
        world.feed(Input::PassBegin { at, drops_total: 0 });
        let at = world.tick_clock();
        world.feed(Input::PassEnd { at, complete: false });
    }
    assert_eq!(world.core.processes().count(), 2);
}

#[test]
fn a_zombie_in_a_pass_ends_with_its_exact_status() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    let at = world.tick_clock();
    world.feed(Input::PassBegin { at, drops_total: 0 });
    let facts = ProcessFacts { no_mm: true, ..world.facts(&child) };
    let at = world.tick_clock();
    let row = TaskRow { dead: Some(0x8b), ..row_of(at, child.key, facts, b"") };
    let deaths = deaths_of(&mut world.core, Input::PassRow(row));
    let [(key, death)] = deaths.as_slice() else { panic!("one end: {deaths:?}") };
    assert_eq!((*key, death.at, death.raw_status), (child.key, at, Some(0x8b)));
    assert_eq!(death.kind, DeathKind::Signaled { signal: 11, core_dumped: true });
}

#[test]
fn a_process_that_is_read_alone_is_brought_up_to_date_and_ends_nobody_else() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    world.reports.pass_requests.clear();
    for stopped in [true, false] {
        let facts = world.facts(&bash);
        let at = world.tick_clock();
        world.feed(Input::LoneRow(TaskRow {
            stopped,
            rss_pages: 7,
            ..row_of(at, bash.key, facts, b"root\0")
        }));
        assert_eq!(world.core.process_by_key(bash.key).expect("live").stopped, stopped);
    }
    assert!(world.core.process_by_key(child.key).is_some(), "nobody is absent from what is no pass");
    assert!(world.reports.pass_requests.is_empty());
    assert_eq!((world.core.counters().drift_total, world.core.in_gap()), (0, false));
}

#[test]
fn a_process_read_alone_that_proves_the_map_wrong_is_left_to_a_pass() {
    for (tgid, age, dead) in [(4711, 0, None), (10, 1, None), (10, 0, Some(0))] {
        let (mut world, bash) = world();
        world.reports.pass_requests.clear();
        let key = ProcessKey::new(tgid, bash.key.start_boottime.0 + age);
        let at = world.tick_clock();
        let facts = world.facts(&bash);
        world.feed(Input::LoneRow(TaskRow { dead, ..row_of(at, key, facts, b"root\0") }));
        assert_eq!(world.reports.pass_requests.len(), 1, "{key:?} {dead:?}");
        let lives = world.core.process_by_key(bash.key).is_some();
        assert_eq!((lives, world.core.processes().count()), (true, 1), "{key:?} {dead:?}");
    }
}

#[test]
fn a_gap_closes_when_a_complete_pass_began_after_every_known_loss() {
    let (mut world, bash) = world();
    world.reports.pass_requests.clear();
    let at = world.tick_clock();
    world.feed(Input::Dropped { at, total: 5 });
    assert!(world.core.in_gap());
    assert_eq!(
        world.reports.pass_requests.first().map(|pass| pass.0),
        Some(at),
        "the pass is requested at once"
    );
    // A pass that began before the loss was complete.
    world.drops = 3;
    world.pass(&[&bash]);
    assert!(world.core.in_gap());
    world.drops = 5;
    world.pass(&[&bash]);
    assert!(!world.core.in_gap());
    assert_eq!((world.reports.gaps_opened, world.reports.gaps_closed, world.reports.lost), (1, 1, 5));
    assert_eq!((world.core.counters().gaps, world.core.counters().resyncs), (1, 2));
}

#[test]
fn no_gap_closes_while_events_do_not_come() {
    let (mut world, bash) = world();
    let at = world.tick_clock();
    world.core.set_blind(Some(BootTime(world.now)));
    world.feed(Input::Dropped { at, total: 1 });
    world.drops = 1;
    for _ in 0..3 {
        world.pass(&[&bash]);
        assert!(world.core.in_gap());
    }
    assert_eq!((world.reports.gaps_opened, world.reports.gaps_closed), (1, 0));
    assert_eq!(world.core.counters().drift_total, 0);
    world.core.set_blind(None);
    let at = world.tick_clock();
    world.feed(Input::Dropped { at, total: 2 });
    world.drops = 2;
    world.pass(&[&bash]);
    assert!(!world.core.in_gap());
    assert_eq!((world.reports.gaps_opened, world.reports.gaps_closed, world.reports.lost), (1, 1, 2));
}

#[test]
fn an_unchanged_count_of_losses_moves_the_begin_of_the_next_gap() {
    let (mut world, _) = world();
    let lossless_until = world.tick_clock();
    world.feed(Input::Dropped { at: lossless_until, total: 0 });
    let at = world.tick_clock();
    struct From(Option<BootTime>);
    impl Sink for From {
        fn change(&mut self, _at: BootTime, change: Change<'_>) {
            if let Change::GapOpened { from, .. } = change {
                self.0 = Some(from);
            }
        }
        fn request(&mut self, _request: Request<'_>) {}
    }
    let mut from = From(None);
    world.core.handle(Input::Dropped { at, total: 1 }, &mut from);
    assert_eq!(from.0, Some(lossless_until));
}

#[test]
fn hints_request_at_most_one_pass_in_50_ms() {
    let (mut world, bash) = world();
    world.reports.pass_requests.clear();
    let began = BootTime(world.now);
    for _ in 0..10 {
        let at = world.tick_clock();
        world.feed(Input::Hint { at, bits: hint::PATHS });
    }
    let [(not_before, hints)] = world.reports.pass_requests[..] else {
        panic!("{:?}", world.reports.pass_requests)
    };
    assert!(not_before <= began.after(50_000_000) && not_before > began.after(49_000_000));
    assert_eq!(hints, hint::PATHS);
    let at = world.tick_clock();
    world.feed(Input::Hint { at, bits: hint::IDS });
    assert_eq!(world.reports.pass_requests.last().map(|pass| pass.1), Some(hint::PATHS | hint::IDS));
    world.reports.pass_requests.clear();
    world.pass(&[&bash]);
    assert!(world.reports.pass_requests.is_empty());
}

#[test]
fn children_of_a_dead_parent_are_read_again_until_they_have_another() {
    let (mut world, bash) = world();
    let parent = world.fork(&bash, 20);
    let mut child = world.fork(&parent, 21);
    world.reports.pass_requests.clear();
    world.exit(&parent, 0);
    assert_eq!(world.reports.pass_requests.len(), 1);
    // The row was read before the kernel had reparented the child.
    world.pass(&[&bash, &child]);
    assert_eq!(world.reports.pass_requests.len(), 2);
    child.parent = bash.key;
    world.pass(&[&bash, &child]);
    assert_eq!(world.reports.pass_requests.len(), 2);
    let process = world.core.process_by_key(child.key).expect("live");
    assert_eq!((process.parent, process.lineage), (bash.key, Some(bash.key)));
}

#[test]
fn the_exit_of_a_posix_session_leader_requests_a_pass_for_terminals() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    world.reports.pass_requests.clear();
    let at = world.tick_clock();
    let led_sid = Some(20);
    world.feed(Input::Exit { at, key: child.key, raw_status: 0, led_sid, usage: ProcessUsage::default() });
    assert_eq!(world.reports.pass_requests.first().map(|pass| pass.1), Some(hint::IDS));
}

#[test]
fn a_user_mode_helper_is_in_the_map_from_its_exec_on() {
    let (mut world, bash) = world();
    let at = world.tick_clock();
    let key = ProcessKey::new(30, at.0);
    let kthreadd = ProcessKey::new(2, 2);
    let mut helper = Proc { key, parent: kthreadd, ..bash };
    let facts = ProcessFacts { no_mm: true, ..world.facts(&helper) };
    world.feed(Input::Fork { at, key, facts, creator: kthreadd });
    assert_eq!(world.core.process(Tgid(30)), None);
    world.exec(&mut helper, "modprobe");
    let process = world.core.process(Tgid(30)).expect("a process");
    assert_eq!((process.comm.as_bytes(), process.lineage), (b"modprobe".as_slice(), None));
    assert_eq!(world.core.counters().orphans, 0);
}

#[test]
fn a_record_of_an_unknown_process_creates_nothing() {
    let (mut world, _) = world();
    world.reports.pass_requests.clear();
    let at = world.tick_clock();
    world.feed(Input::Comm { at, key: ProcessKey::new(99, 5), comm: support::comm("x") });
    assert_eq!(world.core.process(Tgid(99)), None);
    assert_eq!((world.core.counters().orphans, world.reports.pass_requests.len()), (1, 1));
}

#[test]
fn an_exec_record_that_arrives_after_its_row_still_adds_the_arguments() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    let exec_at = world.tick_clock();
    let new = Proc { exec_id: 2, comm: "claude", ..child };
    world.pass(&[&bash, &new]);
    let process = world.core.process_by_key(new.key).expect("live");
    assert_eq!((process.exec_id, process.argv.clone(), process.exec_at), (2, None, None));
    let facts = world.facts(&new);
    let argv = Block { bytes: b"claude\0-c\0", truncated: false };
    let env = Block { bytes: b"HOME=/\0TMUX_PANE=%1\0", truncated: false };
    let exe = RawPath { components: b"claude\0bin\0", flags: 0 };
    world.feed(Input::Exec { at: exec_at, key: new.key, facts, exe, filename: b"claude", argv, env });
    let process = world.core.process_by_key(new.key).expect("live");
    assert_eq!(process.argv.as_ref().map(|argv| argv.source), Some(ArgvSource::Exec));
    assert_eq!(process.exec_at, Some(exec_at));
    let kept: Vec<&[u8]> = process.env.iter().flat_map(|env| env.iter().map(|entry| &**entry)).collect();
    assert_eq!(kept, [b"TMUX_PANE=%1".as_slice()]);
    world.wait(2_000_000_000);
    assert_eq!(world.core.counters().drift_total, 0);
}

#[test]
fn a_birth_record_that_arrives_after_its_row_still_inherits_the_creators_image() {
    let (mut world, mut bash) = world();
    world.exec(&mut bash, "zsh");
    let fork_at = world.tick_clock();
    let key = ProcessKey::new(20, fork_at.0);
    let child = Proc { key, parent: bash.key, ..bash.clone() };
    let facts = world.facts(&child);
    world.pass(&[&bash, &child]);
    let argv = |world: &World| {
        let process = world.core.process_by_key(key).expect("live");
        process.argv.as_ref().map(|argv| (argv.bytes.to_vec(), argv.source))
    };
    let at = world.tick_clock();
    let of_memory = Block { bytes: b"zsh\0", truncated: false };
    let exec_id = facts.exec_id;
    world.feed(Input::Memory { at, key, exec_id, argv: of_memory, env: Block::default() });
    assert_eq!(argv(&world), Some((b"zsh\0".to_vec(), ArgvSource::Memory)));
    world.feed(Input::Fork { at: fork_at, key, facts, creator: bash.key });
    assert_eq!(argv(&world), Some((b"zsh\0".to_vec(), ArgvSource::Exec)));
    let process = |key| world.core.process_by_key(key).expect("live");
    assert_eq!(process(key).filename, process(bash.key).filename);
}

#[test]
fn memory_is_requested_once_and_never_replaces_an_exec_record() {
    let (mut world, bash) = world();
    assert_eq!(world.reports.memory_requests, [bash.key]);
    world.pass(&[&bash]);
    assert_eq!(world.reports.memory_requests.len(), 1);
    let argv = |bytes| Block { bytes, truncated: false };
    let at = world.tick_clock();
    let (key, env) = (bash.key, Block::default());
    world.feed(Input::Memory { at, key, exec_id: 7, argv: argv(b"wrong\0"), env });
    world.feed(Input::Memory { at, key, exec_id: 1, argv: argv(b"-bash\0"), env });
    let argv_of = |world: &World| {
        let process = world.core.process_by_key(key).expect("live");
        process.argv.as_ref().map(|argv| (argv.bytes.to_vec(), argv.source))
    };
    assert_eq!(argv_of(&world), Some((b"-bash\0".to_vec(), ArgvSource::Memory)));
    let mut bash = bash;
    world.exec(&mut bash, "zsh");
    world.feed(Input::Memory { at, key, exec_id: 2, argv: argv(b"late\0"), env });
    assert_eq!(argv_of(&world), Some((b"zsh\0".to_vec(), ArgvSource::Exec)));
}

#[test]
fn a_process_whose_leader_exited_keeps_its_last_directory() {
    let (mut world, bash) = world();
    let at = world.tick_clock();
    world.feed(Input::PassBegin { at, drops_total: 0 });
    let mut facts = world.facts(&bash);
    facts.leader_gone = true;
    facts.cwd = Default::default();
    let at = world.tick_clock();
    world.feed(Input::PassRow(row_of(at, bash.key, facts, b"")));
    let process = world.core.process_by_key(bash.key).expect("live");
    assert_eq!(process.cwd.path.as_deref(), Some(b"/root".as_slice()));
    assert!(process.cwd.leader_gone);
}

#[test]
fn a_process_that_released_its_directory_keeps_the_last_one() {
    let (mut world, bash) = world();
    let last = world.core.process_by_key(bash.key).expect("live").cwd.clone();
    for no_mm in [true, false] {
        let at = world.tick_clock();
        world.feed(Input::PassBegin { at, drops_total: 0 });
        let facts = ProcessFacts { no_mm, cwd: Default::default(), mnt_ns: 0, ..world.facts(&bash) };
        let at = world.tick_clock();
        world.feed(Input::PassRow(row_of(at, bash.key, facts, b"")));
        let at = world.tick_clock();
        world.feed(Input::PassEnd { at, complete: true });
        assert_eq!(world.core.process_by_key(bash.key).expect("live").cwd, last);
    }
    assert_eq!((world.core.counters().drift_total, world.core.counters().gaps), (0, 0));
}

#[test]
fn ended_processes_are_remembered_within_bounds() {
    let (mut world, _) = world();
    let max = observer_core::limits::TOMBSTONES_MAX;
    for tgid in 0..max + 10 {
        let key = ProcessKey::new(tgid as u32 + 100, 50);
        let at = BootTime(world.now);
        let exit = Input::Exit { at, key, raw_status: 0, led_sid: None, usage: ProcessUsage::default() };
        world.core.handle(exit, &mut world.reports);
    }
    assert_eq!(world.core.counters().tombstones_dropped, 10);
}

#[test]
fn what_an_exec_sets_is_not_compared_in_the_middle_of_one() {
    let (mut world, bash) = world();
    let facts = world.facts(&bash);
    let began = world.tick_clock();
    let changed = ProcessFacts {
        exec_id: facts.exec_id + 1,
        comm: Comm(*b"true\0\0\0\0\0\0\0\0\0\0\0\0"),
        uids: Uids { uid: facts.uids.uid + 1, ..facts.uids },
        sid: facts.sid + 1,
        ..facts
    };
    let fields = |executing| {
        let mut audit = Audit::new(began);
        let raw = components("/");
        let row = row_of(began, bash.key, changed, &raw);
        audit.row(&world.core, &TaskRow { executing, ..row });
        let report = audit.finish(&world.core);
        let not_compared = BTreeSet::from_iter(executing.then_some(bash.key));
        assert_eq!((report.processes, &report.executing), (1, &not_compared), "and it says so");
        let again = AuditReport::default().confirmed(&report);
        assert_eq!(again.executing, not_compared, "also where a later comparison found it elsewhere");
        report
            .drift
            .iter()
            .map(|drift| drift.field.name())
            .filter(|field| *field != "cwd")
            .collect::<Vec<_>>()
    };
    assert_eq!(fields(true), ["sid"], "no exec sets it");
    assert_eq!(fields(false), ["sid", "exec_id", "comm", "uid"], "the exec's record is lost");
}

#[test]
fn an_audit_names_the_fields_and_processes_that_differ() {
    let (mut world, bash) = world();
    let child = world.fork(&bash, 20);
    let facts = ProcessFacts { sid: 5, ..world.facts(&bash) };
    let raw = components("/elsewhere");
    let began = world.tick_clock();
    let audit = |world: &World| {
        let mut audit = Audit::new(began);
        audit.row(&world.core, &row_of(began, bash.key, facts, &raw));
        let unknown = ProcessKey::new(77, 3);
        audit.row(&world.core, &row_of(began, unknown, facts, &raw));
        audit.finish(&world.core)
    };
    let report = audit(&world);
    let fields: Vec<&str> = report.drift.iter().map(|drift| drift.field.name()).collect();
    assert_eq!(fields, ["sid", "cwd"]);
    assert_eq!(
        (report.missing.clone(), report.surplus.clone()),
        (vec![ProcessKey::new(77, 3)], vec![child.key])
    );
    world.exit(&child, 0);
    let again = audit(&world).confirmed(&report);
    assert_eq!((again.surplus.len(), again.missing.len(), again.drift.len()), (0, 1, 2));
}

#[test]
fn a_row_in_the_middle_of_an_exec_leaves_the_image_to_the_record_of_the_exec() {
    let (mut world, mut bash) = world();
    world.exec(&mut bash, "bash");
    let facts = world.facts(&bash);
    let raw = components("/root");
    let exe = RawPath { components: b"vim\0bin\0", flags: 0 };
    let images = |world: &World| {
        let process = world.core.process_by_key(bash.key).expect("lives");
        (process.comm, process.exe.clone().expect("an executable"), process.exec_id)
    };
    let known = images(&world);
    let comm = Comm(*b"vim\0\0\0\0\0\0\0\0\0\0\0\0\0");
    // The executable is replaced first, then the comm, then the number.
    for torn in [facts, ProcessFacts { comm, ..facts }] {
        let at = world.tick_clock();
        let row = TaskRow { exe, executing: true, ..row_of(at, bash.key, torn, &raw) };
        world.feed(Input::PassBegin { at, drops_total: world.drops });
        world.feed(Input::PassRow(row));
        world.feed(Input::PassEnd { at, complete: true });
        assert_eq!(images(&world), known, "the image is the known one");
    }
    let at = world.tick_clock();
    let whole = ProcessFacts { comm, exec_id: facts.exec_id + 1, ..facts };
    let row = TaskRow { exe, executing: true, ..row_of(at, bash.key, whole, &raw) };
    world.feed(Input::PassBegin { at, drops_total: world.drops });
    world.feed(Input::PassRow(row));
    assert_eq!(
        images(&world),
        (comm, Arc::from(b"/bin/vim".as_slice()), whole.exec_id),
        "the next one, whole"
    );
}
