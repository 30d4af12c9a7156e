//! Room on the disk for what is fetched.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::statvfs;

/// What a cache with four kernels and a root file system takes, unpacking included.
const ROOM_MB: u64 = 1000;

/// Why nothing is fetched to a disk.
pub(crate) const NO_ROOM: &str = "too few for kernels and a root file system";

/// Refuses a disk that is nearly full before something is fetched to it: apt would wait forever.
pub(crate) fn check_room(directory: &Path) -> Result<()> {
    let found = statvfs(directory).with_context(|| format!("see how full {} is", directory.display()))?;
    let free_mb = (found.blocks_available() * found.fragment_size()) >> 20;
    ensure_room(directory, free_mb)
}

fn ensure_room(directory: &Path, free_mb: u64) -> Result<()> {
    ensure!(free_mb >= ROOM_MB, "{}: {free_mb} MB are free: {NO_ROOM}; {}", directory.display(), more_room());
    Ok(())
}

/// How a person makes room.
pub(crate) fn more_room() -> String {
    format!("free {ROOM_MB} MB there, or set OBSERVER_VM_CACHE to a directory that has them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_refused_before_anything_is_fetched() {
        let cache = Path::new("/c");
        assert!(ensure_room(cache, ROOM_MB).is_ok());
        let error = ensure_room(cache, 8).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("8 MB are free") && error.contains("OBSERVER_VM_CACHE"), "{error}");
        assert!(error.contains(NO_ROOM), "{error}");
    }
}
