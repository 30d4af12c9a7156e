//! Differences that a pass found and that no record has explained yet. A difference becomes drift when its
//! time is over: by then its record would have come out of the ring.

use alloc::collections::BTreeMap;

use crate::limits::SUSPECTS_MAX;
use crate::model::ids::{BootTime, ProcessKey};
use crate::processes::fields::Diff;

/// The unexplained differences of one process.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    due: BootTime,
    fields: Diff,
}

/// The unexplained differences of all processes.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    by_key: BTreeMap<ProcessKey, Suspect>,
    /// No suspect is due before this moment.
    soonest: Option<BootTime>,
    /// Differences that counted as drift at once, because there was no room to let them wait.
    pub dropped: u64,
}

impl Suspects {
    /// Lets `fields` of `key` wait for their record until `due`. Returns how many differences count as drift
    /// at once because there is no room.
    pub fn add(&mut self, key: ProcessKey, fields: Diff, due: BootTime) -> u64 {
        if fields.is_empty() {
            return 0;
        }
        if self.by_key.len() >= SUSPECTS_MAX && !self.by_key.contains_key(&key) {
            self.dropped += 1;
            return fields.count().into();
        }
        let suspect = self.by_key.entry(key).or_insert(Suspect { due, fields });
        suspect.fields |= fields;
        suspect.due = suspect.due.max(due);
        self.soonest = Some(self.soonest.map_or(due, |soonest| soonest.min(due)));
        0
    }

    /// Forgets all of them: a loss explains whatever differs.
    pub fn clear(&mut self) {
        self.by_key.clear();
    }

    /// A record explains these fields of one process.
    pub fn explain(&mut self, key: ProcessKey, fields: Diff) {
        if self.by_key.is_empty() {
            return;
        }
        if let Some(suspect) = self.by_key.get_mut(&key) {
            suspect.fields = suspect.fields.without(fields);
            if suspect.fields.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// A hint explains these fields of every process.
    pub fn explain_all(&mut self, fields: Diff) {
        self.by_key.retain(|_, suspect| {
            suspect.fields = suspect.fields.without(fields);
            !suspect.fields.is_empty()
        });
    }

    /// Removes the suspects that nothing has explained by `now`. Returns how many differences became drift.
    pub fn settle(&mut self, now: BootTime) -> u64 {
        if self.soonest.is_none_or(|soonest| soonest > now) {
            return 0;
        }
        let mut drift = 0;
        let mut soonest = None;
        self.by_key.retain(|_, suspect| {
            let waits = suspect.due > now;
            if waits {
                soonest = Some(soonest.map_or(suspect.due, |at: BootTime| at.min(suspect.due)));
            } else {
                drift += u64::from(suspect.fields.count());
            }
            waits
        });
        self.soonest = soonest;
        drift
    }

    /// When [`Self::settle`] is next due.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        self.soonest.filter(|_| !self.by_key.is_empty())
    }
}
