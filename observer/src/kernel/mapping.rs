//! BPF maps that are memory of the daemon too.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result};

/// A shared mapping, unmapped when dropped.
pub struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is memory like any other; access goes through atomics, or through `&mut` of its owner.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes of the BPF map `fd` from `offset` on.
    pub fn new(fd: BorrowedFd<'_>, offset: usize, len: usize, writable: bool) -> Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("map a BPF map into memory");
        }
        let at = NonNull::new(at.cast()).context("map a BPF map into memory: address 0")?;
        Ok(Self { at, len })
    }

    /// The word at byte `at`.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at + 8 <= self.len && at.is_multiple_of(8));
        // SAFETY: within the mapping, aligned, and only ever accessed as whole words.
        unsafe { AtomicU64::from_ptr(self.at.as_ptr().add(at).cast()) }
    }

    /// The address of its first byte.
    pub fn address(&self) -> *mut u8 {
        self.at.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows from it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}
