//! One pass of the task iterator, kept until the records that it overtook have been heard.

use anyhow::Result;
use observer_core::decode;
use observer_core::{BootTime, Input};

use super::pass::Passes;
use crate::clock;

/// What one pass read.
pub struct Snapshot {
    began: BootTime,
    ended: BootTime,
    drops_total: u64,
    /// Rows, one after the other; each begins at an offset of `starts`.
    bytes: Vec<u8>,
    starts: Vec<usize>,
    result: Result<()>,
}

impl Snapshot {
    pub(super) fn read(passes: &Passes, drops_total: u64) -> Self {
        let began = clock::boottime();
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        let result = passes.run(|row| {
            starts.push(bytes.len());
            bytes.extend_from_slice(row);
        });
        Self { began, ended: clock::boottime(), drops_total, bytes, starts, result }
    }

    /// When it began.
    pub fn began(&self) -> BootTime {
        self.began
    }

    /// To be heard before anything that happened since.
    pub fn begin(&self) -> Input<'static> {
        Input::PassBegin { at: self.began, drops_total: self.drops_total }
    }

    /// A `PassRow` for each process.
    pub fn rows(&self, mut handle: impl FnMut(Input<'_>)) {
        self.decoded().flatten().for_each(&mut handle);
    }

    /// To be heard after the rows.
    pub fn end(&self) -> Input<'static> {
        Input::PassEnd { at: self.ended, complete: self.is_complete() }
    }

    /// Whether it shows every process.
    pub fn is_complete(&self) -> bool {
        self.result.is_ok() && self.decoded().all(|row| row.is_some())
    }

    /// Whether the iterator could be read to its end.
    pub fn into_result(self) -> Result<()> {
        self.result
    }

    fn decoded(&self) -> impl Iterator<Item = Option<Input<'_>>> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(&start, end)| decode(self.bytes.get(start..end)?).ok())
    }
}
