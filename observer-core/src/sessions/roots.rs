//! Finds the roots of a home: the candidates that are no helper of a session and have no other candidate of the
//! same home above them. It only reads.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::limits::LAUNCHERS_MAX;
use crate::model::ids::ProcessKey;
use crate::model::process::Tty;
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::by_age::{age, key_at};
use crate::sessions::homes::{Homes, Root};

/// The position of a candidate among the others of its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineagePosition {
    /// No candidate of the home is above it, and it is no helper.
    Root,
    /// This candidate of the home is the nearest above it.
    Below(ProcessKey),
    /// It is a helper of this primary, whose session is of another home.
    Helper(ProcessKey),
}

/// Returns whether `entry` is a candidate of `home`.
pub(crate) fn is_candidate(entry: &ProcessEntry, home: &Home) -> bool {
    entry.candidacy.as_ref().is_some_and(|candidacy| *candidacy.home == *home)
}

/// Returns whether `entry` is a candidate of `home`, or a wrapper in the same place that is of another user: sudo
/// and su run the program of one user for another.
pub(crate) fn may_be_above(entry: &ProcessEntry, home: &Home) -> bool {
    entry.candidacy.as_ref().is_some_and(|candidacy| {
        *candidacy.home == *home || (candidacy.is_wrapper && candidacy.home.is_same_place(home))
    })
}

/// The terminals of the processes between one process and an ancestor that no rule admits, such as the shell in
/// the pane of a multiplexer.
#[derive(Default)]
struct Between {
    first: Option<Tty>,
    /// There are several.
    mixed: bool,
}

impl Between {
    fn add(&mut self, tty: Option<Tty>) {
        let Some(tty) = tty else { return };
        self.mixed |= *self.first.get_or_insert(tty) != tty;
    }

    /// Returns whether one of them is another terminal than `tty`.
    fn has_other_than(&self, tty: Option<Tty>) -> bool {
        self.mixed || self.first.is_some_and(|first| Some(first) != tty)
    }
}

/// Returns the position of `entry` among the candidates of `home`. `primary` is the home's primary, which counts
/// as a candidate also while it is elsewhere.
///
/// The nearest ancestor that is a candidate of the home, or the primary of any session, takes what it started for
/// its own, except what has a terminal of its own, and what runs below a process that no rule admits and that has
/// one. A wrapper may give another terminal to its program.
pub(crate) fn position(
    table: &ProcessTable,
    homes: &Homes,
    entry: &ProcessEntry,
    home: &Home,
    primary: Option<ProcessKey>,
) -> LineagePosition {
    let own = entry.process.tty;
    let mut between = Between::default();
    for above in table.ancestors(entry) {
        let (key, tty) = (above.process.key, above.process.tty);
        let is_here = may_be_above(above, home) || Some(key) == primary;
        let is_wrapper = above.candidacy.as_ref().is_some_and(|candidacy| candidacy.is_wrapper);
        let has_own_terminal = own.is_some() && own != tty;
        if !between.has_other_than(tty) {
            if is_here && (is_wrapper || !has_own_terminal) {
                return LineagePosition::Below(key);
            }
            if !has_own_terminal && homes.home_of_primary(key).is_some_and(|other| **other != *home) {
                return LineagePosition::Helper(key);
            }
        }
        if above.candidacy.is_none() {
            between.add(tty);
        }
    }
    LineagePosition::Root
}

/// The candidates of a home as a forest, each below the nearest candidate that it belongs to.
struct Forest<'a> {
    table: &'a ProcessTable,
    below: BTreeMap<ProcessKey, Vec<ProcessKey>>,
}

/// Returns the roots of `home`, oldest first.
pub(crate) fn roots(
    table: &ProcessTable,
    homes: &Homes,
    home: &Home,
    primary: Option<ProcessKey>,
) -> Vec<Root> {
    let Some(state) = homes.by_home.get(home) else { return Vec::new() };
    let mut forest = Forest { table, below: BTreeMap::new() };
    let mut tops: Vec<ProcessKey> = Vec::new();
    let mut members = state.candidates.clone();
    // The youngest first, since wrappers of other users are found on the way up, and ancestors are older. What is
    // below a helper is found below it, and is in no tree of a root.
    while let Some(at) = members.pop_last() {
        let key = key_at(at);
        let Some(entry) = table.get(key) else { continue };
        match position(table, homes, entry, home, primary) {
            LineagePosition::Root => tops.push(key),
            LineagePosition::Below(above) => {
                forest.below.entry(above).or_default().push(key);
                let is_of_other_user = Some(above) != primary && !state.candidates.contains(&age(above));
                if is_of_other_user {
                    members.insert(age(above));
                }
            }
            LineagePosition::Helper(_) => {}
        }
    }
    forest.below.values_mut().for_each(|below| below.reverse());
    tops.into_iter().rev().map(|key| forest.root(key)).collect()
}

impl Forest<'_> {
    fn root(&self, key: ProcessKey) -> Root {
        let Some(program) = self.first_program(key) else {
            return Root { key, stand_in: None, launcher: None };
        };
        let innermost = self.innermost(program);
        let launcher = (innermost != program).then_some(program);
        Root { key, stand_in: Some(innermost), launcher }
    }

    /// Returns the candidates right below `key`, oldest first.
    fn below(&self, key: ProcessKey) -> &[ProcessKey] {
        self.below.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    fn is_wrapper(&self, key: ProcessKey) -> bool {
        let candidacy = self.table.get(key).and_then(|entry| entry.candidacy.as_ref());
        candidacy.is_some_and(|candidacy| candidacy.is_wrapper)
    }

    /// Returns the oldest candidate that is no wrapper and has nothing but wrappers above it, `key` included.
    fn first_program(&self, key: ProcessKey) -> Option<ProcessKey> {
        let mut pending = alloc::vec![key];
        let mut found: Option<ProcessKey> = None;
        while let Some(key) = pending.pop() {
            if self.is_wrapper(key) {
                pending.extend(self.below(key));
            } else if found.is_none_or(|found| age(key) < age(found)) {
                found = Some(key);
            }
        }
        found
    }

    /// Returns the innermost process of the chain of launchers that begins with `key`: each started one process, by
    /// itself or by wrappers, that is the same program on the same terminal and has exec'd. What else it started
    /// does not matter.
    fn innermost(&self, key: ProcessKey) -> ProcessKey {
        let next = |&key: &ProcessKey| self.launched_by(key);
        core::iter::successors(Some(key), next).take(LAUNCHERS_MAX).last().unwrap_or(key)
    }

    /// Returns the one process for which `key` stands aside.
    fn launched_by(&self, key: ProcessKey) -> Option<ProcessKey> {
        let launcher = self.table.get(key)?;
        let mut found = None;
        let mut pending = alloc::vec![key];
        while let Some(at) = pending.pop() {
            for &below in self.below(at) {
                let Some(entry) = self.table.get(below).filter(|it| it.process.lineage == Some(at)) else {
                    continue;
                };
                if self.is_wrapper(below) {
                    pending.push(below);
                } else if stands_aside(launcher, entry) && found.replace(below).is_some() {
                    return None;
                }
            }
        }
        found
    }
}

/// Returns whether `launcher` stands aside for `below`, which it started: both are the same program on the same
/// terminal, and `below` is more than a fork.
fn stands_aside(launcher: &ProcessEntry, below: &ProcessEntry) -> bool {
    launcher.process.tty == below.process.tty
        && launcher.process.exec_id != below.process.exec_id
        && launcher.process.program.is_some()
        && launcher.process.program == below.process.program
}
