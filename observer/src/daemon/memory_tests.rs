use std::collections::HashSet;
use std::sync::{Condvar, Mutex};

use observer_core::BootTime;
use tokio::time::timeout;

use super::*;
use crate::kernel::ProcessMemory;

fn memory(key: ProcessKey) -> ProcessMemory {
    let argv = b"a\0".to_vec();
    let (argv_truncated, env, env_truncated) = (false, Vec::new(), false);
    ProcessMemory { at: BootTime(1), key, exec_id: 1, argv, argv_truncated, env, env_truncated }
}

fn wanted(tgid: u32, uid: u32) -> Wanted {
    Wanted { key: ProcessKey::new(tgid, 1), env: false, uid }
}

/// The processes of a test, as the reader sees them.
#[derive(Default)]
struct Processes {
    /// Processes that do not answer, and whether a page of them counts as outside memory.
    stall: HashMap<u32, bool>,
    /// Processes that answer after this time.
    slow: HashMap<u32, Duration>,
    /// Processes that cannot be read.
    fail: Mutex<HashSet<u32>>,
    released: Mutex<bool>,
    release: Condvar,
}

impl Processes {
    fn read(&self, keys: &[(ProcessKey, bool)], scope: ReadScope, progress: &ReadingProgress) -> MemoryRead {
        let mut read = MemoryRead::default();
        let mut left = keys.iter();
        while let Some(&(key, _)) = left.next() {
            let stalls = self.stall.get(&key.tgid.0);
            if stalls == Some(&true) && scope == ReadScope::Resident {
                read.absent.push(key);
                continue;
            }
            if !progress.begin(key) {
                read.unread.push(key);
                read.unread.extend(left.map(|&(key, _)| key));
                break;
            }
            if let Some(&slow) = self.slow.get(&key.tgid.0) {
                let released = self.released.lock().unwrap();
                drop(self.release.wait_timeout_while(released, slow, |released| !*released).unwrap());
            }
            if stalls.is_some() {
                let released = self.released.lock().unwrap();
                drop(self.release.wait_while(released, |released| !*released).unwrap());
            }
            let goes_on = progress.end();
            if !goes_on {
                read = MemoryRead::default();
            }
            if !self.fail.lock().unwrap().contains(&key.tgid.0) {
                read.memories.push(memory(key));
            }
            if !goes_on {
                break;
            }
        }
        read
    }

    fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.release.notify_all();
    }
}

/// Readings of such processes.
struct Reads {
    processes: Arc<Processes>,
    reads: MemoryReads,
    outcomes: mpsc::Receiver<MemoryBatch>,
    found: HashSet<u32>,
}

impl Reads {
    fn new(processes: Processes) -> Self {
        let processes = Arc::new(processes);
        let shared = Arc::clone(&processes);
        let read: Read = Arc::new(move |keys, scope, progress| shared.read(keys, scope, progress));
        let (reads, outcomes) = MemoryReads::new(read);
        Self { processes, reads, outcomes, found: HashSet::new() }
    }

