//! The rows of one pass, kept until the records that precede them have been applied.

use anyhow::Result;
use observer_core::decode;
use observer_core::{BootTime, Input};

use super::iterator::TaskIterator;
use crate::clock;

/// The rows of one pass.
pub struct Snapshot {
    began: BootTime,
    ended: BootTime,
    drops_total: u64,
    /// Rows, one after the other; `starts` has the offset of each.
    bytes: Vec<u8>,
    starts: Vec<usize>,
    result: Result<()>,
}

impl Snapshot {
    pub(super) fn read(iterator: &TaskIterator, drops_total: u64) -> Self {
        let began = clock::boottime();
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        let result = iterator.run(|row| {
            starts.push(bytes.len());
            bytes.extend_from_slice(row);
        });
        Self { began, ended: clock::boottime(), drops_total, bytes, starts, result }
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
        self.decoded().flatten().for_each(&mut handle);
    }

    /// The input that follows the rows.
    pub fn end(&self) -> Input<'static> {
        Input::PassEnd { at: self.ended, complete: self.is_complete() }
    }

    /// Whether the pass was read to its end and every row could be decoded.
    pub fn is_complete(&self) -> bool {
        self.result.is_ok() && self.decoded().all(|row| row.is_some())
    }

    /// Returns the error that ended the pass early, if there was one.
    pub fn into_result(self) -> Result<()> {
        self.result
    }

    fn decoded(&self) -> impl Iterator<Item = Option<Input<'_>>> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(&start, end)| decode(self.bytes.get(start..end)?).ok())
    }
}
