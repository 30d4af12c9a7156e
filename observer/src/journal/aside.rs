//! A journal that cannot be used is kept beside the new one, for a person to look at.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files that are kept; the oldest goes.
const ASIDE_MAX: usize = 3;

/// `path` with `suffix` after its last component.
pub fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames the file, its log and its index to `….aside-TIME`, and removes the oldest beyond [`ASIDE_MAX`]; where
/// it is now. `dir` is where it is. No connection may be open.
pub fn set_aside(path: &Path, dir: &Path, now_unix_ns: i128) -> io::Result<PathBuf> {
    // Wide enough that names sort by time.
    let mut stamp = now_unix_ns.max(0);
    let mut to = suffixed(path, &format!(".aside-{stamp:020}"));
    while to.exists() {
        stamp += 1;
        to = suffixed(path, &format!(".aside-{stamp:020}"));
    }
    // The log first: beside a new file, an old log would be taken for its own.
    for part in ["-wal", "-shm", ""] {
        match fs::rename(suffixed(path, part), suffixed(&to, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for old in kept(path, dir)?.iter().rev().skip(ASIDE_MAX) {
        for part in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(suffixed(old, part));
        }
    }
    Ok(to)
}

/// Files set aside, oldest first.
pub fn kept(path: &Path, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut prefix: OsString = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".aside-");
    let mut kept = Vec::new();
    for found in fs::read_dir(dir)? {
        let name = found?.file_name();
        let bytes = name.as_encoded_bytes();
        let stamp = bytes.strip_prefix(prefix.as_encoded_bytes());
        if stamp.is_some_and(|stamp| stamp.iter().all(u8::is_ascii_digit)) {
            kept.push(dir.join(name));
        }
    }
    kept.sort();
    Ok(kept)
}
