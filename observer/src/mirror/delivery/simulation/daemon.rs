//! A model of a daemon: the real delivery, on a journal, a live map and a loop that the schedule drives; and what the delivery
//! must not do at any moment.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use super::super::retries::{RETRY_SPREAD, STOPPED_WAIT, longest_wait};
use super::super::{Delivery, DeliveryRequest, EntryRange, JournalExtent, LiveMap, LoopHeartbeat};
use super::database::HOMES;
use crate::api::words::EntryKind;
use crate::mirror::error::{DatabaseError, ErrorClass};
use crate::mirror::items::{BatchItem, SessionRow};

/// A heartbeat may be this old while the delivery is connected.
const HEARTBEAT_AGE_MAX_MS: u64 = 12_000;
/// Answers are waited for this long: to pings and hints, and to other statements.
const PING_MAX_MS: u64 = 8_000;
const ANSWER_MAX_MS: u64 = 25_000;
/// A batch is retried this long on its connection, and no sooner than this after a failure.
const STALE_MAX_MS: u64 = 8_000;
const RETRY_WAIT_MS: u64 = 250;
/// An unreadable journal is read no sooner than this after a failure.
const REFRESH_EVERY_MS: u64 = 1_000;

/// A journal: entry `n` is the change at place `n - 1`.
#[derive(Clone, Debug)]
pub struct Journal {
    pub stream_id: Uuid,
    pub changes: Vec<Change>,
    /// Entries up to this number are committed.
    pub committed: u64,
    /// Entries up to this number were dropped at the journal's bounds.
    pub expired: u64,
    pub is_unreadable: bool,
    /// New entries are not committed.
    pub is_stuck: bool,
}

/// A change of a session.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Number of the change, over all journals.
    pub number: u64,
    /// The home; `None`: the entry is a gap, whose changes were lost.
    pub home: Option<usize>,
}

/// A request whose answer was not reported.
#[derive(Debug)]
pub struct Asked {
    pub id: u64,
    pub at_ms: u64,
    pub answer_max_ms: Option<u64>,
}

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    pub delivery: Delivery,
    pub instance_id: Uuid,
    /// Number of the process, over all daemons.
    pub process: u64,
    pub journal: Journal,
    /// The last change of each home.
    pub map: [Option<u64>; HOMES],
    /// Changes that got no number.
    pub dropped: u64,
    pub is_hung: bool,
    pub heartbeat_ms: u64,
    /// The server's process for the connection, as long as the delivery has it.
    pub connection: Option<i32>,
    pub asked: Option<Asked>,
    /// A question for the map that the loop could not answer.
    pub map_waits: Option<u64>,
    /// The newest number that the delivery was informed of.
    pub answered_last_seq: u64,
    pub connects: u64,
    limits: Limits,
}

/// Checks that retries are bounded.
#[derive(Debug, Default)]
struct Limits {
    disconnected_ms: Option<u64>,
    /// Connections in a row that wrote nothing.
    failures: u32,
    has_written: bool,
    connected_ms: u64,
    last_error_is_permanent: bool,
    first_write_failed_ms: Option<u64>,
    last_write_failed_ms: Option<u64>,
    unreadable_ms: Option<u64>,
}

impl Journal {
    pub fn new(stream_id: Uuid) -> Self {
        Self {
            stream_id,
            changes: Vec::new(),
            committed: 0,
            expired: 0,
            is_unreadable: false,
            is_stuck: false,
        }
    }

    pub fn last_seq(&self) -> u64 {
        self.changes.len() as u64
    }

    pub fn change(&self, seq: u64) -> Option<Change> {
        let place = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.changes.get(place).copied().filter(|_| seq > self.expired)
    }

