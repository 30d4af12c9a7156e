//! Counts the live sessions of each user, and keeps the homes that have none because their users have too many.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::limits::SESSIONS_A_USER_MAX;
use crate::model::session::Home;

/// The live sessions of one user.
#[derive(Debug, Default)]
struct UserSessions {
    live: usize,
    /// Homes that have none, because there are too many.
    left_out: BTreeSet<Arc<Home>>,
}

/// The live sessions of each user.
#[derive(Debug, Default)]
pub(crate) struct SessionsByUser {
    of_user: BTreeMap<u32, UserSessions>,
    /// Users who may have more sessions, and have homes that were left out.
    with_room: BTreeSet<u32>,
    /// Sessions that did not begin, because their users had too many.
    pub dropped: u64,
}

impl SessionsByUser {
    /// Returns how many live sessions this user has.
    pub fn live(&self, uid: u32) -> usize {
        self.of_user.get(&uid).map_or(0, |of_user| of_user.live)
    }

    /// Returns the homes that have no session because their users have too many.
    pub fn left_out(&self) -> impl Iterator<Item = &Arc<Home>> {
        self.of_user.values().flat_map(|of_user| &of_user.left_out)
    }

    /// Returns the users of these.
    pub fn full_users(&self) -> impl Iterator<Item = u32> {
        self.of_user.iter().filter(|(_, of_user)| !of_user.left_out.is_empty()).map(|(&uid, _)| uid)
    }

    /// Returns whether `home` has no session because its user has too many.
    pub fn is_left_out(&self, home: &Home) -> bool {
        self.of_user.get(&home.uid).is_some_and(|of_user| of_user.left_out.contains(home))
    }

    /// Returns whether users may have more sessions whose homes were left out.
    pub fn has_room(&self) -> bool {
        !self.with_room.is_empty()
    }

    /// Returns whether `home` may have a session, and remembers it if not. `begins`: it has none, and would.
    pub fn admits(&mut self, home: &Arc<Home>, begins: bool) -> bool {
        if !begins || self.live(home.uid) < SESSIONS_A_USER_MAX {
            self.forget(home);
            return true;
        }
        let is_new = self.of_user.entry(home.uid).or_default().left_out.insert(Arc::clone(home));
        self.dropped += u64::from(is_new);
        false
    }

    /// `home` is no home that was left out any more.
    pub fn forget(&mut self, home: &Home) {
        if let Some(of_user) = self.of_user.get_mut(&home.uid)
            && of_user.left_out.remove(home)
        {
            self.settle(home.uid);
        }
    }

    /// The user has one more, or one less.
    pub fn count(&mut self, uid: u32, is_more: bool) {
        let live = &mut self.of_user.entry(uid).or_default().live;
        *live = if is_more { *live + 1 } else { live.saturating_sub(1) };
        self.settle(uid);
    }

    fn settle(&mut self, uid: u32) {
        let Some(UserSessions { live, left_out }) = self.of_user.get(&uid) else { return };
        if *live < SESSIONS_A_USER_MAX && !left_out.is_empty() {
            self.with_room.insert(uid);
        } else {
            self.with_room.remove(&uid);
        }
        if *live == 0 && left_out.is_empty() {
            self.of_user.remove(&uid);
        }
    }

    /// Removes and returns a home that was left out and may have a session.
    pub fn take_with_room(&mut self) -> Option<Arc<Home>> {
        let &uid = self.with_room.first()?;
        let home = self.of_user.get_mut(&uid)?.left_out.pop_first();
        self.settle(uid);
        home
    }
}
