//! An error of the database, classified by what the mirror does about it.

use std::fmt;

/// What an error means for the connection and for the statement that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The same statement may succeed later on this connection.
    Transient,
    /// The partition for the day of arrival is missing. The statement succeeds after it was made.
    MissingPartition,
    /// The database refuses something in the data. The statement succeeds without it.
    RefusedData,
    /// This connection cannot be used any further; a new one may work.
    BrokenConnection,
    /// A person has to act. The mirror retries rarely.
    Permanent,
}

/// An error of the database. Its message can be shown: it holds no data and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseError {
    /// What the mirror does about it.
    pub class: ErrorClass,
    /// What happened; ends with the next step where there is one.
    pub message: String,
}

impl DatabaseError {
    /// An error of this class.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// This connection cannot be used any further.
    pub fn broken(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::BrokenConnection, message)
    }

    /// A person has to do `next_step`, with which the message ends.
    pub fn permanent(problem: impl fmt::Display, next_step: &str) -> Self {
        Self::new(ErrorClass::Permanent, format!("{problem}; {next_step}"))
    }

    /// Another daemon became the host's writer while this one ran.
    pub fn superseded() -> Self {
        Self::permanent(
            "another daemon with this host's identity writes: cloned machine-id or second daemon",
            "stop one, and give a cloned machine an id and a state directory of its own (docs/mirror.md)",
        )
    }

    /// Statements of this connection reach several server processes.
    pub fn through_pooler() -> Self {
        Self::permanent(
            "this is a connection pooler, and who writes needs a session of its own",
            "name Postgres' own host and port in the connection string",
        )
    }

    /// The host's row was deleted while its daemon was connected.
    pub fn forgotten() -> Self {
        Self::broken("the host was removed from the database (observer forget)")
    }

    /// The replication cursor is not where this connection left it: the database was restored or edited.
    pub fn cursor_moved() -> Self {
        Self::broken("the database's replication cursor was moved by somebody else")
    }

    /// Whether the same statement may succeed on this connection.
    pub fn can_be_retried(&self) -> bool {
        matches!(self.class, ErrorClass::Transient | ErrorClass::MissingPartition)
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DatabaseError {}
