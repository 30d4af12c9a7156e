//! Finds the roots of a home: the candidates that are no helper of a session and have no other candidate of the
//! same home above them. It only reads.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{LAUNCHERS_MAX, LINEAGE_STEPS_MAX};
use crate::model::ids::ProcessKey;
use crate::model::process::{Process, Tty};
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
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Between {
    first: Option<Tty>,
    /// There are several.
    mixed: bool,
}

impl Between {
    pub fn add(&mut self, tty: Option<Tty>) {
        let Some(tty) = tty else { return };
        self.mixed |= *self.first.get_or_insert(tty) != tty;
    }

    pub fn add_all(&mut self, others: Self) {
        self.add(others.first);
        self.mixed |= others.mixed;
    }

    /// Returns the first of them.
    pub fn first(&self) -> Option<Tty> {
        self.first
    }

    /// Returns whether there are several.
    pub fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Returns whether one of them is another terminal than `tty`.
    pub fn has_other_than(&self, tty: Option<Tty>) -> bool {
        self.mixed || self.first.is_some_and(|first| Some(first) != tty)
    }
}

/// An ancestor of a process, as the process sees it.
pub(super) struct Above<'a> {
    pub entry: &'a ProcessEntry,
    /// The home of the session whose primary it is.
    held: Option<&'a Arc<Home>>,
    /// A process that no rule admits, and that has another terminal than this one, is between.
    is_cut_off: bool,
    /// The process has another terminal than this ancestor.
    has_own_terminal: bool,
}

impl Above<'_> {
    /// Returns whether what is between and the terminals let the process belong to this ancestor.
    pub fn is_linked(&self) -> bool {
        !self.is_cut_off && !self.has_own_terminal
    }
}

/// Returns the ancestors of `entry`, the nearest first.
fn lineage<'a>(
    table: &'a ProcessTable,
    homes: &'a Homes,
    entry: &'a ProcessEntry,
) -> impl Iterator<Item = Above<'a>> {
    let own = entry.process.tty;
    table.ancestors(entry).scan(Between::default(), move |between, above| {
        let tty = above.process.tty;
        let is_cut_off = between.has_other_than(tty);
        // A primary that left its home was admitted.
        let held = homes.home_led_by(above);
        if above.candidacy.is_none() && held.is_none() {
            between.add(tty);
        }
        Some(Above { entry: above, held, is_cut_off, has_own_terminal: own.is_some() && own != tty })
    })
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
    position_past(table, homes, entry, (home, primary), |_| {})
}

/// The same. `pass` is called with each ancestor up to the one that decides.
pub(super) fn position_past<'a>(
    table: &'a ProcessTable,
    homes: &'a Homes,
    entry: &'a ProcessEntry,
    (home, primary): (&Home, Option<ProcessKey>),
    mut pass: impl FnMut(&Above<'a>),
) -> LineagePosition {
    for above in lineage(table, homes, entry) {
        pass(&above);
        if above.is_cut_off {
            continue;
        }
        let key = above.entry.process.key;
        let is_here = may_be_above(above.entry, home) || Some(key) == primary;
        if is_here && (above.entry.is_wrapper() || !above.has_own_terminal) {
            return LineagePosition::Below(key);
        }
        if !above.has_own_terminal && above.held.is_some_and(|other| **other != *home) {
            return LineagePosition::Helper(key);
        }
    }
    LineagePosition::Root
}

/// Returns the root of `home` that `entry` may run for: nothing but wrappers is between.
pub(super) fn wrapping_root(
    table: &ProcessTable,
    homes: &Homes,
    entry: &ProcessEntry,
    home: &Home,
) -> Option<ProcessKey> {
    let mut at = entry;
    for _ in 0..LAUNCHERS_MAX {
        match position(table, homes, at, home, None) {
            LineagePosition::Below(above) => at = table.get(above).filter(|above| above.is_wrapper())?,
            LineagePosition::Root => return Some(at.process.key),
            LineagePosition::Helper(_) => return None,
        }
    }
    None
}

