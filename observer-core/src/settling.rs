//! Processes that moved into another home, each with the moment from which it counts as settled there.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::model::ids::{BootTime, ProcessKey};

/// At most one moment for each live process, ordered by time.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    by_process: BTreeMap<ProcessKey, BootTime>,
    due: BTreeSet<(BootTime, ProcessKey)>,
}

impl Settling {
    /// Whether `key` is on its way into a home.
    pub fn contains(&self, key: ProcessKey) -> bool {
        self.by_process.contains_key(&key)
    }

    /// The processes that are on their way, and when each is settled.
    pub fn iter(&self) -> impl Iterator<Item = (ProcessKey, BootTime)> {
        self.by_process.iter().map(|(&key, &due)| (key, due))
    }

    /// `key` is settled from `due` on, in place of any earlier moment.
    pub fn set(&mut self, key: ProcessKey, due: BootTime) {
        self.end(key);
        self.by_process.insert(key, due);
        self.due.insert((due, key));
    }

    /// `key` is on its way no longer; returns when it would have been settled.
    pub fn end(&mut self, key: ProcessKey) -> Option<BootTime> {
        let due = self.by_process.remove(&key)?;
        self.due.remove(&(due, key));
        Some(due)
    }

    /// When the next process is settled.
    pub fn next_due(&self) -> Option<BootTime> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Removes and returns a process that is settled by `now`.
    pub fn take_due(&mut self, now: BootTime) -> Option<ProcessKey> {
        let &(_, key) = self.due.first().filter(|&&(due, _)| due <= now)?;
        self.end(key);
        Some(key)
    }
}
