//! Answers and snapshots of which the rows are made into JSON while the client reads: as JSON, a map of which the processes have
//! long arguments takes many times its memory.

use observer_core::left::{FormerSession, Leftover};
use observer_core::session::State;
use observer_core::{BootTime, Core, Process};
use serde::Serialize;

use super::answers::{self, AnswerTime, ListRow, ListedSession, SessionSources, shown};
use crate::api::Context;
use crate::api::answer::ProcessesAnswer;
use crate::api::audience::Audience;
use crate::api::change::{Certainty, body};
use crate::api::leftovers::{LeftoverJson, LeftoversAnswer};
use crate::api::process::ProcessJson;
use crate::api::words::FrameKind;
use crate::socket::frame::line;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::socket::unread::Pieces;
use crate::text::bytes::Big;

/// A row of the map as it was when the answer was made. It shares strings with the map.
trait AnswerRow: Send + Sync {
    /// Bytes that it takes if nothing shares its strings any more.
    fn bytes(&self) -> usize;

    /// Its JSON.
    fn json(&self, context: Context<'_>) -> Vec<u8>;
}

/// A process that was left, and the session in which it was born.
struct LeftoverRow {
    process: Process,
    former: FormerSession,
    rss_pages: u64,
    runs_session: bool,
}

impl AnswerRow for Process {
    fn bytes(&self) -> usize {
        let texts = [&self.exe, &self.cwd.path, &self.cgroup, &self.program, &self.filename];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        size_of::<Self>() + texts + self.argv.as_ref().map_or(0, |argv| argv.bytes.len())
    }

    fn json(&self, context: Context<'_>) -> Vec<u8> {
        json(&ProcessJson::new(self, context))
    }
}

impl AnswerRow for ListRow {
    fn bytes(&self) -> usize {
        self.text_bytes() + size_of::<Self>() + self.primary.bytes()
    }

    fn json(&self, context: Context<'_>) -> Vec<u8> {
        json(&Self::json(self, context))
    }
}

impl AnswerRow for ListedSession {
    fn bytes(&self) -> usize {
        match self {
            Self::Mapped(row) => AnswerRow::bytes(&**row),
            Self::Recorded(end) => end.bytes(),
        }
    }

    fn json(&self, context: Context<'_>) -> Vec<u8> {
        match self {
            Self::Mapped(row) => AnswerRow::json(&**row, context),
            Self::Recorded(end) => json(&end.json(context.audience).unwrap_or_default()),
        }
    }
}

impl AnswerRow for LeftoverRow {
    fn bytes(&self) -> usize {
        let FormerSession { home, name, .. } = &self.former;
        size_of::<Self>() + home.path.len() + name.len() + self.process.bytes()
    }

    fn json(&self, context: Context<'_>) -> Vec<u8> {
        let Self { process, former, rss_pages, runs_session } = self;
        let (rss_pages, runs_session) = (*rss_pages, *runs_session);
        json(&LeftoverJson::new(&Leftover { process, former, rss_pages, runs_session }, context))
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and structs only: serializing them into memory cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// An answer with one list of rows.
struct AnswerPieces<R> {
    /// The line up to the rows, and after them.
    around: [Vec<u8>; 2],
    rows: Vec<R>,
    boot_id: String,
    certain: bool,
}

impl<R> AnswerPieces<R> {
    /// The pieces of `answer`, in whose empty list `list` these rows are.
    fn new(answer: &impl Serialize, list: &str, rows: Vec<R>, context: Context<'_>) -> Self {
        let mut before = line(answer);
        // No key before it has this name, and in a string the quotation marks would be escaped.
        let empty = format!("\"{list}\":[]");
        let found = before.windows(empty.len()).position(|bytes| bytes == empty.as_bytes());
        let after = before.split_off(found.map_or(before.len(), |at| at + empty.len() - 1));
        Self { around: [before, after], rows, boot_id: context.boot_id.into(), certain: context.certain }
    }
}

/// The answer to `list`, as [`answers::list`] has it.
pub fn list(sources: SessionSources<'_>, time: AnswerTime<'_>, ended: bool) -> impl Pieces + use<> {
    let around = answers::list_without_rows(sources, time);
    AnswerPieces::new(&around, "sessions", answers::list_rows(sources, ended), time.context)
}

/// The answer to `processes`, as [`answers::processes`] has it.
pub fn processes(core: &Core, time: AnswerTime<'_>) -> impl Pieces + use<> {
    let around = ProcessesAnswer { head: time.head("processes"), processes: Vec::new() };
    let rows = core.processes().map(|process| shown(core, process)).collect();
    AnswerPieces::new(&around, "processes", rows, time.context)
}

/// The answer to `leftovers`: every process that was born in a session which is over, the oldest first. Of what was born before
/// `unknown_until`, some may not be known.
pub fn leftovers(core: &Core, time: AnswerTime<'_>, unknown_until: Option<BootTime>) -> impl Pieces + use<> {
    let row = |leftover: &Leftover<'_>| LeftoverRow {
        process: shown(core, leftover.process),
        former: leftover.former.clone(),
        rss_pages: leftover.rss_pages,
        runs_session: leftover.runs_session,
    };
    let around = LeftoversAnswer {
        head: time.head("leftovers"),
        births_unknown_until_boottime_ns: unknown_until.map(|until| Big(until.0)),
        leftovers: Vec::new(),
    };
    let rows = core.leftovers().iter().map(row).collect();
    AnswerPieces::new(&around, "leftovers", rows, time.context)
}

impl<R: AnswerRow> Pieces for AnswerPieces<R> {
    fn piece(&self, number: usize, audience: Audience) -> Option<Vec<u8>> {
        let [before, after] = &self.around;
        let Some(at) = number.checked_sub(1) else { return Some(before.clone()) };
        let context = Context { boot_id: &self.boot_id, certain: self.certain, audience };
        match self.rows.get(at) {
            Some(row) if at == 0 => Some(row.json(context)),
            Some(row) => {
                let mut piece = row.json(context);
                piece.insert(0, b',');
                Some(piece)
            }
            None => (at == self.rows.len()).then(|| after.clone()),
        }
    }

