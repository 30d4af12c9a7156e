//! Performs what the delivery decides, on the journal, the daemon's loop and the database.

use std::future::pending;
use std::pin::pin;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::ask::within;
use super::connect::{Connected, Purpose, Socket, connect};
use super::delivery::{
    ANSWER_WAIT, Comparison, Delivery, DeliveryAction, DeliveryAnswer, DeliveryInput, DeliveryRequest,
    EntryRange, LiveMap, LogLine, LogSubject, LoopHeartbeat, ServerPeer, loop_is_silent,
};
use super::error::{DatabaseError, ErrorClass};
use super::feed::{History, HostIdentity, MirrorFeed, MirrorOptions};
use super::items::{BatchItem, Conversion, HistoryEntry, batch_item, uids};
use super::presence::try_lock;
use super::reconcile::reconcile;
use super::schema::{self, SchemaVersion, WritingStyle};
use super::status::SharedStatus;
use super::usernames::UsernameCache;
use super::write::{prepare, write};
use super::{clock, sql};
use crate::api::words::EntryKind;

/// Delivers until the daemon stops, and then what can still be delivered in a moment.
pub async fn run(
    options: MirrorOptions,
    feed: MirrorFeed,
    status: SharedStatus,
    stop: watch::Receiver<bool>,
) {
    let MirrorFeed { identity, history, map, mut heartbeat } = feed;
    let first_heartbeat = *heartbeat.borrow_and_update();
    let mut events = Events { history, heartbeat, stop: Some(stop), ended: None };
    let mut delivery =
        Delivery::new(identity.host_id, events.history.extent(), first_heartbeat, Instant::now());
    let mut peers = Peers::new(options, identity, map);
    loop {
        let mut request = None;
        while let Some(action) = delivery.next_action() {
            match action {
                DeliveryAction::Request(next) => request = Some(next),
                DeliveryAction::Disconnect => {
                    // Presence ends now, and not when the server finds out.
                    peers.connection = None;
                    events.ended = None;
                }
                DeliveryAction::Acknowledge { stream_id, seq } => events.history.acknowledged(stream_id, seq),
                DeliveryAction::BeginNewStream(stream_id) => events.history.begin_anew(stream_id),
                DeliveryAction::Log(line) => log(&line),
            }
        }
        status.set(delivery.status());
        if delivery.is_finished() {
            return;
        }
        match request {
            Some(request) => perform(&mut delivery, &mut events, &mut peers, request).await,
            None => {
                let input = events.next(delivery.wake_at()).await;
                delivery.handle(Instant::now(), input);
            }
        }
    }
}

/// Reports the answer to `request`, and what happens meanwhile, until the delivery abandons the request.
async fn perform(delivery: &mut Delivery, events: &mut Events, peers: &mut Peers, request: DeliveryRequest) {
    let request = match read_journal(request, events.history.as_mut()) {
        Ok(request) => request,
        Err(answer) => return delivery.handle(Instant::now(), DeliveryInput::Answer(Ok(answer))),
    };
    let mut answer = pin!(peers.perform(request));
    while delivery.awaits_answer() {
        tokio::select! {
            answered = &mut answer => {
                if let Some(ended) = answered.ended {
                    events.ended = Some(ended);
                }
                return delivery.handle(Instant::now(), DeliveryInput::Answer(answered.answer));
            }
            input = events.next(delivery.wake_at()) => delivery.handle(Instant::now(), input),
        }
    }
}

fn log(LogLine { subject, message }: &LogLine) {
    let reason = subject.as_str();
    match subject {
        LogSubject::Stopped => error!(part = "mirror", reason, "{message}"),
        LogSubject::Connected => info!(part = "mirror", reason, "{message}"),
        LogSubject::Retrying
        | LogSubject::Refused
        | LogSubject::JournalReplaced
        | LogSubject::JournalUnreadable => warn!(part = "mirror", reason, "{message}"),
    }
}

/// Where events come from that answer no request.
struct Events {
    history: Box<dyn History>,
    heartbeat: watch::Receiver<LoopHeartbeat>,
    /// `None` when the end of the daemon was reported.
    stop: Option<watch::Receiver<bool>>,
    /// Resolves when the connection has ended.
    ended: Option<oneshot::Receiver<DatabaseError>>,
}

