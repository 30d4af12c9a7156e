//! Freed memory.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two calls of [`give_back`] that clients cause.
const FOR_CLIENTS_EVERY: Duration = Duration::from_secs(5);

/// Returns the pages of freed memory to the kernel. Threads that allocate wait meanwhile.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: releases free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The same after the answer to a client, unless that was done a moment ago: clients may ask without pause.
pub fn give_back_after_answer() {
    static DONE_AT: Mutex<Option<Instant>> = Mutex::new(None);
    let mut done_at = DONE_AT.lock().unwrap_or_else(PoisonError::into_inner);
    if done_at.is_none_or(|at| at.elapsed() >= FOR_CLIENTS_EVERY) {
        give_back();
        *done_at = Some(Instant::now());
    }
}
