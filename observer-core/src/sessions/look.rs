//! Finds the candidates of a map that is complete for the first time, and elects in every home.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::ids::ProcessKey;
use crate::model::session::Home;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::choice::{Young, choose, is_each, is_in_chain, rule_of};
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, Root};
use crate::sessions::roots::{homes_above, may_be_above};

impl Sessions {
    /// The map is complete for the first time: finds every candidate. Nobody is elected before [`Self::elect_all`], so
    /// the order in which the processes were found has no part in it.
    pub fn look(&mut self, ctx: &mut SessionContext<'_>) {
        self.is_looking = true;
        for key in oldest_first(ctx.table) {
            self.consider(ctx, key);
        }
    }

    /// Every candidate was found, and every known primary is in its place: elects in each home.
    pub fn elect_all(&mut self, ctx: &mut SessionContext<'_>) {
        self.is_looking = false;
        let held = self.homes.by_home.iter().filter(|(_, state)| state.slot.is_some());
        let held: Vec<Arc<Home>> = held.map(|(home, _)| Arc::clone(home)).collect();
        let (mut seen, mut elected) = (BTreeSet::new(), BTreeSet::new());
        for key in oldest_first(ctx.table) {
            let candidacy = ctx.table.get(key).and_then(|entry| entry.candidacy.as_ref());
            let home = candidacy.map(|candidacy| Arc::clone(&candidacy.home));
            if let Some(home) = home.filter(|home| !elected.contains(home)) {
                self.elect_after_those_above(ctx, home, &mut seen, &mut elected);
            }
        }
        for home in held.into_iter().filter(|home| !elected.contains(home)) {
            self.elect(ctx, &home, Cause::Candidates);
        }
        self.consider_left_out(ctx);
    }

    /// Elects in `home`, before that in the homes of what would have its primary for a helper, and so on. So nobody is elected
    /// who turns out to be a helper. `seen` are the homes for which this was begun.
    fn elect_after_those_above(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: Arc<Home>,
        seen: &mut BTreeSet<Arc<Home>>,
        elected: &mut BTreeSet<Arc<Home>>,
    ) {
        seen.insert(Arc::clone(&home));
        let mut pending = alloc::vec![home];
        while let Some(home) = pending.last().map(Arc::clone) {
            let above =
                self.homes_of_takers(ctx, &home).into_iter().find(|above| seen.insert(Arc::clone(above)));
            if let Some(above) = above {
                pending.push(above);
                continue;
            }
            pending.pop();
            self.elect(ctx, &home, Cause::Candidates);
            elected.insert(home);
        }
    }

    /// Returns the homes of the candidates that would take those for their helpers, as primaries, who would be elected in
    /// `home` at this moment.
    fn homes_of_takers(&mut self, ctx: &SessionContext<'_>, home: &Arc<Home>) -> Vec<Arc<Home>> {
        let Some(primary) = self.homes.by_home.get(home).map(HomeState::current_primary) else {
            return Vec::new();
        };
        self.find_roots(ctx, home, primary);
        let Some(state) = self.homes.by_home.get(home) else { return Vec::new() };
        let young = Young::among(ctx, &self.homes, &self.settling, (home, state));
        let elected = choose(ctx, &self.homes, home, (state, primary), &young).elected();
        let is_each_one = |key: ProcessKey| ctx.table.get(key).is_some_and(|it| is_each(rule_of(ctx, it)));
        let candidate = |root: &Root| {
            let is_elected = elected.is_some_and(|elected| is_in_chain(ctx.table, root, elected));
            let candidate = || young.candidate(ctx, state, root).filter(|&key| is_each_one(key));
            // A present primary goes on, whatever is above it.
            if is_elected { elected.filter(|_| elected != primary) } else { candidate() }
        };
        let mut found = Vec::new();
        for (root, key) in state.roots.iter().filter_map(|root| Some((root.key, candidate(root)?))) {
            let Some(entry) = ctx.table.get(key) else { continue };
            // What wraps it may be a helper, too.
            let above = ctx.table.ancestors(entry).take_while(|above| age(above.process.key) >= age(root));
            for entry in core::iter::once(entry).chain(above.filter(|above| may_be_above(above, home))) {
                found.extend(homes_above(ctx.table, &self.homes, entry, home).map(Arc::clone));
            }
        }
        found
    }
}

/// Returns every process, the oldest first.
pub(super) fn oldest_first(table: &ProcessTable) -> Vec<ProcessKey> {
    let mut keys: Vec<ProcessKey> = table.iter().map(|entry| entry.process.key).collect();
    keys.sort_unstable_by_key(|&key| age(key));
    keys
}
