//! Processes that a rule admits to a home that has too many candidates for them, in the order in which they are considered
//! again: that in which they were left out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::model::ids::ProcessKey;
use crate::model::session::Home;

/// What a candidate is in its home. There may be so many of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// It may be the primary.
    Program,
    /// It is a wrapper that may be a root, or run for one.
    Wrapper,
    /// Something else of the home is above it.
    Helper,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Program, Self::Wrapper, Self::Helper];

    /// Returns what a candidate is. `is_root`: it is a root, or may run for one.
    pub fn of(is_root: bool, is_wrapper: bool) -> Self {
        match (is_root, is_wrapper) {
            (true, false) => Self::Program,
            (true, true) => Self::Wrapper,
            (false, _) => Self::Helper,
        }
    }
}

/// Where a process was left out.
#[derive(Clone, Debug)]
struct Place {
    home: Arc<Home>,
    part: Part,
    number: u64,
}

/// The processes that were left out, each of one home.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    by_process: BTreeMap<ProcessKey, Place>,
    /// Those of each home, the first first.
    by_home: BTreeMap<Arc<Home>, BTreeSet<(Part, u64, ProcessKey)>>,
    /// The number of the next one.
    next: u64,
}

impl LeftOut {
    /// Returns whether `key` was left out.
    pub fn has(&self, key: ProcessKey) -> bool {
        self.by_process.contains_key(&key)
    }

    /// Returns whether any process was left out of `home`.
    pub fn has_any(&self, home: &Home) -> bool {
        self.by_home.contains_key(home)
    }

    /// Returns the homes that left out processes that may be primaries, each with the first of them.
    pub fn programs(&self) -> impl Iterator<Item = (&Arc<Home>, ProcessKey)> {
        let first = |left_out: &BTreeSet<(Part, u64, ProcessKey)>| {
            left_out.first().filter(|(part, ..)| *part == Part::Program).map(|&(.., key)| key)
        };
        self.by_home.iter().filter_map(move |(home, left_out)| Some((home, first(left_out)?)))
    }

    /// Returns every process that was left out.
    pub fn processes(&self) -> impl Iterator<Item = ProcessKey> {
        self.by_process.keys().copied()
    }

    /// Returns the number of the next process that is left out.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Returns the first process that was left out of `home` as `part`, if its number is less than `end`.
    pub fn first_before(&self, home: &Home, part: Part, end: u64) -> Option<ProcessKey> {
        let from = (part, 0, ProcessKey::default());
        let &(of, number, key) = self.by_home.get(home)?.range(from..).next()?;
        (of == part && number < end).then_some(key)
    }

    /// Records that `key` was left out of `home`.
    pub fn add(&mut self, key: ProcessKey, home: &Arc<Home>, part: Part) {
        self.remove(key);
        let number = self.next;
        self.next += 1;
        self.by_home.entry(Arc::clone(home)).or_default().insert((part, number, key));
        self.by_process.insert(key, Place { home: Arc::clone(home), part, number });
    }

    /// Records that `key` is a candidate, elsewhere or dead, or that no rule admits it.
    pub fn remove(&mut self, key: ProcessKey) {
        let Some(Place { home, part, number }) = self.by_process.remove(&key) else { return };
        let Some(of_home) = self.by_home.get_mut(&home) else { return };
        of_home.remove(&(part, number, key));
        if of_home.is_empty() {
            self.by_home.remove(&home);
        }
    }
}
