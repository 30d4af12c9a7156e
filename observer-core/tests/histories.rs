//! Random histories of deep trees: several homes, terminals and users, wrappers, shells between programs, moves, execs, deaths
//! with reparenting, and passes. After each event, once no work waits for another turn, what elections keep of each home is
//! what a fresh look at the same tree computes: the invariants compare it with a walk up from each candidate.
//!
//! Each run has other sequences. A failure prints the seed that repeats it: `PROPTEST_RNG_SEED`. `PROPTEST_CASES` gives more.

mod support;

use std::collections::BTreeSet;

use observer_core::limits::{LINEAGE_STEPS_MAX, SETTLE_NS};
use observer_core::process::Uids;
use observer_core::rule::{HomeRule, Instances};
use observer_core::session::State;
use observer_core::{BootTime, Input, ProcessKey, Rule, invariants};
use proptest::prelude::*;
use support::cases::others_each_time;
use support::{Proc, World, at_home, globs, only_program, rule};

/// `sudo` and `env` are wrappers, and no rule admits `bash`.
const NAMES: [&str; 6] = ["claude", "env", "codex", "claude", "bash", "sudo"];
const DIRS: [&str; 5] = ["/srv/a", "/srv/b", "/srv/a/x", "/tmp", "/srv/c"];
const TTYS: [Option<&str>; 5] = [Some("pts4"), Some("pts3"), None, Some("pts5"), Some("pts6")];
/// That of the first shell, another one, and root.
const UIDS: [u32; 3] = [7, 8, 0];
/// Processes at a time, the shells between programs aside.
const PROGRAMS: usize = 14;
/// Shells between programs at a time.
const SHELLS: usize = 400;
/// Cases of each property.
const CASES: u32 = 800;
/// So many turns are enough for what waits after one event.
const TURNS: usize = 400;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A program below shells, each of which started the next one.
    Spawn {
        by: usize,
        shells: usize,
        shell_tty: Option<usize>,
        tty: Option<usize>,
        dir: Option<usize>,
        name: usize,
    },
    /// A child that executes nothing.
    Fork {
        by: usize,
    },
    Exec {
        by: usize,
        name: usize,
    },
    Exit {
        by: usize,
    },
    Chdir {
        by: usize,
        to: usize,
    },
    SetTty {
        by: usize,
        tty: usize,
    },
    SetUid {
        by: usize,
        uid: usize,
    },
    /// So long that half of what settles has.
    WaitShort,
    /// Everything settles.
    Wait,
    /// A pass shows who has another parent since the former one died.
    Pass,
    /// The rules are read again, and give each home one session from then on.
    ReloadWithOne,
}

fn op() -> impl Strategy<Value = Op> {
    // The last ones more often than others, so that chains are long.
    let by = || prop_oneof![1 => Just(usize::MAX), 1 => 0..64_usize];
    let tty = || prop::option::weighted(0.4, 0..TTYS.len());
    let shells = prop_oneof![6 => 0..4_usize, 2 => 4..40_usize, 1 => 40..100_usize, 1 => 200..280_usize];
    let dir = prop::option::weighted(0.6, 0..DIRS.len());
    prop_oneof![
        8 => (by(), shells, tty(), tty(), dir, 0..NAMES.len()).prop_map(
            |(by, shells, shell_tty, tty, dir, name)| Op::Spawn { by, shells, shell_tty, tty, dir, name }
        ),
        1 => by().prop_map(|by| Op::Fork { by }),
        3 => (by(), 0..NAMES.len()).prop_map(|(by, name)| Op::Exec { by, name }),
        4 => by().prop_map(|by| Op::Exit { by }),
        3 => (by(), 0..DIRS.len()).prop_map(|(by, to)| Op::Chdir { by, to }),
        2 => (by(), 0..TTYS.len()).prop_map(|(by, tty)| Op::SetTty { by, tty }),
        1 => (by(), 0..UIDS.len()).prop_map(|(by, uid)| Op::SetUid { by, uid }),
        1 => Just(Op::WaitShort),
        4 => Just(Op::Wait),
        1 => Just(Op::Pass),
        1 => Just(Op::ReloadWithOne),
    ]
}

/// The rules.
#[derive(Clone, Copy, Debug)]
struct Setting {
    instances: Instances,
    /// Homes are working directories, and programs are too young at first.
    is_by_cwd: bool,
    /// A rule of its own admits claude, with other wrappers.
    has_two: bool,
}