    /// The entries of `range`; a gap stands for those that were dropped.
    pub fn read(&self, range: &EntryRange) -> Vec<BatchItem> {
        if range.stream_id != self.stream_id {
            return Vec::new();
        }
        let mut items = Vec::new();
        if range.after < self.expired {
            items.push(gap(self.expired, self.expired > range.state_after));
        }
        let first = range.after.max(self.expired) + 1;
        for seq in (first..=range.through).take(range.entries_max) {
            let Some(change) = self.change(seq) else { break };
            items.push(item(seq, change, seq > range.state_after));
        }
        items
    }
}

fn gap(seq: u64, state_lost: bool) -> BatchItem {
    BatchItem { seq, kind: EntryKind::Gap, state_lost, ..BatchItem::default() }
}

fn item(seq: u64, change: Change, is_newer: bool) -> BatchItem {
    let Some(home) = change.home else { return gap(seq, is_newer) };
    let body = is_newer.then(String::new);
    let row = SessionRow {
        home_id: vec![u8::try_from(home).unwrap()],
        body,
        is_ended: false,
        death: None,
        is_last: is_newer,
    };
    let at = Timestamp::from_second(change.number.cast_signed()).unwrap();
    BatchItem { seq, at, row: Some(row), ..BatchItem::default() }
}

/// Home and change of a session of [`Daemon::live_map`].
pub fn session_of(session: &str) -> (usize, u64) {
    let (home, change) = session.split_once(':').unwrap();
    (home.parse().unwrap(), change.parse().unwrap())
}

impl Daemon {
    pub fn new(
        journal: Journal,
        map: [Option<u64>; HOMES],
        instance_id: Uuid,
        base: Instant,
        now_ms: u64,
    ) -> Self {
        let heartbeat = LoopHeartbeat { at: at(base, now_ms), numbered: journal.last_seq(), dropped: 0 };
        let extent = JournalExtent { stream_id: Some(journal.stream_id), last_seq: journal.committed };
        Self {
            delivery: Delivery::new(Uuid::from_u128(u128::from(now_ms)), extent, heartbeat, at(base, now_ms)),
            instance_id,
            process: 0,
            answered_last_seq: journal.committed,
            journal,
            map,
            dropped: 0,
            is_hung: false,
            heartbeat_ms: now_ms,
            connection: None,
            asked: None,
            map_waits: None,
            connects: 0,
            limits: Limits::default(),
        }
    }

    /// A session of the host changes.
    pub fn change(&mut self, number: u64, home: usize) {
        self.map[home] = Some(number);
        self.journal.changes.push(Change { number, home: Some(home) });
        self.commit();
    }

    /// What is numbered is committed, unless the journal is stuck.
    pub fn commit(&mut self) {
        if !self.journal.is_stuck {
            self.journal.committed = self.journal.last_seq();
        }
    }

    /// The journal begins another stream, with a gap.
    pub fn begin_stream(&mut self, stream_id: Uuid, number: u64) {
        self.journal = Journal::new(stream_id);
        self.journal.changes.push(Change { number, home: None });
        self.commit();
    }

    pub fn extent(&mut self) -> JournalExtent {
        self.answered_last_seq = self.journal.committed;
        JournalExtent { stream_id: Some(self.journal.stream_id), last_seq: self.journal.committed }
    }

    pub fn live_map(&self) -> LiveMap {
        let session = |(home, change): (usize, &Option<u64>)| change.map(|change| format!("{home}:{change}"));
        LiveMap {
            stream_id: Some(self.journal.stream_id),
            after_seq: self.journal.last_seq(),
            certain: true,
            sessions: self.map.iter().enumerate().filter_map(session).collect(),
        }
    }

    /// What must hold whenever an event happens at `now_ms`.
    pub fn check(&self, now_ms: u64) {
        if self.connection.is_some() {
            assert!(
                now_ms <= self.heartbeat_ms + HEARTBEAT_AGE_MAX_MS,
                "it is connected {} ms after the loop's last heartbeat",
                now_ms - self.heartbeat_ms
            );
        }
        if let Some(Asked { at_ms, answer_max_ms: Some(max), .. }) = self.asked {
            assert!(now_ms <= at_ms + max, "an answer is waited for longer than {max} ms");
        }
    }

