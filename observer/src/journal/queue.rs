//! Between the loop and the writer: entries that have a number and are not committed. The lock is held for moments,
//! never over I/O.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::instance::Note;
use super::live::{self, Live};
use super::{Entry, Gap, Options, Resumed, bounds, file};
use crate::api::status::JournalStatus;
use crate::clock;
use crate::text::time::unix_rfc3339;

/// Entries that wait for the disk.
const QUEUE_ENTRIES_MAX: usize = 65_536;
/// Their bytes.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Bytes after which memory is given back once they are written.
const STORM_BYTES: usize = 1 << 20;
/// An entry takes this beside its own bytes.
const ENTRY_BYTES: usize = 256;
/// The largest entry: a session with all its arguments and start times is a tenth of it.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// An entry that waits.
struct Waiting {
    seq: u64,
    entry: Arc<Entry>,
    since: Instant,
}

/// What the writer is to do.
pub enum Work {
    /// Write these; they stay queued until [`Queue::written`]. May be empty: see to ages and acknowledgements.
    Write(Vec<(u64, Arc<Entry>)>),
    /// Set this stream aside first.
    BeginAnew,
    /// A reader says that the file is damaged: see.
    Check,
    /// Nothing is left and the daemon stops.
    Stop,
}

#[derive(Default)]
struct Lost {
    count: u64,
    from_ns: i64,
    to_ns: i64,
    reason: &'static str,
}

struct State {
    /// Empty: no file could be opened yet.
    stream_id: Arc<str>,
    instance_id: Option<Arc<str>>,
    next_seq: u64,
    /// The time without a daemon: told before anything else.
    absence: Option<Gap>,
    /// When the loop began to tell changes, ns since 1970: the absence ends there.
    telling_since_ns: Option<i64>,
    /// Up to when everything that happened is committed, ns since 1970; 0: not known.
    complete_ns: i64,
    /// Up to when everything has a number, and the first number that is later: not committed yet.
    numbered: Option<(i64, u64)>,
    /// Sessions that live by what was numbered, until the loop takes them; and until when the file knew.
    live: Option<Live>,
    known_until_ns: Option<i64>,
    entries: VecDeque<Waiting>,
    bytes: usize,
    /// The most that it was since memory was given back.
    bytes_peak: usize,
    lost: Lost,
    boot_id: String,
    acknowledged: u64,
    acknowledged_seen: u64,
    begin_anew: bool,
    doubted: bool,
    stopping: bool,
    /// Why the last write failed: the reason that a loss is given.
    failing: Option<&'static str>,
    status: JournalStatus,
    /// When the oldest undelivered entry was, ns since 1970.
    undelivered_since: Option<i64>,
}

/// See the module.
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    news: Arc<Notify>,
}

