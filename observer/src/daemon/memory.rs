//! Reads argv and environment from the memory of processes, on threads of their own: a process can delay its reader for any
//! time (with a page on a dead network file system), and the event loop must not wait.
//!
//! A reading takes two passes for any number of processes, so processes are read in batches. Those that have a page outside
//! memory are read after all others, those of each user apart, and so are those of a user whose processes take the time that a
//! batch has. A process that takes too long keeps the thread that reads it,
//! and the others of its batch are read by another one. How many threads a user's processes may keep is bounded, so nobody
//! delays the arguments of another user. What could not be read is read again later, until its process ends or calls exec.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use observer_core::ProcessKey;
use tokio::sync::mpsc;
use tracing::warn;

use super::known_reads::KnownReads;
use crate::api::status::MemoryReadCounts;
use crate::kernel::{MemoryRead, ReadScope, ReadingProgress};

/// Processes that wait to be read. Beyond that argv stays null of a process of the user who has most of them, and a counter
/// counts it.
const WAITING_MAX: usize = 65_536;
/// Processes of one batch.
const BATCH_MAX: usize = 256;
/// How long the reading of processes in memory may take before it begins with no other one: each of them answers at once, unless
/// pages are taken away between the look and the reading.
const BATCH_TIME_MAX: Duration = Duration::from_millis(250);
/// A process that has not answered for this long keeps its thread. It is less than the daemon waits for arguments at its
/// start.
const STUCK_AFTER: Duration = Duration::from_millis(250);
/// Threads at most, those that are kept included.
const THREADS_MAX: usize = 32;
/// Threads of these that read processes with a page outside memory.
const ABSENT_THREADS_MAX: usize = 24;
/// Threads with which one user's processes outside memory are read, those that are kept included.
const ABSENT_A_USER_MAX: usize = 2;
/// Threads that one user's processes keep, up to which the others of that user count as in memory.
const STUCK_A_USER_MAX: usize = 4;
/// Threads that are kept by processes, from which on one user's processes keep one only.
const STUCK_MANY: u64 = 16;
/// After this time a process that could not be read is read again, and each time after twice the time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest time after which it is read again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(64);

/// A process whose memory is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The process.
    pub key: ProcessKey,
    /// Whether its environment is read too.
    pub env: bool,
    /// Its real user id.
    pub uid: u32,
}

/// Reads the memory of these processes, and their environment where `true`. It may take any time.
pub type Read = Arc<dyn Fn(&[(ProcessKey, bool)], ReadScope, &ReadingProgress) -> MemoryRead + Send + Sync>;

/// The result of one batch.
pub struct MemoryBatch {
    batch: u64,
    /// What was read.
    pub read: MemoryRead,
}

/// A batch that a thread reads.
struct UnderWay {
    wanted: Vec<Wanted>,
    scope: ReadScope,
    progress: Arc<ReadingProgress>,
    /// When it is looked at whether it is stuck.
    due: Instant,
    /// The user whose process keeps the thread.
    stuck: Option<u32>,
}

/// The batches that are read, and the processes that wait.
pub struct MemoryReads {
    read: Read,
    waiting: VecDeque<Wanted>,
    /// Processes that may block, by user.
    absent: BTreeMap<u32, VecDeque<Wanted>>,
    /// The user whose processes outside memory were read last.
    last_uid: u32,
    /// Processes that are read again, by when.
    retries: BTreeMap<(Instant, ProcessKey), Wanted>,
    /// All processes that wait or are read.
    known: KnownReads,
    under_way: BTreeMap<u64, UnderWay>,
    next_batch: u64,
    results: mpsc::Sender<MemoryBatch>,
    counters: MemoryReadCounts,
}

impl MemoryReads {
    /// Nothing is read. Results come on the channel.
    pub fn new(read: Read) -> (Self, mpsc::Receiver<MemoryBatch>) {
        let (results, outcomes) = mpsc::channel(THREADS_MAX);
        let reads = Self {
            read,
            waiting: VecDeque::new(),
            absent: BTreeMap::new(),
            last_uid: 0,
            retries: BTreeMap::new(),
            known: KnownReads::default(),
            under_way: BTreeMap::new(),
            next_batch: 0,
            results,
            counters: MemoryReadCounts::default(),
        };
        (reads, outcomes)
    }

    /// Queues a reading. It begins with the next [`MemoryReads::go_on`].
    pub fn ask(&mut self, wanted: Wanted) {
        if self.known.contains(wanted.key) {
            self.ask_again(wanted);
            return;
        }
        if self.known.len() >= WAITING_MAX {
            self.counters.overflowed += 1;
            if !self.make_room(wanted.uid) {
                return;
            }
        }
        self.known.add(wanted.key, wanted.uid);
        self.counters.asked += 1;
        self.waiting.push_back(wanted);
    }

