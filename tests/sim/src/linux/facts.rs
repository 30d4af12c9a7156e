//! What programs read of a process: the facts of births, execs and rows.

use observer_common::record::{
    FACT_DEAD, FACT_FORKED, FACT_FS_SHARED, FACT_LEADER_GONE, FACT_NO_MM, KIND_ROW,
};
use observer_core::ProcessKey;
use observer_core::process::{DirId, Tty};

use super::process::{Group, Stage};
use super::{KTHREADD, Linux, NAMES, cgroup_path};
use crate::bytes::Bytes;

impl Bytes {
    /// The facts of a process.
    pub fn facts(self, facts: &Facts) -> Self {
        let parent = self.u64(facts.parent.start_boottime.0).dir(facts.cwd).u64(facts.cgroup_id);
        let ids = parent.u32(facts.parent.tgid.0).u32(facts.sid).u32(facts.pgid);
        let uids = ids.u32(facts.uid).u32(facts.uid).u32(facts.uid).u32(facts.tty.map_or(0, |tty| tty.dev));
        let flags = uids.u32(facts.mnt_ns).u32(facts.exec_id).u32(facts.flags);
        flags.tty_name(facts.tty).name(facts.comm)
    }
}

/// The facts of one process.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The parent.
    pub parent: ProcessKey,
    /// The leader's directory.
    pub cwd: DirId,
    /// Its mount namespace.
    pub mnt_ns: u32,
    /// Its cgroup.
    pub cgroup_id: u64,
    /// Its POSIX session.
    pub sid: u32,
    /// Its process group.
    pub pgid: u32,
    /// The leader's user id: real, effective and saved.
    pub uid: u32,
    /// Its terminal.
    pub tty: Option<Tty>,
    /// `self_exec_id`.
    pub exec_id: u32,
    /// `FACT_` bits.
    pub flags: u32,
    /// The leader's comm.
    pub comm: &'static [u8],
}

/// The terminal with this number.
pub(crate) fn tty(number: u32) -> Tty {
    let mut name = [0; 16];
    name.iter_mut().zip(format!("pts{number}").bytes()).for_each(|(slot, byte)| *slot = byte);
    Tty { dev: 136 << 20 | number, name }
}

pub(crate) fn comm(name: usize) -> &'static [u8] {
    NAMES.get(name).map_or(b"x", |name| name.as_bytes())
}

impl Linux {
    /// Returns whether a task of another group has the leader's `fs_struct`.
    pub(crate) fn is_fs_shared(&self, group: &Group) -> bool {
        let has = |other: &Group, fs| other.threads.values().any(|thread| thread.fs == fs);
        group
            .leader_fs()
            .is_some_and(|fs| self.groups.values().any(|other| other.key != group.key && has(other, fs)))
    }

    /// Returns the facts of a process as they are now.
    pub fn facts(&self, group: &Group) -> Facts {
        let of_kernel = if group.key.tgid.0 == 1 { ProcessKey::new(0, 0) } else { KTHREADD };
        let parent = self.groups.get(&group.parent).map_or(of_kernel, |parent| parent.key);
        let mut flags = 0;
        let mut set = |flag, is_set: bool| flags |= if is_set { flag } else { 0 };
        set(FACT_FS_SHARED, self.is_fs_shared(group));
        set(FACT_LEADER_GONE, group.is_leader_gone() || matches!(group.stage, Stage::Zombie(_)));
        set(FACT_NO_MM, group.has_no_mm || group.stage != Stage::Runs);
        set(FACT_FORKED, group.is_forked);
        let cwd = group.leader_fs().map(|fs| self.files.id(self.files.pwd(fs), group.mnt_ns));
        Facts {
            parent,
            cwd: cwd.unwrap_or_default(),
            mnt_ns: if cwd.is_some() { group.mnt_ns } else { 0 },
            cgroup_id: 100 + u64::from(group.cgroup),
            sid: group.sid,
            pgid: group.pgid,
            uid: group.leader.uid,
            tty: group.tty.map(tty),
            exec_id: group.exec_id,
            flags,
            comm: comm(group.leader.comm),
        }
    }

    /// The components of the leader's directory, and the flags of the path.
    pub(crate) fn cwd_path(&self, group: &Group) -> (Vec<u8>, u32) {
        group.leader_fs().map(|fs| self.files.path(self.files.pwd(fs))).unwrap_or_default()
    }

    /// The row that the task iterator has of a process now; `None`: it shows none.
    pub fn row(&mut self, tgid: u32) -> Option<Vec<u8>> {
        let at = self.tick();
        let group = self.groups.get(&tgid)?;
        if group.has_no_mm && group.stage == Stage::Runs && group.exec_id == 0 {
            return None;
        }
        let mut facts = self.facts(group);
        let mut status = 0;
        let code = match group.stage {
            Stage::Zombie(code) => Some(code),
            // The leader is a zombie, and no thread counts as live any more.
            Stage::Exiting(code) if group.is_leader_gone() => Some(code),
            Stage::Exiting(_) | Stage::Runs => None,
        };
        if let Some(code) = code {
            facts.flags |= FACT_DEAD;
            status = code;
        }
        let (cwd, cwd_flags) = self.cwd_path(group);
        let exe = if group.stage == Stage::Runs { group.exe_path() } else { Vec::new() };
        let cgroup: Vec<u8> = cgroup_path(group.cgroup).trim_start_matches('/').bytes().chain([0]).collect();
        let row = Bytes::header(KIND_ROW, at, group.key, tgid).facts(&facts);
        let row = row.u64(0).u64(0).u64(0).u64(0).u32(0).u32(status);
        let row = row.len_of(&cwd).u32(cwd_flags).len_of(&exe).u32(0).len_of(&cgroup).u32(0);
        Some(row.u64(0).u64(0).u64(0).u64(0).raw(&cwd).raw(&exe).raw(&cgroup).done())
    }
}
