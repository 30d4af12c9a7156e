//! Bounds of what a record carries. Each is documented for operators in docs/limits.md.

/// Bytes of argv that an exec record carries.
pub const ARGV_MAX: usize = 4096;
/// Bytes of environment that an exec record carries (processes with a terminal only).
pub const ENV_MAX: usize = 8192;
/// Bytes of one path (cwd, exe, cgroup).
pub const PATH_MAX: usize = 4096;
/// Bytes of the file name given to exec.
pub const FILENAME_MAX: usize = 1024;
/// Components of one path that the walk visits, mount crossings included.
pub const PATH_STEPS_MAX: usize = 256;
/// Length of `task->comm`, terminating NUL included.
pub const COMM_LEN: usize = 16;
/// Bytes kept of `tty->name`, terminating NUL included.
pub const TTY_NAME_LEN: usize = 16;
/// Records of lower priority that the processes of one user may send at once.
pub const RECORDS_BURST_MAX: u64 = 4096;
/// They may send another one after this long, ns: 2,000 a second.
pub const RECORD_EVERY_NS: u64 = 500_000;
/// For this long after a record of a working directory was left out, ns, each exec tells the directory.
pub const CWD_LEFT_OUT_NS: u64 = 1_000_000_000;
/// Users whose records are counted.
pub const BUDGETS_MAX: u32 = 1024;
/// The ring's default size. A power of two; holds about 20,000 births and deaths.
pub const RING_BYTES_DEFAULT: u32 = 8 << 20;
/// The smallest ring that the daemon accepts: room for two of the largest records.
pub const RING_BYTES_MIN: u32 = 64 << 10;
/// The largest ring that the daemon accepts.
pub const RING_BYTES_MAX: u32 = 512 << 20;

/// Whether a ring may have this size: a power of two (the kernel's condition, `ringbuf_map_alloc` in
/// kernel/bpf/ringbuf.c), from [`RING_BYTES_MIN`] to [`RING_BYTES_MAX`].
pub const fn is_ring_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && RING_BYTES_MIN <= bytes && bytes <= RING_BYTES_MAX
}
