//! What the mirror receives from the daemon: history from the journal, the live map and heartbeats from the loop.

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

pub use super::delivery::{JournalExtent, LiveMap, LoopHeartbeat};
use super::items::MirroredArgv;
pub use super::items::{HistoryEntry, UserKey};
use super::target::DatabaseUrl;

/// What is mirrored, and where.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// The database.
    pub database: DatabaseUrl,
    /// Which arguments of processes are mirrored.
    pub argv: MirroredArgv,
}

/// The host that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// Derived from the machine's id.
    pub host_id: Uuid,
    /// The machine's name.
    pub host: String,
    /// This boot.
    pub boot_id: Uuid,
    /// Version of the program.
    pub version: String,
}

/// The journal, as the mirror sees it.
pub trait History: Send {
    /// The identity of the state directory; `None` while the journal cannot be opened.
    fn instance_id(&self) -> Option<Uuid>;

    /// What is committed at the moment.
    fn extent(&mut self) -> JournalExtent;

    /// Waits for a commit after the last [`History::extent`]. Dropping the future loses nothing.
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Entries of the stream after `seq` in order, those of a commit that is not reported yet too; none if that stream is gone.
    fn read_after(
        &mut self,
        stream_id: Uuid,
        seq: u64,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<HistoryEntry>>;

    /// Takes note that the database has everything of the stream up to `seq`.
    fn acknowledged(&mut self, stream_id: Uuid, seq: u64);

    /// Begins another stream, since the database has entries of this one that the journal lacks.
    fn begin_anew(&mut self, stream_id: Uuid);
}

/// Where the mirror's data comes from.
pub struct MirrorFeed {
    /// The host that is mirrored.
    pub identity: HostIdentity,
    /// The journal.
    pub history: Box<dyn History>,
    /// Questions to the loop for the live map.
    pub map: mpsc::Sender<oneshot::Sender<LiveMap>>,
    /// The loop's last heartbeat.
    pub heartbeat: watch::Receiver<LoopHeartbeat>,
}
