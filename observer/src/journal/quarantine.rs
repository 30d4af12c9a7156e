//! The quarantine: journals that cannot be used are kept beside the new one, so that a person can examine them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files in quarantine; beyond, the oldest is removed.
const QUARANTINE_MAX: usize = 3;

/// `path` with `suffix` appended to its last component.
pub fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames the file, its write-ahead log and the log's index to `….aside-TIME`, and removes the oldest such files beyond
/// [`QUARANTINE_MAX`]. Returns the new path. `dir` is the directory of `path`. No connection to the file may be open.
pub fn quarantine(path: &Path, dir: &Path, now_unix_ns: i128) -> io::Result<PathBuf> {
    // The stamp is wide enough for names to sort by time.
    let mut stamp = now_unix_ns.max(0);
    let mut to = suffixed(path, &format!(".aside-{stamp:020}"));
    while to.exists() {
        stamp += 1;
        to = suffixed(path, &format!(".aside-{stamp:020}"));
    }
    // The log first: SQLite would take an old log beside a new file for the new file's log.
    for part in ["-wal", "-shm", ""] {
        match fs::rename(suffixed(path, part), suffixed(&to, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for old in quarantined(path, dir)?.iter().rev().skip(QUARANTINE_MAX) {
        for part in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(suffixed(old, part));
        }
    }
    Ok(to)
}

/// Files in quarantine, the oldest first.
pub fn quarantined(path: &Path, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut prefix: OsString = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".aside-");
    let mut files = Vec::new();
    for found in fs::read_dir(dir)? {
        let name = found?.file_name();
        let bytes = name.as_encoded_bytes();
        let stamp = bytes.strip_prefix(prefix.as_encoded_bytes());
        if stamp.is_some_and(|stamp| stamp.iter().all(u8::is_ascii_digit)) {
            files.push(dir.join(name));
        }
    }
    files.sort();
    Ok(files)
}
