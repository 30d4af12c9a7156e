//! Which processes decide in which pane the primary of a session is, so that a change of one of them is
//! followed without a look at other sessions.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::model::ids::ProcessKey;
use crate::processes::pane::visit_deciding;
use crate::processes::table::ProcessTable;

/// The primaries and wrappers of sessions, each with the processes that decide about its pane.
#[derive(Debug, Default)]
pub(crate) struct FollowedPanes {
    deciding: BTreeMap<ProcessKey, Vec<ProcessKey>>,
    /// (deciding process, primary or wrapper).
    decided: BTreeSet<(ProcessKey, ProcessKey)>,
}

impl FollowedPanes {
    /// Follows the pane of `key` from here on.
    pub fn follow(&mut self, table: &ProcessTable, key: ProcessKey) {
        self.unfollow(key);
        let Some(entry) = table.get(key) else { return };
        let mut deciding = Vec::new();
        visit_deciding(table, entry, |other| deciding.push(other.process.key));
        self.decided.extend(deciding.iter().map(|&other| (other, key)));
        self.deciding.insert(key, deciding);
    }

    /// Does not follow the pane of `key` any more.
    pub fn unfollow(&mut self, key: ProcessKey) {
        for other in self.deciding.remove(&key).unwrap_or_default() {
            self.decided.remove(&(other, key));
        }
    }

    /// Returns whether the pane of `key` is followed.
    pub fn follows(&self, key: ProcessKey) -> bool {
        self.deciding.contains_key(&key)
    }

    /// Returns the followed processes.
    pub fn followed(&self) -> Vec<ProcessKey> {
        self.deciding.keys().copied().collect()
    }

    /// Returns the followed processes about whose pane `key` decides.
    pub fn decided_by(&self, key: ProcessKey) -> Vec<ProcessKey> {
        let youngest = ProcessKey::new(u32::MAX, u64::MAX);
        let decided = self.decided.range((key, ProcessKey::default())..=(key, youngest));
        decided.map(|&(_, followed)| followed).collect()
    }
}
