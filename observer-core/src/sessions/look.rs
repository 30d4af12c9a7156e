//! Finds the candidates of a map that is complete for the first time, and elects in every home.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::ids::ProcessKey;
use crate::model::session::Home;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::context::{Cause, SessionContext};

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
        let mut seen = BTreeSet::new();
        // What an older process is the primary of is known before its helpers are looked at.
        for key in oldest_first(ctx.table) {
            let candidacy = ctx.table.get(key).and_then(|entry| entry.candidacy.as_ref());
            let home = candidacy.map(|candidacy| Arc::clone(&candidacy.home));
            if let Some(home) = home.filter(|home| seen.insert(Arc::clone(home))) {
                self.elect(ctx, &home, Cause::Candidates);
            }
        }
        for home in held.into_iter().filter(|home| !seen.contains(home)) {
            self.elect(ctx, &home, Cause::Candidates);
        }
        self.consider_left_out(ctx);
    }
}

/// Returns every process, the oldest first.
pub(super) fn oldest_first(table: &ProcessTable) -> Vec<ProcessKey> {
    let mut keys: Vec<ProcessKey> = table.iter().map(|entry| entry.process.key).collect();
    keys.sort_unstable_by_key(|&key| age(key));
    keys
}
