//! What the core hears. A closed enum; byte slices borrow from the ring or the iterator.

use alloc::vec::Vec;

use crate::ids::{BootTime, ProcessKey, Tgid};
use crate::process::{Comm, DirId, Tty, Uids};
use crate::resume::Known;

/// A path as a record gives it: components from the leaf up, each followed by a NUL; see
/// [`decode::join_path`](crate::decode::join_path).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawPath<'a> {
    /// The components.
    pub components: &'a [u8],
    /// [`observer_common::record::path_flag`] bits.
    pub flags: u32,
}

/// Facts common to births, execs and snapshot rows: [`observer_common::record::Facts`], decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Parent as the kernel has it.
    pub parent: ProcessKey,
    /// Working directory's identity.
    pub cwd: DirId,
    /// Mount namespace; 0 unknown.
    pub mnt_ns: u32,
    /// kernfs id of the v2 cgroup.
    pub cgroup_id: u64,
    /// POSIX session.
    pub sid: u32,
    /// Process group.
    pub pgid: u32,
    /// User ids.
    pub uids: Uids,
    /// Controlling terminal.
    pub tty: Option<Tty>,
    /// The kernel's `self_exec_id`.
    pub exec_id: u32,
    /// comm of the leader.
    pub comm: Comm,
    /// Other groups share the leader's `fs_struct`.
    pub fs_shared: bool,
    /// The leader left before its threads.
    pub leader_gone: bool,
    /// No user memory map: a user-mode helper that has not exec'd.
    pub no_mm: bool,
    /// It has not exec'd since its birth.
    pub forked: bool,
}

/// An argv or environment block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block<'a> {
    /// NUL-terminated strings as in memory.
    pub bytes: &'a [u8],
    /// The block is longer than `bytes`.
    pub truncated: bool,
}

impl<'a> Block<'a> {
    /// The strings, without their NULs. A last one without a NUL was cut; it comes too.
    pub fn strings(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes.strip_suffix(b"\0").unwrap_or(self.bytes);
        let none = self.bytes.is_empty();
        bytes.split(|&byte| byte == 0).filter(move |_| !none)
    }

    /// Of an environment: the whole `NAME=value` strings whose name is one of `names`, in their order.
    pub fn select<'n>(&self, names: &'n [Vec<u8>]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let cut = !self.bytes.ends_with(b"\0");
        let last = self.bytes.rsplit(|&byte| byte == 0).next().map_or(0, <[u8]>::len);
        let whole = self.bytes.len() - if cut { last } else { 0 };
        let whole = Block { bytes: self.bytes.get(..whole).unwrap_or_default(), truncated: self.truncated };
        whole.strings().filter(move |string| {
            let name = string.split(|&byte| byte == b'=').next().unwrap_or_default();
            name.len() < string.len() && names.iter().any(|wanted| wanted == name)
        })
    }
}

/// A row of the task iterator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// When the row was read.
    pub at: BootTime,
    /// Whose.
    pub key: ProcessKey,
    /// Facts.
    pub facts: Facts,
    /// Path of the working directory.
    pub cwd_path: RawPath<'a>,
    /// Path of `mm->exe_file`; empty if there is none.
    pub exe: RawPath<'a>,
    /// Path of the v2 cgroup.
    pub cgroup: RawPath<'a>,
    /// Foreground process group of the terminal; 0 none.
    pub tty_pgrp: u32,
    /// Every thread has left; the wait status.
    pub dead: Option<u32>,
}

