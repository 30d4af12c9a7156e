//! Compares the core with a naive model of Linux: tgids that are reused, directories that are renamed, shared
//! `fs_struct`s, reparenting; records that are lost, doubled, late and out of order; passes that run ahead of
//! the ring.

mod support;

use std::collections::{BTreeMap, VecDeque};

use observer_common::record::hint;
use observer_core::cost::ProcessUsage;
use observer_core::input::{Block, ProcessFacts, RawPath, TaskRow};
use observer_core::limits::SETTLE_NS;
use observer_core::process::{DirId, Tty, Uids};
use observer_core::rule::Instances;
use observer_core::session::State;
use observer_core::{BootTime, Input, Process, ProcessKey, Rule};
use proptest::prelude::*;
use support::{World, comm, components, rule};

const NAMES: [&str; 5] = ["claude", "bash", "sudo", "node", "vim"];
const TTYS: [&str; 3] = ["pts1", "pts2", "pts3"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Fork {
        by: usize,
        share_fs: bool,
    },
    Exec {
        by: usize,
        name: usize,
    },
    Exit {
        by: usize,
        leave_zombie: bool,
    },
    Chdir {
        by: usize,
        to: usize,
    },
    Comm {
        by: usize,
        name: usize,
    },
    Setuid {
        by: usize,
        uid: u32,
    },
    /// The process loses its terminal, or gets another one.
    Tty {
        by: usize,
        tty: Option<usize>,
    },
    Rename {
        dir: usize,
        to: usize,
    },
    Deliver {
        records: usize,
    },
    /// The next record in the ring is lost.
    Lose,
    /// The next two records were reserved in the other order.
    Swap,
    Pass,
    /// Some processes are read outside of a pass: those whose place has a bit.
    ReadAlone {
        places: u16,
    },
    Wait,
    /// So long that processes settle.
    WaitLong,
}

fn op(lossy: bool) -> impl Strategy<Value = Op> {
    let by = 0..12_usize;
    prop_oneof![
        4 => (by.clone(), prop::bool::weighted(0.1)).prop_map(|(by, share_fs)| Op::Fork { by, share_fs }),
        3 => (by.clone(), 0..NAMES.len()).prop_map(|(by, name)| Op::Exec { by, name }),
        3 => (by.clone(), any::<bool>()).prop_map(|(by, leave_zombie)| Op::Exit { by, leave_zombie }),
        3 => (by.clone(), 0..6_usize).prop_map(|(by, to)| Op::Chdir { by, to }),
        1 => (by.clone(), 0..NAMES.len()).prop_map(|(by, name)| Op::Comm { by, name }),
        1 => (by, 0..3_u32).prop_map(|(by, uid)| Op::Setuid { by, uid }),
        2 => (0..12_usize, prop::option::weighted(0.7, 0..TTYS.len())).prop_map(|(by, tty)| Op::Tty { by, tty }),
        1 => (0..6_usize, 0..9_usize).prop_map(|(dir, to)| Op::Rename { dir, to }),
        8 => (1..6_usize).prop_map(|records| Op::Deliver { records }),
        2 => Just(if lossy { Op::Lose } else { Op::Deliver { records: 1 } }),
        2 => Just(Op::Swap),
        1 => Just(Op::Pass),
        2 => any::<u16>().prop_map(|places| Op::ReadAlone { places }),
        1 => Just(Op::Wait),
        1 => Just(Op::WaitLong),
    ]
}

/// The input that has a row.
type ToInput = for<'a> fn(TaskRow<'a>) -> Input<'a>;

