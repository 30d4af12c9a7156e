//! Delivers the live map and the journal's entries to the database. This is a state machine without I/O and without a
//! clock: the driver reports events with the time, and performs the actions that result.
//!
//! A connection first makes the state in the database equal to the map, then sends the entries that the database lacks,
//! then both as they come. Nothing is queued in memory but one batch: the journal is the queue.

mod batch;
mod congestion;
mod messages;
mod opening;
mod phases;
mod retries;
mod statement;
mod steps;
mod takeover;

#[cfg(test)]
mod simulation;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use messages::*;
pub use statement::BatchStatement;

use super::error::{DatabaseError, ErrorClass};
use crate::api::status::MirrorStatus;
use crate::api::words::MirrorState;
use crate::text::bytes::to_line;
use phases::Phase;
use retries::Retries;
use takeover::FormerConnections;

/// Entries in one batch.
const BATCH_ENTRIES_MAX: usize = 1024;
/// How long the answer to one statement is waited for: longer than the server tries (`statement_timeout`), so that only a
/// network or a server that does not react is given up.
pub const ANSWER_WAIT: Duration = Duration::from_secs(25);
/// How long the answer to a ping, or to a hint, is waited for.
const PING_WAIT: Duration = Duration::from_secs(8);
/// How long the daemon's loop is waited for.
const LOOP_WAIT: Duration = Duration::from_secs(10);
/// Age of the loop's last heartbeat at which the connection is closed, and presence ends with it.
const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(12);
/// Between two looks whether the journal has been opened.
const JOURNAL_POLL: Duration = Duration::from_secs(1);
/// A connection that lasted this long was no failure: the next wait is the shortest again.
const LASTED: Duration = Duration::from_secs(60);
/// How long the daemon's end waits for entries that are committed.
const FINISH_WAIT: Duration = Duration::from_millis(1000);
/// Refused data is logged no more often.
const REFUSED_LOG_EVERY: Duration = Duration::from_secs(60);
/// Bytes of an error's message that are kept.
const ERROR_BYTES_MAX: usize = 1000;

/// The open request.
#[derive(Clone, Copy, Debug)]
struct OpenRequest {
    /// When its answer is no longer waited for; `None`: the driver limits it.
    deadline: Option<Instant>,
    /// What is wrong if there is no answer by then.
    timeout: fn() -> DatabaseError,
}

/// The delivery of one host.
#[derive(Debug)]
pub struct Delivery {
    phase: Phase,
    actions: VecDeque<DeliveryAction>,
    open_request: Option<OpenRequest>,
    extent: JournalExtent,
    heartbeat: LoopHeartbeat,
    stop_at: Option<Instant>,
    status: MirrorStatus,
    former: FormerConnections,
    retries: Retries,
    /// When the last connection began.
    connected_at: Instant,
    /// The last connection wrote at least one batch.
    has_delivered: bool,
    /// By how many halvings a batch is smaller than it may be.
    batch_halvings: u32,
    /// The last attempt to read the journal failed.
    is_journal_unreadable: bool,
    refused_logged_at: Option<Instant>,
    /// The last error that was logged since a connection worked.
    logged: Option<String>,
}

impl Delivery {
    /// A delivery without a connection.
    pub fn new(host_id: Uuid, extent: JournalExtent, heartbeat: LoopHeartbeat, now: Instant) -> Self {
        let (_, seed) = host_id.as_u64_pair();
        let mut delivery = Self {
            phase: Phase::Identifying(now),
            actions: VecDeque::new(),
            open_request: None,
            extent,
            heartbeat,
            stop_at: None,
            status: MirrorStatus::connecting(host_id),
            former: FormerConnections::default(),
            retries: Retries::new(seed),
            connected_at: now,
            has_delivered: false,
            batch_halvings: 0,
            is_journal_unreadable: false,
            refused_logged_at: None,
            logged: None,
        };
        delivery.advance(now);
        delivery
    }

    /// The newest number in the journal, if `stream_id` is its stream. The numbers of another stream say nothing: nothing is caught up
    /// with them.
    fn last_seq_of(&self, stream_id: Option<Uuid>) -> u64 {
        if stream_id == self.extent.stream_id { self.extent.last_seq } else { u64::MAX }
    }

    /// The next thing to be done, in order.
    pub fn next_action(&mut self) -> Option<DeliveryAction> {
        self.actions.pop_front()
    }

    /// Whether the answer to a request is still wanted.
    pub fn awaits_answer(&self) -> bool {
        self.open_request.is_some()
    }

    /// Whether the delivery has ended.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// How the mirror stands.
    pub fn status(&self) -> &MirrorStatus {
        &self.status
    }

