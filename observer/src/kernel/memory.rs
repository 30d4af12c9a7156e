//! Reads argv and environment of processes that called exec before the programs were attached, from their memory.
//!
//! A process can make reads of its memory block (userfaultfd, FUSE), so this runs on threads of its own. A page that is in
//! memory cannot block: where a process lacks one, it may be on the disk, or wait for somebody who never provides it. What was
//! read counts only if the process is the same, with the same image, afterwards.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use observer_common::limits::{ARGV_MAX, ENV_MAX};
use observer_core::decode;
use observer_core::input::Block;
use observer_core::{BootTime, Input, ProcessKey, Tgid};

use super::chosen::Chosen;
use super::iterator::TaskIterator;
use super::sys;
use crate::clock;

/// Pages that arguments and environment take, as far as they are read, with the start and the end of each in the middle of a
/// page.
const PAGES_MAX: usize = (ARGV_MAX + ENV_MAX) / PAGE_BYTES + 4;
/// Bytes of the smallest page: of a larger one, more than one address is asked for.
const PAGE_BYTES: usize = 4096;

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

/// What came of a reading.
#[derive(Debug, Default)]
pub struct MemoryRead {
    /// The memory that was read.
    pub memories: Vec<ProcessMemory>,
    /// Processes that were not read because that may block.
    pub absent: Vec<ProcessKey>,
    /// Processes that need not be read again: they are gone, or this process may not read them.
    pub hopeless: Vec<ProcessKey>,
    /// Processes that were not read because the time was over.
    pub unread: Vec<ProcessKey>,
}

/// Which processes a reading is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadScope {
    /// Those whose arguments and environment are in memory.
    Resident,
    /// All; a reading may block for any time.
    Any,
}

/// From this time on the reading of one process, which takes microseconds otherwise, counts as slow.
const SLOW: Duration = Duration::from_millis(20);

/// What a reading is doing, for another thread that waits for it.
#[derive(Debug, Default)]
pub struct ReadingProgress {
    /// How long the reading may take before it begins with another process; `None`: for any time.
    time_max: Option<Duration>,
    reading: Mutex<Reading>,
}

#[derive(Debug, Default)]
struct Reading {
    began: Option<Instant>,
    process: Option<(ProcessKey, Instant)>,
    given_up: bool,
    slow: Vec<ProcessKey>,
}

impl ReadingProgress {
    /// The progress of a reading that begins with no other process once it has taken so long.
    pub fn within(time_max: Duration) -> Self {
        Self { time_max: Some(time_max), reading: Mutex::default() }
    }

    /// The process whose memory is being read, and since when.
    pub fn process(&self) -> Option<(ProcessKey, Instant)> {
        self.reading().process
    }

    /// Gives the reading up, if it still reads `key`: when that process answers, the reading returns with its memory alone.
    /// Returns whether it did.
    pub fn give_up(&self, key: ProcessKey) -> bool {
        let mut reading = self.reading();
        reading.given_up |= reading.process.is_some_and(|(process, _)| process == key);
        reading.given_up
    }

    /// The reading begins to read this process. Returns false if it is not to, because its time is over.
    pub fn begin(&self, key: ProcessKey) -> bool {
        let (mut reading, now) = (self.reading(), Instant::now());
        let began = *reading.began.get_or_insert(now);
        let goes_on = self.time_max.is_none_or(|time_max| now - began < time_max);
        reading.process = goes_on.then_some((key, now));
        goes_on
    }

    /// The process answered. Returns false if the reading was given up meanwhile.
    pub fn end(&self) -> bool {
        let mut reading = self.reading();
        if let Some((key, since)) = reading.process.take()
            && since.elapsed() >= SLOW
        {
            reading.slow.push(key);
        }
        !reading.given_up
    }

