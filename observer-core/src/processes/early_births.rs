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
    forgotten: u64,
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
            self.forgotten += 1;
        }
    }

    /// Returns how many were forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Returns all of them.
    pub fn all(self) -> impl Iterator<Item = KnownBirth> {
        self.of_user.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ProcessKey;

    #[test]
    fn what_is_forgotten_is_of_the_user_who_has_most_and_is_counted() {
        let birth = |tgid| KnownBirth { key: ProcessKey::new(tgid, 1), above: ProcessKey::new(1, 1) };
        let mut births = EarlyBirths::default();
        births.add(1000, birth(7));
        for tgid in 0..BIRTHS_KNOWN_MAX as u32 + 2 {
            births.add(1001, birth(10 + tgid));
        }
        assert_eq!(births.forgotten(), 3);
        let all: Vec<KnownBirth> = births.all().collect();
        assert_eq!(all.len(), BIRTHS_KNOWN_MAX);
        assert!(all.contains(&birth(7)) && all.contains(&birth(10)));
    }
}
