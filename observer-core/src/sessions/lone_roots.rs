//! Roots that come and go alone, beside a primary that stays: with nothing below them, they change nothing but what the session
//! counts and shows beside its primary, so nobody is elected. A home may have many roots, and an election looks at each of them;
//! a user who starts programs there without end would have the daemon do nothing else.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::change::Change;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::rule::Rule;
use crate::model::session::{Home, Session};
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::admission::old_enough_at;
use crate::sessions::by_age::age;
use crate::sessions::choice::{Ages, is_each, is_eligible, is_replacement, others, rule_of};
use crate::sessions::context::SessionContext;
use crate::sessions::homes::{HomeState, Root, SessionSlot};
use crate::sessions::roots::{LineagePosition, is_candidate, position_past};
use crate::sessions::stops::{left_at, left_lately, settles_at};

/// What is above a candidate, as far as it may have to wait for that before it is a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitsFor {
    /// By [`settles_above`](crate::sessions::lineages::Lineages::settles_above), where nothing takes it for its own.
    settles: Option<BootTime>,
    /// By [`left_at`](crate::sessions::lineages::Lineages::left_at).
    left_at: Option<BootTime>,
}

impl Sessions {
    /// Returns the position of `entry` among the candidates of `home`, and what it waits for if it is a root.
    pub(super) fn place_root(
        &self,
        table: &ProcessTable,
        now: BootTime,
        entry: &ProcessEntry,
        home: &Home,
        primary: Option<ProcessKey>,
    ) -> (LineagePosition, WaitsFor) {
        let mut waits_for = WaitsFor { settles: None, left_at: left_at(entry, home) };
        let position = position_past(table, &self.homes, entry, (home, primary), |above| {
            waits_for.left_at = waits_for.left_at.max(left_lately(above.entry, home, now));
            if above.is_linked() {
                waits_for.settles = waits_for.settles.max(settles_at(&self.settling, above.entry, now));
            }
        });
        (position, waits_for)
    }

    /// `key` became a candidate of `home`, and nothing takes it for its own there; it `waits_for` this. Returns whether it was
    /// counted, so that no election is needed.
    pub(super) fn counts_lone_root(
        &mut self,
        ctx: &mut SessionContext<'_>,
        (key, waits_for): (ProcessKey, WaitsFor),
        home: &Arc<Home>,
    ) -> bool {
        let last = self.homes.by_home.get(home).and_then(|state| state.roots.last());
        if last.is_some_and(|last| age(last.key) > age(key)) || self.roots_concern_others(home) {
            return false;
        }
        let Some(eligibility) = self.eligibility(ctx, (key, waits_for), home) else { return false };
        let Some(state) = self.homes.by_home.get_mut(home) else { return false };
        state.roots.push(lone(key));
        self.set_eligibility(ctx, key, home, eligibility);
        true
    }

