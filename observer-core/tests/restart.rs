//! A daemon that is started again: random process trees, moves, terminals and mount namespaces. At a random moment a core is
//! replaced by one that is given what a restarted daemon has: the rows of the live processes, and the sessions that the
//! journal knew. Its primaries are those of a core that was there all the time.
//!
//! The property is restricted to what the kernel and the journal tell. A process that ends has no children: what it leaves
//! behind is known by its birth alone. A process has settled where it is before it starts another one. Where each process has
//! a session, none starts its own program: which of two sessions a launcher belongs to is history. What a session ran that
//! has ended is history too, so nothing happens between one restart and the next.

mod support;

use std::collections::BTreeSet;

use observer_core::Rule;
use observer_core::limits::SETTLE_NS;
use observer_core::rule::Instances;
use observer_core::session::State;
use proptest::prelude::*;
use support::{Proc, World, rule, shell};

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
    rules: fn() -> Vec<Rule>,
    procs: Vec<Proc>,
    next_tgid: u32,
    /// A process may start its own program, and so be a launcher.
    has_launchers: bool,
}

fn one() -> Vec<Rule> {
    vec![rule()]
}

fn each() -> Vec<Rule> {
    vec![Rule { instances: Instances::Each, ..rule() }]
}

impl Daemons {
    fn new(rules: fn() -> Vec<Rule>) -> Self {
        let (mut lasting, mut restarted) = (World::new(rules()), World::new(rules()));
        let procs = vec![shell(&mut lasting)];
        shell(&mut restarted);
        let has_launchers = rules().iter().all(|rule| rule.instances == Instances::One);
        Self { lasting, restarted, rules, procs, next_tgid: 20, has_launchers }
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
                if !self.has_launchers && name == parent.comm {
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
                self.change(at, |world, proc| world.chdir(proc, dir));
            }
            Op::Wait => self.settle(),
        }
    }

    /// Replaces the restarted core. `meanwhile` happens after its first pass and before it is given the known sessions.
    fn restart(&mut self, meanwhile: &[Op]) {
        let before = &self.restarted;
        let sessions = before.core.sessions().map(|(session, _)| session.clone());
        let known = sessions.filter(|session| session.state != State::Ended).map(|session| {
            let primary = self.procs.iter().find(|proc| proc.key == session.primary);
            let had_tty = session.state == State::Detached || primary.is_some_and(|proc| proc.tty.is_some());
            (session, had_tty)
        });
        let known: Vec<_> = known.collect();
        let mut world = World::restarted((self.rules)());
        world.now = before.now.max(self.lasting.now);
        world.dirs.clone_from(&before.dirs);
        world.pass(&self.procs.iter().collect::<Vec<_>>());
        self.restarted = world;
        meanwhile.iter().for_each(|&op| self.apply(op));
        assert_eq!(self.restarted.core.sessions().count(), 0);
        self.restarted.resume(&known, 0);
        self.restarted.assert_reports_give_the_map();
    }

    /// Waits until every process has settled where it is.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.both(|world| world.wait(2 * SETTLE_NS));
        }
    }
}

/// Home, mount namespace, number, primary and state of every session.
fn answer(world: &World) -> BTreeSet<(String, Option<u32>, u32, u32, String)> {
    let sessions = world.core.sessions().filter(|(session, _)| session.state != State::Ended);
    sessions
        .map(|(session, _)| {
            let path = String::from_utf8_lossy(&session.home.path).into_owned();
            let (home, state) = (&session.home, format!("{:?}", session.state));
            (path, home.mnt_ns, home.instance, session.primary.tgid.0, state)
        })
        .collect()
}

fn assert_same_answer(ops: &[Op], rules: fn() -> Vec<Rule>) {
    let mut daemons = Daemons::new(rules);
    for &op in ops {
        daemons.apply(op);
    }
    daemons.settle();
    for _ in 0..2 {
        daemons.restart(&[]);
        daemons.settle();
        assert_eq!(answer(&daemons.restarted), answer(&daemons.lasting));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restarted_daemon_has_the_same_primaries_of_homes_with_one_session(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        assert_same_answer(&ops, one);
    }

    #[test]
    fn a_restarted_daemon_has_the_same_primaries_of_homes_with_many_sessions(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        assert_same_answer(&ops, each);
    }

    #[test]
    fn whatever_happens_while_known_sessions_are_awaited_is_applied(
        ops in prop::collection::vec(op(), 1..40),
        meanwhile in prop::collection::vec(op(), 1..20),
        later in prop::collection::vec(op(), 1..20),
        each_has_one in any::<bool>(),
    ) {
        let mut daemons = Daemons::new(if each_has_one { each } else { one });
        ops.into_iter().for_each(|op| daemons.apply(op));
        daemons.restart(&meanwhile);
        later.into_iter().for_each(|op| daemons.apply(op));
        daemons.settle();
        daemons.restarted.assert_reports_give_the_map();
        // Each step checked the invariants. Who is elected may depend on when.
        prop_assert_eq!(answer(&daemons.restarted).is_empty(), answer(&daemons.lasting).is_empty());
    }
}
