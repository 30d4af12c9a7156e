//! The mirror's side: what is committed, and how far it was delivered. Used from another thread than the loop's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::Committed;
use super::file::{Trouble, trouble};
use super::queue::Queue;

/// See the module.
#[derive(Clone)]
pub struct Delivery {
    queue: Arc<Queue>,
    committed: watch::Receiver<Committed>,
    path: PathBuf,
}

impl Delivery {
    /// Of the journal at `path`.
    pub(super) fn new(queue: Arc<Queue>, committed: watch::Receiver<Committed>, path: PathBuf) -> Self {
        Self { queue, committed, path }
    }

    /// Who this state directory is, among daemons (`host.instance_id` in the mirror); `None` while it cannot be read.
    pub fn instance_id(&self) -> Option<Arc<str>> {
        self.queue.instance_id()
    }

    /// Where readers open it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells of every commit; a receiver that sleeps through some sees the last.
    pub fn committed(&self) -> watch::Receiver<Committed> {
        self.committed.clone()
    }

    /// The mirror has everything of `stream_id` up to `seq`. Local history stays.
    pub fn acknowledged(&self, stream_id: &str, seq: u64) {
        self.queue.acknowledged(stream_id, seq);
    }

    /// The mirror has entries of `stream_id` that this file lacks: an old file was put back. It is set aside and a
    /// new stream begins, so that no number is given twice.
    pub fn begin_anew(&self, stream_id: &str) {
        self.queue.begin_anew(stream_id);
    }

    /// A reader of `stream_id` met this error. Where it says that the file is damaged, the writer looks: it may never come to
    /// that page by itself.
    pub fn read_failed(&self, stream_id: &str, error: &anyhow::Error) {
        let sqlite = error.downcast_ref::<rusqlite::Error>();
        if sqlite.is_some_and(|error| trouble(error) == Trouble::Corrupt) {
            self.queue.doubt(stream_id);
        }
    }
}

/// Short for tests.
#[cfg(test)]
impl super::Journal {
    pub fn instance_id(&self) -> Option<Arc<str>> {
        self.delivery().instance_id()
    }

    pub fn committed(&self) -> watch::Receiver<Committed> {
        self.delivery().committed()
    }

    pub fn acknowledged(&self, stream_id: &str, seq: u64) {
        self.delivery().acknowledged(stream_id, seq);
    }

    pub fn begin_anew(&self, stream_id: &str) {
        self.delivery().begin_anew(stream_id);
    }
}
