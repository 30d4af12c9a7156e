//! Finds what may be sessions of processes whose arguments are not known: rules that ask for these refuse such a process, but
//! might admit it. The daemon may not read the arguments of other users' processes that are older than itself, or has not yet.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::limits::UNREAD_A_USER_MAX;
use crate::model::ids::ProcessKey;
use crate::model::rule::{Instances, Rule};
use crate::model::session::{Doubt, Home, Session, Undecided, UndecidedUser, UnreadArguments};
use crate::processes::entry::ProcessEntry;
use crate::processes::pane::may_have_pane;
use crate::processes::program::possible_names;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::admission::{
    admits, depends_on_arguments, has_namespace, home_under, is_wrapper, may_admit_unread,
};
use crate::sessions::explain::Basis;
use crate::sessions::fitting::is_surely_ignored;
use crate::sessions::homes::{HomeState, session_name};
use crate::sessions::ownership::may_act_for_owner;
use crate::sessions::roots::{LineagePosition, position};

impl Sessions {
    /// Returns what may be sessions of processes whose arguments are not known.
    pub fn unread_arguments(&self, basis: &Basis<'_>) -> UnreadArguments {
        let mut found = UnreadArguments::default();
        if !basis.rules.iter().any(|rule| depends_on_arguments(&rule.conditions)) {
            return found;
        }
        let (mut homes, mut users) = (BTreeSet::new(), BTreeSet::new());
        let mut looked_at = BTreeMap::<u32, usize>::new();
        for entry in basis.table.unread().filter_map(|key| basis.table.get(key)) {
            let (key, uid) = (entry.process.key, entry.process.uids.uid);
            if looked_at.get(&uid).is_some_and(|count| *count > UNREAD_A_USER_MAX) {
                continue;
            }
            let rules = self.rules_in_doubt(basis, entry);
            if rules.is_empty() {
                continue;
            }
            let count = looked_at.entry(uid).or_default();
            *count += 1;
            let is_beyond = *count > UNREAD_A_USER_MAX;
            let mut has_no_name = is_beyond || self.is_anywhere(basis, entry);
            for rule in rules.into_iter().filter(|_| !is_beyond) {
                let Some(home) = self.home_in_doubt(basis, entry, rule) else { continue };
                has_no_name |= rule.name.text.contains("{program}");
                if has_no_name {
                    continue;
                }
                let name = session_name(&rule.name, &home, &entry.process, None);
                // Two rules may give one home two names.
                if homes.insert((home.clone(), name.clone())) {
                    let home = self.homes.intern(home);
                    found.homes.push(Undecided { doubt: Doubt::ArgumentsUnread, home, name, key });
                }
            }
            if has_no_name && users.insert(uid) {
                found.users.push(UndecidedUser { uid, key, doubt: Doubt::ArgumentsUnread });
            }
        }
        found
    }

