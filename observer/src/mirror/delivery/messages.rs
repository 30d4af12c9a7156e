//! What the delivery receives, and what it wants done.

use std::time::Instant;

use uuid::Uuid;

use super::statement::BatchStatement;
use crate::mirror::error::DatabaseError;
use crate::mirror::items::BatchItem;

/// An event that the driver reports.
#[derive(Debug)]
pub enum DeliveryInput {
    /// The journal committed entries, or began another stream.
    Committed(JournalExtent),
    /// The loop that drains the ring gave a sign of life.
    Heartbeat(LoopHeartbeat),
    /// The daemon ends.
    Stop,
    /// Nothing happened but that time passed.
    TimePassed,
    /// The connection ended by itself, or the server closed it.
    ConnectionLost(DatabaseError),
    /// The answer to the only open request.
    Answer(Result<DeliveryAnswer, DatabaseError>),
}

/// Something that the driver does.
#[derive(Debug)]
pub enum DeliveryAction {
    /// Performs the request and reports its answer. At most one request is open.
    Request(DeliveryRequest),
    /// Closes the connection, if there is one, and abandons the open request, whose answer must not be reported.
    Disconnect,
    /// Lets the journal know that the database has the stream up to this number.
    Acknowledge {
        /// The stream.
        stream_id: Uuid,
        /// Number of the newest entry that the database has.
        seq: u64,
    },
    /// Has the journal begin another stream in place of this one.
    BeginNewStream(Uuid),
    /// Writes a line to the log.
    Log(LogLine),
}

/// A line of the log. What it quotes from outside is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// By this a machine selects, and it decides the level.
    pub subject: LogSubject,
    /// A sentence.
    pub message: String,
}

/// What a line of the log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSubject {
    /// The database refuses the mirror until a person acts.
    Stopped,
    /// The connection was lost, and is tried again.
    Retrying,
    /// The database refused entries or rows.
    Refused,
    /// The database has entries that the journal lacks, so another journal begins.
    JournalReplaced,
    /// The journal cannot be read.
    JournalUnreadable,
    /// A connection began.
    Connected,
}

impl LogSubject {
    /// The word for it in the fields of the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Retrying => "retrying",
            Self::Refused => "refused",
            Self::JournalReplaced => "journal_replaced",
            Self::JournalUnreadable => "journal_unreadable",
            Self::Connected => "connected",
        }
    }
}

/// A request to the journal, the daemon's loop or the database.
#[derive(Debug)]
pub enum DeliveryRequest {
    /// Reads the identity of the state directory from the journal. Answer: `InstanceId`.
    InstanceId,
    /// Connects and checks the schema. Answer: `Connected`.
    Connect,
    /// Tries to take the presence lock of the host. Answer: `Lock`.
    TryLock,
    /// Ends this server process. Answer: `Done`.
    EndBackend(i32),
    /// Makes and drops partitions. The connection is broken where the schema was brought to a revision that a new connection
    /// uses. Answer: `Done`.
    Maintain,
    /// Reads the live map from the daemon's loop. Answer: `LiveMap`.
    ReadMap,
    /// Makes the state in the database equal to the map, in one transaction. Answer: `Reconciled`.
    Reconcile {
        /// Who writes.
        writer: WriterIdentity,
        /// The map.
        map: LiveMap,
        /// Number of the newest entry that the journal has committed. With the cursor there, and nothing in the map that
        /// the journal lacks, the state is caught up.
        last_seq: u64,
    },
    /// Compares the entry of this number in the journal with the one in the database. Answer: `Compared` or
    /// `JournalUnreadable`.
    Compare {
        /// Host whose events are compared.
        host_no: i32,
        /// The stream.
        stream_id: Uuid,
        /// Number of the entry.
        seq: u64,
    },
    /// Reads entries from the journal. Answer: `Entries` or `JournalUnreadable`.
    ReadEntries(EntryRange),
    /// Applies a batch: all of it or nothing, and only where the token is current and the cursor is where the statement says.
    /// Answer: `Done`.
    Write {
        /// The writer's fencing token.
        token: FencingToken,
        /// What is written.
        statement: BatchStatement,
    },
    /// Marks the state as not caught up. Answer: `Done`.
    MarkBehind(FencingToken),
    /// Asks the server for a sign of life, which begins no transaction. Answer: `Done`.
    Ping,
    /// Sends listeners a hint. Answer: `Done`.
    Notify(i32),
}

