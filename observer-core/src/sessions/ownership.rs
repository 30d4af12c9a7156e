//! Whose a home is: requests who owns its directory, again after a while, and tells the sessions of other users apart.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::OWNERS_A_TURN_MAX;
use crate::model::change::{Change, Request};
use crate::model::ids::ProcessKey;
use crate::model::process::DirId;
use crate::model::rule::Rule;
use crate::model::session::{Home, Session, State};
use crate::processes::entry::Claim;
use crate::sessions::Sessions;
use crate::sessions::claims::{Claims, Owner};
use crate::sessions::context::SessionContext;
use crate::sessions::homes::SessionSlot;

/// The superuser, who may act for the owner of any home.
const ROOT: u32 = 0;

/// Returns whether a process of this user counts as the owner's in every home.
pub(super) fn may_act_for_owner(uid: u32) -> bool {
    uid == ROOT
}

/// Returns whether the user of `home`, whom `rule` admits, is another one than the one whose home it is. `None`: the
/// owner of the directory decides that, and is not known.
pub(super) fn is_foreign(rule: Option<&Rule>, home: &Home, owner: Option<u32>) -> Option<bool> {
    if depends_on_owner(rule, home) { owner.map(|owner| owner != home.uid) } else { Some(false) }
}

/// Returns whether the owner of the directory decides whose session that of `home` is, and not the rule, which may
/// name users.
fn depends_on_owner(rule: Option<&Rule>, home: &Home) -> bool {
    let names_users = rule.is_some_and(|rule| !rule.conditions.uids.is_empty());
    !names_users && !may_act_for_owner(home.uid)
}

/// What of a session decides whether the owner of its home is known still.
#[derive(Clone, Copy)]
pub(super) struct OwnerBasis {
    primary: ProcessKey,
    has_left: bool,
    home_dir: DirId,
}

impl OwnerBasis {
    pub fn of(session: &Session) -> Self {
        let Session { primary, state, home_dir, .. } = *session;
        Self { primary, has_left: state == State::Left, home_dir }
    }
}

/// Returns whether the owner of the home has to be requested again: the session is another one, came back, or is in
/// another directory.
pub(super) fn is_owner_outdated(before: Option<OwnerBasis>, after: OwnerBasis) -> bool {
    before.is_none_or(|before| {
        let came_back = before.has_left && !after.has_left;
        came_back || before.primary != after.primary || before.home_dir != after.home_dir
    })
}

impl Sessions {
    /// Requests who owns the directory of `home`.
    pub(super) fn request_owner(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>) {
        let state = self.homes.by_home.entry(Arc::clone(home)).or_default();
        if let Owner::Requested { again, .. } = &mut state.owner {
            *again = true;
            return;
        }
        state.owner = Owner::Requested { again: false, before: state.owner.last() };
        ctx.sink.request(Request::HomeOwner(home));
    }

    /// Requests who owns the directory of `home` where that decides whose its session is, which `rule` admits.
    pub(super) fn request_deciding_owner(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        rule: usize,
    ) {
        let rule = ctx.rules.get(rule);
        // A rule that requires the owner requests it before it admits anybody.
        let was_requested = rule.is_some_and(|rule| rule.owner);
        // The edge can read directories of the host's own namespace only.
        if home.mnt_ns.is_none() && !was_requested && depends_on_owner(rule, home) {
            self.request_owner(ctx, home);
        }
    }

    /// The edge answered who owns the directory of `home`; `None`: it could not be read.
    pub(crate) fn owner_known(&mut self, ctx: &mut SessionContext<'_>, home: &Home, owner: Option<u32>) {
        let Some((home, _)) = self.homes.by_home.get_key_value(home) else { return };
        let home = Arc::clone(home);
        let Some(state) = self.homes.by_home.get_mut(&home) else { return };
        let Owner::Requested { again, before } = state.owner else { return };
        self.checks_under_way.remove(&home);
        if again {
            // Somebody came after the directory was read, which may be another one by then.
            state.owner = Owner::Known(before);
            self.request_owner(ctx, &home);
            // Nobody keeps a session from being foreign by coming again and again.
            if owner.is_some_and(|owner| owner != home.uid) {
                self.update_foreign(ctx, &home, owner);
            }
            return;
        }
        // The process that caused the request may be gone: the answer is the home's.
        state.owner = Owner::Known(owner);
        self.decide_claims(ctx, &home, owner);
        self.update_foreign(ctx, &home, owner);
        self.homes.forget_empty(&home);
        if self.is_owner_decisive(ctx, &home) {
            self.homes.add_check(ctx.now, &home);
        }
    }

    /// Decides on the processes that claim `home`, whose owner was read just now.
    fn decide_claims(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>, owner: Option<u32>) {
        let Some(state) = self.homes.by_home.get(home) else { return };
        let is_theirs = owner == Some(home.uid);
        let affected = |claims: &Claims| -> Vec<ProcessKey> {
            let refused = claims.refused.iter().take(if is_theirs { OWNERS_A_TURN_MAX } else { 0 });
            claims.waiting.iter().chain(refused).copied().take(OWNERS_A_TURN_MAX).collect()
        };
        // The oldest first, as in an election among all of them.
        let mut claimants = affected(&state.claims);
        claimants.sort_by_key(|key| key.start_boottime);
        self.owner_answer = Some((Arc::clone(home), owner));
        for key in claimants {
            self.forget_claim(ctx, key, home);
            self.decide(ctx, key);
            if !is_theirs && ctx.table.get(key).is_some_and(|entry| entry.candidacy.is_none()) {
                self.claim(ctx, key, home, Claim::Refused);
            }
        }
        self.owner_answer = None;
        // The rest is decided by the next answer: the caller looks at other events in between.
        if self.homes.by_home.get(home).is_some_and(|state| !affected(&state.claims).is_empty()) {
            self.request_owner(ctx, home);
        }
    }

