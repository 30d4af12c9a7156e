//! A daemon that is started again: random process trees, moves, terminals and mount namespaces. At random moments a core is
//! replaced by one that is given what a restarted daemon has: the rows of the live processes, the sessions that the journal
//! knew, and the arguments of processes, some of them late. Its primaries are those of a core that was there all the time.
//!
//! The property is restricted to what the kernel and the journal tell. A process that ends has no children: what it leaves
//! behind is known by its birth alone. A process has settled where it is before it starts another one. Where each process has
//! a session and there are launchers, neither they nor what started others goes elsewhere: to which of several sessions
//! those belong afterwards is history.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use observer_core::Rule;
use observer_core::limits::SETTLE_NS;
use observer_core::rule::Instances;
use observer_core::session::{Home, State};
use proptest::prelude::*;
use support::{Proc, Recorded, World, only_program, rule, shell};

const NAMES: [&str; 4] = ["claude", "bash", "claude", "codex"];
const DIRS: [&str; 4] = ["/srv/a", "/srv/a/x", "/srv/b", "/srv/c"];
const TTYS: [&str; 3] = ["pts1", "pts2", "pts3"];
/// The host's mount namespace is 1.
const NAMESPACES: [u32; 3] = [1, 2, 3];

/// Processes at a time.
const PROCESSES: usize = 7;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A child, which may be in another mount namespace, and may have a terminal of its own.
    Spawn {
        by: usize,
        name: usize,
        mnt_ns: Option<usize>,
        tty: Option<usize>,
    },
    /// A process without children ends: what it leaves behind would be known by its birth alone.
    Exit {
        by: usize,
    },
    Chdir {
        by: usize,
        to: usize,
    },
    Wait,
}

fn op() -> impl Strategy<Value = Op> {
    let by = 0..16_usize;
    prop_oneof![
        6 => (by.clone(), 0..NAMES.len(), prop::option::weighted(0.2, 0..NAMESPACES.len()), prop::option::weighted(0.3, 0..TTYS.len()))
            .prop_map(|(by, name, mnt_ns, tty)| Op::Spawn { by, name, mnt_ns, tty }),
        3 => by.clone().prop_map(|by| Op::Exit { by }),
        5 => (by, 0..DIRS.len()).prop_map(|(by, to)| Op::Chdir { by, to }),
        1 => Just(Op::Wait),
    ]
}

/// Two cores that are given the same, of which one is started again.
struct Daemons {
    lasting: World,
    restarted: World,
    setting: Setting,
    procs: Vec<Proc>,
    next_tgid: u32,
    /// The last that was written of each session.
    journal: BTreeMap<Home, Recorded>,
}

/// The rules, and what the programs are.
#[derive(Clone, Copy, Debug)]
struct Setting {
    is_each: bool,
    /// A process may start its own program, and so be a launcher.
    has_launchers: bool,
    /// The programs are scripts of an interpreter, so that a rule admits them by their arguments.
    are_scripts: bool,
}

impl Setting {
    fn rules(self) -> Vec<Rule> {
        let instances = if self.is_each { Instances::Each } else { Instances::One };
        let programs: &[_] = if self.are_scripts { &["claude", "codex"] } else { &[] };
        vec![Rule { instances, conditions: only_program(programs), ..rule() }]
    }

    fn of(self, mut world: World) -> World {
        world.interpreter = self.are_scripts.then_some("node");
        world
    }
}

fn setting() -> impl Strategy<Value = Setting> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(is_each, has_launchers, are_scripts)| Setting {
        is_each,
        has_launchers,
        are_scripts,
    })
}

impl Daemons {
    fn new(setting: Setting) -> Self {
        let mut worlds = [(); 2].map(|()| setting.of(World::new(setting.rules())));
        let shells = worlds.each_mut().map(shell);
        let [lasting, restarted] = worlds;
        let procs = shells.into_iter().take(1).collect();
        Self { lasting, restarted, setting, procs, next_tgid: 20, journal: BTreeMap::new() }
    }

    /// Has both cores see the same at the same time.
    fn both<T>(&mut self, act: impl Fn(&mut World) -> T) -> T {
        let now = self.lasting.now.max(self.restarted.now);
        (self.lasting.now, self.restarted.now) = (now, now);
        act(&mut self.restarted);
        act(&mut self.lasting)
    }

    fn change(&mut self, by: usize, act: impl Fn(&mut World, &mut Proc)) {
        let at = by % self.procs.len();
        let Some(before) = self.procs.get(at).cloned() else { return };
        let after = self.both(|world| {
            let mut proc = before.clone();
            act(world, &mut proc);
            proc
        });
        if let Some(proc) = self.procs.get_mut(at) {
            *proc = after;
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Spawn { .. } if self.procs.len() == PROCESSES => {}
            Op::Spawn { by, name, mnt_ns, tty } => {
                self.settle();
                let Some(parent) = self.procs.get(by % self.procs.len()).cloned() else { return };
                let (mut name, tgid) = (NAMES.get(name).copied().unwrap_or("claude"), self.next_tgid);
                if !self.setting.has_launchers && name == parent.comm {
                    name = if name == "claude" { "codex" } else { "claude" };
                }
                self.next_tgid += 1;
                let child = self.both(|world| {
                    let mut child = world.fork(&parent, tgid);
                    if let Some(&mnt_ns) = mnt_ns.and_then(|at| NAMESPACES.get(at)) {
                        child.mnt_ns = mnt_ns;
                        let cwd = child.cwd.clone();
                        world.chdir(&mut child, &cwd);
                    }
                    if let Some(&tty) = tty.and_then(|at| TTYS.get(at)) {
                        world.set_tty(&mut child, Some(tty));
                    }
                    world.exec(&mut child, name);
                    child
                });
                self.procs.push(child);
            }
            Op::Exit { by } => {
                let at = by % self.procs.len();
                let Some(proc) = self.procs.get(at).cloned() else { return };
                if at > 0 && !self.procs.iter().any(|child| child.parent == proc.key) {
                    self.both(|world| world.exit(&proc, 9));
                    self.procs.remove(at);
                }
            }
            Op::Chdir { by, to } => {
                let dir = DIRS.get(to).copied().unwrap_or("/");
                let at = by % self.procs.len();
                if self.may_move(at) {
                    self.change(at, |world, proc| world.chdir(proc, dir));
                }
            }
            Op::Wait => self.settle(),
        }
    }