/// What can happen. Timestamps are the kernel's, taken before the fields were read: per process and field the
/// latest wins, whatever the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A thread group was born.
    Fork {
        /// When.
        at: BootTime,
        /// The child.
        key: ProcessKey,
        /// The child's facts.
        facts: Facts,
        /// Who called fork: its path, exe and argv are the child's when their identities match.
        creator: ProcessKey,
    },
    /// A program image was replaced.
    Exec {
        /// When.
        at: BootTime,
        /// Whose.
        key: ProcessKey,
        /// Facts after it.
        facts: Facts,
        /// Path of `mm->exe_file`.
        exe: RawPath<'a>,
        /// Name given to exec.
        filename: &'a [u8],
        /// Arguments.
        argv: Block<'a>,
        /// Environment; empty for a process without a terminal.
        env: Block<'a>,
    },
    /// The last thread of a group left.
    Exit {
        /// When.
        at: BootTime,
        /// Whose.
        key: ProcessKey,
        /// Wait status.
        raw_status: u32,
        /// From the leader's own context: wins over a duplicate.
        by_leader: bool,
        /// It led this POSIX session: the terminal of the whole sid goes with it.
        led_sid: Option<u32>,
    },
    /// The leader's directory was set.
    Cwd {
        /// When.
        at: BootTime,
        /// Whose.
        key: ProcessKey,
        /// The directory.
        cwd: DirId,
        /// Mount namespace; 0 unknown.
        mnt_ns: u32,
        /// Its path.
        path: RawPath<'a>,
        /// Other groups share the `fs_struct`: theirs are to be read again.
        fs_shared: bool,
    },
    /// The leader's comm was set.
    Comm {
        /// When.
        at: BootTime,
        /// Whose.
        key: ProcessKey,
        /// The new comm.
        comm: Comm,
    },
    /// The leader's user ids were set.
    Creds {
        /// When.
        at: BootTime,
        /// Whose.
        key: ProcessKey,
        /// User ids.
        uids: Uids,
    },
    /// sid, pgid or terminal were set.
    Ids {
        /// When.
        at: BootTime,
        /// Whose.
        key: ProcessKey,
        /// POSIX session.
        sid: u32,
        /// Process group.
        pgid: u32,
        /// Terminal.
        tty: Option<Tty>,
    },
    /// The process was moved to another cgroup.
    Cgroup {
        /// When.
        at: BootTime,
        /// Whose.
        key: ProcessKey,
        /// kernfs id.
        cgroup_id: u64,
        /// Path, root first, complete with its leading `/`.
        path: &'a [u8],
    },
    /// Fields may have changed with no record of their own: the bits of [`observer_common::record::hint`].
    Hint {
        /// When.
        at: BootTime,
        /// Bits.
        bits: u64,
    },
    /// Records were lost: the counters rose. `total` is the sum of all of them since the start.
    Dropped {
        /// When this was noticed.
        at: BootTime,
        /// Records lost since the start, all kinds.
        total: u64,
    },
    /// A pass of the task iterator begins; its rows follow.
    PassBegin {
        /// Read before the iterator was opened.
        at: BootTime,
        /// Records lost since the start, read at the same moment: a loss up to here is healed by this pass.
        drops_total: u64,
    },
    /// One process of the pass.
    PassRow(Row<'a>),
    /// The pass ended. `complete` is false if the iterator failed part-way: nothing may be concluded from an
    /// absence then.
    PassEnd {
        /// Read after the last row.
        at: BootTime,
        /// Every process was shown.
        complete: bool,
    },
    /// argv and environment of a process that exec'd before the daemon did, from its memory.
    Memory {
        /// When.
        at: BootTime,
        /// Whose; verified after reading.
        key: ProcessKey,
        /// The image that it was read from; ignored if the process has exec'd since.
        exec_id: u32,
        /// Arguments.
        argv: Block<'a>,
        /// Environment; empty if not read.
        env: Block<'a>,
    },
    /// Answer to [`Request::HomeOwner`](crate::change::Request::HomeOwner).
    HomeOwner {
        /// When.
        at: BootTime,
        /// The home's path.
        path: &'a [u8],
        /// The directory's owner; `None` if it could not be read.
        uid: Option<u32>,
    },
    /// A session that was known before the daemon was started again; after a pass.
    Resume {
        /// When.
        at: BootTime,
        /// As it was last known.
        known: Known<'a>,
    },
    /// Time passed: deadlines up to `at` are due.
    Tick {
        /// Now.
        at: BootTime,
    },
}

impl Input<'_> {
    /// The process that the input is of, where it is of one.
    pub fn tgid(&self) -> Option<Tgid> {
        match self {
            Self::Fork { key, .. }
            | Self::Exec { key, .. }
            | Self::Exit { key, .. }
            | Self::Cwd { key, .. }
            | Self::Comm { key, .. }
            | Self::Creds { key, .. }
            | Self::Ids { key, .. }
            | Self::Cgroup { key, .. }
            | Self::Memory { key, .. }
            | Self::PassRow(Row { key, .. }) => Some(key.tgid),
            _ => None,
        }
    }
}
