//! How a process ended, as far as the kernel tells.

use alloc::sync::Arc;

use crate::model::cost::Cost;
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::process::{Bytes, Comm};

/// Number of the signal that no process can handle, include/uapi/asm-generic/signal.h.
pub(crate) const SIGKILL: u8 = 9;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathKind {
    /// It called exit(2) or returned from main.
    Exited {
        /// The exit code, 0 to 255.
        code: u8,
    },
    /// A signal killed it.
    Signaled {
        /// Number of the signal.
        signal: u8,
        /// The kernel's flag for a core dump, which is set also where a limit kept the dump from being
        /// written.
        core_dumped: bool,
    },
    /// The kernel killed it with SIGKILL because memory ran out.
    OomKilled,
    /// No record of the end was received: it fell between two readings of the kernel.
    Unobserved {
        /// The last moment at which the process was known to live.
        from: BootTime,
        /// The first moment at which it was known to be gone.
        to: BootTime,
    },
}

/// What had no memory left when the kernel killed a process for lack of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MemoryScope {
    /// It is not known.
    #[default]
    Unknown,
    /// No cgroup was at its limit: it was the host, or the memory nodes that the process may use which asked for memory.
    Host,
    /// A cgroup was at its limit. Its path in its hierarchy; `None` where that could not be read.
    Cgroup(Option<Bytes>),
}

/// Where the address of a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// In the first 64 KiB, where by default nothing can be mapped: a null pointer, with the offset of a member.
    NullPage,
    /// Elsewhere in the part of the address space that processes have.
    User,
    /// In the part of the kernel.
    Kernel,
    /// In neither.
    NonCanonical,
}

/// How a signal was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalOrigin {
    /// By kill(2), or through a pidfd.
    Kill,
    /// By tgkill(2) or tkill(2), to one thread.
    ThreadKill,
    /// By sigqueue(3) and the like, with this `si_code` below zero, which the sender chooses.
    Queue(i32),
    /// By the kernel, because of something that a process did: it wrote to a closed pipe or beyond a limit.
    KernelForProcess,
    /// By the kernel, because a process wrote to `cgroup.kill` of a cgroup that the target was in.
    KernelForCgroup,
    /// By the kernel, while the first process of its pid namespace ended. Or that process asked for memory as it ended, and no
    /// mark of the victim has come.
    KernelForEnding,
    /// By the kernel, because the process ended that traced it with PTRACE_O_EXITKILL.
    KernelForTracee,
    /// By the kernel, because the thread ended that was its parent, for which it had asked (PR_SET_PDEATHSIG).
    KernelForChild,
    /// By the kernel with SIGKILL, because the process used as much CPU time as its hard limit allows. Or it asked for memory just
    /// then, and no mark of the victim has come.
    KernelForLimit,
    /// By the kernel, with this `si_code`: a fault, a timer. Of a fault also where its address is, if it has one.
    KernelCode(i32, Option<AddressClass>),
    /// By the kernel itself: a hang-up, a key of the terminal, a limit; or lack of memory, and no mark of the victim has come.
    Kernel,
    /// By the kernel, because memory ran out.
    LackOfMemory,
}

/// A process as it was when it sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendingProcess {
    /// Its identity.
    pub key: ProcessKey,
    /// comm of its leader.
    pub comm: Comm,
    /// Real user id of its leader.
    pub uid: u32,
}

/// A signal that was sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentSignal {
    /// Number, 1 to 64.
    pub signal: u8,
    /// When it was sent.
    pub at: BootTime,
    /// How it was sent.
    pub origin: SignalOrigin,
    /// The process that sent it, or for which the kernel did; `None` where the kernel sent it by itself.
    pub process: Option<SendingProcess>,
}

/// What the kernel had where it sent a signal, by which a kill for lack of memory is told from others, and a signal that may end
/// the process from one that it handles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalContext {
    /// The process that was running, within which the kernel sent the signal.
    pub caller: Tgid,
    /// pid of the thread that the signal was sent to.
    pub thread: u32,
    /// Which memory that thread has; 0: none, or not known.
    pub memory: u32,
    /// The process handled or ignored it when it was sent, so it is not what ends the process.
    pub is_handled: bool,
}

/// A signal that a process received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSignal {
    /// The signal as it was sent.
    pub sent: SentSignal,
    /// Name of the session to which the process belonged that sent it, or for which the kernel did; `None` if it
    /// belonged to none.
    pub sender_session: Option<Bytes>,
}

/// What outlived a primary, a moment after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftProcesses {
    /// The number of processes.
    pub processes: u32,
    /// Pages of memory that they had, those that several have counted for each. `None` where that is not known.
    pub rss_pages: Option<u64>,
    /// The processes, those above before those below, at most
    /// [`LEFT_KEYS_MAX`](crate::limits::LEFT_KEYS_MAX).
    pub keys: Arc<[ProcessKey]>,
}

impl LeftProcesses {
    /// Returns what a session left that left nothing.
    pub fn none() -> Self {
        Self { processes: 0, rss_pages: Some(0), keys: Arc::from([]) }
    }
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// How it ended.
    pub kind: DeathKind,
    /// The status that wait(2) returns; `None` where the end was not observed.
    pub raw_status: Option<u32>,
    /// When it ended; for an unobserved death the end of the interval.
    pub at: BootTime,
    /// The fatal signal; `None` if none was fatal, or its record was not received.
    pub fatal_signal: Option<ReceivedSignal>,
    /// What had no memory left, where the kernel killed it for that.
    pub memory_scope: MemoryScope,
    /// The last signal before that which asked the process to end and did not end it: HUP, INT, QUIT or TERM. Of several that
    /// one sender sent, TERM.
    pub polite_signal: Option<ReceivedSignal>,
    /// What it used, and its descendants that have ended; `None` where the end was not observed.
    pub cost: Option<Cost>,
    /// What was born in its session and outlived it. `None` where it was the primary of none, or something lived when it ended:
    /// what of that is left is counted a moment later ([`Change::SessionLeft`](crate::Change::SessionLeft)).
    pub left: Option<LeftProcesses>,
}

impl Death {
    /// Returns the death that a wait status describes.
    pub fn from_status(raw_status: u32, at: BootTime) -> Self {
        let signal = (raw_status & 0x7f) as u8;
        let kind = if signal == 0 {
            DeathKind::Exited { code: (raw_status >> 8) as u8 }
        } else {
            DeathKind::Signaled { signal, core_dumped: raw_status & 0x80 != 0 }
        };
        Self {
            kind,
            raw_status: Some(raw_status),
            at,
            fatal_signal: None,
            memory_scope: MemoryScope::Unknown,
            polite_signal: None,
            cost: None,
            left: None,
        }
    }

    /// Whether the kernel ended it by itself with SIGKILL. If that was for lack of memory, the mark of the victim is yet to
    /// come.
    pub(crate) fn may_lack_memory(&self) -> bool {
        let is_kill = matches!(self.kind, DeathKind::Signaled { signal: SIGKILL, .. });
        let is_own =
            |sent: &SentSignal| matches!(sent.origin, SignalOrigin::Kernel | SignalOrigin::KernelForLimit);
        is_kill && self.fatal_signal.as_ref().is_some_and(|fatal| is_own(&fatal.sent))
    }

    /// Returns a death of which no record was received, between two moments.
    pub fn unobserved(from: BootTime, to: BootTime) -> Self {
        let kind = DeathKind::Unobserved { from, to };
        Self {
            kind,
            raw_status: None,
            at: to,
            fatal_signal: None,
            memory_scope: MemoryScope::Unknown,
            polite_signal: None,
            cost: None,
            left: None,
        }
    }
}
