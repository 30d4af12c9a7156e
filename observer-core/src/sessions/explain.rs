//! Explains why a process is the session of a home, or is not.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::explanation::{BirthSession, Explanation, Inherited, Position, Unmet};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::rule::Rule;
use crate::model::session::Home;
use crate::processes::entry::{Candidacy, Claim, ProcessEntry};
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::admission::{has_namespace, home_under, ignored_by, namespace, unmet};
use crate::sessions::choice::Ages;
use crate::sessions::context::IgnoreList;
use crate::sessions::homes::{HomeState, Root, SessionSlot};
use crate::sessions::lineages::Lineages;
use crate::sessions::ownership::may_act_for_owner;
use crate::sessions::roots::{LineagePosition, position};

/// What a process is explained by.
pub(crate) struct Basis<'a> {
    pub rules: &'a [Rule],
    pub ignored: IgnoreList<'a>,
    pub host_mnt_ns: u32,
    pub table: &'a ProcessTable,
    /// The latest timestamp of any input.
    pub now: BootTime,
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
        let rules: Vec<Option<Unmet>> = rules.collect();
        let ignored_by = ignored_by(basis.ignored, &entry.process);
        let mut position = self.position_of(basis, entry);
        if position == Position::NotAdmitted && self.left_out.has(key) && ignored_by.is_none() {
            let admitting = rules.iter().zip(basis.rules).find(|(unmet, _)| unmet.is_none());
            let home = admitting.and_then(|(_, rule)| home_under(rule, &entry.process, basis.host_mnt_ns));
            position = home.map_or(position, |home| Position::LeftOut(self.homes.intern(home)));
        }
        let admitted_by = entry.candidacy.as_ref().map(|candidacy| candidacy.rule);
        let inherited = self.inherited_by(basis.table, entry);
        Some(Explanation { key, ignored_by, rules, admitted_by, position, inherited })
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

    fn position_of(&self, basis: &Basis<'_>, entry: &ProcessEntry) -> Position {
        let key = entry.process.key;
        let held = self.homes.home_of_primary(key);
        if let Some((home, slot)) = held.and_then(|home| Some((home, self.homes.slot(home)?))) {
            let SessionSlot { elected_by, is_substitute, .. } = *slot;
            return Position::Primary { home: Arc::clone(home), elected_by, is_substitute };
        }
        let settling = self.settling.iter().find(|&(settling, _)| settling == key);
        if let Some((home, (_, until))) = self.settling.home_of(key).zip(settling) {
            return Position::Settling { home, until };
        }
        match &entry.candidacy {
            Some(candidacy) => self.position_of_candidate(basis, entry, candidacy),
            None if entry.claim == Some(Claim::Waiting) => Position::AwaitsOwner,
            None => Position::NotAdmitted,
        }
    }

    fn position_of_candidate(
        &self,
        basis: &Basis<'_>,
        entry: &ProcessEntry,
        candidacy: &Candidacy,
    ) -> Position {
        let home = Arc::clone(&candidacy.home);
        let Some(state) = self.homes.by_home.get(&home) else { return Position::NotAdmitted };
        let primary = state.current_primary();
        match position(basis.table, &self.homes, entry, &home, primary) {
            LineagePosition::Root => self.position_of_root(basis, state, entry.process.key, home),
            LineagePosition::Helper(of) => {
                let home = self.homes.home_of_primary(of).map_or(home, Arc::clone);
                Position::Helper { home, of }
            }
            LineagePosition::Below(above) if Some(above) == primary => Position::Helper { home, of: above },
            LineagePosition::Below(above) => {
                match state.roots.iter().find(|root| root.stand_in == Some(entry.process.key)) {
                    Some(root) => self.position_of_root(basis, state, root.key, home),
                    None => Position::Below { home, above },
                }
            }
        }
    }

    /// Returns the position of a process that is the root `key` of `home`, or what runs for it.
    fn position_of_root(
        &self,
        basis: &Basis<'_>,
        state: &HomeState,
        key: ProcessKey,
        home: Arc<Home>,
    ) -> Position {
        let root = state.roots.iter().find(|root| root.key == key);
        let Some((root, stand_in)) = root.and_then(|root| root.stand_in.map(|stand_in| (root, stand_in)))
        else {
            return Position::WrapperAlone(home);
        };
        if state.current_primary() == Some(stand_in) {
            return Position::StandsAside { home, primary: stand_in };
        }
        if self.homes.of_users.is_over_limit(&home) {
            return Position::TooManySessions(home);
        }
        match self.young_until(basis, &home, state, (root, stand_in)) {
            Some(until) => Position::Young { home, program: stand_in, until },
            None => {
                let session = state.slot.as_ref().filter(|slot| !slot.is_ended());
                Position::Other { home, is_substituted: session.is_some_and(|slot| slot.is_substitute) }
            }
        }
    }

    fn young_until(
        &self,
        basis: &Basis<'_>,
        home: &Arc<Home>,
        state: &HomeState,
        of_root: (&Root, ProcessKey),
    ) -> Option<BootTime> {
        let Basis { rules, table, now, .. } = *basis;
        let ages = Ages { rules, table, now, homes: &self.homes, settling: &self.settling };
        ages.young_until(home, state, of_root, &mut Lineages::new(home, now, 1, None))
    }
}

impl Sessions {
    /// Returns what a process has from those above it.
    fn inherited_by(&self, table: &ProcessTable, entry: &ProcessEntry) -> Inherited {
        let born_in = self.birth_session(table, entry);
        let own = self.homes.held_by(entry.process.key).first();
        let of_birth = match &born_in {
            Some(BirthSession::Live { home, .. }) => Some(home),
            _ => None,
        };
        let home = own.or(entry.candidacy.as_ref().map(|candidacy| &candidacy.home)).or(of_birth);
        let is_above = |key: ProcessKey| {
            key == entry.process.key || table.ancestors(entry).any(|above| above.process.key == key)
        };
        let state = home.and_then(|home| self.homes.by_home.get(home));
        let session = state.and_then(HomeState::live_session);
        let wrapper = session.and_then(|session| session.wrapper);
        let root = state.and_then(|state| state.roots.iter().find(|root| is_above(root.key)));
        Inherited {
            born_in,
            wrapper: wrapper.filter(|&key| key != entry.process.key && is_above(key)),
            root: root.map(|root| root.key),
            terminal_of: terminal_of(table, entry),
        }
    }

    /// Returns the session in which a process was born. Its own is none.
    fn birth_session(&self, table: &ProcessTable, entry: &ProcessEntry) -> Option<BirthSession> {
        let own = self.homes.held_by(entry.process.key);
        let former = |entry: &ProcessEntry| {
            let former = Arc::clone(entry.left_of.as_ref()?);
            Some(BirthSession::Former { former, of: entry.process.key })
        };
        let above = |above: &ProcessEntry| {
            let of = above.process.key;
            let held = self.homes.held_by(of).iter().find(|home| !own.contains(home));
            held.map(|home| BirthSession::Live { home: Arc::clone(home), of }).or_else(|| former(above))
        };
        former(entry).or_else(|| table.ancestors(entry).find_map(above))
    }
}

/// Returns the first ancestor of a process that had its terminal, of those without another one in between.
fn terminal_of(table: &ProcessTable, entry: &ProcessEntry) -> Option<ProcessKey> {
    let tty = entry.process.tty?;
    let with_it = table.ancestors(entry).take_while(|above| above.process.tty == Some(tty));
    with_it.last().map(|above| above.process.key)
}
