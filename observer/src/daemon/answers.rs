//! Answers out of the live map, as lines.

use std::sync::Arc;

use bytes::Bytes;
use observer_core::session::State;
use observer_core::{BootTime, Core, Process, Session};
use serde::Serialize;

use crate::api::Context;
use crate::api::answer::{Head, ListAnswer, ProcessesAnswer};
use crate::api::change::{Note, body};
use crate::api::process::ProcessJson;
use crate::api::session::SessionJson;
use crate::socket::frame::line;
use crate::socket::hub::{Interest, Scope};
use crate::terminal;
use crate::text::bytes::Big;
use crate::text::time::{rfc3339, unix_rfc3339};

/// When an answer was made and how sure it is.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Boot time.
    pub at: BootTime,
    /// Realtime minus boot time, ns.
    pub wall_offset_ns: i64,
    /// For the objects.
    pub context: Context<'a>,
}

impl Moment<'_> {
    /// First fields of an answer.
    pub fn head(&self, kind: &str) -> Head {
        Head {
            kind: kind.into(),
            at: rfc3339(self.at, self.wall_offset_ns),
            boottime_ns: Big(self.at.0),
            boot_id: self.context.boot_id.into(),
            certain: self.context.certain,
        }
    }

    fn frame(&self, kind: &str, subject: impl Serialize) -> Bytes {
        Bytes::from(body(kind, self.at, self.wall_offset_ns, subject))
    }
}

/// Sessions, by name, then home.
pub fn list<'a>(core: &'a Core, moment: Moment<'a>, ended: bool) -> ListAnswer<'a> {
    let mut rows: Vec<(&Session, &Process)> =
        core.sessions().filter(|(session, _)| ended || session.state != State::Ended).collect();
    rows.sort_by(|(a, _), (b, _)| (&a.name, &a.home).cmp(&(&b.name, &b.home)));
    let sessions = rows.iter().map(|(session, primary)| {
        let mut json = SessionJson::new(session, primary, moment.context);
        if let Some(io) = primary.tty.as_ref().and_then(terminal::last_io) {
            (json.tty_input_at, json.tty_output_at) = (unix_rfc3339(io.input_ns), unix_rfc3339(io.output_ns));
        }
        json
    });
    ListAnswer { head: moment.head("list"), sessions: sessions.collect() }
}

/// Every process, by pid.
pub fn processes<'a>(core: &'a Core, moment: Moment<'a>) -> ProcessesAnswer<'a> {
    let processes = core.processes().map(|process| ProcessJson::new(process, moment.context));
    ProcessesAnswer { head: moment.head("processes"), processes: processes.collect() }
}

/// An answer as the line that all who asked it share.
pub fn shared(answer: &impl Serialize) -> Bytes {
    Bytes::from(line(answer))
}

/// Frames of a watch's snapshot: what `interest` wants of the map as it is.
pub fn snapshot(core: &Core, moment: Moment<'_>, interest: &Interest) -> Arc<[Bytes]> {
    let note = Note { boot_id: moment.context.boot_id, certain: moment.context.certain };
    let mut frames = vec![moment.frame("snapshot_begin", &note)];
    for (session, primary) in core.sessions().filter(|(session, _)| session.state != State::Ended) {
        if interest.wants(Scope::Session { name: &session.name, home: &session.home.path }) {
            frames.push(moment.frame("session", SessionJson::new(session, primary, moment.context)));
        }
    }
    if interest.all() {
        for process in core.processes() {
            let comm = process.comm.as_bytes();
            let scope = Scope::Process { in_session: false, comm, cwd: process.cwd.path.as_deref() };
            if interest.wants(scope) {
                frames.push(moment.frame("process", ProcessJson::new(process, moment.context)));
            }
        }
    }
    frames.push(moment.frame("snapshot_end", &note));
    frames.into()
}
