//! What `status` says of the mirror.

use std::sync::{Arc, Mutex, PoisonError};

use crate::api::status::MirrorStatus;

/// Written by the mirror, read by the loop; the lock is held for moments.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<MirrorStatus>>);

impl Shared {
    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut MirrorStatus)) {
        // No code that panics runs under it.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A copy.
    pub fn read(&self) -> MirrorStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
