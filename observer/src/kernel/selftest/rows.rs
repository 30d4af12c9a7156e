//! The iterator's part: compares the rows of the children with what the system calls return.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use observer_common::record::path_flag;
use observer_core::cost::ProcessUsage;
use observer_core::input::join_path;
use observer_core::input::{ProcessFacts, TaskRow};
use observer_core::process::{Comm, DirId, Uids};
use observer_core::{BootTime, Input, Tgid};

use super::children::{COMM, DEADLINE, DIRECTORY, PseudoTerminal, TestChild, UIDS};
use super::terminals;
use super::truth::{self, OwnCgroup, TestDirectory};
use super::usage::{self, UsedByChild};
use super::values::{self, same};
use crate::clock;
use crate::kernel::snapshot::Snapshot;
use crate::kernel::sys;

const VIA: &str = "iterator";

/// The children whose rows were compared, for the ring's part.
pub struct TestChildren {
    /// The child that has everything, and was killed.
    pub killed: EndedChild,
    /// The child whose leader exited before its thread.
    pub threaded: EndedChild,
    /// The child that used processor and memory.
    pub busy: UsedByChild,
    /// POSIX session of the first.
    pub sid: u32,
    /// User ids of the first at its end.
    pub uids: Uids,
}

/// A child that has ended.
pub struct EndedChild {
    /// The pid.
    pub pid: u32,
    /// `start_boottime`.
    pub start: BootTime,
    /// The status that wait(2) returned.
    pub status: u32,
}

/// One row.
struct FoundRow {
    start: BootTime,
    facts: ProcessFacts,
    cwd: Option<Vec<u8>>,
    reached: bool,
    deleted: bool,
    exe: Option<Vec<u8>>,
    cgroup: Option<Vec<u8>>,
    foreground: u32,
    stopped: bool,
    dead: Option<u32>,
    usage: ProcessUsage,
}

/// Compares the rows of the children, and the terminals of all processes.
pub fn check(take_snapshot: &dyn Fn() -> Snapshot) -> Result<TestChildren> {
    let terminal = PseudoTerminal::open().context("open a pseudo-terminal")?;
    let (killed, sid, uids) = killed(take_snapshot, &terminal)?;
    let threaded = threaded(take_snapshot)?;
    let busy = usage::check(VIA, &|pid| Ok(find(take_snapshot, pid)?.usage))?;
    terminals::check(&take_snapshot())?;
    Ok(TestChildren { killed, threaded, busy, sid, uids })
}

fn killed(
    take_snapshot: &dyn Fn() -> Snapshot,
    terminal: &PseudoTerminal,
) -> Result<(EndedChild, u32, Uids)> {
    let before = clock::boottime();
    let mut child = TestChild::with_everything(&terminal.slave)?;
    let after = clock::boottime();
    let [uid, euid, suid] = UIDS;
    let uids = if child.wait_ready()? { Uids { uid, euid, suid } } else { truth::own_uids() };
    let (sid, pgid) = truth::ids(child.pid);

    let row = find(take_snapshot, child.pid)?;
    let facts = &row.facts;
    ensure!(
        before <= row.start && row.start <= after,
        "{VIA}: {} {} is not between the readings of the boot clock before ({}) and after ({}) the fork ({})",
        values::START,
        row.start.0,
        before.0,
        after.0,
        values::START.through()
    );
    inherited(&row)?;
    same(VIA, &values::SID, facts.sid, sid)?;
    same(VIA, &values::PGID, facts.pgid, pgid)?;
    same(VIA, &values::UIDS, facts.uids, uids)?;
    same(VIA, &values::COMM, facts.comm, Comm(*COMM))?;
    same(VIA, &values::CWD, row.cwd.as_deref(), Some(DIRECTORY.to_bytes()))?;
    same(VIA, &values::CWD_ID, in_system_calls(facts.cwd), truth::directory(DIRECTORY)?)?;
    same(VIA, &values::CWD_REACHED, row.reached, true)?;
    same(VIA, &values::CWD_DELETED, row.deleted, false)?;
    same(VIA, &values::FS_SHARED, facts.fs_shared, false)?;
    let tty = facts.tty.map(|tty| (Comm(tty.name).as_bytes().to_vec(), tty.dev));
    let expected = (terminal.name.clone().into_bytes(), truth::kernel_dev(terminal.rdev));
    same(VIA, &values::TTY, tty, Some(expected))?;
    same(VIA, &values::FOREGROUND, row.foreground, terminal.foreground()?)?;
    same(VIA, &values::STOPPED, row.stopped, false)?;
    same(VIA, &values::DEAD, row.dead, None)?;

    child.stop()?;
    same(VIA, &values::STOPPED, find(take_snapshot, child.pid)?.stopped, true)?;
    child.go_on()?;
    child.kill()?;
    child.wait_dead()?;
    let zombie = find(take_snapshot, child.pid)?;
    let status = child.reap()?;
    same(VIA, &values::DEAD, zombie.dead, Some(status))?;
    same(VIA, &values::NO_MM, zombie.facts.no_mm, true)?;
    Ok((EndedChild { pid: child.pid, start: row.start, status }, sid, uids))
}

