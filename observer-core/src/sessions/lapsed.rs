//! Ends candidacies whose rule does not admit the process any more.

use alloc::sync::Arc;

use crate::model::ids::ProcessKey;
use crate::model::rule::Rule;
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::sessions::Sessions;
use crate::sessions::admission::{is_ignored, meets_unread};
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::HomeState;

/// Fields of conditions that a process can come to lack without another image, directory or user.
const LAPSING: Diff = Diff::COMM.union(Diff::TTY).union(Diff::CGROUP);

impl Sessions {
    /// Returns whether `rule` would not admit a candidate of `home` now that stands for no session, as one look would find. What
    /// stands for a session keeps it: so it can be shown as detached. What runs the primary may come to stand for it.
    pub(super) fn has_lapsed(
        &self,
        ctx: &SessionContext<'_>,
        (rule, entry): (&Rule, &ProcessEntry),
        home: &Home,
        diff: Diff,
    ) -> bool {
        let process = &entry.process;
        // The path of its cgroup is still to be read.
        let is_known = process.cgroup.is_some() || process.cgroup_id == 0;
        diff.intersects(LAPSING)
            && !diff.intersects(Diff::EXEC)
            && is_known
            && self.homes.held_by(process.key).is_empty()
            && (!meets_unread(rule, process) || is_ignored(ctx.ignored, process))
            && !self.is_above_primary(ctx, process.key, home)
    }

    /// Ends the candidacy of a process that stands for no session. Another rule may admit it.
    pub(super) fn lapse(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        diff: Diff,
    ) {
        if let Some(entry) = ctx.table.get_mut(key) {
            entry.candidacy = None;
        }
        self.leave(ctx, key, home, Cause::Moved(key, diff));
        self.consider(ctx, key);
    }

    fn is_above_primary(&self, ctx: &SessionContext<'_>, key: ProcessKey, home: &Home) -> bool {
        let primary = self.homes.by_home.get(home).and_then(HomeState::current_primary);
        let primary = primary.and_then(|primary| ctx.table.get(primary));
        primary.is_some_and(|primary| ctx.table.ancestors(primary).any(|above| above.process.key == key))
    }
}
