//! Compares the map with the kernel.

use observer_core::death::{Death, DeathKind};
use observer_core::session::State;
use observer_core::{BootTime, Process, ProcessKey, invariants};

use crate::daemon::ModelDaemon;
use crate::linux::facts::{Facts, tty};
use crate::linux::process::Group;
use crate::linux::{Killer, Linux, NAMES};

/// How much of the map has to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Which processes live: no gap is open.
    Lives,
    /// What has records: no pass is requested either.
    Recorded,
    /// Everything: a pass has read what has no records.
    Everything,
}

/// The differences, a sentence each.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<String>);

impl Faults {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, key: ProcessKey, field: &str, ours: T, kernel: T) {
        if ours != kernel {
            self.0.push(format!("{field} of {key:?} is {ours:?}, and {kernel:?} in the kernel"));
        }
    }
}

/// Compares the map, what all changes gave, and the sessions.
pub fn map(linux: &Linux, daemon: &ModelDaemon, extent: Extent) -> Faults {
    let mut faults = Faults::default();
    let lives: Vec<ProcessKey> =
        linux.running().filter(|group| !group.has_no_mm).map(|group| group.key).collect();
    let held: Vec<ProcessKey> =
        daemon.core.processes().map(|process| process.key).filter(|&key| daemon.holds(key)).collect();
    if lives != held {
        let only = |ours: &[ProcessKey], others: &[ProcessKey]| -> Vec<ProcessKey> {
            ours.iter().copied().filter(|key| !others.contains(key)).collect()
        };
        let (dead, missing) = (only(&held, &lives), only(&lives, &held));
        faults.0.push(format!("the map holds {dead:?} that ended, and lacks {missing:?}"));
        return faults;
    }
    for group in linux.running().filter(|_| extent > Extent::Lives) {
        if let Some(process) = daemon.core.process_by_key(group.key) {
            fields(linux, group, process, extent, &mut faults);
        }
    }
    reported(daemon, &mut faults);
    sessions(linux, daemon, extent, &mut faults);
    if extent == Extent::Everything
        && let Err(violations) = invariants::check(&daemon.core)
    {
        faults.0.extend(violations.into_iter().map(|violation| violation.0));
    }
    faults
}

fn fields(linux: &Linux, group: &Group, process: &Process, extent: Extent, faults: &mut Faults) {
    let (key, facts): (_, Facts) = (group.key, linux.facts(group));
    faults.same(key, "parent", process.parent, facts.parent);
    faults.same(key, "sid", process.sid, facts.sid);
    faults.same(key, "pgid", process.pgid, facts.pgid);
    faults.same(key, "terminal", process.tty, group.tty.map(tty));
    faults.same(key, "exec_id", process.exec_id, facts.exec_id);
    faults.same(key, "cgroup", process.cgroup_id, facts.cgroup_id);
    let cgroup = crate::linux::cgroup_path(group.cgroup);
    faults.same(key, "path of the cgroup", process.cgroup.as_deref(), Some(cgroup.as_bytes()));
    // What could not be read is unknown, and is never that of another process or program.
    if let Some(argv) = &process.argv {
        faults.same(key, "argv", &*argv.bytes, &*group.argv);
    }
    if let Some(exe) = &process.exe {
        let name = NAMES.get(group.program).copied().unwrap_or_default();
        faults.same(key, "exe", &**exe, format!("/bin/{name}").as_bytes());
    }
    if extent == Extent::Everything {
        faults.same(key, "leader_gone", process.cwd.leader_gone, group.is_leader_gone());
        faults.same(key, "fs_shared", process.fs_shared, linux.is_fs_shared(group));
    }
    if group.is_leader_gone() {
        return;
    }
    faults.same(key, "comm", process.comm.as_bytes(), facts.comm);
    faults.same(key, "uid", process.uids.uid, facts.uid);
    faults.same(key, "directory", process.cwd.id, facts.cwd);
    faults.same(key, "mount namespace", process.cwd.mnt_ns, facts.mnt_ns);
    let (path, is_deleted) = linux.path_of(group);
    faults.same(key, "path", process.cwd.path.as_deref(), Some(&*path));
    faults.same(key, "deleted", process.cwd.deleted, is_deleted);
}

