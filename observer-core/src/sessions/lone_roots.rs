//! Roots that come and go alone, beside a primary that stays: with nothing below them, they change nothing but what the session
//! counts and shows beside its primary, so nobody is elected. A home may have many roots, and an election looks at each of them;
//! a user who starts programs there without end would have the daemon do nothing else.

use alloc::sync::Arc;

use crate::model::change::Change;
use crate::model::ids::ProcessKey;
use crate::model::session::Home;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::choice::{Ages, is_each, is_eligible, is_replacement, others, rule_of};
use crate::sessions::context::SessionContext;
use crate::sessions::homes::{HomeState, Root, SessionSlot};
use crate::sessions::lineages::Lineages;
use crate::sessions::roots::is_candidate;

impl Sessions {
    /// `key` became a candidate of `home`, and nothing takes it for its own there. Returns whether it was counted, so that no
    /// election is needed.
    pub(super) fn counts_lone_root(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> bool {
        let Some((state, slot, primary)) = self.beside_primary(ctx, key, home) else { return false };
        let Some(entry) = ctx.table.get(key) else { return false };
        let is_youngest = state.roots.last().is_none_or(|last| age(last.key) < age(key));
        let takes_over = is_replacement(ctx.table, home, slot, key)
            || (slot.is_substitute && slot.program.is_run_by(&entry.process));
        if !is_youngest
            || takes_over
            || entry.is_wrapper()
            || entry.is_assumed()
            || is_each(rule_of(ctx, entry))
        {
            return false;
        }
        let root = lone(key);
        let ages = Ages {
            rules: ctx.rules,
            table: ctx.table,
            now: ctx.now,
            homes: &self.homes,
            settling: &self.settling,
        };
        let mut lineages = Lineages::new(home, ctx.now, 1, Some(primary));
        let young_until = ages.young_until(home, state, (&root, key), &mut lineages);
        let is_eligible = young_until.is_none() && is_eligible(ctx.table, slot.session.cwd_deleted, key);
        let due = state.due.into_iter().chain(young_until).min();
        self.homes.placed += 1;
        self.homes.set_due(home, due);
        let Some(state) = self.homes.by_home.get_mut(home) else { return false };
        state.roots.push(root);
        if is_eligible {
            state.eligible.push(key);
            self.recount(ctx, home);
        }
        true
    }

    /// `key` is no candidate of `home` any more. Returns whether it was a root that is not counted any more, so that no election
    /// is needed.
    pub(super) fn discounts_lone_root(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> bool {
        if self.beside_primary(ctx, key, home).is_none() {
            return false;
        }
        let Some(state) = self.homes.by_home.get_mut(home) else { return false };
        let place = state.roots.binary_search_by_key(&age(key), |root| age(root.key));
        let Some(at) = place.ok().filter(|&at| state.roots.get(at) == Some(&lone(key))) else { return false };
        state.roots.remove(at);
        if let Some(at) = state.eligible.iter().position(|&eligible| eligible == key) {
            state.eligible.remove(at);
            self.recount(ctx, home);
        }
        true
    }

    /// Returns the state of `home`, its slot and its primary, if that is there, is not `key`, and stays the primary whether `key`
    /// is a root or not; nothing is below `key`, and nobody waits for what the roots are.
    fn beside_primary(
        &self,
        ctx: &SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> Option<(&HomeState, &SessionSlot, ProcessKey)> {
        let state = self.homes.by_home.get(home)?;
        let slot = state.slot.as_ref()?;
        let primary = slot.current_primary()?;
        let stays = !self.is_looking
            && !slot.is_recorded
            && !state.holders().contains(&Some(key))
            && !is_each(ctx.rules.get(slot.session.rule))
            && ctx.table.get(primary).is_some_and(|entry| is_candidate(entry, home))
            && state.due.is_none_or(|due| due > ctx.now);
        let is_alone = self.relinked.is_empty()
            && !ctx.table.has_children_by_birth(key.tgid)
            && !self.left_out.has_any(home)
            && self.passed_over.in_home(home).next().is_none();
        (stays && is_alone).then_some((state, slot, primary))
    }

    /// Brings what the session of `home` shows beside its primary up to date, and reports it.
    fn recount(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let Some(slot) = &mut state.slot else { return };
        let Some(primary) = ctx.table.get(slot.session.primary) else { return };
        let counted = others(ctx.table, &state.eligible, &slot.session);
        let session = &mut slot.session;
        if (session.roots, &session.others) == (counted.0, &counted.1) {
            return;
        }
        (session.roots, session.others) = counted;
        slot.changed_at = slot.changed_at.max(ctx.at).max(state.replaced_at);
        ctx.sink.change(slot.changed_at, Change::SessionChanged(session, &primary.process));
        self.reported.push(Arc::clone(home));
    }
}

/// Returns the root that `key` is with nothing below it.
const fn lone(key: ProcessKey) -> Root {
    Root { key, stand_in: Some(key), launcher: None }
}
