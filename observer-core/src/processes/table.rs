//! The live processes and the indexes over them, and the memory of the dead.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{HELPER_OF_MAX, LINEAGE_STEPS_MAX};
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::processes::entry::Entry;
use crate::processes::tombstones::Tombstones;
use crate::session::Home;

/// What is known of the process that an input names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the map.
    Live,
    /// Not in the map, and not known to be dead.
    Unknown,
    /// Ended, or so old that another process has its tgid.
    Dead,
    /// Its tgid belongs to this older process in the map: that one is gone.
    Reused(ProcessKey),
}

/// Live processes by tgid: one at most by construction.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_tgid: BTreeMap<Tgid, Box<Entry>>,
    /// (ancestor by birth, process), for each process with one.
    lineage: BTreeSet<(Tgid, Tgid)>,
    /// How many live processes have this parent, which need not be in the map itself.
    children: BTreeMap<ProcessKey, u32>,
    dead: Tombstones,
    /// `helper_of` was longer than its bound.
    pub helper_of_dropped: u64,
}

impl Table {
    pub fn standing(&self, key: ProcessKey) -> Standing {
        match self.by_tgid.get(&key.tgid) {
            Some(entry) if entry.process.key == key => Standing::Live,
            Some(entry) if entry.process.key < key => Standing::Reused(entry.process.key),
            Some(_) => Standing::Dead,
            None if self.dead.covers(key) => Standing::Dead,
            None => Standing::Unknown,
        }
    }

    pub fn len(&self) -> usize {
        self.by_tgid.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_tgid.values().map(|entry| &**entry)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.by_tgid.values_mut().map(|entry| &mut **entry)
    }

    pub fn by_tgid(&self, tgid: Tgid) -> Option<&Entry> {
        self.by_tgid.get(&tgid).map(|entry| &**entry)
    }

    pub fn get(&self, key: ProcessKey) -> Option<&Entry> {
        self.by_tgid(key.tgid).filter(|entry| entry.process.key == key)
    }

    pub fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Entry> {
        self.by_tgid.get_mut(&key.tgid).map(|entry| &mut **entry).filter(|entry| entry.process.key == key)
    }

    /// Whether this process is known to have ended.
    pub fn is_dead(&self, key: ProcessKey) -> bool {
        matches!(self.standing(key), Standing::Dead | Standing::Reused(_))
            && key.start_boottime != BootTime(0)
    }

    /// Puts a process in; the caller has made sure that its tgid is free.
    pub fn insert(&mut self, mut entry: Box<Entry>, lineage: Option<ProcessKey>) {
        let key = entry.process.key;
        self.count_child(entry.process.parent, true);
        entry.process.lineage = self.above(key, lineage);
        if let Some(above) = entry.process.lineage {
            self.lineage.insert((above.tgid, key.tgid));
        }
        self.by_tgid.insert(key.tgid, entry);
    }

    /// `above`, if it lives and started before `key`: so that no chain of ancestors can close.
    fn above(&self, key: ProcessKey, above: Option<ProcessKey>) -> Option<ProcessKey> {
        above.filter(|&above| older(above, key) && self.get(above).is_some())
    }

    /// The birth record of a process that a row had told of before: its creator is its ancestor by birth.
    pub fn set_lineage(&mut self, key: ProcessKey, creator: ProcessKey) -> bool {
        let Some(above) = self.above(key, Some(creator)) else { return false };
        let Some(entry) = self.get_mut(key) else { return false };
        let before = entry.process.lineage.replace(above);
        if before == Some(above) {
            return false;
        }
        if let Some(before) = before {
            self.lineage.remove(&(before.tgid, key.tgid));
        }
        self.lineage.insert((above.tgid, key.tgid));
        true
    }

    /// The parent as the kernel has it is another.
    pub fn reparented(&mut self, from: ProcessKey, to: ProcessKey) {
        self.count_child(from, false);
        self.count_child(to, true);
    }

