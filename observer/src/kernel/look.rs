//! The task iterator alone, with nothing attached.

use super::chosen::Chosen;
use super::iterator::TaskIterator;
use super::memory::MemoryReader;
use super::snapshot::{Rows, Snapshot};

/// The task iterator alone, with nothing attached: what `list`, `ps` and `audit` use without a daemon.
pub struct Look {
    pub(super) iterator: TaskIterator,
}

impl Look {
    /// Reads every process, as it is at this time.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::read(&self.iterator, &Chosen::ALL, 0, Rows::default())
    }

    /// A reader of argv and environment in processes' memory, for a thread of its own.
    pub fn memory_reader(&self) -> MemoryReader {
        MemoryReader::new(self.iterator.clone())
    }
}