    /// The processes that took long to answer.
    pub fn slow(&self) -> Vec<ProcessKey> {
        self.reading().slow.clone()
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        // What a thread that panics leaves is consistent.
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Reads argv of each process, and the environment of those marked `true`. A process that called exec meanwhile, or whose
    /// memory cannot be read, is nowhere in the result. A call takes two passes of the iterator over them, and begins with no process once
    /// the time of `progress` is over.
    pub fn read(
        &self,
        wanted: &[(ProcessKey, bool)],
        scope: ReadScope,
        progress: &ReadingProgress,
    ) -> Result<MemoryRead> {
        let at = clock::boottime();
        let chosen = wanted.iter().map(|(key, _)| key.tgid).collect();
        let before = self.blocks(&chosen)?;
        let mut result = MemoryRead::default();
        let mut left = wanted.iter();
        while let Some(&(key, env)) = left.next() {
            let Some(&blocks) = before.get(&key) else {
                result.hopeless.push(key);
                continue;
            };
            if !progress.begin(key) {
                result.unread.push(key);
                result.unread.extend(left.map(|&(key, _)| key));
                break;
            }
            let may_block = scope == ReadScope::Resident && !is_resident(key, blocks, env);
            let memory = (!may_block).then(|| read_process(at, key, blocks, env));
            let goes_on = progress.end();
            if !goes_on {
                result = MemoryRead::default();
            }
            match memory {
                Some(Ok(memory)) => result.memories.push(memory),
                Some(Err(libc::EPERM)) => result.hopeless.push(key),
                Some(Err(_)) => {}
                None => result.absent.push(key),
            }
            if !goes_on {
                break;
            }
        }
        if !result.memories.is_empty() {
            let after = self.blocks(&chosen)?;
            result.memories.retain(|memory| after.get(&memory.key) == before.get(&memory.key));
        }
        Ok(result)
    }

    /// Inode number of the mount namespace of the process with tgid 1; the daemon's own if the iterator does not show that
    /// process (some virtual machines hide it).
    pub fn host_mnt_ns(&self) -> u32 {
        let mut found = 0;
        let _ = self.iterator.run(&[Tgid(1)].into_iter().collect(), |row| {
            if let Ok(Input::PassRow(row)) = decode(row)
                && row.key.tgid == Tgid(1)
            {
                found = row.facts.mnt_ns;
            }
        });
        if found == 0 { sys::own_mnt_ns() } else { found }
    }

    /// Begins to read how many pages of memory each live process has; 0 where the kernel's counters are not known. A call of what is
    /// returned reads the next processes, some hundred at most, and returns false when it has read all. It takes one pass of the
    /// iterator.
    pub fn resident_pages(
        &self,
    ) -> Result<impl FnMut(&mut HashMap<ProcessKey, u64>) -> Result<bool> + use<>> {
        let mut pass = self.iterator.begin()?;
        Ok(move |pages: &mut HashMap<ProcessKey, u64>| {
            pass.read(|row| {
                if let Ok(Input::PassRow(row)) = decode(row)
                    && row.dead.is_none()
                {
                    pages.insert(row.key, row.rss_pages);
                }
            })
        })
    }

    fn blocks(&self, chosen: &Chosen) -> Result<BTreeMap<ProcessKey, Blocks>> {
        let mut blocks = BTreeMap::new();
        self.iterator.run(chosen, |row| {
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

/// Whether the pages with the arguments, and with the environment if `env`, are in memory. On a kernel that does not tell, all
/// are.
fn is_resident(key: ProcessKey, blocks: Blocks, env: bool) -> bool {
    let mut pages = [std::ptr::null::<libc::c_void>(); PAGES_MAX];
    let env = env.then_some((blocks.env, ENV_MAX));
    let addresses =
        [Some((blocks.argv, ARGV_MAX)), env].into_iter().flatten().flat_map(|((start, end), max)| {
            let end = end.min(start.saturating_add(max as u64));
            let first = start / PAGE_BYTES as u64 * PAGE_BYTES as u64;
            (first..end).step_by(PAGE_BYTES)
        });
    let mut count = 0;
    for (page, address) in pages.iter_mut().zip(addresses) {
        *page = address as *const libc::c_void;
        count += 1;
    }
    let mut nodes = [0; PAGES_MAX];
    // SAFETY: `pages` and `nodes` have room for `count`. Without nodes to move pages to, the call changes nothing: it tells
    // where each page is, or an error, and touches none (mm/migrate.c, do_pages_stat).
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            key.tgid.0.cast_signed(),
            count,
            pages.as_ptr(),
            std::ptr::null::<libc::c_int>(),
            nodes.as_mut_ptr(),
            0,
        )
    };
    result != 0 || nodes.iter().take(count).all(|&node| node >= 0)
}

/// Reads one process.
///
/// # Errors
///
/// The error number of the system call, for the arguments. An environment that cannot be read counts as truncated.
fn read_process(at: BootTime, key: ProcessKey, blocks: Blocks, env: bool) -> Result<ProcessMemory, i32> {
    let (argv, argv_truncated) = read_block(key, blocks.argv, ARGV_MAX)?;
    let (env, env_truncated) = if env {
        read_block(key, blocks.env, ENV_MAX).unwrap_or((Vec::new(), true))
    } else {
        Default::default()
    };
    Ok(ProcessMemory { at, key, exec_id: blocks.exec_id, argv, argv_truncated, env, env_truncated })
}

/// Reads up to `max` of the bytes from `start` to `end` in a process's memory; returns them and whether there are more.
fn read_block(key: ProcessKey, (start, end): (u64, u64), max: usize) -> Result<(Vec<u8>, bool), i32> {
    let total = end.checked_sub(start).and_then(|total| usize::try_from(total).ok()).ok_or(libc::EFAULT)?;
    let mut bytes = vec![0_u8; total.min(max)];
    if bytes.is_empty() {
        return Ok((bytes, false));
    }
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: start as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: writes into `bytes`, at most its length; the remote side is checked by the kernel.
    let read = unsafe {
        libc::process_vm_readv(key.tgid.0.cast_signed(), &raw const local, 1, &raw const remote, 1, 0)
    };
    match usize::try_from(read) {
        Ok(0) => Err(libc::EFAULT),
        Ok(read) => {
            bytes.truncate(read);
            Ok((bytes, read < total))
        }
        Err(_) => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EFAULT)),
    }
}
