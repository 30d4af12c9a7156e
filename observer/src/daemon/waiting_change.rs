//! A change that waits until it is its user's turn. It is kept as the core reported it: JSON is made of it when it goes on,
//! so a flood of changes costs the event loop a copy of each before it comes to what is behind them in the ring.

use std::sync::Arc;

use observer_core::death::{Death, DeathKind, LeftProcesses};
use observer_core::left::FormerSession;
use observer_core::session::Home;
use observer_core::{BootTime, Change, Process, ProcessKey, Session};

use super::columns::ReplacedPrimary;

/// What a change is about, as it was when it happened.
pub(super) enum Changed {
    Started(Box<(Session, Process)>),
    Altered(Box<(Session, Process)>),
    Ended(Box<(Session, Process)>),
    Left(Box<(FormerSession, Process, DeathKind, LeftProcesses)>),
    ProcessStarted(Box<Process>),
    ProcessExeced(Box<Process>),
    ProcessMoved(Box<Process>),
    ProcessAltered(Box<Process>),
    ProcessEnded(Box<(Process, Death)>),
}

impl Changed {
    pub(super) fn of(change: &Change<'_>) -> Option<Self> {
        let both = |session: &Session, primary: &Process| Box::new((session.clone(), primary.clone()));
        let one = |process: &Process| Box::new(process.clone());
        Some(match *change {
            Change::SessionStarted(session, primary) => Self::Started(both(session, primary)),
            Change::SessionChanged(session, primary) => Self::Altered(both(session, primary)),
            Change::SessionEnded(session, primary) => Self::Ended(both(session, primary)),
            Change::SessionLeft { former, primary, death, left } => {
                Self::Left(Box::new((former.clone(), primary.clone(), death, left.clone())))
            }
            Change::ProcessStarted(process) => Self::ProcessStarted(one(process)),
            Change::ProcessExeced(process) => Self::ProcessExeced(one(process)),
            Change::ProcessMoved(process) => Self::ProcessMoved(one(process)),
            Change::ProcessChanged(process) => Self::ProcessAltered(one(process)),
            Change::ProcessEnded(process, death) => {
                Self::ProcessEnded(Box::new((process.clone(), death.clone())))
            }
            Change::GapOpened { .. } | Change::GapClosed { .. } => return None,
        })
    }

    pub(super) fn change(&self) -> Change<'_> {
        match self {
            Self::Started(it) => Change::SessionStarted(&it.0, &it.1),
            Self::Altered(it) => Change::SessionChanged(&it.0, &it.1),
            Self::Ended(it) => Change::SessionEnded(&it.0, &it.1),
            Self::Left(it) => Change::SessionLeft { former: &it.0, primary: &it.1, death: it.2, left: &it.3 },
            Self::ProcessStarted(process) => Change::ProcessStarted(process),
            Self::ProcessExeced(process) => Change::ProcessExeced(process),
            Self::ProcessMoved(process) => Change::ProcessMoved(process),
            Self::ProcessAltered(process) => Change::ProcessChanged(process),
            Self::ProcessEnded(it) => Change::ProcessEnded(&it.0, &it.1),
        }
    }
}

/// What waits.
pub(super) enum Waiting {
    Change {
        changed: Changed,
        former: Option<Box<ReplacedPrimary>>,
        /// It is about a process that is the primary of a session.
        in_session: bool,
    },
    /// What waited for the journal of the session of `home` may be written: the session and its primary as they were then.
    Paced { home: Arc<Home>, live: Option<Box<(Session, Process)>> },
}

/// A change that waits.
pub(super) struct WaitingChange {
    pub(super) at: BootTime,
    /// How many changes came before it.
    pub(super) number: u64,
    pub(super) what: Waiting,
}

/// Whose turn it has to be for a change. `None`: it is about all users.
pub(super) fn user_of(change: &Change<'_>) -> Option<u32> {
    match *change {
        Change::SessionStarted(session, _)
        | Change::SessionChanged(session, _)
        | Change::SessionEnded(session, _) => Some(session.home.uid),
        Change::SessionLeft { former, .. } => Some(former.home.uid),
        Change::ProcessStarted(process)
        | Change::ProcessExeced(process)
        | Change::ProcessMoved(process)
        | Change::ProcessChanged(process)
        | Change::ProcessEnded(process, _) => Some(process.uids.uid),
        Change::GapOpened { .. } | Change::GapClosed { .. } => None,
    }
}

/// The process that a change is about, if it is about no session.
pub(super) fn process_of(change: &Change<'_>) -> Option<ProcessKey> {
    match *change {
        Change::ProcessStarted(process)
        | Change::ProcessExeced(process)
        | Change::ProcessMoved(process)
        | Change::ProcessChanged(process)
        | Change::ProcessEnded(process, _) => Some(process.key),
        _ => None,
    }
}
