//! One live process, as the kernel told it.

use alloc::sync::Arc;

pub use observer_common::record::DirId;

use crate::model::ids::{BootTime, ProcessKey};

/// Bytes that processes choose (paths, argv): not text until shown. Shared between parent and child.
pub type Bytes = Arc<[u8]>;

/// `task->comm`, NUL-padded; at most 15 bytes of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The content up to the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        self.0.get(..end).unwrap_or_default()
    }
}

/// A controlling terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tty {
    /// Device number as the kernel holds it: major << 20 | minor.
    pub dev: u32,
    /// The kernel's name, NUL-padded: `pts3`, `tty1`.
    pub name: [u8; 16],
}

impl Tty {
    /// The name as shown to people and matched by rules: `pts/3`, `tty1`.
    pub fn shown(&self) -> ShownTty {
        let mut shown = ShownTty { bytes: [0; 17], len: 0 };
        let mut previous: &[u8] = &[];
        for (at, &byte) in self.name.iter().enumerate().take_while(|&(_, &byte)| byte != 0) {
            if at == 3 && previous == b"pts" && byte.is_ascii_digit() {
                shown.push(b'/');
            }
            shown.push(byte);
            previous = self.name.get(..=at).unwrap_or_default();
        }
        shown
    }
}

/// A terminal's name as shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownTty {
    bytes: [u8; 17],
    len: usize,
}

impl ShownTty {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Where a path stands and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Absolute path from the root of the mount namespace, without the kernel's " (deleted)"; `None` while it
    /// is being read again or could not be read whole.
    pub path: Option<Bytes>,
    /// The directory's identity.
    pub id: DirId,
    /// Inode number of the mount namespace; 0 unknown.
    pub mnt_ns: u32,
    /// Unlinked.
    pub deleted: bool,
    /// Longer than observer's limits; `path` is `None`.
    pub truncated: bool,
    /// Not reachable from the namespace's root (lazily unmounted).
    pub unreachable: bool,
    /// The leader has exited before its threads: this is its last directory.
    pub leader_gone: bool,
    /// When it was read: the record's or row's timestamp.
    pub as_of: BootTime,
}

/// User ids of the leader, in the initial user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uids {
    /// Real.
    pub uid: u32,
    /// Effective.
    pub euid: u32,
    /// Saved.
    pub suid: u32,
}

/// Where argv was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgvSource {
    /// From the exec itself: what was executed, whatever was written over it since.
    Exec,
    /// From the process's memory later: the process may have written over it.
    Memory,
}

/// Arguments of the last exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argv {
    /// NUL-terminated strings, as in memory; the last may be cut where `truncated`.
    pub bytes: Bytes,
    /// Longer than was read.
    pub truncated: bool,
    /// Where it was read.
    pub source: ArgvSource,
}

/// The environment variables that the configuration names, as `NAME=value`, at the last exec.
pub type Env = Arc<[Bytes]>;

/// One live process: a thread group with a user memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Identity.
    pub key: ProcessKey,
    /// Realtime minus boot time when the process was first seen, ns: fixes its wall-clock start for good.
    pub wall_offset_ns: i64,
    /// The parent as the kernel has it; `start_boottime` 0 where only the tgid is known.
    pub parent: ProcessKey,
    /// Nearest live ancestor by birth as observed (reparenting does not change it).
    pub lineage: Option<ProcessKey>,
    /// `task->comm` of the leader.
    pub comm: Comm,
    /// Path of `mm->exe_file`.
    pub exe: Option<Bytes>,
    /// The executable was unlinked or replaced since.
    pub exe_deleted: bool,
    /// Name given to the last exec that was observed.
    pub filename: Option<Bytes>,
    /// Arguments; `None` where they could not be read.
    pub argv: Option<Argv>,
    /// Chosen environment variables at exec; `None` where not read.
    pub env: Option<Env>,
    /// When it last exec'd, if that was observed.
    pub exec_at: Option<BootTime>,
    /// The kernel's `self_exec_id`.
    pub exec_id: u32,
    /// Working directory of the leader.
    pub cwd: Directory,
    /// Controlling terminal.
    pub tty: Option<Tty>,
    /// Foreground process group of the terminal when last read; 0 unknown or none.
    pub tty_pgrp: u32,
    /// User ids.
    pub uids: Uids,
    /// POSIX session.
    pub sid: u32,
    /// Process group.
    pub pgid: u32,
    /// kernfs id of the v2 cgroup.
    pub cgroup_id: u64,
    /// Path of the v2 cgroup.
    pub cgroup: Option<Bytes>,
    /// Other thread groups share its `fs_struct`.
    pub fs_shared: bool,
}
