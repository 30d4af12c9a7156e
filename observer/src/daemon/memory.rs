//! Reads argv and environment from the memory of processes, on threads of their own: a process can delay its reader for any
//! time (with a page on a dead network file system), and the event loop must not wait.
//!
//! A reading takes two passes for any number of processes, so processes are read in batches. A batch that takes too long
//! contains a process that delays its reader. Its thread is given up, and its processes are read one by one on other
//! threads, so that such a process costs one thread and no arguments of others.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use observer_core::ProcessKey;
use tokio::sync::mpsc;
use tracing::warn;

use crate::api::status::MemoryReadCounts;
use crate::kernel::ProcessMemory;

/// Processes that wait to be read. Beyond that argv stays null, and a counter counts it.
const WAITING_MAX: usize = 65_536;
/// Processes of one batch.
const BATCH_MAX: usize = 256;
/// A thread without a result for this long is given up, and another one is started. It is less than the daemon waits for
/// arguments at its start, so that one process delays those of no other.
const STUCK_AFTER: Duration = Duration::from_millis(500);
/// Threads at most. When all are given up, no memory is read, and a counter counts it.
const THREADS_MAX: u64 = 8;

/// A process whose memory is to be read, and whether its environment is read too.
pub type Wanted = (ProcessKey, bool);

/// Reads the memory of these processes. It may take any time.
pub type Read = Arc<dyn Fn(&[Wanted]) -> Vec<ProcessMemory> + Send + Sync>;

/// The result of one batch.
pub struct MemoryBatch {
    batch: u64,
    /// The memory that was read.
    pub memories: Vec<ProcessMemory>,
}

struct Batch {
    number: u64,
    wanted: Vec<Wanted>,
}

struct UnderWay {
    since: Instant,
    wanted: Vec<Wanted>,
}

/// The threads, the batches that they read, and the processes that wait.
pub struct MemoryReads {
    read: Read,
    waiting: VecDeque<Wanted>,
    /// Processes of batches that were given up; each is read alone.
    suspects: VecDeque<Wanted>,
    known: HashSet<ProcessKey>,
    under_way: BTreeMap<u64, UnderWay>,
    next_batch: u64,
    threads: u64,
    batches: Sender<Batch>,
    shared_batches: Arc<Mutex<Receiver<Batch>>>,
    results: mpsc::Sender<MemoryBatch>,
    counters: MemoryReadCounts,
}

impl MemoryReads {
    /// Starts one thread. Results come on the channel.
    pub fn new(read: Read) -> (Self, mpsc::Receiver<MemoryBatch>) {
        // Each thread has at most one batch, so neither channel grows.
        let (batches, receiver) = channel();
        let (results, outcomes) = mpsc::channel(THREADS_MAX as usize);
        let mut reads = Self {
            read,
            waiting: VecDeque::new(),
            suspects: VecDeque::new(),
            known: HashSet::new(),
            under_way: BTreeMap::new(),
            next_batch: 0,
            threads: 0,
            batches,
            shared_batches: Arc::new(Mutex::new(receiver)),
            results,
            counters: MemoryReadCounts::default(),
        };
        reads.start_thread();
        (reads, outcomes)
    }

    /// Queues a reading of `key`, with the environment if `env`. It begins with the next [`MemoryReads::go_on`].
    pub fn ask(&mut self, key: ProcessKey, env: bool) {
        if self.known.len() >= WAITING_MAX {
            self.counters.overflowed += 1;
        } else if self.known.insert(key) {
            self.counters.asked += 1;
            self.waiting.push_back((key, env));
        }
    }

    /// Takes note of a result that came on the channel.
    pub fn done(&mut self, outcome: &MemoryBatch) {
        let read = outcome.memories.len() as u64;
        self.counters.read += read;
        if let Some(batch) = self.under_way.remove(&outcome.batch) {
            self.counters.failed += (batch.wanted.len() as u64).saturating_sub(read);
            self.forget(&batch.wanted);
        } else {
            // The thread was given up and has returned.
            self.counters.stuck = self.counters.stuck.saturating_sub(1);
        }
    }

    /// Whether nothing waits and no batch is being read.
    pub fn is_done(&self) -> bool {
        self.known.is_empty()
    }

    /// When [`MemoryReads::go_on`] is due without a result.
    pub fn due(&self) -> Option<Instant> {
        self.under_way.values().map(|batch| batch.since + STUCK_AFTER).min()
    }