    /// Reads a process again at once whose last reading failed: it may have executed another program since.
    fn ask_again(&mut self, wanted: Wanted) {
        let due = self.retries.keys().find(|(_, key)| *key == wanted.key).copied();
        if let Some(due) = due {
            self.retries.remove(&due);
            self.known.add(wanted.key, wanted.uid);
            self.waiting.push_back(wanted);
        }
    }

    /// Forgets a process of the user who has most, for one of `uid`, who has fewer. Returns whether it did.
    fn make_room(&mut self, uid: u32) -> bool {
        let Some(largest) = self.known.largest_beside(uid) else { return false };
        let forgotten = self
            .last_absent(largest)
            .or_else(|| {
                let at = self.waiting.iter().rposition(|wanted| wanted.uid == largest)?;
                self.waiting.swap_remove_back(at)
            })
            .or_else(|| {
                let last = self.retries.iter().rev().find(|(_, wanted)| wanted.uid == largest);
                let due = last.map(|(&due, _)| due)?;
                self.retries.remove(&due)
            });
        // Those that are being read are forgotten when that ends.
        let Some(forgotten) = forgotten else { return false };
        self.known.remove(forgotten.key);
        true
    }

    /// Takes the last process outside memory of a user.
    fn last_absent(&mut self, uid: u32) -> Option<Wanted> {
        let queue = self.absent.get_mut(&uid)?;
        let last = queue.pop_back();
        if queue.is_empty() {
            self.absent.remove(&uid);
        }
        last
    }

    /// Takes note of a result that came on the channel.
    pub fn done(&mut self, outcome: &MemoryBatch) {
        let Some(batch) = self.under_way.remove(&outcome.batch) else { return };
        self.counters.stuck -= u64::from(batch.stuck.is_some());
        let MemoryRead { memories, absent, hopeless, unread } = &outcome.read;
        self.counters.read += memories.len() as u64;
        let mut left: HashMap<_, _> = batch.wanted.iter().map(|wanted| (wanted.key, *wanted)).collect();
        for memory in memories {
            left.remove(&memory.key);
            self.known.remove(memory.key);
        }
        for key in hopeless {
            self.counters.failed += u64::from(left.remove(key).is_some());
            self.known.remove(*key);
        }
        for wanted in unread.iter().rev().filter_map(|key| left.remove(key)) {
            self.waiting.push_front(wanted);
        }
        if !unread.is_empty() {
            self.set_apart(&batch);
        }
        for wanted in absent.iter().filter_map(|key| left.remove(key)) {
            self.absent.entry(wanted.uid).or_default().push_back(wanted);
        }
        for wanted in left.into_values() {
            self.retry(wanted);
        }
    }

    /// Users whose processes took the time of a batch: all of theirs that wait count as outside memory.
    fn set_apart(&mut self, batch: &UnderWay) {
        let slow = batch.progress.slow();
        let slow = batch.wanted.iter().filter(|wanted| slow.contains(&wanted.key));
        let slow: BTreeSet<u32> = slow.map(|wanted| wanted.uid).collect();
        let (apart, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|wanted| slow.contains(&wanted.uid));
        self.waiting = waiting;
        let apart: VecDeque<Wanted> = apart;
        for wanted in apart {
            self.absent.entry(wanted.uid).or_default().push_back(wanted);
        }
    }

    /// Whether no batch is being read that may end soon.
    pub fn is_done(&self) -> bool {
        self.under_way.values().all(|batch| batch.stuck.is_some())
    }

    /// When [`MemoryReads::go_on`] is due without a result.
    pub fn due(&self) -> Option<Instant> {
        let batches = self.under_way.values().filter(|batch| batch.stuck.is_none()).map(|batch| batch.due);
        batches.chain(self.retries.first_key_value().map(|(&(due, _), _)| due)).min()
    }

    /// Leaves threads to processes that do not answer, and begins to read those that wait. Processes that could not be read
    /// are read again if `is_unread`.
    pub fn go_on(&mut self, is_unread: impl Fn(ProcessKey) -> bool) {
        let now = Instant::now();
        self.leave_stuck(now);
        self.take_retries(now, is_unread);
        if !self.under_way.values().any(|batch| batch.scope == ReadScope::Resident && batch.stuck.is_none()) {
            self.begin_waiting(now);
        }
        while let Some(uid) = self.next_absent() {
            let batch =
                self.absent.get_mut(&uid).map(|queue| queue.drain(..queue.len().min(BATCH_MAX)).collect());
            self.absent.retain(|_, queue| !queue.is_empty());
            self.last_uid = uid;
            self.begin(batch.unwrap_or_default(), ReadScope::Any, now);
        }
    }

    /// How many processes wait, or are read.
    pub fn waiting(&self) -> usize {
        self.known.len()
    }

    /// Counters since the daemon's start.
    pub fn counters(&self) -> &MemoryReadCounts {
        &self.counters
    }

