//! Which process is the primary of each home, by a naive model: it computes from the tree of processes, and from who was
//! the primary before, what docs/decisions/39-roots-helpers-launchers.md promises. It has nothing in common with the core
//! but the inputs. One event at a time happens, and everything has settled before the next. A process that started others
//! goes nowhere else, executes nothing, and ends only if it started its own program alone: the model knows no more of the
//! past than the last event. In the end, a core that knows nothing of the past looks at the same processes.
//!
//! Each run has other sequences. A failure prints the seed that repeats it: `PROPTEST_RNG_SEED`. `PROPTEST_CASES` gives more.
//! What becomes of a launcher that goes elsewhere, or executes another program, while it has several children is history that
//! the model does not know, so there are no such events.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use observer_core::explanation::Position;
use observer_core::limits::SETTLE_NS;
use observer_core::rule::{HomeRule, Instances, Rule};
use observer_core::session::State;
use observer_core::{ProcessKey, Tgid};
use proptest::prelude::*;
use support::cases::others_each_time;
use support::{Proc, World, rule, shell};

const NAMES: [&str; 6] = ["claude", "bash", "sudo", "claude", "codex", "bash"];
/// What a rule without `cwd` may have for homes. The others are the first, the third and the fourth.
const DIRS: [&str; 5] = ["/srv/a", "/srv/a/x", "/srv/b", "/srv/c", "/tmp"];
const TTYS: [Option<&str>; 4] = [None, Some("pts3"), Some("pts4"), Some("pts5")];
/// Cases of each property.
const CASES: u32 = 1_000;
/// Processes at a time, the shells between programs aside.
const PROCESSES: usize = 9;
/// Shells between programs at a time.
const SHELLS: usize = 40;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A child that executes a program, on another terminal if one is given. Shells are between, each of which started the
    /// next one, and may have a terminal of their own.
    Spawn {
        by: usize,
        shells: usize,
        shell_tty: Option<usize>,
        name: usize,
        tty: Option<usize>,
        leads: bool,
    },
    /// A child that executes nothing.
    Fork {
        by: usize,
    },
    Exit {
        by: usize,
    },
    Chdir {
        by: usize,
        to: usize,
    },
    /// A running process executes a program.
    Exec {
        by: usize,
        name: usize,
    },
    /// The controlling terminal of a process becomes another one, or none.
    SetTty {
        by: usize,
        tty: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let by = 0..64_usize;
    let tty = || prop::option::weighted(0.3, 0..TTYS.len());
    let shells = prop_oneof![8 => Just(0_usize), 1 => 1..4_usize, 1 => 4..24_usize];
    prop_oneof![
        6 => (by.clone(), shells, tty(), 0..NAMES.len(), tty(), prop::bool::weighted(0.2)).prop_map(
            |(by, shells, shell_tty, name, tty, leads)| Op::Spawn { by, shells, shell_tty, name, tty, leads }
        ),
        1 => by.clone().prop_map(|by| Op::Fork { by }),
        4 => by.clone().prop_map(|by| Op::Exit { by }),
        4 => (by.clone(), 0..DIRS.len()).prop_map(|(by, to)| Op::Chdir { by, to }),
        3 => (by.clone(), 0..NAMES.len()).prop_map(|(by, name)| Op::Exec { by, name }),
        1 => (by, 0..TTYS.len()).prop_map(|(by, tty)| Op::SetTty { by, tty }),
    ]
}

/// The rule.
#[derive(Clone, Copy, Debug)]
enum Homes {
    /// It has a `cwd`: the homes are /srv/a, /srv/b and /srv/c.
    Matched,
    /// It has none: the home of a program is where it had settled.
    Settled,
}

impl Homes {
    fn rule(self) -> Rule {
        match self {
            Self::Matched => rule(),
            Self::Settled => Rule { home: HomeRule::Cwd, ..rule() },
        }
    }

    fn all(self) -> Vec<&'static str> {
        match self {
            Self::Matched => DIRS.into_iter().filter(|dir| dir.len() == "/srv/a".len()).collect(),
            Self::Settled => DIRS.to_vec(),
        }
    }

    /// The home of a process that settles where it is.
    fn home_of(self, proc: &Proc) -> Option<&'static str> {
        let is_in = |home: &&str| match self {
            Self::Matched => proc.cwd == **home || proc.cwd.starts_with(&format!("{home}/")),
            Self::Settled => proc.cwd == **home,
        };
        self.all().into_iter().find(is_in).filter(|_| proc.comm != "bash")
    }
}