    /// Checks a request that the delivery sends at `now_ms`.
    pub fn check_request(&mut self, now_ms: u64, request: &DeliveryRequest) {
        let limits = &mut self.limits;
        match request {
            DeliveryRequest::Connect => {
                self.connects += 1;
                if let Some(disconnected_ms) = limits.disconnected_ms {
                    let doubled = longest_wait(limits.failures.saturating_sub(1)) / RETRY_SPREAD;
                    let least = if limits.last_error_is_permanent { STOPPED_WAIT } else { doubled };
                    let waited = Duration::from_millis(now_ms - disconnected_ms);
                    assert!(waited >= least, "connected after {waited:?} and not {least:?}: {limits:?}");
                }
                *limits = Limits { failures: limits.failures, connected_ms: now_ms, ..Limits::default() };
            }
            DeliveryRequest::Write { statement, .. } => {
                assert!(!statement.items().is_empty());
                if statement.caught_up {
                    assert!(statement.last_seq() >= self.answered_last_seq, "not everything is there");
                }
                if let Some(failed_ms) = limits.last_write_failed_ms {
                    assert!(now_ms >= failed_ms + RETRY_WAIT_MS, "a batch is retried without a pause");
                }
                if let Some(failed_ms) = limits.first_write_failed_ms {
                    let most = STALE_MAX_MS + RETRY_WAIT_MS + ANSWER_MAX_MS;
                    assert!(now_ms <= failed_ms + most, "a batch is retried for too long");
                }
            }
            DeliveryRequest::ReadEntries(_) | DeliveryRequest::Compare { .. } => {
                if let Some(unreadable_ms) = limits.unreadable_ms {
                    assert!(
                        now_ms >= unreadable_ms + REFRESH_EVERY_MS,
                        "the journal is read without a pause"
                    );
                }
            }
            _ => {}
        }
    }

    /// How long the answer to `request` may be waited for.
    pub fn answer_max_ms(request: &DeliveryRequest) -> Option<u64> {
        match request {
            DeliveryRequest::Ping | DeliveryRequest::Notify(_) => Some(PING_MAX_MS),
            DeliveryRequest::Write { .. }
            | DeliveryRequest::Compare { .. }
            | DeliveryRequest::Maintain
            | DeliveryRequest::MarkBehind(_)
            | DeliveryRequest::EndBackend(_) => Some(ANSWER_MAX_MS),
            _ => None,
        }
    }

    /// The database applied a statement of a batch, and the delivery is informed.
    pub fn written(&mut self) {
        self.limits.has_written = true;
        (self.limits.first_write_failed_ms, self.limits.last_write_failed_ms) = (None, None);
    }

    /// The database did not apply a statement of a batch, and the delivery is informed.
    pub fn write_failed(&mut self, now_ms: u64, error: &DatabaseError) {
        if error.can_be_retried() {
            self.limits.first_write_failed_ms.get_or_insert(now_ms);
            self.limits.last_write_failed_ms = Some(now_ms);
        }
    }

    pub fn journal_was_read(&mut self, now_ms: u64, is_readable: bool) {
        self.limits.unreadable_ms = (!is_readable).then_some(now_ms);
    }

    /// The delivery closed its connection, because of this error if it was an answer.
    pub fn disconnected(&mut self, now_ms: u64, error: Option<&DatabaseError>) {
        let limits = &mut self.limits;
        let is_working = limits.has_written || now_ms - limits.connected_ms > 60_000;
        limits.failures = if is_working { 1 } else { limits.failures + 1 };
        limits.disconnected_ms = Some(now_ms);
        limits.last_error_is_permanent = error.is_some_and(|error| error.class == ErrorClass::Permanent);
        limits.unreadable_ms = None;
        self.connection = None;
        self.asked = None;
        self.map_waits = None;
    }
}

/// The time of a schedule as the delivery has it.
pub fn at(base: Instant, now_ms: u64) -> Instant {
    base + Duration::from_millis(now_ms)
}
