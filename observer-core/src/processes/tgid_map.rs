//! A map from tgids. Each event is about one process, which is looked up a dozen times until the event is applied.
//! The kernel hands out tgids in order, so the processes of a moment are neighbours here, and a look-up is the same few
//! steps whatever the number of processes. A process with no neighbour at all takes some 800 bytes here.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::model::ids::Tgid;

/// Neighbouring tgids whose values stand in one leaf.
const LEAF: usize = 32;

/// Neighbouring leaves in one branch.
const BRANCH: usize = 64;

#[derive(Debug)]
struct Leaf<V> {
    used: usize,
    values: [Option<V>; LEAF],
}

#[derive(Debug)]
struct Branch<V> {
    used: usize,
    leaves: [Option<Box<Leaf<V>>>; BRANCH],
}

impl<V> Default for Leaf<V> {
    fn default() -> Self {
        Self { used: 0, values: [const { None }; LEAF] }
    }
}

impl<V> Default for Branch<V> {
    fn default() -> Self {
        Self { used: 0, leaves: [const { None }; BRANCH] }
    }
}

/// Values by tgid, in the order of tgids.
#[derive(Debug)]
pub(crate) struct TgidMap<V> {
    branches: BTreeMap<u32, Box<Branch<V>>>,
    len: usize,
    /// An empty leaf and an empty branch: short lives with nothing beside them take and leave the same one.
    spare_leaf: Option<Box<Leaf<V>>>,
    spare_branch: Option<Box<Branch<V>>>,
}

impl<V> Default for TgidMap<V> {
    fn default() -> Self {
        Self { branches: BTreeMap::new(), len: 0, spare_leaf: None, spare_branch: None }
    }
}

/// Returns where the value of `tgid` is: its branch, the leaf in it, and the place in that.
const fn place(Tgid(tgid): Tgid) -> (u32, usize, usize) {
    let tgid = tgid as usize;
    ((tgid / (LEAF * BRANCH)) as u32, tgid / LEAF % BRANCH, tgid % LEAF)
}

impl<V> TgidMap<V> {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the value of `tgid`.
    pub fn get(&self, tgid: Tgid) -> Option<&V> {
        let (branch, leaf, at) = place(tgid);
        self.branches.get(&branch)?.leaves.get(leaf)?.as_ref()?.values.get(at)?.as_ref()
    }

    /// The same as [`Self::get`], to be changed.
    pub fn get_mut(&mut self, tgid: Tgid) -> Option<&mut V> {
        let (branch, leaf, at) = place(tgid);
        self.branches.get_mut(&branch)?.leaves.get_mut(leaf)?.as_mut()?.values.get_mut(at)?.as_mut()
    }

    /// Sets the value of `tgid`. Returns the one before.
    pub fn insert(&mut self, tgid: Tgid, value: V) -> Option<V> {
        let (branch, leaf, at) = place(tgid);
        let spare = &mut self.spare_branch;
        let branch = self.branches.entry(branch).or_insert_with(|| spare.take().unwrap_or_default());
        let slot = branch.leaves.get_mut(leaf)?;
        if slot.is_none() {
            branch.used += 1;
        }
        let leaf = slot.get_or_insert_with(|| self.spare_leaf.take().unwrap_or_default());
        let before = leaf.values.get_mut(at)?.replace(value);
        if before.is_none() {
            leaf.used += 1;
            self.len += 1;
        }
        before
    }

    /// Removes the value of `tgid` and returns it.
    pub fn remove(&mut self, tgid: Tgid) -> Option<V> {
        let (number, leaf, at) = place(tgid);
        let branch = self.branches.get_mut(&number)?;
        let slot = branch.leaves.get_mut(leaf)?;
        let leaf = slot.as_mut()?;
        let value = leaf.values.get_mut(at)?.take()?;
        leaf.used -= 1;
        self.len -= 1;
        if leaf.used == 0 {
            self.spare_leaf = slot.take();
            branch.used -= 1;
            if branch.used == 0 {
                self.spare_branch = self.branches.remove(&number);
            }
        }
        Some(value)
    }

    /// Returns the values in the order of tgids.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        let leaves = self.branches.values().flat_map(|branch| branch.leaves.iter().flatten());
        leaves.flat_map(|leaf| leaf.values.iter().flatten())
    }

    /// The same as [`Self::values`], to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let leaves = self.branches.values_mut().flat_map(|branch| branch.leaves.iter_mut().flatten());
        leaves.flat_map(|leaf| leaf.values.iter_mut().flatten())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u8),
        Remove(u32),
        Change(u32, u8),
    }

    fn tgids() -> impl Strategy<Value = u32> {
        prop_oneof![0..200_u32, 4_190_000..4_194_304_u32, any::<u32>()]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (tgids(), any::<u8>()).prop_map(|(tgid, value)| Step::Insert(tgid, value)),
            tgids().prop_map(Step::Remove),
            (tgids(), any::<u8>()).prop_map(|(tgid, value)| Step::Change(tgid, value)),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_the_order_of_tgids(steps in steps()) {
            let (mut map, mut model) = (TgidMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(tgid, value) => {
                        prop_assert_eq!(map.insert(Tgid(tgid), value), model.insert(tgid, value));
                    }
                    Step::Remove(tgid) => prop_assert_eq!(map.remove(Tgid(tgid)), model.remove(&tgid)),
                    Step::Change(tgid, value) => {
                        let changed = map.get_mut(Tgid(tgid)).map(|slot| *slot = value);
                        prop_assert_eq!(changed, model.get_mut(&tgid).map(|slot| *slot = value));
                        prop_assert_eq!(map.get(Tgid(tgid)), model.get(&tgid));
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.values().eq(model.values()));
                prop_assert!(map.values_mut().map(|value| *value).eq(model.values().copied()));
            }
            for tgid in model.into_keys() {
                map.remove(Tgid(tgid));
            }
            prop_assert!(map.len() == 0 && map.branches.is_empty(), "nothing is left: {map:?}");
        }
    }
}