    /// Goes on until `end`, and returns after how long that was.
    async fn until(&mut self, what: &str, end: impl Fn(&Self) -> bool) -> Duration {
        let begin = Instant::now();
        loop {
            self.reads.go_on(|_| true);
            if end(self) {
                return begin.elapsed();
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{what}; found {:?}", self.found);
            let wait =
                self.reads.due().map_or(Duration::from_secs(1), |due| due.duration_since(Instant::now()));
            if let Ok(Some(outcome)) = timeout(wait, self.outcomes.recv()).await {
                self.reads.done(&outcome);
                self.found.extend(outcome.read.memories.iter().map(|memory| memory.key.tgid.0));
            }
        }
    }
}

#[tokio::test]
async fn processes_that_do_not_answer_keep_a_few_threads_and_delay_no_other() {
    // By the pages that they lack, or by one that is taken away between the look and the reading.
    for is_absent in [true, false] {
        let hostile = 100..300;
        let stall = hostile.clone().map(|tgid| (tgid, is_absent)).collect();
        let mut reads = Reads::new(Processes { stall, ..Processes::default() });
        for tgid in hostile {
            reads.reads.ask(wanted(tgid, 7));
        }
        for tgid in 1..=20 {
            reads.reads.ask(wanted(tgid, if tgid % 2 == 0 { 7 } else { 8 }));
            reads.reads.ask(wanted(tgid, 0));
        }
        let innocent: HashSet<u32> = (1..=20).filter(|tgid| is_absent || tgid % 2 == 1).collect();
        let took = reads.until("all others are read", |it| innocent.is_subset(&it.found)).await;
        let most = if is_absent { STUCK_AFTER } else { STUCK_AFTER * 5 };
        assert!(took < most, "{took:?}");
        reads.until("the threads are kept", |it| it.reads.is_done()).await;
        let counters = reads.reads.counters();
        assert!(counters.stuck <= STUCK_A_USER_MAX as u64, "{counters:?}");
        assert_eq!((counters.asked, counters.failed), (220, 0), "{counters:?}");
        reads.processes.release();
        reads.until("all are read", |it| it.found.len() == 220).await;
        assert_eq!(reads.reads.counters().stuck, 0, "threads that came back are of use again");
        assert!(reads.reads.known.is_empty());
    }
}

#[tokio::test]
async fn many_users_whose_processes_do_not_answer_leave_threads_to_what_is_in_memory() {
    let stall = (1000..1100).map(|tgid| (tgid, true)).collect();
    let mut reads = Reads::new(Processes { stall, ..Processes::default() });
    for tgid in 1000..1100 {
        reads.reads.ask(wanted(tgid, tgid));
    }
    reads.until("threads are kept", |it| it.reads.counters().stuck == ABSENT_THREADS_MAX as u64).await;
    reads.reads.ask(wanted(1, 1));
    let took = reads.until("another is read", |it| it.found.contains(&1)).await;
    assert!(took < STUCK_AFTER, "{took:?}");
    reads.processes.release();
    reads.until("all are read", |it| it.found.len() == 101).await;
}

#[tokio::test]
async fn a_process_that_could_not_be_read_is_read_again_less_and_less_often() {
    let fail = Mutex::new([5].into());
    let mut reads = Reads::new(Processes { fail, ..Processes::default() });
    reads.reads.ask(wanted(5, 7));
    reads.reads.ask(wanted(6, 7));
    let first = reads.until("it is read again", |it| it.reads.counters().retried == 1).await;
    let second = reads.until("it is read again", |it| it.reads.counters().retried == 2).await;
    assert!(first >= RETRY_AFTER && second >= RETRY_AFTER * 2, "{first:?} {second:?}");
    assert_eq!(reads.found, [6].into());
    reads.processes.fail.lock().unwrap().clear();
    reads.until("it is read at last", |it| it.found.contains(&5)).await;
    let counters = reads.reads.counters();
    assert_eq!((counters.asked, counters.read), (2, 2), "{counters:?}");
    assert!(reads.reads.known.is_empty() && reads.reads.retries.is_empty());
}

#[tokio::test]
async fn a_process_that_is_gone_or_known_is_not_read_again() {
    let mut reads = Reads::new(Processes { fail: Mutex::new([5].into()), ..Processes::default() });
    reads.reads.ask(wanted(5, 7));
    reads.until("it is waited for", |it| !it.reads.retries.is_empty()).await;
    let due = reads.reads.due().unwrap();
    tokio::time::sleep(due.duration_since(Instant::now())).await;
    reads.reads.go_on(|_| false);
    assert_eq!((reads.reads.counters().retried, reads.reads.due()), (0, None));
    assert!(reads.reads.known.is_empty());
}

#[tokio::test]
async fn processes_that_answer_late_delay_those_of_another_user_for_the_time_of_a_batch() {
    let late = STUCK_AFTER - Duration::from_millis(50);
    let slow = (100..300).map(|tgid| (tgid, late)).collect();
    let mut reads = Reads::new(Processes { slow, ..Processes::default() });
    (100..300).for_each(|tgid| reads.reads.ask(wanted(tgid, 7)));
    (1..=20).for_each(|tgid| reads.reads.ask(wanted(tgid, 8)));
    // They come after all others, in a batch of their own.
    (1_000..1_300).for_each(|tgid| reads.reads.ask(wanted(tgid, 9)));
    let of_others: HashSet<u32> = (1..=20).chain(1_000..1_300).collect();
    let took = reads.until("the others are read", |it| of_others.is_subset(&it.found)).await;
    assert!(took < (BATCH_TIME_MAX + STUCK_AFTER) * 3, "{took:?}");
    reads.processes.release();
    reads.until("all are read", |it| it.found.len() == 520).await;
    let counters = reads.reads.counters();
    assert_eq!((counters.asked, counters.failed, counters.stuck), (520, 0, 0), "{counters:?}");
    assert!(reads.reads.known.is_empty());
}

#[tokio::test]
async fn users_who_keep_many_threads_leave_some_to_others() {
    // Pages are taken away between the look and the reading.
    let hostile = || (0..128).map(|n| wanted(100 + n, 1_000 + n % 16));
    let stall = hostile().map(|it| (it.key.tgid.0, false)).collect();
    let mut reads = Reads::new(Processes { stall, ..Processes::default() });
    hostile().for_each(|wanted| reads.reads.ask(wanted));
    reads.until("threads are kept", |it| it.reads.counters().stuck >= STUCK_MANY).await;
    reads.until("no more are", |it| it.reads.is_done()).await;
    let stuck = reads.reads.counters().stuck;
    assert!(stuck <= STUCK_MANY + 16, "{stuck}");
    reads.reads.ask(wanted(1, 1));
    let took = reads.until("another is read", |it| it.found.contains(&1)).await;
    assert!(took < STUCK_AFTER, "{took:?}");
    reads.processes.release();
    reads.until("all are read", |it| it.found.len() == 129).await;
}

#[tokio::test]
async fn who_has_most_processes_makes_room_for_others() {
    let all: HashSet<u32> = (100..100 + u32::try_from(WAITING_MAX).unwrap()).collect();
    let fail = Mutex::new(all.iter().copied().chain([1_000_002, 1_000_003]).collect());
    let mut reads = Reads::new(Processes { fail, ..Processes::default() });
    all.iter().for_each(|&tgid| reads.reads.ask(wanted(tgid, 7)));
    // While they wait to be read, and while they wait to be read again.
    for (tgid, failed) in [(1, 0), (2, WAITING_MAX as u64 / 2)] {
        reads.until("they fail", |it| it.reads.counters().failed >= failed).await;
        let overflowed = reads.reads.counters().overflowed;
        reads.reads.ask(wanted(tgid, 8));
        assert_eq!(reads.reads.counters().overflowed, overflowed + 1, "one of the others is forgotten");
        assert_eq!(reads.reads.known.len(), WAITING_MAX);
        reads.reads.ask(wanted(1_000_000, 7));
        assert!(!reads.reads.known.contains(wanted(1_000_000, 7).key), "not for one of the same user");
        reads.until("it is read", |it| it.found.contains(&tgid)).await;
        reads.reads.ask(wanted(1_000_001 + tgid, 7));
    }
}
