//! Every map, its size, and the reason for the size.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use observer_common::chosen::CHOSEN_WORDS;
use observer_common::control;
use observer_common::limits::{BUDGETS_MAX, ENV_MAX, PATH_MAX};
use observer_common::offsets::Offsets;
use observer_common::record::{CgroupRecord, CwdRecord, ExecRecord, OomRecord, RowRecord};

/// Records on their way to the daemon. All CPUs share one ring, so that the order of reservation is one order. The daemon
/// sets its size.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(observer_common::limits::RING_BYTES_DEFAULT, 0);

/// Words that both sides read and write; the daemon maps them into its memory.
#[map]
pub static CONTROL: Array<u64> = Array::with_max_entries(control::WORDS, BPF_F_MMAPABLE);

/// tgids whose records wake the reader even if they have no terminal: primaries of sessions.
#[map]
pub static WATCHED: HashMap<u32, u8> = HashMap::with_max_entries(8192, 0);

/// The processes that the task iterator shows; the daemon maps it into its memory, and sets it before each read.
#[map]
pub static CHOSEN: Array<u64> = Array::with_max_entries(CHOSEN_WORDS, BPF_F_MMAPABLE);

/// What a user may still send (`budget`).
#[repr(C)]
pub struct Budget {
    /// Records.
    pub left: u64,
    /// Boot time since when none was added, ns.
    pub since: u64,
}

/// The budget of each user, by uid. Users whose processes sent nothing for the longest time make room, and begin anew.
#[map]
pub static BUDGETS: LruHashMap<u32, Budget> = LruHashMap::with_max_entries(BUDGETS_MAX, 0);

/// State of a path walk (`path`). It stands in a map value, so that the verifier forgets what it knew of each field.
#[repr(C)]
pub struct Walk {
    /// Bytes of the tail in use.
    pub pos: u64,
    /// Where the section in progress began.
    pub start: u64,
    /// `struct dentry` or `struct kernfs_node` of this step.
    pub node: u64,
    /// `struct mount` of this step.
    pub mount: u64,
    /// Root dentry of that mount.
    pub root: u64,
    /// `struct mnt_namespace` whose root the walk should reach.
    pub namespace: u64,
    /// `path_flag` bits.
    pub flags: u64,
    /// Digest of every link that the walk followed.
    pub digest: u64,
    /// 1 during the second pass over the same path, which copies no names.
    pub again: u64,
}

/// A variable-length record before it is sent: `body` and `tail` are contiguous. Each program has a map of its own,
/// because a program can be interrupted by another on the same CPU, but not by itself.
#[repr(C)]
pub struct Scratch<B, const TAIL: usize> {
    /// Not 0 while a program that can be preempted uses the scratch.
    pub busy: u64,
    /// State of the path walk.
    pub walk: Walk,
    /// The fixed part.
    pub body: B,
    /// The sections.
    pub tail: [u8; TAIL],
}

/// Mask of a position within a tail. Every tail has room for the largest section after the masked position.
pub const TAIL_MASK: u64 = 0x3fff;
/// Tail of an exec record; its last section is the environment.
pub const EXEC_TAIL: usize = TAIL_MASK as usize + 1 + ENV_MAX;
/// Tail of a record whose sections are paths.
pub const PATHS_TAIL: usize = TAIL_MASK as usize + 1 + PATH_MAX;

/// `BPF_F_MMAPABLE`, include/uapi/linux/bpf.h.
const BPF_F_MMAPABLE: u32 = 1 << 10;

#[map]
pub static EXEC_SCRATCH: PerCpuArray<Scratch<ExecRecord, EXEC_TAIL>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static CWD_SCRATCH: PerCpuArray<Scratch<CwdRecord, PATHS_TAIL>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static CGROUP_SCRATCH: PerCpuArray<Scratch<CgroupRecord, PATHS_TAIL>> =
    PerCpuArray::with_max_entries(1, 0);
#[map]
pub static ROW_SCRATCH: PerCpuArray<Scratch<RowRecord, PATHS_TAIL>> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static EXEC_SECOND_SCRATCH: PerCpuArray<Scratch<ExecRecord, EXEC_TAIL>> =
    PerCpuArray::with_max_entries(1, 0);

/// For the marks of victims of lack of memory. The kernel makes them within one thread at a time, which may move to another CPU
/// between what it does first and the mark (`hooks::oom`); so it is one for all CPUs.
#[map]
pub static OOM_SCRATCH: Array<Scratch<OomRecord, PATHS_TAIL>> = Array::with_max_entries(1, 0);

/// For the directory of an exec.
#[map]
pub static EXEC_CWD_SCRATCH: PerCpuArray<Scratch<CwdRecord, PATHS_TAIL>> =
    PerCpuArray::with_max_entries(1, 0);
#[map]
pub static EXEC_SECOND_CWD_SCRATCH: PerCpuArray<Scratch<CwdRecord, PATHS_TAIL>> =
    PerCpuArray::with_max_entries(1, 0);

/// Slots of [`REPORTED`]: more than there are tasks between their first and their second program at any time.
pub const REPORTED_SLOTS: u32 = 512;

/// Numbers of the vital events that first programs reported (`preemption`). All CPUs share the slots, because a task can
/// move to another CPU between its two programs.
#[map]
pub static REPORTED: Array<u64> = Array::with_max_entries(REPORTED_SLOTS, 0);

/// Where this kernel keeps what the programs read; the daemon sets it before loading, and the verifier treats it as
/// constants.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;

const _: () = assert!(core::mem::size_of::<Scratch<ExecRecord, EXEC_TAIL>>() <= 32 << 10);
