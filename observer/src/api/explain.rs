//! Why a process is a session or is not, as JSON.

use observer_core::explanation::{BirthSession, ElectionCriterion, Explanation, Inherited, Position, Unmet};
use observer_core::session::Home;
use observer_core::{Core, ProcessKey};
use serde::{Deserialize, Serialize};

use super::Context;
use super::answer::Head;
use super::explain_words::{ElectedBy, SessionPosition, UnmetCondition};
use super::key::LifeKey;
use super::process::ProcessJson;
use super::session::SessionJson;
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
    /// What decided that it became the primary; null: it is none.
    pub elected_by: Option<ElectedBy>,
    /// The primary, which it is or could be, is a substitute: it gives the session back to the program that the session is of.
    /// null: it is and could be none.
    pub substituted: Option<bool>,
    /// The home concerned.
    pub home: Option<Text<'a>>,
    /// Mount namespace of that home, where it is not the host's own.
    pub home_mnt_ns: Option<u32>,
    /// tgid of the process that decides: the primary for which it stands aside or whose helper it is, the candidate above, or
    /// the program that is too young.
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
    /// What it has from others; null: there is no such process.
    pub inherited: Option<InheritedJson<'a>>,
}

/// What a process has from others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InheritedJson<'a> {
    /// The session in which it was born; null: in none that is known.
    pub session: Option<BirthSessionJson<'a>>,
    /// tgid of the wrapper of the session to which it belongs, if it runs under that.
    pub wrapper_pid: Option<u32>,
    /// tgid of the root of its home or of that session, which is itself or above it.
    pub root_pid: Option<u32>,
    /// tgid of the ancestor by birth from which it has its terminal; null: it has none, or one of its own.
    pub tty_from_pid: Option<u32>,
}

/// The session in which a process was born.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BirthSessionJson<'a> {
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
    /// tgid of its primary.
    pub pid: u32,
    /// The life of its primary, as one word.
    pub key: String,
    /// When it ended, RFC 3339; null: it lives.
    pub ended_at: Option<String>,
    /// tgid of the process from which it has that: of a session that lives, the ancestor by birth that is its primary, wrapper or
    /// launcher; else the process that went on when it ended, which is itself or the nearest such ancestor.
    pub from_pid: u32,
}

impl<'a> InheritedJson<'a> {
    fn new(core: &'a Core, inherited: &'a Inherited, context: Context<'a>) -> Self {
        let pid = |key: Option<ProcessKey>| key.map(|key| key.tgid.0);
        let born_in = inherited.born_in.as_ref();
        Self {
            session: born_in.and_then(|born_in| BirthSessionJson::new(core, born_in, context)),
            wrapper_pid: pid(inherited.wrapper),
            root_pid: pid(inherited.root),
            tty_from_pid: pid(inherited.terminal_of),
        }
    }
}

impl<'a> BirthSessionJson<'a> {
    fn new(core: &'a Core, born_in: &'a BirthSession, context: Context<'a>) -> Option<Self> {
        let (home, name, primary, ended_at, of) = match born_in {
            BirthSession::Live { home, of } => {
                let (session, _) = core.session(home)?;
                (home, &session.name, session.primary, None, of)
            }
            BirthSession::Former { former, of } => {
                let ended_at = rfc3339(former.ended_at, former.wall_offset_ns);
                (&former.home, &former.name, former.primary, Some(ended_at), of)
            }
        };
        Some(Self {
            name: Text::from(&**name),
            home: Text::from(&*home.path),
            home_mnt_ns: home.mnt_ns,
            instance: home.instance,
            uid: home.uid,
            pid: primary.tgid.0,
            key: LifeKey::of(context.boot_id, primary).to_string(),
            ended_at,
            from_pid: of.tgid.0,
        })
    }
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
            elected_by: match explanation.position {
                Position::Primary { elected_by, .. } => Some(elected_by.into()),
                _ => None,
            },
            substituted: match explanation.position {
                Position::Primary { is_substitute: is_substituted, .. }
                | Position::Other { is_substituted, .. } => Some(is_substituted),
                _ => None,
            },
            home: home.map(|home| Text::from(&*home.path)),
            home_mnt_ns: home.and_then(|home| home.mnt_ns),
            by_pid: by.map(|key| key.tgid.0),
            until: until.map(|at| rfc3339(at, wall_offset_ns)),
            session: session.map(|(session, primary)| SessionJson::new(session, primary, context)),
            ignored_by: explanation.ignored_by,
            admitted_by: explanation.admitted_by,
            rules: explanation.rules.iter().map(|unmet| unmet.map(Into::into)).collect(),
            inherited: Some(InheritedJson::new(core, &explanation.inherited, context)),
        }
    }
}

type Parts<'a> = (SessionPosition, Option<&'a Home>, Option<ProcessKey>, Option<observer_core::BootTime>);

/// The fields of a position.
fn parts(position: &Position) -> Parts<'_> {
    match position {
        Position::Primary { home, .. } => (SessionPosition::Primary, Some(home), None, None),
        Position::StandsAside { home, primary } => {
            (SessionPosition::StandsAside, Some(home), Some(*primary), None)
        }
        Position::Other { home, .. } => (SessionPosition::Other, Some(home), None, None),
        Position::Young { home, program, until } => {
            (SessionPosition::Young, Some(home), Some(*program), Some(*until))
        }
        Position::WrapperAlone(home) => (SessionPosition::WrapperAlone, Some(home), None, None),
        Position::Helper { home, of } => (SessionPosition::Helper, Some(home), Some(*of), None),
        Position::Below { home, above } => (SessionPosition::Below, Some(home), Some(*above), None),
        Position::Settling { home, until } => (SessionPosition::Settling, Some(home), None, Some(*until)),
        Position::LeftOut(home) => (SessionPosition::LeftOut, Some(home), None, None),
        Position::TooManySessions(home) => (SessionPosition::TooManySessions, Some(home), None, None),
        Position::AwaitsOwner => (SessionPosition::AwaitsOwner, None, None, None),
        Position::NotAdmitted => (SessionPosition::NotAdmitted, None, None, None),
    }
}

impl From<ElectionCriterion> for ElectedBy {
    fn from(criterion: ElectionCriterion) -> Self {
        match criterion {
            ElectionCriterion::WasPrimary => Self::WasPrimary,
            ElectionCriterion::NewDirectory => Self::NewDirectory,
            ElectionCriterion::Returned => Self::Returned,
            ElectionCriterion::SameChain => Self::SameChain,
            ElectionCriterion::OnlyCandidate => Self::OnlyCandidate,
            ElectionCriterion::Launcher => Self::Launcher,
            ElectionCriterion::Program => Self::Program,
            ElectionCriterion::Terminal => Self::Terminal,
            ElectionCriterion::SessionLeader => Self::SessionLeader,
            ElectionCriterion::Oldest => Self::Oldest,
        }
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
            Unmet::Unit => Self::Unit,
            Unmet::Container => Self::Container,
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
