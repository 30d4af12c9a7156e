//! The answer to `leftovers`: processes that were born in a session which is over.

use observer_core::left::{FormerSession, Leftover};
use serde::{Deserialize, Serialize};

use super::Context;
use super::answer::Head;
use super::cost::bytes_of_pages;
use super::key::LifeKey;
use super::process::ProcessJson;
use crate::text::bytes::Text;
use crate::text::time::rfc3339;

/// Answer to `leftovers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftoversAnswer<'a> {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// Live processes that were born in a session which is over, the oldest first.
    pub leftovers: Vec<LeftoverJson<'a>>,
}

/// A live process that was born in a session which is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftoverJson<'a> {
    /// The session in which it was born.
    pub session: FormerSessionJson<'a>,
    /// The memory that it has, bytes; null where it is not known.
    pub rss_bytes: Option<u64>,
    /// Whether a session that lives was born below it, as in a multiplexer.
    pub runs_session: bool,
    /// The fields of the process.
    #[serde(flatten)]
    pub process: ProcessJson<'a>,
}

/// A life of a session that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormerSessionJson<'a> {
    /// Raw name.
    pub name: Text<'a>,
    /// Path of the home.
    pub home: Text<'a>,
    /// Mount namespace of the home, where it is not the host's own.
    pub home_mnt_ns: Option<u32>,
    /// Number of the session among those of the user in this home, from 1.
    pub instance: u32,
    /// Real user id of its primary.
    pub uid: u32,
    /// Whether that was another user than the one whose home it is; null where that was not known.
    pub foreign: Option<bool>,
    /// tgid of its primary.
    pub pid: u32,
    /// The life of its primary, as one word.
    pub key: String,
    /// When it ended, RFC 3339.
    pub ended_at: String,
}

impl<'a> LeftoverJson<'a> {
    /// The JSON of `leftover`.
    pub fn new(leftover: &Leftover<'a>, context: Context<'a>) -> Self {
        Self {
            session: FormerSessionJson::new(leftover.former, context),
            rss_bytes: bytes_of_pages(leftover.rss_pages).filter(|&bytes| bytes != 0),
            runs_session: leftover.runs_session,
            process: ProcessJson::new(leftover.process, context),
        }
    }
}

impl<'a> FormerSessionJson<'a> {
    fn new(former: &'a FormerSession, context: Context<'_>) -> Self {
        let FormerSession { home, name, foreign, primary, ended_at, wall_offset_ns } = former;
        Self {
            name: Text::from(&**name),
            home: Text::from(&*home.path),
            home_mnt_ns: home.mnt_ns,
            instance: home.instance,
            uid: home.uid,
            foreign: *foreign,
            pid: primary.tgid.0,
            key: LifeKey::of(context.boot_id, *primary).to_string(),
            ended_at: rfc3339(*ended_at, *wall_offset_ns),
        }
    }
}
