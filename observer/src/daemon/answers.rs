//! Answers from the map, as lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use observer_core::explanation::Explanation;
use observer_core::session::{Home, State};
use observer_core::{BootTime, Core, Process, Session, Tgid};
use serde::Serialize;

use super::costs::CostReader;
use super::ends::{RecordedEnd, RecordedEnds};
use crate::api::Context;
use crate::api::answer::{Head, ListAnswer, NamesakeJson, ProcessesAnswer};
use crate::api::audience::Audience;
use crate::api::cost::CostJson;
use crate::api::doubt::{UndecidedJson, UndecidedUserJson};
use crate::api::explain::ExplainAnswer;
use crate::api::key::LifeKey;
use crate::api::process::ProcessJson;
use crate::api::session::SessionJson;
use crate::socket::frame::line;
use crate::terminal::{self, LastIo};
use crate::text::bytes::{Big, Text};
use crate::text::time::{rfc3339, unix_rfc3339};

/// Homes of one name that are compared with a session that ended.
const NAMESAKE_HOMES_MAX: usize = 16;

/// When an answer is made, and how certain it is.
#[derive(Clone, Copy, Debug)]
pub struct AnswerTime<'a> {
    /// Boot time.
    pub at: BootTime,
    /// Realtime minus boot time, ns.
    pub wall_offset_ns: i64,
    /// The fields that every object carries.
    pub context: Context<'a>,
}

impl AnswerTime<'_> {
    /// The same for another reader.
    #[must_use]
    pub const fn read_by(self, audience: Audience) -> Self {
        Self { context: self.context.read_by(audience), ..self }
    }

    /// The first fields of an answer.
    pub fn head(&self, kind: &str) -> Head {
        Head {
            kind: kind.into(),
            at: rfc3339(self.at, self.wall_offset_ns),
            boottime_ns: Big(self.at.0),
            boot_id: self.context.boot_id.into(),
            certain: self.context.certain,
        }
    }
}

/// A session of an answer, as it was when the answer was made.
pub struct ListRow {
    session: Session,
    /// Its primary, in its pane.
    pub primary: Process,
    now: ReadNow,
}

/// What is read for an answer alone.
#[derive(Default)]
struct ReadNow {
    io: Option<LastIo>,
    cost: Option<CostJson>,
}

impl ReadNow {
    fn of(core: &Core, costs: &mut CostReader<'_>, session: &Session, primary: &Process) -> Self {
        let tty = primary.tty.as_ref().filter(|_| core.has_host_terminal(primary));
        let lives = session.state != State::Ended;
        let cost = if lives { costs.read(session.primary) } else { None };
        Self { io: tty.and_then(terminal::last_io), cost: cost.as_ref().map(CostJson::new) }
    }

    fn in_json<'a>(&self, mut json: SessionJson<'a>) -> SessionJson<'a> {
        if let Some(io) = self.io {
            (json.tty_input_at, json.tty_output_at) = (unix_rfc3339(io.input_ns), unix_rfc3339(io.output_ns));
        }
        json.cost.clone_from(&self.cost);
        json
    }
}

impl ListRow {
    /// A session without what is read for `list` alone.
    pub fn new(core: &Core, session: &Session, primary: &Process) -> Self {
        Self { session: session.clone(), primary: shown(core, primary), now: ReadNow::default() }
    }

    /// Bytes of what it has beside its primary.
    pub fn text_bytes(&self) -> usize {
        let Session { home, name, others, starts, labels, .. } = &self.session;
        let labels: usize = labels.iter().map(|label| label.value.len() + label.variable.len()).sum();
        let lists = size_of_val(others.as_slice()) + starts.len() * size_of::<BootTime>();
        home.path.len() + name.len() + labels + lists
    }

    /// Its JSON.
    pub fn json<'a>(&'a self, context: Context<'a>) -> SessionJson<'a> {
        self.now.in_json(SessionJson::new(&self.session, &self.primary, context))
    }
}

/// The process in its pane, without its environment, which no answer shows.
pub fn shown(core: &Core, process: &Process) -> Process {
    Process { pane: core.pane(process), env: None, ..process.clone() }
}

