//! System calls by the kernel's 32-bit entry (`int 0x80`), which a 64-bit process may use too.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd as _;

use super::births::path;
use super::conversation::{Args, Done, text, word};

/// Numbers in the i386 table.
const CHDIR: u64 = 12;
const PIVOT_ROOT: u64 = 217;
const SETNS: u64 = 346;
const MOVE_MOUNT: u64 = 429;

const PAGE: usize = 4096;
const AT_FDCWD: u64 = libc::AT_FDCWD as u32 as u64;

/// `chdir32 DIR`.
pub fn chdir(args: Args<'_>) -> Done {
    let low = Low::new(&[text(args, 0)?])?;
    call(CHDIR, [low.at(0), 0, 0, 0, 0])
}

/// `move_mount32 FROM TO`.
pub fn move_mount(args: Args<'_>) -> Done {
    let low = Low::new(&[text(args, 0)?, text(args, 1)?])?;
    call(MOVE_MOUNT, [AT_FDCWD, low.at(0), AT_FDCWD, low.at(1), 0])
}

/// `pivots32 NEW OLD`.
pub fn pivots(args: Args<'_>) -> Done {
    let low = Low::new(&[text(args, 0)?, text(args, 1)?])?;
    call(PIVOT_ROOT, [low.at(0), low.at(1), 0, 0, 0])
}

/// `setns_mounts32 PATH`.
pub fn setns_mounts(args: Args<'_>) -> Done {
    let namespace = std::fs::File::open(path(word(args, 0)?))?;
    let fd = u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    call(SETNS, [fd, libc::CLONE_NEWNS as u64, 0, 0, 0])
}

/// Strings below 4 GiB, a page for each.
struct Low {
    start: *mut u8,
    pages: usize,
}

impl Low {
    fn new(strings: &[CString]) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a new mapping, nothing replaced.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), strings.len() * PAGE, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let low = Self { start: start.cast(), pages: strings.len() };
        for (index, string) in strings.iter().enumerate() {
            let bytes = string.as_bytes_with_nul();
            if bytes.len() > PAGE {
                return Err(io::Error::other("longer than a page"));
            }
            // SAFETY: within page `index` of the mapping.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), low.start.add(index * PAGE), bytes.len())
            };
        }
        Ok(low)
    }

    /// Address of a string.
    fn at(&self, index: usize) -> u64 {
        self.start.addr() as u64 + (index * PAGE) as u64
    }
}

impl Drop for Low {
    fn drop(&mut self) {
        // SAFETY: its own mapping.
        unsafe { libc::munmap(self.start.cast(), self.pages * PAGE) };
    }
}

fn call(number: u64, [first, second, third, fourth, fifth]: [u64; 5]) -> Done {
    let mut result = number;
    // SAFETY: what the calls above point to is memory of this process, which the kernel only reads. rbx is the compiler's
    // own: swapped in and out. r8 to r11 are lost to old kernels' 32-bit entry.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
            first = inout(reg) first => _,
            in("rcx") second, in("rdx") third, in("rsi") fourth, in("rdi") fifth,
            inout("rax") result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let result = result as u32 as i32;
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(vec![]) }
}
