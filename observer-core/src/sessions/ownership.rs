//! Whose a home is: requests who owns its directory, and tells the sessions of other users apart.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::change::{Change, Request};
use crate::model::ids::ProcessKey;
use crate::model::process::DirId;
use crate::model::rule::Rule;
use crate::model::session::{Home, Session, State};
use crate::sessions::Sessions;
use crate::sessions::context::SessionContext;
use crate::sessions::homes::{Owner, SessionSlot};

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
        let of_home = self.awaiting_owner.iter().filter(|(_, awaited)| **awaited == home);
        let waiting: Vec<ProcessKey> = of_home.map(|(&key, _)| key).collect();
        self.owner_answer = Some((Arc::clone(&home), owner));
        for key in waiting {
            self.consider(ctx, key);
        }
        self.owner_answer = None;
        self.tell_foreign(ctx, &home, owner);
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
