//! Freed memory.

/// Returns the pages of freed memory to the kernel. Threads that allocate wait meanwhile.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: releases free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
