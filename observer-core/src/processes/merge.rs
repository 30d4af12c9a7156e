//! Merges records and rows into an entry. For each group of fields the latest timestamp wins, whatever the
//! order of arrival.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::BitOrAssign;

use observer_common::record::path_flag;

use crate::input::{Block, ProcessFacts, RawPath, TaskRow, path_is};
use crate::limits::{LABEL_BYTES_MAX, TORN_REREADS_MAX};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Argv, ArgvSource, Bytes, Comm, DirId, Env, Tty, Uids, WorkingDirectory};
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::processes::program::program_name;
use crate::processes::recent::RecentBytes;

/// What changes where arguments are learned after their exec.
const LEARNED: Diff = Diff::IMAGE.union(Diff::ARGUMENTS);

/// The result of merging one input.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merged {
    pub diff: Diff,
    /// A field is known to be stale or missing, so a pass has to read it.
    pub reread: bool,
}

impl From<Diff> for Merged {
    fn from(diff: Diff) -> Self {
        Self { diff, reread: false }
    }
}

impl BitOrAssign for Merged {
    fn bitor_assign(&mut self, other: Self) {
        self.diff |= other.diff;
        self.reread |= other.reread;
    }
}

fn set<T: PartialEq>(slot: &mut T, value: T, bit: Diff) -> Diff {
    let changed = *slot != value;
    if changed {
        *slot = value;
    }
    bit.when(changed)
}

impl ProcessEntry {
    pub fn merge_comm(&mut self, at: BootTime, comm: Comm) -> Diff {
        if at <= self.stamps.comm {
            return Diff::default();
        }
        self.stamps.comm = at;
        set(&mut self.process.comm, comm, Diff::COMM)
    }

    pub fn merge_uids(&mut self, at: BootTime, uids: Uids) -> Diff {
        if at <= self.stamps.uids {
            return Diff::default();
        }
        self.stamps.uids = at;
        set(&mut self.process.uids, uids, Diff::UIDS)
    }

    pub fn merge_ids(&mut self, at: BootTime, sid: u32, pgid: u32, tty: Option<Tty>) -> Diff {
        if at <= self.stamps.ids {
            return Diff::default();
        }
        self.stamps.ids = at;
        let process = &mut self.process;
        if tty.is_none() {
            process.tty_pgrp = 0;
        }
        set(&mut process.sid, sid, Diff::IDS)
            | set(&mut process.pgid, pgid, Diff::IDS)
            | set(&mut process.tty, tty, Diff::TTY)
    }

    /// The caller compares `process.parent` before and after, and keeps the count of children.
    fn merge_parent(&mut self, at: BootTime, parent: ProcessKey) -> Diff {
        if at <= self.stamps.parent {
            return Diff::default();
        }
        self.stamps.parent = at;
        set(&mut self.process.parent, parent, Diff::PARENT)
    }

    /// Merges a cgroup. `path` makes the path of the record from the stored one, or is `None` where the
    /// record carries no path.
    pub fn merge_cgroup(
        &mut self,
        at: BootTime,
        cgroup_id: u64,
        path: Option<impl FnOnce(Option<&Bytes>) -> Option<Bytes>>,
    ) -> Merged {
        if at <= self.stamps.cgroup || cgroup_id == 0 {
            return Merged::default();
        }
        self.stamps.cgroup = at;
        let process = &mut self.process;
        let same = process.cgroup_id == cgroup_id;
        let mut diff = set(&mut process.cgroup_id, cgroup_id, Diff::CGROUP_ID | Diff::CGROUP);
        match path {
            Some(path) => {
                let path = path(process.cgroup.as_ref());
                diff |= set(&mut process.cgroup, path, Diff::CGROUP);
            }
            None if same => {}
            None => process.cgroup = None,
        }
        // A path that does not fit a record is read again by a pass. One that does not fit a pass is too
        // long.
        Merged { diff, reread: !same && process.cgroup.is_none() }
    }

