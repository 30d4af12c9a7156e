//! Finds the roots of a home: the candidates with no other candidate of the same home among their ancestors.
//! It only reads the table.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;

/// Processes in the order of their starts.
pub(crate) type ByAge = BTreeSet<(BootTime, Tgid)>;

/// Returns the place of `key` in [`ByAge`].
pub(crate) const fn age(key: ProcessKey) -> (BootTime, Tgid) {
    (key.start_boottime, key.tgid)
}

/// Returns the key at a place in [`ByAge`].
const fn key_at((start_boottime, tgid): (BootTime, Tgid)) -> ProcessKey {
    ProcessKey { tgid, start_boottime }
}

/// A candidate with no candidate of its home above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub key: ProcessKey,
    /// The process that may be the primary for this root: the root itself, or the first candidate below it
    /// that is no wrapper if the root is a wrapper.
    pub stand_in: Option<ProcessKey>,
}

/// The position of a candidate among the others of its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineagePosition {
    /// No candidate of the home is above it.
    Root,
    /// This candidate is the topmost above it.
    Below(ProcessKey),
    /// A dead candidate was above it: it is a helper that was left behind.
    Helper,
}

/// Returns whether `entry` is a candidate of `home`.
pub(crate) fn is_candidate(entry: &ProcessEntry, home: &Home) -> bool {
    entry.candidacy.as_ref().is_some_and(|candidacy| *candidacy.home == *home)
}

/// Returns the place of `entry` among the candidates of `home`. `primary` is the home's primary, which counts
/// as a candidate also while it is elsewhere.
pub(crate) fn place(
    table: &ProcessTable,
    entry: &ProcessEntry,
    home: &Home,
    primary: Option<ProcessKey>,
) -> LineagePosition {
    let is_helper = |entry: &ProcessEntry| entry.helper_of.iter().any(|of| **of == *home);
    let mut topmost = None;
    let mut helper = is_helper(entry);
    for above in table.ancestors(entry) {
        if is_candidate(above, home) || Some(above.process.key) == primary {
            topmost = Some(above.process.key);
        }
        helper |= is_helper(above);
    }
    match topmost {
        _ if helper => LineagePosition::Helper,
        Some(topmost) => LineagePosition::Below(topmost),
        None => LineagePosition::Root,
    }
}

/// Returns the roots among `candidates`, oldest first.
pub(crate) fn roots(
    table: &ProcessTable,
    candidates: &ByAge,
    home: &Home,
    primary: Option<ProcessKey>,
) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    for &candidate in candidates {
        let Some(entry) = table.get(key_at(candidate)) else { continue };
        let is_wrapper = entry.candidacy.as_ref().is_some_and(|candidacy| candidacy.is_wrapper);
        let key = entry.process.key;
        match place(table, entry, home, primary) {
            LineagePosition::Root => roots.push(Root { key, stand_in: (!is_wrapper).then_some(key) }),
            LineagePosition::Below(topmost) if !is_wrapper => {
                // Ancestors are older, so the root is in the list already.
                if let Some(root) = roots.iter_mut().find(|root| root.key == topmost) {
                    root.stand_in.get_or_insert(key);
                }
            }
            LineagePosition::Below(_) | LineagePosition::Helper => {}
        }
    }
    roots
}
