//! The kernel adapter: loads and attaches the programs, drains the ring, runs passes of the task iterator.
//! Knows nothing of the map, the socket or the configuration file.
#![allow(dead_code, clippy::unused_self, missing_docs)]

use std::os::fd::BorrowedFd;

use anyhow::{Result, bail};
use observer_common::record::KIND_COUNT;
use observer_core::{BootTime, Input, ProcessKey, Tgid};

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring, bytes; a power of two (checked by [`Kernel::start`]).
    pub ring_bytes: u32,
    /// Pass the programs' own diagnostics (aya-log) on to standard error.
    pub program_log: bool,
}

/// One fact that is taken from the kernel, and what it is taken from on this kernel.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The fact: "birth", "cwd", "uids"…
    pub fact: &'static str,
    /// Where it comes from: "tp_btf/sched_process_fork", "tracepoint/syscalls/sys_exit_chdir", "iter/task"…
    pub source: String,
    /// Why this and not a better one; empty for the best.
    pub why: String,
}

/// Something that the hooks in use cannot see.
#[derive(Clone, Debug)]
pub struct BlindSpot {
    /// Field or fact concerned: its value carries `as_of` and is read again when asked.
    pub fact: &'static str,
    /// What is not seen, in a sentence.
    pub what: String,
}

/// What [`Kernel::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed over.
    pub records: usize,
    /// At least one of them concerned a terminal or a watched process.
    pub urgent: bool,
    /// The ring was empty at the end (false: the budget was used up).
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

/// Loaded and attached programs.
pub struct Kernel {}

impl Kernel {
    /// Loads the programs with this kernel's offsets, attaches, runs the self-test. From here on records queue
    /// in the ring. Errors are sentences that end with the next step.
    pub fn start(_options: &Options) -> Result<Self> {
        bail!("not built")
    }

    /// What is in use for what.
    pub fn hooks(&self) -> &[Hook] {
        &[]
    }

    /// What stays unseen.
    pub fn blind_spots(&self) -> &[BlindSpot] {
        &[]
    }

    /// Readable (poll, level-triggered) when the ring has records and the programs decided to wake.
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        unimplemented_fd()
    }

    /// Tells the programs what the reader does next. Returns true if the ring is not empty at that moment: drain
    /// again before sleeping, or a wake-up may be lost.
    pub fn set_reader_state(&mut self, _state: ReaderState) -> bool {
        false
    }

    /// Hands up to `budget` records to `handle`, in ring order. Malformed ones are counted, never handed over.
    pub fn drain(&mut self, _budget: usize, _handle: impl FnMut(Input<'_>)) -> Drained {
        Drained::default()
    }

    /// Where the next record will be reserved. Everything that happened before this call has a position below.
    pub fn producer_position(&self) -> u64 {
        0
    }

    /// Everything below has been handed over.
    pub fn consumer_position(&self) -> u64 {
        0
    }

    /// Bytes of the ring in use now, and its size.
    pub fn ring_usage(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Records lost since the start, by kind; programs skipped by the kernel count under their kind. A system call
    /// a program: not for the hot path; [`Kernel::drops_total`] is.
    pub fn drops_by_kind(&mut self) -> [u64; KIND_COUNT] {
        [0; KIND_COUNT]
    }

    /// Sum of the records lost since the start, from mapped memory: costs no system call.
    pub fn drops_total(&self) -> u64 {
        0
    }

    /// Records received by kind, and those that did not decode (index 0).
    pub fn events_by_kind(&self) -> [u64; KIND_COUNT] {
        [0; KIND_COUNT]
    }

    /// Low-priority records replaced by a re-read because the ring was above half full, by kind.
    pub fn throttled_by_kind(&self) -> [u64; KIND_COUNT] {
        [0; KIND_COUNT]
    }

    /// Clears hint bits, so that the next such event is told again. Call before the pass that answers them.
    pub fn clear_hints(&mut self, _bits: u64) {}

    /// One pass of the task iterator: `PassBegin`, a `PassRow` each, `PassEnd`.
    pub fn pass(&mut self, _handle: impl FnMut(Input<'_>)) -> Result<()> {
        Ok(())
    }

    /// Records of this tgid wake the reader from now on, or no longer.
    pub fn watch(&mut self, _tgid: Tgid, _on: bool) {}

    /// argv, and environment if `env`, out of a process's memory, verified against the kernel afterwards. Blocks
    /// for as long as the process's memory does: call it on a thread of its own, hence no `&self`.
    pub fn memory_reader(&self) -> MemoryReader {
        MemoryReader {}
    }
}

/// Reads argv and environment of processes that exec'd before the programs were attached.
#[derive(Clone)]
pub struct MemoryReader {}

/// What [`MemoryReader::read`] found.
pub struct Memory {
    pub at: BootTime,
    pub exec_id: u32,
    pub argv: Vec<u8>,
    pub argv_truncated: bool,
    pub env: Vec<u8>,
    pub env_truncated: bool,
}

impl MemoryReader {
    /// `None`: gone, exec'd meanwhile, or not readable with these rights.
    pub fn read(&self, _key: ProcessKey, _env: bool) -> Option<Memory> {
        None
    }
}

/// A single pass without attaching anything: what `list`, `ps` and `audit` show without a daemon.
pub fn pass_once(_handle: impl FnMut(Input<'_>)) -> Result<()> {
    bail!("not built")
}

/// One check of `observer doctor`.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was checked: "BTF", "ring buffer", "tp_btf/sched_process_exit"…
    pub name: String,
    /// Fine, works with a loss, or fails.
    pub verdict: Verdict,
    /// What was found, and for a verdict other than `Fine` what to do.
    pub detail: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As wanted.
    Fine,
    /// observer runs, something stays blind or slower.
    Limited,
    /// observer cannot run.
    Fails,
}

/// Every check that concerns the kernel, in the order in which they matter; tries the real programs.
pub fn doctor() -> Vec<Check> {
    Vec::new()
}

/// The inode number of the mount namespace of the host's first process, as the iterator shows it, 0 if it does not;
/// and this boot's id.
pub fn host_mnt_ns() -> u32 {
    0
}

fn unimplemented_fd() -> BorrowedFd<'static> {
    // SAFETY: standard input's descriptor number is never closed by this program.
    unsafe { BorrowedFd::borrow_raw(0) }
}
