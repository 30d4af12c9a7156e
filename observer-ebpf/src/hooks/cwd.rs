//! The working directory: the leader's `fs->pwd` after a change, never a system call's argument.

use observer_common::record::{Cwd, FACT_FS_SHARED, HINT_BIT_FS_SHARED, HINT_BIT_PATHS, KIND_CWD};

use crate::emit::{self, Class};
use crate::maps::{CWD_SCRATCH, TAIL_MASK};
use crate::path;
use crate::task::{self, Access, Task};

path::walker!(cwd_walk, CWD_SCRATCH);

/// `task` set the directory of its `fs_struct`. Returns the path's flags: 0 is a path like most.
#[inline(always)]
pub fn set<A: Access>(task: Task<A>) -> u32 {
    let now = emit::now();
    let leader = task.group_leader();
    // A thread that unshared its fs moves alone and is not its process.
    if task.fs() != leader.fs() {
        return 0;
    }
    let Some(scratch) = CWD_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: a word of a map value.
    let busy = unsafe { &raw mut (*scratch).busy };
    // SAFETY: as above; volatile, for it is others that change it.
    if unsafe { busy.read_volatile() } != 0 {
        // Another thread was preempted on this CPU while it used the scratch: kernels before 5.12 guard no fexit program
        // against that. The path is read again.
        super::hint::raise(HINT_BIT_PATHS);
        return 0;
    }
    // SAFETY: as above.
    unsafe { busy.write_volatile(1) };
    // SAFETY: a per-CPU map value that only one way of telling the directory uses at a time, from here on this thread.
    let (walk, body) = unsafe { (&raw mut (*scratch).walk, &mut (*scratch).body) };
    let (mnt, dentry) = leader.pwd();
    body.cwd = task::dir_id::<A>(mnt, dentry);
    body.mnt_ns = leader.mnt_ns();
    body.facts_flags = task::fs_flags(leader);
    path::reset(walk);
    let section = path::append(walk, mnt, dentry, leader.mnt_namespace(), cwd_walk);
    body.path_len = section.len;
    body.path_flags = section.flags;
    let len = size_of::<Cwd>() as u64 + (path::load!(walk, pos) & TAIL_MASK);
    body.header = emit::header(KIND_CWD, now, leader, task.pid(), len as usize);
    let urgent = !task::is_null(leader.signal().tty());
    emit::variable(KIND_CWD, Class::Throttled, body.header.tgid, urgent, (&raw const *body).cast(), len);
    // SAFETY: as above.
    unsafe { busy.write_volatile(0) };
    if body.facts_flags & FACT_FS_SHARED != 0 {
        super::hint::raise(HINT_BIT_FS_SHARED);
    }
    section.flags
}