    fn leave_stuck(&mut self, now: Instant) {
        for batch in self.under_way.values_mut().filter(|batch| batch.stuck.is_none() && now >= batch.due) {
            let process = batch.progress.process();
            let since = process.map_or(now, |(_, since)| since);
            batch.due = since + STUCK_AFTER;
            let Some((key, _)) = process.filter(|_| now >= batch.due) else { continue };
            if !batch.progress.give_up(key) {
                continue;
            }
            let (stuck, others): (Vec<_>, Vec<_>) =
                batch.wanted.drain(..).partition(|wanted| wanted.key == key);
            batch.stuck = stuck.first().map(|wanted| wanted.uid);
            batch.wanted = stuck;
            self.counters.stuck += 1;
            for wanted in others {
                match batch.scope {
                    ReadScope::Resident => self.waiting.push_back(wanted),
                    ReadScope::Any => self.absent.entry(wanted.uid).or_default().push_back(wanted),
                }
            }
        }
    }

    fn take_retries(&mut self, now: Instant, is_unread: impl Fn(ProcessKey) -> bool) {
        while let Some(first) = self.retries.first_entry().filter(|first| first.key().0 <= now) {
            let wanted = first.remove();
            if is_unread(wanted.key) {
                self.counters.retried += 1;
                self.absent.entry(wanted.uid).or_default().push_back(wanted);
            } else {
                self.known.remove(wanted.key);
            }
        }
    }

    /// Begins to read processes that are in memory. Those of a user who keeps too many threads may not be.
    fn begin_waiting(&mut self, now: Instant) {
        let (mut batch, stuck_max) = (Vec::new(), self.at_most(STUCK_A_USER_MAX));
        while batch.len() < BATCH_MAX
            && self.under_way.len() < THREADS_MAX
            && let Some(wanted) = self.waiting.pop_front()
        {
            if self.threads(|batch| batch.stuck == Some(wanted.uid)) < stuck_max {
                batch.push(wanted);
            } else {
                self.absent.entry(wanted.uid).or_default().push_back(wanted);
            }
        }
        if !batch.is_empty() {
            self.begin(batch, ReadScope::Resident, now);
        }
    }

    /// The next user, in turn, whose processes outside memory can be read.
    fn next_absent(&self) -> Option<u32> {
        if self.under_way.len() >= THREADS_MAX
            || self.threads(|batch| batch.scope == ReadScope::Any) >= ABSENT_THREADS_MAX
        {
            return None;
        }
        let is_of = |batch: &UnderWay, uid| {
            let reads = batch.scope == ReadScope::Any && batch.wanted.iter().any(|wanted| wanted.uid == uid);
            reads || batch.stuck == Some(uid)
        };
        let after = self.absent.range((Bound::Excluded(self.last_uid), Bound::Unbounded));
        let mut turns = after.chain(self.absent.range(..=self.last_uid)).map(|(&uid, _)| uid);
        let most = self.at_most(ABSENT_A_USER_MAX);
        turns.find(|&uid| self.threads(|batch| is_of(batch, uid)) < most)
    }

    /// How many threads one user's processes may keep: `most`, or one where many are kept.
    fn at_most(&self, most: usize) -> usize {
        if self.counters.stuck < STUCK_MANY { most } else { 1 }
    }

    /// How many threads have such a batch.
    fn threads(&self, has: impl Fn(&UnderWay) -> bool) -> usize {
        self.under_way.values().filter(|batch| has(batch)).count()
    }

    fn begin(&mut self, wanted: Vec<Wanted>, scope: ReadScope, now: Instant) {
        self.next_batch += 1;
        let (number, results, read) = (self.next_batch, self.results.clone(), Arc::clone(&self.read));
        let progress = Arc::new(match scope {
            ReadScope::Resident => ReadingProgress::within(BATCH_TIME_MAX),
            ReadScope::Any => ReadingProgress::default(),
        });
        let (keys, watched): (Vec<_>, _) =
            (wanted.iter().map(|wanted| (wanted.key, wanted.env)).collect(), Arc::clone(&progress));
        let body = move || {
            let read = read(&keys, scope, &watched);
            let _ = results.blocking_send(MemoryBatch { batch: number, read });
        };
        if let Err(error) = thread::Builder::new().name("memory".into()).spawn(body) {
            warn!(
                part = "memory_reads",
                "cannot start a thread ({error}), so arguments stay unknown for now; raise the limit of tasks"
            );
            for wanted in wanted {
                self.retry(wanted);
            }
            return;
        }
        let batch = UnderWay { wanted, scope, progress, due: now + STUCK_AFTER, stuck: None };
        self.under_way.insert(number, batch);
    }

    /// Reads a process again that could not be read.
    fn retry(&mut self, wanted: Wanted) {
        self.counters.failed += 1;
        let Some(failures) = self.known.fails(wanted.key) else { return };
        let wait = RETRY_AFTER.saturating_mul(2_u32.saturating_pow(failures)).min(RETRY_AFTER_MAX);
        self.retries.insert((Instant::now() + wait, wanted.key), wanted);
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