impl Queue {
    /// Empty, and without a file.
    pub fn new(options: &Options) -> Self {
        let state = State {
            stream_id: Arc::from(""),
            instance_id: None,
            next_seq: 1,
            absence: None,
            telling_since_ns: None,
            complete_ns: 0,
            numbered: None,
            live: None,
            known_until_ns: None,
            entries: VecDeque::new(),
            bytes: 0,
            bytes_peak: 0,
            lost: Lost::default(),
            boot_id: options.boot_id.clone(),
            acknowledged: 0,
            acknowledged_seen: 0,
            begin_anew: false,
            doubted: false,
            stopping: false,
            failing: None,
            status: JournalStatus {
                state: "ok".into(),
                limit_bytes: options.max_bytes,
                ..JournalStatus::default()
            },
            undelivered_since: None,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), news: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that panics runs under it, and every state between its lines is a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::Journal::push`].
    pub fn push(&self, entry: Entry) -> Option<u64> {
        let mut state = self.lock();
        if size(&entry) > ENTRY_BYTES_MAX {
            state.lose(&entry, Some("too_large"));
            self.wake.notify_one();
            return None;
        }
        if !state.is_open() || !state.has_room(size(&entry)) {
            state.lose(&entry, None);
            return None;
        }
        let idle = state.entries.is_empty();
        state.settle_lost();
        let seq = state.number(entry);
        if idle {
            self.wake.notify_one();
        }
        Some(seq)
    }

    /// Waits for work, at most `patience`; then there may be none. While a write fails, nothing but a stop ends
    /// the wait.
    pub fn work(&self, patience: Duration, batch_max: usize) -> Work {
        let mut state = self.lock();
        let failing = state.failing.is_some();
        let idle = |state: &mut State| {
            let news = !state.entries.is_empty() || state.lost.count > 0 || state.begin_anew || state.doubted;
            !state.stopping && (failing || !news) && state.acknowledged == state.acknowledged_seen
        };
        if idle(&mut state) {
            let waited = self.wake.wait_timeout_while(state, patience, idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.acknowledged_seen = state.acknowledged;
        if std::mem::take(&mut state.begin_anew) {
            return Work::BeginAnew;
        }
        if std::mem::take(&mut state.doubted) {
            return Work::Check;
        }
        if state.entries.is_empty() && state.is_open() {
            state.settle_lost();
        }
        if state.stopping && state.entries.is_empty() {
            return Work::Stop;
        }
        let batch = state.entries.iter().take(batch_max);
        Work::Write(batch.map(|waiting| (waiting.seq, Arc::clone(&waiting.entry))).collect())
    }

    /// Entries up to `seq` are committed.
    pub fn written(&self, seq: u64) {
        let mut state = self.lock();
        state.recovered();
        state.status.last_seq = state.status.last_seq.max(seq);
        if let Some(first) = state.entries.front().filter(|first| first.seq <= seq) {
            state.status.commit_us =
                Some(u64::try_from(first.since.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        while state.entries.front().is_some_and(|waiting| waiting.seq <= seq) {
            if let Some(waiting) = state.entries.pop_front() {
                state.bytes -= size(&waiting.entry);
            }
        }
        if let Some((up_to_ns, next_seq)) = state.numbered
            && next_seq <= seq + 1
        {
            (state.complete_ns, state.numbered) = (up_to_ns, None);
        }
        if state.entries.is_empty() {
            // What a storm took is given back.
            state.entries.shrink_to(64);
        }
    }

    /// Whether a storm is over that took memory.
    pub fn storm_is_over(&self) -> bool {
        let state = self.lock();
        state.entries.is_empty() && state.bytes_peak >= STORM_BYTES
    }

    /// What it took was given back.
    pub fn forget_storm(&self) {
        let mut state = self.lock();
        state.bytes_peak = state.bytes;
    }

    /// A write failed; how often in a row.
    pub fn failed(&self, reason: &'static str, error: String) -> u64 {
        let mut state = self.lock();
        state.failing = Some(reason);
        state.status.failures += 1;
        state.status.state = "failing".into();
        state.status.last_error = Some(error);
        state.status.failures
    }

    /// A file is open: what is queued, and what is pushed from here on, are its next entries.
    pub fn begin(&self, opened: &mut file::Opened, instance_id: &str) {
        let mut state = self.lock();
        let queued = std::mem::take(&mut state.entries);
        state.bytes = 0;
        state.stream_id = opened.stream_id.clone();
        state.instance_id = Some(instance_id.into());
        state.next_seq = opened.last_seq + 1;
        (state.acknowledged, state.acknowledged_seen) = (opened.delivered, opened.delivered);
        state.undelivered_since = None;
        if let Some(to_seq) = opened.lost_to_seq {
            state.lose_numbers(to_seq);
        }
        (state.absence, state.known_until_ns) = opened.absence.take().unzip();
        state.live = Some(std::mem::take(&mut opened.live));
        state.status.oldest_seq = opened.oldest_seq;
        state.status.last_seq = opened.last_seq;
        state.numbered = None;
        state.recovered();
        for waiting in queued {
            state.number(Arc::unwrap_or_clone(waiting.entry));
        }
        self.news.notify_one();
    }

    /// See [`super::Journal::known`].
    pub fn known(&self) -> Vec<Entry> {
        self.lock().live.iter().flat_map(Live::values).cloned().collect()
    }

    /// See [`super::Journal::resume`].
    pub fn resume(&self) -> Option<Resumed> {
        let mut state = self.lock();
        state.telling_since_ns.get_or_insert_with(now_ns);
        let live = state.live.take()?;
        state.settle_absence();
        self.wake.notify_one();
        Some(Resumed { live: live.into_values().collect(), until_ns: state.known_until_ns })
    }

    /// See [`super::Journal::complete`].
    pub fn complete(&self, up_to_ns: i64) {
        self.lock().complete(up_to_ns);
    }

    /// What is committed.
    pub fn note(&self) -> Note {
        let state = self.lock();
        Note {
            complete_ns: state.complete_ns,
            last_seq: state.status.last_seq,
            delivered: state.acknowledged,
            stream_id: state.stream_id.to_string(),
        }
    }

    /// See [`super::Journal::news`].
    pub fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// See [`super::Delivery::instance_id`].
    pub fn instance_id(&self) -> Option<Arc<str>> {
        self.lock().instance_id.clone()
    }

    /// See [`super::Journal::numbered`].
    pub fn numbered(&self) -> (Arc<str>, u64, u64) {
        let state = self.lock();
        (state.stream_id.clone(), state.next_seq - 1, state.status.dropped)
    }

    /// See [`super::Delivery::acknowledged`].
    pub fn acknowledged(&self, stream_id: &str, seq: u64) {
        let mut state = self.lock();
        // Less than before where the database was restored.
        if *state.stream_id == *stream_id && seq != state.acknowledged {
            state.acknowledged = seq;
            self.wake.notify_one();
        }
    }

    /// Number of the newest entry that the mirror has.
    pub fn delivered(&self) -> u64 {
        self.lock().acknowledged
    }

    /// See [`super::Delivery::begin_anew`].
    pub fn begin_anew(&self, stream_id: &str) {
        let mut state = self.lock();
        if *state.stream_id == *stream_id {
            state.begin_anew = true;
            self.wake.notify_one();
        }
    }

    /// See [`super::Delivery::read_failed`].
    pub fn doubt(&self, stream_id: &str) {
        let mut state = self.lock();
        if *state.stream_id == *stream_id {
            state.doubted = true;
            self.wake.notify_one();
        }
    }

    /// The daemon stops.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    /// Whether it does.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Entries not committed, lost ones that no entry tells of included.
    pub fn waiting(&self) -> u64 {
        let state = self.lock();
        state.entries.len() as u64 + state.lost.count
    }

    /// What the writer knows of the file.
    pub fn learn(&self, usage: &bounds::Usage, oldest_seq: u64, undelivered: Option<i64>) {
        let mut state = self.lock();
        state.status.bytes = usage.total();
        state.status.expired += usage.expired;
        state.status.oldest_seq = oldest_seq;
        state.undelivered_since = undelivered;
    }

    /// See [`super::Journal::status`].
    pub fn status(&self, now_unix_ns: i128) -> JournalStatus {
        let state = self.lock();
        let mut status = state.status.clone();
        status.stream_id = state.is_open().then(|| state.stream_id.to_string());
        status.queued = state.entries.len() as u64;
        status.delivered = state.acknowledged;
        status.utilisation = status.bytes as f64 / status.limit_bytes.max(1) as f64;
        let age_ms = |since: i64| u64::try_from((now_unix_ns - i128::from(since)) / 1_000_000).unwrap_or(0);
        status.oldest_undelivered_ms = state.undelivered_since.map(age_ms);
        status
    }
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < QUEUE_ENTRIES_MAX && self.bytes + bytes <= QUEUE_BYTES_MAX
    }

    fn is_open(&self) -> bool {
        !self.stream_id.is_empty()
    }

    /// Where something waits, the oldest such moment is kept: it is the first to hold.
    fn complete(&mut self, up_to_ns: i64) {
        if self.lost.count > 0 || self.live.is_some() || !self.is_open() {
            return;
        }
        if self.entries.is_empty() {
            self.complete_ns = up_to_ns;
        } else if self.numbered.is_none() {
            self.numbered = Some((up_to_ns, self.next_seq));
        }
    }

    fn recovered(&mut self) {
        self.failing = None;
        self.status.failures = 0;
        self.status.state = "ok".into();
        self.status.last_error = None;
    }

    /// Gives `entry` its number, after what has to be said before it.
    fn number(&mut self, entry: Entry) -> u64 {
        self.settle_absence();
        if let Some(live) = &mut self.live {
            live::fold(live, &entry);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.bytes += size(&entry);
        self.bytes_peak = self.bytes_peak.max(self.bytes);
        self.entries.push_back(Waiting { seq, entry: Arc::new(entry), since: Instant::now() });
        seq
    }

    /// Entries up to this number were committed, and the file lacks them: no number is given twice.
    fn lose_numbers(&mut self, to_seq: u64) {
        let (from_seq, now_ns) = (self.next_seq, now_ns());
        let gap = Gap {
            from_seq: Some(from_seq),
            to_seq: Some(to_seq),
            count: Some(to_seq - from_seq + 1),
            reason: "corrupt".into(),
            to: unix_rfc3339(now_ns),
            message: Some("the end of the file is gone".into()),
            ..Gap::default()
        };
        self.next_seq = to_seq;
        self.number(file::gap_entry(&gap, now_ns, clock::boottime().0, &self.boot_id));
    }

    /// Makes the entry that tells of the time without a daemon.
    fn settle_absence(&mut self) {
        let Some(mut gap) = self.absence.take() else { return };
        let to_ns = self.telling_since_ns.unwrap_or_else(now_ns);
        gap.to = unix_rfc3339(to_ns);
        self.number(file::gap_entry(&gap, to_ns, clock::boottime().0, &self.boot_id));
    }

    fn lose(&mut self, entry: &Entry, reason: Option<&'static str>) {
        if self.lost.count == 0 {
            self.lost.from_ns = entry.at_unix_ns;
            self.lost.reason = reason.or(self.failing).unwrap_or("queue_full");
        }
        self.lost.to_ns = entry.at_unix_ns;
        self.lost.count += 1;
        self.status.dropped += 1;
    }

    /// Makes the entry that tells of what was lost.
    fn settle_lost(&mut self) {
        if self.lost.count == 0 {
            return;
        }
        let lost = std::mem::take(&mut self.lost);
        let gap = Gap {
            count: Some(lost.count),
            reason: lost.reason.into(),
            from: unix_rfc3339(lost.from_ns),
            to: unix_rfc3339(lost.to_ns),
            ..Gap::default()
        };
        self.number(file::gap_entry(&gap, lost.to_ns, 0, &self.boot_id));
    }
}

fn now_ns() -> i64 {
    i64::try_from(clock::realtime_ns()).unwrap_or(0)
}

/// What an entry takes of the queue.
fn size(entry: &Entry) -> usize {
    let texts = entry.detail.len() + entry.kind.len() + entry.boot_id.len();
    let names = entry.home.as_ref().map_or(0, Vec::len) + entry.name.as_ref().map_or(0, Vec::len);
    ENTRY_BYTES + texts + names
}
