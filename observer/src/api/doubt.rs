//! What is not known of sessions, and why: homes that may have one, and users who may.

use std::borrow::Cow;
use std::fmt;

use observer_core::session::{Doubt, Undecided, UndecidedUser};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key::LifeKey;
use super::words::words;
use crate::text::bytes::Text;

words! {
    /// Why it is not known whether there is a session. A daemon of an earlier version gives no reason, which is `owner`.
    DoubtReason {
        /// The rule requires the owner of the home, who is not known.
        Owner = "owner",
        /// More processes are in the home than are looked at.
        TooManyCandidates = "too_many_candidates",
        /// The user has as many sessions as one may have.
        TooManySessions = "too_many_sessions",
        /// The path of the process's directory is too long to be read.
        PathTooLong = "path_too_long",
        /// The arguments of the process, which the rules ask for, are not known.
        ArgumentsUnread = "arguments_unread",
    }
}

impl From<Doubt> for DoubtReason {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Owner => Self::Owner,
            Doubt::TooManyCandidates => Self::TooManyCandidates,
            Doubt::TooManySessions => Self::TooManySessions,
            Doubt::PathTooLong => Self::PathTooLong,
            Doubt::ArgumentsUnread => Self::ArgumentsUnread,
        }
    }
}

/// A home that has a session if something is so that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UndecidedJson<'a> {
    /// The name that the session would have.
    pub name: Text<'a>,
    /// Path of the home.
    pub home: Text<'a>,
    /// tgid of a process that would be its primary.
    pub pid: u32,
    /// The same process as one word.
    pub key: String,
    /// Real user id of the process.
    pub uid: u32,
    /// What is not known.
    pub reason: DoubtReason,
}

impl UndecidedJson<'static> {
    /// The JSON of a home of this boot.
    pub fn new(undecided: &Undecided, boot_id: &str) -> Self {
        let Undecided { doubt, home, name, key } = undecided;
        Self {
            name: Text::from(name.to_vec()),
            home: Text::from(home.path.to_vec()),
            pid: key.tgid.0,
            key: LifeKey::of(boot_id, *key).to_string(),
            uid: home.uid,
            reason: DoubtReason::from(*doubt),
        }
    }
}

/// A user who may have sessions of which not even the name is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UndecidedUserJson {
    /// Real user id.
    pub uid: u32,
    /// tgid of a process that may be one.
    pub pid: u32,
    /// The same process as one word.
    pub key: String,
    /// Why that is not known.
    pub reason: DoubtReason,
}

impl UndecidedUserJson {
    /// The JSON of a user on this boot.
    pub fn new(undecided: UndecidedUser, boot_id: &str) -> Self {
        let UndecidedUser { uid, key, doubt } = undecided;
        let word = LifeKey::of(boot_id, key).to_string();
        Self { uid, pid: key.tgid.0, key: word, reason: DoubtReason::from(doubt) }
    }
}
