//! The path of a home in a command's arguments.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The path without slashes at its end, as the map has homes.
pub fn plain(typed: &[u8]) -> &[u8] {
    let end = typed.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
    typed.get(..end).unwrap_or(typed)
}

/// The path to which symlinks lead; `None` if it does not exist.
pub fn resolved(path: &[u8]) -> Option<Vec<u8>> {
    let path = std::fs::canonicalize(OsStr::from_bytes(path)).ok()?;
    Some(path.into_os_string().into_vec())
}