    /// Merges a directory by its identity alone: the records of births and execs carry no path.
    fn merge_cwd_id(&mut self, at: BootTime, id: DirId, mnt_ns: u32) -> Merged {
        if at <= self.stamps.cwd {
            return Merged::default();
        }
        self.stamps.cwd = at;
        let cwd = &mut self.process.cwd;
        if cwd.id == id && cwd.mnt_ns == mnt_ns && id != DirId::default() {
            // Where the leader was gone, no pass has read the path since.
            let reread = (cwd.path.is_none() && !cwd.truncated) || cwd.leader_gone;
            return Merged { diff: Diff::default(), reread };
        }
        let diff = Diff::CWD_ID.when(cwd.id != id) | Diff::CWD;
        *cwd = WorkingDirectory { id, mnt_ns, as_of: at, ..WorkingDirectory::default() };
        Merged { diff, reread: true }
    }

    /// Merges a directory with its path.
    pub fn merge_cwd(
        &mut self,
        at: BootTime,
        id: DirId,
        mnt_ns: u32,
        path: RawPath<'_>,
        recent: &mut RecentBytes,
    ) -> Merged {
        let cwd = &mut self.process.cwd;
        // An older record may still carry the path of the directory that a later one identified without a path, or a path
        // that was read later than the one that is known.
        let is_unknown = cwd.path.is_none() && !cwd.truncated;
        let fills = (is_unknown || at > cwd.as_of) && cwd.id == id && cwd.mnt_ns == mnt_ns;
        if at <= self.stamps.cwd && !fills {
            return Merged::default();
        }
        self.stamps.cwd = self.stamps.cwd.max(at);
        let unreadable = id == DirId::default();
        let truncated = path.flags & path_flag::TRUNCATED != 0;
        let mut path_of = |stored: Option<&Bytes>| match stored {
            _ if unreadable => None,
            Some(stored) if path_is(path, stored) => Some(Arc::clone(stored)),
            _ => recent.path(path),
        };
        let new = WorkingDirectory {
            path: path_of(cwd.path.as_ref()),
            id,
            mnt_ns,
            deleted: path.flags & path_flag::DELETED != 0,
            truncated,
            unreachable: path.flags & path_flag::UNREACHABLE != 0,
            leader_gone: false,
            as_of: at,
        };
        let torn = new.path.is_none() && !truncated;
        self.torn = if torn { self.torn.saturating_add(1) } else { 0 };
        let id_changed = cwd.id != id;
        let as_of = core::mem::replace(&mut cwd.as_of, at);
        let changed = *cwd != new;
        if changed {
            *cwd = new;
        }
        cwd.as_of = as_of.max(at);
        let diff = Diff::CWD_ID.when(id_changed) | Diff::CWD.when(changed);
        Merged { diff, reread: torn && self.torn <= TORN_REREADS_MAX }
    }

    /// Merges the record of a changed directory. A pass reads a directory that the record could not carry.
    pub fn merge_cwd_record(
        &mut self,
        at: BootTime,
        id: DirId,
        mnt_ns: u32,
        path: RawPath<'_>,
        fs_shared: bool,
        recent: &mut RecentBytes,
    ) -> Merged {
        if id == DirId::default() {
            return Merged { diff: Diff::default(), reread: at > self.stamps.cwd };
        }
        let mut diff = Diff::default();
        if at > self.stamps.cwd {
            diff = set(&mut self.process.fs_shared, fs_shared, Diff::FS_SHARED);
        }
        let mut merged = self.merge_cwd(at, id, mnt_ns, path, recent);
        merged.diff |= diff;
        merged
    }

    /// Merges the record of a changed cgroup. An empty `path` means that the record could not carry it.
    pub fn merge_cgroup_record(&mut self, at: BootTime, cgroup_id: u64, path: &[u8]) -> Merged {
        let known = |stored: Option<&Bytes>| match stored {
            Some(stored) if **stored == *path => Some(Arc::clone(stored)),
            _ => Some(Bytes::from(path)),
        };
        self.merge_cgroup(at, cgroup_id, (!path.is_empty()).then_some(known))
    }

    /// The leader exited before its threads: its last directory stays.
    fn leader_gone(&mut self) -> Diff {
        set(&mut self.process.cwd.leader_gone, true, Diff::CWD)
    }

