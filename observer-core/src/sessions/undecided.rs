//! Finds the homes of which it cannot be said whether they have a session, because nobody knows who owns them.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use crate::model::ids::ProcessKey;
use crate::model::rule::Rule;
use crate::model::session::{Home, Undecided};
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::admission::{finds_home, unmet};
use crate::sessions::claims::Owner;
use crate::sessions::homes::{HomeState, session_name};

impl Sessions {
    /// Returns each home that a rule with `owner` would give a session if its owner were known: nobody has
    /// answered yet, or the directory could not be read. A process that was refused because somebody else owned the
    /// home is no reason.
    pub fn undecided<'a>(
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
