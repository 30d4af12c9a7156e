//! What processes have used until now, or until their end.

use alloc::vec::Vec;

use crate::core::Core;
use crate::limits::{DESCENDANTS_COUNTED_MAX, DESCENDANTS_OF_OTHERS_MAX};
use crate::model::cost::{Cost, CostSoFar, ProcessUsage};
use crate::model::ids::ProcessKey;
use crate::processes::ended::EndedDescendants;
use crate::processes::entry::ProcessEntry;

impl Core {
    /// Returns what is known of the cost of a live process. `None` where it has more than `descendants_max` live
    /// descendants, or is not in the map.
    pub fn cost_so_far(&self, key: ProcessKey, descendants_max: usize) -> Option<CostSoFar> {
        let entry = self.table.get(key)?;
        let descendants = self.table.descendants(key.tgid, descendants_max)?;
        let ended = self.ended_below(entry, &descendants);
        let own = ProcessUsage { max_rss_pages: entry.max_rss_pages, ..ProcessUsage::default() };
        let known = ended.cost(own, self.births_below(entry, ended, descendants.len()));
        Some(CostSoFar { known, descendants })
    }

    /// Returns the live descendants of a live process, born below it. `None` if there are more than `most`, or no such process.
    pub fn descendants(&self, key: ProcessKey, most: usize) -> Option<Vec<ProcessKey>> {
        self.table.descendants(self.table.get(key)?.process.key.tgid, most)
    }

    /// Returns what the live process `key` cost, which ends now and used `own`.
    /// `live` are its live descendants, if they could be counted.
    pub(super) fn cost_at_end(
        &self,
        key: ProcessKey,
        own: ProcessUsage,
        live: Option<&[ProcessKey]>,
    ) -> Option<Cost> {
        let entry = self.table.get(key)?;
        let Some(live) = live else { return Some(entry.ended.cost(own, None)) };
        let ended = self.ended_below(entry, live);
        Some(ended.cost(own, self.births_below(entry, ended, live.len())))
    }

    /// Returns the live descendants of a process that ends. `None` if there are too many, or too many were counted in this
    /// second.
    pub(super) fn counted_descendants(&mut self, key: ProcessKey) -> Option<Vec<ProcessKey>> {
        if !self.table.has_children_by_birth(key.tgid) {
            return Some(Vec::new());
        }
        let is_candidate = self.table.get(key)?.candidacy.is_some();
        let is_of_session = is_candidate || !self.sessions.homes.held_by(key).is_empty();
        let most = if is_of_session { DESCENDANTS_COUNTED_MAX } else { DESCENDANTS_OF_OTHERS_MAX };
        let most = self.counting.left(self.now).min(most);
        let found = self.table.descendants(key.tgid, most);
        self.counting.spend(found.as_ref().map_or(most, Vec::len));
        found
    }

    /// Returns those that ended below a process and below its descendants that live.
    fn ended_below(&self, entry: &ProcessEntry, live: &[ProcessKey]) -> EndedDescendants {
        let live = live.iter().filter_map(|&key| self.table.get(key));
        live.fold(entry.ended, |sum, child| sum.with(child.ended).and_live(child.max_rss_pages))
    }

    /// Returns the number of processes that were born below this one, of which these ended and so many live. `None` if a birth
    /// may have been missed.
    fn births_below(&self, entry: &ProcessEntry, ended: EndedDescendants, live: usize) -> Option<u32> {
        let passes = &self.passes;
        let is_lossless = passes.gap.is_none() && passes.last_loss <= entry.process.key.start_boottime;
        let live = u32::try_from(live).ok()?;
        (entry.lineage_by_birth && is_lossless).then(|| ended.processes.saturating_add(live))
    }
}
