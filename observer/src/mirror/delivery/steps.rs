//! What a connection does that is the host's writer: entries as the journal commits them, the state where entries do not
//! suffice, signs of life, and hints.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::batch::Batch;
use super::congestion::GROUP_ENTRIES;
use super::phases::{Activity, AfterPause, Phase, Present, WriteStep};
use super::{
    BATCH_ENTRIES_MAX, Comparison, DatabaseError, Delivery, DeliveryAction, DeliveryAnswer, DeliveryRequest,
    EntryRange, ErrorClass, LogSubject, OpenRequest, ReplicationCursor, WriterIdentity, shown, unexpected,
};
use crate::api::words::MirrorState;
use crate::mirror::items::BatchItem;

/// Bytes of the entries in one batch, beyond the first.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// After a batch that took no longer, the next may be larger.
const EASY: Duration = Duration::from_secs(2);
/// For how long a batch is retried on its connection. Then presence ends: the state is too old.
const STALE_MAX: Duration = Duration::from_secs(8);
/// Between two attempts to write a batch, and between two looks at a stream that ends.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// Partitions are looked after this often; there are some for days to come.
const MAINTAIN_EVERY: Duration = Duration::from_secs(3600);
/// Hints are sent no more often.
const NOTIFY_EVERY: Duration = Duration::from_secs(1);
/// While entries cannot tell the state it is read from the map, no more often than this.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

impl Delivery {
    /// Begins what is due.
    pub(super) fn advance_present(&mut self, now: Instant, mut present: Box<Present>) -> Phase {
        let next = match std::mem::replace(&mut present.activity, Activity::Idle) {
            Activity::Pausing(_, AfterPause::Refresh) if self.is_stopping() => None,
            Activity::Pausing(at, then) if now < at => Some(Activity::Pausing(at, then)),
            Activity::Pausing(_, AfterPause::Refresh) => Some(self.read_map(now)),
            Activity::Idle | Activity::Pausing(..) => self.next_activity(now, &mut present),
            Activity::Writing(batch, WriteStep::Pausing(at)) if now >= at => {
                Some(self.retry_batch(now, &mut present, batch))
            }
            activity => Some(activity),
        };
        match next {
            Some(activity) => present.activity = activity,
            None => {
                self.finish();
                return Phase::Finished;
            }
        }
        Phase::Present(present)
    }

    /// The most urgent activity; `None`: the daemon ends, and everything is delivered.
    fn next_activity(&mut self, now: Instant, present: &mut Present) -> Option<Activity> {
        let ReplicationCursor { stream_id, seq } = present.cursor;
        if stream_id != self.extent.stream_id {
            // The journal began another stream.
            return Some(self.read_map(now));
        }
        if seq > self.extent.last_seq || (stream_id.is_some() && present.superseded_stream == stream_id) {
            return (!self.is_stopping()).then(|| self.replace_stream(now, present));
        }
        if let Some(id) = stream_id.filter(|_| seq > 0 && present.compared != stream_id) {
            let request = DeliveryRequest::Compare { host_no: present.token.host_no, stream_id: id, seq };
            self.request(request, OpenRequest::statement(now));
            return Some(Activity::Comparing);
        }
        if now >= present.maintained_at + MAINTAIN_EVERY {
            present.maintained_at = now;
            self.request(DeliveryRequest::Maintain, OpenRequest::statement(now));
            return Some(Activity::Maintaining);
        }
        self.acknowledge(present);
        if present.notify_due.is_some_and(|due| now >= due) {
            present.notify_due = None;
            present.notified_at = Some(now);
            self.request(DeliveryRequest::Notify(present.token.host_no), OpenRequest::ping(now));
            return Some(Activity::Notifying);
        }
        let is_batch_due = self.is_batch_due(now, present);
        if let Some(id) = stream_id.filter(|_| is_batch_due) {
            return Some(self.begin_batch(now, present, id));
        }
        if self.is_stopping() {
            return None;
        }
        if present.is_ping_due {
            present.is_ping_due = false;
            self.request(DeliveryRequest::Ping, OpenRequest::ping(now));
            return Some(Activity::Pinging);
        }
        Some(Activity::Idle)
    }

