//! Reads argv and environment out of processes' memory on threads of its own: a process can make that wait for as
//! long as it likes (a page on a dead network file system), and the loop must not.
//!
//! Reading costs two passes whatever the number of processes, so they are read in batches. A batch that takes too
//! long holds a process that makes its reader wait: its thread is given up, and its processes are read one by one
//! by others, so that one such process takes one thread and nobody else's arguments.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use observer_core::ProcessKey;
use tokio::sync::mpsc;

use crate::api::status::MemoryReadCounts;
use crate::kernel::ProcessMemory;

/// Processes that may wait for their reading; beyond, argv stays null and a counter says so.
const WAITING_MAX: usize = 65_536;
/// Processes read at a time.
const BATCH_MAX: usize = 256;
/// A thread without a result for so long is given up, and another one started.
const STUCK_AFTER: Duration = Duration::from_secs(2);
/// Threads at most; when all are given up, no memory is read any more and the counter says so.
const THREADS_MAX: u64 = 8;

/// Whose memory, and whether the environment too.
pub type Wanted = (ProcessKey, bool);

/// Reads the memory of these processes, for as long as that takes.
pub type Read = Arc<dyn Fn(&[Wanted]) -> Vec<ProcessMemory> + Send + Sync>;

/// What came of one batch.
pub struct Outcome {
    batch: u64,
    /// What was read.
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

/// The threads, what they do and what waits for them.
pub struct Readings {
    read: Read,
    waiting: VecDeque<Wanted>,
    /// Of a batch that was given up: each is read alone.
    suspects: VecDeque<Wanted>,
    known: HashSet<ProcessKey>,
    under_way: BTreeMap<u64, UnderWay>,
    next_batch: u64,
    threads: u64,
    batches: Sender<Batch>,
    shared_batches: Arc<Mutex<Receiver<Batch>>>,
    results: mpsc::Sender<Outcome>,
    counters: MemoryReadCounts,
}

impl Readings {
    /// One thread, and the channel on which results come.
    pub fn new(read: Read) -> (Self, mpsc::Receiver<Outcome>) {
        // At most a batch a thread is sent, so neither channel grows.
        let (batches, receiver) = channel();
        let (results, outcomes) = mpsc::channel(THREADS_MAX as usize);
        let mut readings = Self {
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
        readings.start_thread();
        (readings, outcomes)
    }

    /// Wants the memory of `key` read, with the environment if `env`. Nothing begins before [`Readings::go_on`].
    pub fn ask(&mut self, key: ProcessKey, env: bool) {
        if self.known.len() >= WAITING_MAX {
            self.counters.overflowed += 1;
        } else if self.known.insert(key) {
            self.counters.asked += 1;
            self.waiting.push_back((key, env));
        }
    }

    /// Notes a result that came on the channel.
    pub fn done(&mut self, outcome: &Outcome) {
        let read = outcome.memories.len() as u64;
        self.counters.read += read;
        if let Some(batch) = self.under_way.remove(&outcome.batch) {
            self.counters.failed += (batch.wanted.len() as u64).saturating_sub(read);
            self.forget(&batch.wanted);
        } else {
            // Given up, and back after all.
            self.counters.stuck = self.counters.stuck.saturating_sub(1);
        }
    }

    /// Nothing waits and nothing is under way.
    pub fn is_done(&self) -> bool {
        self.known.is_empty()
    }

    /// When [`Readings::go_on`] is due without a result.
    pub fn due(&self) -> Option<Instant> {
        self.under_way.values().map(|batch| batch.since + STUCK_AFTER).min()
    }

    /// Gives up threads that are stuck, and hands batches to those that are free.
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
            let wanted = match self.suspects.pop_front() {
                Some(suspect) => vec![suspect],
                None => self.waiting.drain(..self.waiting.len().min(BATCH_MAX)).collect(),
            };
            if wanted.is_empty() {
                return;
            }
            if self.counters.stuck >= self.threads {
                self.start_thread();
            }
            self.hand_over(wanted, now);
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &MemoryReadCounts {
        &self.counters
    }

    fn hand_over(&mut self, wanted: Vec<Wanted>, since: Instant) {
        self.next_batch += 1;
        let batch = Batch { number: self.next_batch, wanted: wanted.clone() };
        // The receiver is held here too: it is there.
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
                // A thread that panicked while it held the lock left the receiver whole.
                let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Batch { number, wanted }) = batch else { return };
                let memories = read(&wanted);
                if results.blocking_send(Outcome { batch: number, memories }).is_err() {
                    return;
                }
            }
        };
        self.threads += 1;
        if let Err(error) = thread::Builder::new().name("memory".into()).spawn(body) {
            eprintln!(
                "observer: warning: cannot start a thread ({error}): arguments of processes older than the daemon \
                 stay unknown; raise the limit of tasks"
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
    async fn a_process_that_makes_its_reader_wait_costs_nobody_elses_arguments() {
        let released = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = Arc::clone(&released);
        let read: Read = Arc::new(move |wanted| {
            if wanted.iter().any(|(key, _)| key.tgid.0 == HOSTILE) {
                let (open, opened) = &*gate;
                drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            }
            wanted.iter().map(|&(key, _)| memory(key)).collect()
        });
        let (mut readings, mut outcomes) = Readings::new(read);
        for tgid in 1..=20 {
            readings.ask(ProcessKey::new(tgid, 1), false);
            readings.ask(ProcessKey::new(tgid, 1), false);
        }
        let mut found = HashSet::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !readings.is_done() {
            assert!(Instant::now() < deadline, "every other process is read; found {found:?}");
            readings.go_on();
            if let Ok(Some(outcome)) = timeout(Duration::from_millis(100), outcomes.recv()).await {
                readings.done(&outcome);
                found.extend(outcome.memories.iter().map(|memory| memory.key.tgid.0));
            }
        }
        assert_eq!(found, (1..=20).filter(|&tgid| tgid != HOSTILE).collect());
        let counters = readings.counters();
        assert_eq!((counters.asked, counters.read, counters.failed, counters.stuck), (20, 19, 1, 2));
        *released.0.lock().unwrap() = true;
        released.1.notify_all();
        for _ in 0..2 {
            let late = timeout(Duration::from_secs(20), outcomes.recv()).await.unwrap().unwrap();
            readings.done(&late);
        }
        assert_eq!(readings.counters().stuck, 0, "threads that came back are of use again");
    }
}
