//! What a record or a row of the iterator tells of one process.

use alloc::vec::Vec;

use crate::input::path::RawPath;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Comm, DirId, Tty, Uids};

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
