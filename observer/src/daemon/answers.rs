//! Answers from the map, as lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use observer_core::explanation::Explanation;
use observer_core::left::Leftover;
use observer_core::session::{Home, State};
use observer_core::{BootTime, Core, Process, Session, Tgid};
use serde::Serialize;

use super::costs::CostReader;
use crate::api::Context;
use crate::api::answer::{Head, ListAnswer, NamesakeJson, ProcessesAnswer, UndecidedJson};
use crate::api::change::{Certainty, body};
use crate::api::cost::CostJson;
use crate::api::explain::ExplainAnswer;
use crate::api::key::LifeKey;
use crate::api::leftovers::{LeftoverJson, LeftoversAnswer};
use crate::api::process::ProcessJson;
use crate::api::session::SessionJson;
use crate::api::words::FrameKind;
use crate::socket::frame::line;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::terminal;
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

    fn frame(&self, kind: FrameKind, subject: impl Serialize) -> Bytes {
        Bytes::from(body(kind, self.at, self.wall_offset_ns, subject))
    }
}

/// The answer to `list`: sessions by name, then home; those that have ended only if `ended`.
pub fn list<'a>(core: &'a Core, time: AnswerTime<'a>, ended: bool) -> ListAnswer<'a> {
    let mut rows: Vec<(&Session, &Process)> =
        core.sessions().filter(|(session, _)| ended || session.state != State::Ended).collect();
    rows.sort_by(|(a, _), (b, _)| (&a.name, &a.home).cmp(&(&b.name, &b.home)));
    let mut costs = CostReader::new(core);
    let sessions = rows.iter().map(|(session, primary)| {
        let mut json = SessionJson::new(session, primary, time.context);
        json.primary = json.primary.in_pane(&core.pane(primary));
        let tty = primary.tty.as_ref().filter(|_| core.has_host_terminal(primary));
        if let Some(io) = tty.and_then(terminal::last_io) {
            (json.tty_input_at, json.tty_output_at) = (unix_rfc3339(io.input_ns), unix_rfc3339(io.output_ns));
        }
        if session.state != State::Ended {
            json.cost = costs.read(session.primary).as_ref().map(CostJson::new);
        }
        json
    });
    let namesakes = namesakes(core);
    let undecided = core.undecided().map(|it| UndecidedJson::new(&it, time.context.boot_id));
    ListAnswer {
        head: time.head("list"),
        sessions: sessions.collect(),
        undecided: undecided.collect(),
        awaiting_owners: core
            .awaiting_owners()
            .map(|key| LifeKey::of(time.context.boot_id, key).to_string())
            .collect(),
        namesakes,
    }
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

/// The answer to `leftovers`: every process that was born in a session which is over, the oldest first.
pub fn leftovers<'a>(core: &'a Core, time: AnswerTime<'a>) -> LeftoversAnswer<'a> {
    let json = |leftover: &Leftover<'a>| {
        let mut json = LeftoverJson::new(leftover, time.context);
        json.process = json.process.in_pane(&core.pane(leftover.process));
        json
    };
    LeftoversAnswer { head: time.head("leftovers"), leftovers: core.leftovers().iter().map(json).collect() }
}

/// The answer to `explain`, as a line.
pub fn explain_line(core: &Core, time: AnswerTime<'_>, tgid: Tgid) -> Bytes {
    let explanation = core.explain(tgid);
    shared(&explain(core, time, explanation.as_ref()))
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

/// The frames of a snapshot: what `filter` selects of the map.
pub fn snapshot(core: &Core, time: AnswerTime<'_>, filter: &WatchFilter) -> Arc<[Bytes]> {
    let note = Certainty { boot_id: time.context.boot_id, certain: time.context.certain };
    let mut frames = vec![time.frame(FrameKind::SnapshotBegin, &note)];
    for (session, primary) in core.sessions().filter(|(session, _)| session.state != State::Ended) {
        if filter.wants(FrameScope::Session { name: &session.name, home: &session.home.path }) {
            let mut json = SessionJson::new(session, primary, time.context);
            json.primary = json.primary.in_pane(&core.pane(primary));
            frames.push(time.frame(FrameKind::Session, json));
        }
    }
    if filter.all() {
        for process in core.processes() {
            let comm = process.comm.as_bytes();
            let scope = FrameScope::Process { in_session: false, comm, cwd: process.cwd.path.as_deref() };
            if filter.wants(scope) {
                let json = ProcessJson::new(process, time.context).in_pane(&core.pane(process));
                frames.push(time.frame(FrameKind::Process, json));
            }
        }
    }
    frames.push(time.frame(FrameKind::SnapshotEnd, &note));
    frames.into()
}
