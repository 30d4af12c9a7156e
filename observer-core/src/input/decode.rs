//! Decodes the bytes of a record into an [`Input`]. The bytes are not trusted: an unknown kind, a short
//! record or a long one is an error, never a panic.

use core::fmt;

use observer_common::limits;
use observer_common::origin;
use observer_common::record::{self, path_flag};

use crate::input::{Block, Input, ProcessFacts, RawMemoryScope, RawPath, TaskRow};
use crate::model::cost::ProcessUsage;
use crate::model::death::{AddressClass, SIGKILL, SendingProcess, SentSignal, SignalContext, SignalOrigin};
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::process::{Comm, DirId, Tty, Uids};

/// The last signal that the kernel has.
const SIGNAL_LAST: u8 = 64;
// `si_code`, include/uapi/asm-generic/siginfo.h.
const SI_USER: i32 = 0;
const SI_TKILL: i32 = -6;

/// Why a record cannot be decoded. The caller counts it and goes on, since the next record may be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The record has fewer bytes than the body of its kind.
    Short,
    /// There is no such kind.
    UnknownKind(u32),
    /// `len` in the header is not the number of bytes given.
    Length,
    /// The lengths of the sections do not add up to the length of the tail.
    Sections,
    /// The record holds a value that the kernel programs never send: the thread group 0, or a section longer
    /// than its bound.
    Bounds,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("record shorter than its kind's body"),
            Self::UnknownKind(kind) => write!(f, "unknown record kind {kind}"),
            Self::Length => f.write_str("record length differs from its header"),
            Self::Sections => f.write_str("record sections do not fill the tail"),
            Self::Bounds => f.write_str("record holds a value beyond its bound"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Decodes one record of the ring or one row of the task iterator into an input that borrows from `bytes`.
/// The layouts are in [`observer_common::record`].
///
/// # Errors
///
/// Returns a [`DecodeError`] for whatever is not exactly one well-formed record.
pub fn decode(bytes: &[u8]) -> Result<Input<'_>, DecodeError> {
    let mut cursor = Cursor(bytes);
    let header = header(&mut cursor)?;
    if usize::try_from(header.len) != Ok(bytes.len()) {
        return Err(DecodeError::Length);
    }
    if header.key.tgid.0 == 0 && header.kind != record::KIND_HINT {
        return Err(DecodeError::Bounds);
    }
    match header.kind {
        record::KIND_FORK => fork(&header, cursor),
        record::KIND_EXEC => exec(&header, cursor),
        record::KIND_EXIT => exit(&header, cursor),
        record::KIND_CWD => cwd(&header, cursor),
        record::KIND_COMM => {
            let comm = comm(&mut cursor)?;
            cursor.end()?;
            Ok(Input::Comm { at: header.at, key: header.key, comm })
        }
        record::KIND_CREDS => {
            let uids = uids(&mut cursor)?;
            cursor.u32()?;
            cursor.end()?;
            Ok(Input::Creds { at: header.at, key: header.key, uids })
        }
        record::KIND_IDS => ids(&header, cursor),
        record::KIND_CGROUP => cgroup(&header, cursor),
        record::KIND_HINT => {
            let bits = cursor.u64()?;
            cursor.end()?;
            Ok(Input::Hint { at: header.at, bits })
        }
        record::KIND_ROW => row(&header, cursor),
        record::KIND_SIGNAL => signal(&header, cursor),
        record::KIND_RELEASE => {
            let cpu_ns = cursor.u64()?;
            cursor.end()?;
            Ok(Input::Release { at: header.at, key: header.key, cpu_ns })
        }
        record::KIND_OOM => oom_victim(&header, cursor),
        kind => Err(DecodeError::UnknownKind(kind)),
    }
}

/// The header of a record, decoded.
struct Head {
    kind: u32,
    len: u32,
    at: BootTime,
    key: ProcessKey,
    tid: u32,
}

/// Reads from the front. Each read is bounded by the bytes that are left.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_ne_bytes)
    }

    fn section(&mut self, len: u32, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).map_err(|_| DecodeError::Bounds)?;
        if len > max {
            return Err(DecodeError::Bounds);
        }
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Sections)?;
        self.0 = rest;
        Ok(head)
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Sections) }
    }
}

