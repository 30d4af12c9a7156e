//! The memory in which the kernel finds the arguments.

use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::conversation::{Done, check};
use super::overlay::memory_that_nobody_provides;

/// Bytes of the arguments' place: more than those of any puppet.
const PLACE_BYTES: usize = 1 << 16;
/// Bytes of arguments that nobody provides.
const ARGUMENT_BYTES: usize = 16;

/// Where the arguments are, once they were hidden.
static PLACE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// `struct prctl_mm_map` (include/uapi/linux/prctl.h).
#[repr(C)]
struct MemoryMap {
    /// `start_code`, `end_code`, `start_data`, `end_data`, `start_brk`, `brk`, `start_stack`, `arg_start`, `arg_end`,
    /// `env_start`, `env_end`.
    addresses: [u64; 11],
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// `hides_arguments`: moves the arguments to memory that nobody can read.
pub fn hides_arguments() -> Done {
    let arguments = std::fs::read("/proc/self/cmdline")?;
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory, large enough for what is copied; it is never unmapped.
    let place = unsafe {
        let place = libc::mmap(std::ptr::null_mut(), PLACE_BYTES, writable, flags, -1, 0);
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let count = arguments.len().min(PLACE_BYTES);
        std::ptr::copy_nonoverlapping(arguments.as_ptr(), place.cast::<u8>(), count);
        check(libc::mprotect(place, PLACE_BYTES, libc::PROT_NONE))?;
        place
    };
    PLACE.store(place, Ordering::Relaxed);
    place_arguments(place, arguments.len())
}

/// `stalls_arguments`: moves the arguments to memory that nobody provides.
pub fn stalls_arguments() -> Done {
    let (faults, page) = memory_that_nobody_provides()?;
    // Closed, it would let the readers go.
    std::mem::forget(faults);
    place_arguments(page, ARGUMENT_BYTES)
}

/// Tells the kernel that the arguments are at `place`.
fn place_arguments(place: *mut libc::c_void, count: usize) -> Done {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // The third field of proc_pid_stat(5) is the first after the name.
    let field = |number: usize| fields.get(number - 3).and_then(|it| it.parse().ok()).unwrap_or(0_u64);
    // SAFETY: no preconditions.
    let brk = unsafe { libc::sbrk(0) } as u64;
    let (start, end) = (place as u64, place as u64 + count as u64);
    let map = MemoryMap {
        addresses: [
            field(26),
            field(27),
            field(45),
            field(46),
            field(47),
            brk,
            field(28),
            start,
            end,
            field(50),
            field(51),
        ],
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    };
    // SAFETY: a valid structure of this size, which the call reads.
    check(unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0)
    })?;
    Ok(vec![])
}

/// `shows_arguments`: the hidden arguments can be read again.
pub fn shows_arguments() -> Done {
    let place = PLACE.load(Ordering::Relaxed);
    // SAFETY: the memory that was mapped for them.
    check(unsafe { libc::mprotect(place, PLACE_BYTES, libc::PROT_READ) }).map(|_| vec![])
}
