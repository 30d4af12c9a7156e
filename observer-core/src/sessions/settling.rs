//! Processes that moved into another home, each with that home and the time from which it counts as settled there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::session::Home;

/// The settling processes, each with one time and one home.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    by_process: BTreeMap<ProcessKey, (BootTime, Arc<Home>)>,
    due: BTreeSet<(BootTime, ProcessKey)>,
}

impl Settling {
    /// Returns the home in which `key` is settling.
    pub fn home_of(&self, key: ProcessKey) -> Option<Arc<Home>> {
        self.by_process.get(&key).map(|(_, home)| Arc::clone(home))
    }

    /// Returns the time from which `key` is settled.
    pub fn until(&self, key: ProcessKey) -> Option<BootTime> {
        self.by_process.get(&key).map(|&(until, _)| until)
    }

    /// Returns the settling processes, each with the time from which it is settled.
    pub fn iter(&self) -> impl Iterator<Item = (ProcessKey, BootTime)> {
        self.by_process.iter().map(|(&key, &(due, _))| (key, due))
    }

    /// Sets the time from which `key` is settled in `home`.
    pub fn set(&mut self, key: ProcessKey, due: BootTime, home: Arc<Home>) {
        self.remove(key);
        self.by_process.insert(key, (due, home));
        self.due.insert((due, key));
    }

    /// Removes `key`. Returns the time from which it would have been settled, and where.
    pub fn remove(&mut self, key: ProcessKey) -> Option<(BootTime, Arc<Home>)> {
        let (due, home) = self.by_process.remove(&key)?;
        self.due.remove(&(due, key));
        Some((due, home))
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
