//! Fields into a row: per process and group of fields the latest timestamp wins, whatever the order of arrival.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::BitOrAssign;

use observer_common::record::path_flag;

use crate::input::{Block, Facts, RawPath, Row, join_path, path_is};
use crate::limits::TORN_REREADS_MAX;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Argv, ArgvSource, Bytes, Comm, DirId, Directory, Env, Tty, Uids};
use crate::processes::entry::Entry;
use crate::processes::fields::Diff;

/// What merging one input did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merged {
    pub diff: Diff,
    /// A field is known to be stale or missing: a pass is needed.
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

impl Entry {
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
        let row = &mut self.process;
        if tty.is_none() {
            row.tty_pgrp = 0;
        }
        set(&mut row.sid, sid, Diff::IDS)
            | set(&mut row.pgid, pgid, Diff::IDS)
            | set(&mut row.tty, tty, Diff::TTY)
    }

    /// The caller keeps the count of children: it compares `process.parent` before and after.
    fn merge_parent(&mut self, at: BootTime, parent: ProcessKey) -> Diff {
        if at <= self.stamps.parent {
            return Diff::default();
        }
        self.stamps.parent = at;
        set(&mut self.process.parent, parent, Diff::PARENT)
    }

    /// `path` is asked for only where it is not what is stored.
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
        let row = &mut self.process;
        let same = row.cgroup_id == cgroup_id;
        let mut diff = set(&mut row.cgroup_id, cgroup_id, Diff::CGROUP);
        match path {
            Some(path) => {
                let path = path(row.cgroup.as_ref());
                diff |= set(&mut row.cgroup, path, Diff::CGROUP);
            }
            None if same => {}
            None => row.cgroup = None,
        }
        // A path that a record could not carry is read again; one that a pass could not carry is too long.
        Merged { diff, reread: !same && row.cgroup.is_none() }
    }

    /// A directory by identity alone: births and execs carry no path.
    fn merge_cwd_id(&mut self, at: BootTime, id: DirId, mnt_ns: u32) -> Merged {
        if at <= self.stamps.cwd {
            return Merged::default();
        }
        self.stamps.cwd = at;
        let cwd = &mut self.process.cwd;
        if cwd.id == id && cwd.mnt_ns == mnt_ns && id != DirId::default() {
            return Merged { diff: Diff::default(), reread: cwd.path.is_none() && !cwd.truncated };
        }
        let diff = Diff::CWD_ID.when(cwd.id != id) | Diff::CWD;
        *cwd = Directory { id, mnt_ns, as_of: at, ..Directory::default() };
        Merged { diff, reread: true }
    }

    /// A directory with its path.
    pub fn merge_cwd(&mut self, at: BootTime, id: DirId, mnt_ns: u32, path: RawPath<'_>) -> Merged {
        let cwd = &mut self.process.cwd;
        // An older record may still tell the path of the directory that a later one named without it.
        let fills = cwd.path.is_none() && !cwd.truncated && cwd.id == id && cwd.mnt_ns == mnt_ns;
        if at <= self.stamps.cwd && !fills {
            return Merged::default();
        }
        self.stamps.cwd = self.stamps.cwd.max(at);
        let unreadable = id == DirId::default();
        let truncated = path.flags & path_flag::TRUNCATED != 0;
        let path_of = |stored: Option<&Bytes>| match stored {
            _ if unreadable => None,
            Some(stored) if path_is(path, stored) => Some(Arc::clone(stored)),
            _ => join_path(path),
        };
        let new = Directory {
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

    /// The leader's directory was set. One that could not be read is read again.
    pub fn merge_cwd_record(
        &mut self,
        at: BootTime,
        id: DirId,
        mnt_ns: u32,
        path: RawPath<'_>,
        fs_shared: bool,
    ) -> Merged {
        if id == DirId::default() {
            return Merged { diff: Diff::default(), reread: at > self.stamps.cwd };
        }
        let mut diff = Diff::default();
        if at > self.stamps.cwd {
            diff = set(&mut self.process.fs_shared, fs_shared, Diff::FS_SHARED);
        }
        let mut merged = self.merge_cwd(at, id, mnt_ns, path);
        merged.diff |= diff;
        merged
    }

    /// The process was moved to another cgroup; an empty path could not be read.
    pub fn merge_cgroup_record(&mut self, at: BootTime, cgroup_id: u64, path: &[u8]) -> Merged {
        let known = |stored: Option<&Bytes>| match stored {
            Some(stored) if **stored == *path => Some(Arc::clone(stored)),
            _ => Some(Bytes::from(path)),
        };
        self.merge_cgroup(at, cgroup_id, (!path.is_empty()).then_some(known))
    }

    /// The leader has left its threads behind: its directory is the last one.
    fn leader_gone(&mut self) -> Diff {
        set(&mut self.process.cwd.leader_gone, true, Diff::CWD)
    }

    /// The facts of a birth, an exec or a row, but for the directory, the cgroup and the image.
    fn merge_facts(&mut self, at: BootTime, facts: &Facts) -> Diff {
        let mut diff = self.merge_ids(at, facts.sid, facts.pgid, facts.tty);
        diff |= self.merge_parent(at, facts.parent);
        if !facts.leader_gone {
            diff |= self.merge_comm(at, facts.comm);
            diff |= self.merge_uids(at, facts.uids);
        }
        diff
    }

    /// A birth or an exec: identities only.
    pub fn merge_identities(&mut self, at: BootTime, facts: &Facts) -> Merged {
        let mut merged = Merged { diff: self.merge_facts(at, facts), reread: false };
        if at > self.stamps.cwd {
            merged.diff |= set(&mut self.process.fs_shared, facts.fs_shared, Diff::FS_SHARED);
        }
        if facts.leader_gone {
            merged.diff |= self.leader_gone();
        } else {
            merged |= self.merge_cwd_id(at, facts.cwd, facts.mnt_ns);
        }
        merged |= self.merge_cgroup(at, facts.cgroup_id, None::<fn(Option<&Bytes>) -> Option<Bytes>>);
        merged
    }

    /// A new image. An exec record that comes after a later row told of the image still tells its arguments.
    pub fn merge_exec(&mut self, at: BootTime, exec_id: u32, image: &Image<'_>, keep: &[Vec<u8>]) -> Diff {
        let same = self.process.exec_id == exec_id;
        let tells = same && self.process.exec_at.is_none();
        let newer = at > self.stamps.exec;
        if !newer && !tells {
            return Diff::default();
        }
        let row = &mut self.process;
        if newer {
            self.stamps.exec = at;
            row.exe = if image.exe.components.is_empty() { None } else { join_path(image.exe) };
            row.exe_deleted = image.exe.flags & path_flag::DELETED != 0;
        }
        row.exec_id = exec_id;
        row.exec_at = Some(at);
        row.filename = Some(Bytes::from(image.filename));
        row.argv = argv_of(image.argv, ArgvSource::Exec);
        row.env = env_of(image.env, keep);
        if same { Diff::IMAGE } else { Diff::EXEC }
    }

    /// What a row says of the image: a different one means that its exec was missed, or is still on its way.
    fn merge_row_image(&mut self, row: &Row<'_>) -> Diff {
        if row.at <= self.stamps.exec || row.facts.no_mm {
            return Diff::default();
        }
        self.stamps.exec = row.at;
        let process = &mut self.process;
        let exe = match &process.exe {
            _ if row.exe.components.is_empty() => None,
            Some(exe) if path_is(row.exe, exe) => Some(Arc::clone(exe)),
            _ => join_path(row.exe),
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
        diff
    }

    /// A row of the iterator.
    pub fn merge_row(&mut self, row: &Row<'_>) -> Merged {
        let facts = &row.facts;
        let newer_ids = row.at > self.stamps.ids;
        let mut merged = Merged { diff: self.merge_facts(row.at, facts), reread: false };
        if newer_ids && facts.tty.is_some() {
            self.process.tty_pgrp = row.tty_pgrp;
        }
        merged.diff |= self.merge_row_image(row);
        if row.at > self.stamps.cwd {
            merged.diff |= set(&mut self.process.fs_shared, facts.fs_shared, Diff::FS_SHARED);
        }
        if facts.leader_gone {
            merged.diff |= self.leader_gone();
        } else if facts.cwd != DirId::default() {
            merged |= self.merge_cwd(row.at, facts.cwd, facts.mnt_ns, row.cwd_path);
        }
        // A process without a directory gave it up a moment before its end: the last one stays.
        merged |= self.merge_cgroup(
            row.at,
            facts.cgroup_id,
            Some(|stored: Option<&Bytes>| match stored {
                Some(stored) if path_is(row.cgroup, stored) => Some(Arc::clone(stored)),
                _ => join_path(row.cgroup),
            }),
        );
        merged
    }

    /// argv and environment from the process's memory; what an exec told stands.
    pub fn merge_memory(&mut self, exec_id: u32, argv: Block<'_>, env: Block<'_>, keep: &[Vec<u8>]) -> Diff {
        let row = &mut self.process;
        if row.exec_id != exec_id {
            return Diff::default();
        }
        let mut diff = Diff::default();
        if row.argv.as_ref().is_none_or(|argv| argv.source == ArgvSource::Memory) {
            diff |= set(&mut row.argv, argv_of(argv, ArgvSource::Memory), Diff::IMAGE);
        }
        if row.env.is_none() && row.exec_at.is_none() {
            diff |= set(&mut row.env, env_of(env, keep), Diff::IMAGE);
        }
        diff
    }
}

/// What an exec record says of the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image<'a> {
    pub exe: RawPath<'a>,
    pub filename: &'a [u8],
    pub argv: Block<'a>,
    pub env: Block<'a>,
}

/// An empty block that is longer in memory could not be read.
fn argv_of(block: Block<'_>, source: ArgvSource) -> Option<Argv> {
    (!block.bytes.is_empty() || !block.truncated).then(|| Argv {
        bytes: Bytes::from(block.bytes),
        truncated: block.truncated,
        source,
    })
}

fn env_of(block: Block<'_>, keep: &[Vec<u8>]) -> Option<Env> {
    (!block.bytes.is_empty()).then(|| block.select(keep).map(Bytes::from).collect())
}
