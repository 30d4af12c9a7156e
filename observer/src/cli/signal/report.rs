//! What `observer signal` prints.

use serde::Serialize;
use serde_json::Value;

use super::number::SignalNumber;
use crate::api::process::ProcessJson;
use crate::cli::user;
use crate::text::bytes::{Text, to_line};

/// What became of the signal to one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was sent.
    Sent,
    /// It would be sent: `--dry-run`.
    Planned,
    /// The process had ended.
    Ended,
    /// This user has no right to signal it.
    Denied,
    /// It belongs to another session, or runs one.
    OtherSession,
    /// The daemon could not say whether it is this process still, or which session it belongs to: nothing was sent to it.
    Unverified,
}

/// One process, and what became of the signal to it.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// The session's primary, and not a descendant of it.
    pub is_primary: bool,
    /// The life of the process.
    pub key: String,
    /// tgid.
    pub pid: u32,
    /// Its program.
    pub program: Text<'static>,
    /// Real user id.
    pub uid: u32,
    /// What became of the signal.
    pub outcome: Outcome,
}

impl Target {
    /// The target `process`.
    pub fn new(process: &ProcessJson<'_>, is_primary: bool, outcome: Outcome) -> Self {
        let program = Text::from(process.shown_program().as_bytes().to_vec());
        Self { is_primary, key: process.key.clone(), pid: process.pid, program, uid: process.uid, outcome }
    }

    /// As a line, of the session `name`.
    pub fn line(&self, name: &str, signal: SignalNumber) -> String {
        let program = to_line(self.program.as_bytes());
        let outcome = match self.outcome {
            Outcome::Sent if signal == SignalNumber::NONE => "could be signalled".into(),
            Outcome::Sent => format!("{signal} sent"),
            Outcome::Planned => format!("{signal} would be sent"),
            Outcome::Ended => "ended before it".into(),
            Outcome::Denied => format!("denied: it is a process of user {}", user::shown(self.uid)),
            Outcome::OtherSession => "left out: it belongs to another session, or runs one".into(),
            Outcome::Unverified => {
                "not sent: the daemon could not say whether it is this process still".into()
            }
        };
        format!("{name}  {}  {program}  {}  {outcome}", self.pid, self.key)
    }
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
pub struct SignalReport<'a> {
    /// Name of the session.
    pub name: &'a Text<'a>,
    /// Its home.
    pub home: &'a Text<'a>,
    /// Number of the signal.
    pub signal: i32,
    /// Its name; null for 0.
    pub signal_name: Option<String>,
    /// The processes, in the order of the signals.
    pub targets: &'a [Target],
    /// Whether every descendant that was found was signalled; false where new ones kept being born, or where
    /// an error came between: the primary was not signalled then.
    pub complete: bool,
    /// How the primary ended, as `wait --json` has it; null: it was not waited for, or it still runs.
    pub end: Option<Value>,
}
