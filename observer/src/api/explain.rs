//! Why a process is a session or is not, as JSON.

use observer_core::explanation::{Explanation, Position, Unmet};
use observer_core::session::Home;
use observer_core::{Core, ProcessKey};
use serde::{Deserialize, Serialize};

use super::Context;
use super::answer::Head;
use super::process::ProcessJson;
use super::session::SessionJson;
use super::words::{SessionPosition, UnmetCondition};
use crate::text::bytes::Text;
use crate::text::time::rfc3339;

/// Answer to `explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplainAnswer<'a> {
    /// The first fields.
    #[serde(flatten)]
    pub head: Head,
    /// The process; null: there is none with this pid.
    pub process: Option<ProcessJson<'a>>,
    /// What it is to the sessions.
    pub position: SessionPosition,
    /// The home concerned.
    pub home: Option<Text<'a>>,
    /// Mount namespace of that home, where it is not the host's own.
    pub home_mnt_ns: Option<u32>,
    /// tgid of the process that decides: the primary for which it stands aside or whose helper it is, or the candidate above.
    pub by_pid: Option<u32>,
    /// When it may become the primary, where it waits for that.
    pub until: Option<String>,
    /// The session of that home, as `list` has it.
    pub session: Option<SessionJson<'a>>,
    /// Number of the `[[ignore]]` that matches it, counted from 0. One more than the configuration has: observer's own commands.
    pub ignored_by: Option<usize>,
    /// Number of the rule that admitted it, counted from 0.
    pub admitted_by: Option<usize>,
    /// What the process lacks of each rule; null: that rule admits it.
    pub rules: Vec<Option<UnmetCondition>>,
}

impl<'a> ExplainAnswer<'a> {
    /// The answer for a process of the map. `time` makes RFC 3339 of a boot time by realtime minus boot time, ns.
    pub fn new(
        core: &'a Core,
        explanation: Option<&'a Explanation>,
        head: Head,
        wall_offset_ns: i64,
        context: Context<'a>,
    ) -> Self {
        let Some(explanation) = explanation else { return Self { head, ..Self::default() } };
        let (position, home, by, until) = parts(&explanation.position);
        let session = home.and_then(|home| core.session(home));
        Self {
            head,
            process: core.process_by_key(explanation.key).map(|process| ProcessJson::new(process, context)),
            position,
            home: home.map(|home| Text::from(&*home.path)),
            home_mnt_ns: home.and_then(|home| home.mnt_ns),
            by_pid: by.map(|key| key.tgid.0),
            until: until.map(|at| rfc3339(at, wall_offset_ns)),
            session: session.map(|(session, primary)| SessionJson::new(session, primary, context)),
            ignored_by: explanation.ignored_by,
            admitted_by: explanation.admitted_by,
            rules: explanation.rules.iter().map(|unmet| unmet.map(Into::into)).collect(),
        }
    }
}

type Parts<'a> = (SessionPosition, Option<&'a Home>, Option<ProcessKey>, Option<observer_core::BootTime>);

/// The fields of a position.
fn parts(position: &Position) -> Parts<'_> {
    match position {
        Position::Primary(home) => (SessionPosition::Primary, Some(home), None, None),
        Position::StandsAside { home, primary } => {
            (SessionPosition::StandsAside, Some(home), Some(*primary), None)
        }
        Position::Other(home) => (SessionPosition::Other, Some(home), None, None),
        Position::Young { home, until } => (SessionPosition::Young, Some(home), None, Some(*until)),
        Position::WrapperAlone(home) => (SessionPosition::WrapperAlone, Some(home), None, None),
        Position::Helper { home, of } => (SessionPosition::Helper, Some(home), Some(*of), None),
        Position::Below { home, above } => (SessionPosition::Below, Some(home), Some(*above), None),
        Position::Settling { home, until } => (SessionPosition::Settling, Some(home), None, Some(*until)),
        Position::AwaitsOwner => (SessionPosition::AwaitsOwner, None, None, None),
        Position::NotAdmitted => (SessionPosition::NotAdmitted, None, None, None),
    }
}

impl From<Unmet> for UnmetCondition {
    fn from(unmet: Unmet) -> Self {
        match unmet {
            Unmet::MntNs => Self::MntNs,
            Unmet::CwdUnusable => Self::CwdUnusable,
            Unmet::Cwd => Self::Cwd,
            Unmet::Tty => Self::Tty,
            Unmet::MuxSocket => Self::MuxSocket,
            Unmet::User => Self::User,
            Unmet::Group => Self::Group,
            Unmet::Cgroup => Self::Cgroup,
            Unmet::NotComm => Self::NotComm,
            Unmet::NotProgram => Self::NotProgram,
            Unmet::Comm => Self::Comm,
            Unmet::Program => Self::Program,
            Unmet::Exe => Self::Exe,
            Unmet::Argv => Self::Argv,
            Unmet::Owner => Self::Owner,
            Unmet::OwnerUnknown => Self::OwnerUnknown,
        }
    }
}
