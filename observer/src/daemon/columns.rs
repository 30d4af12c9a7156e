//! What an entry of the journal records beside its JSON, its kind and whose session it is about, and which clients a frame is
//! for.

use observer_core::death::Death;
use observer_core::left::FormerSession;
use observer_core::{BootTime, Change, Process, ProcessKey, Session};

use crate::api::Context;
use crate::api::audience::sees_all;
use crate::api::change::change_body;
use crate::api::entry::Subject;
use crate::api::words::EntryKind;
use crate::socket::hub::FrameScope;
use crate::text::bytes::Text;

/// A primary that died, and whose place another process took.
pub(super) struct ReplacedPrimary {
    /// When it died.
    pub(super) at: BootTime,
    pub(super) process: Box<Process>,
    pub(super) death: Death,
    /// Whose session it was.
    pub(super) subject: Subject,
}

impl ReplacedPrimary {
    /// The JSON object of its death, with the session's name, home and number.
    pub(super) fn body(&self, wall_offset_ns: i64, context: Context<'_>) -> String {
        let change = Change::ProcessEnded(&self.process, &self.death);
        let body = change_body(self.at, &change, wall_offset_ns, context);
        with_home(&self.subject, &String::from_utf8_lossy(&body))
    }
}

/// The columns of the entry that records `change`; `None` if the journal does not record it, or only at a pace
/// (`DaemonSink::session_changed`).
pub(super) fn columns(change: &Change<'_>) -> Option<(EntryKind, Option<Subject>)> {
    let of = |session: &Session| Some(subject(session, session.primary));
    match change {
        Change::SessionStarted(session, _) => Some((EntryKind::SessionStarted, of(session))),
        Change::SessionEnded(session, _) => Some((EntryKind::SessionEnded, of(session))),
        Change::SessionLeft { former, .. } => Some((EntryKind::SessionLeft, Some(former_subject(former)))),
        Change::GapOpened { .. } => Some((EntryKind::GapOpened, None)),
        Change::GapClosed { .. } => Some((EntryKind::GapClosed, None)),
        Change::ProcessStarted(_)
        | Change::ProcessExeced(_)
        | Change::ProcessMoved(_)
        | Change::ProcessChanged(_)
        | Change::ProcessEnded(..)
        | Change::SessionChanged(..) => None,
    }
}

/// `process` as a process of `session`.
pub(super) fn subject(session: &Session, process: ProcessKey) -> Subject {
    Subject {
        home: session.home.path.to_vec(),
        home_mnt_ns: session.home.mnt_ns,
        uid: Some(session.home.uid),
        instance: session.home.instance,
        name: session.name.to_vec(),
        process,
    }
}

/// The primary of a session that is over.
fn former_subject(former: &FormerSession) -> Subject {
    Subject {
        home: former.home.path.to_vec(),
        home_mnt_ns: former.home.mnt_ns,
        uid: Some(former.home.uid),
        instance: former.home.instance,
        name: former.name.to_vec(),
        process: former.primary,
    }
}

/// `body`, the JSON object of a process that was the primary of a session, with the session's name, home and number.
fn with_home(of: &Subject, body: &str) -> String {
    #[derive(serde::Serialize)]
    struct NameAndHome<'a> {
        name: Text<'a>,
        home: Text<'a>,
        home_mnt_ns: Option<u32>,
        instance: u32,
    }
    let (name, home) = (Text::from(&*of.name), Text::from(&*of.home));
    let fields = NameAndHome { name, home, home_mnt_ns: of.home_mnt_ns, instance: of.instance };
    // Strings and numbers: serializing them into memory cannot fail.
    let fields = serde_json::to_string(&fields).unwrap_or_default();
    format!("{},{}", fields.strip_suffix('}').unwrap_or_default(), body.get(1..).unwrap_or_default())
}

/// The user who sees all arguments that the frame of `change` has; `None`: there are none to hide.
pub(super) fn arguments_of(change: &Change<'_>) -> Option<u32> {
    match *change {
        Change::ProcessStarted(process)
        | Change::ProcessExeced(process)
        | Change::ProcessMoved(process)
        | Change::ProcessChanged(process)
        | Change::ProcessEnded(process, _)
        | Change::SessionStarted(_, process)
        | Change::SessionChanged(_, process)
        | Change::SessionEnded(_, process) => sees_all(process.argv.as_ref()),
        Change::SessionLeft { .. } | Change::GapOpened { .. } | Change::GapClosed { .. } => None,
    }
}

/// Which clients the frame of `change` is for. `is_primary`: whether a process stands for a session.
pub(super) fn scope<'c>(change: &Change<'c>, is_primary: impl Fn(&ProcessKey) -> bool) -> FrameScope<'c> {
    match *change {
        Change::ProcessStarted(process)
        | Change::ProcessExeced(process)
        | Change::ProcessMoved(process)
        | Change::ProcessEnded(process, _) => FrameScope::Process {
            in_session: is_primary(&process.key),
            comm: process.comm.as_bytes(),
            cwd: process.cwd.path.as_deref(),
        },
        // Changes of lesser fields are for clients that watch every process.
        Change::ProcessChanged(process) => FrameScope::Process {
            in_session: false,
            comm: process.comm.as_bytes(),
            cwd: process.cwd.path.as_deref(),
        },
        Change::SessionStarted(session, _)
        | Change::SessionChanged(session, _)
        | Change::SessionEnded(session, _) => {
            FrameScope::Session { name: &session.name, home: &session.home.path }
        }
        Change::SessionLeft { former, .. } => {
            FrameScope::Session { name: &former.name, home: &former.home.path }
        }
        Change::GapOpened { .. } | Change::GapClosed { .. } => FrameScope::Always,
    }
}
