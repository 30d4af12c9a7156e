//! Drives a core and keeps what it reports: as text, as a map to which every change was applied, and as
//! requests.
#![allow(dead_code)]

pub mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use observer_core::Settings;
use observer_core::cost::ProcessUsage;
use observer_core::death::{Death, DeathKind, LeftProcesses};
use observer_core::input::{Block, KnownLeft, KnownSession, ProcessFacts, RawPath, TaskRow};
use observer_core::left::{FormerSession, KnownBirth};
use observer_core::process::{Comm, DirId, Tty, Uids};
use observer_core::rule::{Conditions, HomeRule, Ignore, Instances, Pattern, TtyRule};
use observer_core::session::{EndReason, Home, State};
use observer_core::{BootTime, Change, Core, Input, Process, ProcessKey, Request, Rule, Session, Sink, Tgid};

/// `*` at the end matches the rest without a slash; `**` matches everything.
#[derive(Debug)]
pub struct Glob(pub &'static str);

impl Pattern for Glob {
    fn is_match(&self, bytes: &[u8]) -> bool {
        match self.0.strip_suffix('*') {
            _ if self.0 == "**" => true,
            Some(prefix) => bytes
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| !rest.is_empty() && !rest.contains(&b'/')),
            None => bytes == self.0.as_bytes(),
        }
    }
}

