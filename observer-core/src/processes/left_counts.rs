//! The sessions that ended a moment ago, and wait until it is counted what they left.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::limits::{DESCENDANTS_COUNTED_MAX, LEFT_COUNTS_MAX};
use crate::model::change::{Request, Sink};
use crate::model::death::DeathKind;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::left::FormerSession;
use crate::model::process::Process;

/// A session that ended a moment ago, of which something lived then.
#[derive(Debug)]
pub(crate) struct PendingCount {
    pub former: Arc<FormerSession>,
    /// As it was when it ended.
    pub primary: Box<Process>,
    pub death: DeathKind,
    pub due: BootTime,
    /// What lost the primary, or another one of these, as its nearest ancestor by birth.
    pub tops: BTreeSet<ProcessKey>,
}

/// The sessions that wait to be counted.
#[derive(Debug, Default)]
pub(crate) struct LeftCounts {
    by_primary: BTreeMap<ProcessKey, PendingCount>,
    by_due: BTreeSet<(BootTime, ProcessKey)>,
    /// A reading of the memory was requested, and has not ended.
    is_reading: bool,
}

impl LeftCounts {
    pub fn add(&mut self, pending: PendingCount) {
        let key = pending.former.primary;
        self.by_due.insert((pending.due, key));
        self.by_primary.insert(key, pending);
    }

    fn remove(&mut self, key: ProcessKey) -> Option<PendingCount> {
        let pending = self.by_primary.remove(&key)?;
        self.by_due.remove(&(pending.due, key));
        Some(pending)
    }

    /// A process ended that `former` had left: those below it are counted in its place.
    pub fn replace(&mut self, former: &Arc<FormerSession>, ended: ProcessKey, orphans: &[ProcessKey]) {
        let pending = self.by_primary.get_mut(&former.primary);
        let Some(pending) = pending.filter(|pending| Arc::ptr_eq(&pending.former, former)) else { return };
        pending.tops.remove(&ended);
        // One more than is counted tells that they are too many.
        let room = (DESCENDANTS_COUNTED_MAX + 1).saturating_sub(pending.tops.len());
        pending.tops.extend(orphans.iter().copied().take(room));
    }

    /// Drops a session if there are too many: the last of the user who has most. Returns whether it did.
    pub fn drop_excess(&mut self) -> bool {
        let excess = if self.by_primary.len() > LEFT_COUNTS_MAX { self.last_of_most() } else { None };
        excess.and_then(|key| self.remove(key)).is_some()
    }

    fn last_of_most(&self) -> Option<ProcessKey> {
        let mut of_user: BTreeMap<u32, (usize, (BootTime, ProcessKey))> = BTreeMap::new();
        for &(due, key) in &self.by_due {
            let Some(pending) = self.by_primary.get(&key) else { continue };
            let (count, last) = of_user.entry(pending.former.home.uid).or_insert((0, (due, key)));
            (*count, *last) = (*count + 1, (due, key));
        }
        of_user.into_values().max_by_key(|&(count, _)| count).map(|(_, (_, key))| key)
    }

    /// When a tick is due.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        self.by_due.first().filter(|_| !self.is_reading).map(|&(due, _)| due)
    }

    /// Requests a reading of the memory, if a session is to be counted at `now`.
    pub fn tick(&mut self, now: BootTime, sink: &mut dyn Sink) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.is_reading = true;
            sink.request(Request::ResidentPages);
        }
    }

    /// A reading ended that began at `began`: takes the next session that it is late enough for.
    pub fn take_due(&mut self, began: BootTime) -> Option<PendingCount> {
        self.is_reading = false;
        let &(_, key) = self.by_due.first().filter(|&&(due, _)| due <= began)?;
        self.remove(key)
    }
}
