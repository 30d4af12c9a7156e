//! The queue between the event loop and the writer. Its lock is held briefly, never during I/O.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::file::OpenedFile;
use super::lock::Watermark;
use super::options::JournalOptions;
use super::pending::{Pending, Pushed, Resumed};
use crate::api::entry::Entry;
use crate::api::status::JournalStatus;
use crate::api::words::{GapReason, JournalState};

/// What the writer is to do.
pub enum Work {
    /// Write these entries; they stay queued until [`WriteQueue::written`]. Without entries, the writer applies the age
    /// bound and reads what is delivered.
    Write(Vec<(u64, Arc<Entry>)>),
    /// Quarantine the file and begin a new stream.
    BeginNewStream,
    /// Check the file: a reader met damage in it.
    Check,
    /// The daemon stops, and nothing waits.
    Stop,
}

/// Where the numbering stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    /// The stream; empty: no file could be opened yet.
    pub stream_id: Arc<str>,
    /// The newest number that was given, committed or not; 0: none.
    pub last_seq: u64,
    /// Changes that got no number since the daemon's start.
    pub dropped: u64,
}

/// How far entries have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalProgress {
    /// Number of the newest entry that is committed.
    pub committed: u64,
    /// Number of the newest entry that the mirror has.
    pub delivered: u64,
    /// The last write failed.
    pub is_failing: bool,
}

/// What the writer reads from the file after a commit.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileFacts {
    /// Bytes of the file and its write-ahead log.
    pub bytes: u64,
    /// Entries that a bound removed.
    pub expired: u64,
    /// Number of the oldest entry.
    pub oldest_seq: u64,
    /// When the oldest undelivered entry became known, ns since 1970; `None`: there is none, or no mirror.
    pub undelivered_since_ns: Option<i64>,
}

struct QueueState {
    pending: Pending,
    /// The acknowledgement that the writer has seen.
    acknowledged_seen: u64,
    begin_new_stream: bool,
    suspect: bool,
    stopping: bool,
    /// What the daemon leaves to the next one of births.
    births: Option<String>,
    undelivered_since_ns: Option<i64>,
}

/// See the module.
pub struct WriteQueue {
    state: Mutex<QueueState>,
    wake: Condvar,
    opened: Arc<Notify>,
}

