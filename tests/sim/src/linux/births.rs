//! Births, threads and execs.

use std::collections::BTreeMap;

use observer_common::record::{KIND_CWD, KIND_EXEC, KIND_FORK};
use observer_core::ProcessKey;

use super::process::{Group, Stage, Thread};
use super::ring::Priority;
use super::{GROUPS_MAX, INIT, KTHREADD, Linux, NAMES, THREADS_MAX};
use crate::bytes::Bytes;

/// How a child begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fork {
    Plain,
    SharesFs,
    ForParent,
}

impl Linux {
    pub(super) fn fork(&mut self, [by, thread, ..]: [u32; 4], how: Fork) {
        let Some(tgid) = self.pick(by) else { return };
        self.ring.runs(tgid);
        let Some(creator) = self.groups.get(&tgid).cloned() else { return };
        let Some((_, thread)) = creator.pick(thread) else { return };
        // Init does not fork for its parent (`copy_process`, kernel/fork.c: SIGNAL_UNKILLABLE).
        if self.groups.len() >= GROUPS_MAX || creator.has_no_mm || (how == Fork::ForParent && tgid == 1) {
            return;
        }
        let Some(pid) = self.free_pid() else { return };
        let started = self.tick();
        let fs = if how == Fork::SharesFs { thread.fs } else { self.files.copy(thread.fs) };
        let leader = Thread { fs, ..thread };
        let child = Group {
            key: ProcessKey::new(pid, started),
            parent: if how == Fork::ForParent { creator.parent } else { tgid },
            threads: BTreeMap::from([(pid, leader)]),
            leader,
            is_subreaper: false,
            is_forked: true,
            ..creator.clone()
        };
        self.groups.insert(pid, child);
        self.report_birth(pid, creator.key);
    }

    /// The record of a birth: the child does nothing before it.
    fn report_birth(&mut self, pid: u32, creator: ProcessKey) {
        let at = self.tick();
        let Some(child) = self.groups.get(&pid) else { return };
        let record = Bytes::header(KIND_FORK, at, child.key, pid).facts(&self.facts(child));
        let record = record.u64(creator.start_boottime.0).u32(creator.tgid.0).u32(0);
        self.ring.send(KIND_FORK, Priority::Vital, at, [creator.tgid.0, pid], record.done());
    }

    /// A worker of the kernel, which is no process of observer's, forks a helper.
    pub(super) fn start_helper(&mut self) {
        if self.groups.len() >= GROUPS_MAX {
            return;
        }
        let Some(pid) = self.free_pid() else { return };
        let started = self.tick();
        let leader = Thread { fs: self.files.new_fs(0), comm: INIT, uid: 0 };
        let helper = Group {
            key: ProcessKey::new(pid, started),
            parent: 0,
            threads: BTreeMap::from([(pid, leader)]),
            leader,
            sid: 0,
            pgid: 0,
            tty: None,
            mnt_ns: super::HOST_MNT_NS,
            cgroup: 0,
            exec_id: 0,
            program: usize::MAX,
            argv: Vec::new(),
            stage: Stage::Runs,
            is_subreaper: false,
            has_no_mm: true,
            is_forked: true,
        };
        self.groups.insert(pid, helper);
        self.report_birth(pid, KTHREADD);
    }

    pub(super) fn start_thread(&mut self, [by, thread, ..]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let Some(tid) = self.free_pid() else { return };
        let Some(group) = self.groups.get_mut(&tgid) else { return };
        if group.threads.len() >= THREADS_MAX || group.has_no_mm {
            return;
        }
        let Some((_, thread)) = group.pick(thread) else { return };
        group.threads.insert(tid, thread);
    }

    /// The other threads end. One that does not lead takes the place of the leader, and its start time.
    pub(super) fn exec(&mut self, [by, thread, name, _]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        self.executed += 1;
        let executed = self.executed;
        let name = 1 + name as usize % (NAMES.len() - 1);
        let Some(group) = self.groups.get_mut(&tgid) else { return };
        let Some((_, thread)) = group.pick(thread) else { return };
        let leader = Thread { comm: name, ..thread };
        let program = NAMES.get(name).copied().unwrap_or_default();
        group.threads = BTreeMap::from([(tgid, leader)]);
        group.leader = leader;
        (group.has_no_mm, group.is_forked) = (false, false);
        group.exec_id += 1;
        group.program = name;
        group.argv = format!("{program}\0{executed}\0").into_bytes();
        self.release_fs();
        self.report_exec(tgid);
    }

    fn report_exec(&mut self, tgid: u32) {
        let at = self.tick();
        if self.ring.tells_cwd_of_execs(at) {
            self.report_cwd(tgid, tgid, Priority::Vital);
        }
        let Some(group) = self.groups.get(&tgid) else { return };
        let (exe, program) = (group.exe_path(), NAMES.get(group.program).copied().unwrap_or_default());
        let record = Bytes::header(KIND_EXEC, at, group.key, tgid).facts(&self.facts(group));
        let record = record.len_of(&exe).u32(0).len_of(program.as_bytes());
        let record = record.len_of(&group.argv).len_of(&group.argv).u32(0).u32(0).u32(0);
        let record = record.raw(&exe).raw(program.as_bytes()).raw(&group.argv).done();
        self.send(KIND_EXEC, Priority::Vital, at, tgid, record);
    }

    /// The record of the leader's directory, made by a thread.
    pub(super) fn report_cwd(&mut self, tgid: u32, tid: u32, priority: Priority) {
        let at = self.tick();
        let Some(group) = self.groups.get(&tgid) else { return };
        let facts = self.facts(group);
        let (path, flags) = self.cwd_path(group);
        let record = Bytes::header(KIND_CWD, at, group.key, tid).dir(facts.cwd).u32(facts.mnt_ns);
        let record = record.u32(facts.flags).len_of(&path).u32(flags).raw(&path).done();
        self.send(KIND_CWD, priority, at, tgid, record);
        if facts.flags & observer_common::record::FACT_FS_SHARED != 0 {
            let at = self.tick();
            self.ring.raise(observer_common::record::hint::FS_SHARED, at);
        }
    }

    /// Forgets what no task has any more.
    pub(super) fn release_fs(&mut self) {
        let groups = &self.groups;
        self.files
            .release(|fs| groups.values().any(|group| group.threads.values().any(|thread| thread.fs == fs)));
    }
}
