//! Who has a home depends on who owns its directory, which changes without an event of any process. This keeps who
//! claims a home, and when its owner is read again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::limits::{OWNER_CHECK_NS, OWNER_CHECKS_A_USER};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::session::Home;

/// Processes that a rule admits to a home if they own its directory.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The owner is not known yet.
    pub waiting: BTreeSet<ProcessKey>,
    /// The owner was another one when it was last read.
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
}

impl OwnerChecks {
    /// Has the owner of `home` read again, and returns when. The more homes a user has, the less often, so that no
    /// user has more than a fixed number read in a second.
    pub fn add(&mut self, now: BootTime, home: &Arc<Home>) -> BootTime {
        let homes = self.of_user.entry(home.uid).or_default();
        *homes += 1;
        let due = now.after(OWNER_CHECK_NS * homes.div_ceil(OWNER_CHECKS_A_USER));
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
        *homes -= 1;
        if *homes == 0 {
            self.of_user.remove(&uid);
        }
    }
}
