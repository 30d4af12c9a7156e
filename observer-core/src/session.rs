//! Sessions: rules, homes, and what is shown of a session. Which process is primary is decided in `primary`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Bytes, DirId};

/// Something that a byte string can match: the edge compiles globs into this.
pub trait Pattern: fmt::Debug + Send + Sync {
    /// Whether all of `bytes` match.
    fn is_match(&self, bytes: &[u8]) -> bool;
}

/// What a rule asks of the controlling terminal.
#[derive(Debug)]
pub enum TtyRule {
    /// Anything, also none.
    Any,
    /// No terminal.
    None,
    /// A terminal whose name as shown (`pts/3`) matches.
    Matches(Box<dyn Pattern>),
}

/// Where a rule finds a process's home.
#[derive(Debug)]
pub enum HomeRule {
    /// The process's cwd itself.
    Cwd,
    /// The shortest prefix of the cwd, cut at a component, that matches.
    Prefix(Box<dyn Pattern>),
}

/// One `[[session]]` of the configuration. The first rule that admits a process decides.
#[derive(Debug)]
pub struct Rule {
    /// Where the home is.
    pub home: HomeRule,
    /// Terminal.
    pub tty: TtyRule,
    /// comm matches one of these; empty: any.
    pub comm: Vec<Box<dyn Pattern>>,
    /// comm matches none of these.
    pub not_comm: Vec<Box<dyn Pattern>>,
    /// Processes with these comms are wrappers: the session is what runs below them.
    pub wrappers: Vec<Box<dyn Pattern>>,
    /// exe path matches; `None`: any.
    pub exe: Option<Box<dyn Pattern>>,
    /// Path of the v2 cgroup matches; `None`: any.
    pub cgroup: Option<Box<dyn Pattern>>,
    /// Real user id; `None`: any.
    pub uid: Option<u32>,
    /// The home must belong to the process's real user. The core asks the edge (`Request::HomeOwner`).
    pub owner: bool,
    /// A home without a row gets one only when its primary has lived this long, ns.
    pub min_age_ns: u64,
    /// Template of the name; `{basename}` and `{home}` are replaced.
    pub name: String,
}

/// Identity of a home on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home {
    /// Inode number of the mount namespace, unless the host's own.
    pub mnt_ns: Option<u32>,
    /// Absolute path.
    pub path: Bytes,
}

/// State of a session as the core knows it (`unknown` is what readers say when no core speaks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The primary runs in its home.
    Live,
    /// Alive, its terminal is gone.
    Detached,
    /// Alive, its cwd is elsewhere.
    Left,
    /// The primary ended and no root remains.
    Ended,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The primary died; the certificate tells how.
    Died,
    /// The primary exec'd into something that no rule admits.
    ExecedAway,
    /// The home was deleted and another directory stands in its place.
    Replaced,
    /// The primary left for another home and settled there.
    Moved,
}

/// One row: a home and the process that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Identity.
    pub home: Arc<Home>,
    /// The home directory itself: differs between incarnations of one path. Zero where it is not known.
    pub home_dir: DirId,
    /// Shown name: bytes, usually the basename.
    pub name: Bytes,
    /// The primary, or the last one where ended.
    pub primary: ProcessKey,
    /// The wrapper that the primary runs under.
    pub wrapper: Option<ProcessKey>,
    /// Roots in this home, the primary's included.
    pub roots: u32,
    /// State.
    pub state: State,
    /// When `state` was entered.
    pub since: BootTime,
    /// Where the home was renamed to, or where the primary went.
    pub moved_to: Option<Bytes>,
    /// The home directory was deleted.
    pub cwd_deleted: bool,
    /// Which rule admitted the primary.
    pub rule: usize,
    /// The primary's death, in state `Ended`.
    pub death: Option<Death>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// Starts of primaries in this home (a re-exec is one too), oldest first, at most 64.
    pub starts: Vec<BootTime>,
}