impl Setting {
    fn rules(self) -> Vec<Rule> {
        let Self { instances, is_by_cwd, .. } = self;
        let min_age_ns = if is_by_cwd { SETTLE_NS } else { 0 };
        let home = || if is_by_cwd { HomeRule::Cwd } else { rule().home };
        let first = || Rule {
            home: home(),
            instances,
            min_age_ns,
            conditions: only_program(&["claude"]),
            wrappers: globs(&["sudo"]),
            ..rule()
        };
        let second = Rule { home: home(), instances, min_age_ns, ..rule() };
        self.has_two.then(first).into_iter().chain([second]).collect()
    }
}

fn setting() -> impl Strategy<Value = Setting> {
    (prop::bool::weighted(0.7), prop::bool::weighted(0.3), prop::bool::weighted(0.3)).prop_map(
        |(is_each, is_by_cwd, has_two)| Setting {
            instances: if is_each { Instances::Each } else { Instances::One },
            is_by_cwd,
            has_two,
        },
    )
}

/// A core, and the processes that there are.
struct Host {
    world: World,
    setting: Setting,
    procs: Vec<Proc>,
    /// Those that are shells between programs.
    shells: BTreeSet<ProcessKey>,
    next_tgid: u32,
}

impl Host {
    fn new(setting: Setting) -> Self {
        let mut world = World::new(setting.rules());
        let bash = at_home(&mut world);
        // The invariants hold once no work waits for another turn.
        world.is_large = true;
        Self { world, setting, procs: vec![bash], shells: BTreeSet::new(), next_tgid: 20 }
    }

    fn place(&self, by: usize) -> usize {
        if by == usize::MAX { self.procs.len() - 1 } else { by % self.procs.len() }
    }

    fn change(&mut self, by: usize, act: impl FnOnce(&mut World, &mut Proc)) {
        let at = self.place(by);
        if let Some(proc) = self.procs.get_mut(at) {
            act(&mut self.world, proc);
        }
    }

    fn fork(&mut self, parent: &Proc, tty: Option<usize>) -> Proc {
        self.next_tgid += 1;
        let mut child = self.world.fork(parent, self.next_tgid);
        if let Some(&tty) = tty.and_then(|tty| TTYS.get(tty)) {
            self.world.set_tty(&mut child, tty);
        }
        child
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Spawn { .. } | Op::Fork { .. } if self.procs.len() - self.shells.len() >= PROGRAMS => {}
            Op::Spawn { by, shells, shell_tty, tty, dir, name } => {
                let Some(mut above) = self.procs.get(self.place(by)).cloned() else { return };
                for number in 0..shells.min(SHELLS - self.shells.len()) {
                    let mut shell = self.fork(&above, shell_tty.filter(|_| number == 0));
                    if number == 0 {
                        self.world.exec(&mut shell, "bash");
                    }
                    above = shell;
                    self.procs.push(above.clone());
                    self.shells.insert(above.key);
                }
                let mut program = self.fork(&above, tty);
                if let Some(&dir) = dir.and_then(|dir| DIRS.get(dir)) {
                    self.world.chdir(&mut program, dir);
                }
                self.world.exec(&mut program, NAMES.get(name).copied().unwrap_or("claude"));
                self.procs.push(program);
            }
            Op::Fork { by } => {
                let Some(parent) = self.procs.get(self.place(by)).cloned() else { return };
                let child = self.fork(&parent, None);
                self.procs.push(child);
            }
            Op::Exec { by, name } => {
                let name = NAMES.get(name).copied().unwrap_or("claude");
                self.change(by, |world, proc| world.exec(proc, name));
            }
            Op::Exit { by } => {
                let at = self.place(by);
                if at > 0 {
                    let proc = self.procs.remove(at);
                    self.world.exit(&proc, 9);
                    self.shells.remove(&proc.key);
                }
            }
            Op::Chdir { by, to } => {
                let dir = DIRS.get(to).copied().unwrap_or("/");
                self.change(by, |world, proc| world.chdir(proc, dir));
            }
            Op::SetTty { by, tty } => {
                let tty = TTYS.get(tty).copied().unwrap_or_default();
                self.change(by, |world, proc| world.set_tty(proc, tty));
            }
            Op::SetUid { by, uid } => {
                let uid = UIDS.get(uid).copied().unwrap_or_default();
                self.change(by, |world, proc| set_uid(world, proc, uid));
            }
            Op::WaitShort => self.world.wait(SETTLE_NS / 2),
            Op::Wait => self.world.wait(2 * SETTLE_NS),
            Op::Pass => {
                let keys: Vec<ProcessKey> = self.procs.iter().map(|proc| proc.key).collect();
                for proc in &mut self.procs {
                    if !keys.contains(&proc.parent) {
                        proc.parent = ProcessKey::new(1, 1);
                    }
                }
                self.world.pass(&self.procs.iter().collect::<Vec<_>>());
            }
            Op::ReloadWithOne => {
                self.setting.instances = Instances::One;
                self.world.set_rules(self.setting.rules(), Vec::new());
            }
        }
    }

    /// Gives the core its turns until no work waits for one.
    fn finish_turns(&mut self) {
        for _ in 0..TURNS {
            let is_due = |due: BootTime| due.0 <= self.world.now;
            if !self.world.core.poll_timeout().is_some_and(is_due) {
                return;
            }
            let at = self.world.tick_clock();
            self.world.feed(Input::Tick { at });
        }
        panic!("work waits after {TURNS} turns");
    }

    fn assert_as_a_fresh_look(&mut self) {
        self.finish_turns();
        assert_eq!(invariants::check(&self.world.core), Ok(()));
    }

    /// A user has one session in each directory, if the rules say so.
    fn assert_one_session_each(&self) {
        let live = self.world.core.sessions().filter(|(session, _)| session.state != State::Ended);
        let homes: Vec<(&[u8], u32)> =
            live.map(|(session, _)| (&*session.home.path, session.home.uid)).collect();
        let directories: BTreeSet<_> = homes.iter().collect();
        let is_one = matches!(self.setting.instances, Instances::One);
        assert!(!is_one || directories.len() == homes.len(), "{homes:?}");
    }
}

