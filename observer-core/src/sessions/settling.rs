//! Processes that moved into another home, each with that home and the time from which it counts as settled there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;

/// Where a process settles.
#[derive(Debug)]
pub(crate) struct Stay {
    pub home: Arc<Home>,
    /// From when on it is settled.
    pub due: BootTime,
    /// From when on it would have been settled where it first went to, if it had stayed there.
    pub first_due: BootTime,
}

/// The settling processes, each with one time and one home.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    by_process: BTreeMap<ProcessKey, Stay>,
    due: BTreeSet<(BootTime, ProcessKey)>,
}

impl Settling {
    /// Returns the home in which `key` is settling.
    pub fn home_of(&self, key: ProcessKey) -> Option<Arc<Home>> {
        self.by_process.get(&key).map(|stay| Arc::clone(&stay.home))
    }

    /// Returns the time until which what `entry` started waits for it. Whoever goes on from home to home settles nowhere, and is
    /// waited for once.
    pub fn waited_for_until(&self, entry: &ProcessEntry) -> Option<BootTime> {
        // Most settle nowhere, and this is asked of each ancestor of a process.
        if !entry.settles {
            return None;
        }
        self.by_process.get(&entry.process.key).map(|stay| stay.first_due)
    }

    /// Returns the settling processes, each with the time from which it is settled.
    pub fn iter(&self) -> impl Iterator<Item = (ProcessKey, BootTime)> {
        self.by_process.iter().map(|(&key, stay)| (key, stay.due))
    }

    /// Sets where `key` settles.
    pub fn set(&mut self, table: &mut ProcessTable, key: ProcessKey, stay: Stay) {
        self.remove(table, key);
        let Some(entry) = table.get_mut(key) else { return };
        entry.settles = true;
        self.due.insert((stay.due, key));
        self.by_process.insert(key, stay);
    }

    /// Removes `key`. Returns where it would have been settled.
    pub fn remove(&mut self, table: &mut ProcessTable, key: ProcessKey) -> Option<Stay> {
        let stay = self.by_process.remove(&key)?;
        if let Some(entry) = table.get_mut(key) {
            entry.settles = false;
        }
        self.due.remove(&(stay.due, key));
        Some(stay)
    }

    /// Returns when the next process is settled.
    pub fn next_due(&self) -> Option<BootTime> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Removes and returns a process that is settled by `now`.
    pub fn take_due(&mut self, table: &mut ProcessTable, now: BootTime) -> Option<ProcessKey> {
        let &(_, key) = self.due.first().filter(|&&(due, _)| due <= now)?;
        self.remove(table, key);
        Some(key)
    }
}
