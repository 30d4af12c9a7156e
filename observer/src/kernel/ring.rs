//! The ring buffer's consumer side and the control words. Both are memory-mapped, so draining, reading the producers'
//! position and announcing when to wake the reader take no system call.
//!
//! Layout: <https://docs.kernel.org/bpf/ringbuf.html>. One page with the consumer's position, one with the
//! producers', then the data, mapped twice in a row so that no record is ever split.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use anyhow::Result;
use observer_common::control;
use observer_common::record::{HINT_COUNT, KIND_COUNT};

use super::mapping::Mapping;

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const RECORD_HEADER: u64 = 8;
/// Number of records after which the consumer's position is published; the producers read it at each reservation.
const PUBLISH_EVERY: usize = 64;

/// Consumer of the ring.
pub struct Ring {
    fd: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    size: u64,
    /// Position up to which records were passed on; published to the kernel in batches.
    position: u64,
}

/// Why a drain stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// The ring is empty.
    Empty,
    /// The next record is reserved but not committed.
    Busy,
    /// The budget is used up.
    Budget,
}

impl Ring {
    /// Maps the ring buffer `fd` of `size` bytes of data.
    pub fn map(fd: OwnedFd, size: u32) -> Result<Self> {
        // SAFETY: a query without side effects.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let consumer = Mapping::new(fd.as_fd(), 0, page, true)?;
        let producer = Mapping::new(fd.as_fd(), page, page + 2 * size as usize, false)?;
        let position = consumer.word(0).load(Ordering::Acquire);
        Ok(Self { fd, consumer, producer, page, size: u64::from(size), position })
    }

    /// The descriptor, which is readable when a program decided to wake the reader.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The position at which the next record will be reserved.
    pub fn producer_position(&self) -> u64 {
        self.producer.word(0).load(Ordering::Acquire)
    }

    /// The position below which every record was passed on.
    pub fn consumer_position(&self) -> u64 {
        self.position
    }

    /// Bytes in use, and the size.
    pub fn usage(&self) -> (u64, u64) {
        (self.producer_position().saturating_sub(self.position), self.size)
    }

    /// Passes up to `budget` records to `handle`, oldest first; returns how many, and why it stopped.
    pub fn drain(&mut self, budget: usize, mut handle: impl FnMut(&[u8])) -> (usize, DrainEnd) {
        let mut records = 0;
        let mut steps = 0;
        let end = loop {
            if self.position >= self.producer_position() {
                break DrainEnd::Empty;
            }
            if records >= budget {
                break DrainEnd::Budget;
            }
            let header = self.header().load(Ordering::Acquire);
            if header & BUSY != 0 {
                break DrainEnd::Busy;
            }
            let len = header & !(BUSY | DISCARDED);
            if header & DISCARDED == 0 {
                handle(self.data(len));
                records += 1;
            }
            self.position += RECORD_HEADER + u64::from(len.next_multiple_of(8));
            steps += 1;
            if steps % PUBLISH_EVERY == 0 {
                self.publish();
            }
        };
        self.publish();
        (records, end)
    }

    fn publish(&self) {
        self.consumer.word(0).store(self.position, Ordering::Release);
    }

    /// Index of the byte at the consumer's position within the producer's mapping.
    fn index(&self) -> usize {
        self.page + (self.position & (self.size - 1)) as usize
    }

    fn header(&self) -> &AtomicU32 {
        // SAFETY: the index lies within the first copy of the data, records are aligned to 8 bytes, and the kernel
        // writes the length atomically.
        unsafe { AtomicU32::from_ptr(self.producer.address().add(self.index()).cast()) }
    }

    fn data(&self, len: u32) -> &[u8] {
        let len = (len as usize).min(self.size as usize - RECORD_HEADER as usize);
        // SAFETY: a committed record lies within the doubled mapping, and the kernel does not write to it before the
        // consumer's position passes it, which needs `&mut self`.
        unsafe {
            std::slice::from_raw_parts(
                self.producer.address().add(self.index() + RECORD_HEADER as usize),
                len,
            )
        }
    }
}

/// The control words.
pub struct Control(Mapping);

impl Control {
    /// Maps the control map `fd`.
    pub fn map(fd: BorrowedFd<'_>) -> Result<Self> {
        Mapping::new(fd, 0, control::WORDS as usize * 8, true).map(Self)
    }

    fn word(&self, index: u32) -> &AtomicU64 {
        self.0.word(index as usize * 8)
    }

    /// Announces what the reader does next. A later read of the ring is ordered after it.
    pub fn set_reader_state(&self, state: u64) {
        self.word(control::READER_STATE).store(state, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether an urgent record was sent since the last call.
    pub fn take_urgent(&self) -> bool {
        let word = self.word(control::URGENT);
        word.load(Ordering::Relaxed) != 0 && word.swap(0, Ordering::SeqCst) != 0
    }

    /// Sets the number of watched tgids, for the programs.
    pub fn set_watched_count(&self, count: u64) {
        self.word(control::WATCHED_COUNT).store(count, Ordering::SeqCst);
    }

    /// Says whether records of execs have the environment of processes without a terminal.
    pub fn set_all_environments(&self, on: bool) {
        self.word(control::ALL_ENVIRONMENTS).store(on.into(), Ordering::SeqCst);
    }

    /// Hint bits that are raised.
    pub fn hints(&self) -> u64 {
        (0..HINT_COUNT as u32)
            .filter(|&bit| self.word(control::HINTS + bit).load(Ordering::SeqCst) != 0)
            .fold(0, |bits, bit| bits | 1 << bit)
    }

    /// Clears hint bits.
    pub fn clear_hints(&self, bits: u64) {
        for bit in (0..HINT_COUNT as u32).filter(|bit| bits & (1 << bit) != 0) {
            self.word(control::HINTS + bit).store(0, Ordering::SeqCst);
        }
    }

    /// Whether the program with this [`control::FIRED`] word has run.
    pub fn has_fired(&self, word: u32) -> bool {
        self.word(word).load(Ordering::SeqCst) != 0
    }

    /// Records that could not be reserved, by kind.
    pub fn drops(&self) -> [u64; KIND_COUNT] {
        std::array::from_fn(|kind| self.word(control::DROPS + kind as u32).load(Ordering::Relaxed))
    }

    /// Events that only the second program reported, by kind.
    pub fn second(&self) -> [u64; KIND_COUNT] {
        std::array::from_fn(|kind| self.word(control::SECOND + kind as u32).load(Ordering::Relaxed))
    }

    /// Records that were not sent because the ring was more than half full, by kind.
    pub fn throttled(&self) -> [u64; KIND_COUNT] {
        std::array::from_fn(|kind| self.word(control::THROTTLED + kind as u32).load(Ordering::Relaxed))
    }
}
