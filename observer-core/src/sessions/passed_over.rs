//! Primaries that a rule admits to another home than that of their session, where they could be no session: each keeps
//! the one of the home that it left.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::model::ids::ProcessKey;
use crate::model::session::Home;

/// The processes that were passed over, each with the home that it is in.
#[derive(Debug, Default)]
pub(crate) struct PassedOver {
    by_process: BTreeMap<ProcessKey, Arc<Home>>,
    by_home: BTreeSet<(Arc<Home>, ProcessKey)>,
}

impl PassedOver {
    /// Returns whether `key` was passed over.
    pub fn has(&self, key: ProcessKey) -> bool {
        self.by_process.contains_key(&key)
    }

    /// Records that `key` was passed over in `home`.
    pub fn add(&mut self, key: ProcessKey, home: &Arc<Home>) {
        self.remove(key);
        self.by_process.insert(key, Arc::clone(home));
        self.by_home.insert((Arc::clone(home), key));
    }

    /// Records that `key` is elsewhere, dead, or a candidate.
    pub fn remove(&mut self, key: ProcessKey) {
        if let Some(home) = self.by_process.remove(&key) {
            self.by_home.remove(&(home, key));
        }
    }

    /// Returns the processes that were passed over in `home`, in the order of tgids.
    pub fn in_home(&self, home: &Arc<Home>) -> impl Iterator<Item = ProcessKey> {
        let from = (Arc::clone(home), ProcessKey::default());
        self.by_home.range(from..).take_while(move |(of, _)| of == home).map(|&(_, key)| key)
    }
}
