//! The closed sets of words in the JSON contract, as enums. Each is converted to and from text here and nowhere else.

use std::borrow::Cow;
use std::fmt;

use observer_core::death::DeathKind;
use observer_core::session::{EndReason, State};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are kept of an entry's kind that this program does not know.
const KIND_BYTES_MAX: usize = 64;

/// Declares an enum of words, with its conversions to and from text. A word that is not in the list becomes `Unknown`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// No word is given, or one that this program does not know.
            #[default]
            Unknown,
        }

        impl $name {
            /// The word, as docs/json.md has it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown => "unknown",
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => Self::Unknown,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(&*Cow::<'de, str>::deserialize(deserializer)?))
            }
        }
    };
}

pub(super) use words;

words! {
    /// State of a session. `Unknown`: its host's daemon does not run, or is not connected.
    SessionState {
        /// The primary runs in its home.
        Live = "live",
        /// The primary is alive and has lost its terminal.
        Detached = "detached",
        /// The primary is alive and its working directory is outside its home.
        Left = "left",
        /// The primary has died, and no other root remains.
        Ended = "ended",
    }
}

impl From<DeathKind> for DeathCause {
    fn from(kind: DeathKind) -> Self {
        match kind {
            DeathKind::Exited { .. } => Self::Exited,
            DeathKind::Signaled { .. } => Self::Signaled,
            DeathKind::OomKilled => Self::OomKilled,
            DeathKind::Unobserved { .. } => Self::Unobserved,
        }
    }
}

impl From<State> for SessionState {
    fn from(state: State) -> Self {
        match state {
            State::Live => Self::Live,
            State::Detached => Self::Detached,
            State::Left => Self::Left,
            State::Ended => Self::Ended,
        }
    }
}

words! {
    /// Why a session ended.
    SessionEndReason {
        /// Its primary died.
        Died = "died",
        /// Its primary executed a program that no rule admits.
        ExecedAway = "execed_away",
        /// Another directory took the place of its home.
        Replaced = "replaced",
        /// Its process stands for a session of another home.
        Moved = "moved",
        /// Its process lives, and after a restart of the daemon no rule admits it.
        NotAdmitted = "not_admitted",
        /// Its process changed its user, and stands for a session of that one.
        UserChanged = "user_changed",
    }
}

impl From<EndReason> for SessionEndReason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Died => Self::Died,
            EndReason::ExecedAway => Self::ExecedAway,
            EndReason::Replaced => Self::Replaced,
            EndReason::Moved => Self::Moved,
            EndReason::NotAdmitted => Self::NotAdmitted,
            EndReason::UserChanged => Self::UserChanged,
        }
    }
}

words! {
    /// How a process ended.
    DeathCause {
        /// It called exit; the code is known.
        Exited = "exited",
        /// A signal ended it.
        Signaled = "signaled",
        /// The kernel killed it because memory ran out.
        OomKilled = "oom_killed",
        /// Nobody observed the death; the interval in which it fell is known.
        Unobserved = "unobserved",
    }
}

words! {
    /// What had no memory left when the kernel killed a process for that.
    OomScope {
        /// No cgroup was at its limit: the host, or the memory nodes that a process may use.
        Global = "global",
        /// A cgroup was at its limit.
        Cgroup = "cgroup",
    }
}

words! {
    /// State of the journal.
    JournalState {
        /// The last write succeeded.
        Ok = "ok",
        /// The last write failed; it is retried.
        Failing = "failing",
        /// The daemon keeps no journal.
        Off = "off",
    }
}

words! {
    /// State of the mirror.
    MirrorState {
        /// The daemon has no mirror.
        Off = "off",
        /// It waits for the journal to be opened.
        Waiting = "waiting",
        /// It connects to the database.
        Connecting = "connecting",
        /// The last attempt failed; it is retried.
        Retrying = "retrying",
        /// It has stopped until a person acts.
        Stopped = "stopped",
        /// It delivers entries that the database lacks.
        CatchingUp = "catching_up",
        /// The database has every committed entry.
        Ok = "ok",
    }
}

words! {
    /// Whether events of the kernel come through, as the daemon's canary shows.
    CanaryState {
        /// The last canary came round.
        Ok = "ok",
        /// The first one is awaited.
        Awaited = "awaited",
        /// The last one cannot tell, because it was not started, runs slowly, or records were lost.
        Unproven = "unproven",
        /// The last one did not come round: the daemon is blind.
        Missing = "missing",
    }
}

words! {
    /// Why entries are missing from a journal.
    GapReason {
        /// The journal reached its size bound, and the oldest entries were removed.
        RetentionSize = "retention_size",
        /// The oldest entries reached the age bound, and were removed.
        RetentionAge = "retention_age",
        /// No daemon ran.
        NotRunning = "not_running",
        /// The queue to the writer was full.
        QueueFull = "queue_full",
        /// The disk was full.
        DiskFull = "disk_full",
        /// The file could not be written.
        WriteFailed = "write_failed",
        /// The entry was larger than an entry may be.
        TooLarge = "too_large",
        /// The database refused the entry.
        Rejected = "rejected",
        /// The former file could not be read.
        Corrupt = "corrupt",
        /// The former file was written by a newer version of observer.
        NewerSchema = "newer_schema",
        /// The former file was written by an older version of observer that this one cannot read.
        OlderSchema = "older_schema",
        /// The former file was an older copy of the journal.
        Restored = "restored",
        /// The former file is gone.
        Lost = "lost",
        /// The mirror had entries that the former file lacked.
        MirrorAhead = "mirror_ahead",
    }
}

