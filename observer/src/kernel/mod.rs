//! The kernel adapter: loads and attaches the programs, drains the ring, runs passes of the task iterator.
//! Knows nothing of the map, the socket or the configuration file.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};
use observer_common::control;
use observer_common::record::KIND_COUNT;
use observer_core::decode;
use observer_core::{Input, Tgid};

mod attach;
mod bpf;
mod btf;
mod contract;
mod doctor;
mod load;
mod memory;
mod pass;
mod program_log;
mod rights;
mod ring;
mod selftest;
mod shape;
mod skipped;
mod snapshot;
mod sys;

pub use attach::{BlindSpot, FactSource, HookChoice};
pub use doctor::{Check, Verdict, doctor};
pub use memory::{Memory, MemoryReader};
pub use rights::drop_unneeded as drop_rights;
pub use snapshot::Snapshot;

use self::attach::{Attached, Kept};
use self::load::Loaded;
use self::pass::Passes;
use self::ring::{Control, End, Ring};
use self::skipped::Skipped;
use crate::clock;

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring, bytes; a power of two (checked by [`Kernel::start`]).
    pub ring_bytes: u32,
    /// Pass the programs' own diagnostics (aya-log) on to standard error.
    pub program_log: bool,
    /// Type information to take the kernel's layout from, in place of its own.
    pub btf: Option<PathBuf>,
    /// Where to take facts from that more than one hook can tell.
    pub hooks: HookChoice,
}

/// What [`Kernel::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed over.
    pub records: usize,
    /// At least one of them concerned a terminal or a watched process.
    pub urgent: bool,
    /// The ring was empty at the end (false: the budget was used up, or a record is being written).
    pub caught_up: bool,
}

/// What the reader is about to do; tells the programs when to wake it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderState {
    /// Sleeps without a timer: any record wakes.
    Idle,
    /// Sleeps at most 20 ms: records of terminals and watched processes wake.
    Lingering,
    /// Drains, or sleeps at most 2 ms: nothing wakes.
    Polling,
}

/// Loaded and attached programs. Dropping it detaches them.
pub struct Kernel {
    ring: Ring,
    control: Control,
    watched: HashMap<MapData, u32, u8>,
    watched_tgids: BTreeSet<u32>,
    passes: Passes,
    skipped: Skipped,
    sources: Vec<FactSource>,
    blind_spots: Vec<BlindSpot>,
    /// Records by kind; index 0: undecodable.
    events: [u64; KIND_COUNT],
    /// Hint bits that were handed over and not cleared since.
    told: u64,
    /// Holds the programs that are attached to exits of system calls.
    _ebpf: Ebpf,
    /// Holds those that are attached to tracepoints and functions.
    _links: Kept,
}

impl Kernel {
    /// Loads the programs with this kernel's offsets, attaches, runs the self-test. From here on records queue
    /// in the ring. Errors are sentences that end with the next step.
    pub fn start(options: &Options) -> Result<Self> {
        let mut loaded = load::load(options)?;
        let ebpf = &mut loaded.ebpf;
        let ring_map = ebpf.take_map("RING").context("find the ring in the object")?;
        let control_map = ebpf.take_map("CONTROL").context("find the control map in the object")?;
        let (Map::RingBuf(ring_data), Map::Array(control_data)) = (&ring_map, &control_map) else {
            bail!("maps of the object are of unexpected types: rebuild with `cargo xtask build`");
        };
        let ring_fd = ring_data.fd().as_fd().try_clone_to_owned().context("keep the ring's descriptor")?;
        let ring = Ring::map(ring_fd, options.ring_bytes)?;
        let control = Control::map(control_data.fd().as_fd())?;
        let watched =
            HashMap::try_from(ebpf.take_map("WATCHED").context("find the watched map in the object")?)?;
        let passes = Passes::new(ebpf)?;
        if options.program_log {
            program_log::start(ebpf)?;
        }
        control.set_reader_state(control::READER_POLLING);
        // Before `ring_map` and `control_map` close: programs name maps by these descriptors until they are loaded.
        let Attached { sources, blind_spots, links } = attach::attach(&mut loaded, options.hooks, &control)?;
        let Loaded { ebpf, .. } = loaded;
        crate::heap::give_back();
        let skipped = Skipped::new(&ebpf);
        let mut kernel = Self {
            ring,
            control,
            watched,
            watched_tgids: BTreeSet::new(),
            passes,
            skipped,
            sources,
            blind_spots,
            events: [0; KIND_COUNT],
            told: 0,
            _ebpf: ebpf,
            _links: links.keep(),
        };
        selftest::run(&mut kernel)?;
        // What the self-test raised has been handed over to it; the first pass reads everything anyway.
        kernel.clear_hints(u64::MAX);
        Ok(kernel)
    }

    /// The source of each fact.
    pub fn sources(&self) -> &[FactSource] {
        &self.sources
    }

    /// What stays unseen.
    pub fn blind_spots(&self) -> &[BlindSpot] {
        &self.blind_spots
    }

