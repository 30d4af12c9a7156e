//! Counts what sessions left, a moment after they ended. What ends with a session ends a little later: by the hang-up of its
//! terminal, or because it has no more input.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::core::Core;
use crate::limits::{DESCENDANTS_COUNTED_MAX, LEFT_KEYS_MAX, LEFT_SETTLE_NS};
use crate::model::change::{Change, Sink};
use crate::model::death::{Death, LeftProcesses};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::left::FormerSession;
use crate::model::process::Process;
use crate::processes::entry::ProcessEntry;
use crate::processes::left_counts::PendingCount;

impl Core {
    /// The primary of `former` has ended, and was above `orphans`: counts later what the session left.
    pub(super) fn count_later(
        &mut self,
        former: &Arc<FormerSession>,
        primary: &Process,
        death: &Death,
        orphans: &[ProcessKey],
    ) {
        self.left_counts.add(PendingCount {
            former: Arc::clone(former),
            primary: Box::new(primary.clone()),
            death: death.kind,
            due: self.now.after(LEFT_SETTLE_NS),
            tops: orphans.iter().copied().take(DESCENDANTS_COUNTED_MAX + 1).collect(),
        });
        self.counters.left_uncounted += u64::from(self.left_counts.drop_excess());
    }

    /// A process ends that a session left, and was above `orphans`: they are counted in its place.
    pub(super) fn count_orphans(&mut self, entry: &ProcessEntry, orphans: &[ProcessKey]) {
        if let Some(former) = &entry.left_of {
            self.left_counts.replace(former, entry.process.key, orphans);
        }
    }

    /// A reading of the memory ended that began at `began`: reports what the sessions left that had ended by then.
    pub(super) fn apply_resident_pages(&mut self, at: BootTime, began: BootTime, sink: &mut dyn Sink) {
        while let Some(pending) = self.left_counts.take_due(began) {
            let Some(keys) = self.still_left(&pending) else {
                self.counters.left_uncounted += 1;
                continue;
            };
            // As many were left at least, and nobody knows how many.
            if self.may_lack_births(pending.former.primary) {
                continue;
            }
            let left = self.left_processes(keys, sink);
            self.sessions.homes.set_left(&pending.former, &left);
            let PendingCount { former, primary, death, .. } = &pending;
            sink.change(at, Change::SessionLeft { former, primary, death: *death, left: &left });
        }
    }

    /// Returns what is left of a session, those above before those below. `None`: more than are counted.
    fn still_left(&self, pending: &PendingCount) -> Option<Vec<ProcessKey>> {
        let mut below: Vec<ProcessKey> = Vec::new();
        for &top in &pending.tops {
            if self.table.get(top).is_none() {
                continue;
            }
            below.push(top);
            let room = DESCENDANTS_COUNTED_MAX.checked_sub(below.len())?;
            below.extend(self.table.descendants(top.tgid, room)?);
        }
        Some(self.born_in_no_other(&below, &pending.former))
    }

    fn left_processes(&mut self, mut keys: Vec<ProcessKey>, sink: &mut dyn Sink) -> LeftProcesses {
        let pages = if keys.is_empty() { None } else { sink.resident_pages(&keys) };
        // Of what was born during the reading, or ended since, it has nothing. A live process has some.
        let rss_pages = pages.map(|pages| pages.into_iter().flatten().sum()).filter(|&pages| pages != 0);
        let rss_pages = if keys.is_empty() { Some(0) } else { rss_pages };
        let processes = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        self.counters.left_unnamed += keys.len().saturating_sub(LEFT_KEYS_MAX) as u64;
        keys.truncate(LEFT_KEYS_MAX);
        LeftProcesses { processes, rss_pages, keys: keys.into() }
    }
}