    /// `key`, a candidate of `home`, runs another program. Returns whether it is a root that is counted as before or as what it
    /// runs, so that no election is needed.
    pub(super) fn recounts_lone_root(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> bool {
        let Some(state) = self.homes.by_home.get(home) else { return false };
        if place_of(state, key).is_none() || self.beside_primary(ctx, key, home).is_none() {
            return false;
        }
        let Some(entry) = ctx.table.get(key) else { return false };
        let (position, waits_for) = self.place_root(ctx.table, ctx.now, entry, home, state.current_primary());
        if position != LineagePosition::Root {
            return false;
        }
        let Some(eligibility) = self.eligibility(ctx, (key, waits_for), home) else { return false };
        self.set_eligibility(ctx, key, home, eligibility);
        true
    }

    /// Returns whether `key`, a root of `home`, could be the primary, and until when it is too young, if nobody has to be elected
    /// for it.
    fn eligibility(
        &mut self,
        ctx: &SessionContext<'_>,
        (key, waits_for): (ProcessKey, WaitsFor),
        home: &Arc<Home>,
    ) -> Option<(bool, Option<BootTime>)> {
        let (state, slot) = self.beside_primary(ctx, key, home)?;
        let entry = ctx.table.get(key)?;
        let takes_over = is_replacement(ctx.table, home, slot, key)
            || (slot.is_substitute && slot.program.is_run_by(&entry.process));
        if takes_over || entry.is_wrapper() || entry.is_assumed() || is_each(rule_of(ctx, entry)) {
            return None;
        }
        let ages = Ages {
            rules: ctx.rules,
            table: ctx.table,
            now: ctx.now,
            homes: &self.homes,
            settling: &self.settling,
        };
        let goes_on = || ages.goes_on_until(home, state, (&lone(key), entry), waits_for.left_at);
        let young_until = waits_for.settles.or_else(goes_on);
        let is_eligible = young_until.is_none() && is_eligible(ctx.table, slot.session.cwd_deleted, key);
        self.homes.placed += 1;
        Some((is_eligible, young_until))
    }

    /// Returns whether `key`, a candidate of `home`, changed in where it is so that somebody has to be elected: it is in another
    /// directory, or it is counted, and its directory was deleted.
    pub(super) fn concerns_by_place(
        &self,
        ctx: &SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        diff: Diff,
    ) -> bool {
        let Some(state) = self.homes.by_home.get(home) else { return false };
        let home_deleted = state.slot.as_ref().is_some_and(|slot| slot.session.cwd_deleted);
        (diff.intersects(Diff::CWD_ID) && self.decides(key, home))
            || (diff.intersects(Diff::CWD)
                && state.eligible.contains(&key)
                && !is_eligible(ctx.table, home_deleted, key))
    }

    /// Returns the roots of `home` with nothing below them that are counted beside a primary that stays though they could not take
    /// its place, or the other way round, for the check of invariants. Those that are young are not judged, nor any while
    /// the home waits for a time.
    pub fn miscounted(
        &self,
        rules: &[Rule],
        table: &ProcessTable,
        now: BootTime,
        home: &Arc<Home>,
    ) -> Vec<ProcessKey> {
        let state = self.homes.by_home.get(home).filter(|state| state.due.is_none());
        let session = state.and_then(HomeState::live_session);
        let stays =
            |session: &&Session| table.get(session.primary).is_some_and(|entry| is_candidate(entry, home));
        let Some((state, session)) = state.zip(session.filter(stays)) else { return Vec::new() };
        let is_miscounted = |key: ProcessKey| {
            let Some(entry) = table.get(key) else { return false };
            let rule = entry.candidacy.as_ref().and_then(|candidacy| rules.get(candidacy.rule));
            let (_, waits_for) = self.place_root(table, now, entry, home, Some(session.primary));
            let counts = !entry.is_assumed() && is_eligible(table, session.cwd_deleted, key);
            waits_for == WaitsFor::default()
                && old_enough_at(rule, &entry.process) <= now
                && counts != state.eligible.contains(&key)
        };
        let roots = state.roots.iter().filter(|root| **root == lone(root.key)).map(|root| root.key);
        roots.filter(|&key| is_miscounted(key)).collect()
    }

    /// Counts `key`, a root of `home`, from here on if it could be the primary. Has it looked at again when it is old enough.
    fn set_eligibility(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        (is_eligible, young_until): (bool, Option<BootTime>),
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let due = state.due.into_iter().chain(young_until).min();
        let former = state.eligible.iter().position(|&eligible| eligible == key);
        match former {
            Some(at) if !is_eligible => drop(state.eligible.remove(at)),
            None if is_eligible => {
                // Those that run for older roots come first.
                let older = state.roots.iter().take_while(|root| age(root.key) < age(key));
                let mut at = 0;
                for root in older {
                    let next = state.eligible.get(at).copied();
                    at += usize::from(next.is_some() && [root.stand_in, root.launcher].contains(&next));
                }
                state.eligible.insert(at, key);
            }
            _ => {}
        }
        self.homes.set_due(home, due);
        if is_eligible || former.is_some() {
            self.recount(ctx, home);
        }
    }

    /// `key` is no candidate of `home` any more. Returns whether it was a root that is not counted any more, so that no election
    /// is needed.
    pub(super) fn discounts_lone_root(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> bool {
        if self.roots_concern_others(home) || self.beside_primary(ctx, key, home).is_none() {
            return false;
        }
        let Some(state) = self.homes.by_home.get_mut(home) else { return false };
        let Some(at) = place_of(state, key) else { return false };
        state.roots.remove(at);
        if let Some(at) = state.eligible.iter().position(|&eligible| eligible == key) {
            state.eligible.remove(at);
            self.recount(ctx, home);
        }
        true
    }

    /// Returns the state of `home` and its slot, if its primary is there, is not `key`, and stays the primary whether `key`
    /// is a root or not; nothing is below `key`.
    fn beside_primary(
        &self,
        ctx: &SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> Option<(&HomeState, &SessionSlot)> {
        let state = self.homes.by_home.get(home)?;
        let slot = state.slot.as_ref()?;
        let primary = slot.current_primary()?;
        let stays = !self.is_looking
            && !slot.is_recorded
            && !state.holders().contains(&Some(key))
            && !is_each(ctx.rules.get(slot.session.rule))
            && ctx.table.get(primary).is_some_and(|entry| is_candidate(entry, home))
            && state.due.is_none_or(|due| due > ctx.now);
        let is_alone = !ctx.table.has_children_by_birth(key.tgid);
        (stays && is_alone).then_some((state, slot))
    }

    /// Returns whether somebody waits for what the roots of `home` are.
    fn roots_concern_others(&self, home: &Arc<Home>) -> bool {
        !self.relinked.is_empty()
            || self.left_out.has_any(home)
            || self.passed_over.in_home(home).next().is_some()
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

/// Returns where `key` is among the roots, with nothing below it.
fn place_of(state: &HomeState, key: ProcessKey) -> Option<usize> {
    let place = state.roots.binary_search_by_key(&age(key), |root| age(root.key)).ok();
    place.filter(|&at| state.roots.get(at) == Some(&lone(key)))
}
