//! The values that records and rows of the task iterator hold of one process.

use crate::input::path::{RawPath, join_path};
use crate::model::cost::ProcessUsage;
use crate::model::death::MemoryScope;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Comm, DirId, Tty, Uids};

/// The facts that births, execs and rows of a pass have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The parent as the kernel has it.
    pub parent: ProcessKey,
    /// Identity of the working directory.
    pub cwd: DirId,
    /// Inode number of the mount namespace; 0 if unknown.
    pub mnt_ns: u32,
    /// kernfs id of the v2 cgroup; 0 if unknown.
    pub cgroup_id: u64,
    /// The id of the POSIX session.
    pub sid: u32,
    /// The id of the process group.
    pub pgid: u32,
    /// The user ids.
    pub uids: Uids,
    /// The controlling terminal.
    pub tty: Option<Tty>,
    /// The kernel's `self_exec_id`.
    pub exec_id: u32,
    /// The comm of the leader.
    pub comm: Comm,
    /// Other groups share the leader's `fs_struct`.
    pub fs_shared: bool,
    /// The leader exited before its threads.
    pub leader_gone: bool,
    /// It has no user memory map: it is a user-mode helper that has not exec'd.
    pub no_mm: bool,
    /// It has not exec'd since its birth.
    pub forked: bool,
}

/// What had no memory left when the kernel marked a victim of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawMemoryScope<'a> {
    /// It is not known.
    Unknown,
    /// No cgroup was at its limit.
    Host,
    /// The cgroup with this path was at its limit.
    Cgroup(RawPath<'a>),
}

impl RawMemoryScope<'_> {
    /// Returns the scope with the path of the cgroup joined.
    pub(crate) fn joined(self) -> MemoryScope {
        match self {
            Self::Unknown => MemoryScope::Unknown,
            Self::Host => MemoryScope::Host,
            Self::Cgroup(path) => MemoryScope::Cgroup(join_path(path)),
        }
    }
}

/// An argv or environment block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block<'a> {
    /// NUL-terminated strings as they are in memory.
    pub bytes: &'a [u8],
    /// The block is longer than `bytes`.
    pub truncated: bool,
}

impl<'a> Block<'a> {
    /// Returns the strings without their NULs. A last string without a NUL was cut, and is included.
    pub fn strings(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes.strip_suffix(b"\0").unwrap_or(self.bytes);
        let none = self.bytes.is_empty();
        bytes.split(|&byte| byte == 0).filter(move |_| !none)
    }

    /// Returns those `NAME=value` strings of an environment whose name and value `wants` accepts, in the order of the
    /// block. A string that was cut is left out.
    pub fn select<W: Fn(&[u8], &[u8]) -> bool>(
        &self,
        wants: W,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, W> {
        let cut = !self.bytes.ends_with(b"\0");
        let last = self.bytes.rsplit(|&byte| byte == 0).next().map_or(0, <[u8]>::len);
        let whole = self.bytes.len() - if cut { last } else { 0 };
        let whole = Block { bytes: self.bytes.get(..whole).unwrap_or_default(), truncated: self.truncated };
        whole.strings().filter(move |string| {
            let end = string.iter().position(|&byte| byte == b'=');
            let parts = end.and_then(|end| Some((string.get(..end)?, string.get(end + 1..)?)));
            parts.is_some_and(|(name, value)| wants(name, value))
        })
    }
}

/// A row of the task iterator: one process as a pass shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRow<'a> {
    /// The time before the row was read.
    pub at: BootTime,
    /// The process.
    pub key: ProcessKey,
    /// Its facts.
    pub facts: ProcessFacts,
    /// Path of the working directory.
    pub cwd_path: RawPath<'a>,
    /// Path of `mm->exe_file`; empty if there is none.
    pub exe: RawPath<'a>,
    /// Path of the v2 cgroup.
    pub cgroup: RawPath<'a>,
    /// Foreground process group of the terminal; 0 if there is none.
    pub tty_pgrp: u32,
    /// A signal stopped the process.
    pub stopped: bool,
    /// The leader was within execve while the row was read.
    pub executing: bool,
    /// The wait status, where every thread has exited and the group waits to be reaped.
    pub dead: Option<u32>,
    /// What the process has used. Of a live one, the time of its live threads but the leader is missing.
    pub usage: ProcessUsage,
    /// The pages of memory that it has; 0 where that is not known.
    pub rss_pages: u64,
}
