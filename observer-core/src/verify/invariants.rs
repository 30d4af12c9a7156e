//! Recomputes the invariants of the map from scratch. Tests do it after every input.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use crate::core::Core;
use crate::model::ids::{ProcessKey, Tgid};
use crate::primary::{age, is_member, roots};
use crate::processes::table::starts_before;
use crate::session::State;

/// An invariant that does not hold, as a sentence that names the process or the home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Recomputes the indexes and the values that sessions derive, and compares them with those in the map. It takes
/// O(n log n), so it is for tests.
///
/// # Errors
///
/// Returns every violation.
pub fn check(core: &Core) -> Result<(), Vec<Violation>> {
    let mut found = vec![];
    check_table(core, &mut found);
    check_members(core, &mut found);
    check_rows(core, &mut found);
    check_primaries(core, &mut found);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn check_table(core: &Core, found: &mut Vec<Violation>) {
    let mut children: BTreeMap<ProcessKey, u32> = BTreeMap::new();
    let mut lineage: BTreeSet<(Tgid, Tgid)> = BTreeSet::new();
    for entry in core.table.iter() {
        let process = &entry.process;
        *children.entry(process.parent).or_default() += 1;
        let Some(above) = process.lineage else { continue };
        lineage.insert((above.tgid, process.key.tgid));
        if core.table.get(above).is_none() {
            found.push(Violation(format!("{:?}: its ancestor {above:?} is not live", process.key)));
        }
        if !starts_before(above, process.key) {
            found.push(Violation(format!("{:?}: its ancestor {above:?} is younger", process.key)));
        }
    }
    if &children != core.table.child_counts() {
        found.push(Violation("the counts of children differ from the processes".into()));
    }
    if &lineage != core.table.lineage_index() {
        found.push(Violation("the index of ancestors differs from the processes".into()));
    }
}

fn check_members(core: &Core, found: &mut Vec<Violation>) {
    let homes = &core.sessions.homes.by_home;
    let mut counted = 0;
    for entry in core.table.iter() {
        let Some(member) = &entry.member else { continue };
        counted += 1;
        let listed =
            homes.get(&member.home).is_some_and(|state| state.members.contains(&age(entry.process.key)));
        if !listed {
            found.push(Violation(format!("{:?}: its home does not list it", entry.process.key)));
        }
    }
    if counted != homes.values().map(|state| state.members.len()).sum::<usize>() {
        found.push(Violation("homes list candidates that are none".into()));
    }
}

/// One process stands for one session.
fn check_primaries(core: &Core, found: &mut Vec<Violation>) {
    let mut primaries = BTreeSet::new();
    for state in core.sessions.homes.by_home.values() {
        let Some(primary) = state.row.as_ref().and_then(|row| row.holder()) else { continue };
        if !primaries.insert(primary) {
            found.push(Violation(format!("{primary:?} stands for two sessions")));
        }
    }
    for (key, _) in core.sessions.settling() {
        if core.table.get(key).is_none_or(|entry| entry.member.is_some()) {
            found.push(Violation(format!("{key:?} settles, but is gone or a candidate")));
        }
    }
}

fn check_rows(core: &Core, found: &mut Vec<Violation>) {
    for (home, state) in &core.sessions.homes.by_home {
        let holder = state.row.as_ref().and_then(|row| row.holder());
        let computed = roots(&core.table, &state.members, home, holder);
        if computed != state.roots {
            let (kept, now) = (&state.roots, &computed);
            found.push(Violation(format!("{home:?}: roots are kept as {kept:?}, but are {now:?}")));
        }
        let Some(row) = &state.row else { continue };
        let session = &row.session;
        if row.is_ended() {
            if row.last.is_none() {
                found.push(Violation(format!("{home:?}: ended without its last primary")));
            }
            continue;
        }
        let Some(entry) = core.table.get(session.primary) else {
            found.push(Violation(format!("{home:?}: its primary is not live")));
            continue;
        };
        if !core.sessions.homes.held_by(session.primary).contains(home) {
            found.push(Violation(format!("{home:?}: its primary does not hold it")));
        }
        if is_member(entry, home) == (session.state == State::Left) {
            found.push(Violation(format!("{home:?}: {:?} and the primary's place disagree", session.state)));
        }
        if session.wrapper.is_some_and(|wrapper| core.table.get(wrapper).is_none()) {
            found.push(Violation(format!("{home:?}: its wrapper is not live")));
        }
        let stood_for = state.roots.iter().filter(|root| root.stand_in.is_some()).count();
        let fits = usize::try_from(session.roots).is_ok_and(|roots| (1..=stood_for.max(1)).contains(&roots));
        if !fits {
            found.push(Violation(format!("{home:?}: {} roots, but {stood_for} stand", session.roots)));
        }
    }
}