impl WriteQueue {
    /// An empty queue, without a file.
    pub fn new(options: &JournalOptions) -> Self {
        let state = QueueState {
            pending: Pending::new(options),
            acknowledged_seen: 0,
            begin_new_stream: false,
            suspect: false,
            stopping: false,
            births: None,
            undelivered_since_ns: None,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), opened: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // No code that panics runs under the lock, and the state is consistent between its statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::Journal::push`].
    pub fn push(&self, entry: Entry) -> Pushed {
        let mut state = self.lock();
        let was_idle = state.pending.is_empty();
        let pushed = state.pending.push(entry);
        // A lost change needs an entry too, as soon as there is a file.
        if was_idle && (pushed.seq().is_some() || state.pending.is_open()) {
            self.wake.notify_one();
        }
        pushed
    }

    /// Waits for work for at most `patience`; afterwards there may be none. While writes fail, only a stop or an
    /// acknowledgement ends the wait early.
    pub fn work(&self, patience: Duration, batch_max: usize) -> Work {
        let mut state = self.lock();
        let is_failing = state.pending.failing.is_some();
        let idle = |state: &mut QueueState| {
            let has_work = !state.pending.is_empty()
                || state.pending.unreported_losses() > 0
                || state.begin_new_stream
                || state.suspect;
            !state.stopping
                && (is_failing || !has_work)
                && state.pending.acknowledged == state.acknowledged_seen
        };
        if idle(&mut state) {
            let waited = self.wake.wait_timeout_while(state, patience, idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.acknowledged_seen = state.pending.acknowledged;
        if std::mem::take(&mut state.begin_new_stream) {
            return Work::BeginNewStream;
        }
        if std::mem::take(&mut state.suspect) {
            return Work::Check;
        }
        if state.pending.is_empty() && state.pending.is_open() {
            state.pending.report_losses();
        }
        if state.stopping && state.pending.is_empty() {
            return Work::Stop;
        }
        Work::Write(state.pending.first(batch_max))
    }

    /// Entries up to `seq` are committed.
    pub fn written(&self, seq: u64) {
        self.lock().pending.written(seq);
    }

    /// See [`Pending::storm_is_over`].
    pub fn storm_is_over(&self) -> bool {
        self.lock().pending.storm_is_over()
    }

    /// See [`Pending::forget_storm`].
    pub fn forget_storm(&self) {
        self.lock().pending.forget_storm();
    }

    /// A write failed. Returns how many have failed in a row.
    pub fn failed(&self, reason: GapReason, error: String) -> u64 {
        let mut state = self.lock();
        state.pending.failing = Some(reason);
        let status = &mut state.pending.status;
        status.failures += 1;
        status.state = JournalState::Failing;
        status.last_error = Some(error);
        status.failures
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.lock().pending.failing.is_some()
    }

    /// Somebody deleted or replaced the file.
    pub fn file_is_gone(&self) {
        self.lock().pending.status.files_gone += 1;
    }

    /// See [`Pending::begin`].
    pub fn begin(&self, opened: &mut OpenedFile, instance_id: &str) {
        let mut state = self.lock();
        state.pending.begin(opened, instance_id);
        state.acknowledged_seen = state.pending.acknowledged;
        state.undelivered_since_ns = None;
        self.opened.notify_one();
    }

    /// See [`super::Journal::known`].
    pub fn known(&self) -> Vec<Entry> {
        self.lock().pending.known().cloned().collect()
    }

    /// See [`super::Journal::resume`].
    pub fn resume(&self) -> Option<Resumed> {
        let resumed = self.lock().pending.resume();
        if resumed.is_some() {
            self.wake.notify_one();
        }
        resumed
    }

    /// See [`Pending::proven_from`].
    pub fn proven_from(&self) -> u64 {
        self.lock().pending.proven_from()
    }

    /// See [`super::Journal::complete`].
    pub fn complete(&self, up_to_ns: i64) {
        self.lock().pending.complete(up_to_ns);
    }

    /// What is committed, for the next daemon.
    pub fn watermark(&self) -> Watermark {
        let state = self.lock();
        Watermark {
            complete_ns: state.pending.complete_ns(),
            last_seq: state.pending.status.last_seq,
            delivered: state.pending.acknowledged,
            stream_id: state.pending.stream_id.to_string(),
        }
    }

    /// See [`super::Journal::opened`].
    pub fn opened(&self) -> Arc<Notify> {
        Arc::clone(&self.opened)
    }

    /// See [`super::Spool::instance_id`].
    pub fn instance_id(&self) -> Option<Arc<str>> {
        self.lock().pending.instance_id.clone()
    }

    /// See [`super::Journal::numbering`].
    pub fn numbering(&self) -> Numbering {
        let state = self.lock();
        Numbering {
            stream_id: state.pending.stream_id.clone(),
            last_seq: state.pending.last_numbered(),
            dropped: state.pending.status.dropped,
        }
    }

    /// See [`super::Journal::progress`].
    pub fn progress(&self) -> JournalProgress {
        let state = self.lock();
        JournalProgress {
            committed: state.pending.status.last_seq,
            delivered: state.pending.acknowledged,
            is_failing: state.pending.failing.is_some(),
        }
    }

    /// See [`super::Spool::acknowledge`].
    pub fn acknowledge(&self, stream_id: &str, seq: u64) {
        let mut state = self.lock();
        // The number is lower than before where the database was restored.
        if *state.pending.stream_id == *stream_id && seq != state.pending.acknowledged {
            state.pending.acknowledged = seq;
            self.wake.notify_one();
        }
    }

    /// Number of the newest entry that the mirror has.
    pub fn acknowledged(&self) -> u64 {
        self.lock().pending.acknowledged
    }

    /// See [`super::Spool::begin_new_stream`].
    pub fn begin_new_stream(&self, stream_id: &str) {
        let mut state = self.lock();
        if *state.pending.stream_id == *stream_id {
            state.begin_new_stream = true;
            self.wake.notify_one();
        }
    }

    /// See [`super::Spool::read_failed`].
    pub fn suspect(&self, stream_id: &str) {
        let mut state = self.lock();
        if *state.pending.stream_id == *stream_id {
            state.suspect = true;
            self.wake.notify_one();
        }
    }

    /// See [`super::Journal::leave_births`].
    pub fn leave_births(&self, births: String) {
        self.lock().births = Some(births);
    }

    /// What was left of births, once.
    pub fn take_births(&self) -> Option<String> {
        self.lock().births.take()
    }

    /// The daemon stops.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    /// Whether the daemon stops.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Changes that are not committed, those included that were lost and that no entry reports yet.
    pub fn waiting(&self) -> u64 {
        let state = self.lock();
        state.pending.len() as u64 + state.pending.unreported_losses()
    }

    /// Updates what `status` reports of the file.
    pub fn update_facts(&self, facts: &FileFacts) {
        let mut state = self.lock();
        state.undelivered_since_ns = facts.undelivered_since_ns;
        let status = &mut state.pending.status;
        status.bytes = facts.bytes;
        status.expired += facts.expired;
        status.oldest_seq = facts.oldest_seq;
    }

    /// See [`super::Journal::status`].
    pub fn status(&self, now_unix_ns: i128) -> JournalStatus {
        let state = self.lock();
        let pending = &state.pending;
        let mut status = pending.status.clone();
        status.stream_id = pending.is_open().then(|| pending.stream_id.to_string());
        status.queued = pending.len() as u64;
        status.delivered = pending.acknowledged;
        status.utilisation = status.bytes as f64 / status.limit_bytes.max(1) as f64;
        let age_ms = |since: i64| u64::try_from((now_unix_ns - i128::from(since)) / 1_000_000).unwrap_or(0);
        status.oldest_undelivered_ms = state.undelivered_since_ns.map(age_ms);
        status
    }
}
