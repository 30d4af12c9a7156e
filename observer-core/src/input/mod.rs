//! What the core receives: a closed enum whose byte slices borrow from the ring or from the rows of a pass.

pub(crate) mod decode;
mod facts;
mod known;
mod known_left;
mod path;

pub use facts::{Block, ProcessFacts, RawMemoryScope, TaskRow};
pub use known::KnownSession;
pub use known_left::KnownLeft;
pub use path::{RawPath, join_path};
pub(crate) use path::{is_in_memory, path_is};

use crate::model::cost::ProcessUsage;
use crate::model::death::{SentSignal, SignalContext};
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::left::KnownBirth;
use crate::model::process::{Comm, DirId, Tty, Uids};
use crate::model::session::Home;

/// One input of [`Core::handle`](crate::Core::handle). Timestamps of records and rows are the kernel's and
/// were taken before the fields were read. For each process and field the latest timestamp wins, whatever the
/// order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A thread group was born.
    Fork {
        /// Time of the record.
        at: BootTime,
        /// The child.
        key: ProcessKey,
        /// The child's facts.
        facts: ProcessFacts,
        /// The process that called fork. The child takes over its path, exe and argv where the identities
        /// match.
        creator: ProcessKey,
    },
    /// A process replaced its program image.
    Exec {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// Its facts after the exec.
        facts: ProcessFacts,
        /// Path of `mm->exe_file`.
        exe: RawPath<'a>,
        /// The name given to exec.
        filename: &'a [u8],
        /// The arguments.
        argv: Block<'a>,
        /// The environment; empty for a process without a terminal.
        env: Block<'a>,
    },
    /// The last thread of a group exited.
    Exit {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// The wait status.
        raw_status: u32,
        /// The POSIX session that the process led, if it led one. All processes of that session lose the
        /// terminal.
        led_sid: Option<u32>,
        /// What it used.
        usage: ProcessUsage,
    },
    /// The kernel released a process that had ended.
    Release {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// CPU time of its threads to their end, ns.
        cpu_ns: u64,
    },
    /// The leader's directory was set.
    Cwd {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// The directory.
        cwd: DirId,
        /// Inode number of the mount namespace; 0 if unknown.
        mnt_ns: u32,
        /// Path of the directory.
        path: RawPath<'a>,
        /// Other groups share the `fs_struct`: their directories are to be read again.
        fs_shared: bool,
    },
    /// The leader's comm was set.
    Comm {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// The new comm.
        comm: Comm,
    },
    /// The leader's user ids were set.
    Creds {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// The new user ids.
        uids: Uids,
    },
    /// The POSIX session, the process group or the terminal was set.
    Ids {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// The id of the POSIX session.
        sid: u32,
        /// The id of the process group.
        pgid: u32,
        /// The controlling terminal.
        tty: Option<Tty>,
    },
    /// The process was moved to another cgroup.
    Cgroup {
        /// Time of the record.
        at: BootTime,
        /// The process.
        key: ProcessKey,
        /// kernfs id of the cgroup.
        cgroup_id: u64,
        /// Path of the cgroup from its root, with the leading `/`; empty where the record could not carry it.
        path: &'a [u8],
    },
    /// A signal was sent to the process that may end it.
    Signal {
        /// The process.
        key: ProcessKey,
        /// The signal, with the time of the record.
        sent: SentSignal,
        /// What tells whether the kernel sent it for lack of memory.
        context: SignalContext,
    },
    /// The kernel marked a thread as a victim of its lack of memory.
    OomVictim {
        /// Time of the record.
        at: BootTime,
        /// The process that had asked for memory.
        caller: Tgid,
        /// pid of the thread.
        thread: u32,
        /// What had no memory left.
        scope: RawMemoryScope<'a>,
    },
    /// Fields may have changed with no record of their own.
    Hint {
        /// Time of the record.
        at: BootTime,
        /// Bits of [`observer_common::record::hint`].
        bits: u64,
    },
    /// The count of lost records was read.
    Dropped {
        /// The time before it was read.
        at: BootTime,
        /// Records of all kinds that were lost since the start.
        total: u64,
    },
    /// A pass of the task iterator begins; its rows follow.
    PassBegin {
        /// The time before the iterator was opened.
        at: BootTime,
        /// The count of lost records, read at the same time. The pass heals the losses up to here.
        drops_total: u64,
    },
    /// One process of the pass.
    PassRow(TaskRow<'a>),
    /// One process that was read for a question, outside of a pass.
    LoneRow(TaskRow<'a>),
    /// The pass ended.
    PassEnd {
        /// The time after the last row was read.
        at: BootTime,
        /// Every process was shown. Otherwise the iterator failed part-way, and an absence means nothing.
        complete: bool,
    },
    /// argv and environment of a process that exec'd before the daemon did, read from its memory.
    Memory {
        /// The time of reading.
        at: BootTime,
        /// The process; the edge verified after reading that it still lived.
        key: ProcessKey,
        /// The image that was read. The input is ignored if the process has exec'd since.
        exec_id: u32,
        /// The arguments.
        argv: Block<'a>,
        /// The environment; empty if it was not read.
        env: Block<'a>,
    },
    /// The answer to [`Request::HomeOwner`](crate::Request::HomeOwner).
    HomeOwner {
        /// The time of reading.
        at: BootTime,
        /// The home, as it was requested.
        home: &'a Home,
        /// Owner of the directory; `None` if it could not be read.
        owner: Option<u32>,
    },
    /// The answer to [`Request::ResidentPages`](crate::Request::ResidentPages):
    /// [`Sink::resident_pages`](crate::Sink::resident_pages) tells what was read.
    ResidentPages {
        /// The present time.
        at: BootTime,
        /// When the reading began.
        began: BootTime,
    },
    /// The sessions that were known before the daemon was started again: all that have not ended, and the last ones that
    /// have, at most [`ENDED_SESSIONS_MAX`](crate::limits::ENDED_SESSIONS_MAX). To be given after a complete pass.
    Resume {
        /// The present time.
        at: BootTime,
        /// The sessions as they were last known.
        known: &'a [KnownSession<'a>],
        /// What sessions of this boot left that ended. The first of several that name one process counts.
        left: &'a [KnownLeft<'a>],
        /// Processes that were born in sessions, and below which.
        births: &'a [KnownBirth],
    },
    /// Time passed: the deadlines up to `at` are due.
    Tick {
        /// The present time.
        at: BootTime,
    },
}

