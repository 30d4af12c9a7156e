//! The live processes and the indexes over them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::limits::{LINEAGE_STEPS_MAX, RELEASE_STEPS_MAX};
use crate::model::cost::ProcessUsage;
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::left::FormerSession;
use crate::model::process::{Process, WorkingDirectory};
use crate::processes::ended::Unreleased;
use crate::processes::entry::{LeftBehind, ProcessEntry};
use crate::processes::namespaces::Namespaces;
use crate::processes::tgid_map::TgidMap;
use crate::processes::tombstones::Tombstones;

/// What is known of the process with a given key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the map.
    Live,
    /// Not in the map, and not known to be dead.
    Unknown,
    /// It has ended: it is remembered as dead, or a younger process has its tgid.
    Dead,
    /// The map holds this older process with its tgid, which must have ended.
    Reused(ProcessKey),
}

/// The values of a process by which it is found.
#[derive(Clone, Copy)]
pub(crate) struct Indexed {
    has_long_path: bool,
    is_unread: bool,
    mnt_ns: u32,
}

impl Indexed {
    /// Returns the values of a process.
    pub fn of(process: &Process) -> Self {
        let WorkingDirectory { truncated, mnt_ns, .. } = process.cwd;
        Self { has_long_path: truncated, is_unread: process.is_unread(), mnt_ns }
    }
}

/// Adds `key` to `set` or removes it. `change`: whether it was a member, and whether it is one.
fn set_member(set: &mut BTreeSet<ProcessKey>, key: ProcessKey, change: (bool, bool)) {
    let (was_member, is_member) = change;
    if is_member && !was_member {
        set.insert(key);
    }
    if was_member && !is_member {
        set.remove(&key);
    }
}

/// The live processes, at most one for each tgid.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable {
    by_tgid: TgidMap<Box<ProcessEntry>>,
    /// (nearest live ancestor by birth, process), for each process that has one.
    lineage: BTreeSet<(Tgid, Tgid)>,
    /// The number of live processes that have this parent. The parent need not be in the map.
    children: BTreeMap<ProcessKey, u32>,
    tombstones: Tombstones,
    unreleased: Unreleased,
    namespaces: Namespaces,
    /// Processes in directories whose paths are too long to be read.
    long_paths: BTreeSet<ProcessKey>,
    /// Processes whose arguments are not known.
    unread: BTreeSet<ProcessKey>,
    /// Processes that were looked at as ancestors of others, or because all were looked at.
    visited: Cell<u64>,
}

impl ProcessTable {
    /// Returns an empty table. `host_mnt_ns` is the inode number of the host's own mount namespace, 0 if it is not known.
    pub fn new(host_mnt_ns: u32) -> Self {
        Self { namespaces: Namespaces::new(host_mnt_ns), ..Self::default() }
    }

    /// Returns what is known of `key`.
    pub fn standing(&self, key: ProcessKey) -> Standing {
        match self.by_tgid.get(key.tgid) {
            Some(entry) if entry.process.key == key => Standing::Live,
            Some(entry) if entry.process.key < key => Standing::Reused(entry.process.key),
            Some(_) => Standing::Dead,
            None if self.tombstones.covers(key) => Standing::Dead,
            None => Standing::Unknown,
        }
    }

    /// Returns the number of live processes.
    pub fn len(&self) -> usize {
        self.by_tgid.len()
    }

    /// Returns the live processes in the order of tgids.
    pub fn iter(&self) -> impl Iterator<Item = &ProcessEntry> {
        self.by_tgid.values().map(|entry| &**entry).inspect(|_| self.count_visits(1))
    }