proptest! {
    #![proptest_config(others_each_time(CASES))]

    #[test]
    fn every_history_leaves_what_a_fresh_look_finds(
        ops in prop::collection::vec(op(), 1..30),
        setting in setting(),
    ) {
        let mut host = Host::new(setting);
        for op in ops {
            host.apply(op);
            host.assert_as_a_fresh_look();
            host.assert_one_session_each();
        }
        host.world.assert_reports_give_the_map();
    }
}

/// Gives a process another real user id.
fn set_uid(world: &mut World, proc: &mut Proc, uid: u32) {
    proc.uid = uid;
    let at = world.tick_clock();
    world.feed(Input::Creds { at, key: proc.key, uids: Uids { uid, euid: uid, suid: uid } });
}

#[test]
fn what_becomes_a_wrapper_by_another_rule_is_above_what_it_started_for_another_user() {
    let setting = Setting { instances: Instances::One, is_by_cwd: false, has_two: true };
    let mut world = World::new(setting.rules());
    let bash = at_home(&mut world);
    let mut outer = world.spawn(&bash, 20, "claude");
    let mut inner = world.fork(&outer, 21);
    set_uid(&mut world, &mut inner, 8);
    world.set_tty(&mut inner, Some("pts4"));
    world.exec(&mut inner, "codex");
    let wrapper = |world: &World| {
        let mut sessions = world.core.sessions().map(|(session, _)| session);
        sessions.find(|it| it.home.uid == 8).and_then(|session| session.wrapper)
    };
    assert_eq!(wrapper(&world), None);
    world.exec(&mut outer, "env");
    assert_eq!(wrapper(&world), Some(outer.key));
}

#[test]
fn what_comes_within_reach_when_a_shell_without_a_terminal_ends_takes_what_it_started() {
    let mut world = World::new(vec![rule()]);
    let mut bash = at_home(&mut world);
    world.set_tty(&mut bash, None);
    let claude = world.spawn(&bash, 20, "claude");
    let mut first = world.fork(&claude, 1_000);
    world.exec(&mut first, "bash");
    let mut shells = vec![first];
    while let Some(above) = shells.last().filter(|_| shells.len() < LINEAGE_STEPS_MAX).cloned() {
        shells.push(world.fork(&above, above.key.tgid.0 + 1));
    }
    let innermost = shells.last().cloned().expect("a shell");
    world.spawn(&innermost, 2_000, "codex");
    assert_eq!(world.session("/srv/a").map(|session| session.roots), Some(2), "too far below");
    let shell = shells.get(100).cloned().expect("a shell");
    world.is_large = true;
    world.exit(&shell, 0);
    // Those below it are looked at in several turns.
    (0..4).for_each(|_| world.wait(2 * SETTLE_NS));
    assert_eq!(invariants::check(&world.core), Ok(()));
    assert_eq!(world.session("/srv/a").map(|session| session.roots), Some(1));
}
