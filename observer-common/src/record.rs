//! Layout of every record: those of the ring, and the rows of the task iterator.
//!
//! A record is a [`RecordHeader`], a body that depends on `kind`, and for some kinds a tail of byte sections in the
//! order of their lengths in the body. `len` counts header, body and tail.

use core::mem::{offset_of, size_of};

use crate::limits::{COMM_LEN, TTY_NAME_LEN};

/// A new thread group: [`ForkRecord`]. From `sched_process_fork`.
pub const KIND_FORK: u32 = 1;
/// A program image replaced: [`ExecRecord`]. From `sched_process_exec`.
pub const KIND_EXEC: u32 = 2;
/// The last thread of a group exited: [`ExitRecord`]. From `sched_process_exit`.
pub const KIND_EXIT: u32 = 3;
/// The leader's working directory was set: [`CwdRecord`].
pub const KIND_CWD: u32 = 4;
/// The leader's comm was set: [`CommRecord`].
pub const KIND_COMM: u32 = 5;
/// The leader's user ids were set: [`CredsRecord`].
pub const KIND_CREDS: u32 = 6;
/// The process's sid, pgid or terminal was set: [`IdsRecord`].
pub const KIND_IDS: u32 = 7;
/// The process was moved to another cgroup (v2 hierarchy): [`CgroupRecord`].
pub const KIND_CGROUP: u32 = 8;
/// Fields of other processes than the caller may have changed: [`HintRecord`].
pub const KIND_HINT: u32 = 9;
/// A row of the task iterator: [`RowRecord`]. Never in the ring.
pub const KIND_ROW: u32 = 10;
/// A signal was sent that may end the process: [`SignalRecord`]. From `signal_generate`.
pub const KIND_SIGNAL: u32 = 11;
/// A process that had ended was released: [`ReleaseRecord`]. From `sched_process_free`.
pub const KIND_RELEASE: u32 = 12;
/// The kernel gave a thread that it killed for lack of memory the right to use the reserves: [`OomRecord`]. From
/// `mark_victim`.
pub const KIND_OOM: u32 = 13;
/// Every kind is below this number; 0 is not a kind.
pub const KIND_COUNT: usize = 14;

/// The first bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// One of the `KIND_` constants.
    pub kind: u32,
    /// Bytes of the whole record, header and tail included.
    pub len: u32,
    /// Boot time, ns, taken before any field of the record was read.
    pub boottime_ns: u64,
    /// `start_boottime` of the group's leader, ns. Zero in a [`HintRecord`].
    pub start_boottime_ns: u64,
    /// Thread group, in the initial pid namespace.
    pub tgid: u32,
    /// The thread in whose context the record was made ([`ForkRecord`]: the new leader).
    pub tid: u32,
}

/// Identity of a directory, as the kernel holds it. All zero where it could not be read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawDirId {
    /// Inode number.
    pub ino: u64,
    /// Address of the `struct inode`.
    pub inode: u64,
    /// `s_dev` of the super block: major << 20 | minor. Not always what stat(2) shows (btrfs, overlayfs).
    pub dev: u32,
    /// `mnt_id` of the mount.
    pub mnt_id: u32,
    /// `i_generation`.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
}

/// Facts of a process, as [`ForkRecord`], [`ExecRecord`] and [`RowRecord`] carry them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawFacts {
    /// `start_boottime` of the parent's leader (`real_parent->group_leader`), ns.
    pub parent_start_boottime_ns: u64,
    /// The leader's working directory.
    pub cwd: RawDirId,
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

/// [`RawFacts::flags`]: other thread groups share the leader's `fs_struct` (CLONE_FS).
pub const FACT_FS_SHARED: u32 = 1 << 0;
/// [`RawFacts::flags`]: the leader has exited while other threads live. Fields that belong to the leader (cwd, comm, uids) are
/// absent or have their last values.
pub const FACT_LEADER_GONE: u32 = 1 << 1;
/// [`RawFacts::flags`]: every thread has exited, and the group waits to be reaped; [`RowRecord::exit_code`] is final.
pub const FACT_DEAD: u32 = 1 << 2;
/// [`RawFacts::flags`]: the process has no memory map (a user-mode helper before its exec).
pub const FACT_NO_MM: u32 = 1 << 3;
/// [`RawFacts::flags`]: the process has not called exec since its birth. The bit is in the same word of `task_struct`
/// (`flags`) as the one that marks kernel threads. A process knows its own value, so the self-test can check that the
/// programs read the right word.
pub const FACT_FORKED: u32 = 1 << 4;
/// [`RawFacts::flags`]: a signal stopped the process, and none has continued it. In rows only.
pub const FACT_STOPPED: u32 = 1 << 5;
/// [`RawFacts::flags`]: the leader was within execve before or after the fields were read, or meanwhile: comm, executable and
/// `exec_id` may be of different images. The exec's own record has what it sets. In rows only.
pub const FACT_EXECUTING: u32 = 1 << 6;

