//! `[journal]`: the path of the journal, and its bounds.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

use super::fault::{ConfigFault, Findings, absolute};
use crate::journal::MAX_BYTES_MIN;

/// The section, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalConfig {
    /// Path of the file.
    pub path: Option<PathBuf>,
    /// Bound of its bytes on the disk.
    pub max_bytes: Option<u64>,
    /// Bound of an entry's age.
    pub max_age: Option<Duration>,
    /// Whether all arguments of processes are kept, which may contain secrets, and not only the first.
    pub argv: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JournalSection {
    path: Option<Spanned<PathBuf>>,
    max_bytes: Option<Spanned<u64>>,
    max_age: Option<Spanned<String>>,
    #[serde(default)]
    argv: bool,
}

impl JournalSection {
    /// The section, checked. Its faults are added to `found`.
    pub(super) fn check(self, found: &mut Findings) -> JournalConfig {
        JournalConfig {
            path: self.path.and_then(|path| found.take(absolute("path", path))),
            max_bytes: self.max_bytes.and_then(|bytes| found.take(check_at(bytes, check_max_bytes))),
            max_age: self.max_age.and_then(|age| found.take(check_at(age, |age| check_max_age(&age)))),
            argv: self.argv,
        }
    }
}

fn check_at<T, U>(value: Spanned<T>, check: impl FnOnce(T) -> Result<U, String>) -> Result<U, ConfigFault> {
    let span = Some(value.span());
    check(value.into_inner()).map_err(|message| ConfigFault { span, message })
}

/// Checks that the bound can be kept. The error ends with the next step.
pub fn check_max_bytes(bytes: u64) -> Result<u64, String> {
    match bytes {
        MAX_BYTES_MIN..=0x7fff_ffff_ffff_ffff => Ok(bytes),
        _ => Err(format!("max_bytes must be at least {MAX_BYTES_MIN}: write for instance 268435456")),
    }
}

/// Parses a span of time, such as `90d` or `12h`. The error ends with the next step.
pub fn check_max_age(age: &str) -> Result<Duration, String> {
    span(age)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "max_age must be a span of time: write for instance \"90d\" or \"12h\"".to_owned())
}

/// Parses a span of time: `24h`, `90d`, `1h 30m`. A day has 24 hours.
pub fn span(text: &str) -> Option<Duration> {
    let days = |text: &str| text.strip_suffix('d')?.trim().parse::<u64>().ok()?.checked_mul(86_400);
    if let Some(seconds) = days(text.trim()) {
        return Some(Duration::from_secs(seconds));
    }
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}
