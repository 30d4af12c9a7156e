//! Changes as the bodies of `watch` frames: everything but the number, which each connection has of its own.

use observer_core::{BootTime, Change};
use serde::Serialize;

use super::Context;
use super::death::DeathJson;
use super::process::ProcessJson;
use super::session::SessionJson;
use crate::text::bytes::Big;
use crate::text::time::rfc3339;

/// A frame without its number.
#[derive(Serialize)]
pub struct Body<'a, T> {
    /// When the cause happened.
    at: String,
    /// The same in boot time.
    boottime_ns: Big,
    /// What it is.
    kind: &'a str,
    /// The rest.
    #[serde(flatten)]
    subject: T,
}

/// What frames that carry no row say.
#[derive(Serialize)]
pub struct Note<'a> {
    /// This boot.
    pub boot_id: &'a str,
    /// No gap is open.
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

/// JSON of a frame that happened at `at`: an object with its opening brace, without line end.
pub fn body(kind: &str, at: BootTime, wall_offset_ns: i64, subject: impl Serialize) -> Vec<u8> {
    let body = Body { at: rfc3339(at, wall_offset_ns), boottime_ns: Big(at.0), kind, subject };
    // Strings, numbers and structs only: serialising them into memory cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// A change of a session that the daemon found when it was made: it happened before.
#[derive(Serialize)]
pub struct Found<'a> {
    /// When it happened; where that is not known, until when it had.
    pub at: String,
    /// The same in boot time; null: in another boot.
    pub boottime_ns: Option<Big>,
    /// What it is.
    pub kind: &'a str,
    /// When it was found.
    pub found_at: String,
    /// The session after it.
    #[serde(flatten)]
    pub session: SessionJson<'a>,
}

impl Found<'_> {
    /// As [`body`].
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// `body`, an object, with the journal's number of the change; null: the journal has none for it.
pub fn journaled(body: &[u8], event_seq: Option<u64>) -> Vec<u8> {
    let number = event_seq.map_or_else(|| "null".into(), |seq| seq.to_string());
    let rest = body.get(1..).unwrap_or_default();
    [format!("{{\"event_seq\":{number},").as_bytes(), rest].concat()
}

/// The `kind` of a change.
pub fn kind(change: &Change<'_>) -> &'static str {
    match change {
        Change::ProcessStarted(_) => "process_started",
        Change::ProcessExeced(_) => "process_execed",
        Change::ProcessMoved(_) => "process_moved",
        Change::ProcessChanged(_) => "process_changed",
        Change::ProcessEnded(..) => "process_ended",
        Change::SessionStarted(..) => "session_started",
        Change::SessionChanged(..) => "session_changed",
        Change::SessionEnded(..) => "session_ended",
        Change::GapOpened { .. } => "gap_opened",
        Change::GapClosed { .. } => "gap_closed",
    }
}

/// JSON of `change`, which took effect at `at`.
pub fn change_body(at: BootTime, change: &Change<'_>, wall_offset_ns: i64, context: Context<'_>) -> Vec<u8> {
    let kind = kind(change);
    match *change {
        Change::ProcessStarted(process)
        | Change::ProcessExeced(process)
        | Change::ProcessMoved(process)
        | Change::ProcessChanged(process) => {
            body(kind, at, wall_offset_ns, ProcessJson::new(process, context))
        }
        Change::ProcessEnded(process, death) => {
            let mut json = ProcessJson::new(process, context);
            json.death = Some(DeathJson::new(&death, process.key.start_boottime, process.wall_offset_ns));
            body(kind, at, wall_offset_ns, json)
        }
        Change::SessionStarted(session, primary)
        | Change::SessionChanged(session, primary)
        | Change::SessionEnded(session, primary) => {
            body(kind, at, wall_offset_ns, SessionJson::new(session, primary, context))
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
