//! The journal: every change of a session and every gap, in a local SQLite file, before anything is delivered
//! (docs/journal.md). One file is one *stream*; its entries are numbered from 1.
//!
//! [`Journal`] is the loop's side: [`Journal::push`] numbers an entry and queues it; it waits for no disk. A thread
//! commits what is queued. [`reader::Reader`] reads what is committed, through a connection of its own.

mod aside;
mod bounds;
mod delivery;
mod file;
mod instance;
mod live;
mod queue;
pub mod reader;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod start_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::api::status::JournalStatus;
pub use delivery::Delivery;
use queue::Queue;

/// Bytes that the file and its write-ahead log may take unless configured.
pub const MAX_BYTES_DEFAULT: u64 = 256 << 20;
/// The smallest bound that can be kept: the log alone takes some.
pub const MAX_BYTES_MIN: u64 = 4 << 20;
/// How old an entry may get unless configured.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// How long the daemon's end waits for what is queued.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The SQLite file. Its directory also holds `instance` and `lock`.
    pub path: PathBuf,
    /// Bound of file and write-ahead log together.
    pub max_bytes: u64,
    /// Bound of an entry's age.
    pub max_age: Duration,
    /// This boot, for the entries that the journal writes itself.
    pub boot_id: String,
    /// Somebody delivers: entries count as undelivered until [`Delivery::acknowledged`].
    pub delivers: bool,
}

impl Options {
    fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            Some(_) => Path::new("."),
            None => Path::new("/"),
        }
    }
}

/// An entry, as the core's change gives it; the journal adds the number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// When the cause happened, ns since 1970.
    pub at_unix_ns: i64,
    /// The same in boot time.
    pub boottime_ns: u64,
    /// This means something only beside it.
    pub boot_id: String,
    /// As in `watch --json`; `gap` for losses of the journal itself ([`Gap`] in `detail`).
    pub kind: String,
    /// Raw path of the home; `None` for gaps.
    pub home: Option<Vec<u8>>,
    /// Its mount namespace, unless the host's own.
    pub home_mnt_ns: Option<u32>,
    /// Raw name.
    pub name: Option<Vec<u8>>,
    /// tgid of the primary.
    pub pid: Option<u32>,
    /// And which process of that number.
    pub start_boottime_ns: Option<u64>,
    /// The JSON object of `watch --json`, without `seq` and `event_seq`.
    pub detail: String,
}

/// `detail` of an entry of kind `gap`: entries that are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gap {
    /// First number that is covered; null where what was lost had none.
    pub from_seq: Option<u64>,
    /// Last.
    pub to_seq: Option<u64>,
    /// How many were lost; null: not known.
    pub count: Option<u64>,
    /// `queue_full`, `disk_full`, `write_failed`, `too_large`, `retention_size`, `retention_age`, `not_running`,
    /// `lost`, `corrupt`, `newer_schema`, `older_schema`, `restored` or `mirror_ahead`.
    pub reason: String,
    /// Earliest moment that it concerns.
    pub from: Option<String>,
    /// Latest.
    pub to: Option<String>,
    /// The stream that this one follows.
    pub previous_stream_id: Option<String>,
    /// In words.
    pub message: Option<String>,
}

/// What was committed last; told to whoever delivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The stream; empty until a file could be opened, another once one was set aside.
    pub stream_id: Arc<str>,
    /// Oldest number that the file holds.
    pub oldest_seq: u64,
    /// Newest; 0: none.
    pub last_seq: u64,
}

/// What a file that was opened says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Last entries of the sessions that live; what was pushed since it was opened is counted in.
    pub live: Vec<Entry>,
    /// Until when that is known, ns since 1970: a daemon was there. `None`: the file is new.
    pub until_ns: Option<i64>,
}

/// Why there is no journal.
#[derive(Debug)]
pub enum Unusable {
    /// The operator decides: the place is somebody else's. The error ends with the next step.
    Ever(anyhow::Error),
    /// It may pass: the disk is full, a right is missing. It is tried again.
    Now(anyhow::Error),
}

/// The loop's side. Dropping it writes what is queued, for [`STOP_WAIT`] at most.
pub struct Journal {
    queue: Arc<Queue>,
    committed: watch::Receiver<Committed>,
    path: PathBuf,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens or creates the file, sets aside one that cannot be used, and starts the writer. A disk that is full or
    /// a directory that cannot be written is no error: it is told, and tried again.
    ///
    /// # Errors
    ///
    /// The place is another daemon's or another program's; or the machine has no thread left.
    pub fn open(options: Options) -> Result<Self> {
        let queue = Arc::new(Queue::new(&options));
        let (tell, committed) = watch::channel(Committed::default());
        let path = options.path.clone();
        let mut writer = writer::Writer::new(options, Arc::clone(&queue), tell);
        let wait = writer.open()?;
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(wait))
            .context("cannot start the journal's thread; raise the limit of processes (ulimit -u)")?;
        Ok(Self { queue, committed, path, writer: Some(writer) })
    }

    /// Numbers `entry` and queues it; `None` if there is no room, or no file: it is counted then, and a gap entry
    /// will say so. Waits for nothing but a lock that nobody holds over I/O.
    pub fn push(&self, entry: Entry) -> Option<u64> {
        self.queue.push(entry)
    }

    /// Last entries of the sessions that live, by what the file says; until [`Journal::resume`] takes them.
    pub fn known(&self) -> Vec<Entry> {
        self.queue.known()
    }

    /// From now on changes are told. Once for each file that is opened, also later ([`Journal::news`]): what it says
    /// lives. The entry that says for how long nobody was there is made here.
    pub fn resume(&self) -> Option<Resumed> {
        self.queue.resume()
    }

    /// Everything that happened up to this moment, ns since 1970, was pushed. What the next daemon finds different
    /// happened later.
    pub fn complete(&self, up_to_ns: i64) {
        self.queue.complete(up_to_ns);
    }

    /// Told when [`Journal::resume`] has something to say: a file was opened.
    pub fn news(&self) -> Arc<Notify> {
        self.queue.news()
    }

    /// Where readers open it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What delivers.
    pub fn delivery(&self) -> Delivery {
        Delivery::new(Arc::clone(&self.queue), self.committed.clone(), self.path.clone())
    }

    /// The stream and the newest number given in it, committed or not; changes that got none so far.
    pub fn numbered(&self) -> (Arc<str>, u64, u64) {
        self.queue.numbered()
    }

    /// Whether changes are not on the disk yet.
    pub fn is_behind(&self) -> bool {
        self.queue.waiting() > 0
    }

    /// For `status`: from memory, without the disk.
    pub fn status(&self, now_unix_ns: i128) -> JournalStatus {
        let mut status = self.queue.status(now_unix_ns);
        status.path = Some(self.path.display().to_string());
        status
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.stop();
        let deadline = std::time::Instant::now() + STOP_WAIT;
        if let Some(writer) = self.writer.take() {
            while !writer.is_finished() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            let left = self.queue.waiting();
            if left > 0 {
                eprintln!(
                    "observer: warning: {left} entries could not be written to the journal {}; free disk space there",
                    self.path.display()
                );
            }
        }
    }
}
