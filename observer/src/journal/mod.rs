//! The journal: every change of a session and every gap, in a local SQLite file, before anything is delivered
//! (docs/journal.md). One file is one *stream*; its entries are numbered from 1.
//!
//! [`Journal`] is the loop's side: [`Journal::push`] numbers an entry and queues it; it waits for no disk. A thread
//! commits what is queued. [`reader::Reader`] reads what is committed, through a connection of its own.

mod aside;
mod bounds;
mod file;
mod instance;
mod queue;
pub mod reader;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

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
    /// Somebody delivers: entries count as undelivered until [`Journal::acknowledged`].
    pub delivers: bool,
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
    /// The stream; changes when the file is set aside.
    pub stream_id: Arc<str>,
    /// Oldest number that the file holds.
    pub oldest_seq: u64,
    /// Newest; 0: none.
    pub last_seq: u64,
}

/// `journal` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `ok`, `failing` (it is tried again), `off`.
    pub state: String,
    /// Why it is failing or off.
    pub last_error: Option<String>,
    /// The file.
    pub path: Option<String>,
    /// The stream.
    pub stream_id: Option<String>,
    /// Number of the newest committed entry; 0: none.
    pub last_seq: u64,
    /// Number of the oldest entry held.
    pub oldest_seq: u64,
    /// File and write-ahead log.
    pub bytes: u64,
    /// Their bound.
    pub limit_bytes: u64,
    /// `bytes` of `limit_bytes`, 0 to 1.
    pub utilisation: f64,
    /// Entries waiting for the disk.
    pub queued: u64,
    /// Number of the newest entry that the mirror has; 0: none.
    pub delivered: u64,
    /// Age of the oldest committed entry that the mirror lacks; null: none, or no mirror.
    pub oldest_undelivered_ms: Option<u64>,
    /// Failed writes since the last that succeeded.
    pub failures: u64,
    /// Entries lost since the daemon's start, because the queue was full or an entry was refused.
    pub dropped: u64,
    /// Entries removed since the daemon's start, because a bound bit.
    pub expired: u64,
}

impl Status {
    /// Of a daemon that keeps no journal.
    pub fn off(reason: &str) -> Self {
        Self { state: "off".into(), last_error: Some(reason.into()), ..Self::default() }
    }
}

/// The loop's side. Dropping it writes what is queued, for [`STOP_WAIT`] at most.
pub struct Journal {
    queue: Arc<Queue>,
    committed: watch::Receiver<Committed>,
    instance_id: String,
    path: PathBuf,
    writer: Option<JoinHandle<()>>,
    /// Held for the daemon's life: one writer a directory.
    _lock: std::fs::File,
}

impl Journal {
    /// Opens or creates the file, sets aside one that cannot be used, and starts the writer. Errors are about the
    /// directory, and end with the next step.
    pub fn open(options: Options) -> Result<Self> {
        let dir = options.path.parent().unwrap_or(Path::new("/")).to_owned();
        let lock = instance::claim(&dir)?;
        let mut instance = instance::Instance::load(&dir)?;
        if instance.opens.is_none() {
            // Before the first journal, which names it.
            instance = instance.with_opens(0);
            instance.store(&dir)?;
        }
        let opened = file::open(&options, &instance)?;
        instance.with_opens(opened.opens).store(&dir)?;
        let (tell, committed) = watch::channel(opened.committed());
        let queue = Arc::new(Queue::new(&opened, &options));
        let (its_queue, path) = (Arc::clone(&queue), options.path.clone());
        let instance_id = instance.id.clone();
        let writer = writer::Writer::new(opened, options, instance, its_queue, tell);
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run())
            .context("cannot start the journal's thread; raise the limit of processes (ulimit -u)")?;
        Ok(Self { queue, committed, instance_id, path, writer: Some(writer), _lock: lock })
    }

    /// Numbers `entry` and queues it; `None` if there is no room: it is counted then, and a gap entry will say so.
    /// Waits for nothing but a lock that nobody holds over I/O.
    pub fn push(&self, entry: Entry) -> Option<u64> {
        self.queue.push(entry)
    }

    /// Who this state directory is, among daemons (`hosts.instance_id`).
    #[cfg_attr(not(test), expect(dead_code, reason = "for the mirror"))]
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// Where readers open it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells of every commit; a receiver that sleeps through some sees the last.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the mirror"))]
    pub fn committed(&self) -> watch::Receiver<Committed> {
        self.committed.clone()
    }

    /// The mirror has everything of `stream_id` up to `seq`. Local history stays.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the mirror"))]
    pub fn acknowledged(&self, stream_id: &str, seq: u64) {
        self.queue.acknowledged(stream_id, seq);
    }

    /// The mirror has entries of `stream_id` that this file lacks: an old file was put back. It is set aside and a
    /// new stream begins, so that no number is given twice.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the mirror"))]
    pub fn begin_anew(&self, stream_id: &str) {
        self.queue.begin_anew(stream_id);
    }

    /// For `status`: from memory, without the disk.
    pub fn status(&self, now_unix_ns: i128) -> Status {
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
