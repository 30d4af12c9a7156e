//! What the mirror takes from the daemon: history from the journal, the live map from the loop, and the loop's beat.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// Who is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made from the machine's id.
    pub host_id: Uuid,
    /// The machine's name.
    pub host: String,
    /// This boot.
    pub boot_id: Uuid,
    /// Of the program.
    pub version: String,
}

/// An entry of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Number in its stream, from 1.
    pub seq: u64,
    /// When the cause happened, ns since 1970.
    pub at_unix_ns: i64,
    /// The boot that it happened in.
    pub boot_id: String,
    /// As in `watch --json`, or `gap`.
    pub kind: String,
    /// Raw path of the home.
    pub home: Option<Vec<u8>>,
    /// Raw name.
    pub name: Option<Vec<u8>>,
    /// tgid of the primary.
    pub pid: Option<u32>,
    /// And which process of that number.
    pub start_boottime_ns: Option<u64>,
    /// JSON object: a change of `watch --json`, or a gap.
    pub detail: String,
}

/// What of the journal is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The stream; empty: there is none yet.
    pub stream_id: Arc<str>,
    /// Number of the newest entry; 0: none.
    pub last_seq: u64,
}

/// The journal, as the mirror sees it.
pub trait History: Send {
    /// Who the state directory is, once that is known.
    fn instance_id(&self) -> Option<Uuid>;

    /// What is committed now.
    fn extent(&mut self) -> Extent;

    /// Waits for a commit after the last [`History::extent`]. Dropping it loses nothing.
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Entries of `stream_id` after `seq`, by number, those of a commit that is not told yet too; none if that stream is gone.
    fn read_after(
        &mut self,
        stream_id: &str,
        seq: u64,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Event>>;

    /// The database has everything of `stream_id` up to `seq`.
    fn acknowledged(&mut self, stream_id: &str, seq: u64);

    /// The database has entries of `stream_id` that the journal lacks: another stream has to begin.
    fn begin_anew(&mut self, stream_id: &str);
}

/// The live map at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveMap {
    /// The journal's stream.
    pub stream_id: Arc<str>,
    /// Changes up to this number are in it, later ones are not.
    pub after_seq: u64,
    /// No gap is open.
    pub certain: bool,
    /// Each session that the map holds, ended ones too, as in `list --json`.
    pub sessions: Vec<String>,
}

/// The loop goes round.
#[derive(Clone, Debug)]
pub struct Beat {
    /// When.
    pub at: Instant,
    /// The newest number given to a change, committed or not.
    pub numbered: u64,
    /// Changes that got no number since the daemon's start.
    pub dropped: u64,
}

/// Where it all comes from.
pub struct Feed {
    /// Who.
    pub identity: Identity,
    /// The journal.
    pub history: Box<dyn History>,
    /// Asks the loop for the map.
    pub map: mpsc::Sender<oneshot::Sender<LiveMap>>,
    /// Changes at each beat.
    pub beat: watch::Receiver<Beat>,
}