/// A process, and which live process started it, or else started the one that did.
#[derive(Clone)]
struct Task {
    proc: Proc,
    above: Option<u32>,
    leads: bool,
    home: Option<&'static str>,
    /// It is a shell between programs.
    is_between: bool,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proc { comm, cwd, tty, exec_id, .. } = &self.proc;
        let tty = tty.unwrap_or("-");
        write!(f, "{comm}/{exec_id} in {cwd} of {:?} on {tty} below {:?}", self.home, self.above)?;
        if self.leads { write!(f, ", leads") } else { Ok(()) }
    }
}

impl Task {
    /// A process that no rule admits.
    fn new(proc: Proc, above: Option<u32>) -> Self {
        Self { proc, above, leads: false, home: None, is_between: false }
    }

    fn home(&self) -> Option<&'static str> {
        self.home
    }

    fn is_program(&self) -> bool {
        self.home.is_some() && !self.is_wrapper()
    }

    fn is_wrapper(&self) -> bool {
        self.proc.comm == "sudo"
    }
}

/// What is known of a home from before.
#[derive(Clone, Debug)]
struct Past {
    primary: Option<u32>,
    /// What the session is of.
    program: &'static str,
    /// The primary was there when one that ran that program ended, and runs another one.
    is_substitute: bool,
    launcher: Option<u32>,
}

/// What an event did that the tree does not show.
#[derive(Debug, Default)]
struct Event {
    /// The home of a process that died.
    home: Option<&'static str>,
    /// What that one started.
    below: BTreeSet<u32>,
    /// The process that came into another home.
    arrived: Option<u32>,
    /// The process that executed a program with which it can be no session of the home that it had.
    gave_up: Option<u32>,
    /// The home of a primary that died below another process, and what it had started that runs the program of the session.
    successors: Option<(&'static str, Vec<Top>)>,
}

/// Who must be the primary of a home.
#[derive(Clone, Copy, Debug)]
struct Primary {
    tgid: u32,
    /// It is elsewhere.
    has_left: bool,
    /// A session begins with it.
    is_start: bool,
}

/// A process without another one of its home above it.
#[derive(Clone, Copy, Debug)]
struct Top {
    tgid: u32,
    /// The program that runs for it.
    program: Option<u32>,
    /// What stands aside for that program.
    launcher: Option<u32>,
}

/// The top whose launcher is that of the session.
fn launched<'a>(tops: &'a [Top], past: Option<&Past>) -> Option<&'a Top> {
    let launcher = past?.launcher?;
    tops.iter().find(|top| [top.launcher, top.program].contains(&Some(launcher)))
}

struct Model {
    homes: Homes,
    instances: Instances,
    world: World,
    tasks: BTreeMap<u32, Task>,
    pasts: BTreeMap<&'static str, Past>,
    next_tgid: u32,
}

impl Model {
    fn new(homes: Homes, instances: Instances) -> Self {
        let mut world = World::new(vec![Rule { instances, ..homes.rule() }]);
        let mut bash = shell(&mut world);
        world.chdir(&mut bash, "/srv/a");
        let tgid = bash.key.tgid.0;
        let tasks = BTreeMap::from([(tgid, Task::new(bash, None))]);
        Self { homes, instances, world, tasks, pasts: BTreeMap::new(), next_tgid: 20 }
    }

    /// What a core answers that knows nothing but the processes that there are: they are as they were, and nobody ever was
    /// the primary.
    fn look(&self) -> Self {
        let mut world = World::new(vec![Rule { instances: self.instances, ..self.homes.rule() }]);
        (world.now, world.dirs, world.sids) =
            (self.world.now, self.world.dirs.clone(), self.world.sids.clone());
        let mut tasks = self.tasks.clone();
        for task in tasks.values_mut() {
            // What outlives its parent has another one, here the next above it.
            let above = task.above.and_then(|above| self.tasks.get(&above));
            task.proc.parent = above.map_or(ProcessKey::new(1, 1), |above| above.proc.key);
            task.home = self.homes.home_of(&task.proc);
        }
        // In which order they are found has no part in it.
        let mut rows: Vec<&Proc> = tasks.values().map(|task| &task.proc).collect();
        rows.rotate_left(usize::try_from(world.now).unwrap_or(0) % tasks.len());
        world.pass(&rows);
        rows.into_iter().for_each(|proc| world.memory(proc));
        let (homes, instances) = (self.homes, self.instances);
        Self { homes, instances, world, tasks, pasts: BTreeMap::new(), next_tgid: self.next_tgid }
    }

    fn has_room(&self) -> bool {
        self.tasks.values().filter(|task| !task.is_between).count() < PROCESSES
    }

    fn has_children(&self, tgid: u32) -> bool {
        self.tasks.values().any(|it| it.above == Some(tgid))
    }

