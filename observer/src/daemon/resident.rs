//! How much memory processes have: that of what sessions left, a moment after these ended. A reading is made in pieces, between
//! which the event loop does its other work.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use observer_core::{BootTime, ProcessKey};

use crate::clock;

/// How long one turn of the event loop reads. A piece that has begun is read to its end.
const READING_TURN: Duration = Duration::from_millis(5);
/// How many times the duration of a reading passes before the next one begins, so that programs that provoke readings cannot
/// keep the daemon from other work.
const READING_REST: u32 = 10;

/// Pages of memory by process.
pub type Pages = HashMap<ProcessKey, u64>;
/// Reads the next piece.
pub type ReadPiece = Box<dyn FnMut(&mut Pages) -> PieceRead + Send>;
/// Begins a reading, which waits for no process; `None`: it failed.
pub type BeginReading = Box<dyn Fn() -> Option<ReadPiece> + Send>;

/// What came of reading a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceRead {
    /// There is more to be read.
    More,
    /// It was the last piece.
    Last,
    /// It could not be read.
    Failed,
}

/// Readings of the memory of all processes.
pub struct ResidentReads {
    begin: BeginReading,
    is_wanted: bool,
    reading: Option<Reading>,
    /// When the next one may begin.
    rested_at: Option<Instant>,
    last: Option<Pages>,
}

struct Reading {
    began: BootTime,
    read: Option<ReadPiece>,
    pages: Pages,
    /// How much time it has taken.
    took: Duration,
}

impl ResidentReads {
    /// Readings that `begin` begins.
    pub fn new(begin: BeginReading) -> Self {
        Self { begin, is_wanted: false, reading: None, rested_at: None, last: None }
    }

    /// A reading is wanted that begins from now on.
    pub fn request(&mut self) {
        self.is_wanted = true;
    }

    /// Whether a reading has begun, so that [`Self::turn`] has something to do.
    pub fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// When [`Self::turn`] is due.
    pub fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let next = self.is_wanted.then(|| self.rested_at.map_or(now, |rested_at| rested_at.max(now)));
        if self.is_reading() { Some(now) } else { next }
    }

    /// Reads for some time. Returns when the reading began, if that is complete.
    pub fn turn(&mut self) -> Option<BootTime> {
        let since = Instant::now();
        if self.reading.is_none() {
            let is_due = self.is_wanted && self.rested_at.is_none_or(|rested_at| rested_at <= since);
            if !is_due {
                return None;
            }
            self.is_wanted = false;
            let began = clock::boottime();
            self.reading =
                Some(Reading { began, read: (self.begin)(), pages: Pages::new(), took: Duration::ZERO });
        }
        let reading = self.reading.as_mut()?;
        let mut piece = PieceRead::More;
        while piece == PieceRead::More && since.elapsed() < READING_TURN {
            piece = reading.read.as_mut().map_or(PieceRead::Failed, |read| read(&mut reading.pages));
        }
        reading.took += since.elapsed();
        if piece == PieceRead::More {
            return None;
        }
        let Reading { began, pages, took, .. } = self.reading.take()?;
        self.rested_at = Some(Instant::now() + took.saturating_mul(READING_REST));
        self.last = (piece == PieceRead::Last).then_some(pages);
        Some(began)
    }

    /// Nobody asks for the pages of the last reading any more.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// The pages of each of `processes` in the last reading, `None` where that did not show it; `None` if it failed.
    pub fn pages(&self, processes: &[ProcessKey]) -> Option<Vec<Option<u64>>> {
        let pages = self.last.as_ref()?;
        Some(processes.iter().map(|key| pages.get(key).copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey::new(tgid, 1)
    }

    /// Readings of so many pieces, each of which takes so long and shows one process, with its number as its pages. The piece with
    /// the number `fails_at` fails.
    fn reads(pieces: u32, takes: Duration, fails_at: u32) -> ResidentReads {
        ResidentReads::new(Box::new(move || {
            let mut piece = 0;
            Some(Box::new(move |pages: &mut Pages| {
                let since = Instant::now();
                while since.elapsed() < takes {
                    std::thread::yield_now();
                }
                piece += 1;
                pages.insert(key(piece), u64::from(piece));
                if piece == fails_at {
                    PieceRead::Failed
                } else if piece < pieces {
                    PieceRead::More
                } else {
                    PieceRead::Last
                }
            }))
        }))
    }

    /// Turns until a reading ends; returns when it began, how many turns it took, and how long the longest was.
    fn read(reads: &mut ResidentReads) -> (BootTime, u32, Duration) {
        let (mut turns, mut longest) = (0, Duration::ZERO);
        loop {
            let since = Instant::now();
            let began = reads.turn();
            longest = longest.max(since.elapsed());
            turns += 1;
            if let Some(began) = began {
                return (began, turns, longest);
            }
            assert!(reads.due().is_some());
        }
    }

    #[test]
    fn a_reading_takes_as_many_turns_as_keep_each_of_them_short() {
        let mut reads = reads(20, Duration::from_millis(2), 0);
        assert!(reads.turn().is_none() && reads.due().is_none(), "none is wanted");
        let before = clock::boottime();
        reads.request();
        let (began, turns, _) = read(&mut reads);
        assert!(began >= before && (5..=20).contains(&turns), "{turns}");
        assert_eq!(reads.pages(&[key(20), key(21), key(1)]), Some(vec![Some(20), None, Some(1)]));
        assert!(!reads.is_reading() && reads.due().is_none());
    }

    #[test]
    fn the_next_reading_waits_for_a_multiple_of_the_time_that_the_last_one_took() {
        let mut reads = reads(2, Duration::from_millis(4), 0);
        reads.request();
        read(&mut reads);
        let ended = Instant::now();
        reads.request();
        let due = reads.due().expect("a reading is wanted");
        assert!(due > ended + Duration::from_millis(60), "{:?}", due - ended);
        assert!(reads.turn().is_none() && !reads.is_reading());
        read(&mut reads);
        assert!(Instant::now() > due);
    }

    #[test]
    fn a_request_during_a_reading_is_for_the_next_one() {
        let mut reads = reads(3, Duration::from_millis(4), 0);
        reads.request();
        assert!(reads.turn().is_none() && reads.is_reading());
        let asked = clock::boottime();
        reads.request();
        assert!(read(&mut reads).0 < asked);
        assert!(read(&mut reads).0 > asked);
    }

    #[test]
    fn what_cannot_be_read_is_not_known_and_is_answered() {
        let mut failing = reads(5, Duration::ZERO, 2);
        failing.request();
        read(&mut failing);
        assert_eq!(failing.pages(&[key(1)]), None);
        let mut none = ResidentReads::new(Box::new(|| None));
        none.request();
        assert!(none.turn().is_some());
        assert_eq!(none.pages(&[key(1)]), None);
    }
}