fn header(cursor: &mut Cursor<'_>) -> Result<Head, DecodeError> {
    let kind = cursor.u32()?;
    let len = cursor.u32()?;
    let at = BootTime(cursor.u64()?);
    let start_boottime_ns = cursor.u64()?;
    let tgid = cursor.u32()?;
    let tid = cursor.u32()?;
    Ok(Head { kind, len, at, key: ProcessKey::new(tgid, start_boottime_ns), tid })
}

fn dir_id(cursor: &mut Cursor<'_>) -> Result<DirId, DecodeError> {
    let (ino, inode) = (cursor.u64()?, cursor.u64()?);
    let (dev, mnt_id, generation) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    cursor.u32()?;
    // No two inodes begin in the same line of the processor's cache.
    Ok(DirId { ino, dev, mnt_id, generation, object: (inode >> 6) as u32 })
}

fn uids(cursor: &mut Cursor<'_>) -> Result<Uids, DecodeError> {
    Ok(Uids { uid: cursor.u32()?, euid: cursor.u32()?, suid: cursor.u32()? })
}

fn usage(cursor: &mut Cursor<'_>) -> Result<ProcessUsage, DecodeError> {
    Ok(ProcessUsage { cpu_ns: cursor.u64()?, children_cpu_ns: cursor.u64()?, max_rss_pages: cursor.u64()? })
}

fn signal<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let start = cursor.u64()?;
    let (tgid, uid) = (cursor.u32()?, cursor.u32()?);
    let (number, code) = (cursor.u32()?, cursor.u32()?.cast_signed());
    let (origin, memory) = (cursor.u32()?, cursor.u32()?);
    let process = SendingProcess { key: ProcessKey::new(tgid, start), comm: comm(&mut cursor)?, uid };
    let address = address_class(cursor.u32()?)?;
    let is_handled = cursor.u32()? & record::SIGNAL_HANDLED != 0;
    cursor.end()?;
    let signal = u8::try_from(number).ok().filter(|number| (1..=SIGNAL_LAST).contains(number));
    let signal = signal.ok_or(DecodeError::Bounds)?;
    let origin = match (origin, code) {
        (origin::SIGNAL_BY_CALLER, SI_TKILL) => SignalOrigin::ThreadKill,
        (origin::SIGNAL_BY_CALLER, SI_USER) => SignalOrigin::Kill,
        (origin::SIGNAL_BY_CALLER, code) => SignalOrigin::Queue(code),
        // For nothing else that a process does, the kernel sends SIGKILL to another one in this way.
        (origin::SIGNAL_BY_KERNEL_FOR_CALLER, _) if signal == SIGKILL && process.key != header.key => {
            SignalOrigin::KernelForCgroup
        }
        (origin::SIGNAL_BY_KERNEL_FOR_CALLER, _) => SignalOrigin::KernelForProcess,
        (origin::SIGNAL_BY_KERNEL_CODE, code) => SignalOrigin::KernelCode(code, address),
        (origin::SIGNAL_BY_KERNEL, _) => SignalOrigin::Kernel,
        (origin::SIGNAL_BY_KERNEL_FOR_ENDING, _) => SignalOrigin::KernelForEnding,
        (origin::SIGNAL_BY_KERNEL_FOR_TRACEE, _) => SignalOrigin::KernelForTracee,
        (origin::SIGNAL_BY_KERNEL_FOR_CHILD, _) => SignalOrigin::KernelForChild,
        (origin::SIGNAL_BY_KERNEL_FOR_LIMIT, _) => SignalOrigin::KernelForLimit,
        _ => return Err(DecodeError::Bounds),
    };
    // Whoever was running when the kernel sent it has nothing to do with it.
    let is_by_kernel =
        matches!(origin, SignalOrigin::Kernel | SignalOrigin::KernelForLimit | SignalOrigin::KernelCode(..));
    let process = (!is_by_kernel && tgid != 0).then_some(process);
    Ok(Input::Signal {
        key: header.key,
        sent: SentSignal { signal, at: header.at, origin, process },
        context: SignalContext { caller: Tgid(tgid), thread: header.tid, memory, is_handled },
    })
}