    fn count_child(&mut self, parent: ProcessKey, more: bool) {
        if more {
            let count = self.children.entry(parent).or_default();
            *count = count.saturating_add(1);
        } else if let Some(count) = self.children.get_mut(&parent) {
            *count -= 1;
            if *count == 0 {
                self.children.remove(&parent);
            }
        }
    }

    /// Whether a live process has this one as its parent.
    pub fn has_children(&self, key: ProcessKey) -> bool {
        self.children.contains_key(&key)
    }

    /// (parent, how many live processes have it): what the invariant checker recounts.
    pub fn child_counts(&self) -> &BTreeMap<ProcessKey, u32> {
        &self.children
    }

    /// (ancestor by birth, process): what the invariant checker rebuilds.
    pub fn lineage_index(&self) -> &BTreeSet<(Tgid, Tgid)> {
        &self.lineage
    }

    /// Takes a process out and remembers it as dead. Those below it by birth go to its own ancestor, marked with
    /// its home; they are named in the answer.
    pub fn remove(&mut self, key: ProcessKey, at: BootTime) -> Option<(Box<Entry>, Vec<ProcessKey>)> {
        self.get(key)?;
        let entry = self.by_tgid.remove(&key.tgid)?;
        self.dead.add(key, at);
        self.count_child(entry.process.parent, false);
        let above = entry.process.lineage;
        if let Some(above) = above {
            self.lineage.remove(&(above.tgid, key.tgid));
        }
        let below: Vec<Tgid> = self.below(key.tgid).collect();
        let home = entry.member.as_ref().filter(|member| !member.wrapper).map(|member| &member.home);
        let mut orphans = Vec::with_capacity(below.len());
        for tgid in below {
            self.lineage.remove(&(key.tgid, tgid));
            if let Some(above) = above {
                self.lineage.insert((above.tgid, tgid));
            }
            let Some(child) = self.by_tgid.get_mut(&tgid) else { continue };
            child.process.lineage = above;
            for home in entry.helper_of.iter().chain(home) {
                self.helper_of_dropped += u64::from(remember(&mut child.helper_of, home));
            }
            orphans.push(child.process.key);
        }
        Some((entry, orphans))
    }

    /// A process that was never in the map is dead.
    pub fn bury(&mut self, key: ProcessKey, at: BootTime) {
        self.dead.add(key, at);
    }

    /// The dead that were forgotten before their time.
    pub fn tombstones_dropped(&self) -> u64 {
        self.dead.dropped
    }

    /// Those whose nearest live ancestor by birth this is.
    pub fn below(&self, tgid: Tgid) -> impl Iterator<Item = Tgid> {
        self.lineage.range((tgid, Tgid(0))..=(tgid, Tgid(u32::MAX))).map(|&(_, below)| below)
    }

    pub fn has_below(&self, tgid: Tgid) -> bool {
        self.below(tgid).next().is_some()
    }

    /// The live ancestors by birth, nearest first; at most [`LINEAGE_STEPS_MAX`].
    pub fn ancestors(&self, entry: &Entry) -> impl Iterator<Item = &Entry> {
        let up = |entry: &Entry| entry.process.lineage.and_then(|key| self.get(key));
        core::iter::successors(up(entry), move |entry| up(entry)).take(LINEAGE_STEPS_MAX)
    }
}

/// Ancestors start before their descendants.
pub(crate) fn older(above: ProcessKey, below: ProcessKey) -> bool {
    (above.start_boottime, above.tgid) < (below.start_boottime, below.tgid)
}

fn remember(homes: &mut Vec<Arc<Home>>, home: &Arc<Home>) -> bool {
    if homes.contains(home) {
        return false;
    }
    let full = homes.len() >= HELPER_OF_MAX;
    if full {
        homes.remove(0);
    }
    homes.push(Arc::clone(home));
    full
}
