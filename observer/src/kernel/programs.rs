//! The attached programs: draining the ring, counters, hints, passes.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use observer_common::control;
use observer_common::hooks::Fact;
use observer_common::record::KIND_COUNT;
use observer_core::decode;
use observer_core::{Input, Tgid};

use super::attach::{BlindSpot, FactSource, HeldLinks};
use super::chosen::Chosen;
use super::iterator::TaskIterator;
use super::memory::MemoryReader;
use super::ring::{Control, DrainEnd, Ring};
use super::run_times::RunTimes;
use super::skipped::Skipped;
use super::snapshot::{Rows, Snapshot};
use crate::api::status::BpfStatus;
use crate::clock;

/// Result of [`Kernel::drain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records that were passed on.
    pub records: usize,
    /// Whether at least one of them concerned a terminal or a watched process.
    pub urgent: bool,
    /// Whether the ring was empty at the end. Otherwise the budget was used up, or a record is being written.
    pub caught_up: bool,
}

/// Whose a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOf {
    /// A process of the host: the record is counted.
    Host,
    /// A process that observer starts to see whether its records come: no count has it.
    Canary,
}

/// What the reader does next, which decides when the programs wake it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderState {
    /// It sleeps without a timer, and any record wakes it.
    Idle,
    /// It sleeps at most 20 ms, and records of terminals and watched processes wake it.
    Lingering,
    /// It drains, or sleeps at most 2 ms, and nothing wakes it.
    Polling,
}

/// The loaded and attached programs. Dropping it detaches them.
pub struct Kernel {
    pub(super) ring: Ring,
    pub(super) control: Control,
    pub(super) watched: HashMap<MapData, u32, u8>,
    pub(super) watched_tgids: BTreeSet<u32>,
    pub(super) iterator: TaskIterator,
    pub(super) skipped: Skipped,
    pub(super) run_times: RunTimes,
    pub(super) sources: Vec<FactSource>,
    pub(super) blind_spots: Vec<BlindSpot>,
    /// Records by kind; index 0 counts those that could not be decoded.
    pub(super) events: [u64; KIND_COUNT],
    /// Losses that no counter shows and that [`Kernel::presume_loss`] has counted.
    pub(super) presumed_lost: u64,
    /// Hint bits that were passed on and not cleared since.
    pub(super) delivered_hints: u64,
    /// The rows of an earlier pass, for their memory.
    pub(super) rows: Cell<Rows>,
    /// Keeps the programs at exits of system calls attached.
    pub(super) _ebpf: Ebpf,
    /// Keeps those at tracepoints and functions attached.
    pub(super) _links: HeldLinks,
}

impl Kernel {
    /// The source of each fact.
    pub fn sources(&self) -> &[FactSource] {
        &self.sources
    }

    /// What the hooks in use cannot see.
    pub fn blind_spots(&self) -> &[BlindSpot] {
        &self.blind_spots
    }

    /// Whether the hooks in use report every change of `fact`.
    pub fn reports(&self, fact: Fact) -> bool {
        let lacks_hook = self.blind_spots.iter().any(|spot| spot.fact == fact && spot.lacks_hook);
        !lacks_hook && self.sources.iter().any(|source| source.fact == fact)
    }

