//! The events that the model of `observer top` applies, and the effects that it asks its driver for.

use crossterm::event::Event;
use nix::sys::signal::Signal;

use super::keys::TopKey;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;

/// Whose sessions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of this machine, by its daemon.
    Local,
    /// Those of all hosts, by a database.
    Fleet,
}

impl Scope {
    /// Returns what answers, in words.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Local => "the daemon",
            Self::Fleet => "the database",
        }
    }
}

/// What identifies a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RowId {
    /// Id of the host; empty where there is one only.
    pub host_id: String,
    /// Raw path of the home.
    pub home: Vec<u8>,
    pub mnt_ns: Option<u32>,
    pub uid: u32,
    pub instance: u32,
}

impl RowId {
    /// The identity of `session` on the host with this id.
    pub(super) fn of(host_id: &str, session: &SessionJson<'_>) -> Self {
        Self {
            host_id: host_id.into(),
            home: session.home.as_bytes().to_vec(),
            mnt_ns: session.home_mnt_ns,
            uid: session.primary.uid,
            instance: session.instance,
        }
    }
}

/// A session, and where it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct SeenSession {
    /// Id and raw name of the host; empty where there is one only.
    pub host_id: String,
    pub host: String,
    pub session: SessionJson<'static>,
}

/// How a primary of a session ended last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastDeath {
    /// RFC 3339.
    pub at: String,
    /// The cause, as one harmless line.
    pub cause: String,
}

impl LastDeath {
    /// The later of two ends; RFC 3339 in UTC has the order of the moments.
    pub(super) fn later(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).max_by(|a, b| a.at.cmp(&b.at))
    }
}

/// All sessions at one moment.
#[derive(Debug, Default)]
pub(super) struct SessionsSeen {
    pub sessions: Vec<SeenSession>,
    /// When, boot time in ns; 0: of several hosts.
    pub at_boottime_ns: u64,
    /// Whether no events were lost that are not healed.
    pub is_certain: bool,
}

/// What is shown of one session beside its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Details {
    pub id: RowId,
    /// Name of the session's user.
    pub user: String,
    /// The processes below the primary as a tree, a line each; the error is a sentence.
    pub processes: Result<Vec<String>, String>,
    /// Its last events, the newest first; the error is a sentence.
    pub events: Result<Vec<EventLine>, String>,
}

/// An entry of history as a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EventLine {
    /// Date and time.
    pub when: String,
    /// What happened, in one word.
    pub event: String,
    /// How.
    pub how: String,
    /// Whether it is an end or a loss.
    pub is_bad: bool,
}

/// What changes the model.
#[derive(Debug)]
pub(super) enum TopEvent {
    /// Time has passed.
    Tick,
    Key(TopKey),
    /// Cells of a line, and lines.
    Resized(u16, u16),
    /// All sessions. They replace those before.
    Sessions(SessionsSeen),
    /// One session started, changed or ended, at this boot time in ns.
    Changed(Box<SeenSession>, u64),
    /// Ends that happened before.
    Deaths(Vec<(RowId, LastDeath)>),
    /// Whether the daemon of the host with this id is connected.
    Presence(String, bool),
    Details(Box<Details>),
    /// The daemon or the database does not answer; the sentence says why.
    Away(String),
    /// A sentence for the last line.
    Note(String),
}

/// What the driver does for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    /// Stops this process, as Ctrl-Z stops others.
    Suspend,
    /// Draws everything again.
    Redraw,
    /// Asks for the details of a session.
    Ask(DetailsWanted),
    /// Asks for sessions anew, with those that have ended or without.
    List {
        ended: bool,
    },
    /// Has the tmux client of this terminal show a pane.
    Jump {
        socket: Vec<u8>,
        pane: String,
    },
}

/// What the driver waits for.
pub(super) enum Wake {
    Event(TopEvent),
    /// A key, or another size of the screen.
    Input(Event),
    /// Nothing can be read from the terminal any more.
    InputEnded,
    Signal(Signal),
}

/// A question to the source of sessions.
pub(super) enum TopQuestion {
    Details(DetailsWanted),
    List { ended: bool },
}

/// The session whose details are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DetailsWanted {
    pub id: RowId,
    /// The primary, where the session lives.
    pub pid: Option<u32>,
}

impl SeenSession {
    /// What identifies it.
    pub(super) fn id(&self) -> RowId {
        RowId::of(&self.host_id, &self.session)
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.session.state == SessionState::Ended
    }
}
