//! A session that the daemon knew before it was started again.

use crate::model::ids::{BootTime, ProcessKey};
use crate::session::{Home, State};

/// A session as it was last known, of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// Its home.
    pub home: &'a Home,
    /// Its primary.
    pub primary: ProcessKey,
    /// Realtime minus boot time by which the primary's moments were told, ns.
    pub wall_offset_ns: i64,
    /// Its state; not [`State::Ended`].
    pub state: State,
    /// When that was entered; to the millisecond.
    pub since: BootTime,
    /// The primary had a terminal.
    pub had_tty: bool,
    /// Starts, oldest first; to the millisecond.
    pub starts: &'a [BootTime],
}
