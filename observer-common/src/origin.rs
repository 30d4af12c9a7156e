//! Who sent a signal: [`SignalRecord::origin`](crate::record::SignalRecord::origin); where the address
//! of a fault is: [`SignalRecord::address`](crate::record::SignalRecord::address); and what had no
//! memory left: [`OomRecord::scope`](crate::record::OomRecord::scope).

/// The calling process sent the signal by a system call.
pub const SIGNAL_BY_CALLER: u32 = 0;
/// The kernel sent it, and `code` says why: a fault, a timer.
pub const SIGNAL_BY_KERNEL_CODE: u32 = 1;
/// The kernel sent it because of something that the calling process did (`SEND_SIG_NOINFO`): a write
/// to a closed pipe, or to `cgroup.kill`.
pub const SIGNAL_BY_KERNEL_FOR_CALLER: u32 = 2;
/// The kernel sent it by itself (`SEND_SIG_PRIV`): lack of memory, a hang-up, a key, a limit.
pub const SIGNAL_BY_KERNEL: u32 = 3;
/// The kernel sent SIGKILL by itself, to the whole process, while the calling process, which is another
/// one, ended: it was the first process of a pid namespace.
pub const SIGNAL_BY_KERNEL_FOR_ENDING: u32 = 4;
/// The kernel sent SIGKILL by itself, to one thread, while the calling process, which is another one,
/// ended: it traced the target with PTRACE_O_EXITKILL.
pub const SIGNAL_BY_KERNEL_FOR_TRACEE: u32 = 5;
/// The kernel sent it because the calling thread ended, which was the parent of another process that
/// had asked for it (PR_SET_PDEATHSIG).
pub const SIGNAL_BY_KERNEL_FOR_CHILD: u32 = 6;

/// The kernel sent SIGKILL by itself, to the whole process, which was calling it and has used as much CPU
/// time as its hard limit allows (`RLIMIT_CPU`).
pub const SIGNAL_BY_KERNEL_FOR_LIMIT: u32 = 7;

/// There is no address, or it is not known.
pub const ADDRESS_UNKNOWN: u32 = 0;
/// In the first 64 KiB, where nothing is mapped unless the administrator allows it
/// (`vm.mmap_min_addr`): a null pointer, with the offset of a member.
pub const ADDRESS_NULL_PAGE: u32 = 1;
/// Elsewhere in the part of the address space that processes have.
pub const ADDRESS_USER: u32 = 2;
/// In the part of the kernel.
pub const ADDRESS_KERNEL: u32 = 3;
/// In neither.
pub const ADDRESS_NON_CANONICAL: u32 = 4;

/// It is not known what had no memory left.
pub const OOM_SCOPE_UNKNOWN: u32 = 0;
/// No cgroup was at its limit: it was the host, or the memory nodes that the calling process may use.
pub const OOM_SCOPE_HOST: u32 = 1;
/// A cgroup was at its limit, whose path is in the record.
pub const OOM_SCOPE_CGROUP: u32 = 2;
