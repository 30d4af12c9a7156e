//! Sessions and their homes. Which process is the primary of a home is decided in `sessions`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::label::Label;
use crate::model::process::{Bytes, DirId, Tty};
use crate::model::starts::Starts;

/// The identity of a home on this host: a directory, the user whose processes it counts, and a number where that
/// user has several sessions there. The processes of another user in the same directory are of another home.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home {
    /// Inode number of the mount namespace; `None` for the host's own.
    pub mnt_ns: Option<u32>,
    /// Absolute path.
    pub path: Bytes,
    /// Real user id of its processes.
    pub uid: u32,
    /// Number of the session among those of the user in this directory, from 1.
    pub instance: u32,
}

impl Home {
    /// Number of the first session of a user in a directory.
    pub const FIRST: u32 = 1;

    /// Returns whether both are the same directory, as far as its name tells.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.mnt_ns == other.mnt_ns && self.path == other.path
    }

    /// Returns whether both are homes of the same user in the same directory, whatever their numbers.
    pub fn is_sibling(&self, other: &Self) -> bool {
        self.is_same_place(other) && self.uid == other.uid
    }
}

/// The state of a session as the core knows it. Readers add the state `unknown` where the host's observer
/// does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The primary runs in its home.
    Live,
    /// The primary is alive and has lost its terminal.
    Detached,
    /// The primary is alive, and its cwd is elsewhere.
    Left,
    /// The primary ended and no root remains.
    Ended,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The primary died; [`Session::death`] tells how.
    Died,
    /// The primary exec'd into a program that its rule does not admit.
    ExecedAway,
    /// The home was deleted, and another directory is at its path.
    Replaced,
    /// The primary left for another home and settled there.
    Moved,
    /// The rules were changed, or arguments of the primary were learned, and no rule admits it to the home.
    NotAdmitted,
    /// The primary changed its real user id, and stands for a session of that user from here on.
    UserChanged,
}

/// A process that could be the primary of a home whose primary is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRoot {
    /// Its identity.
    pub key: ProcessKey,
    /// Its program, or its comm where that is not known.
    pub program: Bytes,
    /// Its controlling terminal.
    pub tty: Option<Tty>,
}

/// Why it is not known whether there is a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The rule requires the owner of the home, who is not known.
    Owner,
    /// The home has too many candidates.
    TooManyCandidates,
    /// The user has too many sessions.
    TooManySessions,
    /// The path of the process's directory is too long to be read, so it is not known which home it is in.
    PathTooLong,
    /// The arguments of the process, on which it depends whether a rule admits it, are not known.
    ArgumentsUnread,
}

/// A user who may have sessions of which not even the name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndecidedUser {
    /// The real user id.
    pub uid: u32,
    /// A process that may be one.
    pub key: ProcessKey,
    /// Why that is not known.
    pub doubt: Doubt,
}

/// A home that may have a session, or would have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Why it is not known whether it has.
    pub doubt: Doubt,
    /// The home.
    pub home: Arc<Home>,
    /// The name that the session would have.
    pub name: Bytes,
    /// The process that would be the primary.
    pub key: ProcessKey,
}

/// The candidates of homes that have no session because their users have too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverLimit {
    /// The first of each user, each with the session that it would be.
    pub candidates: Vec<Undecided>,
    /// The users who have more of them, or some whose names are not known.
    pub users_of_others: Vec<u32>,
}

/// What may be sessions of processes whose arguments are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadArguments {
    /// The homes that may have them, each with one process that may be the primary.
    pub homes: Vec<Undecided>,
    /// The users who may have others, each with one process: what these would be called is not known, or there are too many
    /// processes to look at.
    pub users: Vec<UndecidedUser>,
}

/// A home and its primary, the process that represents it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its identity.
    pub home: Arc<Home>,
    /// The home directory itself, which differs between incarnations of one path. All zero where it is not
    /// known.
    pub home_dir: DirId,
    /// Real user id of the owner of the home directory. `None` where that is not known, or not needed to know
    /// whether the session is foreign.
    pub owner: Option<u32>,
    /// The session's user is neither root nor the one whose home it is: the owner of the directory, or whom the
    /// rule names. `None` while that is not known.
    pub foreign: Option<bool>,
    /// The name that is shown, usually the basename of the home.
    pub name: Bytes,
    /// The primary, or the last one if the session ended.
    pub primary: ProcessKey,
    /// The wrapper under which the primary runs.
    pub wrapper: Option<ProcessKey>,
    /// The number of roots in this home, the primary's included.
    pub roots: u32,
    /// The roots beside the primary's, oldest first, at most [`OTHERS_MAX`](crate::limits::OTHERS_MAX).
    pub others: Vec<OtherRoot>,
    /// The program that the session is of, where the primary runs another one: it was there when the primary that ran that
    /// program ended, and gives the session back when the program returns.
    pub stands_in_for: Option<Bytes>,
    /// Its state.
    pub state: State,
    /// When it entered `state`.
    pub since: BootTime,
    /// Whether a rule admits the primary depends on its arguments, which could not be read yet. The session stays what it
    /// was recorded to be until they are known.
    pub unconfirmed: bool,
    /// The program that the primary was recorded to run, until its arguments are known.
    pub recorded_program: Option<Bytes>,
    /// Where the home was renamed to, or where the primary went.
    pub moved_to: Option<Bytes>,
    /// The home directory was deleted.
    pub cwd_deleted: bool,
    /// Index of the rule that admitted the primary.
    pub rule: usize,
    /// The death of the primary, if that is why the session ended.
    pub death: Option<Death>,
    /// Why it ended, if it ended.
    pub end_reason: Option<EndReason>,
    /// The starts of primaries in this home.
    pub starts: Starts,
    /// What variables in the environment say of the session, in the order of names.
    pub labels: Vec<Label>,
}