    /// Lets the journal know what the database has.
    fn acknowledge(&mut self, present: &mut Present) {
        self.status.pending = self.extent.last_seq.saturating_sub(present.cursor.seq);
        self.status.state = if self.status.pending == 0 { MirrorState::Ok } else { MirrorState::CatchingUp };
        if let Some(stream_id) = present.cursor.stream_id
            && present.acknowledged != Some(present.cursor)
        {
            present.acknowledged = Some(present.cursor);
            self.actions.push_back(DeliveryAction::Acknowledge { stream_id, seq: present.cursor.seq });
        }
    }

    fn read_map(&mut self, now: Instant) -> Activity {
        self.request(DeliveryRequest::ReadMap, OpenRequest::map(now));
        Activity::ReadingMap
    }

    /// The database has entries that the journal lacks. No number may be given twice, so the journal begins another stream;
    /// until then the state is read from the map.
    fn replace_stream(&mut self, now: Instant, present: &mut Present) -> Activity {
        if let Some(stream_id) = present.cursor.stream_id
            && present.superseded_stream != Some(stream_id)
        {
            present.superseded_stream = Some(stream_id);
            let line = "the database has entries that the journal lacks: was an older copy put back? A new journal is begun";
            self.log(LogSubject::JournalReplaced, line.into());
            self.actions.push_back(DeliveryAction::BeginNewStream(stream_id));
        }
        if now >= present.reconciled_at + REFRESH_EVERY {
            return self.read_map(now);
        }
        Activity::Pausing(now + RETRY_WAIT, AfterPause::Continue)
    }

    /// Whether entries are sent now. Few ones wait for others while the server is busy.
    fn is_batch_due(&self, now: Instant, present: &mut Present) -> bool {
        let pending = self.status.pending;
        if pending > 0 && pending < GROUP_ENTRIES && !self.is_stopping() {
            let hold = || now + present.congestion.hold(now);
            if now < *present.held_until.get_or_insert_with(hold) {
                return false;
            }
        }
        present.held_until = None;
        pending > 0
    }

    /// Reads the next entries, or first the state where they are far behind it.
    fn begin_batch(&mut self, now: Instant, present: &Present, stream_id: Uuid) -> Activity {
        let after = present.cursor.seq;
        let is_far_behind = after + (BATCH_ENTRIES_MAX as u64) < present.state_after;
        let is_state_old =
            self.extent.last_seq > present.state_after && now >= present.reconciled_at + REFRESH_EVERY;
        if is_far_behind && is_state_old {
            return self.read_map(now);
        }
        let range = EntryRange {
            stream_id,
            after,
            through: self.extent.last_seq,
            entries_max: (BATCH_ENTRIES_MAX >> self.batch_halvings).max(1),
            bytes_max: BATCH_BYTES_MAX >> self.batch_halvings,
            state_after: present.state_after,
        };
        self.request(DeliveryRequest::ReadEntries(range), OpenRequest::limited_by_driver());
        Activity::Reading
    }

