//! Reports the working directory: the leader's `fs->pwd` after a change, never the argument of a system call.

use observer_common::control;
use observer_common::limits::CWD_LEFT_OUT_NS;
use observer_common::record::{CwdRecord, FACT_FS_SHARED, HINT_BIT_FS_SHARED, HINT_BIT_PATHS, KIND_CWD};

use crate::access::{self, Access, Typed};
use crate::budget;
use crate::emit::{self, Priority};
use crate::hooks::hint;
use crate::maps::{CWD_SCRATCH, EXEC_CWD_SCRATCH, EXEC_SECOND_CWD_SCRATCH, PATHS_TAIL, Scratch, TAIL_MASK};
use crate::path;
use crate::task::{self, Task};

path::walker!(cwd_walk, CWD_SCRATCH, dentry_steps);
path::walker!(exec_cwd_walk, EXEC_CWD_SCRATCH, dentry_steps);
path::walker!(exec_second_cwd_walk, EXEC_SECOND_CWD_SCRATCH, dentry_steps);

/// Reports that `task` has set the directory of its `fs_struct`. Returns the path's flags; 0 is an ordinary path.
#[inline(always)]
pub fn report<A: Access>(task: Task<A>) -> u32 {
    let now = emit::now();
    let leader = task.group_leader();
    // A thread that unshared its fs changes its own directory, which is not the process's.
    if task.fs() != leader.fs() || !budget::allows(KIND_CWD, now, leader) {
        return 0;
    }
    let Some(scratch) = CWD_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: a word of a map value.
    let busy = unsafe { &raw mut (*scratch).busy };
    // SAFETY: as above; volatile, because other threads change it.
    if unsafe { busy.read_volatile() } != 0 {
        // Another thread was preempted on this CPU while it used the scratch, which kernels before 5.12 do not prevent in
        // fexit programs (they got their recursion guard in `__bpf_prog_enter`, kernel/bpf/trampoline.c, with 5.12). The
        // daemon reads the path again.
        emit::leave_out(KIND_CWD, || now);
        hint::raise(HINT_BIT_PATHS);
        return 0;
    }
    // SAFETY: as above.
    unsafe { busy.write_volatile(1) };
    // One hook for the directory is attached at a time, and `busy` reserves the scratch for this thread.
    let flags = send(task, leader, now, Priority::Throttled, (scratch, cwd_walk));
    // SAFETY: as above.
    unsafe { busy.write_volatile(0) };
    flags
}

/// Reports the directory in which `task` executes a program, if it may not have been reported when the process went there: a
/// pass may come too late, because the program has ended. Execs are not left out, so neither are these.
#[inline(always)]
pub fn report_of_exec(task: Task<Typed>) {
    if may_be_left_out()
        && let Some(scratch) = EXEC_CWD_SCRATCH.get_ptr_mut(0)
    {
        send(task, task, emit::now(), Priority::Vital, (scratch, exec_cwd_walk));
    }
}

/// The same, for the second program of the tracepoint (`preemption`).
#[inline(always)]
pub fn report_of_exec_second(task: Task<Typed>) {
    if may_be_left_out()
        && let Some(scratch) = EXEC_SECOND_CWD_SCRATCH.get_ptr_mut(0)
    {
        send(task, task, emit::now(), Priority::Vital, (scratch, exec_second_cwd_walk));
    }
}

/// Returns whether a record of a directory was left out a moment ago.
#[inline(always)]
fn may_be_left_out() -> bool {
    let left_out_at = emit::word(control::CWD_LEFT_OUT_AT);
    // Another CPU may set it meanwhile.
    left_out_at != 0 && emit::now().saturating_sub(left_out_at) < CWD_LEFT_OUT_NS
}

/// Sends the directory of `leader`'s process by way of a scratch that is the caller's, with the scratch's walker.
#[inline(always)]
fn send<A: Access>(
    task: Task<A>,
    leader: Task<A>,
    now: u64,
    priority: Priority,
    (scratch, walker): (*mut Scratch<CwdRecord, PATHS_TAIL>, extern "C" fn() -> u64),
) -> u32 {
    // SAFETY: a per-CPU map value that is the caller's.
    let (walk, body) = unsafe { (&raw mut (*scratch).walk, &mut (*scratch).body) };
    let (mnt, dentry) = leader.pwd();
    body.cwd = task::dir_id::<A>(mnt, dentry);
    body.mnt_ns = leader.mnt_ns();
    body.facts_flags = task::fs_flags(leader);
    path::reset(walk);
    let section = path::append(walk, mnt, dentry, leader.mnt_namespace(), walker);
    body.path_len = section.len;
    body.path_flags = section.flags;
    let len = size_of::<CwdRecord>() as u64 + (path::load!(walk, pos) & TAIL_MASK);
    body.header = emit::header(KIND_CWD, now, leader, task.pid(), len as usize);
    let urgent = !access::is_null(leader.signal().tty());
    emit::variable(KIND_CWD, priority, body.header.tgid, urgent, (&raw const *body).cast(), len);
    if body.facts_flags & FACT_FS_SHARED != 0 {
        hint::raise(HINT_BIT_FS_SHARED);
    }
    section.flags
}