    /// Takes note of an event that happened at `now`.
    pub fn handle(&mut self, now: Instant, input: DeliveryInput) {
        match input {
            DeliveryInput::Committed(extent) => self.extent = extent,
            DeliveryInput::Heartbeat(heartbeat) => self.heartbeat_received(heartbeat),
            DeliveryInput::Stop => self.stop_at = self.stop_at.or(Some(now)),
            DeliveryInput::TimePassed => {}
            DeliveryInput::ConnectionLost(error) if self.is_connected() => self.lose_connection(now, error),
            DeliveryInput::ConnectionLost(_) => {}
            DeliveryInput::Answer(answer) => self.answered(now, answer),
        }
        self.enforce_deadlines(now);
        self.advance(now);
    }

    /// When time alone changes something: [`DeliveryInput::TimePassed`] is due then.
    pub fn wake_at(&self) -> Option<Instant> {
        let phase = match &self.phase {
            _ if self.open_request.is_some() => None,
            Phase::Identifying(at) | Phase::BackingOff(at) => Some(*at),
            Phase::Opening(opening) => opening.wake_at(),
            Phase::Present(present) => present.wake_at(),
            Phase::AwaitingHeartbeat(_) | Phase::Connecting(_) | Phase::Finished => None,
        };
        let hung_at = self.is_connected().then(|| self.heartbeat.at + HEARTBEAT_AGE_MAX);
        let unanswered_at = self.open_request.as_ref().and_then(|request| request.deadline);
        let finished_at = self.stop_at.map(|at| at + FINISH_WAIT);
        [phase, hung_at, unanswered_at, finished_at].into_iter().flatten().min()
    }

    fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Opening(_) | Phase::Present(_))
    }

    fn is_stopping(&self) -> bool {
        self.stop_at.is_some()
    }

    fn heartbeat_received(&mut self, heartbeat: LoopHeartbeat) {
        self.heartbeat = heartbeat;
        if let Phase::Present(present) = &mut self.phase {
            present.is_ping_due = true;
        }
    }

    /// Has `request` performed, whose answer is waited for until `deadline`.
    fn request(&mut self, request: DeliveryRequest, open_request: OpenRequest) {
        self.open_request = Some(open_request);
        self.actions.push_back(DeliveryAction::Request(request));
    }

    /// Ends what has taken too long.
    fn enforce_deadlines(&mut self, now: Instant) {
        if self.stop_at.is_some_and(|at| now >= at + FINISH_WAIT) {
            self.finish();
        } else if self.is_connected() && now >= self.heartbeat.at + HEARTBEAT_AGE_MAX {
            let error =
                "the loop that drains the ring gave no sign of life for 12 s; is the machine overloaded?";
            self.phase = self.back_off(now, &DatabaseError::broken(error));
        } else if let Some(OpenRequest { deadline: Some(deadline), timeout }) = self.open_request
            && now >= deadline
        {
            self.lose_connection(now, timeout());
        }
    }

    fn answered(&mut self, now: Instant, answer: Result<DeliveryAnswer, DatabaseError>) {
        if self.open_request.take().is_none() {
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Finished);
        let next = match (phase, answer) {
            (Phase::Identifying(_), Ok(DeliveryAnswer::InstanceId(id))) => Ok(self.identified(now, id)),
            (Phase::Connecting(instance_id), Ok(DeliveryAnswer::Connected(peer))) => {
                Ok(self.begin_opening(now, instance_id, peer))
            }
            (Phase::Opening(opening), answer) => self.opening_answered(now, opening, answer),
            (Phase::Present(present), answer) => self.present_answered(now, present, answer),
            (_, Err(error)) => Err(error),
            (_, Ok(answer)) => Err(unexpected(&answer)),
        };
        self.phase = next.unwrap_or_else(|error| self.back_off(now, &error));
    }

    /// Begins what is due, unless a request is open.
    fn advance(&mut self, now: Instant) {
        if self.open_request.is_some() {
            return;
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Identifying(at) if now >= at => {
                self.request(DeliveryRequest::InstanceId, OpenRequest::limited_by_driver());
                Phase::Identifying(at)
            }
            Phase::AwaitingHeartbeat(id) => self.connect_when_alive(now, id),
            Phase::Opening(opening) => self.advance_opening(now, opening),
            Phase::Present(present) => self.advance_present(now, present),
            Phase::BackingOff(_) if self.is_stopping() => Phase::Finished,
            Phase::BackingOff(at) if now >= at => {
                self.request(DeliveryRequest::InstanceId, OpenRequest::limited_by_driver());
                Phase::Identifying(now)
            }
            phase => phase,
        };
    }

    /// A journal that cannot be opened yet does not know the identity of the state directory.
    fn identified(&mut self, now: Instant, instance_id: Option<Uuid>) -> Phase {
        match instance_id {
            None => {
                self.status.state = MirrorState::Waiting;
                Phase::Identifying(now + JOURNAL_POLL)
            }
            Some(id) => {
                self.status.state = MirrorState::Connecting;
                Phase::AwaitingHeartbeat(id)
            }
        }
    }

    fn connect_when_alive(&mut self, now: Instant, instance_id: Uuid) -> Phase {
        if now >= self.heartbeat.at + HEARTBEAT_AGE_MAX && !self.is_stopping() {
            return Phase::AwaitingHeartbeat(instance_id);
        }
        self.connected_at = now;
        self.has_delivered = false;
        self.request(DeliveryRequest::Connect, OpenRequest::limited_by_driver());
        Phase::Connecting(instance_id)
    }

    /// Ends the connection after an error that no answer reported.
    fn lose_connection(&mut self, now: Instant, error: DatabaseError) {
        if let Phase::Present(present) = &self.phase
            && present.is_writing()
        {
            self.halve_batches();
        }
        self.phase = self.back_off(now, &error);
    }

    /// Closes the connection; the wait for the next begins.
    fn back_off(&mut self, now: Instant, error: &DatabaseError) -> Phase {
        self.open_request = None;
        self.actions.push_back(DeliveryAction::Disconnect);
        if self.has_delivered || now.saturating_duration_since(self.connected_at) > LASTED {
            self.logged = None;
            self.retries.succeeded();
        }
        self.has_delivered = false;
        let is_permanent = error.class == ErrorClass::Permanent;
        let wait = self.retries.wait(is_permanent);
        let message = shown(&error.message);
        self.status.state = if is_permanent { MirrorState::Stopped } else { MirrorState::Retrying };
        self.status.generation = None;
        if self.logged.as_ref() != Some(&message) {
            let (subject, line) = match is_permanent {
                true => (LogSubject::Stopped, format!("nothing is mirrored: {message}")),
                false => {
                    (LogSubject::Retrying, format!("the mirror lost its database: {message}; it is retried"))
                }
            };
            self.log(subject, line);
            self.logged = Some(message.clone());
        }
        self.failed(message);
        Phase::BackingOff(now + wait)
    }

    fn finish(&mut self) {
        if !self.is_finished() {
            self.open_request = None;
            self.actions.push_back(DeliveryAction::Disconnect);
            self.phase = Phase::Finished;
        }
    }

    fn failed(&mut self, message: String) {
        self.status.failures += 1;
        self.status.last_error = Some(message);
    }

    fn succeeded(&mut self) {
        self.status.failures = 0;
        self.status.last_error = None;
    }

    /// One statement with as much data may take the server longer than it has for one.
    fn halve_batches(&mut self) {
        self.batch_halvings = (self.batch_halvings + 1).min(BATCH_ENTRIES_MAX.ilog2());
    }

    /// Counts what the database refused, and logs it.
    fn count_refusals(&mut self, now: Instant, refusals: Refusals) {
        let Refusals { count, why: Some(why) } = refusals else { return };
        self.status.rejected += count;
        if self.refused_logged_at.is_none_or(|at| now >= at + REFUSED_LOG_EVERY) {
            self.refused_logged_at = Some(now);
            let why = to_line(why.as_bytes());
            let line = format!(
                "the database refuses what is mirrored ({count} entries or rows: {why}); look for constraints and triggers \
                 that were added to the schema observer"
            );
            self.log(LogSubject::Refused, line);
        }
    }

    fn log(&mut self, subject: LogSubject, message: String) {
        self.actions.push_back(DeliveryAction::Log(LogLine { subject, message }));
    }
}

