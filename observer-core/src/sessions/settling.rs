//! Processes that moved into another home, each with the time from which it counts as settled there.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::model::ids::{BootTime, ProcessKey};

/// The settling processes, each with one time.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    by_process: BTreeMap<ProcessKey, BootTime>,
    due: BTreeSet<(BootTime, ProcessKey)>,
}

impl Settling {
    /// Returns whether `key` is settling.
    pub fn contains(&self, key: ProcessKey) -> bool {
        self.by_process.contains_key(&key)
    }

    /// Returns the settling processes, each with the time from which it is settled.
    pub fn iter(&self) -> impl Iterator<Item = (ProcessKey, BootTime)> {
        self.by_process.iter().map(|(&key, &due)| (key, due))
    }

    /// Sets the time from which `key` is settled.
    pub fn set(&mut self, key: ProcessKey, due: BootTime) {
        self.remove(key);
        self.by_process.insert(key, due);
        self.due.insert((due, key));
    }

    /// Removes `key`. Returns the time from which it would have been settled.
    pub fn remove(&mut self, key: ProcessKey) -> Option<BootTime> {
        let due = self.by_process.remove(&key)?;
        self.due.remove(&(due, key));
        Some(due)
    }

    /// Returns when the next process is settled.
    pub fn next_due(&self) -> Option<BootTime> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Removes and returns a process that is settled by `now`.
    pub fn take_due(&mut self, now: BootTime) -> Option<ProcessKey> {
        let &(_, key) = self.due.first().filter(|&&(due, _)| due <= now)?;
        self.remove(key);
        Some(key)
    }
}