    pub(super) fn present_answered(
        &mut self,
        now: Instant,
        mut present: Box<Present>,
        answer: Result<DeliveryAnswer, DatabaseError>,
    ) -> Result<Phase, DatabaseError> {
        let activity = std::mem::replace(&mut present.activity, Activity::Idle);
        present.activity = match (activity, answer) {
            (Activity::Writing(batch, step), answer) => {
                let next = self.batch_answered(now, &mut present, batch, step, answer);
                next.inspect_err(|_| self.halve_batches())?
            }
            (Activity::ReadingMap, Ok(DeliveryAnswer::LiveMap(map))) => {
                Activity::Reconciling(self.reconcile(WriterIdentity::Current(present.token), map))
            }
            (Activity::Reconciling(stamp), Ok(DeliveryAnswer::Reconciled(done))) => {
                self.count_refusals(now, done.refused);
                present.cursor = ReplicationCursor { stream_id: stamp.stream_id, seq: done.cursor };
                present.state_after = stamp.after_seq;
                present.reconciled_at = now;
                present.notify_due.get_or_insert(now);
                self.after_refresh(now, &present)
            }
            (Activity::Comparing, Ok(DeliveryAnswer::Compared(comparison))) => {
                self.journal_was_read();
                match comparison {
                    Comparison::Same => {
                        present.compared = present.cursor.stream_id;
                        Activity::Idle
                    }
                    Comparison::Different => self.replace_stream(now, &mut present),
                }
            }
            (Activity::Reading, Ok(DeliveryAnswer::Entries(items))) => {
                self.entries_read(now, &mut present, items)
            }
            (Activity::Comparing | Activity::Reading, Ok(DeliveryAnswer::JournalUnreadable(why))) => {
                self.journal_was_unreadable(why);
                self.hold_history(now, &present)
            }
            (Activity::Comparing, Err(error)) if error.can_be_retried() => self.hold_history(now, &present),
            (Activity::Maintaining | Activity::Notifying, Ok(DeliveryAnswer::Done)) => Activity::Idle,
            // Somebody holds a lock: the partitions are looked after at the next opportunity.
            (Activity::Maintaining, Err(error)) if error.can_be_retried() => Activity::Idle,
            (Activity::Notifying, Err(error)) if error.class != ErrorClass::BrokenConnection => {
                self.status.notify_failures += 1;
                Activity::Idle
            }
            (Activity::Pinging, Ok(DeliveryAnswer::Done)) => self.pinged(now, &mut present),
            (_, Err(error)) => return Err(error),
            (_, Ok(answer)) => return Err(unexpected(&answer)),
        };
        Ok(Phase::Present(present))
    }

    /// After the state was read from the map of another stream than the journal's, that is tried again in a moment: the loop
    /// knows of a new stream before it is committed, or learns of it soon.
    fn after_refresh(&self, now: Instant, present: &Present) -> Activity {
        match present.cursor.stream_id == self.extent.stream_id {
            true => Activity::Idle,
            false => Activity::Pausing(now + REFRESH_EVERY, AfterPause::Continue),
        }
    }

    /// History has to wait; the state is read from the map meanwhile.
    fn hold_history(&mut self, now: Instant, present: &Present) -> Activity {
        self.status.pending = self.extent.last_seq.saturating_sub(present.cursor.seq);
        self.status.state = MirrorState::CatchingUp;
        Activity::Pausing(now + REFRESH_EVERY, AfterPause::Refresh)
    }

    fn journal_was_read(&mut self) {
        if std::mem::take(&mut self.is_journal_unreadable) {
            self.succeeded();
        }
    }

    fn journal_was_unreadable(&mut self, why: String) {
        if !std::mem::replace(&mut self.is_journal_unreadable, true) {
            let line = format!("history is not mirrored: {}; it is retried", shown(&why));
            self.log(LogSubject::JournalUnreadable, line);
        }
        self.failed(shown(&why));
    }

    fn entries_read(&mut self, now: Instant, present: &mut Present, items: Vec<BatchItem>) -> Activity {
        self.journal_was_read();
        if items.is_empty() {
            // The stream ended after its extent was reported.
            return Activity::Pausing(now + RETRY_WAIT, AfterPause::Continue);
        }
        let batch = Batch::new(items, now);
        self.send(now, present, Box::new(batch))
    }

    /// Sends the next statement of the batch.
    fn send(&mut self, now: Instant, present: &mut Present, batch: Box<Batch>) -> Activity {
        present.sent_at = now;
        if let Some(statement) = batch.statement(&present.cursor, self.last_seq_of(present.cursor.stream_id))
        {
            let request = DeliveryRequest::Write { token: present.token, statement };
            self.request(request, OpenRequest::statement(now));
        }
        Activity::Writing(batch, WriteStep::Sending)
    }

