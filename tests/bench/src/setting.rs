//! What every measurement needs.

use std::path::Path;

use crate::peers::Peer;
use crate::work::Work;

/// What every measurement needs.
pub(crate) struct Bench {
    pub(crate) work: Work,
    pub(crate) quick: bool,
    pub(crate) peers: &'static [Peer],
}

impl Bench {
    /// A size of the full run, or of the quick one.
    pub(crate) fn scaled<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// A configuration under which every directory in `homes` is a session's home.
pub(crate) fn homes_rule(homes: &Path) -> String {
    format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"pts/*\"\n", homes.display())
}
