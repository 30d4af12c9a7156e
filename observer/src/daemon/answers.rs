//! Answers from the map, as lines.

use std::collections::BTreeMap;

use bytes::Bytes;
use observer_core::explanation::Explanation;
use observer_core::session::{Home, State};
use observer_core::{BootTime, Core, Process, Session, Tgid};
use serde::Serialize;

use super::costs::CostReader;
use crate::api::Context;
use crate::api::answer::{Head, ListAnswer, NamesakeJson, ProcessesAnswer, UndecidedJson};
use crate::api::cost::CostJson;
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

/// The answer to `list`: sessions by name, then home; those that have ended only if `ended`.
pub fn list<'a>(core: &'a Core, time: AnswerTime<'a>, ended: bool) -> ListAnswer<'a> {
    let mut costs = CostReader::new(core);
    let sessions = in_order(core, ended).into_iter().map(|(session, primary)| {
        let mut json = SessionJson::new(session, primary, time.context);
        json.primary = json.primary.in_pane(&core.pane(primary));
        ReadNow::of(core, &mut costs, session, primary).in_json(json)
    });
    ListAnswer { sessions: sessions.collect(), ..list_without_rows(core, time) }
}

/// The sessions of that answer.
pub fn list_rows(core: &Core, ended: bool) -> Vec<ListRow> {
    let mut costs = CostReader::new(core);
    let rows = in_order(core, ended).into_iter().map(|(session, primary)| ListRow {
        now: ReadNow::of(core, &mut costs, session, primary),
        ..ListRow::new(core, session, primary)
    });
    rows.collect()
}

/// That answer without its sessions.
pub fn list_without_rows(core: &Core, time: AnswerTime<'_>) -> ListAnswer<'static> {
    let key = |key| LifeKey::of(time.context.boot_id, key).to_string();
    let undecided = |it| UndecidedJson::new(&it, time.context.boot_id);
    let over_limit = core.over_limit();
    ListAnswer {
        head: time.head("list"),
        sessions: Vec::new(),
        undecided: core.undecided().map(undecided).collect(),
        awaiting_owners: core.awaiting_owners().map(key).collect(),
        namesakes: namesakes(core),
        over_limit: over_limit.candidates.into_iter().map(undecided).collect(),
        too_many_sessions: over_limit.users_of_others,
    }
}

/// Sessions by name, then home; those that have ended only if `ended`.
fn in_order(core: &Core, ended: bool) -> Vec<(&Session, &Process)> {
    let mut rows: Vec<_> =
        core.sessions().filter(|(session, _)| ended || session.state != State::Ended).collect();
    rows.sort_by(|(a, _), (b, _)| (&a.name, &a.home).cmp(&(&b.name, &b.home)));
    rows
}

/// For each name of live sessions the last session that ended, had that name, and was of another user in another home than
/// one of them.
fn namesakes(core: &Core) -> Vec<NamesakeJson<'static>> {
    let has_ended = |session: &Session| session.state == State::Ended;
    let mut live: BTreeMap<&[u8], NameInUse<'_>> = BTreeMap::new();
    for (session, _) in core.sessions().filter(|(session, _)| !has_ended(session)) {
        live.entry(name_of_home(session)).or_default().add(&session.home);
    }
    for (session, primary) in core.sessions().filter(|(session, _)| has_ended(session)) {
        if let Some(name) = live.get_mut(name_of_home(session)) {
            name.consider(session, primary);
        }
    }
    let found = live.into_iter().filter_map(|(name, in_use)| Some((name, in_use.last_ended?)));
    let json = found.map(|(name, (session, primary))| NamesakeJson {
        name: Text::from(name.to_vec()),
        home: Text::from(session.home.path.to_vec()),
        home_mnt_ns: session.home.mnt_ns,
        uid: session.home.uid,
        ended_at: rfc3339(session.since, primary.wall_offset_ns),
    });
    json.collect()
}

/// A name that live sessions have.
#[derive(Default)]
struct NameInUse<'a> {
    /// Homes of that name, two of each user: one of them is elsewhere than any third one.
    homes: Vec<&'a Home>,
    /// The last session that ended and may be meant by the name instead, with its primary.
    last_ended: Option<(&'a Session, &'a Process)>,
}

impl<'a> NameInUse<'a> {
    fn add(&mut self, home: &'a Home) {
        let of_user = self.homes.iter().filter(|known| known.uid == home.uid).count();
        let is_known = self.homes.iter().any(|known| (known.uid, &known.path) == (home.uid, &home.path));
        if of_user < 2 && !is_known && self.homes.len() < NAMESAKE_HOMES_MAX {
            self.homes.push(home);
        }
    }

    fn consider(&mut self, session: &'a Session, primary: &'a Process) {
        let is_other = |home: &&Home| home.uid != session.home.uid && home.path != session.home.path;
        let is_later = self.last_ended.is_none_or(|(last, _)| last.since < session.since);
        if is_later && self.homes.iter().any(is_other) {
            self.last_ended = Some((session, primary));
        }
    }
}

/// The name without the number of an instance, which the sessions of a home have in common.
fn name_of_home(session: &Session) -> &[u8] {
    let number = format!("#{}", session.home.instance);
    let is_numbered = session.home.instance > Home::FIRST;
    session.name.strip_suffix(number.as_bytes()).filter(|_| is_numbered).unwrap_or(&session.name)
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
