//! A session that the daemon knew before it was started again.

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::label::Label;
use crate::model::session::{Home, State};

/// A session of this boot as the journal last had it. Times are known to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSession<'a> {
    /// Its home.
    pub home: &'a Home,
    /// Its primary.
    pub primary: ProcessKey,
    /// Realtime minus boot time, ns, by which the primary's times were reported.
    pub wall_offset_ns: i64,
    /// Its state; not [`State::Ended`].
    pub state: State,
    /// When it entered that state.
    pub since: BootTime,
    /// The primary had a terminal.
    pub had_tty: bool,
    /// Its starts, oldest first.
    pub starts: &'a [BootTime],
    /// Its labels.
    pub labels: &'a [Label],
}
