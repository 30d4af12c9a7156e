//! Recomputes the invariants of the map from scratch. Tests do it after every input.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};

use crate::core::Core;
use crate::model::ids::{ProcessKey, Tgid};
use crate::model::session::{Home, Session, State};
use crate::processes::entry::Claim;
use crate::processes::table::starts_before;
use crate::sessions::by_age::age;
use crate::sessions::claims::Owner;
use crate::sessions::homes::HomeState;
use crate::sessions::roots::{is_candidate, roots};

/// An invariant that does not hold, as a sentence that names the process or the home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Recomputes the indexes and the values that sessions derive, and compares them with those in the map. It
/// takes O(n log n), so it is for tests.
///
/// # Errors
///
/// Returns every violation.
pub fn check(core: &Core) -> Result<(), Vec<Violation>> {
    let mut found = vec![];
    check_table(core, &mut found);
    check_candidates(core, &mut found);
    check_claims(core, &mut found);
    check_primaries(core, &mut found);
    check_counts(core, &mut found);
    // Roots are known once elections take place.
    if !core.sessions.is_looking() {
        check_sessions(core, &mut found);
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn check_table(core: &Core, found: &mut Vec<Violation>) {
    let mut children: BTreeMap<ProcessKey, u32> = BTreeMap::new();
    let mut lineage: BTreeSet<(Tgid, Tgid)> = BTreeSet::new();
    let mut namespaces = core.table.namespaces().cleared();
    let (mut long_paths, mut unread) = (BTreeSet::new(), BTreeSet::new());
    for entry in core.table.iter() {
        let process = &entry.process;
        *children.entry(process.parent).or_default() += 1;
        namespaces.add(process.cwd.mnt_ns, process.key);
        long_paths.extend(process.cwd.truncated.then_some(process.key));
        unread.extend(process.is_unread().then_some(process.key));
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
    if !core.table.with_long_paths().eq(long_paths) {
        found.push(Violation("the index of long paths differs from the processes".into()));
    }
    if !core.table.unread().eq(unread) {
        found.push(Violation("the index of unread arguments differs from the processes".into()));
    }
    if &namespaces != core.table.namespaces() {
        found.push(Violation("the index of mount namespaces differs from the processes".into()));
    }
}

fn check_candidates(core: &Core, found: &mut Vec<Violation>) {
    let homes = &core.sessions.homes.by_home;
    let mut counted = 0;
    for entry in core.table.iter() {
        let Some(candidacy) = &entry.candidacy else { continue };
        counted += 1;
        let is_listed = homes
            .get(&candidacy.home)
            .is_some_and(|state| state.candidates.contains(&age(entry.process.key)));
        if !is_listed {
            found.push(Violation(format!("{:?}: its home does not list it", entry.process.key)));
        }
    }
    if counted != homes.values().map(|state| state.candidates.len()).sum::<usize>() {
        found.push(Violation("homes list processes that are no candidates".into()));
    }
}

/// A home lists the processes that claim it, and those alone.
fn check_claims(core: &Core, found: &mut Vec<Violation>) {
    let homes = core.sessions.homes.by_home.values();
    let listed =
        homes.clone().flat_map(|state| state.claims.waiting.iter().map(|&key| (key, Claim::Waiting)));
    let refused =
        homes.clone().flat_map(|state| state.claims.refused.iter().map(|&key| (key, Claim::Refused)));
    // Who waits for one home and was refused in another one waits.
    let listed: BTreeMap<ProcessKey, Claim> = refused.chain(listed).collect();
    let claims = core.table.iter().filter_map(|entry| Some((entry.process.key, entry.claim?)));
    let claims: BTreeMap<ProcessKey, Claim> = claims.collect();
    if claims != listed {
        found.push(Violation(format!("homes list the claims {listed:?}, but there are {claims:?}")));
    }
    let claims = |home: &Arc<Home>, key: &ProcessKey| {
        let claims = core.sessions.homes.by_home.get(home).map(|state| &state.claims);
        claims.is_some_and(|claims| claims.waiting.contains(key) || claims.refused.contains(key))
    };
    let claimed: Vec<_> = core.sessions.claimed().collect();
    let count: usize =
        homes.clone().map(|state| state.claims.waiting.len() + state.claims.refused.len()).sum();
    if claimed.len() != count || !claimed.iter().all(|(key, home)| claims(home, key)) {
        found.push(Violation(format!("{count} claims in homes, but processes have {claimed:?}")));
    }
    for home in core.sessions.checks_under_way() {
        let owner = core.sessions.homes.by_home.get(home).map(|state| state.owner);
        if !matches!(owner, Some(Owner::Requested { .. })) {
            found.push(Violation(format!(
                "{home:?}: nobody was asked for the owner that is being read again"
            )));
        }
    }
}

/// One process is the primary of one session at most.
fn check_primaries(core: &Core, found: &mut Vec<Violation>) {
    let mut primaries = BTreeSet::new();
    for primary in core.sessions.homes.by_home.values().filter_map(HomeState::current_primary) {
        if !primaries.insert(primary) {
            found.push(Violation(format!("{primary:?} is the primary of two sessions")));
        }
    }
    for (key, _) in core.sessions.settling() {
        if core.table.get(key).is_none_or(|entry| entry.candidacy.is_some()) {
            found.push(Violation(format!("{key:?} settles, but is gone or a candidate")));
        }
    }
    let settling: BTreeSet<_> = core.sessions.settling().map(|(key, _)| key).collect();
    for entry in core.table.iter() {
        let key = entry.process.key;
        let kept = (!core.sessions.homes.held_by(key).is_empty(), settling.contains(&key));
        if (entry.holds_session, entry.settles) != kept {
            found.push(Violation(format!(
                "{key:?}: its entry does not say whether it holds a session, or settles"
            )));
        }
    }
}

/// The sessions of each user are counted, and homes that are over the limit have none and are ordered by age.
fn check_counts(core: &Core, found: &mut Vec<Violation>) {
    let homes = &core.sessions.homes;
    let mut live: BTreeMap<u32, usize> = BTreeMap::new();
    for (home, _) in homes.by_home.iter().filter(|(_, state)| state.live_session().is_some()) {
        *live.entry(home.uid).or_default() += 1;
    }
    let users: BTreeSet<u32> = homes.by_home.keys().map(|home| home.uid).collect();
    for uid in users {
        let (counted, live) = (homes.of_users.live(uid), live.get(&uid).copied().unwrap_or_default());
        if counted != live {
            found.push(Violation(format!("user {uid} has {live} sessions, but {counted} are counted")));
        }
    }
    for (home, oldest) in homes.of_users.over_limit() {
        let state = homes.by_home.get(home).filter(|state| state.live_session().is_none());
        if state.and_then(|state| state.candidates.first()) != Some(&oldest) {
            found.push(Violation(format!(
                "{home:?}: is over the limit, and has a session or another oldest candidate"
            )));
        }
    }
}

fn check_sessions(core: &Core, found: &mut Vec<Violation>) {
    for (home, state) in &core.sessions.homes.by_home {
        let expected = roots(&core.table, &core.sessions.homes, home, state.current_primary());
        if expected != state.roots {
            let kept = &state.roots;
            found.push(Violation(format!("{home:?}: roots are kept as {kept:?}, but are {expected:?}")));
        }
        for key in core.sessions.miscounted(&core.settings.rules, &core.table, core.now, home) {
            found.push(Violation(format!("{home:?}: the root {key:?} is counted wrongly")));
        }
        let Some(slot) = &state.slot else { continue };
        if slot.is_ended() {
            if slot.last_primary.is_none() && !slot.is_recorded {
                found.push(Violation(format!("{home:?}: ended without its last primary")));
            }
            continue;
        }
        check_live_session(core, home, state, &slot.session, found);
    }
}

fn check_live_session(
    core: &Core,
    home: &Arc<Home>,
    state: &HomeState,
    session: &Session,
    found: &mut Vec<Violation>,
) {
    let Some(entry) = core.table.get(session.primary) else {
        found.push(Violation(format!("{home:?}: its primary is not live")));
        return;
    };
    if !core.sessions.homes.held_by(session.primary).contains(home) {
        found.push(Violation(format!("{home:?}: its primary does not hold it")));
    }
    if entry.process.uids.uid != home.uid {
        found.push(Violation(format!("{home:?}: its primary is of user {}", entry.process.uids.uid)));
    }
    if !core.sessions.panes.follows(session.primary) {
        found.push(Violation(format!("{home:?}: the pane of its primary is not followed")));
    }
    if is_candidate(entry, home) == (session.state == State::Left) {
        found.push(Violation(format!("{home:?}: {:?} and the primary's place disagree", session.state)));
    }
    if session.wrapper.is_some_and(|wrapper| core.table.get(wrapper).is_none()) {
        found.push(Violation(format!("{home:?}: its wrapper is not live")));
    }
    let runs_for_root = |key: &ProcessKey| {
        state.roots.iter().any(|root| [root.stand_in, root.launcher].contains(&Some(*key)))
    };
    if session.state != State::Left && !state.eligible.iter().all(runs_for_root) {
        found.push(Violation(format!("{home:?}: {:?} are not of its roots", state.eligible)));
    }
    let stand_ins = state.roots.iter().filter(|root| root.stand_in.is_some()).count();
    let fits = usize::try_from(session.roots).is_ok_and(|roots| (1..=stand_ins.max(1)).contains(&roots));
    if !fits {
        found.push(Violation(format!("{home:?}: {} roots, but {stand_ins} stand-ins", session.roots)));
    }
}
