//! What a journal is opened with.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default bound of the file and its write-ahead log together, bytes.
pub const MAX_BYTES_DEFAULT: u64 = 256 << 20;
/// The smallest bound that can be kept: the write-ahead log alone needs a part of it.
pub const MAX_BYTES_MIN: u64 = 4 << 20;
/// Default bound of an entry's age.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(90 * 86_400);

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The SQLite file. Its directory also holds `instance` and `lock`.
    pub path: PathBuf,
    /// Bound of the file and its write-ahead log together, bytes.
    pub max_bytes: u64,
    /// Bound of an entry's age.
    pub max_age: Duration,
    /// The id of this boot, for the entries that the journal makes itself.
    pub boot_id: String,
    /// Whether a mirror delivers the entries: they then count as undelivered until [`super::Spool::acknowledge`].
    pub delivers: bool,
}

impl JournalOptions {
    /// The directory that holds the file.
    pub fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            Some(_) => Path::new("."),
            None => Path::new("/"),
        }
    }
}
