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
    /// The home is the shortest prefix of the cwd, cut at a component, that matches one of these.
    Prefix(Vec<Box<dyn Pattern>>),
}

/// What is required of a process, its directory aside. A list that is empty requires nothing; of others, one entry
/// has to match.
#[derive(Debug)]
pub struct Conditions {
    /// What is required of the controlling terminal.
    pub tty: TtyRule,
    /// Patterns of comm.
    pub comm: Vec<Box<dyn Pattern>>,
    /// Patterns of the program. None matches a process whose program is not known.
    pub program: Vec<Box<dyn Pattern>>,
    /// Patterns of the path of the executable.
    pub exe: Vec<Box<dyn Pattern>>,
    /// Patterns of the path of the v2 cgroup.
    pub cgroup: Vec<Box<dyn Pattern>>,
    /// Real user ids.
    pub uids: Vec<u32>,
}

impl Default for Conditions {
    /// Requires nothing.
    fn default() -> Self {
        Self {
            tty: TtyRule::Any,
            comm: Vec::new(),
            program: Vec::new(),
            exe: Vec::new(),
            cgroup: Vec::new(),
            uids: Vec::new(),
        }
    }
}

/// One `[[ignore]]` of the configuration: no rule admits the processes that it matches.
#[derive(Debug, Default)]
pub struct Ignore {
    /// Patterns of directories: the cwd is such a directory or below one. An empty list matches any cwd.
    pub cwd: Vec<Box<dyn Pattern>>,
    /// What else is required.
    pub conditions: Conditions,
}

/// One `[[session]]` of the configuration. The first rule that admits a process decides.
#[derive(Debug)]
pub struct Rule {
    /// Where the home is.
    pub home: HomeRule,
    /// What is required of the process. A wrapper need not have the comm, the program or the executable.
    pub conditions: Conditions,
    /// Patterns of comm, of which none may match.
    pub not_comm: Vec<Box<dyn Pattern>>,
    /// Processes with these comms are wrappers: the primary is what runs below them.
    pub wrappers: Vec<Box<dyn Pattern>>,
    /// The home must belong to the real user of the process. The core requests the owner from the edge
    /// ([`Request::HomeOwner`](crate::Request::HomeOwner)).
    pub owner: bool,
    /// A home without a session gets one only when its primary has lived for this long, ns.
    pub min_age_ns: u64,
    /// Template of the name, in which `{basename}`, `{home}` and `{program}` are replaced.
    pub name: String,
}
