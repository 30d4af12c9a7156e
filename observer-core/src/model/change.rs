//! What the core says. A closed enum; applying every change to an empty map gives the map.

use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::Process;
use crate::session::{Home, Session};

/// A change of the map or of a session. Rows borrow from the core, as they are after the change.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A process was born, or found by a snapshot.
    ProcessStarted(&'a Process),
    /// It exec'd.
    ProcessExeced(&'a Process),
    /// Its directory, or that directory's path, changed.
    ProcessMoved(&'a Process),
    /// Another field changed: comm, uids, sid, pgid, terminal, parent, cgroup, argv.
    ProcessChanged(&'a Process),
    /// It ended; the row is its last.
    ProcessEnded(&'a Process, Death),
    /// A home has a primary that it had not, or has one again after it ended.
    SessionStarted(&'a Session, &'a Process),
    /// State, primary, roots, name or the primary's own fields changed.
    SessionChanged(&'a Session, &'a Process),
    /// No root remains. The row and the primary are the last ones. `Session::death` is `None` if the primary
    /// lives on as something else.
    SessionEnded(&'a Session, &'a Process),
    /// Events are known to have been lost since `from`; until closed, `certain` is false everywhere.
    GapOpened {
        /// No loss is known before.
        from: BootTime,
    },
    /// The map was healed from a snapshot and is the kernel's again.
    GapClosed {
        /// When it opened.
        from: BootTime,
        /// When the pass that healed it ended.
        to: BootTime,
        /// Records lost in it.
        lost: u64,
        /// Processes found, corrected or ended by the healing.
        corrected: u64,
    },
}

/// What the core needs of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A pass of the task iterator, no sooner than `not_before`.
    Pass {
        /// Earliest moment.
        not_before: BootTime,
        /// The hint bits that the pass answers; clear them before it begins.
        hints: u64,
    },
    /// argv (and environment, for one with a terminal) of a process from its memory.
    Memory(ProcessKey),
    /// Who owns the directory of this home; answer with [`Input::HomeOwner`](crate::Input::HomeOwner).
    HomeOwner(&'a Home),
    /// Records of this process are (or are no longer) worth waking the reader for.
    Watch(ProcessKey, bool),
}

/// Receives what the core says while it handles one input.
pub trait Sink {
    /// `change` took effect; `at` is the kernel's time of the cause.
    fn change(&mut self, at: BootTime, change: Change<'_>);
    /// The core wants this done; it does not wait for it.
    fn request(&mut self, request: Request<'_>);
}
