//! What sessions left: processes that were born in a session and outlive it.
//!
//! When a primary ends, its children by birth are marked with its session; when a marked process ends, its children are. What
//! is below a marked process was born in the same session, unless it belongs to one that lives. So an end costs as much as the
//! process has children, and nothing is kept of a session once the last process is gone that it left.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::core::Core;
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::left::{FormerSession, Leftover};
use crate::processes::entry::ProcessEntry;
use crate::sessions::by_age::age;

impl Core {
    /// Returns the live processes that were born in a session which is over, the oldest first. What is in a session that lives
    /// is none of them.
    pub fn leftovers(&self) -> Vec<Leftover<'_>> {
        let mut entries: Vec<&ProcessEntry> = self.table.iter().collect();
        entries.sort_unstable_by_key(|entry| age(entry.process.key));
        let above_sessions = self.above_sessions();
        let mut former_by_tgid: BTreeMap<Tgid, &Arc<FormerSession>> = BTreeMap::new();
        let mut found = Vec::new();
        // Whoever is above another is older.
        for entry in entries {
            let process = &entry.process;
            if self.holds_session(process.key) {
                continue;
            }
            let above = process.lineage.and_then(|above| former_by_tgid.get(&above.tgid).copied());
            let Some(former) = entry.left_of.as_ref().or(above) else { continue };
            former_by_tgid.insert(process.key.tgid, former);
            if !self.open_deaths.has(process.key) {
                let runs_session = above_sessions.contains(&process.key);
                found.push(Leftover { process, former, rss_pages: entry.rss_pages, runs_session });
            }
        }
        found
    }

    /// Returns what is above the sessions that live.
    fn above_sessions(&self) -> BTreeSet<ProcessKey> {
        let mut above = BTreeSet::new();
        for (session, _) in self.sessions.iter(&self.table) {
            let Some(primary) = self.table.get(session.primary) else { continue };
            let ancestors = self.table.ancestors(primary).map(|ancestor| ancestor.process.key);
            // What is above one that is known is known.
            ancestors.take_while(|&key| above.insert(key)).for_each(drop);
        }
        above
    }

    /// Returns the session of the primary `key`, which ends at `at`. `None`: it is the primary of none.
    pub(super) fn former_session(&self, key: ProcessKey, at: BootTime) -> Option<Arc<FormerSession>> {
        let home = self.sessions.homes.home_of_primary(key)?;
        let session = &self.sessions.homes.slot(home)?.session;
        Some(session.former(&self.table.get(key)?.process, at))
    }

    /// Returns which of the processes `below` belong to no session but `former`: neither to one that lives, nor to what another one
    /// left. In `below`, each process comes after its ancestors.
    pub(super) fn born_in_no_other(&self, below: &[ProcessKey], former: &FormerSession) -> Vec<ProcessKey> {
        let mut others: BTreeSet<ProcessKey> = BTreeSet::new();
        let mut found = Vec::new();
        for &key in below {
            let Some(entry) = self.table.get(key) else { continue };
            let is_below_other = entry.process.lineage.is_some_and(|above| others.contains(&above));
            let is_of_other = entry.left_of.as_ref().is_some_and(|of| of.primary != former.primary);
            if is_below_other || is_of_other || self.holds_session(key) {
                others.insert(key);
            } else if !self.open_deaths.has(key) {
                found.push(key);
            }
        }
        found
    }

    /// Whether a process is the primary of a session that lives, or its wrapper.
    pub(super) fn holds_session(&self, key: ProcessKey) -> bool {
        !self.sessions.homes.held_by(key).is_empty()
    }
}
