//! What a session left behind: processes that were born in it and outlive it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Bytes, Process};
use crate::model::session::{Home, Session};

/// A life of a session that is over: that of one primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSession {
    /// Its home.
    pub home: Arc<Home>,
    /// Its name.
    pub name: Bytes,
    /// Whether its user was another one than the one whose home it is; `None`: that was not known.
    pub foreign: Option<bool>,
    /// Its primary, which has ended or runs another program.
    pub primary: ProcessKey,
    /// When it ended.
    pub ended_at: BootTime,
    /// Realtime minus boot time, ns, by which the times of the primary are shown.
    pub wall_offset_ns: i64,
}

impl Session {
    /// Returns its life, which ends at `at`, as that of its primary.
    pub(crate) fn former(&self, primary: &Process, at: BootTime) -> Arc<FormerSession> {
        Arc::new(FormerSession {
            home: Arc::clone(&self.home),
            name: Arc::clone(&self.name),
            foreign: self.foreign,
            primary: self.primary,
            ended_at: at,
            wall_offset_ns: primary.wall_offset_ns,
        })
    }
}

/// A live process that was born in a session which is over.
#[derive(Clone, Copy, Debug)]
pub struct Leftover<'a> {
    /// The process.
    pub process: &'a Process,
    /// The session.
    pub former: &'a FormerSession,
    /// Pages of memory that it had when the last pass read it; 0 where that is not known.
    pub rss_pages: u64,
    /// A session that lives was born below it, as in a multiplexer.
    pub runs_session: bool,
}

/// What a daemon that ends knows of births in sessions, for the next one.
#[derive(Clone, Debug, Default)]
pub struct Origins<'a> {
    /// Below what processes in sessions were born.
    pub births: Vec<KnownBirth>,
    /// Sessions that are over, each with the processes that it left.
    pub left: Vec<(&'a FormerSession, Vec<ProcessKey>)>,
    /// The number of further processes in sessions, of which nothing is told for lack of room.
    pub surplus: usize,
}

/// A process that was born in a session, and below which: what the kernel does not tell once its parent has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBirth {
    /// The process.
    pub key: ProcessKey,
    /// Its nearest ancestor by birth that lived.
    pub above: ProcessKey,
}