    fn batch_answered(
        &mut self,
        now: Instant,
        present: &mut Present,
        mut batch: Box<Batch>,
        step: WriteStep,
        answer: Result<DeliveryAnswer, DatabaseError>,
    ) -> Result<Activity, DatabaseError> {
        match (step, answer) {
            (WriteStep::Sending, Ok(DeliveryAnswer::Done)) => Ok(self.statement_applied(now, present, batch)),
            (WriteStep::Sending, Err(error)) if error.class == ErrorClass::RefusedData => {
                batch.refused(error.message)?;
                Ok(self.send(now, present, batch))
            }
            (WriteStep::Sending, Err(error)) if error.can_be_retried() => {
                self.count_refusals(now, std::mem::take(&mut batch.refusals));
                if now >= batch.began_at + STALE_MAX {
                    return Err(error);
                }
                Ok(self.write_failed(now, present, batch, error))
            }
            (WriteStep::MakingPartition, Ok(DeliveryAnswer::Done)) => {
                Ok(self.mark_behind(now, present, batch))
            }
            (WriteStep::MakingPartition, Err(error)) if error.can_be_retried() => {
                Ok(self.mark_behind(now, present, batch))
            }
            (WriteStep::MarkingBehind, Ok(DeliveryAnswer::Done)) => Ok(pause_batch(now, batch)),
            // Whoever holds up the batch may hold up this too.
            (WriteStep::MarkingBehind, Err(error)) if error.can_be_retried() => Ok(pause_batch(now, batch)),
            (_, Err(error)) => Err(error),
            (_, Ok(answer)) => Err(unexpected(&answer)),
        }
    }

    fn statement_applied(&mut self, now: Instant, present: &mut Present, mut batch: Box<Batch>) -> Activity {
        present.congestion.observe(present.sent_at, now, batch.entries_sent());
        present.cursor.seq = batch.applied().unwrap_or(present.cursor.seq);
        // Counted when their gap is committed: the connection may end before the rest of the batch is written.
        self.count_refusals(now, std::mem::take(&mut batch.refusals));
        if !batch.is_written() {
            return self.send(now, present, batch);
        }
        self.succeeded();
        self.has_delivered = true;
        if now < batch.began_at + EASY {
            self.batch_halvings = self.batch_halvings.saturating_sub(1);
        }
        present.notify_due.get_or_insert(present.notified_at.map_or(now, |at| at + NOTIFY_EVERY));
        if batch.has_lost_state() { self.read_map(now) } else { Activity::Idle }
    }

    /// The batch is retried on this connection.
    fn write_failed(
        &mut self,
        now: Instant,
        present: &Present,
        batch: Box<Batch>,
        error: DatabaseError,
    ) -> Activity {
        self.status.state = MirrorState::Retrying;
        self.failed(shown(&error.message));
        if error.class == ErrorClass::MissingPartition {
            self.request(DeliveryRequest::Maintain, OpenRequest::statement(now));
            return Activity::Writing(batch, WriteStep::MakingPartition);
        }
        self.mark_behind(now, present, batch)
    }

    /// Informs readers, once for a batch, that the state is not caught up.
    fn mark_behind(&mut self, now: Instant, present: &Present, mut batch: Box<Batch>) -> Activity {
        if std::mem::replace(&mut batch.is_marked_behind, true) {
            return pause_batch(now, batch);
        }
        self.request(DeliveryRequest::MarkBehind(present.token), OpenRequest::statement(now));
        Activity::Writing(batch, WriteStep::MarkingBehind)
    }

    fn retry_batch(&mut self, now: Instant, present: &mut Present, mut batch: Box<Batch>) -> Activity {
        batch.restart(&present.cursor);
        self.send(now, present, batch)
    }

    /// The server answered a ping. Where the journal does not keep up with the map, or lost a change, the state is read from
    /// the map.
    fn pinged(&mut self, now: Instant, present: &mut Present) -> Activity {
        let (last_seq, heartbeat) = (self.extent.last_seq, self.heartbeat);
        let is_stuck =
            last_seq == present.pinged_last_seq && heartbeat.numbered > last_seq.max(present.state_after);
        let has_lost = heartbeat.dropped != present.pinged_heartbeat.dropped;
        present.pinged_last_seq = last_seq;
        present.pinged_heartbeat = heartbeat;
        if is_stuck || has_lost { self.read_map(now) } else { Activity::Idle }
    }
}

fn pause_batch(now: Instant, batch: Box<Batch>) -> Activity {
    Activity::Writing(batch, WriteStep::Pausing(now + RETRY_WAIT))
}