/// Entries of the journal to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRange {
    /// The stream.
    pub stream_id: Uuid,
    /// Entries after this number.
    pub after: u64,
    /// Entries up to this number.
    pub through: u64,
    /// At most so many.
    pub entries_max: usize,
    /// At most so many bytes beyond the first entry.
    pub bytes_max: usize,
    /// The state in the database has the changes up to this number.
    pub state_after: u64,
}

/// An answer to a request.
#[derive(Debug)]
pub enum DeliveryAnswer {
    /// The identity of the state directory; `None` while the journal cannot be opened.
    InstanceId(Option<Uuid>),
    /// The connection is open.
    Connected(ServerPeer),
    /// How the attempt to take the lock ended.
    Lock(LockAttempt),
    /// The live map.
    LiveMap(LiveMap),
    /// The state is the map.
    Reconciled(Reconciled),
    /// Whether journal and database have the same entry under that number.
    Compared(Comparison),
    /// The journal's entries in order; none where that stream is gone.
    Entries(Vec<BatchItem>),
    /// The journal cannot be read at the moment; why.
    JournalUnreadable(String),
    /// The request was performed.
    Done,
}

/// Whether journal and database have the same entry under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// They have the same one, or one of them has none.
    Same,
    /// They have different ones.
    Different,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPeer {
    /// Host and port.
    pub host: String,
    /// The server's process for the connection.
    pub backend_pid: i32,
}

/// How an attempt to take the presence lock ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockAttempt {
    /// The connection holds the lock of the host with this number.
    Taken(i32),
    /// Another connection holds it.
    Held {
        /// The host's row.
        row: HostRow,
        /// Who holds the lock.
        holder: LockHolder,
    },
    /// Another connection held it and has released it since.
    Released,
}

/// The host's row in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Number of the host.
    pub host_no: i32,
    /// Generation of its last writer.
    pub generation: i64,
    /// State directory of its last writer.
    pub instance_id: Option<Uuid>,
    /// Server process of its last writer.
    pub backend_pid: Option<i32>,
}

/// Who holds a presence lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Server process.
    pub backend_pid: i32,
    /// Whether it is of the role that asks.
    pub same_role: bool,
    /// Its role.
    pub role: String,
}

/// Who writes the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterIdentity {
    /// A new connection, which becomes the host's writer in that transaction.
    New {
        /// Number of the host.
        host_no: i32,
        /// State directory of the daemon.
        instance_id: Uuid,
    },
    /// The connection that is the writer already.
    Current(FencingToken),
}

/// Identifies a writer. The database refuses what comes with an older generation than the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FencingToken {
    /// Number of the host.
    pub host_no: i32,
    /// Generation of its writer.
    pub generation: i64,
}

/// How far the database has a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationCursor {
    /// The stream; `None` where the journal has none yet.
    pub stream_id: Option<Uuid>,
    /// Number of the newest entry that the database has; 0: none.
    pub seq: u64,
}

/// What a reconciliation led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The writer's token.
    pub token: FencingToken,
    /// Number of the newest entry of the map's stream that the database has; 0 without a stream.
    pub cursor: u64,
    /// Rows that the database refused.
    pub refused: Refusals,
}

/// Entries and rows that the database refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// Why it refused the last of them.
    pub why: Option<String>,
}

impl Refusals {
    /// Counts one more.
    pub fn add(&mut self, why: &str) {
        self.count += 1;
        self.why = Some(why.to_owned());
    }
}

/// What of the journal is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalExtent {
    /// The stream; `None` where there is none yet.
    pub stream_id: Option<Uuid>,
    /// Number of the newest entry; 0: none.
    pub last_seq: u64,
}

/// The live map at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveMap {
    /// The journal's stream; `None` where there is none yet.
    pub stream_id: Option<Uuid>,
    /// Changes up to this number are in the map, later ones are not.
    pub after_seq: u64,
    /// Whether no gap is open.
    pub certain: bool,
    /// Each session that the map holds, ended ones too, as in `list --json`.
    pub sessions: Vec<String>,
}

/// A sign of life of the loop that drains the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopHeartbeat {
    /// When the loop gave it.
    pub at: Instant,
    /// The newest number that was given to a change, committed or not.
    pub numbered: u64,
    /// Changes that got no number since the daemon's start.
    pub dropped: u64,
}