    /// Readable (poll, level-triggered) when the ring has records and the programs decided to wake.
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        self.ring.fd()
    }

    /// Tells the programs what the reader does next. Returns true if the ring is not empty at that moment: drain
    /// again before sleeping, or a wake-up may be lost.
    pub fn set_reader_state(&mut self, state: ReaderState) -> bool {
        self.control.set_reader_state(match state {
            ReaderState::Idle => control::READER_IDLE,
            ReaderState::Lingering => control::READER_LINGERING,
            ReaderState::Polling => control::READER_POLLING,
        });
        self.producer_position() != self.consumer_position()
    }

    /// Hands up to `budget` records to `handle`, in ring order, and hints that were raised without a record.
    /// Malformed records are counted, never handed over.
    pub fn drain(&mut self, budget: usize, mut handle: impl FnMut(Input<'_>)) -> Drained {
        let urgent = self.control.take_urgent();
        let events = &mut self.events;
        let told = &mut self.told;
        let (records, end) = self.ring.drain(budget, |bytes| match decode(bytes) {
            Ok(input) => {
                count(events, bytes);
                if let Input::Hint { bits, .. } = input {
                    *told |= bits;
                }
                handle(input);
            }
            Err(_) => count(events, &[]),
        });
        let untold = self.control.hints() & !self.told;
        if untold != 0 {
            self.told |= untold;
            handle(Input::Hint { at: clock::boottime(), bits: untold });
        }
        Drained { records, urgent, caught_up: end == End::Empty }
    }

    /// Where the next record will be reserved. Everything that happened before this call has a position below.
    pub fn producer_position(&self) -> u64 {
        self.ring.producer_position()
    }

    /// Everything below has been handed over.
    pub fn consumer_position(&self) -> u64 {
        self.ring.consumer_position()
    }

    /// Bytes of the ring in use now, and its size.
    pub fn ring_usage(&self) -> (u64, u64) {
        self.ring.usage()
    }

    /// Records lost since the start, by kind; programs skipped by the kernel count under their kind. A system call
    /// a program: not for the hot path; [`Kernel::drops_total`] is.
    pub fn drops_by_kind(&mut self) -> [u64; KIND_COUNT] {
        self.skipped.refresh(&self.control);
        let mut drops = self.control.drops();
        for (drop, missed) in drops.iter_mut().zip(self.skipped.by_kind()) {
            *drop += missed;
        }
        drops
    }

    /// Sum of the records lost since the start, from mapped memory: costs no system call. Skipped programs as of
    /// the last [`Kernel::drops_by_kind`].
    pub fn drops_total(&self) -> u64 {
        self.control.drops().iter().chain(&self.skipped.by_kind()).sum()
    }

    /// Records received by kind, and those that did not decode (index 0).
    pub fn events_by_kind(&self) -> [u64; KIND_COUNT] {
        self.events
    }

    /// Low-priority records replaced by a re-read because the ring was above half full, by kind.
    pub fn throttled_by_kind(&self) -> [u64; KIND_COUNT] {
        self.control.throttled()
    }

    /// Events that the kernel skipped a program for and that a second program told, by kind.
    pub fn preempted_by_kind(&self) -> [u64; KIND_COUNT] {
        self.control.second()
    }

    /// Clears hint bits, so that the next such event is told again. Call before the pass that answers them.
    pub fn clear_hints(&mut self, bits: u64) {
        self.told &= !bits;
        self.control.clear_hints(bits);
    }

    /// Reads every process, now. What was read is to be handed on after the ring has been drained to where it stood
    /// afterwards: then no row is ahead of the records that explain it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::read(&self.passes, self.drops_total())
    }

    /// Records of this tgid wake the reader from now on, or no longer.
    pub fn watch(&mut self, tgid: Tgid, on: bool) {
        // A full map costs promptness only: the record comes within 20 ms all the same.
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

    /// argv and environment out of processes' memory: for a thread of its own.
    pub fn memory_reader(&self) -> MemoryReader {
        MemoryReader::new(self.passes.clone())
    }
}

/// The task iterator alone, with nothing attached: what `list`, `ps` and `audit` show without a daemon.
pub struct Look {
    passes: Passes,
}

impl Look {
    /// Loads it and runs the iterator's half of the self-test; the kernel's layout as `btf` says, or as the kernel itself does.
    pub fn load(btf: Option<&Path>) -> Result<Self> {
        let options = Options {
            ring_bytes: observer_common::limits::RING_BYTES_MIN,
            program_log: false,
            btf: btf.map(Path::to_owned),
            hooks: HookChoice::Auto,
        };
        let Loaded { ebpf, .. } = load::load(&options)?;
        crate::heap::give_back();
        let look = Self { passes: Passes::new(&ebpf)? };
        selftest::run_rows(&look)?;
        Ok(look)
    }

    /// Reads every process, now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::read(&self.passes, 0)
    }

    /// argv and environment out of processes' memory: for a thread of its own.
    pub fn memory_reader(&self) -> MemoryReader {
        MemoryReader::new(self.passes.clone())
    }
}

/// Counts a record under its kind; bytes without one under 0.
fn count(events: &mut [u64; KIND_COUNT], bytes: &[u8]) {
    let kind = bytes.get(..4).and_then(|kind| kind.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if let Some(count) = events.get_mut(kind as usize) {
        *count += 1;
    }
}
