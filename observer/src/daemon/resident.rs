//! How much memory processes have at a moment: that of what a session leaves, when it ends.

use std::collections::HashMap;
use std::time::Instant;

use observer_core::{BootTime, ProcessKey};

use crate::clock;

/// How many times the duration of a reading it is used again, so that programs that provoke readings cannot keep the daemon from
/// other work.
const READING_REST: u32 = 10;

/// Reads how many pages each live process has.
pub type ReadPages = Box<dyn Fn() -> Option<HashMap<ProcessKey, u64>> + Send>;

/// Readings of the memory of all processes.
pub struct ResidentReads {
    read: ReadPages,
    last: Option<Reading>,
}

struct Reading {
    began: BootTime,
    used_until: Instant,
    pages: Option<HashMap<ProcessKey, u64>>,
}

impl ResidentReads {
    /// Readings by `read`, which does not wait for a process.
    pub fn new(read: ReadPages) -> Self {
        Self { read, last: None }
    }

    /// The pages of each of `processes`, `None` where it has ended; `None` where no reading tells that began after `since`.
    pub fn pages(&mut self, processes: &[ProcessKey], since: BootTime) -> Option<Vec<Option<u64>>> {
        let last = self.last.take().filter(|last| Instant::now() < last.used_until);
        let last = self.last.insert(last.unwrap_or_else(|| Reading::take(&self.read)));
        let pages = last.pages.as_ref().filter(|_| last.began >= since)?;
        // Of what was born after it, a reading says nothing.
        let is_known = |key: &ProcessKey| key.start_boottime < last.began;
        processes.iter().all(is_known).then(|| processes.iter().map(|key| pages.get(key).copied()).collect())
    }
}

impl Reading {
    fn take(read: &ReadPages) -> Self {
        let (began, now) = (clock::boottime(), Instant::now());
        let pages = read();
        let took = now.elapsed();
        Self { began, used_until: Instant::now() + took.saturating_mul(READING_REST), pages }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    const OLD: ProcessKey = ProcessKey::new(1, 1);

    /// Readings that take so long, each of which shows one process with the number of the reading as its pages.
    fn reads(takes: Duration) -> ResidentReads {
        let count = Arc::new(AtomicU64::new(0));
        ResidentReads::new(Box::new(move || {
            let began = Instant::now();
            while began.elapsed() < takes {
                std::thread::yield_now();
            }
            Some(HashMap::from([(OLD, count.fetch_add(1, Ordering::Relaxed) + 1)]))
        }))
    }

    #[test]
    fn a_reading_is_used_again_for_a_multiple_of_the_time_that_it_took() {
        let mut slow = reads(Duration::from_millis(50));
        assert_eq!(slow.pages(&[OLD], BootTime(0)), Some(vec![Some(1)]));
        assert_eq!(slow.pages(&[OLD], BootTime(0)), Some(vec![Some(1)]));
        let mut quick = reads(Duration::ZERO);
        assert_eq!(quick.pages(&[OLD], BootTime(0)), Some(vec![Some(1)]));
        let used_until = quick.last.as_ref().map(|last| last.used_until).expect("a reading");
        while Instant::now() < used_until {
            std::thread::yield_now();
        }
        assert_eq!(quick.pages(&[OLD], BootTime(0)), Some(vec![Some(2)]));
    }

    #[test]
    fn what_ended_has_no_memory_and_of_what_was_born_later_nothing_is_known() {
        let mut reads = reads(Duration::from_millis(50));
        assert_eq!(reads.pages(&[OLD, ProcessKey::new(2, 2)], BootTime(0)), Some(vec![Some(1), None]));
        let young = ProcessKey::new(3, clock::boottime().0);
        assert_eq!(reads.pages(&[OLD, young], BootTime(0)), None);
    }

    #[test]
    fn a_reading_from_before_an_end_does_not_tell_what_outlived_it() {
        let mut reads = reads(Duration::from_millis(50));
        assert_eq!(reads.pages(&[OLD], clock::boottime()), Some(vec![Some(1)]));
        assert_eq!(reads.pages(&[OLD], clock::boottime()), None, "it is used again, and began before");
        assert_eq!(reads.pages(&[OLD], BootTime(0)), Some(vec![Some(1)]));
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let mut reads = ResidentReads::new(Box::new(|| None));
        assert_eq!(reads.pages(&[OLD], BootTime(0)), None);
    }
}
