//! The task iterator. One pass reads every process, or those that are chosen, and gives a row for each.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::Map;
use aya::programs::Iter;
use observer_common::record::RecordHeader;

use super::bpf;
use super::chosen::{Chosen, ChosenMap};

/// Size of the buffer. The kernel returns whole rows, at most 32 KiB a read (`bpf_seq_read`, kernel/bpf/bpf_iter.c).
const READ_BYTES: usize = 64 << 10;

/// The loaded iterator. It runs one pass at a time, because the program makes rows in one scratch for each CPU.
#[derive(Clone)]
pub struct TaskIterator(Arc<Mutex<Linked>>);

struct Linked {
    link: OwnedFd,
    chosen: ChosenMap,
}

impl TaskIterator {
    /// Links the iterator of the loaded object.
    pub fn new(ebpf: &Ebpf) -> Result<Self> {
        let program: &Iter = ebpf
            .program("iter_task")
            .context("find program iter_task in the object: rebuild with `cargo xtask build`")?
            .try_into()?;
        let link = bpf::link_iterator(program.fd()?.as_fd()).context("create the task iterator")?;
        let Some(Map::Array(chosen)) = ebpf.map("CHOSEN") else {
            bail!("find map CHOSEN in the object: rebuild with `cargo xtask build`");
        };
        let chosen = ChosenMap::map(chosen.fd().as_fd())?;
        Ok(Self(Arc::new(Mutex::new(Linked { link, chosen }))))
    }

    /// Runs one pass over the chosen processes; calls `handle` with the bytes of each row.
    pub fn run(&self, chosen: &Chosen, mut handle: impl FnMut(&[u8])) -> Result<()> {
        let linked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        linked.chosen.set(chosen);
        let mut pass = OpenedPass::open(&linked.link)?;
        while pass.read(&mut handle)? {}
        Ok(())
    }

    /// Begins a pass over every process that is run in pieces. Others may run between these.
    pub fn begin(&self) -> Result<PiecewisePass> {
        let linked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(PiecewisePass { pass: OpenedPass::open(&linked.link)?, linked: Arc::clone(&self.0) })
    }
}

/// A pass that is run in pieces.
pub struct PiecewisePass {
    pass: OpenedPass,
    linked: Arc<Mutex<Linked>>,
}

impl PiecewisePass {
    /// Reads the next piece, of some hundred rows at most; calls `handle` with the bytes of each. Returns false at the end.
    pub fn read(&mut self, handle: impl FnMut(&[u8])) -> Result<bool> {
        let one_at_a_time = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        one_at_a_time.chosen.set(&Chosen::ALL);
        self.pass.read(handle)
    }
}

/// A pass of which the kernel keeps the position, by the tid of the next thread (`task_seq_get_next`, kernel/bpf/task_iter.c).
struct OpenedPass {
    file: File,
    buffer: Vec<u8>,
    filled: usize,
}

impl OpenedPass {
    fn open(link: &OwnedFd) -> Result<Self> {
        let file = File::from(bpf::open_iterator(link.as_fd()).context("open the task iterator")?);
        Ok(Self { file, buffer: vec![0; READ_BYTES], filled: 0 })
    }

    fn read(&mut self, mut handle: impl FnMut(&[u8])) -> Result<bool> {
        let Self { file, buffer, filled } = self;
        let read = match file.read(buffer.get_mut(*filled..).unwrap_or_default()) {
            Ok(read) => read,
            // The kernel returns EAGAIN after a million threads without a row (`MAX_ITER_OBJECTS`), and EINTR at a signal.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(true);
            }
            Err(error) => return Err(error).context("read the task iterator"),
        };
        if read == 0 {
            ensure!(*filled == 0, "the task iterator ended within a row");
            return Ok(false);
        }
        *filled += read;
        let used = rows(buffer.get(..*filled).unwrap_or_default(), &mut handle)?;
        buffer.copy_within(used..*filled, 0);
        *filled -= used;
        Ok(true)
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
