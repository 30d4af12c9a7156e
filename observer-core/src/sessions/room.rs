//! Bounds how many live sessions one user has. A home that has none because of that gets one when there is room.

use alloc::sync::Arc;

use crate::limits::{OVER_LIMIT_SHOWN_MAX, RELINKED_A_TURN_MAX};
use crate::model::ids::ProcessKey;
use crate::model::rule::Rule;
use crate::model::session::{Doubt, Home, OverLimit, Undecided};
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::by_age::key_at;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, Homes, names_primary, session_name};

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
    /// Returns the candidates of the homes that have no session because their users have too many.
    pub fn over_limit(&self, table: &ProcessTable, rules: &[Rule]) -> OverLimit {
        let mut found = OverLimit::default();
        for (uid, homes) in self.homes.of_users.full_users() {
            let states = homes.filter_map(|home| Some((home, self.homes.by_home.get(home)?)));
            let candidates =
                states.flat_map(|(home, state)| state.candidates.iter().map(move |&at| (home, key_at(at))));
            let (mut shown, mut has_others) = (0, false);
            for (home, key) in candidates {
                if shown == OVER_LIMIT_SHOWN_MAX {
                    has_others = true;
                    break;
                }
                shown += 1;
                match with_name(table, rules, home, key) {
                    Some(candidate) => found.candidates.push(candidate),
                    None => has_others = true,
                }
            }
            found.users_of_others.extend(has_others.then_some(uid));
        }
        found
    }

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

/// Returns the session that `key` would be in `home`, by its name without the number of an instance, unless the name depends
/// on what the primary is.
fn with_name(table: &ProcessTable, rules: &[Rule], home: &Arc<Home>, key: ProcessKey) -> Option<Undecided> {
    let entry = table.get(key)?;
    let template = &rules.get(entry.candidacy.as_ref()?.rule)?.name;
    let first = Home { instance: Home::FIRST, ..(**home).clone() };
    let name = || session_name(template, &first, &entry.process, None);
    let doubt = Doubt::TooManySessions;
    (!names_primary(template)).then(|| Undecided { doubt, home: Arc::clone(home), name: name(), key })
}
