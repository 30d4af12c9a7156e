//! Layout of every record: those of the ring, and the rows of the task iterator.
//!
//! A record is a [`Header`], a body that depends on `kind`, and for some kinds a tail of byte sections in the
//! order of their lengths in the body. `len` counts all of it.

use core::mem::{offset_of, size_of};

use crate::limits::{COMM_LEN, TTY_NAME_LEN};

/// A new thread group: [`Fork`]. From `sched_process_fork`.
pub const KIND_FORK: u32 = 1;
/// A program image replaced: [`Exec`]. From `sched_process_exec`.
pub const KIND_EXEC: u32 = 2;
/// The last thread of a group left: [`Exit`]. From `sched_process_exit`.
pub const KIND_EXIT: u32 = 3;
/// The leader's working directory was set: [`Cwd`].
pub const KIND_CWD: u32 = 4;
/// The leader's comm was set: [`Comm`].
pub const KIND_COMM: u32 = 5;
/// The leader's user ids were set: [`Creds`].
pub const KIND_CREDS: u32 = 6;
/// The process's sid, pgid or terminal was set: [`Ids`].
pub const KIND_IDS: u32 = 7;
/// The process was moved to another cgroup (v2 hierarchy): [`Cgroup`].
pub const KIND_CGROUP: u32 = 8;
/// Something changed fields of processes that did not call for it: [`Hint`].
pub const KIND_HINT: u32 = 9;
/// A row of the task iterator: [`Row`]. Never in the ring.
pub const KIND_ROW: u32 = 10;
/// Kinds are below this number; 0 is none.
pub const KIND_COUNT: usize = 11;

/// First bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of the `KIND_` constants.
    pub kind: u32,
    /// Bytes of the whole record, header and tail included.
    pub len: u32,
    /// Boot time, ns, taken before any field of the record was read.
    pub boottime_ns: u64,
    /// `start_boottime` of the group's leader, ns. Zero in a [`Hint`].
    pub start_boottime_ns: u64,
    /// Thread group, in the initial pid namespace.
    pub tgid: u32,
    /// The thread in whose context the record was made ([`Fork`]: the new leader).
    pub tid: u32,
}

/// Identity of a directory, as the kernel holds it. All zero where it could not be read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirId {
    /// Inode number.
    pub ino: u64,
    /// `s_dev` of the super block: major << 20 | minor. Not always what stat(2) shows (btrfs, overlayfs).
    pub dev: u32,
    /// `mnt_id` of the mount.
    pub mnt_id: u32,
}

/// Facts of a process common to [`Fork`], [`Exec`] and [`Row`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `start_boottime` of the parent's leader (`real_parent->group_leader`), ns.
    pub parent_start_boottime_ns: u64,
    /// The leader's working directory.
    pub cwd: DirId,
    /// kernfs id of the cgroup in the v2 hierarchy.
    pub cgroup_id: u64,
    /// tgid of `real_parent`.
    pub ppid: u32,
    /// `signal->pids[PIDTYPE_SID]`.
    pub sid: u32,
    /// `signal->pids[PIDTYPE_PGID]`.
    pub pgid: u32,
    /// Real, effective and saved user id of the leader, in the initial user namespace.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Device number of the controlling terminal (major << 20 | minor); 0: none.
    pub tty_dev: u32,
    /// Inode number of the mount namespace; 0 where it could not be read.
    pub mnt_ns: u32,
    /// `self_exec_id`: differs after each exec of the same process.
    pub exec_id: u32,
    /// `FACT_` bits.
    pub flags: u32,
    /// `tty->name`, NUL-padded ("pts3", "tty1").
    pub tty_name: [u8; TTY_NAME_LEN],
    /// `task->comm` of the leader, NUL-padded.
    pub comm: [u8; COMM_LEN],
}

