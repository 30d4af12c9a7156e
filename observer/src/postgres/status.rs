//! What `status` says of the mirror.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// `mirror` of `status --json` (docs/json.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `off`, `waiting` (for the journal), `connecting`, `retrying`, `stopped` (a person has to act), `catching_up`, `ok`.
    pub state: String,
    /// Age of the oldest committed entry that the database lacks; 0: none; null: no mirror.
    pub lag_ms: Option<u64>,
    /// Committed entries that the database lacks, as far as is known.
    pub pending: u64,
    /// Failed attempts since the last that succeeded.
    pub failures: u64,
    /// What the last of them met; ends with the next step where there is one.
    pub last_error: Option<String>,
    /// Which writer of this host the daemon is, by number; null: none now.
    pub generation: Option<i64>,
    /// Who this machine is in the database.
    pub host_id: Option<String>,
    /// Host and port of the database.
    pub host: Option<String>,
    /// Entries and rows that the database refused, since the daemon's start.
    pub rejected: u64,
    /// Hints that could not be given, since the daemon's start.
    pub notify_failures: u64,
    /// Connections made, since the daemon's start.
    pub connections: u64,
}

impl Status {
    /// Of a daemon without a mirror; `why` if one was wanted.
    pub fn off(why: Option<&str>) -> Self {
        Self { state: "off".into(), last_error: why.map(Into::into), ..Self::default() }
    }
}

/// Written by the mirror, read by the loop; the lock is held for moments.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Status>>);

impl Shared {
    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        // No code that panics runs under it.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A copy.
    pub fn read(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
