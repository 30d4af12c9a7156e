//! `[journal]`: where the journal is, and how much it may hold.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

use super::{Fault, absolute};
use crate::journal::MAX_BYTES_MIN;

/// The section, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The file.
    pub path: Option<PathBuf>,
    /// Bytes on the disk.
    pub max_bytes: Option<u64>,
    /// An entry's age.
    pub max_age: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    path: Option<Spanned<PathBuf>>,
    max_bytes: Option<Spanned<u64>>,
    max_age: Option<Spanned<String>>,
}

impl Section {
    pub(super) fn check(self) -> Result<Journal, Fault> {
        Ok(Journal {
            path: self.path.map(|path| absolute("path", path)).transpose()?,
            max_bytes: self.max_bytes.map(|bytes| at(bytes, check_max_bytes)).transpose()?,
            max_age: self.max_age.map(|age| at(age, |age| check_max_age(&age))).transpose()?,
        })
    }
}

fn at<T, U>(value: Spanned<T>, check: impl FnOnce(T) -> Result<U, String>) -> Result<U, Fault> {
    let span = Some(value.span());
    check(value.into_inner()).map_err(|message| Fault { span, message })
}

/// A size that can be kept; the error ends with the next step.
pub fn check_max_bytes(bytes: u64) -> Result<u64, String> {
    match bytes {
        MAX_BYTES_MIN..=0x7fff_ffff_ffff_ffff => Ok(bytes),
        _ => Err(format!(
            "max_bytes must be at least {MAX_BYTES_MIN}, found {bytes}: write for instance 268435456"
        )),
    }
}

/// A span of time, as `90d` or `12h`; the error ends with the next step.
pub fn check_max_age(age: &str) -> Result<Duration, String> {
    span(age).filter(|span| !span.is_zero()).ok_or_else(|| {
        format!("max_age must be a span of time, found {age:?}: write for instance \"90d\" or \"12h\"")
    })
}

/// `24h`, `90d`, `1h 30m`: a day has 24 hours here.
pub fn span(text: &str) -> Option<Duration> {
    let days = |text: &str| text.strip_suffix('d')?.trim().parse::<u64>().ok()?.checked_mul(86_400);
    if let Some(seconds) = days(text.trim()) {
        return Some(Duration::from_secs(seconds));
    }
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}