/// What answers about sessions are made from.
#[derive(Clone, Copy)]
pub struct SessionSources<'a> {
    /// The map.
    pub core: &'a Core,
    /// What the journal knows of sessions that had ended before.
    pub ends: &'a RecordedEnds,
}

/// A row of the answer to `list`, as it was when the answer was made.
pub enum ListedSession {
    /// Of the map.
    Mapped(Box<ListRow>),
    /// Of the journal.
    Recorded(Arc<RecordedEnd>),
}

/// A session of the answer to `list`.
enum Listed<'a> {
    Mapped(&'a Session, &'a Process),
    Recorded(&'a Arc<RecordedEnd>),
}

impl<'a> Listed<'a> {
    fn name_and_home(&self) -> (&'a [u8], &'a Home) {
        match self {
            Self::Mapped(session, _) => (&session.name, &session.home),
            Self::Recorded(end) => (end.name(), &end.home),
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Self::Mapped(session, _) => session.state == State::Ended,
            Self::Recorded(_) => true,
        }
    }

    /// Of a session that ended: when.
    fn since_boot(&self) -> BootTime {
        match self {
            Self::Mapped(session, _) => session.since,
            Self::Recorded(end) => end.at(),
        }
    }

    /// The same as text.
    fn since(&self) -> String {
        match self {
            Self::Mapped(session, primary) => rfc3339(session.since, primary.wall_offset_ns),
            Self::Recorded(end) => end.json(Audience::Anyone).map(|json| json.since).unwrap_or_default(),
        }
    }
}

impl<'a> SessionSources<'a> {
    /// Every session, and those that have ended.
    fn all(self) -> impl Iterator<Item = Listed<'a>> {
        let mapped = self.core.sessions().map(|(session, primary)| Listed::Mapped(session, primary));
        mapped.chain(self.ends.beside(self.core).map(Listed::Recorded))
    }

    /// Sessions by name, then home; those that have ended only if `ended`.
    fn in_order(self, ended: bool) -> Vec<Listed<'a>> {
        let mut rows: Vec<_> = self.all().filter(|listed| ended || !listed.has_ended()).collect();
        rows.sort_by(|a, b| a.name_and_home().cmp(&b.name_and_home()));
        rows
    }
}

/// The answer to `list`: sessions by name, then home; those that have ended only if `ended`.
pub fn list<'a>(sources: SessionSources<'a>, time: AnswerTime<'a>, ended: bool) -> ListAnswer<'a> {
    let core = sources.core;
    let mut costs = CostReader::new(core);
    let sessions = sources.in_order(ended).into_iter().filter_map(|listed| match listed {
        Listed::Mapped(session, primary) => {
            let mut json = SessionJson::new(session, primary, time.context);
            json.primary = json.primary.in_pane(&core.pane(primary));
            Some(ReadNow::of(core, &mut costs, session, primary).in_json(json))
        }
        Listed::Recorded(end) => end.json(time.context.audience),
    });
    ListAnswer { sessions: sessions.collect(), ..list_without_rows(sources, time) }
}

/// The sessions of that answer.
pub fn list_rows(sources: SessionSources<'_>, ended: bool) -> Vec<ListedSession> {
    let core = sources.core;
    let mut costs = CostReader::new(core);
    let rows = sources.in_order(ended).into_iter().map(|listed| match listed {
        Listed::Mapped(session, primary) => ListedSession::Mapped(Box::new(ListRow {
            now: ReadNow::of(core, &mut costs, session, primary),
            ..ListRow::new(core, session, primary)
        })),
        Listed::Recorded(end) => ListedSession::Recorded(Arc::clone(end)),
    });
    rows.collect()
}

/// That answer without its sessions.
pub fn list_without_rows(sources: SessionSources<'_>, time: AnswerTime<'_>) -> ListAnswer<'static> {
    let core = sources.core;
    let key = |key| LifeKey::of(time.context.boot_id, key).to_string();
    let undecided = |it| UndecidedJson::new(&it, time.context.boot_id);
    let user = |it| UndecidedUserJson::new(it, time.context.boot_id);
    let (over_limit, unread) = (core.over_limit(), core.unread_arguments());
    ListAnswer {
        head: time.head("list"),
        sessions: Vec::new(),
        undecided: core.undecided().chain(unread.homes).map(undecided).collect(),
        awaiting_owners: core.awaiting_owners().map(key).collect(),
        namesakes: namesakes(sources),
        over_limit: over_limit.candidates.into_iter().map(undecided).collect(),
        too_many_sessions: over_limit.users_of_others,
        undecided_users: core.undecided_users().into_iter().chain(unread.users).map(user).collect(),
    }
}

