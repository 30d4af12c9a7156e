//! The processes of each mount namespace other than the host's, the oldest first.

use alloc::collections::BTreeSet;

use crate::model::ids::{BootTime, ProcessKey, Tgid};

/// The processes in mount namespaces other than the host's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// The number of the host's own; 0 if it is not known, and none is indexed.
    host: u32,
    members: BTreeSet<(u32, BootTime, Tgid)>,
}

impl Namespaces {
    /// Returns an index without processes. `host` is the number of the host's own namespace.
    pub fn new(host: u32) -> Self {
        Self { host, members: BTreeSet::new() }
    }

    /// Returns an index of the same host without processes.
    pub fn cleared(&self) -> Self {
        Self::new(self.host)
    }

    fn is_indexed(&self, mnt_ns: u32) -> bool {
        mnt_ns != 0 && self.host != 0 && mnt_ns != self.host
    }

    /// Records that `key` is in this namespace.
    pub fn add(&mut self, mnt_ns: u32, key: ProcessKey) {
        if self.is_indexed(mnt_ns) {
            self.members.insert((mnt_ns, key.start_boottime, key.tgid));
        }
    }

    /// Records that `key` is not in this namespace any more.
    pub fn remove(&mut self, mnt_ns: u32, key: ProcessKey) {
        if self.is_indexed(mnt_ns) {
            self.members.remove(&(mnt_ns, key.start_boottime, key.tgid));
        }
    }

    /// Returns the process in this namespace that started first.
    pub fn oldest(&self, mnt_ns: u32) -> Option<ProcessKey> {
        let mut members = self.members.range((mnt_ns, BootTime(0), Tgid(0))..);
        let &(of, start_boottime, tgid) = members.next()?;
        (of == mnt_ns).then_some(ProcessKey { tgid, start_boottime })
    }
}