fn pass_row(row: TaskRow<'_>) -> Input<'_> {
    Input::PassRow(row)
}

fn lone_row(row: TaskRow<'_>) -> Input<'_> {
    Input::LoneRow(row)
}

#[derive(Clone, Debug)]
struct Task {
    key: ProcessKey,
    parent: ProcessKey,
    tty: Option<&'static str>,
    comm: &'static str,
    /// The name of the executed file.
    program: &'static str,
    argv: String,
    exec_id: u32,
    fs: usize,
    uid: u32,
}

#[derive(Clone, Debug)]
enum RecordBody {
    Fork { creator: ProcessKey },
    Exec { name: &'static str, argv: String },
    Exit { status: u32 },
    Cwd { path: String },
    Comm(&'static str),
    Creds(Uids),
    Ids(Option<Tty>),
    Hint(u64),
}

#[derive(Clone, Debug)]
struct Record {
    at: BootTime,
    key: ProcessKey,
    facts: ProcessFacts,
    body: RecordBody,
}

struct Linux {
    tasks: BTreeMap<u32, Task>,
    zombies: Vec<(ProcessKey, u32, ProcessFacts)>,
    /// Directory of each `fs_struct`.
    fs: Vec<usize>,
    paths: Vec<String>,
    ring: VecDeque<Record>,
    world: World,
    lost: u64,
    execs: u32,
    next_tgid: u32,
}

impl Linux {
    fn new(instances: Instances) -> Self {
        let init = Task {
            key: ProcessKey::new(1, 1),
            parent: ProcessKey::new(0, 0),
            tty: None,
            comm: "init",
            program: "init",
            argv: "init".into(),
            exec_id: 1,
            fs: 0,
            uid: 0,
        };
        let paths = ["/", "/srv/a", "/srv/a/x", "/srv/b", "/tmp", "/srv/c"].map(String::from).to_vec();
        let mut linux = Self {
            tasks: BTreeMap::from([(1, init)]),
            zombies: Vec::new(),
            fs: vec![0],
            paths,
            ring: VecDeque::new(),
            world: World::new(vec![Rule { instances, ..rule() }]),
            lost: 0,
            execs: 0,
            next_tgid: 1,
        };
        linux.pass();
        linux
    }

    fn pick(&self, by: usize) -> Option<u32> {
        self.tasks.keys().copied().nth(by % self.tasks.len())
    }

    fn facts(&self, task: &Task) -> ProcessFacts {
        let dir = self.fs.get(task.fs).copied().unwrap_or_default();
        ProcessFacts {
            parent: task.parent,
            cwd: DirId { ino: 2 + dir as u64, dev: 8, mnt_id: 1, ..DirId::default() },
            mnt_ns: 1,
            sid: 1,
            pgid: 1,
            uids: Uids { uid: task.uid, euid: task.uid, suid: task.uid },
            tty: tty(task.tty),
            exec_id: task.exec_id,
            comm: comm(task.comm),
            fs_shared: self.tasks.values().filter(|other| other.fs == task.fs).count() > 1,
            ..ProcessFacts::default()
        }
    }

    fn path(&self, task: &Task) -> String {
        self.fs.get(task.fs).and_then(|&dir| self.paths.get(dir)).cloned().unwrap_or_default()
    }

    fn record(&mut self, at: BootTime, task: &Task, body: RecordBody) {
        let facts = self.facts(task);
        self.ring.push_back(Record { at, key: task.key, facts, body });
    }

    fn free_tgid(&mut self) -> Option<u32> {
        // There are few tgids, so that they are reused soon.
        let busy = |tgid: u32| {
            self.tasks.contains_key(&tgid) || self.zombies.iter().any(|(key, ..)| key.tgid.0 == tgid)
        };
        let next = (1..=12).map(|step| 2 + (self.next_tgid + step) % 12).find(|&tgid| !busy(tgid))?;
        self.next_tgid = next;
        Some(next)
    }

    fn apply(&mut self, op: Op) {
        let at = self.world.tick_clock();
        match op {
            Op::Fork { by, share_fs } => {
                let Some(tgid) = self.free_tgid() else { return };
                let Some(parent) = self.pick(by).and_then(|tgid| self.tasks.get(&tgid)).cloned() else {
                    return;
                };
                let fs = if share_fs {
                    parent.fs
                } else {
                    self.fs.push(self.fs.get(parent.fs).copied().unwrap_or_default());
                    self.fs.len() - 1
                };
                let key = ProcessKey::new(tgid, at.0);
                let child = Task { key, parent: parent.key, fs, ..parent.clone() };
                self.tasks.insert(tgid, child.clone());
                self.record(at, &child, RecordBody::Fork { creator: parent.key });
            }
            Op::Exec { by, name } => {
                self.execs += 1;
                let execs = self.execs;
                self.change(
                    by,
                    |task| {
                        task.comm = NAMES.get(name).copied().unwrap_or("x");
                        task.program = task.comm;
                        task.argv = format!("{} {execs}", task.comm);
                        task.exec_id += 1;
                        Some(RecordBody::Exec { name: task.comm, argv: task.argv.clone() })
                    },
                    at,
                );
            }
            Op::Exit { by, leave_zombie } => self.exit(by, leave_zombie, at),
            Op::Chdir { by, to } => {
                let Some(task) = self.pick(by).and_then(|tgid| self.tasks.get(&tgid)).cloned() else {
                    return;
                };
                if let Some(dir) = self.fs.get_mut(task.fs) {
                    *dir = to;
                }
                let path = self.path(&task);
                self.record(at, &task, RecordBody::Cwd { path });
            }
            Op::Comm { by, name } => self.change(
                by,
                |task| {
                    task.comm = NAMES.get(name).copied().unwrap_or("x");
                    Some(RecordBody::Comm(task.comm))
                },
                at,
            ),
            Op::Setuid { by, uid } => self.change(
                by,
                |task| {
                    task.uid = uid;
                    Some(RecordBody::Creds(Uids { uid, euid: uid, suid: uid }))
                },
                at,
            ),
            Op::Tty { by, tty: of } => self.change(
                by,
                |task| {
                    task.tty = of.and_then(|at| TTYS.get(at)).copied();
                    Some(RecordBody::Ids(tty(task.tty)))
                },
                at,
            ),
            Op::Rename { dir, to } => {
                let free = format!("/srv/r{to}");
                if dir == 0 || self.paths.contains(&free) {
                    return;
                }
                let Some(path) = self.paths.get_mut(dir) else { return };
                let before = std::mem::replace(path, free.clone());
                for path in &mut self.paths {
                    if let Some(rest) = path.strip_prefix(&format!("{before}/")) {
                        *path = format!("{free}/{rest}");
                    }
                }
                let Some(init) = self.tasks.get(&1).cloned() else { return };
                self.record(at, &init, RecordBody::Hint(hint::PATHS));
            }
            Op::Deliver { records } => self.deliver(records),
            Op::Lose => {
                if self.ring.pop_front().is_some() {
                    self.lost += 1;
                }
            }
            Op::Swap => {
                if self.ring.len() > 1 {
                    self.ring.swap(0, 1);
                }
            }
            Op::Pass => self.pass(),
            Op::ReadAlone { places } => {
                // As after each drain.
                self.drops();
                let is_chosen = |place: usize| places & (1 << (place % 16)) != 0;
                self.rows(lone_row, is_chosen);
            }
            Op::Wait => self.world.wait(60_000_000),
            Op::WaitLong => {
                // No record stays in the ring for so long.
                self.deliver(usize::MAX);
                self.world.wait(2 * SETTLE_NS);
            }
        }
    }

    fn change(&mut self, by: usize, change: impl FnOnce(&mut Task) -> Option<RecordBody>, at: BootTime) {
        let Some(task) = self.pick(by).and_then(|tgid| self.tasks.get_mut(&tgid)) else { return };
        let body = change(task);
        let task = task.clone();
        if let Some(body) = body {
            self.record(at, &task, body);
        }
    }

    fn exit(&mut self, by: usize, leave_zombie: bool, at: BootTime) {
        let Some(task) = self.pick(by).filter(|&tgid| tgid != 1).and_then(|tgid| self.tasks.remove(&tgid))
        else {
            return;
        };
        let status = 9;
        let facts = self.facts(&task);
        self.record(at, &task, RecordBody::Exit { status });
        self.zombies.retain(|_| leave_zombie);
        if leave_zombie {
            self.zombies.push((task.key, status, facts));
        }
        // The kernel reparents without a record.
        for child in self.tasks.values_mut().filter(|child| child.parent == task.key) {
            child.parent = ProcessKey::new(1, 1);
        }
    }

    fn deliver(&mut self, records: usize) {
        for _ in 0..records {
            let Some(record) = self.ring.pop_front() else { return };
            feed(&mut self.world, &record);
            let changes = self.world.reports.changes;
            feed(&mut self.world, &record);
            assert_eq!(changes, self.world.reports.changes, "doubled: {record:?}");
        }
    }

    fn drops(&mut self) {
        self.world.drops = self.lost;
        let at = self.world.tick_clock();
        self.world.feed(Input::Dropped { at, total: self.lost });
    }

    fn pass(&mut self) {
        let begin = self.world.tick_clock();
        self.world.feed(Input::PassBegin { at: begin, drops_total: self.lost });
        self.rows(pass_row, |_| true);
        let at = self.world.tick_clock();
        self.world.feed(Input::PassEnd { at, complete: true });
    }

    /// Feeds the rows of the processes at these places, live ones first.
    fn rows(&mut self, input: ToInput, is_chosen: impl Fn(usize) -> bool) {
        let tasks: Vec<Task> = self.tasks.values().cloned().collect();
        let zombies = self.zombies.clone();
        for (_, task) in tasks.iter().enumerate().filter(|&(place, _)| is_chosen(place)) {
            let facts = self.facts(task);
            self.row(input, task.key, facts, (&self.path(task), task.comm), None);
        }
        for (place, (key, status, facts)) in zombies.into_iter().enumerate() {
            if is_chosen(tasks.len() + place) {
                self.row(input, key, facts, ("/", "gone"), Some(status));
            }
        }
    }

    fn row(
        &mut self,
        input: ToInput,
        key: ProcessKey,
        facts: ProcessFacts,
        (path, name): (&str, &str),
        dead: Option<u32>,
    ) {
        let at = self.world.tick_clock();
        let (raw, exe) = (components(path), [name.as_bytes(), b"\0bin\0"].concat());
        self.world.feed(input(TaskRow {
            at,
            key,
            facts,
            cwd_path: RawPath { components: &raw, flags: 0 },
            exe: RawPath { components: &exe, flags: 0 },
            cgroup: RawPath::default(),
            tty_pgrp: 0,
            stopped: false,
            executing: false,
            dead,
            usage: ProcessUsage::default(),
            rss_pages: 0,
        }));
    }

    /// Delivers every record and runs the passes that the daemon would run.
    fn settle(&mut self) {
        self.deliver(usize::MAX);
        self.drops();
        for _ in 0..2 {
            self.pass();
            self.world.wait(60_000_000);
        }
        self.world.wait(2_000_000_000);
    }
}

fn tty(name: Option<&str>) -> Option<Tty> {
    name.map(|name| Tty { dev: 136 << 20, name: comm(name).0 })
}

fn feed(world: &mut World, record: &Record) {
    let Record { at, key, facts, ref body } = *record;
    match body {
        RecordBody::Fork { creator } => world.feed(Input::Fork { at, key, facts, creator: *creator }),
        RecordBody::Exec { name, argv } => {
            let exe = [name.as_bytes(), b"\0bin\0"].concat();
            let argv = Block { bytes: argv.as_bytes(), truncated: false };
            let exe = RawPath { components: &exe, flags: 0 };
            let env = Block::default();
            world.feed(Input::Exec { at, key, facts, exe, filename: name.as_bytes(), argv, env });
        }
        RecordBody::Exit { status } => {
            world.feed(Input::Exit {
                at,
                key,
                raw_status: *status,
                led_sid: None,
                usage: ProcessUsage::default(),
            });
        }
        RecordBody::Cwd { path } => {
            let raw = components(path);
            let path = RawPath { components: &raw, flags: 0 };
            let (cwd, mnt_ns, fs_shared) = (facts.cwd, facts.mnt_ns, facts.fs_shared);
            world.feed(Input::Cwd { at, key, cwd, mnt_ns, path, fs_shared });
        }
        RecordBody::Comm(name) => world.feed(Input::Comm { at, key, comm: comm(name) }),
        RecordBody::Creds(uids) => world.feed(Input::Creds { at, key, uids: *uids }),
        RecordBody::Ids(tty) => world.feed(Input::Ids { at, key, sid: 1, pgid: 1, tty: *tty }),
        RecordBody::Hint(bits) => world.feed(Input::Hint { at, bits: *bits }),
    }
}

fn assert_same(linux: &Linux) {
    let ours: Vec<&Process> = linux.world.core.processes().collect();
    let keys: Vec<ProcessKey> = ours.iter().map(|process| process.key).collect();
    let tasks: Vec<ProcessKey> = linux.tasks.values().map(|task| task.key).collect();
    assert_eq!(keys, tasks, "the same processes live");
    for process in ours {
        let Some(task) = linux.tasks.get(&process.key.tgid.0) else { continue };
        let facts = linux.facts(task);
        assert_eq!(process.comm, facts.comm, "comm of {:?}", process.key);
        assert_eq!(process.cwd.id, facts.cwd, "cwd of {:?}", process.key);
        let path = linux.path(task);
        assert_eq!(process.cwd.path.as_deref(), Some(path.as_bytes()), "path of {:?}", process.key);
        assert_eq!(process.parent, facts.parent, "parent of {:?}", process.key);
        assert_eq!(process.uids, facts.uids, "uids of {:?}", process.key);
        assert_eq!(process.exec_id, facts.exec_id, "image of {:?}", process.key);
        assert_eq!(process.tty, facts.tty, "terminal of {:?}", process.key);
        assert_eq!(process.fs_shared, facts.fs_shared, "fs of {:?}", process.key);
        // Where an exec was lost the arguments are unknown; they are never another process's.
        if let Some(argv) = &process.argv {
            assert_eq!(&*argv.bytes, task.argv.as_bytes(), "argv of {:?}", process.key);
        }
    }
    assert_sessions(linux);
}

/// Asserts what follows for sessions from the processes alone.
fn assert_sessions(linux: &Linux) {
    for (session, primary) in linux.world.core.sessions() {
        if session.state == State::Ended {
            assert!(
                !linux.world.reports.watched.contains(&session.primary)
                    || linux
                        .world
                        .core
                        .sessions()
                        .any(|(other, _)| other.state != State::Ended && other.primary == session.primary
                            || other.wrapper == Some(session.primary))
            );
            continue;
        }
        let task = linux.tasks.get(&primary.key.tgid.0).map(|task| task.key);
        assert_eq!(task, Some(primary.key), "a primary lives");
        assert!(linux.world.reports.watched.contains(&primary.key), "a primary is watched");
        let mut home = primary.cwd.path.as_deref().unwrap_or_default().splitn(4, |&byte| byte == b'/');
        let (_, top, name) = (home.next(), home.next(), home.next());
        let home = [b"/srv/".as_slice(), name.unwrap_or_default()].concat();
        let inside = top == Some(b"srv") && *session.home.path == *home;
        assert_eq!(inside, session.state != State::Left, "{:?}", session.home);
    }
}

impl Linux {
    /// The home in which the rule finds a task, by its path.
    fn home(&self, task: &Task) -> Option<String> {
        let path = self.path(task);
        let mut parts = path.split('/').skip(1);
        (parts.next() == Some("srv")).then(|| parts.next()).flatten().map(|name| format!("/srv/{name}"))
    }

    /// The home of the session whose primary a task is.
    fn session_of(&self, key: ProcessKey) -> Option<String> {
        let mut sessions = self.world.core.sessions();
        let (session, _) =
            sessions.find(|(session, _)| session.state != State::Ended && session.primary == key)?;
        Some(String::from_utf8_lossy(&session.home.path).into_owned())
    }

    /// Whether a task belongs to a session or to a candidate of `home` above it, by what is seen of its ancestors.
    fn belongs_to_one_above(&self, task: &Task, home: &str) -> bool {
        let mut shells: Vec<&str> = Vec::new();
        let lineage = |key: ProcessKey| self.world.core.process_by_key(key)?.lineage;
        let mut at = task.key;
        while let Some(above) = lineage(at).and_then(|key| self.tasks.get(&key.tgid.0)) {
            at = above.key;
            if above.comm != above.program {
                // Whether it is a candidate depends on when it changed its name.
                return true;
            }
            let is_wrapper = above.comm == "sudo";
            let in_home = self.home(above).as_deref() == Some(home)
                && above.comm != "bash"
                && (above.uid == task.uid || is_wrapper);
            let own_terminal = !is_wrapper && task.tty.is_some() && task.tty != above.tty;
            let behind_shell = shells.iter().any(|&tty| Some(tty) != above.tty);
            let is_primary = self.session_of(above.key).is_some();
            if (in_home || is_primary) && !own_terminal && !behind_shell {
                return true;
            }
            // No rule admits it wherever it is. A primary that left its home was admitted.
            if !is_primary && (above.comm == "bash" || self.home(above).is_none()) {
                shells.extend(above.tty);
            }
        }
        false
    }
}

/// Asserts that what no session has above it is in a home with a session: "certainly none" is never said of it.
fn assert_no_home_without_session(linux: &Linux) {
    let is_program =
        |task: &&Task| ["claude", "node", "vim"].contains(&task.comm) && task.comm == task.program;
    for task in linux.tasks.values().filter(is_program) {
        let Some(home) = linux.home(task) else { continue };
        if linux.belongs_to_one_above(task, &home) {
            continue;
        }
        let mut sessions = linux.world.core.sessions().map(|(session, _)| session);
        let live = sessions.any(|session| {
            *session.home.path == *home.as_bytes()
                && session.home.uid == task.uid
                && session.state != State::Ended
        });
        assert!(live, "{home} has no session, but {task:?}");
    }
}

fn run(ops: &[Op], is_each: bool) -> Linux {
    let mut linux = Linux::new(if is_each { Instances::Each } else { Instances::One });
    for &op in ops {
        linux.apply(op);
        linux.world.assert_reports_give_the_map();
    }
    linux.settle();
    linux.world.assert_reports_give_the_map();
    linux
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_map_equals_the_kernel_without_loss(
        ops in prop::collection::vec(op(false), 1..120),
        is_each in any::<bool>(),
    ) {
        let linux = run(&ops, is_each);
        assert_same(&linux);
        assert_no_home_without_session(&linux);
        prop_assert_eq!(linux.world.core.counters().drift_total, 0);
        prop_assert_eq!(linux.world.reports.gaps_opened, 0);
    }

    #[test]
    fn two_passes_heal_any_loss(ops in prop::collection::vec(op(true), 1..120), is_each in any::<bool>()) {
        let linux = run(&ops, is_each);
        assert_same(&linux);
        let reports = &linux.world.reports;
        let any_gap = reports.gaps_opened > 0;
        prop_assert_eq!(any_gap, linux.lost > 0, "every loss is reported, and nothing else is");
        prop_assert_eq!(reports.gaps_opened, reports.gaps_closed);
        prop_assert_eq!(reports.lost, linux.lost);
        prop_assert!(!linux.world.core.in_gap());
        prop_assert!(reports.ended.values().all(|&times| times == 1), "every process ends once");
        let gone: u64 = reports.ended.values().map(|&times| u64::from(times)).sum();
        prop_assert_eq!(reports.started.len() as u64 - gone, linux.tasks.len() as u64);
    }
}

/// Two directories at one path one after the other, with records of the processes in the first that arrive after a pass.
#[test]
fn a_session_that_takes_the_place_of_another_begins_no_earlier_than_that_ended() {
    let fork = || Op::Fork { by: 0, share_fs: false };
    let exit = |by| Op::Exit { by, leave_zombie: false };
    let ops = [
        Op::Rename { dir: 1, to: 3 },
        Op::Chdir { by: 0, to: 1 },
        Op::Exec { by: 0, name: 3 },
        fork(),
        exit(7),
        fork(),
        fork(),
        Op::Rename { dir: 1, to: 0 },
        Op::Deliver { records: 4 },
        fork(),
        Op::Deliver { records: 3 },
        exit(1),
        exit(1),
        Op::Chdir { by: 2, to: 2 },
        Op::Rename { dir: 2, to: 3 },
        fork(),
        Op::Comm { by: 0, name: 0 },
        Op::Exec { by: 3, name: 2 },
        fork(),
        Op::Chdir { by: 2, to: 0 },
        Op::Pass,
    ];
    assert_same(&run(&ops, false));
}