    /// The home that a process left and whose primary it still is.
    fn left_home(&self, task: &Task) -> Option<&'static str> {
        let is_held = |past: &Past| past.primary == Some(task.proc.key.tgid.0);
        let held = self.pasts.iter().find(|(_, past)| is_held(past)).map(|(home, _)| *home);
        held.filter(|held| task.home != Some(*held))
    }

    /// The shells between programs come less often than others.
    fn pick(&self, by: usize) -> Option<Task> {
        let (of_all, by) = (by.is_multiple_of(4), by / 4);
        let tasks = || self.tasks.values().filter(|task| of_all || !task.is_between);
        tasks().nth(by % tasks().count()).cloned()
    }

    /// Starts shells, each by the one before, and returns the last.
    fn start_shells(&mut self, parent: Task, count: usize, tty: Option<usize>) -> Task {
        let count = count.min(SHELLS - self.tasks.values().filter(|task| task.is_between).count());
        (0..count).fold(parent, |above, number| {
            let tgid = self.next_tgid;
            self.next_tgid += 1;
            let mut proc = self.world.fork(&above.proc, tgid);
            if number == 0 {
                proc.tty = tty.and_then(|at| TTYS.get(at)).copied().unwrap_or(proc.tty);
                self.world.exec(&mut proc, "bash");
            }
            let shell = Task { is_between: true, ..Task::new(proc, Some(above.proc.key.tgid.0)) };
            self.tasks.insert(tgid, shell.clone());
            shell
        })
    }

    /// Applies an event, and returns what it did.
    fn apply(&mut self, op: Op) -> Event {
        let mut event = Event::default();
        match op {
            Op::Spawn { by, .. } | Op::Fork { by } if self.has_room() => {
                let Some(mut parent) = self.pick(by) else { return event };
                // Until it executes another program, its child is a program where the home is another one.
                let is_elsewhere = parent.is_program() && parent.home != self.homes.home_of(&parent.proc);
                let is_primary = |past: &Past| past.primary == Some(parent.proc.key.tgid.0);
                if matches!(op, Op::Spawn { .. }) && is_elsewhere && !self.pasts.values().any(is_primary) {
                    return event;
                }
                if let Op::Spawn { shells, shell_tty, .. } = op {
                    parent = self.start_shells(parent, shells, shell_tty);
                }
                let tgid = self.next_tgid;
                self.next_tgid += 1;
                let mut proc = self.world.fork(&parent.proc, tgid);
                let mut leads = false;
                if let Op::Spawn { name, tty, leads: leader, .. } = op {
                    proc.tty = tty.and_then(|at| TTYS.get(at)).copied().unwrap_or(proc.tty);
                    leads = leader;
                    if leads {
                        self.world.sids.insert(proc.key, tgid);
                    }
                    self.world.exec(&mut proc, NAMES.get(name).copied().unwrap_or("claude"));
                }
                let (above, home) = (Some(parent.proc.key.tgid.0), self.homes.home_of(&proc));
                self.tasks.insert(tgid, Task { leads, home, ..Task::new(proc, above) });
            }
            Op::Spawn { .. } | Op::Fork { .. } => {}
            Op::Exit { by } => {
                let Some(task) = self.pick(by).filter(|task| task.above.is_some()) else {
                    return event;
                };
                let tgid = task.proc.key.tgid.0;
                // Of what candidates left behind at different times, the model knows the last only.
                let is_below = |it: &&Task| it.above == Some(tgid);
                if self.tasks.values().filter(is_below).any(|it| it.proc.comm != task.proc.comm) {
                    return event;
                }
                let below = |it: &u32| self.above(*it).any(|above| above.proc.key.tgid.0 == tgid);
                if !task.is_wrapper() {
                    let held =
                        |(home, past): (&&'static str, &Past)| (past.primary == Some(tgid)).then_some(*home);
                    event.home = task.home().or_else(|| self.pasts.iter().find_map(held));
                    event.below = self.tasks.keys().copied().filter(below).collect();
                }
                event.successors = self.successors(tgid);
                self.world.exit(&task.proc, 9);
                self.tasks.remove(&tgid);
                for other in self.tasks.values_mut().filter(|other| other.above == Some(tgid)) {
                    other.above = task.above;
                }
            }
            Op::Chdir { by, to } => {
                let Some(mut task) = self.pick(by) else { return event };
                let tgid = task.proc.key.tgid.0;
                if task.above.is_some() && self.has_children(tgid) {
                    return event;
                }
                let from = task.home();
                let follows = matches!(self.homes, Homes::Matched) || self.left_home(&task).is_some();
                self.world.chdir(&mut task.proc, DIRS.get(to).copied().unwrap_or("/tmp"));
                if follows {
                    task.home = self.homes.home_of(&task.proc);
                }
                event.arrived = (task.home() != from).then_some(tgid);
                self.tasks.insert(task.proc.key.tgid.0, task);
            }
            Op::Exec { by, name } => {
                let Some(task) = self.pick(by) else { return event };
                let tgid = task.proc.key.tgid.0;
                // What no rule admitted comes above what it started, as a shell does that executes a program.
                let comes_above =
                    task.home.is_none() && self.left_home(&task).is_none() && !task.is_wrapper();
                if (self.has_children(tgid) && !comes_above) || task.above.is_none() {
                    return event;
                }
                self.exec(task, NAMES.get(name).copied().unwrap_or("claude"), &mut event);
            }
            Op::SetTty { by, tty } => {
                let Some(mut task) = self.pick(by) else { return event };
                self.world.set_tty(&mut task.proc, TTYS.get(tty).copied().unwrap_or_default());
                self.tasks.insert(task.proc.key.tgid.0, task);
            }
        }
        event
    }

    fn exec(&mut self, mut task: Task, name: &'static str, event: &mut Event) {
        let tgid = task.proc.key.tgid.0;
        let before = task.clone();
        self.world.exec(&mut task.proc, name);
        // A program that goes on as itself keeps the home in which it had settled.
        if before.proc.comm != name || before.home.is_none() {
            task.home = self.homes.home_of(&task.proc);
        }
        let goes = before.home.is_some() && task.home != before.home;
        if name == "bash" || (before.is_wrapper() && goes) {
            event.gave_up = Some(tgid);
        } else if goes || self.left_home(&before).is_some() {
            event.arrived = Some(tgid);
        }
        self.tasks.insert(tgid, task);
    }

    /// The processes that started one, the nearest first.
    fn above(&self, tgid: u32) -> impl Iterator<Item = &Task> {
        let next = |tgid: u32| self.tasks.get(&self.tasks.get(&tgid)?.above?);
        std::iter::successors(next(tgid), move |task| next(task.proc.key.tgid.0))
    }

    /// Which process of `home`, or which primary of another one, a process of `home` belongs to. `primaries` are those of
    /// all homes, and `holder` is the one of `home`, wherever it is.
    fn owner(&self, tgid: u32, home: &str, holder: Option<u32>, primaries: &BTreeSet<u32>) -> Option<u32> {
        let task = self.tasks.get(&tgid)?;
        let mut between: Vec<&str> = Vec::new();
        for above in self.above(tgid) {
            let key = above.proc.key.tgid.0;
            let is_cut_off = between.iter().any(|&tty| Some(tty) != above.proc.tty);
            let own_terminal = task.proc.tty.is_some() && task.proc.tty != above.proc.tty;
            let is_here = above.home() == Some(home) || holder == Some(key);
            let wraps = above.is_wrapper() && above.home().is_some();
            let takes = (is_here && (wraps || !own_terminal))
                || (primaries.contains(&key) && holder != Some(key) && !own_terminal);
            if takes && !is_cut_off {
                return Some(key);
            }
            if above.home().is_none() {
                between.extend(above.proc.tty);
            }
        }
        None
    }

    /// The tops of `home`, the oldest first.
    fn tops(&self, home: &str, holder: Option<u32>, primaries: &BTreeSet<u32>) -> Vec<Top> {
        let owners = self.owners(home, holder, primaries);
        let tops = owners.iter().filter(|(_, owner)| owner.is_none());
        tops.map(|(&tgid, _)| self.top(tgid, &owners)).collect()
    }

    /// The processes of `home`, each with which one it belongs to.
    fn owners(
        &self,
        home: &str,
        holder: Option<u32>,
        primaries: &BTreeSet<u32>,
    ) -> BTreeMap<u32, Option<u32>> {
        // The primary of another home that could be no session here keeps that one.
        let members = self.tasks.iter().filter(|(_, task)| task.home() == Some(home));
        let members = members.filter(|(tgid, _)| !primaries.contains(tgid));
        members.map(|(&tgid, _)| (tgid, self.owner(tgid, home, holder, primaries))).collect()
    }

    /// What goes on as tops when a primary ends that is below another process: what it started that runs the program of its
    /// session, whatever came above both.
    fn successors(&self, primary: u32) -> Option<(&'static str, Vec<Top>)> {
        let (home, past) = self.pasts.iter().find(|(_, past)| past.primary == Some(primary))?;
        let answer = self.answer();
        let primaries = answer.iter().filter(|(other, _)| *other != home);
        let primaries: BTreeSet<u32> = primaries.map(|(_, &(primary, _))| primary).collect();
        self.owner(primary, home, None, &primaries)?;
        let owners = self.owners(home, Some(primary), &primaries);
        let below = owners.iter().filter(|(_, owner)| **owner == Some(primary));
        // Who is no top does not stand aside.
        let outermost = |top: Top| Top { program: top.launcher.or(top.program), launcher: None, ..top };
        let tops = below.map(|(&tgid, _)| outermost(self.top(tgid, &owners)));
        let runs = |top: &Top| top.program.is_some_and(|program| self.runs(program, Some(past)));
        Some((*home, tops.filter(runs).collect()))
    }

    fn top(&self, tgid: u32, owners: &BTreeMap<u32, Option<u32>>) -> Top {
        let is_wrapper = |tgid: u32| self.tasks.get(&tgid).is_some_and(Task::is_wrapper);
        // tgids grow with time here.
        let runs_for_top = |&program: &u32| {
            let mut at = program;
            while at != tgid {
                match owners.get(&at).copied().flatten() {
                    Some(owner) if is_wrapper(owner) => at = owner,
                    _ => return false,
                }
            }
            !is_wrapper(program)
        };
        let Some(first) = owners.keys().copied().find(runs_for_top) else {
            return Top { tgid, program: None, launcher: None };
        };
        let mut innermost = first;
        while let Some(next) = self.launched(innermost, owners) {
            innermost = next;
        }
        Top { tgid, program: Some(innermost), launcher: (innermost != first).then_some(first) }
    }

    /// The one process for which another one stands aside.
    fn launched(&self, launcher: u32, owners: &BTreeMap<u32, Option<u32>>) -> Option<u32> {
        let of = self.tasks.get(&launcher)?;
        // What it started itself belongs to it, by nothing but wrappers.
        let right_above = |tgid: u32| {
            let above = self.tasks.get(&tgid)?.above?;
            (owners.get(&tgid).copied().flatten() == Some(above)).then_some(above)
        };
        let started = |tgid: u32| {
            let mut at = right_above(tgid)?;
            while at != launcher && self.tasks.get(&at)?.is_wrapper() {
                at = right_above(at)?;
            }
            Some(at)
        };
        let is_same = |&tgid: &u32| {
            !self.tasks.get(&tgid).is_some_and(Task::is_wrapper)
                && started(tgid) == Some(launcher)
                && self.tasks.get(&tgid).is_some_and(|it| {
                    (it.proc.comm, it.proc.tty) == (of.proc.comm, of.proc.tty)
                        && it.proc.exec_id != of.proc.exec_id
                })
        };
        let mut found = owners.keys().copied().filter(is_same);
        found.next().filter(|_| found.next().is_none())
    }

    /// Who is elected among `programs`. `first` comes before all others.
    fn best(
        &self,
        programs: impl Iterator<Item = u32>,
        past: Option<&Past>,
        first: Option<u32>,
    ) -> Option<u32> {
        programs.min_by_key(|&tgid| {
            let task = self.tasks.get(&tgid);
            let runs = past.is_some_and(|past| task.is_some_and(|task| task.proc.comm == past.program));
            let on_terminal = task.is_some_and(|task| task.proc.tty.is_some());
            let leads = task.is_some_and(|task| task.leads);
            (first != Some(tgid), !runs, !on_terminal, !leads, tgid)
        })
    }

    fn runs(&self, tgid: u32, past: Option<&Past>) -> bool {
        past.zip(self.tasks.get(&tgid)).is_some_and(|(past, task)| task.proc.comm == past.program)
    }

    /// Who is elected among `tops` where the primary is not there. What a dead one started, `left_behind`, waits.
    fn elected(&self, tops: &[Top], past: Option<&Past>, left_behind: &BTreeSet<u32>) -> Option<u32> {
        // A launcher takes the place of what it started until that has gone on for a second, and hands it over then.
        let launcher = |top: &Top| {
            let is_known = |program: u32| {
                past.is_some_and(|past| past.launcher == top.launcher) && self.runs(program, past)
            };
            let waits = |program: u32| left_behind.contains(&program) && !is_known(program);
            top.launcher.filter(|_| top.program.is_some_and(waits))
        };
        let stand_in = |top: &Top| launcher(top).or(top.program);
        let stand_ins: BTreeMap<u32, u32> =
            tops.iter().filter_map(|top| Some((stand_in(top)?, top.program?))).collect();
        let now = stand_ins.keys().copied();
        let now = now.filter(|tgid| !left_behind.contains(tgid) || self.runs(*tgid, past));
        let first = launched(tops, past).and_then(stand_in);
        let elected = self.best(now, past, first)?;
        stand_ins.get(&elected).copied()
    }

    /// Whether the primary of `home` went to another home where it may be a session.
    fn has_moved(&self, primary: u32, home: &str, answer: &BTreeMap<String, (u32, bool)>) -> bool {
        let Some(to) = self.tasks.get(&primary).and_then(Task::home).filter(|to| *to != home) else {
            return false;
        };
        let there = answer.get(to).map(|&(primary, _)| primary);
        let others = answer.iter().filter(|(other, _)| *other != to && *other != home);
        let primaries = others.map(|(_, &(primary, _))| primary).collect();
        let tops = || self.tops(to, there, &primaries);
        let runs_for_wrapper = || tops().iter().any(|top| top.launcher.or(top.program) == Some(primary));
        // A wrapper goes where it runs nothing if it may run the program of a wrapper there.
        let wraps_for_wrapper = || {
            let is_wrapper = |tgid: u32| self.tasks.get(&tgid).is_some_and(Task::is_wrapper);
            let above = |&tgid: &u32| self.owner(tgid, to, there, &primaries);
            let chain: Vec<u32> = std::iter::successors(Some(primary), above).collect();
            let top = chain.last().copied().filter(|_| chain.iter().all(|&tgid| is_wrapper(tgid)));
            let may_run = |top: &Top| top.launcher.or(top.program).is_none_or(|program| primary < program);
            top.is_some_and(|top| tops().iter().any(|it| it.tgid == top && may_run(it)))
        };
        let owner = self.owner(primary, to, there, &primaries);
        owner.is_none() || (owner != there && (runs_for_wrapper() || wraps_for_wrapper()))
    }

    /// Who must be the primary of `home`, and whether it left.
    fn expected(
        &self,
        home: &'static str,
        pasts: &BTreeMap<&'static str, Past>,
        answer: &BTreeMap<String, (u32, bool)>,
        event: &Event,
    ) -> Option<Primary> {
        let nobody = BTreeSet::new();
        let left_behind = if event.home == Some(home) { &event.below } else { &nobody };
        let past = pasts.get(home);
        let others = answer.iter().filter(|(other, _)| *other != home);
        let primaries: BTreeSet<u32> = others.map(|(_, &(primary, _))| primary).collect();
        let before = past.and_then(|past| past.primary);
        let goes_on = |before: &u32| self.tasks.contains_key(before) && event.gave_up != Some(*before);
        let alive = before.filter(goes_on);
        let holder = alive.filter(|it| !primaries.contains(it) && !self.has_moved(*it, home, answer));
        let tops = self.tops(home, holder, &primaries);
        let programs = || tops.iter().filter_map(|top| top.program);
        let is_here = |tgid: &u32| self.tasks.get(tgid).and_then(Task::home) == Some(home);
        let runs = |tgid: &u32| self.runs(*tgid, past);
        if let Some(present) = alive.filter(is_here) {
            let is_substitute = past.is_some_and(|past| past.is_substitute);
            let returned = self.best(programs().filter(|it| is_substitute && runs(it)), None, None);
            let in_chain = |top: &&Top| {
                let from_launcher = || {
                    let mut above = top.program.into_iter().flat_map(|program| self.above(program));
                    top.launcher.is_some_and(|launcher| {
                        above.any(|it| it.proc.key.tgid.0 == present) && launcher <= present
                    })
                };
                [Some(top.tgid), top.program, top.launcher].contains(&Some(present)) || from_launcher()
            };
            let innermost = tops.iter().find(in_chain).and_then(|top| top.program);
            let tgid = returned.or(innermost).unwrap_or(present);
            return Some(Primary { tgid, has_left: false, is_start: false });
        }
        // At once: what the primary that left started is still its helper, and what a dead one started waits.
        // Who could be no session here and kept another home, and who has just arrived, is considered after that, if the
        // session goes on until then.
        let former = pasts.iter().filter(|(other, _)| **other != home).filter_map(|(_, past)| past.primary);
        let (former_here, former): (BTreeSet<u32>, BTreeSet<u32>) = former.partition(is_here);
        // Until that one has settled, only the home that it left has another primary.
        let others = pasts.iter().filter(|(other, _)| **other != home);
        let others = others.filter_map(|(other, past)| match past.primary {
            Some(left) if Some(left) == event.arrived => answer.get(*other).map(|&(primary, _)| primary),
            primary => primary,
        });
        let others: BTreeSet<u32> =
            if event.arrived.is_some() { others.collect() } else { primaries.clone() };
        let at_once: BTreeSet<u32> = others.into_iter().chain(former_here).chain(event.arrived).collect();
        // Where it is the primary that has arrived elsewhere, the other homes are as they were until then.
        let leaves = alive.is_some() && alive == event.arrived;
        let after = if holder.is_some() { Some(primaries.clone()) } else { leaves.then_some(former) };
        for mut without in [Some(at_once), after].into_iter().flatten() {
            without.retain(|it| Some(*it) != alive);
            let mut tops = self.tops(home, alive, &without);
            let successors = event.successors.iter().filter(|(of, _)| *of == home);
            let successors = successors.flat_map(|(_, successors)| successors.iter().copied());
            // Not what is below another session that begins among what the dead one started.
            tops.extend(successors.filter(|top| self.owner(top.tgid, home, None, &without) < before));
            let Some(elected) = self.elected(&tops, past, left_behind) else { continue };
            // It stands in for the program of the session until that one is there again.
            let is_start = before.is_none();
            let tops = self.tops(home, None, &primaries);
            let programs = tops.iter().filter_map(|top| top.program);
            let returned =
                self.best(programs.filter(|it| !is_start && !runs(&elected) && runs(it)), None, None);
            return Some(Primary { tgid: returned.unwrap_or(elected), has_left: false, is_start });
        }
        if let Some(holder) = holder {
            return Some(Primary { tgid: holder, has_left: true, is_start: false });
        }
        // The session ended, and another one may begin.
        self.best(programs(), past, None).map(|tgid| Primary { tgid, has_left: false, is_start: true })
    }

    fn answer(&self) -> BTreeMap<String, (u32, bool)> {
        let live = self.world.core.sessions().filter(|(session, _)| session.state != State::Ended);
        live.map(|(session, _)| {
            let home = String::from_utf8_lossy(&session.home.path).into_owned();
            (home, (session.primary.tgid.0, session.state == State::Left))
        })
        .collect()
    }

    /// Compares the answer with what is expected, and takes it for what was before the next event.
    fn compare(&mut self, event: &Event) {
        let (answer, pasts) = (self.answer(), self.pasts.clone());
        for home in self.homes.all() {
            let expected = self.expected(home, &pasts, &answer, event);
            let of_home = expected.map(|it| (it.tgid, it.has_left));
            assert_eq!(answer.get(home).copied(), of_home, "{home} in {answer:?} of {:#?}", self.tasks);
            self.remember(home, expected, &answer);
        }
    }

    fn remember(
        &mut self,
        home: &'static str,
        primary: Option<Primary>,
        answer: &BTreeMap<String, (u32, bool)>,
    ) {
        let Some(Primary { tgid, is_start, has_left }) = primary else {
            if let Some(past) = self.pasts.get_mut(home) {
                (past.primary, past.launcher) = (None, None);
            }
            return;
        };
        if has_left {
            return;
        }
        let others = answer.iter().filter(|(other, _)| *other != home);
        let primaries = others.map(|(_, &(primary, _))| primary).collect();
        let tops = self.tops(home, Some(tgid), &primaries);
        let launcher = tops.iter().find(|top| top.program == Some(tgid)).and_then(|top| top.launcher);
        let program = self.tasks.get(&tgid).map_or("", |task| task.proc.comm);
        let new = Past { primary: None, program, is_substitute: false, launcher };
        let past = self.pasts.entry(home).or_insert(new);
        // Another program stands in for that of a session that goes on. What the primary executes is the program from then on.
        let is_other = past.primary != Some(tgid);
        past.is_substitute = !is_start && past.program != program && (is_other || past.is_substitute);
        if !past.is_substitute {
            past.program = program;
        }
        if launcher.is_some() || past.launcher != Some(tgid) {
            past.launcher = launcher;
        }
        past.primary = Some(tgid);
    }

    /// One process, one session; and while a program runs that the rule admits, the answer is not that there is none.
    fn assert_promises(&self) {
        let answer = self.answer();
        let primaries: BTreeSet<u32> = answer.values().map(|&(primary, _)| primary).collect();
        assert_eq!(primaries.len(), answer.len(), "one process is one session: {answer:?}");
        assert!(primaries.iter().all(|primary| self.tasks.contains_key(primary)), "{answer:?}");
        for task in self.tasks.values().filter(|task| task.is_program()) {
            let tgid = task.proc.key.tgid;
            assert!(
                self.is_covered(tgid, &answer),
                "{tgid} is of no session in {answer:?} of {:#?}",
                self.tasks
            );
        }
    }

    /// The primaries of the sessions of each home, where there may be several.
    fn primaries(&self) -> BTreeMap<String, BTreeSet<u32>> {
        let live = self.world.core.sessions().filter(|(session, _)| session.state != State::Ended);
        let mut primaries: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for (session, _) in live {
            let home = String::from_utf8_lossy(&session.home.path).into_owned();
            primaries.entry(home).or_default().insert(session.primary.tgid.0);
        }
        primaries
    }

    /// Where each program may have a session of its own, each is one, runs in one, or runs for the same wrapper as one.
    fn assert_each(&self) {
        let answer = self.primaries();
        let primaries: BTreeSet<u32> = answer.values().flatten().copied().collect();
        let is_primary = |key: ProcessKey| primaries.contains(&key.tgid.0);
        for task in self.tasks.values().filter(|task| task.is_program()) {
            let mut at = Some(task.proc.key.tgid);
            while let Some(tgid) = at.take() {
                let position = self.world.core.explain(tgid).map(|it| it.position);
                let is_covered = match position {
                    Some(Position::Primary { .. }) => true,
                    Some(Position::StandsAside { primary, .. }) => is_primary(primary),
                    Some(Position::Helper { of, .. }) => is_primary(of),
                    Some(Position::Other { ref home, .. }) => {
                        answer.contains_key(&*String::from_utf8_lossy(&home.path))
                    }
                    Some(Position::Below { above, .. }) => at.replace(above.tgid).is_none(),
                    _ => false,
                };
                assert!(is_covered, "{tgid} is {position:?} of {primaries:?} in {:#?}", self.tasks);
            }
        }
    }

    /// The programs that are sessions where there is no past: what runs for each top of each home.
    fn assert_each_top_is_a_session(&self) {
        let answer = self.primaries();
        for home in self.homes.all() {
            let others = answer.iter().filter(|(other, _)| *other != home);
            let others: BTreeSet<u32> = others.flat_map(|(_, primaries)| primaries.clone()).collect();
            let tops = self.tops(home, None, &others);
            let expected: BTreeSet<u32> = tops.iter().filter_map(|top| top.program).collect();
            let of_home = answer.get(home).cloned().unwrap_or_default();
            assert_eq!(of_home, expected, "{home} in {answer:?} of {:#?}", self.tasks);
        }
    }

    /// Whether a process is a session, of one, or beside one.
    fn is_covered(&self, tgid: Tgid, answer: &BTreeMap<String, (u32, bool)>) -> bool {
        let Some(explanation) = self.world.core.explain(tgid) else { return false };
        let is_primary = |key: ProcessKey| answer.values().any(|&(primary, _)| primary == key.tgid.0);
        match explanation.position {
            Position::Primary { .. } => true,
            Position::StandsAside { primary, .. } => is_primary(primary),
            Position::Helper { of, .. } => is_primary(of),
            Position::Other { home, .. } => answer.contains_key(&*String::from_utf8_lossy(&home.path)),
            Position::Below { above, .. } => self.is_covered(above.tgid, answer),
            _ => false,
        }
    }

    /// Whether nothing but the present tree decides: each home has one program, which no other one started, and each
    /// session is of such a program that is there.
    fn has_no_history(&self) -> bool {
        let programs = || self.tasks.values().filter(|task| task.is_program());
        let homes: BTreeSet<_> = programs().map(Task::home).collect();
        let is_alone = |task: &Task| !self.above(task.proc.key.tgid.0).any(Task::is_program);
        let is_plain = |&(primary, has_left): &(u32, bool)| {
            !has_left && self.tasks.get(&primary).is_some_and(Task::is_program)
        };
        let is_where_it_was = |task: &Task| task.home == self.homes.home_of(&task.proc);
        homes.len() == programs().count()
            && programs().all(|task| is_alone(task) && is_where_it_was(task))
            && self.answer().values().all(is_plain)
    }
}