fn threaded(take_snapshot: &dyn Fn() -> Snapshot) -> Result<EndedChild> {
    let mut directory = TestDirectory::make();
    let mut child = TestChild::with_threads(&directory.path)?;
    child.wait_ready()?;
    let (sid, pgid) = truth::ids(child.pid);
    let (place, generation) = (truth::directory(&directory.path)?, truth::generation(&directory.path));
    let deleted = directory.delete()?;

    let row = find(take_snapshot, child.pid)?;
    inherited(&row)?;
    same(VIA, &values::SID, row.facts.sid, sid)?;
    same(VIA, &values::PGID, row.facts.pgid, pgid)?;
    same(VIA, &values::CWD_ID, in_system_calls(row.facts.cwd), place)?;
    if let Some(generation) = generation {
        same(VIA, &values::CWD_GENERATION, row.facts.cwd.generation, generation)?;
    }
    same(VIA, &values::CWD_DELETED, row.deleted, deleted)?;
    same(VIA, &values::FS_SHARED, row.facts.fs_shared, true)?;
    same(VIA, &values::LEADER_GONE, row.facts.leader_gone, false)?;

    child.order()?;
    let deadline = Instant::now() + DEADLINE;
    let mut left = find(take_snapshot, child.pid)?;
    while !left.facts.leader_gone && Instant::now() < deadline {
        std::thread::yield_now();
        left = find(take_snapshot, child.pid)?;
    }
    same(VIA, &values::LEADER_GONE, left.facts.leader_gone, true)?;
    same(VIA, &values::DEAD, left.dead, None)?;
    child.order()?;
    child.wait_dead()?;
    let zombie = find(take_snapshot, child.pid)?;
    let status = child.reap()?;
    same(VIA, &values::DEAD, zombie.dead, Some(status))?;
    Ok(EndedChild { pid: child.pid, start: row.start, status })
}

/// What system calls tell of a directory.
fn in_system_calls(cwd: DirId) -> DirId {
    DirId { generation: 0, object: 0, ..cwd }
}

/// Compares what a forked child inherits from this process.
fn inherited(row: &FoundRow) -> Result<()> {
    same(VIA, &values::PPID, row.facts.parent.tgid.0, std::process::id())?;
    same(VIA, &values::MNT_NS, row.facts.mnt_ns, sys::own_mnt_ns())?;
    same(VIA, &values::FORKED, row.facts.forked, true)?;
    same(VIA, &values::NO_MM, row.facts.no_mm, false)?;
    let exe = fs::read_link("/proc/self/exe").context("read the own executable's path")?;
    let exe = exe.as_os_str().as_bytes();
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    same(VIA, &values::EXE, row.exe.as_deref(), Some(exe))?;
    if let Some(OwnCgroup { path, id }) = OwnCgroup::own() {
        if let Some(id) = id {
            same(VIA, &values::CGROUP_ID, row.facts.cgroup_id, id)?;
        }
        if let Some(path) = path {
            same(VIA, &values::CGROUP, row.cgroup.as_deref(), Some(path.as_slice()))?;
        }
    }
    Ok(())
}

fn find(take_snapshot: &dyn Fn() -> Snapshot, pid: u32) -> Result<FoundRow> {
    let mut found = None;
    let snapshot = take_snapshot();
    snapshot.rows(|input| {
        if let Input::PassRow(row) = input
            && let TaskRow { key, facts, cwd_path, exe, cgroup, tty_pgrp, stopped, dead, usage, .. } = row
            && key.tgid == Tgid(pid)
        {
            let path = |raw| join_path(raw).map(|path| path.to_vec());
            found = Some(FoundRow {
                start: key.start_boottime,
                facts,
                cwd: path(cwd_path),
                reached: cwd_path.flags & path_flag::UNREACHABLE == 0,
                deleted: cwd_path.flags & path_flag::DELETED != 0,
                exe: path(exe),
                cgroup: path(cgroup),
                foreground: tty_pgrp,
                stopped,
                dead,
                usage,
            });
        }
    });
    snapshot.into_result()?;
    let absent = || format!("{VIA}: {} of child {pid} is missing ({})", values::ROW, values::ROW.through());
    found.with_context(absent)
}
