//! The processes whose memory is to be read, and how many of them each user has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use observer_core::ProcessKey;

/// What is known of a process that waits or is read.
struct Known {
    uid: u32,
    /// How often it could not be read.
    failures: u32,
}

/// See the module.
#[derive(Default)]
pub struct KnownReads {
    processes: HashMap<ProcessKey, Known>,
    of_user: BTreeMap<u32, usize>,
    /// The users, by how many processes they have.
    by_count: BTreeSet<(usize, u32)>,
}

impl KnownReads {
    /// How many processes there are.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether there is none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether this process is one of them.
    pub fn contains(&self, key: ProcessKey) -> bool {
        self.processes.contains_key(&key)
    }

    /// Adds a process of a user, which has not failed yet.
    pub fn add(&mut self, key: ProcessKey, uid: u32) {
        self.remove(key);
        self.processes.insert(key, Known { uid, failures: 0 });
        self.count(uid, |count| count + 1);
    }

    /// Removes a process.
    pub fn remove(&mut self, key: ProcessKey) {
        if let Some(known) = self.processes.remove(&key) {
            self.count(known.uid, |count| count - 1);
        }
    }

    /// Counts a failure of a process. Returns how many there were before; `None`: it is none of these processes.
    pub fn fails(&mut self, key: ProcessKey) -> Option<u32> {
        let known = self.processes.get_mut(&key)?;
        known.failures += 1;
        Some(known.failures - 1)
    }

    /// The user who has most of them, if that is more than `uid` would have with one more.
    pub fn largest_beside(&self, uid: u32) -> Option<u32> {
        let own = self.of_user.get(&uid).copied().unwrap_or(0);
        self.by_count.last().filter(|&&(count, _)| count > own + 1).map(|&(_, largest)| largest)
    }

    fn count(&mut self, uid: u32, change: impl Fn(usize) -> usize) {
        let before = self.of_user.remove(&uid).unwrap_or(0);
        self.by_count.remove(&(before, uid));
        let after = change(before);
        if after > 0 {
            self.of_user.insert(uid, after);
            self.by_count.insert((after, uid));
        }
    }
}
