//! The path of a home, as a person types it.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Without slashes at its end, as homes are known.
pub fn plain(typed: &[u8]) -> &[u8] {
    let end = typed.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
    typed.get(..end).unwrap_or(typed)
}

/// Where symlinks lead from it; `None` if there is nothing.
pub fn resolved(path: &[u8]) -> Option<Vec<u8>> {
    let path = std::fs::canonicalize(OsStr::from_bytes(path)).ok()?;
    Some(path.into_os_string().into_vec())
}
