//! The daemon's end: what waits is written, and what is written is delivered, as far as there is time.

use std::time::{Duration, Instant};

use super::mirror_link::MirrorLink;
use crate::journal::Journal;

/// How long after the signal the daemon ends, whatever does not answer: service managers and people count on two seconds. What
/// the journal could not write by then is a gap that the next daemon reports, and sessions are compared with the kernel there;
/// what the database does not have, the next daemon delivers.
const END_WAIT: Duration = Duration::from_millis(1800);

/// Closes the journal, then the mirror, for a daemon that was asked to stop at `since`.
pub fn end(journal: Option<Journal>, mirror: MirrorLink, since: Instant) {
    let deadline = since + END_WAIT;
    if let Some(journal) = journal {
        journal.close_by(deadline);
    }
    mirror.stop_by(deadline);
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;
