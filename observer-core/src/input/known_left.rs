//! What was known, before the daemon was started again, of processes that sessions left.

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::session::Home;

/// The processes that a life of a session left, as the journal has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownLeft<'a> {
    /// The home of the session.
    pub home: &'a Home,
    /// Its name.
    pub name: &'a [u8],
    /// Whether its user was another one than the one whose home it is; `None`: that is not known.
    pub foreign: Option<bool>,
    /// Its primary.
    pub primary: ProcessKey,
    /// When it ended.
    pub ended_at: BootTime,
    /// Realtime minus boot time, ns, by which the times of the primary were reported.
    pub wall_offset_ns: i64,
    /// The processes, of which any may have ended since.
    pub processes: &'a [ProcessKey],
}
