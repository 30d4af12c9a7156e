//! The task iterator. One pass reads every process and gives a row for each.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::Iter;
use observer_common::record::RecordHeader;

use super::bpf;

/// Size of the buffer. The kernel returns whole rows, at most 32 KiB a read (`bpf_seq_read`, kernel/bpf/bpf_iter.c).
const READ_BYTES: usize = 64 << 10;

/// The loaded iterator. It runs one pass at a time, because the program makes rows in one scratch for each CPU.
#[derive(Clone)]
pub struct TaskIterator(Arc<Mutex<OwnedFd>>);

impl TaskIterator {
    /// Links the iterator of the loaded object.
    pub fn new(ebpf: &Ebpf) -> Result<Self> {
        let program: &Iter = ebpf
            .program("iter_task")
            .context("find program iter_task in the object: rebuild with `cargo xtask build`")?
            .try_into()?;
        let link = bpf::link_iterator(program.fd()?.as_fd()).context("create the task iterator")?;
        Ok(Self(Arc::new(Mutex::new(link))))
    }

    /// Runs one pass; calls `handle` with the bytes of each row.
    pub fn run(&self, mut handle: impl FnMut(&[u8])) -> Result<()> {
        let link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::from(bpf::open_iterator(link.as_fd()).context("open the task iterator")?);
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        loop {
            let free = buffer.get_mut(filled..).unwrap_or_default();
            let read = match file.read(free) {
                Ok(read) => read,
                // The kernel returns EAGAIN after a million threads without a row (`MAX_ITER_OBJECTS`), and EINTR at a signal.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(error).context("read the task iterator"),
            };
            if read == 0 {
                ensure!(filled == 0, "the task iterator ended within a row");
                return Ok(());
            }
            filled += read;
            let used = rows(buffer.get(..filled).unwrap_or_default(), &mut handle)?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
        }
    }
}

/// Calls `handle` with every whole row; returns how many bytes the rows take.
fn rows(mut bytes: &[u8], handle: &mut impl FnMut(&[u8])) -> Result<usize> {
    let mut used = 0;
    while let Some(len) = bytes.get(4..8).and_then(|len| len.try_into().ok()).map(u32::from_ne_bytes) {
        let len = len as usize;
        ensure!(
            (size_of::<RecordHeader>()..=READ_BYTES).contains(&len),
            "the task iterator gave a row of {len} bytes"
        );
        let Some(row) = bytes.get(..len) else { break };
        handle(row);
        used += len;
        bytes = bytes.get(len..).unwrap_or_default();
    }
    Ok(used)
}
