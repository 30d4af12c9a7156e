//! What ended processes used, added to the process below which they were born.

use alloc::collections::VecDeque;

use crate::limits::UNRELEASED_MAX;
use crate::model::cost::{Cost, ProcessUsage};
use crate::model::ids::ProcessKey;
use crate::processes::tgid_map::TgidMap;

/// The descendants by birth of a process that have ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EndedDescendants {
    /// Their number.
    pub processes: u32,
    /// Their CPU time, ns.
    pub cpu_ns: u64,
    /// The most pages that one of them had.
    pub max_rss_pages: u64,
}

impl EndedDescendants {
    /// Adds a process that ended, and those that had ended below it. `own` is what it used itself, if that is known.
    pub fn add(&mut self, own: Option<ProcessUsage>, below: Self) {
        // The kernel's own sum of those that the process waited for is left out: what their release makes exact is added on its
        // own.
        let own = own.unwrap_or_default();
        self.processes = self.processes.saturating_add(below.processes).saturating_add(1);
        self.cpu_ns = self.cpu_ns.saturating_add(own.cpu_ns).saturating_add(below.cpu_ns);
        self.max_rss_pages = self.max_rss_pages.max(own.max_rss_pages).max(below.max_rss_pages);
    }

    /// Returns the descendants of this process and of one below it that lives.
    pub fn with(mut self, other: Self) -> Self {
        self.processes = self.processes.saturating_add(other.processes);
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.max_rss_pages = self.max_rss_pages.max(other.max_rss_pages);
        self
    }

    /// Returns these and a process that lives.
    pub fn and_live(mut self, max_rss_pages: u64) -> Self {
        self.max_rss_pages = self.max_rss_pages.max(max_rss_pages);
        self
    }

    /// Returns what a process used that has these descendants, of `born` that were born in all.
    pub fn cost(&self, own: ProcessUsage, born: Option<u32>) -> Cost {
        Cost {
            cpu_ns: own.cpu_ns,
            children_cpu_ns: self.cpu_ns.max(own.children_cpu_ns),
            max_rss_pages: self.max_rss_pages.max(own.max_rss_pages),
            processes: born,
        }
    }
}

/// Processes that ended a moment ago, and what was added for them to the processes above. When the kernel releases one, its CPU
/// time is exact. Those that nobody waits for are forgotten when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Unreleased {
    by_tgid: TgidMap<EndedProcess>,
    /// In the order of their ends.
    queue: VecDeque<ProcessKey>,
}

#[derive(Debug)]
struct EndedProcess {
    key: ProcessKey,
    /// The process to which its time was added.
    above: ProcessKey,
    cpu_ns: u64,
}

impl Unreleased {
    /// Adds a process that ended.
    pub fn add(&mut self, key: ProcessKey, above: ProcessKey, cpu_ns: u64) {
        if self.queue.len() >= UNRELEASED_MAX
            && let Some(oldest) = self.queue.pop_front()
            && self.get(oldest).is_some()
        {
            self.by_tgid.remove(oldest.tgid);
        }
        self.queue.push_back(key);
        self.by_tgid.insert(key.tgid, EndedProcess { key, above, cpu_ns });
    }

    /// Returns the process above an ended one.
    pub fn above(&self, key: ProcessKey) -> Option<ProcessKey> {
        self.get(key).map(|ended| ended.above)
    }

    /// Takes in the CPU time with which a process was released. Returns what has to be added to that of the processes above.
    pub fn release(&mut self, key: ProcessKey, cpu_ns: u64) -> u64 {
        let Some(ended) = self.by_tgid.get_mut(key.tgid).filter(|ended| ended.key == key) else { return 0 };
        let missing_ns = cpu_ns.saturating_sub(ended.cpu_ns);
        ended.cpu_ns = ended.cpu_ns.max(cpu_ns);
        missing_ns
    }

    fn get(&self, key: ProcessKey) -> Option<&EndedProcess> {
        self.by_tgid.get(key.tgid).filter(|ended| ended.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey::new(tgid, u64::from(tgid) * 10)
    }

    #[test]
    fn what_nobody_waited_for_counts_and_what_was_waited_for_counts_once() {
        let own = |cpu_ns, children_cpu_ns| ProcessUsage { cpu_ns, children_cpu_ns, max_rss_pages: cpu_ns };
        let mut child = EndedDescendants::default();
        child.add(Some(own(5, 0)), EndedDescendants::default());
        child.add(Some(own(7, 0)), EndedDescendants::default());
        let mut parent = EndedDescendants::default();
        // Whoever it waited for is below it already.
        parent.add(Some(own(100, 13)), child);
        assert_eq!((parent.processes, parent.cpu_ns, parent.max_rss_pages), (3, 112, 100));
        // The same with an end that was not observed.
        parent.add(None, child);
        assert_eq!((parent.processes, parent.cpu_ns), (6, 124));
        let cost = parent.cost(own(1, 200), Some(6));
        assert_eq!((cost.cpu_ns, cost.children_cpu_ns, cost.processes), (1, 200, Some(6)));
    }

    #[test]
    fn a_release_adds_what_was_missing_once() {
        let mut unreleased = Unreleased::default();
        unreleased.add(key(2), key(1), 30);
        assert_eq!(unreleased.above(key(2)), Some(key(1)));
        assert_eq!((unreleased.release(key(2), 50), unreleased.release(key(2), 50)), (20, 0));
        assert_eq!(unreleased.release(ProcessKey::new(2, 999), 50), 0, "another process with its tgid");
        assert_eq!(unreleased.release(key(3), 50), 0);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut unreleased = Unreleased::default();
        let last = UNRELEASED_MAX as u32 + 1;
        for tgid in 1..=last {
            unreleased.add(key(tgid), key(1), 0);
        }
        assert_eq!((unreleased.above(key(1)), unreleased.queue.len()), (None, UNRELEASED_MAX));
        assert_eq!(unreleased.by_tgid.len(), UNRELEASED_MAX);
        assert!(unreleased.above(key(2)).is_some() && unreleased.above(key(last)).is_some());
    }
}
