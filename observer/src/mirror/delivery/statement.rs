//! One statement of a batch.

use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use crate::mirror::items::BatchItem;

/// One statement of a batch.
#[derive(Clone, Debug)]
pub struct BatchStatement {
    /// The stream.
    pub stream_id: Uuid,
    /// Where the replication cursor has to be; the statement moves it to the last entry's number.
    pub after: u64,
    /// Whether the database has everything with this statement.
    pub caught_up: bool,
    /// Home whose row of the state could not be written, and is marked as not certain.
    pub doubtful: Option<Vec<u8>>,
    /// The batch to which the entries belong.
    pub(super) batch: Arc<[BatchItem]>,
    /// Their places in the batch.
    pub(super) part: Range<usize>,
}

impl BatchStatement {
    /// The entries, at least one.
    pub fn items(&self) -> &[BatchItem] {
        self.batch.get(self.part.clone()).unwrap_or_default()
    }

    /// Number of the last entry.
    pub fn last_seq(&self) -> u64 {
        self.items().last().map_or(self.after, |item| item.seq)
    }
}
