//! What is kept of each home, and the indexes over homes.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{ENDED_SESSIONS_MAX, STARTS_MAX};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{DirId, Process};
use crate::primary::{ByAge, Root};
use crate::session::{Home, Session, State};

/// A session's row, and what it takes to keep it right.
#[derive(Debug)]
pub(crate) struct Row {
    pub session: Session,
    /// The primary as it was when the session ended.
    pub last: Option<Box<Process>>,
    /// The primary had a terminal.
    pub had_tty: bool,
    /// The image that the last of `starts` is of.
    pub exec_id: u32,
    /// The last of `starts` is the time of an observed exec.
    pub exec_known: bool,
    /// When this incarnation of the home was first seen.
    pub opened_at: BootTime,
}

impl Row {
    pub fn is_ended(&self) -> bool {
        self.session.state == State::Ended
    }

    /// The process that holds the home, dead or alive; none where the session ended.
    pub fn holder(&self) -> Option<ProcessKey> {
        (!self.is_ended()).then_some(self.session.primary)
    }

    pub fn push_start(&mut self, at: BootTime) {
        if self.session.starts.len() >= STARTS_MAX {
            self.session.starts.remove(0);
        }
        self.session.starts.push(at);
    }
}

/// Same directory, whichever mount it is seen through.
pub(crate) fn same_dir(one: DirId, other: DirId) -> bool {
    one.ino == other.ino && one.dev == other.dev
}

/// Who owns the home, as far as it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    #[default]
    Unknown,
    Asked,
    Known(Option<u32>),
}

/// One home with candidates, a row, or a question open.
#[derive(Debug, Default)]
pub(crate) struct HomeState {
    /// Its candidates.
    pub members: ByAge,
    pub roots: Vec<Root>,
    pub row: Option<Row>,
    /// When a root will be old enough.
    pub due: Option<BootTime>,
    pub owner: Owner,
}

/// Every home, and who holds which.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    pub by_home: BTreeMap<Arc<Home>, HomeState>,
    /// Primaries and wrappers of sessions that have not ended, and their homes.
    held: BTreeMap<ProcessKey, Vec<Arc<Home>>>,
    due: BTreeSet<(BootTime, Arc<Home>)>,
    ended: BTreeSet<(BootTime, Arc<Home>)>,
    /// Ended sessions forgotten.
    pub dropped: u64,
}

impl Homes {
    /// The shared form of a home.
    pub fn intern(&self, home: Home) -> Arc<Home> {
        match self.by_home.get_key_value(&home) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(home),
        }
    }

    /// Homes whose primary or wrapper `key` is.
    pub fn held_by(&self, key: ProcessKey) -> &[Arc<Home>] {
        self.held.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// `key` holds `home` from here on; true if it held none before.
    pub fn hold(&mut self, key: ProcessKey, home: &Arc<Home>) -> bool {
        let homes = self.held.entry(key).or_default();
        let first = homes.is_empty();
        if !homes.contains(home) {
            homes.push(Arc::clone(home));
        }
        first
    }

    /// `key` holds `home` no longer; true if it holds none any more.
    pub fn release(&mut self, key: ProcessKey, home: &Arc<Home>) -> bool {
        let Some(homes) = self.held.get_mut(&key) else { return false };
        homes.retain(|held| held != home);
        let last = homes.is_empty();
        if last {
            self.held.remove(&key);
        }
        last
    }

    /// Sets or clears the moment at which a root of `home` is old enough.
    pub fn set_due(&mut self, home: &Arc<Home>, due: Option<BootTime>) {
        let Some(state) = self.by_home.get_mut(home) else { return };
        if state.due == due {
            return;
        }
        if let Some(before) = core::mem::replace(&mut state.due, due) {
            self.due.remove(&(before, Arc::clone(home)));
        }
        if let Some(due) = due {
            self.due.insert((due, Arc::clone(home)));
        }
    }

    /// The next home that is due.
    pub fn next_due(&self) -> Option<(BootTime, &Arc<Home>)> {
        self.due.first().map(|(at, home)| (*at, home))
    }

    /// The session of `home` ended at `since`. The oldest ended rows beyond the bound go.
    pub fn add_ended(&mut self, since: BootTime, home: &Arc<Home>) {
        self.ended.insert((since, Arc::clone(home)));
        while self.ended.len() > ENDED_SESSIONS_MAX {
            let Some((_, oldest)) = self.ended.pop_first() else { break };
            if let Some(state) = self.by_home.get_mut(&oldest) {
                state.row = None;
                self.dropped += 1;
            }
            self.forget_empty(&oldest);
        }
    }

    /// The ended session of `home` is live again, or replaced.
    pub fn remove_ended(&mut self, since: BootTime, home: &Arc<Home>) {
        self.ended.remove(&(since, Arc::clone(home)));
    }

    /// Forgets a home of which nothing is left.
    pub fn forget_empty(&mut self, home: &Arc<Home>) {
        let Some(state) = self.by_home.get_mut(home) else { return };
        if !state.members.is_empty() {
            return;
        }
        // An owner may change while nobody is there.
        if matches!(state.owner, Owner::Known(_)) {
            state.owner = Owner::Unknown;
        }
        if state.row.is_none() && state.owner == Owner::Unknown {
            self.set_due(home, None);
            self.by_home.remove(home);
        }
    }
}
