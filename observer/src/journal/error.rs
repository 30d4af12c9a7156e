//! Errors of the journal, as far as the code that meets them decides by their kind.

use std::io::ErrorKind;

use rusqlite::ErrorCode;

use crate::api::words::GapReason;

/// Why a journal could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Only the operator can resolve it: another program or daemon uses the path. The message ends with the next step.
    Permanent(anyhow::Error),
    /// It may pass (the disk is full, a right is missing), so opening is retried.
    Transient(anyhow::Error),
}

/// What an error of SQLite means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqliteFault {
    /// The file is damaged.
    Corrupt,
    /// The disk has no room.
    Full,
    /// Any other error; it may pass.
    Transient,
}

impl SqliteFault {
    /// Classifies an error by its SQLite result code.
    pub fn of(error: &rusqlite::Error) -> Self {
        /// SQLITE_IOERR_SHORT_READ: the file ends before it should.
        const SHORT_READ: i32 = 522;
        /// SQLITE_IOERR_SHMSIZE: there is no room for the index of the write-ahead log.
        const SHM_SIZE: i32 = 4_874;
        match error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                _ if failure.extended_code == SHORT_READ => Self::Corrupt,
                _ if failure.extended_code == SHM_SIZE => Self::Full,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation => {
                    Self::Corrupt
                }
                ErrorCode::DiskFull => Self::Full,
                // A table is missing.
                ErrorCode::Unknown => Self::Corrupt,
                _ => Self::Transient,
            },
            rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::FromSqlConversionFailure(..) => Self::Corrupt,
            _ => Self::Transient,
        }
    }
}

/// Why a batch was not written.
pub enum WriteError {
    /// SQLite refused it.
    Sqlite(rusqlite::Error),
    /// Any other reason, for the gap entry and for people.
    Other(GapReason, String),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<anyhow::Error> for WriteError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(loss_reason(&error), format!("{error:#}"))
    }
}

/// Whether `error` is one of the disk or of memory that may pass, and says nothing of what the file has.
pub fn is_passing(error: &anyhow::Error) -> bool {
    let sqlite = error.chain().find_map(|cause| cause.downcast_ref::<rusqlite::Error>());
    sqlite.is_some_and(|error| SqliteFault::of(error) != SqliteFault::Corrupt)
}

/// The reason that a gap entry states for changes lost because of `error`.
pub fn loss_reason(error: &anyhow::Error) -> GapReason {
    let is_full = error.chain().any(|cause| {
        let sqlite = cause.downcast_ref::<rusqlite::Error>().map(SqliteFault::of);
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        sqlite == Some(SqliteFault::Full)
            || matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    });
    if is_full { GapReason::DiskFull } else { GapReason::WriteFailed }
}