    /// The same as [`Self::iter`], to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ProcessEntry> {
        self.by_tgid.values_mut().map(|entry| &mut **entry)
    }

    /// Returns the live process that has this tgid.
    pub fn by_tgid(&self, tgid: Tgid) -> Option<&ProcessEntry> {
        self.by_tgid.get(tgid).map(|entry| &**entry)
    }

    /// Returns the live process that has this key.
    pub fn get(&self, key: ProcessKey) -> Option<&ProcessEntry> {
        self.by_tgid(key.tgid).filter(|entry| entry.process.key == key)
    }

    /// The same as [`Self::get`], to be changed.
    pub fn get_mut(&mut self, key: ProcessKey) -> Option<&mut ProcessEntry> {
        self.by_tgid.get_mut(key.tgid).map(|entry| &mut **entry).filter(|entry| entry.process.key == key)
    }

    /// Returns whether this process is known to have ended.
    pub fn is_dead(&self, key: ProcessKey) -> bool {
        matches!(self.standing(key), Standing::Dead | Standing::Reused(_))
            && key.start_boottime != BootTime(0)
    }

    /// Inserts a process. Its tgid must be free.
    pub fn insert(&mut self, mut entry: Box<ProcessEntry>, lineage: Option<ProcessKey>) {
        let key = entry.process.key;
        self.add_child(entry.process.parent);
        entry.process.lineage = self.above(key, lineage);
        if let Some(above) = entry.process.lineage {
            self.lineage.insert((above.tgid, key.tgid));
        }
        self.namespaces.add(entry.process.cwd.mnt_ns, key);
        if entry.process.cwd.truncated {
            self.long_paths.insert(key);
        }
        if entry.process.is_unread() {
            self.unread.insert(key);
        }
        self.by_tgid.insert(key.tgid, entry);
    }

    /// Returns `above` if it lives and started before `key`. This rules out circles of ancestors.
    fn above(&self, key: ProcessKey, above: Option<ProcessKey>) -> Option<ProcessKey> {
        above.filter(|&above| starts_before(above, key) && self.get(above).is_some())
    }

    /// Makes `creator` the nearest live ancestor by birth of `key`. Returns whether that changed anything.
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

    /// Counts that one process has another parent.
    pub fn reparented(&mut self, from: ProcessKey, to: ProcessKey) {
        self.remove_child(from);
        self.add_child(to);
    }

    /// Records that the values of a process by which it is found became others.
    pub fn reindex(&mut self, key: ProcessKey, from: Indexed, to: Indexed) {
        set_member(&mut self.long_paths, key, (from.has_long_path, to.has_long_path));
        set_member(&mut self.unread, key, (from.is_unread, to.is_unread));
        if from.mnt_ns != to.mnt_ns {
            self.namespaces.remove(from.mnt_ns, key);
            self.namespaces.add(to.mnt_ns, key);
        }
    }

    /// Returns the processes whose arguments are not known.
    pub fn unread(&self) -> impl Iterator<Item = ProcessKey> {
        self.unread.iter().copied()
    }

    /// Returns the processes in directories whose paths are too long to be read.
    pub fn with_long_paths(&self) -> impl Iterator<Item = ProcessKey> {
        self.long_paths.iter().copied()
    }

    /// Returns the process in this mount namespace, another one than the host's, that started first.
    pub fn oldest_in_namespace(&self, mnt_ns: u32) -> Option<ProcessKey> {
        self.namespaces.oldest(mnt_ns)
    }

    /// Returns the index of mount namespaces, for the check of invariants.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    fn add_child(&mut self, parent: ProcessKey) {
        let count = self.children.entry(parent).or_default();
        *count = count.saturating_add(1);
    }

    fn remove_child(&mut self, parent: ProcessKey) {
        let Some(count) = self.children.get_mut(&parent) else { return };
        *count -= 1;
        if *count == 0 {
            self.children.remove(&parent);
        }
    }

    /// Returns whether a live process has this one as its parent.
    pub fn has_children(&self, key: ProcessKey) -> bool {
        self.children.contains_key(&key)
    }

    /// Returns the number of live children of each parent, for the check of invariants.
    pub fn child_counts(&self) -> &BTreeMap<ProcessKey, u32> {
        &self.children
    }

    /// Returns the index (ancestor by birth, process), for the check of invariants.
    pub fn lineage_index(&self) -> &BTreeSet<(Tgid, Tgid)> {
        &self.lineage
    }

    /// Removes a process and remembers it as dead. Its children by birth go to its own ancestor, and are left
    /// behind in its home; what it used and what ended below it is added to that ancestor. Returns the entry and those
    /// children.
    pub fn remove(
        &mut self,
        key: ProcessKey,
        at: BootTime,
        used: Option<ProcessUsage>,
    ) -> Option<(Box<ProcessEntry>, Vec<ProcessKey>)> {
        self.get(key)?;
        let entry = self.by_tgid.remove(key.tgid)?;
        self.tombstones.add(key, at);
        self.namespaces.remove(entry.process.cwd.mnt_ns, key);
        self.long_paths.remove(&key);
        self.unread.remove(&key);
        self.remove_child(entry.process.parent);
        let above = entry.process.lineage;
        if let Some(above) = above {
            self.lineage.remove(&(above.tgid, key.tgid));
            self.add_ended(&entry, above, used);
        }
        let children: Vec<Tgid> = self.children_by_birth(key.tgid).collect();
        let home = entry
            .candidacy
            .as_ref()
            .filter(|candidacy| !candidacy.is_wrapper)
            .map(|candidacy| &candidacy.home);
        let mut orphans = Vec::with_capacity(children.len());
        for tgid in children {
            self.lineage.remove(&(key.tgid, tgid));
            if let Some(above) = above {
                self.lineage.insert((above.tgid, tgid));
            }
            let Some(child) = self.by_tgid.get_mut(tgid) else { continue };
            child.process.lineage = above;
            let left_behind = home.map(|home| LeftBehind { home: Arc::clone(home), at });
            let inherited = || entry.left_behind.clone();
            child.left_behind = left_behind.or_else(inherited).or_else(|| child.left_behind.take());
            orphans.push(child.process.key);
        }
        Some((entry, orphans))
    }

    /// The process above these has ended: they go on without it. `former` is the session in which they were born, unless it was
    /// another one within that.
    pub fn leave(&mut self, orphans: &[ProcessKey], former: Option<&Arc<FormerSession>>) {
        let Some(former) = former else { return };
        for &orphan in orphans {
            if let Some(entry) = self.get_mut(orphan) {
                entry.left_of.get_or_insert_with(|| Arc::clone(former));
            }
        }
    }

    /// Adds what an ended process used to its nearest ancestor.
    fn add_ended(&mut self, entry: &ProcessEntry, above: ProcessKey, used: Option<ProcessUsage>) {
        let Some(ancestor) = self.get_mut(above) else { return };
        ancestor.ended.add(used, entry.ended);
        let Some(used) = used else { return };
        if self.is_within_candidate(above) {
            self.unreleased.add(entry.process.key, above, used.cpu_ns);
        }
    }

    /// Whether a process or one of its nearest ancestors is a candidate.
    fn is_within_candidate(&self, key: ProcessKey) -> bool {
        self.get(key).is_some_and(|entry| {
            let above = self.ancestors(entry).take(RELEASE_STEPS_MAX);
            core::iter::once(entry).chain(above).any(|entry| entry.candidacy.is_some())
        })
    }

    /// The kernel released an ended process, whose CPU time is exact now: adds what was missing to its nearest ancestor that
    /// lives.
    pub fn released(&mut self, key: ProcessKey, cpu_ns: u64) {
        let missing_ns = self.unreleased.release(key, cpu_ns);
        if missing_ns == 0 {
            return;
        }
        let mut above = self.unreleased.above(key);
        for _ in 0..LINEAGE_STEPS_MAX {
            let Some(ancestor) = above else { return };
            if let Some(entry) = self.get_mut(ancestor) {
                entry.ended.cpu_ns = entry.ended.cpu_ns.saturating_add(missing_ns);
                return;
            }
            above = self.unreleased.above(ancestor);
        }
    }

    /// Remembers a process that was never in the map as dead.
    pub fn add_tombstone(&mut self, key: ProcessKey, at: BootTime) {
        self.tombstones.add(key, at);
    }

    /// Returns the number of dead processes that were forgotten before their time.
    pub fn tombstones_dropped(&self) -> u64 {
        self.tombstones.dropped
    }

    /// Returns the processes whose nearest live ancestor by birth is `tgid`.
    pub fn children_by_birth(&self, tgid: Tgid) -> impl Iterator<Item = Tgid> {
        self.lineage.range((tgid, Tgid(0))..=(tgid, Tgid(u32::MAX))).map(|&(_, child)| child)
    }

    /// Returns the processes below `tgid` by birth, those above before those below; `None` if there are more than `max`.
    pub fn descendants(&self, tgid: Tgid, max: usize) -> Option<Vec<ProcessKey>> {
        let mut found: Vec<ProcessKey> = Vec::new();
        let (mut above, mut visited) = (tgid, 0);
        loop {
            let children = self.children_by_birth(above).filter_map(|tgid| self.by_tgid(tgid));
            found.extend(children.map(|child| child.process.key).take(max + 1 - found.len()));
            if found.len() > max {
                return None;
            }
            let Some(next) = found.get(visited) else { return Some(found) };
            (above, visited) = (next.tgid, visited + 1);
        }
    }

    /// Returns whether there is any process in [`Self::children_by_birth`].
    pub fn has_children_by_birth(&self, tgid: Tgid) -> bool {
        self.children_by_birth(tgid).next().is_some()
    }

    /// Returns the live ancestors by birth, nearest first, at most [`LINEAGE_STEPS_MAX`].
    pub fn ancestors(&self, entry: &ProcessEntry) -> impl Iterator<Item = &ProcessEntry> {
        core::iter::successors(self.above_of(entry), |entry| self.above_of(entry)).take(LINEAGE_STEPS_MAX)
    }

    /// Returns the nearest live ancestor by birth.
    pub fn above_of(&self, entry: &ProcessEntry) -> Option<&ProcessEntry> {
        self.visit(entry.process.lineage?)
    }

    /// The same as [`Self::get`], for a process that is an ancestor of another one.
    pub fn visit(&self, key: ProcessKey) -> Option<&ProcessEntry> {
        self.count_visits(1);
        self.get(key)
    }

    /// Counts processes that are looked at because of another one.
    pub fn count_visits(&self, count: u64) {
        self.visited.set(self.visited.get() + count);
    }

    /// Returns how many processes were looked at as ancestors of others, or because all were looked at.
    pub fn visited(&self) -> u64 {
        self.visited.get()
    }
}

/// Returns whether `above` started before `below`, as an ancestor must.
pub(crate) fn starts_before(above: ProcessKey, below: ProcessKey) -> bool {
    (above.start_boottime, above.tgid) < (below.start_boottime, below.tgid)
}
