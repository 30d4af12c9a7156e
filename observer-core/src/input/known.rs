//! A session that the daemon knew before it was started again.

use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::label::Label;
use crate::model::process::DirId;
use crate::model::session::{Home, State};

/// A session of this boot as the journal last had it, whether it ended or not. Times are known to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSession<'a> {
    /// Its home.
    pub home: &'a Home,
    /// Its name.
    pub name: &'a [u8],
    /// The home directory, without what tells its inode apart while that is in use. All zero where it is not known.
    pub home_dir: DirId,
    /// The home directory was deleted.
    pub home_deleted: bool,
    /// Its primary.
    pub primary: ProcessKey,
    /// Realtime minus boot time, ns, by which the primary's times were reported.
    pub wall_offset_ns: i64,
    /// Its state.
    pub state: State,
    /// When it entered that state.
    pub since: BootTime,
    /// The primary had a terminal.
    pub had_tty: bool,
    /// The wrapper or launcher that it runs under.
    pub wrapper: Option<Tgid>,
    /// The other processes that could have been its primary.
    pub others: &'a [ProcessKey],
    /// The program of the primary, if it was known.
    pub program: Option<&'a [u8]>,
    /// The `exec_id` of the primary, if it was recorded.
    pub exec_id: Option<u32>,
    /// The program that the session is of, if the primary ran another one.
    pub stands_in_for: Option<&'a [u8]>,
    /// Its starts, oldest first.
    pub starts: &'a [BootTime],
    /// Its labels.
    pub labels: &'a [Label],
}
