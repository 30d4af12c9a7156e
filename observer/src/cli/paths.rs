//! Paths that the program uses where neither a flag nor the configuration names others.

/// The daemon's socket.
pub const SOCKET_DEFAULT: &str = "/run/observer/observer.sock";

/// The directory in which the daemon keeps its state.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/observer";

/// Name of the journal's file in the state directory.
pub const JOURNAL_NAME: &str = "journal.sqlite";
