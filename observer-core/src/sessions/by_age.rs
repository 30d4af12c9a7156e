//! The order in which processes started.

use alloc::collections::BTreeSet;

use crate::model::ids::{BootTime, ProcessKey, Tgid};

/// Processes in the order of their starts.
pub(crate) type ByAge = BTreeSet<(BootTime, Tgid)>;

/// Returns the place of `key` in [`ByAge`].
pub(crate) const fn age(key: ProcessKey) -> (BootTime, Tgid) {
    (key.start_boottime, key.tgid)
}

/// Returns the key at a place in [`ByAge`].
pub(crate) const fn key_at((start_boottime, tgid): (BootTime, Tgid)) -> ProcessKey {
    ProcessKey { tgid, start_boottime }
}
