//! Bounds how many live sessions one user has. A home that has none because of that gets one when there is room.

use alloc::sync::Arc;

use crate::limits::RELINKED_A_TURN_MAX;
use crate::model::session::Home;
use crate::sessions::Sessions;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, Homes};

impl Homes {
    /// Returns whether a process that was elected in `home` may be the primary there.
    pub fn admits_session(&mut self, home: &Arc<Home>, is_elected: bool) -> bool {
        let is_live = self.by_home.get(home).and_then(HomeState::live_session).is_some();
        self.of_users.admits(home, is_elected && !is_live)
    }
}

impl Sessions {
    /// Elects in homes that were left out and may have a session, as far as that is no work for more than one turn. To be
    /// called after each event.
    pub fn elect_left_out(&mut self, ctx: &mut SessionContext<'_>) {
        for _ in 0..RELINKED_A_TURN_MAX {
            if self.is_looking {
                break;
            }
            let Some(home) = self.homes.of_users.take_with_room() else { break };
            self.elect(ctx, &home, Cause::Candidates);
        }
    }
}
