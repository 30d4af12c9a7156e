//! The words of an explanation: what a process is to the sessions, and why.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::words::words;

words! {
    /// What a process is to the sessions.
    SessionPosition {
        /// The primary of a session.
        Primary = "primary",
        /// A wrapper or launcher whose program is the primary.
        StandsAside = "stands_aside",
        /// It could be the primary, and another process of the home is.
        Other = "other",
        /// It has not run long enough.
        Young = "young",
        /// A wrapper that runs nothing a rule admits.
        WrapperAlone = "wrapper_alone",
        /// A session started it.
        Helper = "helper",
        /// Another candidate of the home started it.
        Below = "below",
        /// It moved into a home a moment ago.
        Settling = "settling",
        /// Its home has too many candidates.
        LeftOut = "left_out",
        /// Its user has too many sessions.
        TooManySessions = "too_many_sessions",
        /// The owner of its home is not known yet.
        AwaitsOwner = "awaits_owner",
        /// No rule admits it.
        NotAdmitted = "not_admitted",
    }
}

words! {
    /// What decided that a process became the primary of its home.
    ElectedBy {
        /// It was that before the daemon was started, or before the only look.
        WasPrimary = "was_primary",
        /// Another directory is at the path of the home.
        NewDirectory = "new_directory",
        /// It took the session back from a substitute.
        Returned = "returned",
        /// It is in one chain of launchers with the former primary.
        SameChain = "same_chain",
        /// No other process could be it.
        OnlyCandidate = "only_candidate",
        /// The launcher of the former primary, or what runs for that.
        Launcher = "launcher",
        /// It runs the program of the session.
        Program = "program",
        /// It has a terminal.
        Terminal = "terminal",
        /// It leads its POSIX session.
        SessionLeader = "session_leader",
        /// It is the oldest.
        Oldest = "oldest",
    }
}

words! {
    /// The first condition of a rule that a process does not meet.
    UnmetCondition {
        /// `mnt_ns`.
        MntNs = "mnt_ns",
        /// Its directory is unknown, deleted or unreachable.
        CwdUnusable = "cwd_unusable",
        /// `cwd`.
        Cwd = "cwd",
        /// `tty`.
        Tty = "tty",
        /// `mux_socket`.
        MuxSocket = "mux_socket",
        /// `user`.
        User = "user",
        /// `group`.
        Group = "group",
        /// `cgroup`.
        Cgroup = "cgroup",
        /// `unit`.
        Unit = "unit",
        /// `container`.
        Container = "container",
        /// `not_comm`.
        NotComm = "not_comm",
        /// `not_program`.
        NotProgram = "not_program",
        /// `comm`.
        Comm = "comm",
        /// `program`.
        Program = "program",
        /// `exe`.
        Exe = "exe",
        /// `argv`.
        Argv = "argv",
        /// `owner`.
        Owner = "owner",
        /// `owner`, and who owns the home is not known.
        OwnerUnknown = "owner_unknown",
    }
}
