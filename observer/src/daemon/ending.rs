//! The daemon's end: what waits is written, and what is written is delivered, as far as there is time.

use std::time::{Duration, Instant};

use super::mirror_link::MirrorLink;
use crate::journal::Journal;

/// How long after the signal the daemon ends, unless entries wait for the disk until then. Nothing is lost for lack of time
/// before the database has it: the next daemon delivers it. What waits for the disk is lost with the process, so the journal
/// has a longer time of its own.
const END_WAIT: Duration = Duration::from_millis(1800);

/// Closes the journal, then the mirror, for a daemon that was asked to stop at `since`.
pub fn end(journal: Option<Journal>, mirror: MirrorLink, since: Instant) {
    drop(journal);
    mirror.stop_by(since + END_WAIT);
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;