words! {
    /// The kind of a frame of `watch`.
    FrameKind {
        /// The beginning of a snapshot.
        SnapshotBegin = "snapshot_begin",
        /// A session of the snapshot.
        Session = "session",
        /// A process of the snapshot.
        Process = "process",
        /// A host of the snapshot (from a database only).
        Host = "host",
        /// The end of a snapshot.
        SnapshotEnd = "snapshot_end",
        /// A process was born.
        ProcessStarted = "process_started",
        /// A process executed a program.
        ProcessExeced = "process_execed",
        /// The working directory of a process changed.
        ProcessMoved = "process_moved",
        /// Another field of a process changed.
        ProcessChanged = "process_changed",
        /// A process died.
        ProcessEnded = "process_ended",
        /// A session started.
        SessionStarted = "session_started",
        /// A session's state or primary changed.
        SessionChanged = "session_changed",
        /// A session ended.
        SessionEnded = "session_ended",
        /// It was counted what a session left that had ended.
        SessionLeft = "session_left",
        /// Kernel events were lost.
        GapOpened = "gap_opened",
        /// A pass has corrected what the lost events left wrong.
        GapClosed = "gap_closed",
        /// The client was too slow; a new snapshot follows.
        Lagged = "lagged",
        /// A host's daemon connected (from a database only).
        HostPresent = "host_present",
        /// A host's daemon disconnected (from a database only).
        HostLost = "host_lost",
        /// Entries are missing from a host's journal (from a database only).
        Gap = "gap",
    }
}

/// The kind of a journal entry, which is also the kind of the mirror's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A session started.
    SessionStarted,
    /// A session's state or primary changed.
    SessionChanged,
    /// A session ended.
    SessionEnded,
    /// A session's primary died, and another root took its place.
    ProcessEnded,
    /// It was counted what a session left whose primary had died.
    SessionLeft,
    /// Kernel events were lost.
    GapOpened,
    /// A pass has corrected what the lost events left wrong.
    GapClosed,
    /// Entries are missing.
    Gap,
    /// A kind that this program does not know: from another version, or written by another program. At most
    /// 64 bytes of it are kept.
    Other(Box<str>),
}

impl EntryKind {
    /// The word, which is that of the frame that reports the entry.
    pub fn as_str(&self) -> &str {
        let frame = match self {
            Self::SessionStarted => FrameKind::SessionStarted,
            Self::SessionChanged => FrameKind::SessionChanged,
            Self::SessionEnded => FrameKind::SessionEnded,
            Self::ProcessEnded => FrameKind::ProcessEnded,
            Self::SessionLeft => FrameKind::SessionLeft,
            Self::GapOpened => FrameKind::GapOpened,
            Self::GapClosed => FrameKind::GapClosed,
            Self::Gap => FrameKind::Gap,
            Self::Other(word) => return word,
        };
        frame.as_str()
    }

    /// Whether the entry describes a session after a change of it.
    pub fn is_session(&self) -> bool {
        matches!(self, Self::SessionStarted | Self::SessionChanged | Self::SessionEnded)
    }
}

impl Default for EntryKind {
    /// No kind is given.
    fn default() -> Self {
        Self::Other(Box::default())
    }
}

impl From<&str> for EntryKind {
    fn from(word: &str) -> Self {
        match FrameKind::from(word) {
            FrameKind::SessionStarted => Self::SessionStarted,
            FrameKind::SessionChanged => Self::SessionChanged,
            FrameKind::SessionEnded => Self::SessionEnded,
            FrameKind::ProcessEnded => Self::ProcessEnded,
            FrameKind::SessionLeft => Self::SessionLeft,
            FrameKind::GapOpened => Self::GapOpened,
            FrameKind::GapClosed => Self::GapClosed,
            FrameKind::Gap => Self::Gap,
            _ => {
                let end = word.floor_char_boundary(KIND_BYTES_MAX);
                Self::Other(word.get(..end).unwrap_or_default().into())
            }
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for EntryKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_it_is_written_and_others_are_unknown() {
        let json = |text: &str| serde_json::from_str::<SessionState>(text);
        for state in [SessionState::Live, SessionState::Detached, SessionState::Left, SessionState::Ended] {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(json(&text).unwrap(), state);
            assert_eq!(text, format!("\"{state}\""));
        }
        assert_eq!(json("\"paused\"").unwrap(), SessionState::Unknown);
        assert_eq!(json("\"\"").unwrap(), SessionState::Unknown);
        assert!(json("7").is_err());
        assert_eq!(GapReason::from("mirror_ahead"), GapReason::MirrorAhead);
        assert_eq!(MirrorState::from("catching_up").as_str(), "catching_up");
    }

    #[test]
    fn the_kind_of_an_entry_survives_text_and_an_unknown_one_is_kept_within_bounds() {
        let known = [
            EntryKind::SessionStarted,
            EntryKind::SessionChanged,
            EntryKind::SessionEnded,
            EntryKind::ProcessEnded,
            EntryKind::SessionLeft,
            EntryKind::GapOpened,
            EntryKind::GapClosed,
            EntryKind::Gap,
        ];
        for kind in known {
            assert_eq!(EntryKind::from(kind.as_str()), kind);
        }
        assert_eq!(EntryKind::from("session_paused").as_str(), "session_paused");
        assert!(!EntryKind::from("session_paused").is_session());
        let long = "ä".repeat(100);
        assert_eq!(EntryKind::from(long.as_str()).as_str(), "ä".repeat(KIND_BYTES_MAX / 2));
    }
}