/// What a process has used, as [`ExitRecord`] and [`RowRecord`] carry it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawUsage {
    /// CPU time, ns: `signal->sum_sched_runtime`, which holds the threads that were released, and `se.sum_exec_runtime` of the
    /// leader and of the thread that exits. The kernel adds the time of a running thread at its next tick only, so this may
    /// lack up to one.
    pub cpu_ns: u64,
    /// CPU time of the children that it waited for, and of theirs, ns: `signal->cutime` and `cstime`.
    pub children_cpu_ns: u64,
    /// The most pages of memory that it had at a time: `signal->maxrss`, and of a live process what its `mm` counts.
    pub max_rss_pages: u64,
}

/// What is known of a path: bits of the `*_flags` field beside its section.
pub mod path_flag {
    /// The directory was unlinked; the section does not contain the kernel's " (deleted)".
    pub const DELETED: u32 = 1 << 0;
    /// Components nearest the root are missing, because the path exceeds the limits.
    pub const TRUNCATED: u32 = 1 << 1;
    /// The walk did not end at the root of the process's mount namespace (a lazy unmount, a memfd).
    pub const UNREACHABLE: u32 = 1 << 2;
    /// A read failed, or a rename was in progress: the section is incomplete or may never have been a path.
    pub const FAULT: u32 = 1 << 3;
}

/// Body of [`KIND_FORK`]; no tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// The child's facts.
    pub facts: RawFacts,
    /// `start_boottime` of the group that called fork, ns.
    pub creator_start_boottime_ns: u64,
    /// tgid of the group that called fork; differs from `facts.ppid` under CLONE_PARENT.
    pub creator_tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// Body of [`KIND_EXEC`]. Tail: exe path, filename, argv, environment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// Facts after the exec.
    pub facts: RawFacts,
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
pub struct ExitRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// Wait status as wait(2) would return it.
    pub exit_code: u32,
    /// [`EXIT_SESSION_LEADER`], or 0.
    pub flags: u32,
    /// Device number of the controlling terminal (major << 20 | minor); 0: none.
    pub tty_dev: u32,
    /// sid of the group.
    pub sid: u32,
    /// What the process used.
    pub usage: RawUsage,
}

/// [`ExitRecord::flags`]: the group led a POSIX session, whose terminal goes with it.
pub const EXIT_SESSION_LEADER: u32 = 1 << 0;

/// Body of [`KIND_CWD`]. Tail: the path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CwdRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// The directory.
    pub cwd: RawDirId,
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
pub struct CommRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// The new comm, NUL-padded.
    pub comm: [u8; COMM_LEN],
}

/// Body of [`KIND_CREDS`]; no tail.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredsRecord {
    /// The record's header.
    pub header: RecordHeader,
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
pub struct IdsRecord {
    /// The record's header.
    pub header: RecordHeader,
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
pub struct CgroupRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// kernfs id of the cgroup.
    pub cgroup_id: u64,
    /// Bytes of the path.
    pub path_len: u32,
    /// [`path_flag`] bits.
    pub path_flags: u32,
}

/// Body of [`KIND_SIGNAL`]; no tail. The header is of the process that the signal was sent to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// `start_boottime` of the calling group's leader, ns.
    pub sender_start_boottime_ns: u64,
    /// tgid of the calling group. It is the sender only if `origin` is `SIGNAL_BY_CALLER`.
    pub sender_tgid: u32,
    /// Its real user id.
    pub sender_uid: u32,
    /// Number of the signal, 1 to 64.
    pub signal: u32,
    /// `si_code`; 0 unless `origin` is `SIGNAL_BY_CALLER` or `SIGNAL_BY_KERNEL_CODE`.
    pub code: i32,
    /// One of the constants of [`origin`](crate::origin).
    pub origin: u32,
    /// Which memory the thread has that the signal was sent to: a part of the address of its `struct mm_struct`. 0: none.
    pub memory: u32,
    /// comm of the calling group's leader, NUL-padded.
    pub sender_comm: [u8; COMM_LEN],
    /// Where the address of a fault is: one of the `ADDRESS_` constants of [`origin`](crate::origin).
    pub address: u32,
    /// 0, or [`SIGNAL_HANDLED`].
    pub flags: u32,
}

