//! Sessions as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use observer_core::limits::STARTS_MAX;
use observer_core::process::DirId;
use observer_core::session::OtherRoot;
use observer_core::{Process, Session};
use serde::{Deserialize, Serialize};

use super::Context;
use super::cost::CostJson;
use super::death::DeathJson;
use super::key::LifeKey;
use super::process::{ProcessJson, device, device_number, tty_name};
use super::words::{SessionEndReason, SessionState};
use crate::text::bytes::{Big, Text};
use crate::text::time::rfc3339;

/// A session, as docs/json.md describes it: the fields of its home, and those of its primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionJson<'a> {
    /// Raw name.
    pub name: Text<'a>,
    /// Path of the home.
    pub home: Text<'a>,
    /// Mount namespace of the home, where it is not the host's own.
    pub home_mnt_ns: Option<u32>,
    /// Number of the session among those of the user in this home, from 1.
    pub instance: u32,
    /// State of the session.
    pub state: SessionState,
    /// When the state was entered, RFC 3339.
    pub since: String,
    /// Roots in this home, the primary included.
    pub roots: u32,
    /// The processes of these roots beside the primary's, oldest first, at most 16.
    pub others: Vec<OtherJson<'a>>,
    /// The program that the session is of, where the primary runs another one until that one returns.
    pub stands_in_for: Option<Text<'a>>,
    /// tgid of the wrapper that the primary runs under.
    pub wrapper_pid: Option<u32>,
    /// Where the home was renamed to, or the primary went.
    pub moved_to: Option<Text<'a>>,
    /// Whether the home itself was deleted.
    pub home_deleted: bool,
    /// The home directory itself, where it is known.
    pub home_dir: Option<DirJson>,
    /// Real user id of the owner of the home directory; null where it is not known, or not needed to tell `foreign`.
    pub owner: Option<u32>,
    /// Whether the session's user is neither root nor the one whose home it is; null while that is not known.
    pub foreign: Option<bool>,
    /// Why it ended; null unless it ended.
    pub end_reason: Option<SessionEndReason>,
    /// Starts in this home, oldest first, at most 64; [`SessionJson::starts_counted`] counts them.
    pub starts: Vec<String>,
    /// What variables in the environment say of the session, by the names of the labels. Processes choose them.
    pub labels: BTreeMap<Cow<'a, str>, Text<'a>>,
    /// The variables from which the labels are, by the names of the labels.
    pub label_variables: BTreeMap<Cow<'a, str>, Text<'a>>,
    /// When the primary's terminal last received input; in answers only, null elsewhere.
    pub tty_input_at: Option<String>,
    /// When it last received output; likewise.
    pub tty_output_at: Option<String>,
    /// What the primary and its descendants have used until now; in answers only, and null where it is not known.
    pub cost: Option<CostJson>,
    /// The fields of the primary.
    #[serde(flatten)]
    pub primary: ProcessJson<'a>,
    /// The primary's death; null unless it died.
    #[serde(rename = "death")]
    pub session_death: Option<DeathJson<'a>>,
}

/// The identity of a directory: what tells apart directories that had the same path one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DirJson {
    /// Device of the file system, `major:minor`.
    pub dev: String,
    /// Inode number.
    pub ino: Big,
    /// Generation of the inode; 0 on file systems that have none.
    pub generation: u32,
}

impl DirJson {
    /// `None`: the identity is not known.
    fn new(id: DirId) -> Option<Self> {
        (id != DirId::default()).then(|| Self {
            dev: device(id.dev),
            ino: Big(id.ino),
            generation: id.generation,
        })
    }

    /// The identity as the core has it, without the mount and the inode in memory. All zero if `dev` is none.
    pub fn id(&self) -> DirId {
        let Some(dev) = device_number(&self.dev) else { return DirId::default() };
        DirId { dev, ino: self.ino.0, generation: self.generation, ..DirId::default() }
    }
}

/// A process that could be the primary of a home whose primary is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtherJson<'a> {
    /// tgid.
    pub pid: u32,
    /// Start, boot time in ns.
    pub start_boottime_ns: Big,
    /// The process as one word; empty from a daemon of a former version.
    pub key: String,
    /// Program, or comm where that is not known.
    pub program: Text<'a>,
    /// Controlling terminal: `pts/3`.
    pub tty: Option<Text<'a>>,
}

impl<'a> OtherJson<'a> {
    fn new(other: &'a OtherRoot, boot_id: &str) -> Self {
        Self {
            key: LifeKey::of(boot_id, other.key).to_string(),
            pid: other.key.tgid.0,
            start_boottime_ns: Big(other.key.start_boottime.0),
            program: Text::from(&*other.program),
            tty: other.tty.as_ref().map(|tty| Text::from(tty_name(tty))),
        }
    }
}

impl<'a> SessionJson<'a> {
    /// The JSON of `session` and its primary, as they are in the map.
    pub fn new(session: &'a Session, primary: &'a Process, context: Context<'a>) -> Self {
        let wall = primary.wall_offset_ns;
        let mut process = ProcessJson::new(primary, context);
        process.pid = session.primary.tgid.0;
        process.start_boottime_ns = Big(session.primary.start_boottime.0);
        process.key = LifeKey::of(context.boot_id, session.primary).to_string();
        process.cwd_deleted |= session.cwd_deleted;
        process.certain &= !session.unconfirmed;
        // The executable alone may be an interpreter.
        if let Some(program) = &session.recorded_program {
            process.program = Some(Text::from(&**program));
        }
        let death = |death| DeathJson::new(death, session.primary.start_boottime, wall, context.boot_id);
        Self {
            name: Text::from(&*session.name),
            home: Text::from(&*session.home.path),
            home_mnt_ns: session.home.mnt_ns,
            instance: session.home.instance,
            state: session.state.into(),
            since: rfc3339(session.since, wall),
            roots: session.roots,
            others: session.others.iter().map(|other| OtherJson::new(other, context.boot_id)).collect(),
            stands_in_for: session.stands_in_for.as_deref().map(Text::from),
            wrapper_pid: session.wrapper.map(|key| key.tgid.0),
            moved_to: session.moved_to.as_deref().map(Text::from),
            home_deleted: session.cwd_deleted,
            home_dir: DirJson::new(session.home_dir),
            owner: session.owner,
            foreign: session.foreign,
            end_reason: session.end_reason.map(Into::into),
            starts: session.starts.iter().map(|&at| rfc3339(at, wall)).collect(),
            labels: session
                .labels
                .iter()
                .map(|it| (Cow::Borrowed(&*it.name), Text::from(&*it.value)))
                .collect(),
            label_variables: session
                .labels
                .iter()
                .map(|it| (Cow::Borrowed(&*it.name), Text::from(&*it.variable)))
                .collect(),
            tty_input_at: None,
            tty_output_at: None,
            cost: None,
            primary: process,
            session_death: session.death.as_ref().map(death),
        }
    }

    /// How many starts there were: `7`, and `64+` where older ones are no longer kept.
    pub fn starts_counted(&self) -> String {
        let more = if self.starts.len() >= STARTS_MAX { "+" } else { "" };
        format!("{}{more}", self.starts.len())
    }

    /// The same session after its end.
    pub fn ended(self, since: String, reason: SessionEndReason, death: Option<DeathJson<'a>>) -> Self {
        Self {
            state: SessionState::Ended,
            since,
            roots: 0,
            wrapper_pid: None,
            end_reason: Some(reason),
            session_death: death,
            ..self
        }
    }
}