/// Returns the instance of `home` to which what is right above `entry` belongs, by the same rule as [`position`].
pub(super) fn instance_above<'a>(
    table: &'a ProcessTable,
    homes: &'a Homes,
    entry: &'a ProcessEntry,
    home: &Home,
) -> Option<&'a Arc<Home>> {
    for above in lineage(table, homes, entry).filter(|above| !above.is_cut_off) {
        let candidacy = above.entry.candidacy.as_ref().map(|candidacy| &candidacy.home);
        let here = candidacy.into_iter().chain(above.held).find(|above| above.is_sibling(home));
        if here.is_some() && (above.entry.is_wrapper() || !above.has_own_terminal) {
            return here;
        }
        if may_be_above(above.entry, home) || (above.held.is_some() && !above.has_own_terminal) {
            return None;
        }
    }
    None
}

/// Returns the nearest ancestor of `entry` that is a candidate or holds a session, and takes what it started for its
/// own by the rule of [`position`].
pub(super) fn nearest_above<'a>(
    table: &'a ProcessTable,
    homes: &'a Homes,
    entry: &'a ProcessEntry,
) -> Option<&'a ProcessEntry> {
    let takes = |above: &Above<'_>| {
        let Above { entry, is_cut_off, has_own_terminal, .. } = above;
        let is_of_session = entry.candidacy.is_some() || entry.holds_session;
        is_of_session && !is_cut_off && (entry.is_wrapper() || !has_own_terminal)
    };
    lineage(table, homes, entry).find(takes).map(|above| above.entry)
}

/// Returns the homes, other than `home`, of the candidates above `entry` that would take it for their helper if they were
/// primaries there, the nearest first.
pub(super) fn homes_above<'a>(
    table: &'a ProcessTable,
    homes: &'a Homes,
    entry: &'a ProcessEntry,
    home: &'a Home,
) -> impl Iterator<Item = &'a Arc<Home>> {
    let above = lineage(table, homes, entry).filter(Above::is_linked);
    let candidacies = above.filter_map(|above| above.entry.candidacy.as_ref());
    candidacies.filter(|it| !it.is_wrapper && *it.home != *home).map(|it| &it.home)
}

/// Returns whether `key`, once it is a candidate in the place of `home`, is what is right above `entry`, a candidate of
/// `home`, by the same rule as [`position`].
pub(super) fn would_be_above(
    table: &ProcessTable,
    homes: &Homes,
    entry: &ProcessEntry,
    home: &Home,
    (key, is_wrapper): (ProcessKey, bool),
) -> bool {
    // Ancestors are older.
    let lineage = lineage(table, homes, entry).take_while(|above| age(above.entry.process.key) >= age(key));
    for above in lineage.filter(|above| !above.is_cut_off) {
        let at = above.entry.process.key;
        if at == key {
            return is_wrapper || !above.has_own_terminal;
        }
        let is_here = may_be_above(above.entry, home);
        if (is_here && (above.entry.is_wrapper() || !above.has_own_terminal))
            || (!above.has_own_terminal && above.held.is_some())
        {
            return false;
        }
    }
    false
}

/// Returns whether the process that started `process` is a candidate of `home`, or a wrapper there.
pub(super) fn is_right_below_candidate(table: &ProcessTable, process: &Process, home: &Home) -> bool {
    process.lineage.and_then(|key| table.get(key)).is_some_and(|above| may_be_above(above, home))
}

/// Returns whether `process` may be what a launcher of `home` stands aside for: right above it, but for wrappers,
/// a candidate runs the same program.
pub(super) fn is_launched(table: &ProcessTable, process: &Process, home: &Home) -> bool {
    let parent = process.lineage.and_then(|key| table.get(key));
    let parents = core::iter::successors(parent, |above| table.get(above.process.lineage?));
    let launcher = parents
        .take_while(|above| may_be_above(above, home))
        .take(LINEAGE_STEPS_MAX)
        .find(|above| above.candidacy.as_ref().is_some_and(|candidacy| !candidacy.is_wrapper));
    launcher.is_some_and(|launcher| launcher.process.program == process.program)
}

/// The candidates of a home as a forest, each below the nearest candidate that it belongs to.
struct Forest<'a> {
    table: &'a ProcessTable,
    /// Those below none, oldest first.
    tops: Vec<ProcessKey>,
    below: BTreeMap<ProcessKey, Vec<ProcessKey>>,
}

/// Returns the roots of `home`, oldest first. Each candidate is placed for itself: elections find the same with
/// [`Lineages`](crate::sessions::lineages::Lineages).
pub(crate) fn roots(
    table: &ProcessTable,
    homes: &Homes,
    home: &Home,
    primary: Option<ProcessKey>,
) -> Vec<Root> {
    roots_by(table, homes, home, primary, |entry| position(table, homes, entry, home, primary))
}