impl Events {
    /// The next event; at `wake_at` that time has passed.
    async fn next(&mut self, wake_at: Option<Instant>) -> DeliveryInput {
        let Self { history, heartbeat, stop, ended } = self;
        let stopped = async {
            match stop {
                // An error: nobody is left who could stop the mirror later.
                Some(stop) => stop.wait_for(|stop| *stop).await.map_or((), |_| ()),
                None => pending().await,
            }
        };
        let lost = async {
            match ended {
                Some(ended) => {
                    ended.await.unwrap_or_else(|_| DatabaseError::broken("the connection was closed"))
                }
                None => pending().await,
            }
        };
        let woken = async {
            match wake_at {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = history.changed() => DeliveryInput::Committed(history.extent()),
            // An error: the loop has ended, and the daemon is about to.
            Ok(()) = heartbeat.changed() => DeliveryInput::Heartbeat(*heartbeat.borrow_and_update()),
            () = stopped => {
                self.stop = None;
                DeliveryInput::Stop
            }
            error = lost => {
                self.ended = None;
                DeliveryInput::ConnectionLost(error)
            }
            () = woken => DeliveryInput::TimePassed,
        }
    }
}

/// A request together with what it needs from the journal.
enum PreparedRequest {
    Compare { host_no: i32, stream_id: Uuid, entry: HistoryEntry },
    Convert { entries: Vec<HistoryEntry>, state_after: u64 },
    Other(DeliveryRequest),
}

/// Reads what `request` needs from the journal, which is on this machine's disk. The error is the answer, where nothing else
/// is needed for it.
fn read_journal(
    request: DeliveryRequest,
    history: &mut dyn History,
) -> Result<PreparedRequest, DeliveryAnswer> {
    let unreadable = |error: anyhow::Error| DeliveryAnswer::JournalUnreadable(format!("{error:#}"));
    match request {
        DeliveryRequest::InstanceId => Err(DeliveryAnswer::InstanceId(history.instance_id())),
        DeliveryRequest::Compare { host_no, stream_id, seq } => {
            let entries =
                history.read_after(stream_id, seq.saturating_sub(1), 1, usize::MAX).map_err(unreadable)?;
            // The journal dropped the entry at its bounds, or lost it; a gap stands in its place.
            let is_entry = |entry: &HistoryEntry| entry.seq == seq && entry.kind != EntryKind::Gap;
            match entries.into_iter().next().filter(is_entry) {
                Some(entry) => Ok(PreparedRequest::Compare { host_no, stream_id, entry }),
                None => Err(DeliveryAnswer::Compared(Comparison::Same)),
            }
        }
        DeliveryRequest::ReadEntries(range) => {
            let EntryRange { stream_id, after, through, entries_max, bytes_max, state_after } = range;
            let mut entries =
                history.read_after(stream_id, after, entries_max, bytes_max).map_err(unreadable)?;
            // A commit can be read before it is reported. Sent before that, the database would be ahead of the journal.
            entries.retain(|entry| entry.seq <= through);
            Ok(PreparedRequest::Convert { entries, state_after })
        }
        request => Ok(PreparedRequest::Other(request)),
    }
}

/// Whom the delivery sends requests to, apart from the journal.
struct Peers {
    options: MirrorOptions,
    identity: HostIdentity,
    map: mpsc::Sender<oneshot::Sender<LiveMap>>,
    users: UsernameCache,
    connection: Option<Connection>,
    /// The version of the database's schema, as it was last found.
    schema: Option<SchemaVersion>,
}

struct Connection {
    client: Client,
    backend_pid: i32,
    writing: WritingStyle,
    /// The statement that writes a batch, once it was prepared.
    batch: Option<Statement>,
    _socket: Socket,
}

/// An answer, and for a new connection how its end is reported.
struct Answered {
    answer: Result<DeliveryAnswer, DatabaseError>,
    ended: Option<oneshot::Receiver<DatabaseError>>,
}

impl Peers {
    fn new(
        options: MirrorOptions,
        identity: HostIdentity,
        map: mpsc::Sender<oneshot::Sender<LiveMap>>,
    ) -> Self {
        Self { options, identity, map, users: UsernameCache::default(), connection: None, schema: None }
    }

    async fn perform(&mut self, request: PreparedRequest) -> Answered {
        if let PreparedRequest::Other(DeliveryRequest::Connect) = request {
            return match self.connect().await {
                Ok((peer, ended)) => {
                    Answered { answer: Ok(DeliveryAnswer::Connected(peer)), ended: Some(ended) }
                }
                Err(error) => Answered { answer: Err(error), ended: None },
            };
        }
        Answered { answer: self.answer(request).await, ended: None }
    }

    async fn connect(&mut self) -> Result<(ServerPeer, oneshot::Receiver<DatabaseError>), DatabaseError> {
        let target = self.options.database.target();
        let target =
            target.map_err(|error| DatabaseError::new(ErrorClass::Permanent, format!("{error:#}")))?;
        let Connected { client, ended, host, backend_pid, socket, .. } =
            connect(&target, Purpose::Presence).await?;
        let found = within(ANSWER_WAIT, schema::check(&client)).await?;
        if self.schema.replace(found) != Some(found) && found < schema::LATEST {
            warn!(part = "mirror", reason = "older_revision", "{}", schema::older_revision(found));
        }
        let writing = found.writing();
        self.connection = Some(Connection { client, backend_pid, writing, batch: None, _socket: socket });
        Ok((ServerPeer { host, backend_pid }, ended))
    }

    /// How entries and sessions become columns of the schema that the database has.
    fn conversion(&self) -> Conversion<'_> {
        Conversion {
            argv: self.options.argv,
            keys: self.connection.as_ref().map(|it| it.writing.keys).unwrap_or_default(),
            usernames: self.users.names(),
        }
    }

