//! Where the delivery stands: without a connection, with one, or with one that is the host's writer.

use std::time::Instant;

use uuid::Uuid;

use super::batch::Batch;
use super::congestion::Congestion;
use super::messages::{FencingToken, JournalExtent, LoopHeartbeat, ReplicationCursor, ServerPeer};

/// Where the delivery stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// The journal is asked for the identity of the state directory, at this time at the earliest.
    Identifying(Instant),
    /// A recent heartbeat is waited for: whoever connects is present soon, which a loop that hangs must not be.
    AwaitingHeartbeat(Uuid),
    /// A connection is being made.
    Connecting(Uuid),
    /// The connection is open, and not the host's writer yet.
    Opening(Box<Opening>),
    /// The connection is the host's writer.
    Present(Box<Present>),
    /// Another connection is made at this time.
    BackingOff(Instant),
    /// Nothing more happens.
    Finished,
}

/// A connection that is not the host's writer yet.
#[derive(Debug)]
pub(super) struct Opening {
    pub peer: ServerPeer,
    pub instance_id: Uuid,
    pub began_at: Instant,
    pub step: OpeningStep,
}

/// What the open request is for, or what is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) enum OpeningStep {
    TryingLock,
    EndingGhost,
    /// The lock is tried again at this time.
    WaitingForLock(Instant),
    /// For the host with this number.
    Maintaining(i32),
    ReadingMap(i32),
    Reconciling(MapStamp),
}

impl Opening {
    pub fn wake_at(&self) -> Option<Instant> {
        match self.step {
            OpeningStep::WaitingForLock(at) => Some(at),
            _ => None,
        }
    }
}

/// A connection that is the host's writer.
#[derive(Debug)]
pub(super) struct Present {
    pub token: FencingToken,
    pub cursor: ReplicationCursor,
    /// The stream whose newest entry in the database was compared with the journal's.
    pub compared: Option<Uuid>,
    /// The state in the database has the changes up to this number.
    pub state_after: u64,
    /// When the state was last made equal to the map.
    pub reconciled_at: Instant,
    /// When the partitions were last looked after.
    pub maintained_at: Instant,
    /// When the last hint was sent.
    pub notified_at: Option<Instant>,
    /// When the next hint is due.
    pub notify_due: Option<Instant>,
    /// What the statements of batches took.
    pub congestion: Congestion,
    /// When the last one was sent.
    pub sent_at: Instant,
    /// Until when changes wait for others that share their transaction; `None`: nothing waits.
    pub held_until: Option<Instant>,
    /// A heartbeat arrived after the last ping.
    pub is_ping_due: bool,
    /// The heartbeat at the last ping, and what the journal had committed then.
    pub pinged_heartbeat: LoopHeartbeat,
    pub pinged_last_seq: u64,
    /// What the journal knows to be in the database.
    pub acknowledged: Option<ReplicationCursor>,
    /// The stream in whose place the journal was asked to begin another.
    pub superseded_stream: Option<Uuid>,
    pub activity: Activity,
}

/// What the open request is for, or what is waited for.
#[derive(Debug)]
pub(super) enum Activity {
    /// Nothing is under way.
    Idle,
    /// Nothing is done until this time, and then the next thing that is due.
    Pausing(Instant, AfterPause),
    ReadingMap,
    Reconciling(MapStamp),
    Comparing,
    Maintaining,
    Reading,
    Writing(Box<Batch>, WriteStep),
    Pinging,
    Notifying,
}

/// What follows a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterPause {
    /// What is due.
    Continue,
    /// The state is made equal to the map. The daemon's end does not wait for it.
    Refresh,
}

/// What is done for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteStep {
    /// A statement of it is sent.
    Sending,
    /// The partition for today is made.
    MakingPartition,
    /// Readers are informed that the state is not caught up.
    MarkingBehind,
    /// The next attempt begins at this time.
    Pausing(Instant),
}

/// Identifies the state of a live map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapStamp {
    pub stream_id: Option<Uuid>,
    pub after_seq: u64,
}

impl Present {
    /// A connection whose state was just made equal to the map.
    pub fn new(
        token: FencingToken,
        cursor: ReplicationCursor,
        map: MapStamp,
        heartbeat: LoopHeartbeat,
        extent: JournalExtent,
        now: Instant,
    ) -> Self {
        Self {
            token,
            cursor,
            compared: None,
            state_after: map.after_seq,
            reconciled_at: now,
            maintained_at: now,
            notified_at: None,
            notify_due: Some(now),
            congestion: Congestion::default(),
            sent_at: now,
            held_until: None,
            is_ping_due: false,
            pinged_heartbeat: heartbeat,
            pinged_last_seq: extent.last_seq,
            acknowledged: None,
            superseded_stream: None,
            activity: Activity::Idle,
        }
    }

    pub fn wake_at(&self) -> Option<Instant> {
        match &self.activity {
            Activity::Idle => [self.notify_due, self.held_until].into_iter().flatten().min(),
            Activity::Pausing(at, _) | Activity::Writing(_, WriteStep::Pausing(at)) => Some(*at),
            _ => None,
        }
    }

    /// Whether a batch is on its way.
    pub fn is_writing(&self) -> bool {
        matches!(self.activity, Activity::Writing(..))
    }
}
