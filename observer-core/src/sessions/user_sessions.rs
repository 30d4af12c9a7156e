//! Counts the live sessions of each user, and keeps the homes that have none because their users have too many.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::limits::SESSIONS_A_USER_MAX;
use crate::model::ids::{BootTime, Tgid};
use crate::model::session::Home;

/// The place of a process among all others by the time at which it started.
type Age = (BootTime, Tgid);

/// The live sessions of one user.
#[derive(Debug, Default)]
struct UserSessions {
    live: usize,
    /// Homes that have none, because there are too many, each with the age of its oldest candidate.
    over_limit: BTreeMap<Arc<Home>, Age>,
    /// The same in the order in which they get one: a first look elects in this order, too.
    by_age: BTreeSet<(Age, Arc<Home>)>,
}

impl UserSessions {
    fn remove(&mut self, home: &Home) -> bool {
        let Some((home, age)) = self.over_limit.remove_entry(home) else { return false };
        self.by_age.remove(&(age, home))
    }

    fn has_room(&self) -> bool {
        self.live < SESSIONS_A_USER_MAX
    }
}

/// The live sessions of each user.
#[derive(Debug, Default)]
pub(crate) struct SessionsByUser {
    of_user: BTreeMap<u32, UserSessions>,
    /// Users who may have more sessions, and have homes that are over the limit.
    with_room: BTreeSet<u32>,
    /// Sessions that did not begin, because their users had too many.
    pub dropped: u64,
}

impl SessionsByUser {
    /// Returns how many live sessions this user has.
    pub fn live(&self, uid: u32) -> usize {
        self.of_user.get(&uid).map_or(0, |of_user| of_user.live)
    }

    /// Returns whether this user may have one more live session.
    pub fn may_have_more(&self, uid: u32) -> bool {
        self.of_user.get(&uid).is_none_or(UserSessions::has_room)
    }

    /// Returns the homes that have no session because their users have too many, each with the age of its oldest candidate.
    pub fn over_limit(&self) -> impl Iterator<Item = (&Arc<Home>, Age)> {
        self.of_user.values().flat_map(|of_user| of_user.over_limit.iter().map(|(home, &age)| (home, age)))
    }

    /// Returns the users of these, each with the homes in the order in which they get a session.
    pub fn full_users(&self) -> impl Iterator<Item = (u32, impl Iterator<Item = &Arc<Home>>)> {
        let full = self.of_user.iter().filter(|(_, of_user)| !of_user.over_limit.is_empty());
        full.map(|(&uid, of_user)| (uid, of_user.by_age.iter().map(|(_, home)| home)))
    }

    /// Returns whether `home` has no session because its user has too many.
    pub fn is_over_limit(&self, home: &Home) -> bool {
        self.of_user.get(&home.uid).is_some_and(|of_user| of_user.over_limit.contains_key(home))
    }

    /// Returns whether users may have more sessions who have homes that are over the limit.
    pub fn has_room(&self) -> bool {
        !self.with_room.is_empty()
    }

    /// Returns whether a session may begin in `home`, whose oldest candidate has this age, and remembers the home if not.
    pub fn admits(&mut self, home: &Arc<Home>, oldest: Age) -> bool {
        self.forget(home);
        if self.may_have_more(home.uid) {
            return true;
        }
        let of_user = self.of_user.entry(home.uid).or_default();
        of_user.over_limit.insert(Arc::clone(home), oldest);
        of_user.by_age.insert((oldest, Arc::clone(home)));
        false
    }

    /// Removes `home` from those that are over the limit.
    pub fn forget(&mut self, home: &Home) {
        if self.of_user.get_mut(&home.uid).is_some_and(|of_user| of_user.remove(home)) {
            self.settle(home.uid);
        }
    }

    /// Counts a session of the user that began, or one that ended.
    pub fn count(&mut self, uid: u32, begins: bool) {
        let live = &mut self.of_user.entry(uid).or_default().live;
        *live = if begins { *live + 1 } else { live.saturating_sub(1) };
        self.settle(uid);
    }

    fn settle(&mut self, uid: u32) {
        let Some(of_user) = self.of_user.get(&uid) else { return };
        if of_user.has_room() && !of_user.over_limit.is_empty() {
            self.with_room.insert(uid);
        } else {
            self.with_room.remove(&uid);
        }
        if of_user.live == 0 && of_user.over_limit.is_empty() {
            self.of_user.remove(&uid);
        }
    }

    /// Removes and returns the home over the limit whose oldest candidate started first, of a user who may have one more
    /// session.
    pub fn take_with_room(&mut self) -> Option<Arc<Home>> {
        let &uid = self.with_room.first()?;
        let (_, home) = self.of_user.get(&uid)?.by_age.first()?;
        let home = Arc::clone(home);
        self.forget(&home);
        Some(home)
    }
}
