//! How a command ends: exit codes, and errors that choose one.

use std::fmt;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something was found, or everything is as it should be.
    Found,
    /// Certainly nothing was found, or the check failed.
    None,
    /// The usage or the configuration is wrong.
    Usage,
    /// Several sessions or hosts have that name.
    Ambiguous,
    /// The answer cannot be known.
    Unknown,
    /// With the status of a process, or with one that shells have for theirs.
    Status(u8),
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Found => 0,
            Self::None => 1,
            Self::Usage => 2,
            Self::Ambiguous => 3,
            Self::Unknown => 4,
            Self::Status(status) => status,
        }
    }
}

/// An error with an exit code of its own.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
