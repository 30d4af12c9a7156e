//! Explains why a process is the session of a home, or is not.

use alloc::sync::Arc;

use crate::model::explanation::{Explanation, Position, Unmet};
use crate::model::ids::ProcessKey;
use crate::model::rule::Rule;
use crate::model::session::Home;
use crate::processes::entry::{Candidacy, Claim, ProcessEntry};
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::admission::{has_namespace, home_under, ignored_by, namespace, unmet};
use crate::sessions::context::IgnoreList;
use crate::sessions::homes::HomeState;
use crate::sessions::ownership::may_act_for_owner;
use crate::sessions::roots::{LineagePosition, position};

/// What a process is explained by.
pub(crate) struct Basis<'a> {
    pub rules: &'a [Rule],
    pub ignored: IgnoreList<'a>,
    pub host_mnt_ns: u32,
    pub table: &'a ProcessTable,
}

impl Sessions {
    /// Explains the position of a process. `None`: it is not in the map.
    pub fn explain(&self, basis: &Basis<'_>, key: ProcessKey) -> Option<Explanation> {
        let entry = basis.table.get(key)?;
        let mnt_ns = namespace(basis.host_mnt_ns, entry.process.cwd.mnt_ns);
        let rules = basis.rules.iter().map(|rule| match has_namespace(&rule.conditions, mnt_ns) {
            true => self.unmet_of(basis, rule, entry),
            false => Some(Unmet::MntNs),
        });
        Some(Explanation {
            key,
            ignored_by: ignored_by(basis.ignored, &entry.process),
            rules: rules.collect(),
            admitted_by: entry.candidacy.as_ref().map(|candidacy| candidacy.rule),
            position: self.position_of(basis.table, entry),
        })
    }

    /// Returns what the process lacks of `rule`.
    fn unmet_of(&self, basis: &Basis<'_>, rule: &Rule, entry: &ProcessEntry) -> Option<Unmet> {
        let process = &entry.process;
        let found = unmet(rule, process);
        if found.is_some() || !rule.owner || may_act_for_owner(process.uids.uid) {
            return found;
        }
        let home = home_under(rule, process, basis.host_mnt_ns)?;
        // Each of several sessions in a home has its owner read for itself.
        let of_candidate = entry.candidacy.as_ref().map(|candidacy| &*candidacy.home);
        let known = self.homes.by_home.get(of_candidate.filter(|it| it.is_sibling(&home)).unwrap_or(&home));
        let awaits = entry.claim == Some(Claim::Waiting) && !self.is_refused(process.key, &home);
        match known.and_then(|state| state.owner.last()).filter(|_| !awaits) {
            // The edge can read directories of the host's own namespace only.
            _ if home.mnt_ns.is_some() => Some(Unmet::OwnerUnknown),
            Some(uid) if uid == process.uids.uid => None,
            Some(_) => Some(Unmet::Owner),
            None => Some(Unmet::OwnerUnknown),
        }
    }

    fn position_of(&self, table: &ProcessTable, entry: &ProcessEntry) -> Position {
        let key = entry.process.key;
        if let Some(home) = self.homes.home_of_primary(key) {
            return Position::Primary(Arc::clone(home));
        }
        let settling = self.settling.iter().find(|&(settling, _)| settling == key);
        if let Some((home, (_, until))) = self.settling.home_of(key).zip(settling) {
            return Position::Settling { home, until };
        }
        match &entry.candidacy {
            Some(candidacy) => self.position_of_candidate(table, entry, candidacy),
            None if entry.claim == Some(Claim::Waiting) => Position::AwaitsOwner,
            None => Position::NotAdmitted,
        }
    }

    fn position_of_candidate(
        &self,
        table: &ProcessTable,
        entry: &ProcessEntry,
        candidacy: &Candidacy,
    ) -> Position {
        let home = Arc::clone(&candidacy.home);
        let Some(state) = self.homes.by_home.get(&home) else { return Position::NotAdmitted };
        let primary = state.current_primary();
        match position(table, &self.homes, entry, &home, primary) {
            LineagePosition::Root => position_of_root(state, entry.process.key, home),
            LineagePosition::Helper(of) => {
                let home = self.homes.home_of_primary(of).map_or(home, Arc::clone);
                Position::Helper { home, of }
            }
            LineagePosition::Below(above) if Some(above) == primary => Position::Helper { home, of: above },
            LineagePosition::Below(above) => {
                match state.roots.iter().find(|root| root.stand_in == Some(entry.process.key)) {
                    Some(root) => position_of_root(state, root.key, home),
                    None => Position::Below { home, above },
                }
            }
        }
    }
}

fn position_of_root(state: &HomeState, key: ProcessKey, home: Arc<Home>) -> Position {
    let root = state.roots.iter().find(|root| root.key == key);
    let stand_in = root.and_then(|root| root.stand_in);
    match (state.current_primary(), stand_in, state.due) {
        (_, None, _) => Position::WrapperAlone(home),
        (Some(primary), Some(stand_in), _) if primary == stand_in => Position::StandsAside { home, primary },
        (_, _, Some(until)) => Position::Young { home, until },
        (_, _, None) => Position::Other(home),
    }
}
