//! The sessions that have ended, as many as are kept. What goes first is the oldest of the user who has most, so that
//! nobody's sessions push out those of another.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::limits::ENDED_SESSIONS_MAX;
use crate::model::ids::BootTime;
use crate::model::session::Home;

/// The homes whose sessions have ended, each with the time of that.
#[derive(Debug, Default)]
pub(crate) struct EndedSessions {
    of_user: BTreeMap<u32, BTreeSet<(BootTime, Arc<Home>)>>,
    /// How many each user has.
    sizes: BTreeSet<(usize, u32)>,
    len: usize,
}

impl EndedSessions {
    /// Records that the session of `home` ended at `since`.
    pub fn add(&mut self, since: BootTime, home: &Arc<Home>) {
        let of_user = self.of_user.entry(home.uid).or_default();
        let before = of_user.len();
        if of_user.insert((since, Arc::clone(home))) {
            self.len += 1;
            self.resize(home.uid, before, before + 1);
        }
    }

    /// Records that the session of `home` that ended at `since` is live again or was replaced.
    pub fn remove(&mut self, since: BootTime, home: &Arc<Home>) {
        let Some(of_user) = self.of_user.get_mut(&home.uid) else { return };
        let before = of_user.len();
        if of_user.remove(&(since, Arc::clone(home))) {
            self.len -= 1;
            self.resize(home.uid, before, before - 1);
        }
    }

    /// Removes and returns the home that goes first, if there are too many.
    pub fn take_excess(&mut self) -> Option<Arc<Home>> {
        let &(_, uid) = self.sizes.last().filter(|_| self.len > ENDED_SESSIONS_MAX)?;
        let (since, home) = self.of_user.get(&uid)?.first().cloned()?;
        self.remove(since, &home);
        Some(home)
    }

    fn resize(&mut self, uid: u32, before: usize, after: usize) {
        self.sizes.remove(&(before, uid));
        if after > 0 {
            self.sizes.insert((after, uid));
        } else {
            self.of_user.remove(&uid);
        }
    }
}
