//! What the core receives. A closed enum; byte slices borrow from the ring or the iterator.

pub(crate) mod decode;
mod facts;
mod known;
mod path;

pub use facts::{Block, Facts, Row};
pub use known::Known;
pub(crate) use path::path_is;
pub use path::{RawPath, join_path};

use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::process::{Comm, DirId, Tty, Uids};

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
    /// Answer to [`Request::HomeOwner`](crate::model::change::Request::HomeOwner).
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
