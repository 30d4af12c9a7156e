//! Byte strings that were made lately. The same programs start again and again, with the same paths and arguments:
//! their processes share one copy of each.

use alloc::vec::Vec;

use crate::input::{RawPath, join_path, path_is};
use crate::limits::{RECENT_BYTES_MAX, RECENT_SLOTS};
use crate::model::process::{Bytes, Env};

/// An odd number with no pattern, by which a number is multiplied so that each of its bits counts in the higher ones.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The strings of the last execs, rows and changes of directory. Longer ones than [`RECENT_BYTES_MAX`] are not kept.
#[derive(Debug, Default)]
pub(crate) struct RecentBytes {
    strings: Slots,
    /// Apart from the others: what is here was checked to be a path.
    paths: Slots,
    /// The environment of which nothing is kept.
    empty: Option<Env>,
}

/// At most one string for each value of a short hash; a new one replaces the one before. Empty before the first string.
#[derive(Debug, Default)]
struct Slots(Vec<Option<Bytes>>);

impl Slots {
    /// Returns the place of what has the hash of `bytes`. `None`: it is not kept.
    fn place(&mut self, bytes: &[u8]) -> Option<&mut Option<Bytes>> {
        if bytes.len() > RECENT_BYTES_MAX {
            return None;
        }
        if self.0.is_empty() {
            self.0.resize(RECENT_SLOTS, None);
        }
        self.0.get_mut(hash(bytes) as usize % RECENT_SLOTS)
    }
}

impl RecentBytes {
    /// Returns a copy of `bytes`.
    pub fn share(&mut self, bytes: &[u8]) -> Bytes {
        match self.strings.place(bytes) {
            Some(Some(recent)) if **recent == *bytes => Bytes::clone(recent),
            Some(slot) => Bytes::clone(slot.insert(Bytes::from(bytes))),
            None => Bytes::from(bytes),
        }
    }

    /// Returns the path of `raw`, as [`join_path`] makes it.
    pub fn path(&mut self, raw: RawPath<'_>) -> Option<Bytes> {
        match self.paths.place(raw.components) {
            Some(Some(recent)) if path_is(raw, recent) => Some(Bytes::clone(recent)),
            Some(slot) => join_path(raw).map(|path| Bytes::clone(slot.insert(path))),
            None => join_path(raw),
        }
    }

    /// Returns an environment of these variables.
    pub fn env<'a>(&mut self, variables: impl Iterator<Item = &'a [u8]>) -> Env {
        let mut variables = variables.peekable();
        if variables.peek().is_none() {
            return Env::clone(self.empty.get_or_insert_with(|| Env::from([])));
        }
        variables.map(|variable| self.share(variable)).collect()
    }
}

/// Returns a number that differs between most strings. Who makes strings of one number makes copies, and no harm.
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(MIX);
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    // The highest bits depend on all others.
    rest.iter().fold(hash, |hash, &byte| mix(hash, byte.into())) >> 32
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;

    use super::*;

    #[test]
    fn equal_strings_are_one_copy_until_another_takes_their_place() {
        let mut recent = RecentBytes::default();
        let first = recent.share(b"/usr/bin/true");
        assert!(Arc::ptr_eq(&first, &recent.share(b"/usr/bin/true")));
        let others: Vec<Vec<u8>> = (0..100_000_u32).map(|number| number.to_le_bytes().to_vec()).collect();
        for other in &others {
            assert_eq!(*recent.share(other), **other);
        }
        assert_eq!(*recent.share(b"/usr/bin/true"), *first);
        assert_eq!(recent.strings.0.len(), RECENT_SLOTS, "however many there were");
    }

    #[test]
    fn paths_are_those_of_join_path_and_one_copy() {
        let mut recent = RecentBytes::default();
        recent.share(b"/bin/");
        for components in [&b"true\0bin\0"[..], b"\0bin\0", b"", b"..\0bin\0", b"no end", &[b'x'; 5000]] {
            for flags in [0, observer_common::record::path_flag::FAULT] {
                let raw = RawPath { components, flags };
                assert_eq!(recent.path(raw), join_path(raw), "{components:?}, {flags}");
                assert_eq!(recent.path(raw), join_path(raw), "{components:?}, {flags}, again");
            }
        }
        let raw = RawPath { components: b"true\0bin\0", flags: 0 };
        let [first, second] = [recent.path(raw), recent.path(raw)].map(|path| path.expect("a path"));
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn long_strings_are_not_kept() {
        let mut recent = RecentBytes::default();
        let long = vec![b'x'; RECENT_BYTES_MAX + 1];
        assert_eq!(*recent.share(&long), *long);
        assert_eq!(recent.strings.0.iter().flatten().count(), 0);
    }

    #[test]
    fn environments_without_variables_are_one() {
        let mut recent = RecentBytes::default();
        let [first, second] = [recent.env([].into_iter()), recent.env([].into_iter())];
        assert!(Arc::ptr_eq(&first, &second));
        let env = recent.env([b"A=1".as_slice(), b"B=2"].into_iter());
        assert_eq!(env.iter().map(|variable| variable.to_vec()).collect::<Vec<_>>(), [b"A=1", b"B=2"]);
    }
}
