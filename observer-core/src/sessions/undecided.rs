//! Finds the homes of which it cannot be said whether they have a session, because nobody knows who owns them, or because
//! they have too many candidates; and the users of whom nobody knows which homes their processes are in.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::LONG_PATHS_A_USER_MAX;
use crate::model::ids::ProcessKey;
use crate::model::process::Process;
use crate::model::rule::Rule;
use crate::model::session::{Doubt, Home, Undecided, UndecidedUser};
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::admission::{admits, finds_home, has_namespace, is_ignored, namespace, unmet};
use crate::sessions::claims::Owner;
use crate::sessions::explain::Basis;
use crate::sessions::homes::{HomeState, names_primary, session_name};

impl Sessions {
    /// Returns each home of which it is not known whether it has a session.
    pub fn undecided<'a>(
        &'a self,
        table: &'a ProcessTable,
        rules: &'a [Rule],
    ) -> impl Iterator<Item = Undecided> + 'a {
        let crowded = self.crowded(table, rules).filter(|(_, rule, _)| !names_primary(&rule.name));
        let crowded = crowded.map(|(home, rule, process)| Undecided {
            doubt: Doubt::TooManyCandidates,
            home: Arc::clone(home),
            name: session_name(&rule.name, home, process, None),
            key: process.key,
        });
        self.without_owner(table, rules).chain(crowded)
    }

    /// Returns users who may have sessions of which it is not known what they are called, each with one process and once for
    /// each reason.
    pub fn undecided_users(&self, basis: &Basis<'_>) -> Vec<UndecidedUser> {
        let Basis { table, rules, .. } = *basis;
        let crowded = self.crowded(table, rules).filter(|(_, rule, _)| names_primary(&rule.name));
        let crowded = crowded.map(|(home, _, process)| (home.uid, process.key, Doubt::TooManyCandidates));
        let mut found: Vec<UndecidedUser> = Vec::new();
        let mut seen = BTreeSet::new();
        for (uid, key, doubt) in crowded {
            if seen.insert(uid) {
                found.push(UndecidedUser { uid, key, doubt });
            }
        }
        let mut in_doubt = BTreeSet::new();
        let mut looked_at = BTreeMap::<u32, usize>::new();
        for entry in table.with_long_paths().filter_map(|key| table.get(key)) {
            let Process { key, uids, .. } = &entry.process;
            if in_doubt.contains(&uids.uid) {
                continue;
            }
            let count = looked_at.entry(uids.uid).or_default();
            *count += 1;
            // Of those beyond the bound it is not known.
            if *count > LONG_PATHS_A_USER_MAX || self.may_be_admitted(basis, entry) {
                in_doubt.insert(uids.uid);
                found.push(UndecidedUser { uid: uids.uid, key: *key, doubt: Doubt::PathTooLong });
            }
        }
        found
    }

    /// Returns whether `entry`, the path of whose directory is too long, may be a session wherever it is: a rule admits what it
    /// runs, and it belongs to no other session.
    fn may_be_admitted(&self, basis: &Basis<'_>, entry: &ProcessEntry) -> bool {
        let process = &entry.process;
        let mnt_ns = namespace(basis.host_mnt_ns, process.cwd.mnt_ns);
        let is_admitted =
            |rule: &Rule| admits(rule, process).is_some() && has_namespace(&rule.conditions, mnt_ns);
        basis.rules.iter().any(is_admitted)
            && !is_ignored(basis.ignored, process)
            && self.session_of(basis.table, process.key).is_none()
    }

    /// Returns the homes without a session that have too many candidates for a process that may be the primary, each with the
    /// rule that admits it and that process.
    fn crowded<'a>(
        &'a self,
        table: &'a ProcessTable,
        rules: &'a [Rule],
    ) -> impl Iterator<Item = (&'a Arc<Home>, &'a Rule, &'a Process)> {
        self.left_out.programs().filter_map(move |(home, key)| {
            let is_live = self.homes.by_home.get(home).and_then(HomeState::live_session).is_some();
            let process = &table.get(key).filter(|_| !is_live)?.process;
            let path = process.cwd.usable_path()?;
            let admits = |rule: &&Rule| finds_home(rule, path, home) && unmet(rule, process).is_none();
            Some((home, rules.iter().find(admits)?, process))
        })
    }

    /// Returns each home that a rule with `owner` would give a session if its owner were known: nobody has
    /// answered yet, or the directory could not be read. A process that was refused because somebody else owned the
    /// home is no reason.
    fn without_owner<'a>(
        &'a self,
        table: &'a ProcessTable,
        rules: &'a [Rule],
    ) -> impl Iterator<Item = Undecided> + 'a {
        let mut seen = BTreeSet::new();
        self.claimed().filter_map(move |(&key, home)| {
            if !self.is_undecided(key, home) {
                return None;
            }
            let process = &table.get(key)?.process;
            let path = process.cwd.usable_path()?;
            let admits =
                |rule: &&Rule| rule.owner && finds_home(rule, path, home) && unmet(rule, process).is_none();
            let rule = rules.iter().find(admits)?;
            seen.insert(Arc::clone(home)).then(|| Undecided {
                doubt: Doubt::Owner,
                home: Arc::clone(home),
                name: session_name(&rule.name, home, process, None),
                key,
            })
        })
    }

    /// Returns the primaries of live sessions whose home's owner decides whose they are, and is being read for the first time.
    pub fn awaiting_owners(&self) -> impl Iterator<Item = ProcessKey> {
        let awaits = |state: &HomeState| {
            let session = state.live_session().filter(|session| session.foreign.is_none())?;
            matches!(state.owner, Owner::Requested { .. }).then_some(session.primary)
        };
        self.homes.by_home.values().filter_map(awaits)
    }

    fn is_undecided(&self, key: ProcessKey, home: &Home) -> bool {
        let Some(state) = self.homes.by_home.get(home) else { return false };
        if state.live_session().is_some() {
            return false;
        }
        // What was read before may be of another directory than the one that a waiting process is in.
        state.claims.waiting.contains(&key) || state.owner.last().is_none()
    }
}
