//! The processes that a pass of the task iterator shows.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use anyhow::Result;
use observer_common::chosen::{CHOSEN_WORDS, place};
use observer_core::Tgid;

use super::mapping::Mapping;

/// Processes to read. A pass may show others too, whose tgids have equal low bits.
pub struct Chosen([u64; CHOSEN_WORDS as usize]);

impl Chosen {
    /// All of them.
    pub const ALL: Self = Self([u64::MAX; CHOSEN_WORDS as usize]);
}

impl FromIterator<Tgid> for Chosen {
    fn from_iter<I: IntoIterator<Item = Tgid>>(tgids: I) -> Self {
        let mut words = [0; CHOSEN_WORDS as usize];
        for (word, bit) in tgids.into_iter().map(|tgid| place(tgid.0)) {
            if let Some(word) = words.get_mut(word as usize) {
                *word |= bit;
            }
        }
        Self(words)
    }
}

/// The map in which the program of the iterator finds them.
pub struct ChosenMap(Mapping);

impl ChosenMap {
    /// Maps the map `fd`.
    pub fn map(fd: BorrowedFd<'_>) -> Result<Self> {
        Mapping::new(fd, 0, CHOSEN_WORDS as usize * 8, true).map(Self)
    }

    /// Sets what the next read of the iterator by this thread shows.
    pub fn set(&self, Chosen(words): &Chosen) {
        for (index, &word) in words.iter().enumerate() {
            self.0.word(index * 8).store(word, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use observer_core::Tgid;

    use super::*;

    #[test]
    fn each_chosen_tgid_has_its_bit_and_its_neighbours_do_not() {
        for tgid in [1, 63, 64, 4711, 16_383, 16_384, 4_194_303] {
            let Chosen(words) = [Tgid(tgid)].into_iter().collect();
            let has = |tgid: u32| {
                let (word, bit) = place(tgid);
                words.get(word as usize).is_some_and(|word| word & bit != 0)
            };
            assert!(has(tgid) && !has(tgid - 1) && !has(tgid + 1), "{tgid}");
            assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 1, "{tgid}");
        }
    }
}