    async fn answer(&mut self, request: PreparedRequest) -> Result<DeliveryAnswer, DatabaseError> {
        match request {
            PreparedRequest::Convert { entries, state_after } => {
                Ok(DeliveryAnswer::Entries(self.batch_items(entries, state_after).await))
            }
            PreparedRequest::Compare { host_no, stream_id, entry } => {
                self.compare(host_no, stream_id, entry).await
            }
            PreparedRequest::Other(DeliveryRequest::ReadMap) => {
                Ok(DeliveryAnswer::LiveMap(self.live_map().await?))
            }
            PreparedRequest::Other(request) => self.ask_database(request).await,
        }
    }

    async fn ask_database(&mut self, request: DeliveryRequest) -> Result<DeliveryAnswer, DatabaseError> {
        let (identity, argv, usernames) = (&self.identity, self.options.argv, self.users.names());
        let Some(Connection { client, backend_pid, writing, batch, .. }) = &mut self.connection else {
            return Err(DatabaseError::broken("there is no connection"));
        };
        match request {
            DeliveryRequest::TryLock => {
                return try_lock(client, *backend_pid, identity).await.map(DeliveryAnswer::Lock);
            }
            DeliveryRequest::Reconcile { writer, map, last_seq } => {
                let conversion = Conversion { argv, keys: writing.keys, usernames };
                let WritingStyle { access, has_clocks, .. } = *writing;
                let done = reconcile(client, identity, writer, &map, last_seq, conversion, access).await?;
                if batch.is_none() {
                    *batch = Some(prepare(client, access).await?);
                    if has_clocks {
                        clock::note(client, done.token).await?;
                    }
                }
                return Ok(DeliveryAnswer::Reconciled(done));
            }
            DeliveryRequest::Write { token, statement } => match batch {
                Some(batch) => write(client, batch, token, &statement).await?,
                None => return Err(DatabaseError::broken("the statement for batches was not prepared")),
            },
            DeliveryRequest::EndBackend(backend_pid) => {
                run_statement(client, sql::END_BACKEND, &[&backend_pid]).await?
            }
            DeliveryRequest::Maintain => {
                run_statement(client, sql::MAINTAIN, &[]).await?;
                let is_latest = *writing == schema::LATEST.writing();
                if !is_latest && schema::check(client).await?.writing() != *writing {
                    let why = "its schema was brought to a later revision, which a new connection uses";
                    return Err(DatabaseError::broken(why));
                }
            }
            DeliveryRequest::MarkBehind(token) => {
                run_statement(client, sql::MARK_BEHIND, &[&token.host_no, &token.generation]).await?;
            }
            DeliveryRequest::Ping => client.check_connection().await?,
            DeliveryRequest::Notify(host_no) => {
                run_statement(client, sql::NOTIFY, &[&sql::CHANNEL, &host_no.to_string()]).await?;
            }
            DeliveryRequest::InstanceId
            | DeliveryRequest::Connect
            | DeliveryRequest::ReadMap
            | DeliveryRequest::Compare { .. }
            | DeliveryRequest::ReadEntries(_) => {
                return Err(DatabaseError::broken("no request to the database"));
            }
        }
        Ok(DeliveryAnswer::Done)
    }

    /// The live map. Names of its users are looked up on the way.
    async fn live_map(&mut self) -> Result<LiveMap, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        self.map.send(reply).await.map_err(|_| loop_is_silent())?;
        let map = answer.await.map_err(|_| loop_is_silent())?;
        self.users.look_up(uids(map.sessions.iter().map(String::as_str))).await;
        Ok(map)
    }

    async fn batch_items(&mut self, entries: Vec<HistoryEntry>, state_after: u64) -> Vec<BatchItem> {
        let sessions = entries.iter().filter(|entry| entry.kind.is_session());
        self.users.look_up(uids(sessions.map(|entry| entry.detail.as_str()))).await;
        let conversion = self.conversion();
        entries.into_iter().map(|entry| batch_item(entry, state_after, conversion)).collect()
    }

    /// Compares an entry of the journal with the event of its number.
    async fn compare(
        &self,
        host_no: i32,
        stream_id: Uuid,
        entry: HistoryEntry,
    ) -> Result<DeliveryAnswer, DatabaseError> {
        let Some(Connection { client, .. }) = &self.connection else {
            return Err(DatabaseError::broken("there is no connection"));
        };
        let item = batch_item(entry, 0, self.conversion());
        let seq = item.seq.cast_signed();
        let params: [&(dyn ToSql + Sync); 8] = [
            &host_no,
            &stream_id,
            &seq,
            &item.at,
            &item.kind.as_str(),
            &item.boot_id,
            &item.pid,
            &item.start_boottime_ns,
        ];
        let is_same = match client.query_opt(sql::SAME_EVENT, &params).await? {
            Some(row) => row.try_get(0)?,
            None => true,
        };
        let comparison = if is_same { Comparison::Same } else { Comparison::Different };
        Ok(DeliveryAnswer::Compared(comparison))
    }
}

async fn run_statement(
    client: &Client,
    statement: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<(), DatabaseError> {
    client.execute(statement, params).await?;
    Ok(())
}
