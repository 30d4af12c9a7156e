//! Who stands for a home: candidates, roots, wrappers' stand-ins. Pure questions to the table; what follows from the
//! answers is `sessions`'.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::processes::entry::Entry;
use crate::processes::table::Table;
use crate::session::Home;

/// Processes in order of their start.
pub(crate) type ByAge = BTreeSet<(BootTime, Tgid)>;

/// Place of `key` in [`ByAge`].
pub(crate) const fn age(key: ProcessKey) -> (BootTime, Tgid) {
    (key.start_boottime, key.tgid)
}

/// The key at a place in [`ByAge`].
pub(crate) const fn key((start_boottime, tgid): (BootTime, Tgid)) -> ProcessKey {
    ProcessKey { tgid, start_boottime }
}

/// A candidate with no candidate of its home above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub key: ProcessKey,
    /// Who stands for it: itself, or where it is a wrapper the first candidate below it that is none.
    pub stand_in: Option<ProcessKey>,
}

/// Where a candidate stands among the others of its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Root,
    /// Below this candidate, the topmost.
    Below(ProcessKey),
    /// A candidate that was above it is dead: a helper left behind.
    Helper,
}

/// Whether `entry` is a candidate of `home`.
pub(crate) fn is_member(entry: &Entry, home: &Home) -> bool {
    entry.member.as_ref().is_some_and(|member| *member.home == *home)
}

/// Walks up from `entry`. `holder` is the home's primary, which counts as its candidate also while it is elsewhere.
pub(crate) fn place(table: &Table, entry: &Entry, home: &Home, holder: Option<ProcessKey>) -> Place {
    let helps = |entry: &Entry| entry.helper_of.iter().any(|of| **of == *home);
    let mut top = None;
    let mut helper = helps(entry);
    for above in table.ancestors(entry) {
        if is_member(above, home) || Some(above.process.key) == holder {
            top = Some(above.process.key);
        }
        helper |= helps(above);
    }
    match top {
        _ if helper => Place::Helper,
        Some(top) => Place::Below(top),
        None => Place::Root,
    }
}

/// The roots among `members`, oldest first, each with its stand-in.
pub(crate) fn roots(table: &Table, members: &ByAge, home: &Home, holder: Option<ProcessKey>) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    for &member in members {
        let Some(entry) = table.get(key(member)) else { continue };
        let wrapper = entry.member.as_ref().is_some_and(|member| member.wrapper);
        let key = entry.process.key;
        match place(table, entry, home, holder) {
            Place::Root => roots.push(Root { key, stand_in: (!wrapper).then_some(key) }),
            Place::Below(top) if !wrapper => {
                // Ancestors are older, so the root is there already.
                if let Some(root) = roots.iter_mut().find(|root| root.key == top) {
                    root.stand_in.get_or_insert(key);
                }
            }
            Place::Below(_) | Place::Helper => {}
        }
    }
    roots
}
