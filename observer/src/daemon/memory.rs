//! Reads argv and environment out of processes' memory on threads of its own: a process can make that wait for as
//! long as it likes (a page on a dead network file system), and the loop must not.

use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use observer_core::ProcessKey;
use tokio::sync::mpsc;

use crate::kernel::{Memory, MemoryReader};
use crate::show::answer::MemoryReads;

/// Processes that may wait for their reading; beyond, argv stays null and a counter says so.
const WAITING_MAX: usize = 65_536;
/// Of those, handed to the threads at a time.
const HANDED_MAX: usize = 64;
/// A thread without a result for so long is taken for stuck, and another one started.
const STUCK_AFTER: Duration = Duration::from_secs(2);
/// Threads at most; when all are stuck, no memory is read any more and the counter says so.
const THREADS_MAX: u64 = 8;

/// What came of one reading.
pub struct Outcome {
    /// Whose.
    pub key: ProcessKey,
    /// What was read.
    pub memory: Option<Memory>,
}

struct Job {
    key: ProcessKey,
    env: bool,
}

/// The threads and what waits for them.
pub struct Readings {
    reader: MemoryReader,
    waiting: VecDeque<Job>,
    known: HashSet<ProcessKey>,
    jobs: SyncSender<Job>,
    shared_jobs: Arc<Mutex<Receiver<Job>>>,
    results: mpsc::Sender<Outcome>,
    handed: usize,
    last_result: Instant,
    counters: MemoryReads,
}

impl Readings {
    /// One thread, and the channel on which results come.
    pub fn new(reader: MemoryReader) -> (Self, mpsc::Receiver<Outcome>) {
        let (jobs, receiver) = sync_channel(HANDED_MAX);
        let (results, outcomes) = mpsc::channel(HANDED_MAX + THREADS_MAX as usize);
        let readings = Self {
            reader,
            waiting: VecDeque::new(),
            known: HashSet::new(),
            jobs,
            shared_jobs: Arc::new(Mutex::new(receiver)),
            results,
            handed: 0,
            last_result: Instant::now(),
            counters: MemoryReads::default(),
        };
        readings.start_thread();
        (readings, outcomes)
    }

    /// Wants the memory of `key` read, with the environment if `env`.
    pub fn ask(&mut self, key: ProcessKey, env: bool) {
        self.counters.asked += 1;
        if self.known.len() >= WAITING_MAX {
            self.counters.overflowed += 1;
        } else if self.known.insert(key) {
            self.waiting.push_back(Job { key, env });
            self.hand_over();
        }
    }

    /// Notes a result that came on the channel.
    pub fn done(&mut self, outcome: &Outcome) {
        self.known.remove(&outcome.key);
        self.handed = self.handed.saturating_sub(1);
        self.last_result = Instant::now();
        *(if outcome.memory.is_some() { &mut self.counters.read } else { &mut self.counters.failed }) += 1;
        self.hand_over();
    }

    /// Nothing waits.
    pub fn is_done(&self) -> bool {
        self.known.is_empty()
    }

    /// When [`Readings::check`] is due.
    pub fn check_due(&self) -> Option<Instant> {
        let may_start = self.handed > 0 && self.counters.stuck < THREADS_MAX;
        may_start.then(|| self.last_result + STUCK_AFTER)
    }

    /// Starts another thread if those that run seem stuck.
    pub fn check(&mut self) {
        if self.check_due().is_some_and(|due| due <= Instant::now()) {
            self.counters.stuck += 1;
            self.last_result = Instant::now();
            if self.counters.stuck < THREADS_MAX {
                self.start_thread();
            }
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &MemoryReads {
        &self.counters
    }

    fn hand_over(&mut self) {
        while self.handed < HANDED_MAX
            && let Some(job) = self.waiting.pop_front()
        {
            if self.handed == 0 {
                self.last_result = Instant::now();
            }
            match self.jobs.try_send(job) {
                Ok(()) => self.handed += 1,
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    self.waiting.push_front(job);
                    return;
                }
            }
        }
    }

    fn start_thread(&self) {
        let (reader, jobs, results) =
            (self.reader.clone(), Arc::clone(&self.shared_jobs), self.results.clone());
        let body = move || {
            loop {
                // A thread that panicked while it held the lock left the receiver whole.
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Job { key, env }) = job else { return };
                let memory = reader.read(key, env);
                if results.blocking_send(Outcome { key, memory }).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("memory".into()).stack_size(256 << 10).spawn(body) {
            eprintln!(
                "observer: warning: cannot start a thread ({error}): arguments of processes older than the daemon stay \
                 unknown; raise the limit of tasks"
            );
        }
    }
}