impl Input<'_> {
    /// Returns the process that the input is of, where it is of one.
    pub fn key(&self) -> Option<ProcessKey> {
        match *self {
            Self::Fork { key, .. }
            | Self::Exec { key, .. }
            | Self::Exit { key, .. }
            | Self::Release { key, .. }
            | Self::Cwd { key, .. }
            | Self::Comm { key, .. }
            | Self::Creds { key, .. }
            | Self::Ids { key, .. }
            | Self::Cgroup { key, .. }
            | Self::Signal { key, .. }
            | Self::Memory { key, .. }
            | Self::PassRow(TaskRow { key, .. })
            | Self::LoneRow(TaskRow { key, .. }) => Some(key),
            _ => None,
        }
    }

    /// Returns the tgid of the process that the input is of, where it is of one.
    pub fn tgid(&self) -> Option<Tgid> {
        self.key().map(|key| key.tgid)
    }

    /// Returns the time of the input.
    pub fn at(&self) -> BootTime {
        match *self {
            Self::Fork { at, .. }
            | Self::Exec { at, .. }
            | Self::Exit { at, .. }
            | Self::Release { at, .. }
            | Self::Cwd { at, .. }
            | Self::Comm { at, .. }
            | Self::Creds { at, .. }
            | Self::Ids { at, .. }
            | Self::Cgroup { at, .. }
            | Self::OomVictim { at, .. }
            | Self::Hint { at, .. }
            | Self::Dropped { at, .. }
            | Self::PassBegin { at, .. }
            | Self::PassRow(TaskRow { at, .. })
            | Self::LoneRow(TaskRow { at, .. })
            | Self::PassEnd { at, .. }
            | Self::Memory { at, .. }
            | Self::HomeOwner { at, .. }
            | Self::ResidentPages { at, .. }
            | Self::Resume { at, .. }
            | Self::Tick { at } => at,
            Self::Signal { sent, .. } => sent.at,
        }
    }
}
