//! Finds the session to which a process belongs, whether or not a rule admits it. It only reads.

use alloc::sync::Arc;

use crate::model::ids::ProcessKey;
use crate::model::session::{Home, Session};
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::homes::HomeState;
use crate::sessions::roots::{LineagePosition, nearest_above, position};

impl Sessions {
    /// Returns the session that has this process as its primary, its wrapper or another root of its home, or in
    /// which the process was born. `None`: there is none, or it has ended.
    pub fn session_of(&self, table: &ProcessTable, key: ProcessKey) -> Option<&Session> {
        let entry = table.get(key)?;
        let is_of_session = entry.candidacy.is_some() || !self.homes.held_by(key).is_empty();
        let entry = if is_of_session { entry } else { nearest_above(table, &self.homes, entry)? };
        self.homes.by_home.get(self.home_of(table, entry)?).and_then(HomeState::live_session)
    }

    /// Returns the home to which a candidate, or a process that holds a session, belongs.
    fn home_of<'a>(&'a self, table: &ProcessTable, entry: &'a ProcessEntry) -> Option<&'a Arc<Home>> {
        let key = entry.process.key;
        let held = self.homes.home_of_primary(key).or_else(|| self.homes.held_by(key).first());
        if held.is_some() {
            return held;
        }
        let home = &entry.candidacy.as_ref()?.home;
        let primary = self.homes.by_home.get(home).and_then(HomeState::current_primary);
        match position(table, &self.homes, entry, home, primary) {
            LineagePosition::Helper(primary) => self.homes.home_of_primary(primary),
            LineagePosition::Root | LineagePosition::Below(_) => Some(home),
        }
    }
}
