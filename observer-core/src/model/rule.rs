//! Session rules: which processes may be the primary of a session, and where its home is.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A pattern over bytes. The edge makes it of a glob.
pub trait Pattern: fmt::Debug + Send + Sync {
    /// Returns whether the pattern matches all of `bytes`.
    fn is_match(&self, bytes: &[u8]) -> bool;
}

/// What a rule requires of the controlling terminal.
#[derive(Debug)]
pub enum TtyRule {
    /// Nothing: any terminal or none.
    Any,
    /// The process has no terminal.
    None,
    /// The process has a terminal whose name as shown (`pts/3`) matches.
    Matches(Box<dyn Pattern>),
}

/// Where a rule finds the home of a process.
#[derive(Debug)]
pub enum HomeRule {
    /// The home is the cwd of the process.
    Cwd,
    /// The home is the shortest prefix of the cwd, cut at a component, that matches.
    Prefix(Box<dyn Pattern>),
}

/// One `[[session]]` of the configuration. The first rule that admits a process decides.
#[derive(Debug)]
pub struct Rule {
    /// Where the home is.
    pub home: HomeRule,
    /// What is required of the terminal.
    pub tty: TtyRule,
    /// comm must match one of these; an empty list admits any comm.
    pub comm: Vec<Box<dyn Pattern>>,
    /// The program must match one of these; an empty list admits any, also one that is not known.
    pub program: Vec<Box<dyn Pattern>>,
    /// comm must match none of these.
    pub not_comm: Vec<Box<dyn Pattern>>,
    /// Processes with these comms are wrappers: the primary is what runs below them.
    pub wrappers: Vec<Box<dyn Pattern>>,
    /// The path of the executable must match; `None` admits any.
    pub exe: Option<Box<dyn Pattern>>,
    /// The path of the v2 cgroup must match; `None` admits any.
    pub cgroup: Option<Box<dyn Pattern>>,
    /// The real user id must be this one; `None` admits any.
    pub uid: Option<u32>,
    /// The home must belong to the real user of the process. The core requests the owner from the edge
    /// ([`Request::HomeOwner`](crate::Request::HomeOwner)).
    pub owner: bool,
    /// A home without a session gets one only when its primary has lived for this long, ns.
    pub min_age_ns: u64,
    /// Template of the name, in which `{basename}`, `{home}` and `{program}` are replaced.
    pub name: String,
}
