//! Bounds how many live sessions one user has. A home that has none because of that gets one when there is room.

use alloc::sync::Arc;

use crate::limits::RELINKED_A_TURN_MAX;
use crate::model::session::Home;
use crate::sessions::Sessions;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, Homes};

impl Homes {
    /// Returns whether a process that was elected in `home` may be the primary there. Where it may not, the home is kept as one
    /// that is over the limit.
    pub fn admits_session(&mut self, home: &Arc<Home>, is_elected: bool) -> bool {
        let state = self.by_home.get(home).filter(|state| is_elected && state.live_session().is_none());
        let Some(&oldest) = state.and_then(|state| state.candidates.first()) else {
            self.of_users.forget(home);
            return true;
        };
        let was_over_limit = self.of_users.is_over_limit(home);
        let is_admitted = self.of_users.admits(home, oldest);
        self.of_users.dropped += u64::from(!is_admitted && !was_over_limit);
        is_admitted
    }

    /// Returns whether `home` has a session, or its user may have one more.
    pub fn has_room(&self, home: &Home) -> bool {
        let is_live = self.by_home.get(home).and_then(HomeState::live_session).is_some();
        is_live || self.of_users.may_have_more(home.uid)
    }
}

impl Sessions {
    /// Elects in homes that are over the limit of users who may have one more session, as far as that is no work for more than
    /// one turn. To be called after each event.
    pub fn elect_over_limit(&mut self, ctx: &mut SessionContext<'_>) {
        for _ in 0..RELINKED_A_TURN_MAX {
            if self.is_looking {
                break;
            }
            let Some(home) = self.homes.of_users.take_with_room() else { break };
            self.elect(ctx, &home, Cause::Candidates);
        }
    }
}