/// For each name of live sessions the last session that ended, had that name, and was of another user in another home than
/// one of them.
fn namesakes(sources: SessionSources<'_>) -> Vec<NamesakeJson<'static>> {
    let mut live: BTreeMap<&[u8], NameInUse<'_>> = BTreeMap::new();
    let mut ended = Vec::new();
    for listed in sources.all() {
        let (name, home) = listed.name_and_home();
        let name = name_of_home(name, home);
        if listed.has_ended() {
            ended.push((name, listed));
        } else {
            live.entry(name).or_default().add(home);
        }
    }
    for (name, listed) in ended {
        if let Some(in_use) = live.get_mut(name) {
            in_use.consider(listed);
        }
    }
    let found = live.into_iter().filter_map(|(name, in_use)| Some((name, in_use.last_ended?)));
    let json = found.map(|(name, listed)| {
        let (_, home) = listed.name_and_home();
        NamesakeJson {
            name: Text::from(name.to_vec()),
            home: Text::from(home.path.to_vec()),
            home_mnt_ns: home.mnt_ns,
            uid: home.uid,
            ended_at: listed.since(),
        }
    });
    json.collect()
}

/// A name that live sessions have.
#[derive(Default)]
struct NameInUse<'a> {
    /// Homes of that name, two of each user: one of them is elsewhere than any third one.
    homes: Vec<&'a Home>,
    /// The last session that ended and may be meant by the name instead.
    last_ended: Option<Listed<'a>>,
}

impl<'a> NameInUse<'a> {
    fn add(&mut self, home: &'a Home) {
        let of_user = self.homes.iter().filter(|known| known.uid == home.uid).count();
        let is_known = self.homes.iter().any(|known| (known.uid, &known.path) == (home.uid, &home.path));
        if of_user < 2 && !is_known && self.homes.len() < NAMESAKE_HOMES_MAX {
            self.homes.push(home);
        }
    }

    fn consider(&mut self, ended: Listed<'a>) {
        let (_, home) = ended.name_and_home();
        let is_other = |other: &&Home| other.uid != home.uid && other.path != home.path;
        let is_later = self.last_ended.as_ref().is_none_or(|last| last.since_boot() < ended.since_boot());
        if is_later && self.homes.iter().any(is_other) {
            self.last_ended = Some(ended);
        }
    }
}

/// The name without the number of an instance, which the sessions of a home have in common.
fn name_of_home<'a>(name: &'a [u8], home: &Home) -> &'a [u8] {
    if home.instance == Home::FIRST {
        return name;
    }
    name.strip_suffix(format!("#{}", home.instance).as_bytes()).unwrap_or(name)
}

/// The answer to `processes`: every process, by pid.
pub fn processes<'a>(core: &'a Core, time: AnswerTime<'a>) -> ProcessesAnswer<'a> {
    let processes =
        core.processes().map(|process| ProcessJson::new(process, time.context).in_pane(&core.pane(process)));
    ProcessesAnswer { head: time.head("processes"), processes: processes.collect() }
}

/// The answer to `explain`, as a line.
pub fn explain_line(core: &Core, time: AnswerTime<'_>, tgid: Tgid) -> Vec<u8> {
    let explanation = core.explain(tgid);
    line(&explain(core, time, explanation.as_ref()))
}

/// The answer to `explain`. `explanation` is the core's; `None`: there is no such process.
pub fn explain<'a>(
    core: &'a Core,
    time: AnswerTime<'a>,
    explanation: Option<&'a Explanation>,
) -> ExplainAnswer<'a> {
    ExplainAnswer::new(core, explanation, time.head("explain"), time.wall_offset_ns, time.context)
}

/// An answer as a line, which clients that ask the same share.
pub fn shared(answer: &impl Serialize) -> Bytes {
    Bytes::from(line(answer))
}