    /// Gives up threads that are stuck, and gives batches to free threads.
    pub fn go_on(&mut self) {
        let now = Instant::now();
        let is_stuck = |batch: &UnderWay| now >= batch.since + STUCK_AFTER;
        for (_, batch) in self.under_way.extract_if(.., |_, batch| is_stuck(batch)) {
            self.counters.stuck += 1;
            if let [(key, _)] = batch.wanted[..] {
                self.counters.failed += 1;
                self.known.remove(&key);
            } else {
                self.suspects.extend(batch.wanted);
            }
        }
        while (self.under_way.len() as u64) < self.threads - self.counters.stuck.min(self.threads)
            || (self.threads < THREADS_MAX && self.under_way.is_empty())
        {
            // Who was with one that delays its reader comes after all others.
            let mut wanted: Vec<_> = self.waiting.drain(..self.waiting.len().min(BATCH_MAX)).collect();
            if wanted.is_empty() {
                wanted.extend(self.suspects.pop_front());
            }
            if wanted.is_empty() {
                return;
            }
            if self.counters.stuck >= self.threads {
                self.start_thread();
            }
            self.hand_over(wanted, now);
        }
    }

    /// Counters since the daemon's start.
    pub fn counters(&self) -> &MemoryReadCounts {
        &self.counters
    }

    fn hand_over(&mut self, wanted: Vec<Wanted>, since: Instant) {
        self.next_batch += 1;
        let batch = Batch { number: self.next_batch, wanted: wanted.clone() };
        // Sending cannot fail, because this struct holds the receiver too.
        if self.batches.send(batch).is_ok() {
            self.under_way.insert(self.next_batch, UnderWay { since, wanted });
        }
    }

    fn forget(&mut self, wanted: &[Wanted]) {
        for (key, _) in wanted {
            self.known.remove(key);
        }
    }

    fn start_thread(&mut self) {
        let (read, batches) = (Arc::clone(&self.read), Arc::clone(&self.shared_batches));
        let results = self.results.clone();
        let body = move || {
            loop {
                // A thread that panics while it holds the lock leaves the receiver consistent.
                let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Batch { number, wanted }) = batch else { return };
                let memories = read(&wanted);
                if results.blocking_send(MemoryBatch { batch: number, memories }).is_err() {
                    return;
                }
            }
        };
        self.threads += 1;
        if let Err(error) = thread::Builder::new().name("memory".into()).spawn(body) {
            warn!(
                "cannot start a thread ({error}): arguments of processes older than the daemon stay unknown; raise the \
                 limit of tasks"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use observer_core::BootTime;
    use tokio::time::timeout;

    use super::*;

    const HOSTILE: u32 = 13;

    fn memory(key: ProcessKey) -> ProcessMemory {
        let argv = b"a\0".to_vec();
        let (argv_truncated, env, env_truncated) = (false, Vec::new(), false);
        ProcessMemory { at: BootTime(1), key, exec_id: 1, argv, argv_truncated, env, env_truncated }
    }

    #[tokio::test]
    async fn a_process_that_delays_its_reader_does_not_cost_the_arguments_of_others() {
        let released = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = Arc::clone(&released);
        let read: Read = Arc::new(move |wanted| {
            if wanted.iter().any(|(key, _)| key.tgid.0 == HOSTILE) {
                let (open, opened) = &*gate;
                drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            }
            wanted.iter().map(|&(key, _)| memory(key)).collect()
        });
        let (mut reads, mut outcomes) = MemoryReads::new(read);
        for tgid in 1..=20 {
            reads.ask(ProcessKey::new(tgid, 1), false);
            reads.ask(ProcessKey::new(tgid, 1), false);
        }
        let mut found = HashSet::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !reads.is_done() {
            assert!(Instant::now() < deadline, "every other process is read; found {found:?}");
            reads.go_on();
            if let Ok(Some(outcome)) = timeout(Duration::from_millis(100), outcomes.recv()).await {
                reads.done(&outcome);
                found.extend(outcome.memories.iter().map(|memory| memory.key.tgid.0));
            }
        }
        assert_eq!(found, (1..=20).filter(|&tgid| tgid != HOSTILE).collect());
        let counters = reads.counters();
        assert_eq!((counters.asked, counters.read, counters.failed, counters.stuck), (20, 19, 1, 2));
        *released.0.lock().unwrap() = true;
        released.1.notify_all();
        for _ in 0..2 {
            let late = timeout(Duration::from_secs(20), outcomes.recv()).await.unwrap().unwrap();
            reads.done(&late);
        }
        assert_eq!(reads.counters().stuck, 0, "threads that came back are of use again");
    }
}
