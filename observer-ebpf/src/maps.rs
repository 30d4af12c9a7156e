//! Every map, its size and why.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use observer_common::control;
use observer_common::limits::{ENV_MAX, PATH_MAX};
use observer_common::offsets::Offsets;
use observer_common::record::{Cgroup, Cwd, Exec, Row};

use crate::path::Walk;
use crate::turn::TOLD_SLOTS;

/// Records on their way to the daemon. One for all CPUs, so that order of reservation is one order. The daemon
/// sets its size.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(observer_common::limits::RING_BYTES_DEFAULT, 0);

/// Words that both sides read and write; memory-mapped by the daemon.
#[map]
pub static CONTROL: Array<u64> = Array::with_max_entries(control::WORDS, BPF_F_MMAPABLE);

/// tgids whose records wake the reader though they have no terminal: primaries of sessions.
#[map]
pub static WATCHED: HashMap<u32, u8> = HashMap::with_max_entries(8192, 0);

/// A variable-length record before it is sent: `body` and `tail` are contiguous. One map per program, because a
/// program can be interrupted by another on the same CPU, but not by itself.
#[repr(C)]
pub struct Scratch<B, const TAIL: usize> {
    /// Not 0 while a program that can be preempted uses it.
    pub busy: u64,
    /// State of the path walk: in a map value, because the verifier then forgets what it knew of it.
    pub walk: Walk,
    /// The fixed part.
    pub body: B,
    /// The sections.
    pub tail: [u8; TAIL],
}

/// Bytes of a tail that a masked position can reach, plus the largest section after it.
pub const TAIL_MASK: u64 = 0x3fff;
/// Tail of an exec record; its last section is the environment.
pub const EXEC_TAIL: usize = TAIL_MASK as usize + 1 + ENV_MAX;
/// Tail of a record whose sections are paths; slack for one component beyond the mask.
pub const PATHS_TAIL: usize = TAIL_MASK as usize + 1 + PATH_MAX;

const BPF_F_MMAPABLE: u32 = 1 << 10;

#[map]
pub static EXEC_SCRATCH: PerCpuArray<Scratch<Exec, EXEC_TAIL>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static CWD_SCRATCH: PerCpuArray<Scratch<Cwd, PATHS_TAIL>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static CGROUP_SCRATCH: PerCpuArray<Scratch<Cgroup, PATHS_TAIL>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static ROW_SCRATCH: PerCpuArray<Scratch<Row, PATHS_TAIL>> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static EXEC_SECOND_SCRATCH: PerCpuArray<Scratch<Exec, EXEC_TAIL>> = PerCpuArray::with_max_entries(1, 0);

/// Numbers of the vital events that first programs told. One for all CPUs: between its two programs a task may move.
#[map]
pub static TOLD: Array<u64> = Array::with_max_entries(TOLD_SLOTS, 0);

/// Where this kernel keeps what the programs read; set by the daemon before loading, constants to the verifier.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;

const _: () = assert!(core::mem::size_of::<Scratch<Exec, EXEC_TAIL>>() <= 32 << 10);
