//! Whose a home is: requests who owns its directory, again after a while, and tells the sessions of other users apart.

use alloc::sync::Arc;

use crate::limits::OWNER_CHECKS_A_TICK_MAX;
use crate::model::change::{Change, Request};
use crate::model::ids::ProcessKey;
use crate::model::process::DirId;
use crate::model::rule::Rule;
use crate::model::session::{Home, Session, State};
use crate::processes::entry::Claim;
use crate::sessions::Sessions;
use crate::sessions::context::SessionContext;
use crate::sessions::homes::{HomeState, Owner, SessionSlot};

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
        if let Owner::Requested { again } = &mut state.owner {
            *again = true;
            return;
        }
        state.owner = Owner::Requested { again: false };
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
        let Some((home, state)) = self.homes.by_home.get_key_value(home) else { return };
        let home = Arc::clone(home);
        let Owner::Requested { again } = state.owner else { return };
        let Some(state) = self.homes.by_home.get_mut(&home) else { return };
        if again {
            // Somebody came after the directory was read, which may be another one by then.
            state.owner = Owner::Unknown;
            return self.request_owner(ctx, &home);
        }
        // The process that caused the request may be gone: the answer is the home's.
        state.owner = Owner::Known(owner);
        let mut claimants = core::mem::take(&mut state.claims.waiting);
        if owner == Some(home.uid) {
            claimants.append(&mut state.claims.refused);
        }
        for &key in &claimants {
            self.claimed.remove(&key);
            if let Some(entry) = ctx.table.get_mut(key) {
                entry.claim = Claim::None;
            }
        }
        self.owner_answer = Some((Arc::clone(&home), owner));
        for key in claimants {
            self.consider(ctx, key);
        }
        self.owner_answer = None;
        self.tell_foreign(ctx, &home, owner);
        self.homes.forget_empty(&home);
        if self.is_owner_decisive(ctx, &home) {
            self.homes.add_check(ctx.now, &home);
        }
    }

    /// Reads the owners again of homes for which that is due.
    pub(super) fn check_owners(&mut self, ctx: &mut SessionContext<'_>) {
        // The rest stays due: the caller looks at other events in between.
        for _ in 0..OWNER_CHECKS_A_TICK_MAX {
            let Some(home) = self.homes.take_check(ctx.now) else { return };
            let is_requested = |state: &HomeState| matches!(state.owner, Owner::Requested { .. });
            // The answer to a request that is under way has it read again later.
            if self.is_owner_decisive(ctx, &home) && !self.homes.by_home.get(&home).is_some_and(is_requested)
            {
                self.request_owner(ctx, &home);
            }
        }
    }

    /// Returns whether another owner of the directory of `home` would change anything.
    fn is_owner_decisive(&self, ctx: &SessionContext<'_>, home: &Home) -> bool {
        let Some(state) = self.homes.by_home.get(home) else { return false };
        let decides = |session: &Session| depends_on_owner(ctx.rules.get(session.rule), home);
        !state.claims.refused.is_empty()
            || (home.mnt_ns.is_none() && state.live_session().is_some_and(decides))
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
        entry.claim = claim;
        let state = self.homes.by_home.entry(Arc::clone(home)).or_default();
        match claim {
            Claim::None => return,
            Claim::Waiting => state.claims.waiting.insert(key),
            Claim::Refused => state.claims.refused.insert(key),
        };
        if let Some((of, owner)) = &self.owner_answer
            && of == home
        {
            state.owner = Owner::Known(*owner);
        }
        self.claimed.insert(key, Arc::clone(home));
    }

    /// A process was born that is like its creator, which no rule admits: if that one claims a home, so does the
    /// child.
    pub(super) fn claim_like(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, creator: ProcessKey) {
        if let Some(home) = self.claimed.get(&creator).map(Arc::clone) {
            self.claim(ctx, key, &home, Claim::Refused);
        }
    }

    /// Forgets that `key` claims a home.
    pub(super) fn stop_claiming(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        if let Some(entry) = ctx.table.get_mut(key)
            && core::mem::take(&mut entry.claim) != Claim::None
        {
            self.forget_claim(key);
        }
    }

    /// The same for a process that left the map.
    pub(super) fn forget_claim(&mut self, key: ProcessKey) {
        let Some(home) = self.claimed.remove(&key) else { return };
        if let Some(state) = self.homes.by_home.get_mut(&home) {
            state.claims.waiting.remove(&key);
            state.claims.refused.remove(&key);
        }
        self.homes.forget_empty(&home);
    }

    /// Brings the session of `home` up to date with the owner of its directory.
    fn tell_foreign(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>, owner: Option<u32>) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let Some(slot) = state.slot.as_mut().filter(|slot| !slot.is_ended()) else { return };
        let SessionSlot { session, .. } = slot;
        // Of a directory that is gone, or cannot be read any more, the last owner is known.
        let owner = owner.or(session.owner);
        let foreign = is_foreign(ctx.rules.get(session.rule), home, owner);
        if (session.owner, session.foreign) == (owner, foreign) {
            return;
        }
        (session.owner, session.foreign) = (owner, foreign);
        if let Some(entry) = ctx.table.get(session.primary) {
            ctx.sink.change(ctx.at, Change::SessionChanged(session, &entry.process));
        }
    }
}
