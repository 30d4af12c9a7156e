//! The state directory, locked for this process, and whether it and the journal in it are still at their paths.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::identity::DirectoryIdentity;
use super::lock::{DirectoryLock, Watermark};
use super::options::JournalOptions;
use super::quarantine::suffixed;

/// A locked state directory.
pub struct StateDir {
    /// Its lock.
    pub lock: DirectoryLock,
    /// Who it is.
    pub identity: DirectoryIdentity,
    /// The journal that this process opened; `None`: none is open, or it is not known which.
    file: Option<FileId>,
    /// Its write-ahead log; `None`: nothing was written to it yet.
    log: Option<FileId>,
}

/// A file, whatever its path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    dev: u64,
    ino: u64,
}

/// What this process knew of a state directory that somebody deleted.
pub struct FormerDir {
    identity: DirectoryIdentity,
    watermark: Watermark,
}

impl FileId {
    fn of(meta: &fs::Metadata) -> Self {
        Self { dev: meta.dev(), ino: meta.ino() }
    }

    /// The file at the path; `None`: there is none, or it cannot be looked at.
    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::of)
    }

    /// Whether another file, or none, is at the path. An error that says neither is no reason to give a file up.
    fn is_gone_from(self, path: &Path) -> bool {
        match fs::metadata(path) {
            Ok(meta) => Self::of(&meta) != self,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}

impl StateDir {
    /// Locks the directory, which is made where it is missing. If this process had it before (`former`) and it was deleted, it
    /// stays the same one for the mirror, and its journal is known to be lost. If only the lock was deleted, its content is
    /// written again from `former`.
    pub fn claim(dir: &Path, former: Option<&FormerDir>) -> Result<Self, OpenError> {
        let mut lock = DirectoryLock::acquire(dir)?;
        let mut identity = DirectoryIdentity::load(dir).map_err(OpenError::Transient)?;
        if let Some(former) = former {
            if identity.opens.is_none() {
                former.identity.store(dir).map_err(OpenError::Transient)?;
                identity = former.identity.clone();
            }
            if lock.previous.stream_id.is_empty() {
                lock.previous = former.watermark.clone();
            }
        }
        Ok(Self { lock, identity, file: None, log: None })
    }

    /// The journal at the path was opened.
    pub fn opened(&mut self, options: &JournalOptions) {
        self.file = FileId::at(&options.path);
        self.log = FileId::at(&log(options));
    }

    /// Something was written to the journal's log.
    pub fn wrote_log(&mut self, options: &JournalOptions) {
        if self.log.is_none() {
            self.log = FileId::at(&log(options));
        }
    }

    /// Whether somebody deleted or replaced the journal or the lock since.
    pub fn is_gone(&self, options: &JournalOptions) -> bool {
        self.file.is_some_and(|file| file.is_gone_from(&options.path)) || self.lock_is_gone(options)
    }

    /// Locks the directory again where somebody deleted the lock alone. False: the journal is gone too, or another process has the
    /// new lock.
    pub fn lock_again(&mut self, options: &JournalOptions) -> bool {
        if self.file.is_none_or(|file| file.is_gone_from(&options.path)) {
            return false;
        }
        let Ok(mut lock) = DirectoryLock::acquire(options.dir()) else { return false };
        lock.previous = self.lock.newest().clone();
        self.lock = lock;
        true
    }

    /// Gives up the journal. Where it is gone, its log goes too: SQLite would take that for the log of whatever is at the path now.
    /// A journal that is still there keeps its log, which has its newest entries. The connection must be closed. The result has what is known of the directory if that is gone too, and `None` if it
    /// is still locked.
    pub fn give_up(&mut self, options: &JournalOptions) -> Option<FormerDir> {
        let is_file_gone = self.file.take().is_none_or(|file| file.is_gone_from(&options.path));
        let log = log(options);
        let is_own = self.log.take().is_some_and(|known| FileId::at(&log) == Some(known));
        if is_file_gone && is_own {
            for part in [&log, &suffixed(&options.path, "-shm")] {
                let _ = fs::remove_file(part);
            }
        }
        // What this process knows is newer than what the one before it left.
        self.lock.previous = self.lock.newest().clone();
        self.lock_is_gone(options)
            .then(|| FormerDir { identity: self.identity.clone(), watermark: self.lock.previous.clone() })
    }

    fn lock_is_gone(&self, options: &JournalOptions) -> bool {
        let locked = self.lock.metadata().map(|meta| FileId::of(&meta));
        locked.is_ok_and(|locked| locked.is_gone_from(&options.dir().join(DirectoryLock::NAME)))
    }
}

/// The write-ahead log of the journal.
fn log(options: &JournalOptions) -> PathBuf {
    suffixed(&options.path, "-wal")
}
