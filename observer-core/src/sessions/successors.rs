//! Finds what goes on as the program of a session whose primary ends below a process that came above it later, such as a shell
//! that executed another program.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, Root};
use crate::sessions::lineages::Lineages;
use crate::sessions::roots::{LineagePosition, is_candidate, right_below};

impl Sessions {
    /// Returns the successors of `key`, which is about to leave the map.
    pub fn successors_of(&mut self, table: &ProcessTable, now: BootTime, key: ProcessKey) -> Vec<Root> {
        let Some(home) = self.homes.home_of_primary(key).map(Arc::clone) else { return Vec::new() };
        self.successors(table, now, &home, key)
    }

    /// Returns the successors of the primary of `home` that are candidates there still, if it has ended or given the session up
    /// by this cause.
    pub(super) fn successors_by(
        &mut self,
        ctx: &SessionContext<'_>,
        home: &Arc<Home>,
        cause: Cause<'_>,
    ) -> Vec<Root> {
        let state = self.homes.by_home.get(home);
        let Some(primary) = state.and_then(HomeState::current_primary) else { return Vec::new() };
        let mut found = match cause {
            Cause::Died(process, _, successors) if process.key == primary => successors.to_vec(),
            _ if cause.gave_up() == Some(primary) => self.successors(ctx.table, ctx.now, home, primary),
            _ => return Vec::new(),
        };
        let source = self.lineage_source(ctx.table);
        let mut lineages = Lineages::new(home, ctx.now, found.len(), Some(primary));
        let candidate = |key: ProcessKey| ctx.table.get(key).filter(|entry| is_candidate(entry, home));
        // What the primary had started may have a session by now, and so helpers.
        let mut is_of_another = |entry: &ProcessEntry| match lineages.position(source, entry, None) {
            LineagePosition::Root => false,
            LineagePosition::Below(above) | LineagePosition::Helper(above) => age(above) > age(primary),
        };
        found.retain(|root| {
            let runs = root.stand_in.is_some_and(|key| candidate(key).is_some());
            runs && candidate(root.key).is_some_and(|entry| !is_of_another(entry))
        });
        found
    }

    /// Returns the successors of `primary`, which has the session of `home`: what it started that runs the program of the
    /// session. There are none where nothing is above it, since they are roots when it ends.
    fn successors(
        &mut self,
        table: &ProcessTable,
        now: BootTime,
        home: &Arc<Home>,
        primary: ProcessKey,
    ) -> Vec<Root> {
        let Some(entry) = table.get(primary).filter(|_| table.has_children_by_birth(primary.tgid)) else {
            return Vec::new();
        };
        let Some(state) = self.homes.by_home.get(home) else { return Vec::new() };
        let Some(slot) = &state.slot else { return Vec::new() };
        let source = self.lineage_source(table);
        let mut lineages = Lineages::new(home, now, state.candidates.len(), Some(primary));
        if lineages.position(source, entry, None) == LineagePosition::Root {
            return Vec::new();
        }
        let position = |entry: &ProcessEntry| lineages.position(source, entry, Some(primary));
        let mut found = right_below(table, &self.homes, home, primary, position);
        let runs = |key| table.get(key).is_some_and(|entry| slot.program.is_run_by(&entry.process));
        found.retain(|root| root.stand_in.is_some_and(runs));
        self.homes.placed += 1 + state.candidates.len() as u64;
        found
    }
}
