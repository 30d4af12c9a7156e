//! The file `lock` of the state directory: the daemon that keeps a journal there holds a lock on it. Its text is what that
//! daemon knew of its journal, for the next one.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::error::OpenError;
use super::identity::NEXT;

/// How long a start waits for the lock: a predecessor that is ending, or a child of it that has yet to exec, may hold it
/// for a moment.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The locked file. Dropping it releases the lock.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    /// What the previous daemon wrote.
    pub previous: Watermark,
    written: Watermark,
}

/// What a daemon knows of its journal. The text is not synced: after a power loss an earlier one is as true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// The time up to which the journal is complete, ns since 1970; 0: not known.
    pub complete_ns: i64,
    /// Number of the newest committed entry.
    pub last_seq: u64,
    /// Number of the newest entry that the mirror is known to have.
    pub delivered: u64,
    /// The stream that the numbers belong to.
    pub stream_id: String,
}

impl DirectoryLock {
    /// Name of the file in its directory.
    pub const NAME: &str = "lock";

    /// Creates `dir` where it is missing, and locks it for this process.
    pub fn acquire(dir: &Path) -> Result<Self, OpenError> {
        let file = Self::open(dir).map_err(OpenError::Transient)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let dir = dir.display();
                    return Err(OpenError::Permanent(anyhow::anyhow!(
                        "another observer keeps its journal in {dir}; stop it, or {NEXT}"
                    )));
                }
                Err(TryLockError::Error(error)) => {
                    let message = format!("cannot lock {}; {NEXT}", dir.join(Self::NAME).display());
                    return Err(OpenError::Transient(anyhow::Error::new(error).context(message)));
                }
            }
        }
        let mut text = [0; 128];
        let read = file.read_at(&mut text, 0).unwrap_or(0);
        let text = text.get(..read).and_then(|text| std::str::from_utf8(text).ok());
        let previous = text.and_then(Watermark::parse).unwrap_or_default();
        Ok(Self { file, previous, written: Watermark::default() })
    }

    fn open(dir: &Path) -> anyhow::Result<File> {
        let may_write = |what: &str| {
            format!("cannot {what} {}; give the daemon's user the right, or {NEXT}", dir.display())
        };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).with_context(|| may_write("make"))?;
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        // A link would have this process write to the file to which it leads.
        options.custom_flags(libc::O_NOFOLLOW);
        let path = dir.join(Self::NAME);
        let opened = options.open(&path);
        if opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ELOOP)) {
            bail!("{} is a symbolic link, which observer does not follow; remove it", path.display());
        }
        opened.with_context(|| may_write("write in"))
    }

    /// The status of the locked file.
    pub fn metadata(&self) -> std::io::Result<fs::Metadata> {
        self.file.metadata()
    }

    /// What is known of the journal: by this daemon, or else by the previous one.
    pub fn newest(&self) -> &Watermark {
        if self.written.stream_id.is_empty() { &self.previous } else { &self.written }
    }

    /// Writes `watermark` for the next daemon. Where that fails, an earlier one remains.
    pub fn write(&mut self, watermark: Watermark) {
        if watermark != self.written {
            // Every text has the same length, so nothing of an earlier one remains behind it.
            let Watermark { complete_ns, last_seq, delivered, stream_id } = &watermark;
            let text = format!("{complete_ns:019} {last_seq:020} {delivered:020} {stream_id}\n");
            let _ = self.file.write_all_at(text.as_bytes(), 0);
            self.written = watermark;
        }
    }
}

impl Watermark {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let complete_ns = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse().ok();
        let (last_seq, delivered) = (number()?, number()?);
        Some(Self { complete_ns, last_seq, delivered, stream_id: words.next()?.into() })
    }
}