/// Returns the roots of `home`, oldest first. `position` returns the place of a candidate.
pub(super) fn roots_by(
    table: &ProcessTable,
    homes: &Homes,
    home: &Home,
    primary: Option<ProcessKey>,
    position: impl FnMut(&ProcessEntry) -> LineagePosition,
) -> Vec<Root> {
    let forest = Forest::new(table, homes, home, primary, position);
    forest.tops.iter().map(|&key| forest.root(key)).collect()
}

/// Returns the candidates right below `primary`, which has the session of `home`, as the roots that they are without it,
/// oldest first, none of which stands aside as a launcher: a primary that is no root does not hand its session over while it
/// lives. `position` returns the place of a candidate.
pub(super) fn right_below(
    table: &ProcessTable,
    homes: &Homes,
    home: &Home,
    primary: ProcessKey,
    position: impl FnMut(&ProcessEntry) -> LineagePosition,
) -> Vec<Root> {
    let forest = Forest::new(table, homes, home, Some(primary), position);
    let root = |&key: &ProcessKey| Root { key, stand_in: forest.first_program(key), launcher: None };
    forest.below(primary).iter().map(root).collect()
}

/// Returns for each of `roots` the candidates of `home` that are it or below it. `position` returns the place of a candidate.
pub(super) fn trees(
    table: &ProcessTable,
    homes: &Homes,
    home: &Home,
    (primary, roots): (Option<ProcessKey>, &[ProcessKey]),
    position: impl FnMut(&ProcessEntry) -> LineagePosition,
) -> Vec<Vec<ProcessKey>> {
    let forest = Forest::new(table, homes, home, primary, position);
    roots.iter().map(|&root| forest.tree(root, home)).collect()
}

impl<'a> Forest<'a> {
    fn new(
        table: &'a ProcessTable,
        homes: &Homes,
        home: &Home,
        primary: Option<ProcessKey>,
        mut position: impl FnMut(&ProcessEntry) -> LineagePosition,
    ) -> Self {
        let mut forest = Self { table, tops: Vec::new(), below: BTreeMap::new() };
        let Some(state) = homes.by_home.get(home) else { return forest };
        let mut members = state.candidates.clone();
        // The youngest first, since wrappers of other users are found on the way up, and ancestors are older. What is
        // below a helper is found below it, and is in no tree of a root.
        while let Some(at) = members.pop_last() {
            let key = key_at(at);
            let Some(entry) = table.get(key) else { continue };
            match position(entry) {
                LineagePosition::Root => forest.tops.push(key),
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
        forest.tops.reverse();
        forest.below.values_mut().for_each(|below| below.reverse());
        forest
    }

    /// Returns the candidates of `home` that are `root` or below it.
    fn tree(&self, root: ProcessKey, home: &Home) -> Vec<ProcessKey> {
        let mut found = alloc::vec![root];
        let mut at = 0;
        while let Some(&key) = found.get(at) {
            found.extend(self.below(key));
            at += 1;
        }
        found.retain(|&key| self.table.get(key).is_some_and(|entry| is_candidate(entry, home)));
        found
    }

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
        self.table.get(key).is_some_and(ProcessEntry::is_wrapper)
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
                    continue;
                }
                // Which of several is meant is not known, and one of which it is not known whether it is the same program
                // may be one of them.
                let is_ambiguous = entry.is_assumed() && is_launchable(launcher, entry);
                if is_ambiguous || (stands_aside(launcher, entry) && found.replace(below).is_some()) {
                    return None;
                }
            }
        }
        found
    }
}

/// Returns whether `launcher` may stand aside for `below`, which it started, if that is the same program.
fn is_launchable(launcher: &ProcessEntry, below: &ProcessEntry) -> bool {
    launcher.process.tty == below.process.tty && launcher.process.exec_id != below.process.exec_id
}

/// Returns whether `launcher` stands aside for `below`, which it started: both are the same program on the same
/// terminal, and `below` is more than a fork.
pub(super) fn stands_aside(launcher: &ProcessEntry, below: &ProcessEntry) -> bool {
    is_launchable(launcher, below)
        && launcher.process.program.is_some()
        && launcher.process.program == below.process.program
}
