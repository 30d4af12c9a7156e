//! The memory of processes that ended, so that a late row or record does not put them into the map again.

use alloc::collections::{BTreeMap, VecDeque};

use crate::limits::{TOMBSTONE_NS, TOMBSTONES_MAX};
use crate::model::ids::{BootTime, ProcessKey, Tgid};

/// Processes that are known to have ended, each for [`TOMBSTONE_NS`].
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    /// The start of the youngest dead process of each tgid. An older one of the same tgid is dead as well.
    started: BTreeMap<Tgid, BootTime>,
    /// In the order of insertion, with the time of insertion.
    queue: VecDeque<(BootTime, ProcessKey)>,
    /// Processes that were forgotten before their time.
    pub dropped: u64,
}

impl Tombstones {
    /// Returns whether `key` is known to have ended.
    pub fn covers(&self, key: ProcessKey) -> bool {
        self.started.get(&key.tgid).is_some_and(|&start| key.start_boottime <= start)
    }

    /// Adds a process that ended, and forgets those whose time is over.
    pub fn add(&mut self, key: ProcessKey, at: BootTime) {
        while let Some(&(added, oldest)) = self.queue.front() {
            let young = at.since(added) < TOMBSTONE_NS;
            if young && self.queue.len() < TOMBSTONES_MAX {
                break;
            }
            self.dropped += u64::from(young);
            self.queue.pop_front();
            if self.started.get(&oldest.tgid) == Some(&oldest.start_boottime) {
                self.started.remove(&oldest.tgid);
            }
        }
        let start = self.started.entry(key.tgid).or_default();
        *start = key.start_boottime.max(*start);
        self.queue.push_back((at, key));
    }
}