    /// Merges the facts of a birth, an exec or a row, except the directory, the cgroup, the comm and the image.
    fn merge_facts(&mut self, at: BootTime, facts: &ProcessFacts) -> Diff {
        let mut diff = self.merge_ids(at, facts.sid, facts.pgid, facts.tty);
        diff |= self.merge_parent(at, facts.parent);
        if !facts.leader_gone {
            diff |= self.merge_uids(at, facts.uids);
        }
        diff
    }

    /// Merges the facts of a birth or an exec, which carry identities without paths.
    pub fn merge_identities(&mut self, at: BootTime, facts: &ProcessFacts) -> Merged {
        let mut merged = Merged::from(self.merge_facts(at, facts));
        if at > self.stamps.cwd {
            merged.diff |= set(&mut self.process.fs_shared, facts.fs_shared, Diff::FS_SHARED);
        }
        if facts.leader_gone {
            merged.diff |= self.leader_gone();
        } else {
            merged.diff |= self.merge_comm(at, facts.comm);
            merged |= self.merge_cwd_id(at, facts.cwd, facts.mnt_ns);
        }
        merged |= self.merge_cgroup(at, facts.cgroup_id, None::<fn(Option<&Bytes>) -> Option<Bytes>>);
        merged
    }

    /// Merges an exec record. Where a later row has shown the image already, the record still adds its
    /// arguments.
    pub fn merge_exec(
        &mut self,
        at: BootTime,
        facts: &ProcessFacts,
        image: &Image<'_>,
        store: &mut ValueStore,
    ) -> Diff {
        let exec_id = facts.exec_id;
        let same = self.process.exec_id == exec_id;
        let adds_arguments = same && self.process.exec_at.is_none();
        let newer = at > self.stamps.exec;
        if !newer && !adds_arguments {
            return Diff::default();
        }
        let process = &mut self.process;
        if newer {
            self.stamps.exec = at;
            process.exe = if image.exe.components.is_empty() { None } else { store.recent.path(image.exe) };
            process.exe_deleted = image.exe.flags & path_flag::DELETED != 0;
        }
        process.exec_id = exec_id;
        process.exec_at = Some(at);
        process.filename = Some(store.recent.share(image.filename));
        let argv = store.argv(image.argv, ArgvSource::Exec, facts.uids.uid);
        let mut diff = set(&mut process.argv, argv, Diff::ARGUMENTS);
        diff |= set(&mut process.env, store.env(image.env), Diff::ARGUMENTS);
        self.name_program(&mut store.recent);
        if same { Diff::IMAGE | diff } else { Diff::EXEC }
    }

    /// Returns whether a row was read while an execve put another executable in place of the known one: the comm and the number
    /// of the exec follow it (`begin_new_exec`, fs/exec.c). The exec's own record, which comes after the row, has them all.
    fn is_torn_image(&self, row: &TaskRow<'_>) -> bool {
        let process = &self.process;
        row.executing
            && row.facts.exec_id == process.exec_id
            && process.exe.as_ref().is_some_and(|exe| !path_is(row.exe, exe))
    }

    /// Merges the image that a row shows. A different one means that its exec record was missed or is still
    /// on its way.
    fn merge_row_image(&mut self, row: &TaskRow<'_>, recent: &mut RecentBytes) -> Diff {
        if row.at <= self.stamps.exec || row.facts.no_mm {
            return Diff::default();
        }
        self.stamps.exec = row.at;
        let process = &mut self.process;
        let exe = match &process.exe {
            _ if row.exe.components.is_empty() => None,
            Some(exe) if path_is(row.exe, exe) => Some(Arc::clone(exe)),
            _ => recent.path(row.exe),
        };
        let mut diff = set(&mut process.exe, exe, Diff::IMAGE);
        diff |= set(&mut process.exe_deleted, row.exe.flags & path_flag::DELETED != 0, Diff::IMAGE);
        if process.exec_id != row.facts.exec_id {
            process.exec_id = row.facts.exec_id;
            process.exec_at = None;
            process.filename = None;
            process.argv = None;
            process.env = None;
            diff |= Diff::EXEC;
        }
        if !diff.is_empty() {
            self.name_program(recent);
        }
        diff
    }

