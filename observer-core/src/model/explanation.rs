//! Why a process is the session of a home, or is not.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::left::FormerSession;
use crate::model::session::Home;

/// What a process lacks of a rule. Conditions are asked in this order, and the first that fails is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// Its mount namespace is not the host's own.
    MntNs,
    /// Its directory is unknown, deleted or unreachable.
    CwdUnusable,
    /// Its directory is in no home of the rule.
    Cwd,
    /// The controlling terminal.
    Tty,
    /// The socket of the multiplexer in which it runs.
    MuxSocket,
    /// The real user.
    User,
    /// The real user is in none of the groups.
    Group,
    /// The cgroup.
    Cgroup,
    /// The systemd unit.
    Unit,
    /// The container.
    Container,
    /// comm is one of those that the rule refuses.
    NotComm,
    /// The program is one of those that the rule refuses.
    NotProgram,
    /// comm.
    Comm,
    /// The program.
    Program,
    /// The executable.
    Exe,
    /// The arguments.
    Argv,
    /// The home belongs to another user.
    Owner,
    /// The owner of the home is not known.
    OwnerUnknown,
}

/// What decided that a process became the primary of its home. Criteria are asked in this order; among several candidates it is
/// the first in which the primary and the next best of them differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionCriterion {
    /// It was the primary before this map was begun.
    WasPrimary,
    /// Another directory is at the path of the home, and of those in it that could be the primary it is the oldest.
    NewDirectory,
    /// It runs the program that the session is of, and a substitute was the primary.
    Returned,
    /// It is in one chain of launchers and wrappers with the former primary.
    SameChain,
    /// No other process could be the primary.
    OnlyCandidate,
    /// It is the launcher of the former primary, or runs for it.
    Launcher,
    /// It runs the program that the session is of.
    Program,
    /// It has a terminal.
    Terminal,
    /// It leads its POSIX session.
    SessionLeader,
    /// It is the oldest.
    Oldest,
}

/// What a process is to the sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// It is the primary.
    Primary {
        /// The home.
        home: Arc<Home>,
        /// What decided that.
        elected_by: ElectionCriterion,
        /// It is a substitute: it gives the session back to the program that the session is of.
        is_substitute: bool,
    },
    /// It is a wrapper or a launcher, and the primary runs below it.
    StandsAside {
        /// The home.
        home: Arc<Home>,
        /// The primary.
        primary: ProcessKey,
    },
    /// It could be the primary, and another process is.
    Other {
        /// The home.
        home: Arc<Home>,
        /// The primary is a substitute: it gives the session back to the program that the session is of.
        is_substituted: bool,
    },
    /// It, or what it runs as a wrapper or launcher, is too young, or outlived the program that started it a moment ago.
    Young {
        /// The home.
        home: Arc<Home>,
        /// The process that is too young.
        program: ProcessKey,
        /// When that one is old enough.
        until: BootTime,
    },
    /// It is a wrapper with no program below it.
    WrapperAlone(Arc<Home>),
    /// The primary of a session started it.
    Helper {
        /// The home of that session.
        home: Arc<Home>,
        /// That primary.
        of: ProcessKey,
    },
    /// Another process that could be the primary of the same home started it.
    Below {
        /// The home.
        home: Arc<Home>,
        /// That process.
        above: ProcessKey,
    },
    /// It moved into this home, and has not stayed long enough.
    Settling {
        /// The home.
        home: Arc<Home>,
        /// When it will have.
        until: BootTime,
    },
    /// A rule admits it to this home, which has too many candidates (`limits::CANDIDATES_A_HOME_MAX`).
    LeftOut(Arc<Home>),
    /// It, or what it runs, would be the session of this home, whose user has too many (`limits::SESSIONS_A_USER_MAX`).
    TooManySessions(Arc<Home>),
    /// The owner of its home is not known yet.
    AwaitsOwner,
    /// No rule admits it.
    NotAdmitted,
}

/// The session in which a process was born: the innermost one, if there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BirthSession {
    /// It lives.
    Live {
        /// Its home.
        home: Arc<Home>,
        /// The ancestor by birth that is its primary, its wrapper or its launcher.
        of: ProcessKey,
    },
    /// It is over.
    Former {
        /// The session.
        former: Arc<FormerSession>,
        /// The process that went on when it ended: the process itself, or the nearest ancestor by birth that did.
        of: ProcessKey,
    },
}

/// What a process has from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// The session in which it was born; `None`: in none that is known.
    pub born_in: Option<BirthSession>,
    /// The wrapper or launcher of the session to which it belongs, under which it runs.
    pub wrapper: Option<ProcessKey>,
    /// The root of the home of that session, or of its own home, which is the process itself or above it.
    pub root: Option<ProcessKey>,
    /// The ancestor by birth from which it has its terminal: the first that had it. `None`: it has none, or one of its own.
    pub terminal_of: Option<ProcessKey>,
}

/// Why a process is the session of a home, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The process.
    pub key: ProcessKey,
    /// Index of the `[[ignore]]` that matches it.
    pub ignored_by: Option<usize>,
    /// For each rule, what the process lacks; `None`: the rule admits it.
    pub rules: Vec<Option<Unmet>>,
    /// Index of the rule that admitted it. It may lack something of that rule by now.
    pub admitted_by: Option<usize>,
    /// What it is to the sessions.
    pub position: Position,
    /// What it has from others.
    pub inherited: Inherited,
}
