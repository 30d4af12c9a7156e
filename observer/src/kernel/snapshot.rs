//! The rows of one pass, kept until the records that precede them have been applied.

use anyhow::Result;
use observer_core::decode;
use observer_core::{BootTime, Input};

use super::chosen::Chosen;
use super::iterator::TaskIterator;
use crate::clock;

/// Bytes of rows whose memory is kept for the next pass: those of some 2,000 processes.
const ROWS_KEPT_MAX: usize = 512 << 10;

/// Rows, one after the other; `starts` has the offset of each.
#[derive(Default)]
pub struct Rows {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Rows {
    fn decoded(&self) -> impl Iterator<Item = Option<Input<'_>>> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(&start, end)| decode(self.bytes.get(start..end)?).ok())
    }

    /// Returns their memory without the rows, unless it is large.
    pub(super) fn emptied(mut self) -> Self {
        if self.bytes.capacity() > ROWS_KEPT_MAX {
            return Self::default();
        }
        self.bytes.clear();
        self.starts.clear();
        self
    }
}

/// The rows of one pass.
pub struct Snapshot {
    began: BootTime,
    ended: BootTime,
    drops_total: u64,
    rows: Rows,
    is_complete: bool,
    result: Result<()>,
}

impl Snapshot {
    /// Reads the chosen processes into the memory of `rows`, which has to be empty.
    pub(super) fn read(iterator: &TaskIterator, chosen: &Chosen, drops_total: u64, mut rows: Rows) -> Self {
        let began = clock::boottime();
        let result = iterator.run(chosen, |row| {
            rows.starts.push(rows.bytes.len());
            rows.bytes.extend_from_slice(row);
        });
        let ended = clock::boottime();
        let is_complete = result.is_ok() && rows.decoded().all(|row| row.is_some());
        Self { began, ended, drops_total, rows, is_complete, result }
    }

    /// When the pass began.
    pub fn began(&self) -> BootTime {
        self.began
    }

    /// The input that precedes the rows. It must be applied before anything that happened after it.
    pub fn begin(&self) -> Input<'static> {
        Input::PassBegin { at: self.began, drops_total: self.drops_total }
    }

    /// Calls `handle` with a `PassRow` for each process.
    pub fn rows(&self, mut handle: impl FnMut(Input<'_>)) {
        self.rows.decoded().flatten().for_each(&mut handle);
    }

    /// The input that follows the rows.
    pub fn end(&self) -> Input<'static> {
        Input::PassEnd { at: self.ended, complete: self.is_complete }
    }

    /// Whether the pass was read to its end and every row could be decoded.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the error that ended the pass early, if there was one.
    pub fn into_result(self) -> Result<()> {
        self.result
    }

    /// The same, and the rows.
    pub(super) fn into_parts(self) -> (Result<()>, Rows) {
        (self.result, self.rows)
    }
}
