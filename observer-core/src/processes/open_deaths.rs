//! Deaths that are known and not complete.

use alloc::collections::BTreeMap;

use crate::model::cost::ProcessUsage;
use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};

/// A death that may lack a mark of the kernel.
#[derive(Clone, Debug)]
pub(crate) struct OpenDeath {
    pub death: Death,
    /// What the process used.
    pub usage: ProcessUsage,
    /// The process led a POSIX session.
    pub led_session: bool,
}

/// The deaths that wait. Their processes are in the map.
#[derive(Debug, Default)]
pub(crate) struct OpenDeaths(BTreeMap<ProcessKey, OpenDeath>);

impl OpenDeaths {
    /// Whether the death of this process waits.
    pub fn has(&self, key: ProcessKey) -> bool {
        !self.0.is_empty() && self.0.contains_key(&key)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn add(&mut self, key: ProcessKey, open: OpenDeath) {
        self.0.insert(key, open);
    }

    pub fn remove(&mut self, key: ProcessKey) -> Option<OpenDeath> {
        self.0.remove(&key)
    }

    /// The first of the deaths.
    pub fn first(&self) -> Option<(ProcessKey, BootTime)> {
        self.0.iter().map(|(&key, open)| (key, open.death.at)).min_by_key(|&(_, at)| at)
    }

    /// When the last of them was.
    pub fn last(&self) -> Option<BootTime> {
        self.0.values().map(|open| open.death.at).max()
    }
}
