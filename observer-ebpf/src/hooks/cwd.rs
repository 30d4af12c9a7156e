//! Reports the working directory: the leader's `fs->pwd` after a change, never the argument of a system call.

use observer_common::record::{CwdRecord, FACT_FS_SHARED, HINT_BIT_FS_SHARED, HINT_BIT_PATHS, KIND_CWD};

use crate::access::{self, Access};
use crate::budget;
use crate::emit::{self, Priority};
use crate::hooks::hint;
use crate::maps::{CWD_SCRATCH, TAIL_MASK};
use crate::path;
use crate::task::{self, Task};

path::walker!(cwd_walk, CWD_SCRATCH, dentry_steps);

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
        hint::raise(HINT_BIT_PATHS);
        return 0;
    }
    // SAFETY: as above.
    unsafe { busy.write_volatile(1) };
    // SAFETY: a per-CPU map value. One hook for the directory is attached at a time, and `busy` reserves the value for this
    // thread.
    let (walk, body) = unsafe { (&raw mut (*scratch).walk, &mut (*scratch).body) };
    let (mnt, dentry) = leader.pwd();
    body.cwd = task::dir_id::<A>(mnt, dentry);
    body.mnt_ns = leader.mnt_ns();
    body.facts_flags = task::fs_flags(leader);
    path::reset(walk);
    let section = path::append(walk, mnt, dentry, leader.mnt_namespace(), cwd_walk);
    body.path_len = section.len;
    body.path_flags = section.flags;
    let len = size_of::<CwdRecord>() as u64 + (path::load!(walk, pos) & TAIL_MASK);
    body.header = emit::header(KIND_CWD, now, leader, task.pid(), len as usize);
    let urgent = !access::is_null(leader.signal().tty());
    emit::variable(KIND_CWD, Priority::Throttled, body.header.tgid, urgent, (&raw const *body).cast(), len);
    // SAFETY: as above.
    unsafe { busy.write_volatile(0) };
    if body.facts_flags & FACT_FS_SHARED != 0 {
        hint::raise(HINT_BIT_FS_SHARED);
    }
    section.flags
}