proptest! {
    #![proptest_config(others_each_time(CASES))]

    #[test]
    fn the_primary_of_each_home_follows_from_the_tree(
        ops in prop::collection::vec(op(), 1..40),
        homes in prop_oneof![2 => Just(Homes::Matched), 1 => Just(Homes::Settled)],
    ) {
        let mut model = Model::new(homes, Instances::One);
        for op in ops {
            let event = model.apply(op);
            for _ in 0..3 {
                model.world.wait(2 * SETTLE_NS);
            }
            model.compare(&event);
            model.assert_promises();
        }
        // One look at the same processes.
        let mut look = model.look();
        look.assert_promises();
        if model.has_no_history() {
            assert_eq!(look.answer(), model.answer());
        }
        assert_eq!(look.answer().is_empty(), !look.tasks.values().any(Task::is_program));
        look.compare(&Event::default());
    }

    #[test]
    fn each_program_is_a_session_where_several_may_be(
        ops in prop::collection::vec(op(), 1..40),
        homes in prop_oneof![2 => Just(Homes::Matched), 1 => Just(Homes::Settled)],
    ) {
        let mut model = Model::new(homes, Instances::Each);
        for op in ops {
            model.apply(op);
            for _ in 0..3 {
                model.world.wait(2 * SETTLE_NS);
            }
            model.assert_each();
        }
        let look = model.look();
        look.assert_each();
        look.assert_each_top_is_a_session();
    }
}
