//! Session rules: which processes may be the primary of a session, and where its home is.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::model::process::{Bytes, Process};

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

/// What a rule requires of the mount namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MntNsRule {
    /// Nothing: any mount namespace.
    #[default]
    Any,
    /// The process is in the host's own. One whose namespace could not be read counts as in it.
    Host,
}

/// Names of users by their ids.
pub type UserNames = BTreeMap<u32, Bytes>;

/// Makes the names of sessions.
#[derive(Clone, Debug)]
pub struct NameTemplate {
    /// The name, in which `{basename}`, `{parent}`, `{home}`, `{program}` and `{user}` are replaced.
    pub text: Cow<'static, str>,
    /// The names that replace `{user}`. The id replaces it where there is none.
    pub users: Option<Arc<UserNames>>,
}

impl NameTemplate {
    /// The basename of the home.
    pub const BASENAME: &'static Self = &Self { text: Cow::Borrowed("{basename}"), users: None };

    /// Returns whether the name of a session depends on the user of its primary.
    pub fn names_user(&self) -> bool {
        self.text.contains("{user}")
    }
}

impl From<&'static str> for NameTemplate {
    fn from(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), users: None }
    }
}

impl From<String> for NameTemplate {
    fn from(text: String) -> Self {
        Self { text: Cow::Owned(text), users: None }
    }
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
    /// Patterns of the socket of the multiplexer ([`Pane::mux_socket`](crate::process::Pane::mux_socket)).
    pub mux_socket: Vec<Box<dyn Pattern>>,
    /// What is required of the mount namespace.
    pub mnt_ns: MntNsRule,
    /// Patterns of comm.
    pub comm: Vec<Box<dyn Pattern>>,
    /// Patterns of the program. None matches a process whose program is not known.
    pub program: Vec<Box<dyn Pattern>>,
    /// Patterns of the path of the executable.
    pub exe: Vec<Box<dyn Pattern>>,
    /// Patterns of the arguments, of which one has to match one of these. None matches where they are not known.
    pub argv: Vec<Box<dyn Pattern>>,
    /// Patterns of the path of the v2 cgroup.
    pub cgroup: Vec<Box<dyn Pattern>>,
    /// Patterns of the systemd unit ([`Process::unit`](crate::Process::unit)). None matches a process in no unit.
    pub unit: Vec<Box<dyn Pattern>>,
    /// Patterns of the container ([`Process::container`](crate::Process::container)). None matches a process in no container.
    pub container: Vec<Box<dyn Pattern>>,
    /// Real user ids.
    pub uids: Vec<u32>,
    /// Real user ids of the members of groups; `None` requires nothing.
    pub members: Option<Vec<u32>>,
}

impl Conditions {
    /// Returns whether the systemd unit of `process` is what is required.
    pub(crate) fn has_unit(&self, process: &Process) -> bool {
        let is_one = |unit: &[u8]| self.unit.iter().any(|pattern| pattern.is_match(unit));
        self.unit.is_empty() || process.unit().is_some_and(is_one)
    }

    /// Returns whether the container of `process` is what is required.
    pub(crate) fn has_container(&self, process: &Process) -> bool {
        let is_one = |container: &[u8]| self.container.iter().any(|pattern| pattern.is_match(container));
        self.container.is_empty() || process.container().is_some_and(|container| is_one(&container))
    }
}

impl Default for Conditions {
    /// Requires nothing.
    fn default() -> Self {
        Self {
            tty: TtyRule::Any,
            mux_socket: Vec::new(),
            mnt_ns: MntNsRule::Any,
            comm: Vec::new(),
            program: Vec::new(),
            exe: Vec::new(),
            argv: Vec::new(),
            cgroup: Vec::new(),
            unit: Vec::new(),
            container: Vec::new(),
            uids: Vec::new(),
            members: None,
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

/// How many sessions a user has in one home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instances {
    /// One. The other processes that could be its primary are listed in it.
    #[default]
    One,
    /// One for each process that could be the primary.
    Each,
}

/// One `[[session]]` of the configuration. The first rule that admits a process decides.
#[derive(Debug)]
pub struct Rule {
    /// Where the home is.
    pub home: HomeRule,
    /// What is required of the process. A wrapper need not have the comm, the program, the executable or the
    /// arguments.
    pub conditions: Conditions,
    /// Patterns of comm, of which none may match.
    pub not_comm: Vec<Box<dyn Pattern>>,
    /// Patterns of the program, of which none may match.
    pub not_program: Vec<Box<dyn Pattern>>,
    /// Processes with these comms are wrappers: the primary is what runs below them.
    pub wrappers: Vec<Box<dyn Pattern>>,
    /// The home must belong to the real user of the process. The core requests the owner from the edge
    /// ([`Request::HomeOwner`](crate::Request::HomeOwner)).
    pub owner: bool,
    /// How many sessions a user has in one home.
    pub instances: Instances,
    /// A home without a session gets one only when its primary has lived for this long, ns.
    pub min_age_ns: u64,
    /// Makes the name.
    pub name: NameTemplate,
}
