//! How a command ends: exit codes, and errors that choose one.

use std::fmt;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something was found, or everything is as it should be.
    Found = 0,
    /// Certainly nothing was found, or the check failed.
    None = 1,
    /// The usage or the configuration is wrong.
    Usage = 2,
    /// Several sessions or hosts have that name.
    Ambiguous = 3,
    /// The answer cannot be known.
    Unknown = 4,
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