/// [`Facts::flags`]: other thread groups share the leader's `fs_struct` (CLONE_FS).
pub const FACT_FS_SHARED: u32 = 1 << 0;
/// [`Facts::flags`]: the leader has left its threads behind; fields that live in the leader (cwd, comm, uids)
/// are absent or its last.
pub const FACT_LEADER_GONE: u32 = 1 << 1;
/// [`Facts::flags`]: every thread has left, the group waits to be reaped; [`Row::exit_code`] is exact.
pub const FACT_DEAD: u32 = 1 << 2;
/// [`Facts::flags`]: the process has no memory map (a user-mode helper before its exec).
pub const FACT_NO_MM: u32 = 1 << 3;
/// [`Facts::flags`]: the process has not exec'd since its birth. It comes from the word of `task_struct` that tells kernel
/// threads from processes, and is known of any process: so a self-test can tell that this word is the right one.
pub const FACT_FORKED: u32 = 1 << 4;

/// How a path came out. Bits of the `*_flags` fields beside a path section.
pub mod path_flag {
    /// The directory was unlinked; the section does not contain the kernel's " (deleted)".
    pub const DELETED: u32 = 1 << 0;
    /// Components nearest the root are missing: longer than the limits.
    pub const TRUNCATED: u32 = 1 << 1;
    /// The walk did not end at the root of the process's mount namespace (lazily unmounted).
    pub const UNREACHABLE: u32 = 1 << 2;
    /// A read failed, the section is incomplete.
    pub const FAULT: u32 = 1 << 3;
}

/// Body of [`KIND_FORK`]; no tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fork {
    /// First bytes.
    pub header: Header,
    /// The child's facts.
    pub facts: Facts,
    /// `start_boottime` of the group that called fork, ns.
    pub creator_start_boottime_ns: u64,
    /// tgid that called fork; differs from `facts.ppid` under CLONE_PARENT.
    pub creator_tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// Body of [`KIND_EXEC`]. Tail: exe path, filename, argv, environment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// First bytes.
    pub header: Header,
    /// Facts after the exec.
    pub facts: Facts,
    /// Bytes of the path of `mm->exe_file`: components from the leaf up, each followed by a NUL.
    pub exe_len: u32,
    /// [`path_flag`] bits of the exe path.
    pub exe_flags: u32,
    /// Bytes of `bprm->filename`, no NUL.
    pub filename_len: u32,
    /// Bytes of argv as in memory: NUL-terminated strings. May end in mid-string.
    pub argv_len: u32,
    /// Bytes that argv has in memory.
    pub argv_total: u32,
    /// Bytes of environment; 0 for a process without a terminal.
    pub env_len: u32,
    /// Bytes that the environment has in memory.
    pub env_total: u32,
    /// Zero.
    pub reserved: u32,
}

/// Body of [`KIND_EXIT`]; no tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// First bytes.
    pub header: Header,
    /// Wait status as wait(2) would return it.
    pub exit_code: u32,
    /// `EXIT_` bits.
    pub flags: u32,
    /// `FACT_`-free copy of the terminal's device number; 0: none.
    pub tty_dev: u32,
    /// sid of the group.
    pub sid: u32,
}

/// [`Exit::flags`]: made in the leader's own context; wins over a duplicate from another thread.
pub const EXIT_BY_LEADER: u32 = 1 << 0;
/// [`Exit::flags`]: the status is the group's (SIGNAL_GROUP_EXIT), not the leader's own.
pub const EXIT_GROUP: u32 = 1 << 1;
/// [`Exit::flags`]: the group led a POSIX session, whose terminal goes with it.
pub const EXIT_SESSION_LEADER: u32 = 1 << 2;

/// Body of [`KIND_CWD`]. Tail: the path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cwd {
    /// First bytes.
    pub header: Header,
    /// The directory.
    pub cwd: DirId,
    /// Inode number of the mount namespace.
    pub mnt_ns: u32,
    /// `FACT_` bits ([`FACT_FS_SHARED`], [`FACT_LEADER_GONE`]).
    pub facts_flags: u32,
    /// Bytes of the path: components from the leaf up, each followed by a NUL.
    pub path_len: u32,
    /// [`path_flag`] bits.
    pub path_flags: u32,
}

/// Body of [`KIND_COMM`]; no tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comm {
    /// First bytes.
    pub header: Header,
    /// The new comm, NUL-padded.
    pub comm: [u8; COMM_LEN],
}

/// Body of [`KIND_CREDS`]; no tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Creds {
    /// First bytes.
    pub header: Header,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Zero.
    pub reserved: u32,
}

