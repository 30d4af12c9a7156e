//! Who has a home depends on who owns its directory, which changes without an event of any process. This keeps who
//! claims a home, and when its owner is read again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{
    OWNER_CHECK_NS, OWNER_CHECKS_A_USER, OWNER_CHECKS_AT_ONCE_MAX, OWNER_CHECKS_OF_ALL,
    OWNER_CHECKS_STUCK_MAX, OWNER_STUCK_NS,
};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::session::Home;

/// What is known of the owner of a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    #[default]
    Unknown,
    /// The answer is awaited. `again`: what was requested may be of another directory than what is there. `before` is
    /// what was known.
    Requested { again: bool, before: Option<u32> },
    /// The user id; `None` if it could not be read.
    Known(Option<u32>),
}

impl Owner {
    /// Returns the user id that was read last.
    pub fn last(self) -> Option<u32> {
        match self {
            Self::Unknown => None,
            Self::Requested { before, .. } => before,
            Self::Known(owner) => owner,
        }
    }
}

/// Processes that a rule admits to a home if their user owns its directory.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The owner is not known yet.
    pub waiting: BTreeSet<ProcessKey>,
    /// The owner was another one when it was last read, or could not be read.
    pub refused: BTreeSet<ProcessKey>,
}

impl Claims {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.refused.is_empty()
    }
}

/// The homes whose owner is read again, each with the time of that.
#[derive(Debug, Default)]
pub(crate) struct OwnerChecks {
    due: BTreeSet<(BootTime, Arc<Home>)>,
    /// How many of them are of each user.
    of_user: BTreeMap<u32, u64>,
    /// The sum of these, of each user so many at most as are read in one period.
    of_all: u64,
}

impl OwnerChecks {
    /// Schedules the next read of the owner of `home`, and returns when that is. The more homes there are, of its user
    /// or of all, the later: so many are read in a second, and no more.
    pub fn add(&mut self, now: BootTime, home: &Arc<Home>) -> BootTime {
        let homes = self.of_user.entry(home.uid).or_default();
        *homes += 1;
        self.of_all += u64::from(*homes <= OWNER_CHECKS_A_USER);
        let periods = homes.div_ceil(OWNER_CHECKS_A_USER).max(self.of_all.div_ceil(OWNER_CHECKS_OF_ALL));
        let due = now.after(OWNER_CHECK_NS * periods);
        self.due.insert((due, Arc::clone(home)));
        due
    }

    /// Removes `home`, which is due at `due`.
    pub fn remove(&mut self, due: BootTime, home: &Arc<Home>) {
        if self.due.remove(&(due, Arc::clone(home))) {
            self.forget_one(home.uid);
        }
    }

    /// Returns when the next one is due.
    pub fn next_due(&self) -> Option<BootTime> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Removes and returns a home that is due by `now`.
    pub fn take_due(&mut self, now: BootTime) -> Option<Arc<Home>> {
        if self.next_due()? > now {
            return None;
        }
        let (_, home) = self.due.pop_first()?;
        self.forget_one(home.uid);
        Some(home)
    }

    fn forget_one(&mut self, uid: u32) {
        let Some(homes) = self.of_user.get_mut(&uid) else { return };
        self.of_all -= u64::from(*homes <= OWNER_CHECKS_A_USER);
        *homes -= 1;
        if *homes == 0 {
            self.of_user.remove(&uid);
        }
    }
}

/// Owners that are being read again. A file system may never answer.
#[derive(Debug, Default)]
pub(crate) struct ChecksUnderWay(Vec<(BootTime, Arc<Home>)>);

impl ChecksUnderWay {
    pub fn add(&mut self, now: BootTime, home: &Arc<Home>) {
        self.0.push((now, Arc::clone(home)));
    }

    /// Removes `home`, whose owner was read.
    pub fn remove(&mut self, home: &Home) {
        self.0.retain(|(_, under_way)| **under_way != *home);
    }

    /// Returns the time from which on another look-up may begin. Only some are made at a time, but one that has had no answer for
    /// long no longer counts among them. `None`: too many have no answer, so that none begins before one of them has it.
    pub fn free_from(&self) -> Option<BootTime> {
        if self.0.len() >= OWNER_CHECKS_STUCK_MAX {
            return None;
        }
        let last_of_them = self.0.len().checked_sub(OWNER_CHECKS_AT_ONCE_MAX).and_then(|at| self.0.get(at));
        Some(last_of_them.map_or(BootTime(0), |(began, _)| began.after(OWNER_STUCK_NS)))
    }

    /// Returns whether another look-up may begin for homes of this user. Who has a file system that does not answer can have only
    /// so many look-ups waiting for it.
    pub fn has_room_for(&self, uid: u32) -> bool {
        self.0.iter().filter(|(_, home)| home.uid == uid).count() < OWNER_CHECKS_AT_ONCE_MAX
    }

    /// Returns the homes, for the check of invariants.
    pub fn homes(&self) -> impl Iterator<Item = &Arc<Home>> {
        self.0.iter().map(|(_, home)| home)
    }
}
