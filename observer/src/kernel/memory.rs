//! Reads argv and environment of processes that called exec before the programs were attached, from their memory.
//!
//! A process can make reads of its memory block (userfaultfd, FUSE), so this runs on a thread of its own. What was read counts
//! only if the process is the same, with the same image, afterwards.

use std::collections::BTreeMap;

use anyhow::Result;
use observer_common::limits::{ARGV_MAX, ENV_MAX};
use observer_core::decode;
use observer_core::input::Block;
use observer_core::{BootTime, Input, ProcessKey, Tgid};

use super::iterator::TaskIterator;
use super::sys;
use crate::clock;

/// Reads argv and environment of processes from their memory.
#[derive(Clone)]
pub struct MemoryReader {
    iterator: TaskIterator,
}

/// argv and environment of one process.
#[derive(Clone, Debug)]
pub struct ProcessMemory {
    /// A time before it was read.
    pub at: BootTime,
    /// The process.
    pub key: ProcessKey,
    /// `self_exec_id` of the image that it belongs to.
    pub exec_id: u32,
    /// NUL-terminated strings.
    pub argv: Vec<u8>,
    /// Whether the process has more than was read.
    pub argv_truncated: bool,
    /// `NAME=value` strings, NUL-terminated; empty if not asked for.
    pub env: Vec<u8>,
    /// Whether the process has more than was read.
    pub env_truncated: bool,
}

impl ProcessMemory {
    /// The input for the core.
    pub fn input(&self) -> Input<'_> {
        Input::Memory {
            at: self.at,
            key: self.key,
            exec_id: self.exec_id,
            argv: Block { bytes: &self.argv, truncated: self.argv_truncated },
            env: Block { bytes: &self.env, truncated: self.env_truncated },
        }
    }
}

/// Where a process keeps its argv and environment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Blocks {
    exec_id: u32,
    argv: (u64, u64),
    env: (u64, u64),
}

impl MemoryReader {
    pub(super) fn new(iterator: TaskIterator) -> Self {
        Self { iterator }
    }

    /// Reads argv of each process, and the environment of those marked `true`. Leaves out processes that are gone, that called
    /// exec meanwhile, or whose memory cannot be read. A call takes two passes of the iterator.
    pub fn read(&self, wanted: &[(ProcessKey, bool)]) -> Result<Vec<ProcessMemory>> {
        let at = clock::boottime();
        let before = self.blocks()?;
        let mut found = Vec::new();
        for &(key, env) in wanted {
            let Some(blocks) = before.get(&key) else { continue };
            let Some((argv, argv_truncated)) = read_block(key, blocks.argv, ARGV_MAX) else { continue };
            let (env, env_truncated) = if env {
                read_block(key, blocks.env, ENV_MAX).unwrap_or_default()
            } else {
                Default::default()
            };
            found.push(ProcessMemory {
                at,
                key,
                exec_id: blocks.exec_id,
                argv,
                argv_truncated,
                env,
                env_truncated,
            });
        }
        if !found.is_empty() {
            let after = self.blocks()?;
            found.retain(|memory| after.get(&memory.key) == before.get(&memory.key));
        }
        Ok(found)
    }

    /// Inode number of the mount namespace of the process with tgid 1; the daemon's own if the iterator does not show that
    /// process (some virtual machines hide it).
    pub fn host_mnt_ns(&self) -> u32 {
        let mut found = 0;
        let _ = self.iterator.run(|row| {
            if let Ok(Input::PassRow(row)) = decode(row)
                && row.key.tgid == Tgid(1)
            {
                found = row.facts.mnt_ns;
            }
        });
        if found == 0 { sys::own_mnt_ns() } else { found }
    }

    fn blocks(&self) -> Result<BTreeMap<ProcessKey, Blocks>> {
        let mut blocks = BTreeMap::new();
        self.iterator.run(|row| {
            if let Some((key, found)) = decode_blocks(row) {
                blocks.insert(key, found);
            }
        })?;
        Ok(blocks)
    }
}

/// Decodes the addresses in a row, which [`observer_core::decode`] skips because the core has no use for them.
fn decode_blocks(row: &[u8]) -> Option<(ProcessKey, Blocks)> {
    use std::mem::offset_of;

    use observer_common::record::{RawFacts, RecordHeader, RowRecord};
    let u32_at = |at: usize| Some(u32::from_ne_bytes(row.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(row.get(at..at + 8)?.try_into().ok()?));
    let key = ProcessKey::new(
        u32_at(offset_of!(RecordHeader, tgid))?,
        u64_at(offset_of!(RecordHeader, start_boottime_ns))?,
    );
    let blocks = Blocks {
        exec_id: u32_at(offset_of!(RowRecord, facts) + offset_of!(RawFacts, exec_id))?,
        argv: (u64_at(offset_of!(RowRecord, arg_start))?, u64_at(offset_of!(RowRecord, arg_end))?),
        env: (u64_at(offset_of!(RowRecord, env_start))?, u64_at(offset_of!(RowRecord, env_end))?),
    };
    Some((key, blocks))
}

/// Reads up to `max` of the bytes from `start` to `end` in a process's memory; returns them and whether there are more.
fn read_block(key: ProcessKey, (start, end): (u64, u64), max: usize) -> Option<(Vec<u8>, bool)> {
    let total = usize::try_from(end.checked_sub(start)?).ok()?;
    let mut bytes = vec![0_u8; total.min(max)];
    if bytes.is_empty() {
        return Some((bytes, false));
    }
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: start as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: writes into `bytes`, at most its length; the remote side is checked by the kernel.
    let read = unsafe {
        libc::process_vm_readv(key.tgid.0.cast_signed(), &raw const local, 1, &raw const remote, 1, 0)
    };
    let read = usize::try_from(read).ok().filter(|&read| read > 0)?;
    bytes.truncate(read);
    Some((bytes, read < total))
}