fn oom_victim<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let (thread, scope) = (cursor.u32()?, cursor.u32()?);
    let (path_len, flags) = (cursor.u32()?, cursor.u32()?);
    let path = RawPath { components: cursor.section(path_len, limits::PATH_MAX)?, flags };
    cursor.end()?;
    let scope = match scope {
        origin::OOM_SCOPE_UNKNOWN => RawMemoryScope::Unknown,
        origin::OOM_SCOPE_HOST => RawMemoryScope::Host,
        origin::OOM_SCOPE_CGROUP => RawMemoryScope::Cgroup(path),
        _ => return Err(DecodeError::Bounds),
    };
    Ok(Input::OomVictim { at: header.at, caller: header.key.tgid, thread, scope })
}

fn address_class(word: u32) -> Result<Option<AddressClass>, DecodeError> {
    Ok(match word {
        origin::ADDRESS_UNKNOWN => None,
        origin::ADDRESS_NULL_PAGE => Some(AddressClass::NullPage),
        origin::ADDRESS_USER => Some(AddressClass::User),
        origin::ADDRESS_KERNEL => Some(AddressClass::Kernel),
        origin::ADDRESS_NON_CANONICAL => Some(AddressClass::NonCanonical),
        _ => return Err(DecodeError::Bounds),
    })
}

/// Clears the bytes behind the first NUL, which are left over from earlier values, so that equal strings
/// compare equal.
fn padded(mut bytes: [u8; 16]) -> [u8; 16] {
    let mut ended = false;
    for byte in &mut bytes {
        ended |= *byte == 0;
        if ended {
            *byte = 0;
        }
    }
    bytes
}

fn comm(cursor: &mut Cursor<'_>) -> Result<Comm, DecodeError> {
    cursor.array().map(|bytes| Comm(padded(bytes)))
}

fn tty(dev: u32, name: [u8; limits::TTY_NAME_LEN]) -> Option<Tty> {
    (dev != 0).then(|| Tty { dev, name: padded(name) })
}

/// Decodes the facts. The second value is their flags.
fn facts(cursor: &mut Cursor<'_>) -> Result<(ProcessFacts, u32), DecodeError> {
    let parent_start_boottime_ns = cursor.u64()?;
    let cwd = dir_id(cursor)?;
    let cgroup_id = cursor.u64()?;
    let ppid = cursor.u32()?;
    let sid = cursor.u32()?;
    let pgid = cursor.u32()?;
    let uids = uids(cursor)?;
    let tty_dev = cursor.u32()?;
    let mnt_ns = cursor.u32()?;
    let exec_id = cursor.u32()?;
    let flags = cursor.u32()?;
    let tty = tty(tty_dev, cursor.array()?);
    let facts = ProcessFacts {
        parent: ProcessKey::new(ppid, parent_start_boottime_ns),
        cwd,
        mnt_ns,
        cgroup_id,
        sid,
        pgid,
        uids,
        tty,
        exec_id,
        comm: comm(cursor)?,
        fs_shared: flags & record::FACT_FS_SHARED != 0,
        leader_gone: flags & record::FACT_LEADER_GONE != 0,
        no_mm: flags & record::FACT_NO_MM != 0,
        forked: flags & record::FACT_FORKED != 0,
    };
    Ok((facts, flags))
}

fn fork<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let (facts, _) = facts(&mut cursor)?;
    let creator_start_boottime_ns = cursor.u64()?;
    let creator_tgid = cursor.u32()?;
    cursor.u32()?;
    cursor.end()?;
    let creator = ProcessKey::new(creator_tgid, creator_start_boottime_ns);
    Ok(Input::Fork { at: header.at, key: header.key, facts, creator })
}