    /// The ring's descriptor, which is readable (poll, level-triggered) when a program decided to wake the reader.
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        self.ring.fd()
    }

    /// Announces to the programs what the reader does next. Returns true if the ring is not empty at that time: then the
    /// reader must drain again before it sleeps, or a wake-up may be lost.
    pub fn set_reader_state(&mut self, state: ReaderState) -> bool {
        self.control.set_reader_state(match state {
            ReaderState::Idle => control::READER_IDLE,
            ReaderState::Lingering => control::READER_LINGERING,
            ReaderState::Polling => control::READER_POLLING,
        });
        self.producer_position() != self.consumer_position()
    }

    /// Says whether records of execs have the environment of processes without a terminal, from the next exec on.
    pub fn read_all_environments(&self, on: bool) {
        self.control.set_all_environments(on);
    }

    /// Passes up to `budget` records to `handle`, in the ring's order, and hints that were raised without a record.
    /// Malformed records are counted and not passed on. `handle` returns whose the record is.
    pub fn drain(&mut self, budget: usize, mut handle: impl FnMut(Input<'_>) -> RecordOf) -> Drained {
        let urgent = self.control.take_urgent();
        let events = &mut self.events;
        let delivered_hints = &mut self.delivered_hints;
        let (records, end) = self.ring.drain(budget, |bytes| match decode(bytes) {
            Ok(input) => {
                if let Input::Hint { bits, .. } = input {
                    *delivered_hints |= bits;
                }
                count(events, handle(input), bytes);
            }
            Err(_) => count(events, RecordOf::Host, &[]),
        });
        let undelivered = self.control.hints() & !self.delivered_hints;
        if undelivered != 0 {
            self.delivered_hints |= undelivered;
            handle(Input::Hint { at: clock::boottime(), bits: undelivered });
        }
        Drained { records, urgent, caught_up: end == DrainEnd::Empty }
    }

    /// The position at which the next record will be reserved. Everything that happened before this call has a lower one.
    pub fn producer_position(&self) -> u64 {
        self.ring.producer_position()
    }

    /// The position below which every record has been passed on.
    pub fn consumer_position(&self) -> u64 {
        self.ring.consumer_position()
    }

    /// Bytes of the ring in use, and its size.
    pub fn ring_usage(&self) -> (u64, u64) {
        self.ring.usage()
    }

    /// Records lost since the start, by kind; a program that the kernel skipped counts under its kind. Takes a system call
    /// for each program; the hot path uses [`Kernel::drops_total`].
    pub fn drops_by_kind(&mut self) -> [u64; KIND_COUNT] {
        self.skipped.refresh(&self.control);
        let mut drops = self.control.drops();
        for (drop, missed) in drops.iter_mut().zip(self.skipped.by_kind()) {
            *drop += missed;
        }
        drops
    }

    /// Sum of the records lost since the start, from mapped memory, without a system call. Skipped programs are counted as of
    /// the last [`Kernel::drops_by_kind`].
    pub fn drops_total(&self) -> u64 {
        self.presumed_lost + self.control.drops().iter().chain(&self.skipped.by_kind()).sum::<u64>()
    }

    /// Counts a loss that no counter shows, in [`Kernel::drops_total`] alone.
    pub fn presume_loss(&mut self) {
        self.presumed_lost += 1;
    }

    /// Records of the host received by kind, and those that could not be decoded (index 0).
    pub fn events_by_kind(&self) -> [u64; KIND_COUNT] {
        self.events
    }

    /// Records of lower priority, by kind, that were not sent because the ring was more than half full; their fields are read
    /// again.
    pub fn throttled_by_kind(&self) -> [u64; KIND_COUNT] {
        self.control.throttled()
    }

    /// Events, by kind, for which the kernel skipped the first program and which the second reported.
    pub fn preempted_by_kind(&self) -> [u64; KIND_COUNT] {
        self.control.second()
    }

    /// How long the programs ran, as far as the kernel measures that. Takes a system call for each program where it does.
    pub fn run_times(&self) -> BpfStatus {
        self.run_times.read()
    }

    /// Clears hint bits, so that the next such event raises them again. Must be called before the pass that answers them.
    pub fn clear_hints(&mut self, bits: u64) {
        self.delivered_hints &= !bits;
        self.control.clear_hints(bits);
    }

    /// Reads every process, as it is at this time. The rows must be applied after the ring has been drained to its position
    /// after the pass; then no row is ahead of the records that explain it.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&Chosen::ALL)
    }

    /// The same of chosen processes: what it does not show may live.
    pub fn snapshot_of(&self, chosen: &Chosen) -> Snapshot {
        Snapshot::read(&self.iterator, chosen, self.drops_total(), self.rows.take())
    }

    /// Takes the memory of a snapshot back for the next one. Returns the error that ended the pass early, if there was one.
    pub fn end_pass(&self, snapshot: Snapshot) -> anyhow::Result<()> {
        let (result, rows) = snapshot.into_parts();
        self.rows.set(rows.emptied());
        result
    }

    /// Sets whether records of this tgid wake the reader.
    pub fn watch(&mut self, tgid: Tgid, on: bool) {
        // If the map is full, the record does not wake the reader, which reads it within 20 ms all the same.
        let known = if on {
            self.watched.insert(tgid.0, 1, 0).is_ok() && self.watched_tgids.insert(tgid.0)
        } else {
            let _ = self.watched.remove(&tgid.0);
            self.watched_tgids.remove(&tgid.0)
        };
        if known {
            self.control.set_watched_count(self.watched_tgids.len() as u64);
        }
    }

    /// A reader of argv and environment in processes' memory, for a thread of its own.
    pub fn memory_reader(&self) -> MemoryReader {
        MemoryReader::new(self.iterator.clone())
    }
}

/// Counts a record of the host under its kind; bytes without a kind count under 0.
fn count(events: &mut [u64; KIND_COUNT], whose: RecordOf, bytes: &[u8]) {
    if whose == RecordOf::Canary {
        return;
    }
    let kind = bytes.get(..4).and_then(|kind| kind.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if let Some(count) = events.get_mut(kind as usize) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use observer_common::record::{KIND_EXIT, KIND_FORK};

    use super::*;

    #[test]
    fn records_of_a_canary_are_not_counted() {
        let mut events = [0; KIND_COUNT];
        for whose in [RecordOf::Canary, RecordOf::Host, RecordOf::Canary] {
            count(&mut events, whose, &KIND_FORK.to_ne_bytes());
            count(&mut events, whose, &KIND_EXIT.to_ne_bytes());
        }
        count(&mut events, RecordOf::Host, &[]);
        let mut expected = [0; KIND_COUNT];
        for kind in [0, KIND_FORK as usize, KIND_EXIT as usize] {
            expected[kind] = 1;
        }
        assert_eq!(events, expected);
    }
}
