//! The event loop's side of the journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::file::shown;
use super::options::JournalOptions;
use super::pending::{Pushed, Resumed};
use super::queue::{JournalProgress, Numbering, WriteQueue};
use super::spool::{Committed, Spool};
use super::writer::JournalWriter;
use crate::api::entry::Entry;
use crate::api::status::JournalStatus;

/// How long dropping the journal waits for queued entries to be written.
const STOP_WAIT: Duration = Duration::from_millis(1800);

/// The event loop's side of the journal. Dropping it writes what is queued, for at most [`STOP_WAIT`]. What is not written then
/// is lost with the process: the next daemon reports the time since the last entry as a gap.
pub struct Journal {
    queue: Arc<WriteQueue>,
    committed: watch::Receiver<Committed>,
    path: PathBuf,
    writer: Option<JoinHandle<()>>,
    /// When dropping it gives up, if that is earlier.
    give_up: Option<Instant>,
}

impl Journal {
    /// Opens or creates the file, quarantines one that cannot be used, and starts the writer's thread. A full disk or a
    /// directory that cannot be written is no error: it is reported, and opening is retried.
    ///
    /// # Errors
    ///
    /// Another daemon or another program uses the path, or the system has no thread left.
    pub fn open(options: JournalOptions) -> Result<Self> {
        let queue = Arc::new(WriteQueue::new(&options));
        let (sender, committed) = watch::channel(Committed::default());
        let path = options.path.clone();
        let mut writer = JournalWriter::new(options, Arc::clone(&queue), sender);
        let wait = writer.open()?;
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(wait))
            .context("cannot start the journal's thread; raise the limit of processes (ulimit -u)")?;
        Ok(Self { queue, committed, path, writer: Some(writer), give_up: None })
    }

    /// Numbers `entry` and queues it. Waits for nothing but a lock that is never held during I/O.
    pub fn push(&self, entry: Entry) -> Pushed {
        self.queue.push(entry)
    }

    /// Last entries of the sessions that live according to the file, until [`Journal::resume`] takes them.
    pub fn known(&self) -> Vec<Entry> {
        self.queue.known()
    }

    /// The event loop records changes from now on. Returns what an opened file knows, once for each file, also for one
    /// that is opened later ([`Journal::opened`]). Also queues the entry that reports the time without a daemon.
    pub fn resume(&self) -> Option<Resumed> {
        self.queue.resume()
    }

    /// Everything that happened up to `up_to_ns` (ns since 1970) was pushed. Differences that the next daemon finds
    /// happened later.
    pub fn complete(&self, up_to_ns: i64) {
        self.queue.complete(up_to_ns);
    }

    /// Notified when a file was opened, so that [`Journal::resume`] has something to return.
    pub fn opened(&self) -> Arc<Notify> {
        self.queue.opened()
    }

    /// Leaves this text to the next daemon, which gets it as [`Resumed::births`]. It is written when the journal is closed.
    pub fn leave_births(&self, births: String) {
        self.queue.leave_births(births);
    }

    /// Closes it as dropping does, but waits no longer than `deadline`.
    pub fn close_by(mut self, deadline: Instant) {
        self.give_up = Some(deadline);
    }

    /// The path at which readers open the journal.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mirror's side.
    pub fn spool(&self) -> Spool {
        Spool::new(Arc::clone(&self.queue), self.committed.clone(), self.path.clone())
    }

    /// Where the numbering stands.
    pub fn numbering(&self) -> Numbering {
        self.queue.numbering()
    }

    /// How far entries have come.
    pub fn progress(&self) -> JournalProgress {
        self.queue.progress()
    }

    /// Whether changes are not on the disk yet.
    pub fn is_behind(&self) -> bool {
        self.queue.waiting() > 0
    }

    /// What `status` reports, from memory and without the disk.
    pub fn status(&self, now_unix_ns: i128) -> JournalStatus {
        let mut status = self.queue.status(now_unix_ns);
        status.path = Some(self.path.display().to_string());
        status
    }

    /// The queue to the writer, for tests.
    #[cfg(test)]
    pub(super) fn queue(&self) -> &WriteQueue {
        &self.queue
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.stop();
        let latest = Instant::now() + STOP_WAIT;
        let deadline = self.give_up.map_or(latest, |give_up| give_up.min(latest));
        if let Some(writer) = self.writer.take() {
            while !writer.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            let left = self.queue.waiting();
            if left > 0 {
                let path = shown(&self.path);
                warn!(
                    part = "journal",
                    entries = left,
                    path,
                    "{left} entries could not be written in time to the journal {path}: the next start reports them as a gap; see \
                     whether its disk is full or slow"
                );
            }
        }
    }
}
