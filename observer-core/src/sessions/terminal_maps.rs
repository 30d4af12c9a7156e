//! Maps from terminals to numbers, of which each is made from a former one that stays as it was: one more terminal takes a few
//! nodes, and everything else is shared.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::model::process::Tty;

/// Bits of a terminal's place that one node decides.
const BITS: u32 = 3;
const BRANCHES: usize = 1 << BITS;
/// Levels of nodes. So many places are more than a kernel has terminals (20 bits of a device number).
const LEVELS: u32 = 7;

/// One of the maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TerminalMap(u32);

/// What all the maps share.
#[derive(Debug, Default)]
pub(super) struct TerminalMaps {
    /// The place of each terminal, in the order in which they came.
    places: BTreeMap<Tty, u32>,
    /// Each branch is a node, and in the last level a number; both count from 1, and 0 is none.
    nodes: Vec<[u32; BRANCHES]>,
}

/// Returns which branch leads to `place` in a level, of which the lowest is 0.
fn branch(place: u32, level: u32) -> usize {
    (place >> (BITS * level)) as usize % BRANCHES
}

impl TerminalMaps {
    /// Returns the number of `tty` in `map`.
    pub fn get(&self, map: TerminalMap, tty: Tty) -> Option<usize> {
        let place = *self.places.get(&tty)?;
        let mut at = map.0;
        for level in (0..LEVELS).rev() {
            let node = self.node(at)?;
            at = *node.get(branch(place, level))?;
        }
        (at as usize).checked_sub(1)
    }

    /// Returns `map` with `number` for `tty`, whatever it had.
    pub fn with(&mut self, map: TerminalMap, tty: Tty, number: usize) -> TerminalMap {
        let count = self.places.len();
        let place = *self.places.entry(tty).or_insert(u32::try_from(count).unwrap_or(u32::MAX));
        let first = self.nodes.len();
        let mut at = map.0;
        for level in (0..LEVELS).rev() {
            let mut node = self.node(at).copied().unwrap_or_default();
            let next = match level {
                0 => number + 1,
                // The node that is added next.
                _ => self.nodes.len() + 2,
            };
            if let Some(branch) = node.get_mut(branch(place, level)) {
                at = core::mem::replace(branch, u32::try_from(next).unwrap_or(0));
            }
            self.nodes.push(node);
        }
        TerminalMap(u32::try_from(first + 1).unwrap_or(0))
    }

    fn node(&self, at: u32) -> Option<&[u32; BRANCHES]> {
        self.nodes.get((at as usize).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tty(number: u32) -> Tty {
        Tty { dev: number, ..Tty::default() }
    }

    #[test]
    fn each_map_keeps_what_it_has_when_another_is_made_from_it() {
        let (mut maps, mut made) = (TerminalMaps::default(), alloc::vec![TerminalMap::default()]);
        // More terminals than one level, and two levels, of nodes have branches; each comes again.
        for at in 0..200 {
            let last = made.last().copied().unwrap_or_default();
            made.push(maps.with(last, tty(at % 100), at as usize));
        }
        for (count, &map) in made.iter().enumerate() {
            for number in 0..101 {
                let expected = (0..count).rev().find(|at| at % 100 == number);
                assert_eq!(maps.get(map, tty(number as u32)), expected, "{number} after {count}");
            }
        }
        assert!(maps.nodes.len() <= 200 * LEVELS as usize);
    }
}
