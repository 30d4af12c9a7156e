//! Applies other rules to a map that is live.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::ids::ProcessKey;
use crate::model::session::{EndReason, Home};
use crate::processes::entry::Candidacy;
use crate::processes::fields::Diff;
use crate::sessions::Sessions;
use crate::sessions::admission::{finds_home, follows_cwd, is_wrapper, namespace};
use crate::sessions::by_age::age;
use crate::sessions::claims::{Claims, Owner};
use crate::sessions::context::SessionContext;
use crate::sessions::fitting::fitting_rule;
use crate::sessions::instances::is_surplus;
use crate::sessions::left_out::LeftOut;
use crate::sessions::look::oldest_first;
use crate::sessions::passed_over::PassedOver;
use crate::sessions::settling::Settling;

impl Sessions {
    /// The rules are others: finds the candidates anew, and elects. A session whose primary a rule still admits to
    /// its home goes on. One whose primary no rule admits there ends.
    pub fn reload(&mut self, ctx: &mut SessionContext<'_>) {
        let keys = oldest_first(ctx.table);
        let homes = self.forget_candidates(ctx);
        // The known sessions, which are still to come, are resumed under these rules.
        let awaits_known = core::mem::replace(&mut self.is_looking, true);
        let mut kept: BTreeSet<Arc<Home>> = BTreeSet::new();
        self.end_surplus(ctx, &homes);
        for &key in &keys {
            let home = self.homes.home_of_primary(key).map(Arc::clone);
            match home.filter(|home| self.keep_primary(ctx, key, home)) {
                Some(home) => {
                    kept.insert(home);
                    // One that left its home may be about to be a session where it is.
                    if ctx.table.get(key).is_some_and(|entry| entry.candidacy.is_none()) {
                        self.arrive(ctx, key, Diff::CWD_ID);
                    }
                }
                None => self.consider(ctx, key),
            }
        }
        if awaits_known {
            return;
        }
        self.is_looking = false;
        for home in homes.iter().filter(|home| !kept.contains(*home)) {
            self.end_session(ctx, home, EndReason::NotAdmitted, None);
        }
        self.elect_all(ctx);
        for home in homes {
            self.homes.forget_empty(&home);
        }
    }

    /// Ends the sessions that are further ones of their directory where it has one alone by these rules. Their primaries are
    /// among the others of that one, or stand for it if it has no primary.
    fn end_surplus(&mut self, ctx: &mut SessionContext<'_>, homes: &[Arc<Home>]) {
        for home in homes.iter().filter(|home| home.instance != Home::FIRST) {
            let first = self.homes.slot(&Home { instance: Home::FIRST, ..(**home).clone() });
            let first = first.filter(|slot| !slot.is_ended()).map(|slot| slot.session.home_dir);
            let Some(state) = self.homes.by_home.get(home) else { continue };
            let Some(slot) = state.slot.as_ref().filter(|slot| !slot.is_ended()) else { continue };
            let Some(entry) = ctx.table.get(slot.session.primary) else { continue };
            let rule = fitting_rule(ctx, state, slot, &entry.process).and_then(|rule| ctx.rules.get(rule));
            let is_deleted = slot.session.cwd_deleted || entry.process.cwd.deleted;
            let own = slot.session.home_dir;
            if rule.is_some_and(|rule| is_surplus(ctx.rules, (rule, home), own, first, is_deleted)) {
                self.end_session(ctx, home, EndReason::NotAdmitted, None);
            }
        }
    }

    /// Makes no process a candidate of anything. Returns the homes that were known.
    fn forget_candidates(&mut self, ctx: &mut SessionContext<'_>) -> Vec<Arc<Home>> {
        self.claimed.clear();
        self.settling = Settling::default();
        self.passed_over = PassedOver::default();
        self.left_out = LeftOut::default();
        for entry in ctx.table.iter_mut() {
            (entry.candidacy, entry.claim, entry.settles) = (None, None, false);
        }
        let homes: Vec<Arc<Home>> = self.homes.by_home.keys().cloned().collect();
        for home in &homes {
            self.homes.set_due(home, None);
            if let Some(state) = self.homes.by_home.get_mut(home) {
                state.candidates.clear();
                state.roots.clear();
                state.claims = Claims::default();
                // What was requested is of no use to the candidates that come.
                if let Owner::Requested { again, .. } = &mut state.owner {
                    *again = true;
                }
            }
        }
        homes
    }

    /// Returns whether a rule admits the primary of `home` to it, and makes the primary a candidate if it is there.
    fn keep_primary(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) -> bool {
        let Some(entry) = ctx.table.get(key) else { return false };
        let Some(state) = self.homes.by_home.get_mut(home) else { return false };
        let Some(slot) = &state.slot else { return false };
        let process = &entry.process;
        let Some(index) = fitting_rule(ctx, state, slot, process) else { return false };
        let Some(rule) = ctx.rules.get(index) else { return false };
        let path = process.cwd.path.as_deref().filter(|_| !process.cwd.unreachable);
        let is_inside = path.is_some_and(|path| finds_home(rule, path, home))
            && namespace(ctx.host_mnt_ns, process.cwd.mnt_ns) == home.mnt_ns;
        if is_inside || follows_cwd(rule) {
            let candidacy = Candidacy {
                home: Arc::clone(home),
                rule: index,
                is_wrapper: is_wrapper(rule, process),
                dir: process.cwd.id,
                since: ctx.at,
                is_assumed: false,
            };
            state.candidates.insert(age(key));
            if let Some(entry) = ctx.table.get_mut(key) {
                entry.candidacy = Some(candidacy);
            }
        }
        true
    }
}