    /// Whether a process may go elsewhere: what others belong to that it started is history where each has a session.
    fn may_move(&self, at: usize) -> bool {
        let Some(proc) = self.procs.get(at) else { return false };
        let is_kin =
            |other: &Proc| other.parent == proc.key || (other.key == proc.parent && other.comm == proc.comm);
        at == 0 || !self.setting.is_each || !self.setting.has_launchers || !self.procs.iter().any(is_kin)
    }

    /// Replaces the restarted core. Of the processes, `late` has a bit set for each whose arguments are read afterwards.
    /// `meanwhile` happens after its first pass and before it is given the known sessions.
    fn restart(&mut self, late: u64, meanwhile: &[Op]) {
        self.write();
        let before = &self.restarted;
        let mut world = self.setting.of(World::restarted(self.setting.rules()));
        world.now = before.now.max(self.lasting.now);
        world.dirs.clone_from(&before.dirs);
        world.pass(&self.procs.iter().collect::<Vec<_>>());
        let expected = answer(before);
        // Until it is known that what is between it and a session is a helper, something on a terminal of its own may be a
        // session.
        let tty = self.procs.first().and_then(|proc| proc.tty);
        let has_one_terminal = self.procs.iter().all(|proc| proc.tty == tty);
        let is_late = |at: usize| has_one_terminal && late >> (at % 64) & 1 == 1;
        let (late, early): (Vec<_>, Vec<_>) =
            self.procs.iter().cloned().enumerate().partition(|&(at, _)| is_late(at));
        early.iter().for_each(|(_, proc)| world.memory(proc));
        self.restarted = world;
        meanwhile.iter().for_each(|&op| self.apply(op));
        assert_eq!(self.restarted.core.sessions().count(), 0);
        let recorded: Vec<Recorded> = self.journal.values().cloned().collect();
        self.restarted.resume_recorded(&recorded, 0);
        for (_, proc) in late.iter().rev() {
            self.assert_resumed(&expected, meanwhile);
            self.restarted.memory(proc);
        }
        self.assert_resumed(&expected, meanwhile);
        self.restarted.assert_reports_give_the_map();
    }

    /// What nothing has happened to is the same, whether its arguments were read or not.
    fn assert_resumed(&self, expected: &BTreeSet<Answer>, meanwhile: &[Op]) {
        if meanwhile.is_empty() {
            assert_eq!(&answer(&self.restarted), expected);
        }
    }

    /// The daemon that is to be replaced has written what became of the sessions.
    fn write(&mut self) {
        for recorded in self.restarted.recorded() {
            self.journal.insert((*recorded.session.home).clone(), recorded);
        }
    }

    /// Waits until every process has settled where it is.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.both(|world| world.wait(2 * SETTLE_NS));
        }
    }
}

/// Home, mount namespace, number, primary and state of a session.
type Answer = (String, Option<u32>, u32, u32, String);

fn answer(world: &World) -> BTreeSet<Answer> {
    let sessions = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
    sessions
        .map(|(session, _)| {
            let path = String::from_utf8_lossy(&session.home.path).into_owned();
            let (home, state) = (&session.home, format!("{:?}", session.state));
            // Whether a namespace is the one that had this number before depends on who was in it.
            let number = if home.mnt_ns.is_none() { home.instance } else { 0 };
            (path, home.mnt_ns, number, session.primary.tgid.0, state)
        })
        .collect()
}

/// What happens, and then a restart: the processes whose arguments are read late.
type Life = (Vec<Op>, u64);

fn life() -> impl Strategy<Value = Life> {
    (prop::collection::vec(op(), 1..30), any::<u64>())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_restarted_daemon_has_the_same_primaries(
        lives in prop::collection::vec(life(), 1..4),
        setting in setting(),
    ) {
        let mut daemons = Daemons::new(setting);
        for (ops, late) in lives {
            for op in ops {
                daemons.apply(op);
            }
            daemons.settle();
            prop_assert_eq!(answer(&daemons.restarted), answer(&daemons.lasting));
            for late in [late, !late] {
                daemons.restart(late, &[]);
                daemons.settle();
                prop_assert_eq!(answer(&daemons.restarted), answer(&daemons.lasting));
            }
        }
    }

    #[test]
    fn whatever_happens_while_known_sessions_are_awaited_is_applied(
        ops in prop::collection::vec(op(), 1..40),
        meanwhile in prop::collection::vec(op(), 1..20),
        later in prop::collection::vec(op(), 1..20),
        setting in setting(),
        late: u64,
    ) {
        let mut daemons = Daemons::new(setting);
        ops.into_iter().for_each(|op| daemons.apply(op));
        daemons.restart(late, &meanwhile);
        later.into_iter().for_each(|op| daemons.apply(op));
        daemons.settle();
        daemons.restarted.assert_reports_give_the_map();
        // Each step checked the invariants. Who is elected may depend on when.
        prop_assert_eq!(answer(&daemons.restarted).is_empty(), answer(&daemons.lasting).is_empty());
    }
}
