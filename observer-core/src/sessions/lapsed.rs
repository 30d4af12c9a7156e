//! Finds candidacies whose rule does not admit the process any more.

use crate::model::rule::Rule;
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::sessions::Sessions;
use crate::sessions::admission::{is_ignored, meets_unread};
use crate::sessions::context::SessionContext;

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
}
