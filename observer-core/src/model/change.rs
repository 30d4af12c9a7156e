//! What the core reports: changes and requests, two closed enums. Applying every change to an empty map gives
//! the map.

use alloc::vec::Vec;

use crate::model::death::{Death, DeathKind, LeftProcesses};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::left::FormerSession;
use crate::model::process::Process;
use crate::model::session::{Home, Session};

/// A change of the map or of a session. Processes and sessions borrow from the core, as they are after the
/// change.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A process was born, or a pass found it.
    ProcessStarted(&'a Process),
    /// It exec'd.
    ProcessExeced(&'a Process),
    /// Its directory or the path of that directory changed.
    ProcessMoved(&'a Process),
    /// Another field changed: comm, uids, sid, pgid, terminal, parent, cgroup or argv.
    ProcessChanged(&'a Process),
    /// It ended. The process is as it was last known.
    ProcessEnded(&'a Process, &'a Death),
    /// A home has a primary that had none, or has one again after its session ended.
    SessionStarted(&'a Session, &'a Process),
    /// The state, the primary, the number of roots, the name or a field of the primary changed.
    SessionChanged(&'a Session, &'a Process),
    /// No root remains. Session and primary are as they were last known. `Session::death` is `None` if the
    /// primary lives on as another program.
    SessionEnded(&'a Session, &'a Process),
    /// It was counted what a session left whose primary ended a moment before.
    SessionLeft {
        /// The session.
        former: &'a FormerSession,
        /// Its primary as last known.
        primary: &'a Process,
        /// How that ended.
        death: DeathKind,
        /// What was born in the session and still lives.
        left: &'a LeftProcesses,
    },
    /// Records were lost. Until the gap is closed, the map may be wrong.
    GapOpened {
        /// No loss is known before this time.
        from: BootTime,
    },
    /// A pass healed the losses: the map agrees with the kernel again.
    GapClosed {
        /// When the gap opened.
        from: BootTime,
        /// When the pass that healed it ended.
        to: BootTime,
        /// Records that were lost in it.
        lost: u64,
        /// Processes that the healing found, corrected or ended.
        corrected: u64,
    },
}

/// What the core needs from the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A pass of the task iterator.
    Pass {
        /// The earliest time at which it may begin.
        not_before: BootTime,
        /// The hint bits that the pass answers. The edge clears them before it begins.
        hints: u64,
    },
    /// argv of a process from its memory, and the environment too if it has a terminal.
    Memory(ProcessKey),
    /// A reading of the memory of all processes; [`Input::ResidentPages`](crate::Input::ResidentPages) is the answer.
    ResidentPages,
    /// The owner of the directory of this home; [`Input::HomeOwner`](crate::Input::HomeOwner) is the answer.
    HomeOwner(&'a Home),
    /// Whether records of this process are worth waking the reader of the ring for.
    Watch(ProcessKey, bool),
}

/// Receives what the core reports while it handles one input.
pub trait Sink {
    /// `change` took effect. `at` is the kernel's time of its cause.
    fn change(&mut self, at: BootTime, change: Change<'_>);
    /// The core requests this, and does not wait for it.
    fn request(&mut self, request: Request<'_>);
    /// Returns for each process how many pages of memory it had at the last reading that was requested, `None` for those which
    /// that did not show; or `None` if it failed. It is the one question of the core, and the answer is there.
    fn resident_pages(&mut self, processes: &[ProcessKey]) -> Option<Vec<Option<u64>>> {
        let _ = processes;
        None
    }
}
