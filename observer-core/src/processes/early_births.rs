//! Births that are kept until the sessions are known that there were before the daemon was started again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::limits::BIRTHS_KNOWN_MAX;
use crate::model::left::KnownBirth;

/// Births below processes that ended before the sessions were known that there were.
#[derive(Debug, Default)]
pub(crate) struct EarlyBirths {
    of_user: BTreeMap<u32, Vec<KnownBirth>>,
    len: usize,
}

impl EarlyBirths {
    /// Adds a birth below a process of `uid`. Where there are too many, the last of the user who has most is forgotten.
    pub fn add(&mut self, uid: u32, birth: KnownBirth) {
        self.of_user.entry(uid).or_default().push(birth);
        self.len += 1;
        if self.len > BIRTHS_KNOWN_MAX
            && let Some(most) = self.of_user.values_mut().max_by_key(|births| births.len())
        {
            most.pop();
            self.len -= 1;
        }
    }

    /// Returns all of them.
    pub fn all(self) -> impl Iterator<Item = KnownBirth> {
        self.of_user.into_values().flatten()
    }
}