    /// Returns the rules that would come before the one that admits the process, if any, and may admit it.
    fn rules_in_doubt<'a>(&self, basis: &Basis<'a>, entry: &ProcessEntry) -> Vec<&'a Rule> {
        let process = &entry.process;
        // One that left its home holds a session, and the rules admitted what was recorded before.
        let holds_elsewhere = || entry.candidacy.is_none() && !self.homes.held_by(process.key).is_empty();
        if holds_elsewhere() || self.is_recorded(process.key) {
            return Vec::new();
        }
        // Of one that is assumed to be a candidate, it is not known of its own rule either.
        let admitted = entry.candidacy.as_ref().filter(|_| !entry.is_assumed());
        let end = admitted.map_or(basis.rules.len(), |candidacy| candidacy.rule);
        let names = process.exe.as_deref().and_then(possible_names);
        let may_admit = |rule: &&Rule| {
            depends_on_arguments(&rule.conditions)
                && may_run(rule, entry, names.as_deref())
                && !is_wrapper(rule, process)
                && may_be_in_pane(basis.table, rule, entry)
                && admits(rule, process).is_none()
        };
        let rules: Vec<&Rule> = basis.rules.iter().take(end).filter(may_admit).collect();
        if is_surely_ignored(basis.ignored, process) { Vec::new() } else { rules }
    }

    /// Returns whether the process was recorded to be the primary of a session, which goes on until its arguments are known.
    fn is_recorded(&self, key: ProcessKey) -> bool {
        let session = self.homes.home_of_primary(key).and_then(|home| self.homes.by_home.get(home));
        let session = session.and_then(HomeState::live_session);
        session.is_some_and(|session| session.recorded_program.is_some())
    }

    /// Returns whether the path of the process's directory is not known either, so that it may be in any home, and no session
    /// has it.
    fn is_anywhere(&self, basis: &Basis<'_>, entry: &ProcessEntry) -> bool {
        entry.process.cwd.truncated && self.session_of(basis.table, entry.process.key).is_none()
    }

    /// Returns the home, without the number of an instance, in which the process would be a primary if `rule` admitted it.
    fn home_in_doubt(&self, basis: &Basis<'_>, entry: &ProcessEntry, rule: &Rule) -> Option<Home> {
        let process = &entry.process;
        let home = home_under(rule, process, basis.host_mnt_ns)?;
        if !has_namespace(&rule.conditions, home.mnt_ns) {
            return None;
        }
        if rule.owner && !may_act_for_owner(process.uids.uid) {
            let owner = self.homes.by_home.get(&home).and_then(|state| state.owner.last());
            // The edge can read directories of the host's own namespace only.
            if home.mnt_ns.is_some() || owner.is_some_and(|owner| owner != process.uids.uid) {
                return None;
            }
        }
        let admitted = entry.candidacy.as_ref().filter(|_| !entry.is_assumed());
        let is_candidate_there = admitted.is_some_and(|candidacy| candidacy.home.is_sibling(&home));
        let is_covered = is_candidate_there
            || self.live_in(&home).any(|session| has_primary_of(basis.table, session, rule, process.key))
            || match position(basis.table, &self.homes, entry, &home, None) {
                LineagePosition::Root => false,
                LineagePosition::Helper(_) => true,
                LineagePosition::Below(above) => {
                    !basis.table.get(above).is_some_and(ProcessEntry::is_wrapper)
                }
            };
        (!is_covered).then_some(home)
    }

    /// Returns the live sessions of the user of `home` in that directory.
    fn live_in<'a>(&'a self, home: &Home) -> impl Iterator<Item = &'a Session> {
        let (first, last) =
            (Home { instance: 0, ..home.clone() }, Home { instance: u32::MAX, ..home.clone() });
        self.homes.by_home.range::<Home, _>(first..=last).filter_map(|(_, state)| state.live_session())
    }
}

/// Returns whether `session` leaves no room for another one that `rule` gives to `key`: a user has one in each home, or `key`
/// started its primary and would stand aside for it.
fn has_primary_of(table: &ProcessTable, session: &Session, rule: &Rule, key: ProcessKey) -> bool {
    let is_above = |primary| table.ancestors(primary).any(|above| above.process.key == key);
    rule.instances == Instances::One || table.get(session.primary).is_some_and(is_above)
}

/// Returns whether arguments may make the process what `rule` requires. `names`: what its executable may be called; `None`:
/// anything.
fn may_run(rule: &Rule, entry: &ProcessEntry, names: Option<&[&[u8]]>) -> bool {
    let may_admit = |name| may_admit_unread(rule, &entry.process, false, name);
    match names {
        Some(names) => names.iter().any(|&name| may_admit(Some(name))),
        None => may_admit(None),
    }
}

/// Returns whether an environment may put the process into a pane of a multiplexer that `rule` requires.
fn may_be_in_pane(table: &ProcessTable, rule: &Rule, entry: &ProcessEntry) -> bool {
    let patterns = &rule.conditions.mux_socket;
    match entry.process.pane.mux_socket() {
        _ if patterns.is_empty() => true,
        Some(socket) => patterns.iter().any(|pattern| pattern.is_match(socket)),
        None => may_have_pane(table, entry),
    }
}