pub fn globs(of: &[&'static str]) -> Vec<Box<dyn Pattern>> {
    of.iter().map(|&glob| Box::new(Glob(glob)) as Box<dyn Pattern>).collect()
}

pub fn only_comm(of: &[&'static str]) -> Conditions {
    Conditions { comm: globs(of), ..Conditions::default() }
}

pub fn only_program(of: &[&'static str]) -> Conditions {
    Conditions { program: globs(of), ..Conditions::default() }
}

pub fn only_uid(uid: u32) -> Conditions {
    Conditions { uids: vec![uid], ..Conditions::default() }
}

pub fn on_pty() -> Conditions {
    Conditions { tty: TtyRule::Matches(Box::new(Glob("pts/*"))), ..Conditions::default() }
}

/// `/srv/*`, no shells, `sudo` and `env` wrap.
pub fn rule() -> Rule {
    Rule {
        home: HomeRule::Prefix(globs(&["/srv/*"])),
        conditions: Conditions::default(),
        not_comm: globs(&["bash"]),
        not_program: Vec::new(),
        wrappers: globs(&["sudo", "env"]),
        owner: false,
        instances: Instances::One,
        min_age_ns: 0,
        name: "{basename}".into(),
    }
}

/// What the core reported: the sessions' changes as text, the map that results from all changes, the
/// requests, and faults of the reports themselves.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    pub text: Vec<String>,
    pub live: BTreeMap<Tgid, Process>,
    pub started: BTreeMap<ProcessKey, u32>,
    pub ended: BTreeMap<ProcessKey, u32>,
    /// Every death, in the order in which they were reported.
    pub deaths: Vec<Death>,
    pub sessions: BTreeMap<Home, Session>,
    /// When the last change of each session was.
    pub changed_at: BTreeMap<Home, BootTime>,
    pub gaps_opened: u32,
    pub gaps_closed: u32,
    pub corrected: u64,
    pub lost: u64,
    pub pass_requests: Vec<(BootTime, u64)>,
    pub memory_requests: Vec<ProcessKey>,
    pub owner_requests: Vec<Vec<u8>>,
    /// Homes whose owner was requested, for whoever answers.
    pub unanswered: Vec<Home>,
    pub watched: BTreeSet<ProcessKey>,
    pub faults: Vec<String>,
    pub changes: u64,
    /// The memory of those processes that live; `None`: all live, with memory that is not known.
    pub resident: Option<BTreeMap<ProcessKey, u64>>,
    /// Whether a reading of the memory is requested.
    pub wants_pages: bool,
    /// What sessions left, by their primaries, and how these ended, in the order in which it was reported.
    pub left: Vec<(ProcessKey, DeathKind, LeftProcesses)>,
}

fn name(session: &Session) -> String {
    let state = match session.state {
        State::Live => "live",
        State::Detached => "detached",
        State::Left => "left",
        State::Ended => "ended",
    };
    let mut text = format!(
        "{} {} {} roots={}",
        String::from_utf8_lossy(&session.home.path),
        session.primary.tgid,
        state,
        session.roots
    );
    if let Some(wrapper) = session.wrapper {
        text += &format!(" wrapper={}", wrapper.tgid);
    }
    if let Some(to) = &session.moved_to {
        text += &format!(" to={}", String::from_utf8_lossy(to));
    }
    if session.cwd_deleted {
        text += " deleted";
    }
    match session.end_reason {
        Some(EndReason::Died) => text += " died",
        Some(EndReason::ExecedAway) => text += " execed-away",
        Some(EndReason::Replaced) => text += " replaced",
        Some(EndReason::Moved) => text += " moved",
        Some(EndReason::NotAdmitted) => text += " not-admitted",
        Some(EndReason::UserChanged) => text += " user-changed",
        None => {}
    }
    text
}

impl Reports {
    fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    fn update(&mut self, process: &Process) {
        let is_live = self.live.get(&process.key.tgid).is_some_and(|old| old.key == process.key);
        self.check(is_live, || format!("change of {:?}, which is not live", process.key));
        self.live.insert(process.key.tgid, process.clone());
    }
}

impl Sink for Reports {
    fn change(&mut self, at: BootTime, change: Change<'_>) {
        self.changes += 1;
        if let Change::SessionStarted(session, _)
        | Change::SessionChanged(session, _)
        | Change::SessionEnded(session, _) = change
        {
            let last = self.changed_at.insert((*session.home).clone(), at).unwrap_or_default();
            let since = session.since;
            self.check(last <= at, || format!("{} changed at {at:?}, before {last:?}", name(session)));
            self.check(since <= at, || format!("{} at {at:?} is so since {since:?}", name(session)));
        }
        match change {
            Change::ProcessStarted(process) => {
                let free = !self.live.contains_key(&process.key.tgid);
                self.check(free, || format!("{:?} started on a live tgid", process.key));
                let again = self.started.contains_key(&process.key);
                self.check(!again, || format!("{:?} started twice", process.key));
                *self.started.entry(process.key).or_default() += 1;
                self.live.insert(process.key.tgid, process.clone());
            }
            Change::ProcessExeced(process)
            | Change::ProcessMoved(process)
            | Change::ProcessChanged(process) => {
                self.update(process);
            }
            Change::ProcessEnded(process, death) => {
                self.deaths.push(death.clone());
                *self.ended.entry(process.key).or_default() += 1;
                let gone = self.live.remove(&process.key.tgid).is_some_and(|old| old.key == process.key);
                self.check(gone, || format!("{:?} ended, but was not live", process.key));
            }
            Change::SessionStarted(session, process) => {
                let key = (*session.home).clone();
                let open = self.sessions.get(&key).is_some_and(|old| old.state != State::Ended);
                self.check(!open, || format!("{} started twice", name(session)));
                self.check(process.key == session.primary, || "reported with another process".into());
                self.text.push(format!("started {}", name(session)));
                self.sessions.insert(key, session.clone());
            }
            Change::SessionChanged(session, process) => {
                let key = (*session.home).clone();
                let open = self.sessions.get(&key).is_some_and(|old| old.state != State::Ended);
                self.check(open, || format!("{} changed, but is not open", name(session)));
                self.check(process.key == session.primary, || "reported with another process".into());
                self.text.push(format!("changed {}", name(session)));
                self.sessions.insert(key, session.clone());
            }
            Change::SessionEnded(session, _) => {
                let key = (*session.home).clone();
                let open = self.sessions.get(&key).is_some_and(|old| old.state != State::Ended);
                self.check(open, || format!("{} ended, but is not open", name(session)));
                self.text.push(format!("ended {}", name(session)));
                self.sessions.insert(key, session.clone());
            }
            Change::SessionLeft { former, primary, death, left } => {
                self.check(primary.key == former.primary, || "reported with another process".into());
                let session = self.sessions.get_mut(&*former.home);
                let session = session.filter(|it| it.state == State::Ended && it.primary == former.primary);
                if let Some(ended) = session.and_then(|session| session.death.as_mut()) {
                    ended.left = Some(left.clone());
                }
                self.left.push((former.primary, death, left.clone()));
            }
            Change::GapOpened { .. } => {
                let closed = self.gaps_opened == self.gaps_closed;
                self.check(closed, || "gap opened twice".into());
                self.gaps_opened += 1;
            }
            Change::GapClosed { lost, corrected, .. } => {
                self.gaps_closed += 1;
                self.lost += lost;
                self.corrected += corrected;
            }
        }
    }

    fn request(&mut self, request: Request<'_>) {
        match request {
            Request::Pass { not_before, hints } => self.pass_requests.push((not_before, hints)),
            Request::Memory(key) => self.memory_requests.push(key),
            Request::HomeOwner(home) => {
                self.owner_requests.push(home.path.to_vec());
                self.unanswered.push(home.clone());
            }
            Request::ResidentPages => {
                let asked = std::mem::replace(&mut self.wants_pages, true);
                self.check(!asked, || "the memory is requested twice".into());
            }
            Request::Watch(key, true) => {
                let new = self.watched.insert(key);
                self.check(new, || format!("{key:?} watched twice"));
            }
            Request::Watch(key, false) => {
                let was = self.watched.remove(&key);
                self.check(was, || format!("{key:?} released, but was not watched"));
            }
        }
    }

    fn resident_pages(&mut self, processes: &[ProcessKey]) -> Option<Vec<Option<u64>>> {
        let Some(pages) = &self.resident else { return Some(vec![Some(0); processes.len()]) };
        Some(processes.iter().map(|key| pages.get(key).copied()).collect())
    }
}

/// Clears what may differ between a process as last reported and the one in the map: when a field was read,
/// and what is read only when a question asks for it.
pub fn shown(process: &Process) -> Process {
    let mut process = process.clone();
    process.cwd.as_of = BootTime(0);
    process.tty_pgrp = 0;
    process.stopped = false;
    process
}

/// A core, and what it reported.
pub struct World {
    pub core: Core,
    pub reports: Reports,
    pub now: u64,
    pub dirs: BTreeMap<String, u64>,
    /// `generation` and `object` of directories other than 0.
    pub incarnations: BTreeMap<String, (u32, u32)>,
    /// The POSIX sessions other than 1.
    pub sids: BTreeMap<ProcessKey, u32>,
    pub drops: u64,
    /// What rows show that a process has used.
    pub usage: ProcessUsage,
    /// Every program is a script of this interpreter, so that its arguments alone tell what it is.
    pub interpreter: Option<&'static str>,
    /// The invariants are not checked after each input: there are too many processes.
    pub is_large: bool,
}

/// A session as the journal has it.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub session: Session,
    pub had_tty: bool,
    pub program: Option<Vec<u8>>,
    pub exec_id: Option<u32>,
}

/// A process as a test describes it.
#[derive(Clone, Debug)]
pub struct Proc {
    pub key: ProcessKey,
    pub parent: ProcessKey,
    pub comm: &'static str,
    pub cwd: String,
    pub deleted: bool,
    pub tty: Option<&'static str>,
    pub uid: u32,
    pub mnt_ns: u32,
    pub exec_id: u32,
}

pub fn components(path: &str) -> Vec<u8> {
    path.split('/').rev().filter(|part| !part.is_empty()).flat_map(|part| part.bytes().chain([0])).collect()
}

pub fn comm(text: &str) -> Comm {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
    Comm(bytes)
}

/// What a daemon that is started again is given of what a session left.
pub fn of_former<'a>(former: &'a FormerSession, processes: &'a [ProcessKey]) -> KnownLeft<'a> {
    KnownLeft {
        home: &former.home,
        name: &former.name,
        foreign: former.foreign,
        primary: former.primary,
        ended_at: former.ended_at,
        wall_offset_ns: former.wall_offset_ns,
        processes,
    }
}

impl World {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self::ignoring(Vec::new(), rules)
    }

    pub fn ignoring(ignored: Vec<Ignore>, rules: Vec<Rule>) -> Self {
        let env = ["TMUX", "TMUX_PANE", "STY", "WINDOW"].map(|name| name.as_bytes().to_vec()).into();
        Self::with(Settings { rules, ignored, env, host_mnt_ns: 1, ..Settings::default() })
    }

    /// A core that is given known sessions after its first pass.
    pub fn restarted(rules: Vec<Rule>) -> Self {
        Self::with(Settings { rules, host_mnt_ns: 1, awaits_known: true, ..Settings::default() })
    }

    /// A core to which marks of victims are reported.
    pub fn awaiting_marks(rules: Vec<Rule>) -> Self {
        Self::with(Settings { rules, host_mnt_ns: 1, awaits_oom_marks: true, ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Self {
        let core = Core::new(settings);
        let (dirs, incarnations, sids) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (reports, usage) = (Reports::default(), ProcessUsage::default());
        Self {
            core,
            reports,
            now: 1_000,
            dirs,
            incarnations,
            sids,
            drops: 0,
            usage,
            interpreter: None,
            is_large: false,
        }
    }

    /// The components of the path of the executable, and the arguments, of the program `name`.
    fn image(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        match self.interpreter {
            None => ([name.as_bytes(), b"\0bin\0"].concat(), [name.as_bytes(), b"\0"].concat()),
            Some(interpreter) => (
                components(&format!("/bin/{interpreter}")),
                [interpreter.as_bytes(), b"\0/opt/", name.as_bytes(), b"\0"].concat(),
            ),
        }
    }

    /// The arguments of a process are read from its memory.
    pub fn memory(&mut self, proc: &Proc) {
        let at = self.tick_clock();
        let (_, argv) = self.image(proc.comm);
        self.feed(Input::Memory {
            at,
            key: proc.key,
            exec_id: proc.exec_id,
            argv: Block { bytes: &argv, truncated: false },
            env: Block::default(),
        });
    }

    pub fn tick_clock(&mut self) -> BootTime {
        self.now += 10;
        BootTime(self.now)
    }

    pub fn feed(&mut self, input: Input<'_>) {
        self.core.handle(input, &mut self.reports);
        assert_eq!(self.reports.faults, Vec::<String>::new());
        if !self.is_large {
            assert_eq!(observer_core::invariants::check(&self.core), Ok(()));
        }
        if std::mem::take(&mut self.reports.wants_pages) {
            let at = self.tick_clock();
            self.feed(Input::ResidentPages { at, began: at });
        }
    }

    pub fn set_rules(&mut self, rules: Vec<Rule>, ignored: Vec<Ignore>) {
        let at = self.tick_clock();
        self.core.set_rules(at, rules, ignored, &mut self.reports);
        assert_eq!(self.reports.faults, Vec::<String>::new());
        assert_eq!(observer_core::invariants::check(&self.core), Ok(()));
    }

    /// Returns what was reported of sessions since the last call.
    pub fn take_reports(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reports.text)
    }

    pub fn dir(&mut self, path: &str) -> DirId {
        let next = 100 + self.dirs.len() as u64;
        let ino = *self.dirs.entry(path.into()).or_insert(next);
        let (generation, object) = self.incarnations.get(path).copied().unwrap_or_default();
        DirId { ino, dev: 8, mnt_id: 1, generation, object }
    }

    pub fn facts(&mut self, proc: &Proc) -> ProcessFacts {
        let tty = proc.tty.map(|name| Tty { dev: 136 << 20, name: comm(name).0 });
        ProcessFacts {
            parent: proc.parent,
            cwd: self.dir(&proc.cwd),
            mnt_ns: proc.mnt_ns,
            cgroup_id: 0,
            sid: self.sids.get(&proc.key).copied().unwrap_or(1),
            pgid: 1,
            uids: Uids { uid: proc.uid, euid: proc.uid, suid: proc.uid },
            tty,
            exec_id: proc.exec_id,
            comm: comm(proc.comm),
            ..ProcessFacts::default()
        }
    }

    /// A child of `parent` with its facts, now.
    pub fn fork(&mut self, parent: &Proc, tgid: u32) -> Proc {
        let at = self.tick_clock();
        let key = ProcessKey::new(tgid, at.0);
        let child = Proc { key, parent: parent.key, ..parent.clone() };
        if let Some(&sid) = self.sids.get(&parent.key) {
            self.sids.insert(key, sid);
        }
        let facts = self.facts(&child);
        self.feed(Input::Fork { at, key, facts, creator: parent.key });
        child
    }

    pub fn exec(&mut self, proc: &mut Proc, name: &'static str) {
        self.exec_in(proc, name, b"");
    }

    /// Execs with an environment.
    pub fn exec_in(&mut self, proc: &mut Proc, name: &'static str, env: &[u8]) {
        let (_, argv) = self.image(name);
        self.exec_args(proc, name, Block { bytes: &argv, truncated: false }, env);
    }

    /// Execs with arguments and an environment.
    pub fn exec_args(&mut self, proc: &mut Proc, name: &'static str, argv: Block<'_>, env: &[u8]) {
        let at = self.tick_clock();
        proc.comm = name;
        proc.exec_id += 1;
        let facts = self.facts(proc);
        let (exe, _) = self.image(name);
        self.feed(Input::Exec {
            at,
            key: proc.key,
            facts,
            exe: RawPath { components: &exe, flags: 0 },
            filename: name.as_bytes(),
            argv,
            env: Block { bytes: env, truncated: false },
        });
    }

    /// setsid(2), and the terminal of the new POSIX session.
    pub fn setsid(&mut self, proc: &mut Proc, tty: Option<&'static str>) {
        let at = self.tick_clock();
        proc.tty = tty;
        self.sids.insert(proc.key, proc.key.tgid.0);
        let facts = self.facts(proc);
        self.feed(Input::Ids { at, key: proc.key, sid: facts.sid, pgid: facts.sid, tty: facts.tty });
    }

    /// The exec of a script by the shell that its first line names.
    pub fn exec_script(&mut self, proc: &mut Proc, name: &'static str) {
        self.exec_script_by(proc, "/bin/sh", "/usr/bin/dash", name);
    }

    /// The exec of a script, whose first line names `interpreter`, which is the file `exe`.
    pub fn exec_script_by(&mut self, proc: &mut Proc, interpreter: &str, exe: &str, name: &'static str) {
        let at = self.tick_clock();
        proc.comm = name;
        proc.exec_id += 1;
        let facts = self.facts(proc);
        let argv = [interpreter.as_bytes(), b"\0./", name.as_bytes(), b"\0"].concat();
        let exe = components(exe);
        self.feed(Input::Exec {
            at,
            key: proc.key,
            facts,
            exe: RawPath { components: &exe, flags: 0 },
            filename: name.as_bytes(),
            argv: Block { bytes: &argv, truncated: false },
            env: Block::default(),
        });
    }

    /// Gives a process another controlling terminal, or none.
    pub fn set_tty(&mut self, proc: &mut Proc, tty: Option<&'static str>) {
        let at = self.tick_clock();
        proc.tty = tty;
        let ProcessFacts { sid, pgid, tty, .. } = self.facts(proc);
        self.feed(Input::Ids { at, key: proc.key, sid, pgid, tty });
    }

    /// A child of `parent` that no record shows.
    pub fn child(&mut self, parent: &Proc, tgid: u32, name: &'static str) -> Proc {
        let key = ProcessKey::new(tgid, self.tick_clock().0);
        Proc { key, parent: parent.key, comm: name, exec_id: parent.exec_id + 1, ..parent.clone() }
    }

    /// Fork and exec.
    pub fn spawn(&mut self, parent: &Proc, tgid: u32, name: &'static str) -> Proc {
        let mut child = self.fork(parent, tgid);
        self.exec(&mut child, name);
        child
    }

    pub fn chdir(&mut self, proc: &mut Proc, path: &str) {
        let at = self.tick_clock();
        proc.cwd = path.into();
        let cwd = self.dir(path);
        let raw = components(path);
        self.feed(Input::Cwd {
            at,
            key: proc.key,
            cwd,
            mnt_ns: proc.mnt_ns,
            path: RawPath { components: &raw, flags: u32::from(proc.deleted) },
            fs_shared: false,
        });
    }

    pub fn exit(&mut self, proc: &Proc, raw_status: u32) {
        self.exit_after_using(proc, raw_status, ProcessUsage::default());
    }

    pub fn exit_after_using(&mut self, proc: &Proc, raw_status: u32, usage: ProcessUsage) {
        let at = self.tick_clock();
        self.feed(Input::Exit { at, key: proc.key, raw_status, led_sid: None, usage });
    }

    pub fn row(&mut self, proc: &Proc) {
        let at = self.tick_clock();
        let facts = self.facts(proc);
        let raw = components(&proc.cwd);
        let (exe, _) = self.image(proc.comm);
        self.feed(Input::PassRow(TaskRow {
            at,
            key: proc.key,
            facts,
            cwd_path: RawPath { components: &raw, flags: u32::from(proc.deleted) },
            exe: RawPath { components: &exe, flags: 0 },
            cgroup: RawPath::default(),
            tty_pgrp: 0,
            stopped: false,
            executing: false,
            dead: None,
            usage: self.usage,
            rss_pages: 0,
        }));
    }

    pub fn pass(&mut self, procs: &[&Proc]) {
        let at = self.tick_clock();
        let drops_total = self.drops;
        self.feed(Input::PassBegin { at, drops_total });
        for proc in procs {
            self.row(proc);
        }
        let at = self.tick_clock();
        self.feed(Input::PassEnd { at, complete: true });
    }

    pub fn wait(&mut self, ns: u64) {
        self.now += ns;
        let at = BootTime(self.now);
        self.feed(Input::Tick { at });
    }

    /// Resumes sessions of another world as the journal had them, each with whether its primary had a terminal. Nothing is
    /// known of their programs.
    pub fn resume(&mut self, sessions: &[(Session, bool)], wall_offset_ns: i64) {
        let recorded = |(session, had_tty): &(Session, bool)| Recorded {
            session: session.clone(),
            had_tty: *had_tty,
            program: None,
            exec_id: None,
        };
        let recorded: Vec<Recorded> = sessions.iter().map(recorded).collect();
        self.resume_recorded(&recorded, wall_offset_ns);
    }

    /// Resumes sessions of another world as the journal had them.
    pub fn resume_recorded(&mut self, recorded: &[Recorded], wall_offset_ns: i64) {
        self.resume_told(recorded, wall_offset_ns, &[], &[]);
    }

    /// The same with what sessions left, and with what the daemon before knew of births.
    pub fn resume_told(
        &mut self,
        recorded: &[Recorded],
        wall_offset_ns: i64,
        left: &[(FormerSession, Vec<ProcessKey>)],
        births: &[KnownBirth],
    ) {
        let at = self.tick_clock();
        let others = |it: &Recorded| it.session.others.iter().map(|other| other.key).collect();
        let others: Vec<Vec<ProcessKey>> = recorded.iter().map(others).collect();
        let known = recorded.iter().zip(&others);
        let known = known.map(|(Recorded { session, had_tty, program, exec_id }, others)| KnownSession {
            home: &session.home,
            name: &session.name,
            home_dir: DirId { mnt_id: 0, object: 0, ..session.home_dir },
            home_deleted: session.cwd_deleted,
            primary: session.primary,
            wall_offset_ns,
            state: session.state,
            since: session.since,
            had_tty: *had_tty,
            wrapper: session.wrapper.map(|wrapper| wrapper.tgid),
            others,
            program: program.as_deref(),
            exec_id: *exec_id,
            stands_in_for: session.stands_in_for.as_deref(),
            starts: &session.starts,
            labels: &session.labels,
        });
        let known: Vec<KnownSession<'_>> = known.collect();
        let left = left.iter().map(|(former, processes)| of_former(former, processes));
        let left: Vec<KnownLeft<'_>> = left.collect();
        self.feed(Input::Resume { at, known: &known, left: &left, births });
    }

    /// Returns every session that is shown, as the journal has it.
    pub fn recorded(&self) -> Vec<Recorded> {
        let sessions = self.core.sessions();
        let recorded = sessions.map(|(session, primary)| Recorded {
            session: session.clone(),
            had_tty: session.state == State::Detached || primary.tty.is_some(),
            program: session.recorded_program.as_ref().or(primary.program.as_ref()).map(|it| it.to_vec()),
            exec_id: Some(primary.exec_id),
        });
        recorded.collect()
    }

    /// Returns user, primary and state of each session, by user.
    pub fn sessions_of_users(&self) -> Vec<(u32, u32, State)> {
        let sessions = self.core.sessions();
        sessions.map(|(session, _)| (session.home.uid, session.primary.tgid.0, session.state)).collect()
    }

    /// Returns whether the first session of this user is foreign.
    pub fn foreign(&self, uid: u32) -> Option<bool> {
        let mut sessions = self.core.sessions();
        sessions.find(|(session, _)| session.home.uid == uid).and_then(|(session, _)| session.foreign)
    }

    /// Answers who owns /srv/a, for this user's home there.
    pub fn answer_owner(&mut self, uid: u32, owner: Option<u32>) {
        let at = self.tick_clock();
        let home = Home { uid, ..home("/srv/a") };
        self.reports.unanswered.retain(|unanswered| *unanswered != home);
        self.feed(Input::HomeOwner { at, home: &home, owner });
    }

    pub fn session(&self, home: &str) -> Option<Session> {
        let sessions = self.core.sessions();
        sessions.map(|(session, _)| session.clone()).find(|session| *session.home.path == *home.as_bytes())
    }

    /// Asserts that applying every reported change to an empty map gives the core's map.
    pub fn assert_reports_give_the_map(&self) {
        let map: Vec<Process> = self.core.processes().map(shown).collect();
        let folded: Vec<Process> = self.reports.live.values().map(shown).collect();
        assert_eq!(map, folded);
        for (session, _) in self.core.sessions() {
            assert_eq!(self.reports.sessions.get(&*session.home), Some(session));
        }
    }
}

/// The home of the user of [`shell`] at `path`, in the host's mount namespace.
pub fn home(path: &str) -> Home {
    Home { mnt_ns: None, path: Arc::from(path.as_bytes()), uid: 7, instance: 1 }
}

/// The shell that everything in a test descends from, found by the first pass.
pub fn shell(world: &mut World) -> Proc {
    let key = ProcessKey::new(10, 5);
    let parent = ProcessKey::new(1, 1);
    let proc = Proc {
        key,
        parent,
        comm: "bash",
        cwd: "/root".into(),
        deleted: false,
        tty: Some("pts3"),
        uid: 7,
        mnt_ns: 1,
        exec_id: 1,
    };
    world.pass(&[&proc]);
    world.take_reports();
    proc
}

/// Asserts what was reported of sessions since the last call, and that it gives the map.
#[track_caller]
pub fn assert_reported(world: &mut World, expected: &[&str]) {
    assert_eq!(world.take_reports(), expected);
    world.assert_reports_give_the_map();
}

/// Returns a shell in /srv/a.
pub fn at_home(world: &mut World) -> Proc {
    let mut bash = shell(world);
    world.chdir(&mut bash, "/srv/a");
    bash
}
