//! Why a configuration is not usable, with every place where it is wrong.

use std::fmt;
use std::path::{Path, PathBuf};

use super::fault::{ConfigFault, place};
use crate::text::bytes::to_line;

/// Faults of one configuration that are reported.
pub(super) const FAULTS_MAX: usize = 20;

/// What is wrong at one place of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    /// Line and column, both from 1.
    place: Option<(usize, usize)>,
    message: String,
}

impl ConfigError {
    /// An error of the whole file.
    pub(super) fn of_file(file: &Path, message: String) -> Self {
        Self { file: file.into(), place: None, message }
    }

    /// The error of a fault in `text`, which was read from `file`.
    pub(super) fn placed(fault: ConfigFault, text: &str, file: &Path) -> Self {
        let place = fault.span.map(|span| place(text, span.start));
        Self { file: file.into(), place, message: fault.message }
    }

    /// Line and column, both from 1, where the error has a place in the file.
    pub fn place(&self) -> Option<(usize, usize)> {
        self.place
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", to_line(self.file.as_os_str().as_encoded_bytes()))?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Why a configuration is not usable. It is shown as one line, with the first error.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    first: ConfigError,
    more: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The errors of the faults in `text`, in the order of their places and at most [`FAULTS_MAX`]; `None` without a fault.
    pub(super) fn of_faults(mut faults: Vec<ConfigFault>, text: &str, file: &Path) -> Option<Self> {
        faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
        let mut errors = faults.into_iter().map(|fault| ConfigError::placed(fault, text, file));
        let first = errors.next()?;
        let mut more: Vec<_> = errors.by_ref().take(FAULTS_MAX - 1).collect();
        if let Some(next) = errors.next() {
            let message =
                "there is more that is wrong from here on: correct this and what stands before first";
            more.push(ConfigError { message: message.into(), ..next });
        }
        Some(Self { first, more })
    }

    /// The errors, each of which is a line.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(first: ConfigError) -> Self {
        Self { first, more: Vec::new() }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        let file = to_line(self.first.file.as_os_str().as_encoded_bytes());
        match self.more.is_empty() {
            true => Ok(()),
            false => write!(f, "; there are more errors, which `observer check-config {file}` prints"),
        }
    }
}

impl std::error::Error for ConfigErrors {}