fn exec<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let (facts, _) = facts(&mut cursor)?;
    let exe_len = cursor.u32()?;
    let exe_flags = cursor.u32()?;
    let filename_len = cursor.u32()?;
    let argv_len = cursor.u32()?;
    let argv_total = cursor.u32()?;
    let env_len = cursor.u32()?;
    let env_total = cursor.u32()?;
    cursor.u32()?;
    let exe = RawPath { components: cursor.section(exe_len, limits::PATH_MAX)?, flags: exe_flags };
    let filename = cursor.section(filename_len, limits::FILENAME_MAX)?;
    let argv = cursor.section(argv_len, limits::ARGV_MAX)?;
    let env = cursor.section(env_len, limits::ENV_MAX)?;
    cursor.end()?;
    let argv = Block { bytes: argv, truncated: argv_total > argv_len };
    let env = Block { bytes: env, truncated: env_total > env_len };
    Ok(Input::Exec { at: header.at, key: header.key, facts, exe, filename, argv, env })
}

fn exit<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let raw_status = cursor.u32()?;
    let flags = cursor.u32()?;
    let _tty_dev = cursor.u32()?;
    let sid = cursor.u32()?;
    let usage = usage(&mut cursor)?;
    cursor.end()?;
    Ok(Input::Exit {
        at: header.at,
        key: header.key,
        raw_status,
        led_sid: (flags & record::EXIT_SESSION_LEADER != 0).then_some(sid),
        usage,
    })
}

fn cwd<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let cwd = dir_id(&mut cursor)?;
    let mnt_ns = cursor.u32()?;
    let facts_flags = cursor.u32()?;
    let path_len = cursor.u32()?;
    let flags = cursor.u32()?;
    let components = cursor.section(path_len, limits::PATH_MAX)?;
    cursor.end()?;
    Ok(Input::Cwd {
        at: header.at,
        key: header.key,
        cwd,
        mnt_ns,
        path: RawPath { components, flags },
        fs_shared: facts_flags & record::FACT_FS_SHARED != 0,
    })
}

fn ids<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let sid = cursor.u32()?;
    let pgid = cursor.u32()?;
    let tty_dev = cursor.u32()?;
    cursor.u32()?;
    let tty = tty(tty_dev, cursor.array()?);
    cursor.end()?;
    Ok(Input::Ids { at: header.at, key: header.key, sid, pgid, tty })
}

fn cgroup<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let cgroup_id = cursor.u64()?;
    let path_len = cursor.u32()?;
    let flags = cursor.u32()?;
    let path = cursor.section(path_len, limits::PATH_MAX)?;
    cursor.end()?;
    // A pass reads a path that was cut.
    let whole = flags & (path_flag::FAULT | path_flag::TRUNCATED) == 0 && path.starts_with(b"/");
    let path = if whole { path } else { &[] };
    Ok(Input::Cgroup { at: header.at, key: header.key, cgroup_id, path })
}

fn row<'a>(header: &Head, mut cursor: Cursor<'a>) -> Result<Input<'a>, DecodeError> {
    let (facts, facts_flags) = facts(&mut cursor)?;
    for _ in 0..4 {
        cursor.u64()?;
    }
    let tty_pgrp = cursor.u32()?;
    let exit_code = cursor.u32()?;
    let mut lens = [(0, 0); 3];
    for pair in &mut lens {
        *pair = (cursor.u32()?, cursor.u32()?);
    }
    let usage = usage(&mut cursor)?;
    let rss_pages = cursor.u64()?;
    let mut paths = [RawPath::default(); 3];
    for (path, (len, flags)) in paths.iter_mut().zip(lens) {
        *path = RawPath { components: cursor.section(len, limits::PATH_MAX)?, flags };
    }
    cursor.end()?;
    let [cwd_path, exe, cgroup] = paths;
    Ok(Input::PassRow(TaskRow {
        at: header.at,
        key: header.key,
        facts,
        cwd_path,
        exe,
        cgroup,
        tty_pgrp,
        stopped: facts_flags & record::FACT_STOPPED != 0,
        executing: facts_flags & record::FACT_EXECUTING != 0,
        dead: (facts_flags & record::FACT_DEAD != 0).then_some(exit_code),
        usage,
        rss_pages,
    }))
}
