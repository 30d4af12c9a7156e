//! The bound of descendants that are counted when processes end.

use crate::limits::DESCENDANTS_A_SECOND_MAX;
use crate::model::ids::BootTime;

/// How many descendants are still counted in this second. Whoever ends its processes one below the other from the top has each of
/// them counted again and again.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    since: BootTime,
    spent: usize,
}

impl Counting {
    /// Returns how many more may be counted now.
    pub fn left(&mut self, now: BootTime) -> usize {
        const SECOND_NS: u64 = 1_000_000_000;
        if now.since(self.since) >= SECOND_NS {
            (self.since, self.spent) = (now, 0);
        }
        DESCENDANTS_A_SECOND_MAX.saturating_sub(self.spent)
    }

    /// So many were counted.
    pub fn spend(&mut self, count: usize) {
        self.spent = self.spent.saturating_add(count);
    }
}