    fn bytes(&self) -> usize {
        self.around.iter().map(Vec::len).sum::<usize>() + self.rows.iter().map(R::bytes).sum::<usize>()
    }
}

/// The frames of a snapshot.
struct SnapshotPieces {
    sessions: Vec<ListRow>,
    processes: Vec<Process>,
    at: BootTime,
    wall_offset_ns: i64,
    boot_id: String,
    certain: bool,
}

/// The frames of a snapshot: what `filter` selects of the map.
pub fn snapshot(core: &Core, time: AnswerTime<'_>, filter: &WatchFilter) -> impl Pieces + use<> {
    let live = core.sessions().filter(|(session, _)| session.state != State::Ended);
    let wanted = live.filter(|(session, _)| {
        filter.wants(FrameScope::Session { name: &session.name, home: &session.home.path })
    });
    let sessions = wanted.map(|(session, primary)| ListRow::new(core, session, primary)).collect();
    let wanted = core.processes().filter(|process| {
        let (comm, cwd) = (process.comm.as_bytes(), process.cwd.path.as_deref());
        filter.all() && filter.wants(FrameScope::Process { in_session: false, comm, cwd })
    });
    let processes = wanted.map(|process| shown(core, process)).collect();
    let AnswerTime { at, wall_offset_ns, context } = time;
    let (boot_id, certain) = (context.boot_id.into(), context.certain);
    SnapshotPieces { sessions, processes, at, wall_offset_ns, boot_id, certain }
}

impl SnapshotPieces {
    fn frame(&self, kind: FrameKind, subject: impl Serialize) -> Vec<u8> {
        body(kind, self.at, self.wall_offset_ns, subject)
    }
}

impl Pieces for SnapshotPieces {
    fn piece(&self, number: usize, audience: Audience) -> Option<Vec<u8>> {
        let context = Context { boot_id: &self.boot_id, certain: self.certain, audience };
        let note = Certainty { boot_id: &self.boot_id, certain: self.certain };
        let Some(at) = number.checked_sub(1) else {
            return Some(self.frame(FrameKind::SnapshotBegin, &note));
        };
        if let Some(row) = self.sessions.get(at) {
            return Some(self.frame(FrameKind::Session, row.json(context)));
        }
        let at = at - self.sessions.len();
        match self.processes.get(at) {
            Some(process) => Some(self.frame(FrameKind::Process, ProcessJson::new(process, context))),
            None => (at == self.processes.len()).then(|| self.frame(FrameKind::SnapshotEnd, &note)),
        }
    }

    fn bytes(&self) -> usize {
        let sessions: usize = self.sessions.iter().map(AnswerRow::bytes).sum();
        sessions + self.processes.iter().map(AnswerRow::bytes).sum::<usize>()
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
