//! The journal as the mirror's spool: what is committed, and how far it was delivered. Used from another thread than the
//! event loop's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::error::SqliteFault;
use super::queue::WriteQueue;

/// What is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The stream; empty until a file could be opened. It changes when a new stream begins.
    pub stream_id: Arc<str>,
    /// Number of the oldest entry; 0: there is none.
    pub oldest_seq: u64,
    /// Number of the newest entry; 0: there is none.
    pub last_seq: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Spool {
    queue: Arc<WriteQueue>,
    committed: watch::Receiver<Committed>,
    path: PathBuf,
}

impl Spool {
    /// The spool of the journal at `path`.
    pub(super) fn new(queue: Arc<WriteQueue>, committed: watch::Receiver<Committed>, path: PathBuf) -> Self {
        Self { queue, committed, path }
    }

    /// The identity of the state directory (`host.instance_id` in the mirror); `None` while it cannot be read.
    pub fn instance_id(&self) -> Option<Arc<str>> {
        self.queue.instance_id()
    }

    /// The path at which readers open the journal.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is committed; the receiver is notified of commits, and sees the newest.
    pub fn committed(&self) -> watch::Receiver<Committed> {
        self.committed.clone()
    }

    /// The mirror has every entry of `stream_id` up to `seq`. Local history is kept.
    pub fn acknowledge(&self, stream_id: &str, seq: u64) {
        self.queue.acknowledge(stream_id, seq);
    }

    /// The mirror has entries of `stream_id` that this file lacks, because an older copy was put back. The file is
    /// quarantined and a new stream begins, so that no number is given twice.
    pub fn begin_new_stream(&self, stream_id: &str) {
        self.queue.begin_new_stream(stream_id);
    }

    /// A reader of `stream_id` met `error`. Where that means that the file is damaged, the writer checks the file, since
    /// it may never read the damaged page itself.
    pub fn read_failed(&self, stream_id: &str, error: &anyhow::Error) {
        let sqlite = error.downcast_ref::<rusqlite::Error>();
        if sqlite.is_some_and(|error| SqliteFault::of(error) == SqliteFault::Corrupt) {
            self.queue.suspect(stream_id);
        }
    }
}