/// Applying all changes to an empty map has to give the map.
fn reported(daemon: &ModelDaemon, faults: &mut Faults) {
    let shown = |process: &Process| {
        // When a field was read is no change of it.
        let mut process = process.clone();
        process.cwd.as_of = BootTime(0);
        (process.tty_pgrp, process.stopped) = (0, false);
        process
    };
    let map: Vec<Process> = daemon.core.processes().map(shown).collect();
    let folded: Vec<Process> = daemon.reports.live.values().map(shown).collect();
    if map != folded {
        let differs = map.iter().zip(&folded).find(|(ours, told)| ours != told);
        faults.0.push(format!("the changes do not give the map: {differs:?}"));
    }
    for (session, _) in daemon.core.sessions().filter(|(session, _)| session.state != State::Ended) {
        if daemon.reports.sessions.get(&*session.home) != Some(session) {
            faults.0.push(format!("the changes do not give {session:?}"));
        }
    }
}

fn sessions(linux: &Linux, daemon: &ModelDaemon, extent: Extent, faults: &mut Faults) {
    let live = || daemon.core.sessions().filter(|(session, _)| session.state != State::Ended);
    let mut primaries: Vec<ProcessKey> = live().map(|(session, _)| session.primary).collect();
    primaries.sort_unstable();
    if primaries.windows(2).any(|pair| pair.first() == pair.last()) {
        faults.0.push(format!("a process stands for two sessions: {primaries:?}"));
    }
    for (session, _) in live() {
        let key = session.primary;
        if daemon.core.process_by_key(key).is_none() {
            faults.0.push(format!("the primary of {session:?} does not live"));
        }
        if daemon.core.explain(key.tgid).is_none() {
            faults.0.push(format!("nothing explains {key:?}"));
        }
        if !daemon.reports.is_watched(key) {
            faults.0.push(format!("{key:?} is a primary, and does not wake the reader"));
        }
    }
    if extent == Extent::Everything {
        for group in linux.running() {
            homes_without_session(linux, daemon, group, faults);
        }
    }
}

/// A program in a home has a session there, if nothing above it explains why not: "certainly none" is never said of it.
fn homes_without_session(linux: &Linux, daemon: &ModelDaemon, group: &Group, faults: &mut Faults) {
    let is_named = |process: &Process, names: &[&str]| {
        let is_one = |name: &[u8]| names.iter().any(|one| one.as_bytes() == name);
        is_one(process.comm.as_bytes()) && process.program.as_deref().is_some_and(is_one)
    };
    let Some(process) = daemon.core.process_by_key(group.key) else { return };
    let is_program = is_named(process, &["claude", "codex", "node", "vim"]);
    let Some(path) = process.cwd.usable_path().filter(|_| is_program) else { return };
    let mut parts = path.split(|&byte| byte == b'/').skip(1);
    let (Some(b"srv"), Some(name)) = (parts.next(), parts.next()) else { return };
    let home = [b"/srv/", name].concat();
    let mut above = process.lineage;
    while let Some(ancestor) = above.and_then(|key| daemon.core.process_by_key(key)) {
        let is_primary = daemon
            .core
            .sessions()
            .any(|(session, _)| session.state != State::Ended && session.primary == ancestor.key);
        if is_primary || !is_named(ancestor, &["bash", "init"]) {
            return;
        }
        above = ancestor.lineage;
    }
    let has_one = daemon.core.sessions().any(|(session, _)| {
        *session.home.path == *home && session.home.uid == process.uids.uid && session.state != State::Ended
    });
    if !has_one {
        let truth = linux.path_of(group);
        faults.0.push(format!("{:?} is in a home without a session: {truth:?}", process.key));
    }
}

/// Compares a death certificate with how the process ended.
pub fn death(linux: &Linux, key: ProcessKey, death: &Death) -> Result<(), String> {
    let Some(truth) = linux.death(key) else { return Err(format!("{key:?} lives, and ended by {death:?}")) };
    let is_true = match death.kind {
        DeathKind::Unobserved { from, to } => from.0 <= truth.until && truth.at <= to.0,
        DeathKind::OomKilled => truth.killer == Killer::Memory && death.raw_status == Some(truth.status),
        DeathKind::Exited { code } => {
            truth.status == u32::from(code) << 8
                && death.raw_status == Some(truth.status)
                && truth.at <= death.at.0
        }
        DeathKind::Signaled { signal, .. } => {
            truth.status == u32::from(signal)
                && death.raw_status == Some(truth.status)
                && truth.at <= death.at.0
        }
    };
    let sender = death.fatal_signal.as_ref().and_then(|fatal| fatal.sent.process);
    let is_sender = match (sender, truth.killer) {
        (Some(sender), Killer::Process(key, uid)) => sender.key == key && sender.uid == uid,
        (Some(_), _) => false,
        (None, _) => true,
    };
    if is_true && is_sender { Ok(()) } else { Err(format!("{key:?} ended by {truth:?}, and not {death:?}")) }
}
