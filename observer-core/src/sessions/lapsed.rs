//! Ends candidacies whose rule does not admit the process any more.

use alloc::sync::Arc;

use crate::model::ids::ProcessKey;
use crate::model::rule::Rule;
use crate::model::session::{EndReason, Home};
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::sessions::Sessions;
use crate::sessions::admission::{is_ignored, meets_unread};
use crate::sessions::by_age::age;
use crate::sessions::context::SessionContext;
use crate::sessions::homes::SessionSlot;

/// Fields of conditions that a process can come to lack without another image, directory or user.
const LAPSING: Diff = Diff::COMM.union(Diff::TTY).union(Diff::CGROUP);

impl Sessions {
    /// Returns whether `rule` would not admit a candidate now that stands for no session, as one look would find. What
    /// stands for a session keeps it: so it can be shown as detached.
    pub(super) fn has_lapsed(
        &self,
        ctx: &SessionContext<'_>,
        (rule, entry): (&Rule, &ProcessEntry),
        diff: Diff,
    ) -> bool {
        let process = &entry.process;
        diff.intersects(LAPSING)
            && self.homes.held_by(process.key).is_empty()
            && (!meets_unread(rule, process) || is_ignored(ctx.ignored, process))
    }

    /// The rule of a candidate does not admit it, as its arguments or its later changes show. Another rule may.
    pub(super) fn expel(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        let is_known_primary = |slot: &SessionSlot| slot.was_known && slot.current_primary() == Some(key);
        if self.homes.slot(home).is_some_and(is_known_primary) {
            // It stood for the session before.
            self.end_session(ctx, home, EndReason::NotAdmitted, None);
        }
        self.depart(ctx, key, EndReason::NotAdmitted);
        if ctx.table.has_children_by_birth(key.tgid) {
            self.relinked.insert(age(key));
        }
        self.readmit(ctx, home);
        self.consider(ctx, key);
    }
}
