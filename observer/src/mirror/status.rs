//! The mirror's status, which the mirror's thread writes and the daemon's loop reads.

use std::sync::{Arc, Mutex, PoisonError};

use crate::api::status::MirrorStatus;

/// The status as the mirror last wrote it. The lock is held for moments.
#[derive(Clone, Debug)]
pub struct SharedStatus(Arc<Mutex<MirrorStatus>>);

impl SharedStatus {
    /// Begins with `status`.
    pub fn new(status: MirrorStatus) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    /// Replaces it.
    pub fn set(&self, status: &MirrorStatus) {
        // No code that panics runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(status);
    }

    /// A copy.
    pub fn read(&self) -> MirrorStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
