//! Changes as the bodies of `watch` frames: everything but the number, which differs between connections.

use observer_core::{BootTime, Change};
use serde::Serialize;

use super::Context;
use super::changed::Changed;
use super::death::DeathJson;
use super::leftovers::SessionLeftJson;
use super::process::ProcessJson;
use super::restarts::RestartsJson;
use super::session::SessionJson;
use super::words::{EntryKind, FrameKind};
use crate::text::bytes::Big;
use crate::text::time::rfc3339;

/// A frame without its number.
#[derive(Serialize)]
struct Body<T> {
    /// When the cause happened, RFC 3339.
    at: String,
    /// When the cause happened, boot time in ns.
    boottime_ns: Big,
    /// What the frame reports.
    kind: FrameKind,
    /// The fields of that kind.
    #[serde(flatten)]
    subject: T,
}

/// Fields of frames that carry neither a session nor a process.
#[derive(Serialize)]
pub struct Certainty<'a> {
    /// The id of this boot.
    pub boot_id: &'a str,
    /// Whether no gap is open.
    pub certain: bool,
}

#[derive(Serialize)]
struct GapOpened<'a> {
    boot_id: &'a str,
    from: String,
    from_boottime_ns: Big,
    reason: &'static str,
}

#[derive(Serialize)]
struct GapClosed<'a> {
    boot_id: &'a str,
    from: String,
    from_boottime_ns: Big,
    to: String,
    to_boottime_ns: Big,
    lost: u64,
    corrected: u64,
}

/// The JSON object of a frame whose cause happened at `at`, without a line end.
pub fn body(kind: FrameKind, at: BootTime, wall_offset_ns: i64, subject: impl Serialize) -> Vec<u8> {
    let body = Body { at: rfc3339(at, wall_offset_ns), boottime_ns: Big(at.0), kind, subject };
    // Strings, numbers and structs only: serializing them into memory cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// A session after a change.
#[derive(Serialize)]
struct ChangedSession<'a> {
    /// What the change changed; null where the values before it are not known.
    changed: Option<&'a Changed<'a>>,
    #[serde(flatten)]
    session: &'a SessionJson<'a>,
}

/// A session that started again and again.
#[derive(Serialize)]
struct RestartedSession<'a> {
    /// The starts that have no entry of their own; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<&'a RestartsJson<'a>>,
    #[serde(flatten)]
    session: &'a SessionJson<'a>,
}

/// A change of a session that happened before the daemon found it.
#[derive(Serialize)]
pub struct FoundLater<'a> {
    /// When it happened; where that is not known, the end of the interval in which it happened.
    pub at: String,
    /// The same as boot time in ns; null: it happened in another boot.
    pub boottime_ns: Option<Big>,
    /// What happened.
    pub kind: EntryKind,
    /// When the daemon found it.
    pub found_at: String,
    /// What it changed, where the session goes on; left out elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Changed<'a>>,
    /// The session after the change.
    #[serde(flatten)]
    pub session: SessionJson<'a>,
}

impl FoundLater<'_> {
    /// The JSON object of the change, as [`body`] makes it.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// `body`, a JSON object, with the journal's number of the change as `event_seq`; `None` (null): it has none.
pub fn journaled(body: &[u8], event_seq: Option<u64>) -> Vec<u8> {
    let number = event_seq.map_or_else(|| "null".into(), |seq| seq.to_string());
    let rest = body.get(1..).unwrap_or_default();
    [format!("{{\"event_seq\":{number},").as_bytes(), rest].concat()
}

/// The kind of the frame that reports `change`.
fn frame_kind(change: &Change<'_>) -> FrameKind {
    match change {
        Change::ProcessStarted(_) => FrameKind::ProcessStarted,
        Change::ProcessExeced(_) => FrameKind::ProcessExeced,
        Change::ProcessMoved(_) => FrameKind::ProcessMoved,
        Change::ProcessChanged(_) => FrameKind::ProcessChanged,
        Change::ProcessEnded(..) => FrameKind::ProcessEnded,
        Change::SessionStarted(..) => FrameKind::SessionStarted,
        Change::SessionChanged(..) => FrameKind::SessionChanged,
        Change::SessionEnded(..) => FrameKind::SessionEnded,
        Change::SessionLeft { .. } => FrameKind::SessionLeft,
        Change::GapOpened { .. } => FrameKind::GapOpened,
        Change::GapClosed { .. } => FrameKind::GapClosed,
    }
}

/// The JSON object of the frame that reports that a session changed at `at` and is as `session` since. `changed`:
/// [`None`] where the values before the change are not known.
pub fn session_changed_body(
    at: BootTime,
    wall_offset_ns: i64,
    session: &SessionJson<'_>,
    changed: Option<&Changed<'_>>,
) -> Vec<u8> {
    body(FrameKind::SessionChanged, at, wall_offset_ns, ChangedSession { changed, session })
}

/// The JSON object of the frame that reports the start or the end of a session that started again and again.
pub fn restarts_body(
    at: BootTime,
    change: &Change<'_>,
    wall_offset_ns: i64,
    session: &SessionJson<'_>,
    restarts: Option<&RestartsJson<'_>>,
) -> Vec<u8> {
    body(frame_kind(change), at, wall_offset_ns, RestartedSession { restarts, session })
}

/// The JSON object of the frame that reports `change`, which took effect at `at`. A changed session is reported without
/// what changed: see [`session_changed_body`].
pub fn change_body(at: BootTime, change: &Change<'_>, wall_offset_ns: i64, context: Context<'_>) -> Vec<u8> {
    let kind = frame_kind(change);
    match *change {
        Change::ProcessStarted(process)
        | Change::ProcessExeced(process)
        | Change::ProcessMoved(process)
        | Change::ProcessChanged(process) => {
            body(kind, at, wall_offset_ns, ProcessJson::new(process, context))
        }
        Change::ProcessEnded(process, death) => {
            let mut json = ProcessJson::new(process, context);
            let start = process.key.start_boottime;
            json.death = Some(DeathJson::new(death, start, process.wall_offset_ns, context.boot_id));
            body(kind, at, wall_offset_ns, json)
        }
        Change::SessionChanged(session, primary) => {
            session_changed_body(at, wall_offset_ns, &SessionJson::new(session, primary, context), None)
        }
        Change::SessionStarted(session, primary) | Change::SessionEnded(session, primary) => {
            body(kind, at, wall_offset_ns, SessionJson::new(session, primary, context))
        }
        Change::SessionLeft { former, primary, death, left } => {
            body(kind, at, wall_offset_ns, SessionLeftJson::new(former, primary, death, left, context))
        }
        Change::GapOpened { from } => {
            let gap = GapOpened {
                boot_id: context.boot_id,
                from: rfc3339(from, wall_offset_ns),
                from_boottime_ns: Big(from.0),
                reason: "dropped",
            };
            body(kind, at, wall_offset_ns, gap)
        }
        Change::GapClosed { from, to, lost, corrected } => {
            let gap = GapClosed {
                boot_id: context.boot_id,
                from: rfc3339(from, wall_offset_ns),
                from_boottime_ns: Big(from.0),
                to: rfc3339(to, wall_offset_ns),
                to_boottime_ns: Big(to.0),
                lost,
                corrected,
            };
            body(kind, at, wall_offset_ns, gap)
        }
    }
}