impl OpenRequest {
    /// The driver reports an error when it takes too long.
    fn limited_by_driver() -> Self {
        Self { deadline: None, timeout: no_answer }
    }

    /// One statement.
    fn statement(now: Instant) -> Self {
        Self { deadline: Some(now + ANSWER_WAIT), timeout: no_answer }
    }

    /// A ping or a hint.
    fn ping(now: Instant) -> Self {
        let timeout =
            || DatabaseError::broken(format!("the database did not answer within {} s", PING_WAIT.as_secs()));
        Self { deadline: Some(now + PING_WAIT), timeout }
    }

    /// A question to the daemon's loop.
    fn map(now: Instant) -> Self {
        Self { deadline: Some(now + LOOP_WAIT), timeout: loop_is_silent }
    }
}

fn no_answer() -> DatabaseError {
    DatabaseError::broken(format!("the database did not answer within {} s", ANSWER_WAIT.as_secs()))
}

/// The daemon's loop does not answer.
pub fn loop_is_silent() -> DatabaseError {
    DatabaseError::broken("the daemon's loop does not answer; is the machine overloaded?")
}

/// An answer that does not belong to the open request: the driver is wrong.
fn unexpected(answer: &DeliveryAnswer) -> DatabaseError {
    debug_assert!(false, "unexpected answer: {answer:?}");
    DatabaseError::broken("the mirror received an answer to another request; report this")
}

/// The message on one line, not too long and harmless to a terminal: it comes from a server.
fn shown(message: &str) -> String {
    let mut line = to_line(message.as_bytes()).into_owned();
    if line.len() > ERROR_BYTES_MAX {
        line.truncate(line.floor_char_boundary(ERROR_BYTES_MAX));
        line.push('…');
    }
    line
}
