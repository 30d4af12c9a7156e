//! Memory that was freed.

/// Hands the pages of freed memory back to the kernel, wherever they are. Threads that allocate wait meanwhile.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: releases free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