    /// Merges a row of a pass.
    pub fn merge_row(&mut self, row: &TaskRow<'_>, recent: &mut RecentBytes) -> Merged {
        let facts = &row.facts;
        let newer_ids = row.at > self.stamps.ids;
        let mut merged = Merged::from(self.merge_facts(row.at, facts));
        if newer_ids && facts.tty.is_some() {
            self.process.tty_pgrp = row.tty_pgrp;
        }
        self.process.stopped = row.stopped;
        if !self.is_torn_image(row) {
            if !facts.leader_gone {
                merged.diff |= self.merge_comm(row.at, facts.comm);
            }
            merged.diff |= self.merge_row_image(row, recent);
        }
        if row.at > self.stamps.cwd {
            merged.diff |= set(&mut self.process.fs_shared, facts.fs_shared, Diff::FS_SHARED);
        }
        if facts.leader_gone {
            merged.diff |= self.leader_gone();
        } else if facts.cwd != DirId::default() {
            // A process releases its directory a moment before its end. Its last one stays then.
            merged |= self.merge_cwd(row.at, facts.cwd, facts.mnt_ns, row.cwd_path, recent);
        }
        merged |= self.merge_cgroup(
            row.at,
            facts.cgroup_id,
            Some(|stored: Option<&Bytes>| match stored {
                Some(stored) if path_is(row.cgroup, stored) => Some(Arc::clone(stored)),
                _ => recent.path(row.cgroup),
            }),
        );
        merged
    }

    /// Merges argv and environment from the process's memory. They do not replace those of an exec record.
    pub fn merge_memory(
        &mut self,
        exec_id: u32,
        argv: Block<'_>,
        env: Block<'_>,
        store: &mut ValueStore,
    ) -> Diff {
        let process = &mut self.process;
        if process.exec_id != exec_id {
            return Diff::default();
        }
        let mut diff = Diff::default();
        if process.argv.as_ref().is_none_or(|argv| argv.source == ArgvSource::Memory) {
            let argv = store.argv(argv, ArgvSource::Memory, process.uids.uid);
            diff |= set(&mut process.argv, argv, LEARNED);
        }
        if process.env.is_none() && process.exec_at.is_none() {
            diff |= set(&mut process.env, store.env(env), LEARNED);
        }
        if !diff.is_empty() {
            self.name_program(&mut store.recent);
        }
        diff
    }

    /// Names the program anew: its executable, its filename or its arguments changed.
    pub fn name_program(&mut self, recent: &mut RecentBytes) {
        let process = &mut self.process;
        let argv = process.argv.as_ref();
        let argv = argv.map(|argv| Block { bytes: &argv.bytes, truncated: argv.truncated });
        let name = program_name(process.exe.as_deref(), process.filename.as_deref(), argv);
        if process.program.as_deref() != name {
            process.program = name.map(|name| recent.share(name));
        }
    }
}

/// The image of an exec record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image<'a> {
    pub exe: RawPath<'a>,
    pub filename: &'a [u8],
    pub argv: Block<'a>,
    pub env: Block<'a>,
}

/// Makes the values of the map that take memory of what records and rows hold.
#[derive(Debug, Default)]
pub(crate) struct ValueStore {
    /// Names of the environment variables to keep.
    pub env: Vec<Vec<u8>>,
    /// Names of those that label sessions. Of these, no long values are kept.
    pub labels: Vec<Vec<u8>>,
    pub recent: RecentBytes,
}

impl ValueStore {
    /// Returns `None` for an empty block that is longer in memory: it could not be read.
    fn argv(&mut self, block: Block<'_>, source: ArgvSource, uid: u32) -> Option<Argv> {
        (!block.bytes.is_empty() || !block.truncated).then(|| Argv {
            bytes: self.recent.share(block.bytes),
            truncated: block.truncated,
            source,
            uid,
        })
    }

    fn env(&mut self, block: Block<'_>) -> Option<Env> {
        let Self { env, labels, recent } = self;
        let wants = |name: &[u8], value: &[u8]| {
            let is_label = value.len() <= LABEL_BYTES_MAX && labels.iter().any(|wanted| wanted == name);
            is_label || env.iter().any(|wanted| wanted == name)
        };
        (!block.bytes.is_empty()).then(|| recent.env(block.select(wants)))
    }
}