    /// Reads the owners again of homes for which that is due.
    pub(super) fn check_owners(&mut self, ctx: &mut SessionContext<'_>) {
        for _ in 0..OWNERS_A_TURN_MAX {
            if self.checks_under_way.free_from().is_none_or(|free| ctx.now < free) {
                return;
            }
            let Some(home) = self.homes.take_check(ctx.now) else { return };
            if !self.is_owner_decisive(ctx, &home) {
                continue;
            }
            if !self.checks_under_way.has_room_for(home.uid) {
                self.homes.add_check(ctx.now, &home);
                continue;
            }
            let Some(state) = self.homes.by_home.get(&home) else { continue };
            // The answer to a request that is under way has it read again later.
            if !matches!(state.owner, Owner::Requested { .. }) {
                self.checks_under_way.add(ctx.now, &home);
                self.request_owner(ctx, &home);
            }
        }
    }

    /// Sees to it that the owner of `home` is read, and read again, as long as that decides anything.
    pub(super) fn watch_owner(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>) {
        if !self.is_owner_decisive(ctx, home) {
            return;
        }
        match self.homes.by_home.get(home).map(|state| (state.owner, state.check_due)) {
            Some((Owner::Unknown, None)) => self.request_owner(ctx, home),
            Some((Owner::Known(_), None)) => self.homes.add_check(ctx.now, home),
            _ => {}
        }
    }

    /// Returns whether another owner of the directory of `home` would change anything.
    fn is_owner_decisive(&self, ctx: &SessionContext<'_>, home: &Home) -> bool {
        let Some(state) = self.homes.by_home.get(home) else { return false };
        let decides = |session: &Session| depends_on_owner(ctx.rules.get(session.rule), home);
        // The edge can read directories of the host's own namespace only.
        home.mnt_ns.is_none() && (!state.claims.is_empty() || state.live_session().is_some_and(decides))
    }

    /// Records that `key` claims `home`.
    pub(super) fn claim(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        claim: Claim,
    ) {
        let Some(entry) = ctx.table.get_mut(key) else { return };
        let state = self.homes.by_home.entry(Arc::clone(home)).or_default();
        match claim {
            Claim::Waiting => state.claims.waiting.insert(key),
            Claim::Refused => state.claims.refused.insert(key),
        };
        if let Some((of, owner)) = &self.owner_answer
            && of == home
        {
            state.owner = Owner::Known(*owner);
        }
        let homes = self.claimed.entry(key).or_default();
        if !homes.contains(home) {
            homes.push(Arc::clone(home));
        }
        entry.claim = self.claim_of(key);
    }

    /// Returns what is known of the claims of `key`.
    fn claim_of(&self, key: ProcessKey) -> Option<Claim> {
        let homes = self.claimed.get(&key)?;
        let is_waiting = |home: &Arc<Home>| {
            self.homes.by_home.get(home).is_some_and(|state| state.claims.waiting.contains(&key))
        };
        Some(if homes.iter().any(is_waiting) { Claim::Waiting } else { Claim::Refused })
    }

    /// Returns whether `key` claims `home`, which was another user's.
    pub(super) fn is_refused(&self, key: ProcessKey, home: &Home) -> bool {
        self.homes.by_home.get(home).is_some_and(|state| state.claims.refused.contains(&key))
    }

    /// A process was born that is like its creator, which no rule admits: the homes that one was refused in, the child
    /// claims as well.
    pub(super) fn claim_like(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, creator: ProcessKey) {
        for home in self.claimed.get(&creator).cloned().unwrap_or_default() {
            self.claim(ctx, key, &home, Claim::Refused);
        }
    }

    /// Forgets that `key` claims `home`. The home itself is kept.
    fn forget_claim(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        if let Some(state) = self.homes.by_home.get_mut(home) {
            state.claims.waiting.remove(&key);
            state.claims.refused.remove(&key);
        }
        if let Some(homes) = self.claimed.get_mut(&key) {
            homes.retain(|claimed| claimed != home);
            if homes.is_empty() {
                self.claimed.remove(&key);
            }
        }
        let claim = self.claim_of(key);
        if let Some(entry) = ctx.table.get_mut(key) {
            entry.claim = claim;
        }
    }

    /// Forgets which homes `key` claims.
    pub(super) fn stop_claiming(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        if ctx.table.get_mut(key).is_some_and(|entry| entry.claim.take().is_some()) {
            self.forget_claims(key);
        }
    }

    /// The same for a process that left the map.
    pub(super) fn forget_claims(&mut self, key: ProcessKey) {
        for home in self.claimed.remove(&key).unwrap_or_default() {
            if let Some(state) = self.homes.by_home.get_mut(&home) {
                state.claims.waiting.remove(&key);
                state.claims.refused.remove(&key);
            }
            self.homes.forget_empty(&home);
        }
    }

    /// Brings the session of `home` up to date with the owner of its directory.
    fn update_foreign(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>, owner: Option<u32>) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let Some(slot) = state.slot.as_mut().filter(|slot| !slot.is_ended()) else { return };
        let SessionSlot { session, changed_at, .. } = slot;
        // Of a directory that is gone, or cannot be read any more, the last owner is known.
        let owner = owner.or(session.owner);
        let foreign = is_foreign(ctx.rules.get(session.rule), home, owner);
        if (session.owner, session.foreign) == (owner, foreign) {
            return;
        }
        (session.owner, session.foreign) = (owner, foreign);
        if let Some(entry) = ctx.table.get(session.primary) {
            *changed_at = (*changed_at).max(ctx.at);
            ctx.sink.change(*changed_at, Change::SessionChanged(session, &entry.process));
        }
    }
}