/// Body of [`KIND_IDS`]; no tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// First bytes.
    pub header: Header,
    /// POSIX session.
    pub sid: u32,
    /// Process group.
    pub pgid: u32,
    /// Device number of the controlling terminal; 0: none.
    pub tty_dev: u32,
    /// Zero.
    pub reserved: u32,
    /// `tty->name`, NUL-padded.
    pub tty_name: [u8; TTY_NAME_LEN],
}

/// Body of [`KIND_CGROUP`]. Tail: the path, root first, as kernfs gives it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// First bytes.
    pub header: Header,
    /// kernfs id of the cgroup.
    pub cgroup_id: u64,
    /// Bytes of the path.
    pub path_len: u32,
    /// [`path_flag`] bits.
    pub path_flags: u32,
}

/// Body of [`KIND_HINT`]; no tail. One record until the daemon clears the bit's word
/// ([`HINTS`](crate::control::HINTS)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// First bytes; tgid is the caller's.
    pub header: Header,
    /// One of [`hint`].
    pub hint: u64,
}

/// Bit number of [`hint::PATHS`].
pub const HINT_BIT_PATHS: u32 = 0;
/// Bit number of [`hint::IDS`].
pub const HINT_BIT_IDS: u32 = 1;
/// Bit number of [`hint::THROTTLED`].
pub const HINT_BIT_THROTTLED: u32 = 2;
/// Bit number of [`hint::FS_SHARED`].
pub const HINT_BIT_FS_SHARED: u32 = 3;
/// Bits in [`hint`].
pub const HINT_COUNT: usize = 4;

/// What a [`Hint`] says may have changed. Bits.
pub mod hint {
    /// Paths: a rename, rmdir, unlinkat, mount change or setns succeeded.
    pub const PATHS: u64 = 1 << super::HINT_BIT_PATHS;
    /// sid or pgid of some process (setpgid), or terminals (a new POSIX session).
    pub const IDS: u64 = 1 << super::HINT_BIT_IDS;
    /// A record that may be throttled was: every field is read again.
    pub const THROTTLED: u64 = 1 << super::HINT_BIT_THROTTLED;
    /// A directory was set in an `fs_struct` that other groups share.
    pub const FS_SHARED: u64 = 1 << super::HINT_BIT_FS_SHARED;
}

/// Body of [`KIND_ROW`]. Tail: cwd path, exe path, cgroup path (each from the leaf up, components followed by
/// a NUL).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// First bytes.
    pub header: Header,
    /// The process's facts.
    pub facts: Facts,
    /// `mm->arg_start`.
    pub arg_start: u64,
    /// `mm->arg_end`.
    pub arg_end: u64,
    /// `mm->env_start`.
    pub env_start: u64,
    /// `mm->env_end`.
    pub env_end: u64,
    /// Foreground process group of the controlling terminal; 0: none.
    pub tty_pgrp: u32,
    /// Wait status; meaningful with [`FACT_DEAD`].
    pub exit_code: u32,
    /// Bytes of the cwd path.
    pub cwd_len: u32,
    /// [`path_flag`] bits of the cwd path.
    pub cwd_flags: u32,
    /// Bytes of the exe path.
    pub exe_len: u32,
    /// [`path_flag`] bits of the exe path.
    pub exe_flags: u32,
    /// Bytes of the cgroup path.
    pub cgroup_len: u32,
    /// [`path_flag`] bits of the cgroup path.
    pub cgroup_flags: u32,
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<DirId>() == 16);
    assert!(size_of::<Facts>() == 104);
    assert!(size_of::<Fork>() == 152);
    assert!(size_of::<Exec>() == 168);
    assert!(size_of::<Exit>() == 48);
    assert!(size_of::<Cwd>() == 64);
    assert!(size_of::<Comm>() == 48);
    assert!(size_of::<Creds>() == 48);
    assert!(size_of::<Ids>() == 64);
    assert!(size_of::<Cgroup>() == 48);
    assert!(size_of::<Hint>() == 40);
    assert!(size_of::<Row>() == 200);
    assert!(offset_of!(Header, tgid) == 24);
    assert!(offset_of!(Exec, facts) == 32 && offset_of!(Row, facts) == 32 && offset_of!(Fork, facts) == 32);
    assert!(offset_of!(Row, arg_start) == 136);
};
