//! Reports an exec: what was executed, with which arguments, and for a process with a terminal its environment. Where
//! variables label sessions, for every process.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use observer_common::control;
use observer_common::limits::{ARGV_MAX, ENV_MAX, FILENAME_MAX};
use observer_common::record::{ExecRecord, KIND_EXEC};

use crate::access::{Access, Typed, offset};
use crate::emit::{self, Priority};
use crate::hooks::cwd;
use crate::maps::{EXEC_SCRATCH, EXEC_SECOND_SCRATCH, EXEC_TAIL, Scratch, TAIL_MASK, Walk};
use crate::path;
use crate::task::{self, Task};

path::walker!(exec_walk, EXEC_SCRATCH, dentry_steps);
path::walker!(exec_second_walk, EXEC_SECOND_SCRATCH, dentry_steps);

/// Reports that `task`, which leads its group by then, runs a new image. `bprm` is a `struct linux_binprm`. Returns the flags
/// of the executable's path; 0 is an ordinary path.
#[inline(always)]
pub fn report(task: Task<Typed>, bprm: *const u8) -> u32 {
    cwd::report_of_exec(task);
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return 0 };
    report_from(task, bprm, scratch, exec_walk)
}

/// The same, for the second program of the tracepoint (`preemption`).
#[inline(always)]
pub fn report_second(task: Task<Typed>, bprm: *const u8) {
    cwd::report_of_exec_second(task);
    let Some(scratch) = EXEC_SECOND_SCRATCH.get_ptr_mut(0) else { return };
    report_from(task, bprm, scratch, exec_second_walk);
}

#[inline(always)]
fn report_from(
    task: Task<Typed>,
    bprm: *const u8,
    scratch: *mut Scratch<ExecRecord, EXEC_TAIL>,
    walker: extern "C" fn() -> u64,
) -> u32 {
    let now = emit::now();
    // SAFETY: a per-CPU map value that only the calling program uses, and it is not re-entered on one CPU.
    let (walk, body, tail) =
        unsafe { (&raw mut (*scratch).walk, &mut (*scratch).body, (&raw mut (*scratch).tail).cast::<u8>()) };
    task::read_facts(task, &mut body.facts);
    let mm = task.mm();

    path::reset(walk);
    let file = Typed::u64(mm, offset!(mm_exe_file));
    let at = offset!(file_path);
    let (mnt, dentry) =
        (Typed::u64(file, at + offset!(path_mnt)), Typed::u64(file, at + offset!(path_dentry)));
    let exe = path::append(walk, mnt, dentry, task.mnt_namespace(), walker);
    body.exe_len = exe.len;
    body.exe_flags = exe.flags;

    let at = tail.wrapping_add((path::load!(walk, pos) & TAIL_MASK) as usize);
    let filename = Typed::u64(bprm as u64, offset!(binprm_filename));
    // SAFETY: FILENAME_MAX bytes beyond a masked position lie within the tail; the helper checks the source.
    let copied = unsafe { bpf_probe_read_kernel_str(at.cast(), FILENAME_MAX as u32, filename as *const _) };
    let filename_len = if copied > 0 { (copied - 1) as u64 & 0x7ff } else { 0 };
    path::store!(walk, pos, path::load!(walk, pos) + filename_len);
    body.filename_len = filename_len as u32;

    let (start, end) = (Typed::u64(mm, offset!(mm_arg_start)), Typed::u64(mm, offset!(mm_arg_end)));
    body.argv_total = end.wrapping_sub(start) as u32;
    body.argv_len = user_block::<ARGV_MAX>(walk, tail, start, body.argv_total);

    let urgent = body.facts.tty_dev != 0;
    body.env_len = 0;
    body.env_total = 0;
    if urgent || emit::word(control::ALL_ENVIRONMENTS) != 0 {
        let (start, end) = (Typed::u64(mm, offset!(mm_env_start)), Typed::u64(mm, offset!(mm_env_end)));
        body.env_total = end.wrapping_sub(start) as u32;
        body.env_len = user_block::<ENV_MAX>(walk, tail, start, body.env_total);
    }
    body.reserved = 0;

    let mut filled = path::load!(walk, pos);
    if filled > EXEC_TAIL as u64 {
        filled = EXEC_TAIL as u64;
    }
    let len = size_of::<ExecRecord>() as u64 + filled;
    body.header = emit::header(KIND_EXEC, now, task, task.pid(), len as usize);
    emit::variable(KIND_EXEC, Priority::Vital, body.header.tgid, urgent, (&raw const *body).cast(), len);
    exe.flags
}

/// Appends up to `MAX` of `total` bytes of the caller's memory at `start`; returns how many.
#[inline(always)]
fn user_block<const MAX: usize>(walk: *mut Walk, tail: *mut u8, start: u64, total: u32) -> u32 {
    let len = if total as usize > MAX { MAX as u32 } else { total };
    let at = tail.wrapping_add((path::load!(walk, pos) & TAIL_MASK) as usize);
    // SAFETY: MAX bytes beyond a masked position lie within the tail; the helper checks the source.
    if len == 0 || unsafe { bpf_probe_read_user(at.cast(), len, start as *const _) } != 0 {
        return 0;
    }
    path::store!(walk, pos, path::load!(walk, pos) + u64::from(len));
    len
}