/// [`SignalRecord::flags`]: when it was sent, the process handled or ignored the signal, so normally it is not what ends it.
pub const SIGNAL_HANDLED: u32 = 1;

/// Body of [`KIND_OOM`]. The header is of the calling process, which had asked for memory. Tail: the path of the cgroup that had
/// none left.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// pid of the thread that was marked, in the initial pid namespace.
    pub victim: u32,
    /// What had no memory left: one of the `OOM_SCOPE_` constants of [`origin`](crate::origin).
    pub scope: u32,
    /// Bytes of the path: components from the leaf up, each followed by a NUL.
    pub path_len: u32,
    /// [`path_flag`] bits.
    pub path_flags: u32,
}

/// Body of [`KIND_RELEASE`]; no tail. The header is of the process that had ended: its parent has waited for it, or nobody
/// will.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReleaseRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// CPU time of all its threads, ns: `signal->sum_sched_runtime`, or `se.sum_exec_runtime` of the leader where that is more.
    pub cpu_ns: u64,
}

/// Body of [`KIND_HINT`]; no tail. One record until the daemon clears the bit's word
/// ([`HINTS`](crate::control::HINTS)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintRecord {
    /// The record's header; its tgid is the caller's.
    pub header: RecordHeader,
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

/// Bits of [`HintRecord::hint`]: which fields may have changed.
pub mod hint {
    /// Paths: a rename, rmdir, unlinkat, mount change or setns succeeded.
    pub const PATHS: u64 = 1 << super::HINT_BIT_PATHS;
    /// sid or pgid of some process (setpgid), or terminals (a new POSIX session).
    pub const IDS: u64 = 1 << super::HINT_BIT_IDS;
    /// A record was replaced by this hint because the ring was more than half full, or because its user had sent too many: every
    /// field must be read again.
    pub const THROTTLED: u64 = 1 << super::HINT_BIT_THROTTLED;
    /// A directory was set in an `fs_struct` that other groups share.
    pub const FS_SHARED: u64 = 1 << super::HINT_BIT_FS_SHARED;
}

/// Body of [`KIND_ROW`]. Tail: cwd path, exe path, cgroup path (each from the leaf up, components followed by
/// a NUL).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowRecord {
    /// The record's header.
    pub header: RecordHeader,
    /// The process's facts.
    pub facts: RawFacts,
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
    /// What the process has used.
    pub usage: RawUsage,
    /// Pages of memory that it has, as its `mm` counts them; 0 where that is not known.
    pub rss_pages: u64,
}

const _: () = {
    assert!(size_of::<RecordHeader>() == 32);
    assert!(size_of::<RawDirId>() == 32);
    assert!(size_of::<RawFacts>() == 120);
    assert!(size_of::<ForkRecord>() == 168);
    assert!(size_of::<ExecRecord>() == 184);
    assert!(size_of::<RawUsage>() == 24);
    assert!(size_of::<ExitRecord>() == 72);
    assert!(size_of::<ReleaseRecord>() == 40);
    assert!(size_of::<CwdRecord>() == 80);
    assert!(size_of::<CommRecord>() == 48);
    assert!(size_of::<CredsRecord>() == 48);
    assert!(size_of::<IdsRecord>() == 64);
    assert!(size_of::<CgroupRecord>() == 48);
    assert!(size_of::<HintRecord>() == 40);
    assert!(size_of::<SignalRecord>() == 88);
    assert!(size_of::<OomRecord>() == 48);
    assert!(size_of::<RowRecord>() == 248);
    assert!(offset_of!(RecordHeader, tgid) == 24);
    assert!(offset_of!(ExecRecord, facts) == 32 && offset_of!(ForkRecord, facts) == 32);
    assert!(offset_of!(RowRecord, facts) == 32 && offset_of!(RowRecord, arg_start) == 152);
};
