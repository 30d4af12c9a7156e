//! Reports which thread the kernel chose when memory ran out, and what had none left. Runs in the context of the thread that asked
//! for memory: first where the kernel begins to kill, if a program can be attached there, and then at each mark of a thread,
//! after SIGKILL was sent to it, and often after it has ended on another CPU.
//!
//! The kernel kills for lack of memory within one thread at a time, whose lock is `oom_lock` (mm/oom_kill.c): whoever calls
//! `out_of_memory` has it. So one record suffices, which is filled in part where the kill begins and sent at each mark.

use observer_common::offsets::ABSENT;
use observer_common::origin::{OOM_SCOPE_CGROUP, OOM_SCOPE_HOST, OOM_SCOPE_UNKNOWN};
use observer_common::record::{KIND_OOM, OomRecord};

use crate::access::{Access, Probed, offset};
use crate::emit::{self, Priority};
use crate::maps::{OOM_SCRATCH, TAIL_MASK};
use crate::path;
use crate::task::Task;

path::walker!(oom_walk, OOM_SCRATCH, kernfs_steps);

/// Keeps what has no memory left, by this `struct oom_control`, for the marks that the calling thread makes next.
#[inline(always)]
pub fn keep_scope(control: *const u8) {
    let Some(scratch) = OOM_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: a map value that one thread uses at a time.
    let (walk, body) = unsafe { (&raw mut (*scratch).walk, &mut (*scratch).body) };
    body.header.tid = Task::<Probed>::current().pid();
    body.path_len = 0;
    body.path_flags = 0;
    let memcg = Probed::u64(control as u64, offset!(oom_control_memcg));
    if memcg == 0 {
        body.scope = OOM_SCOPE_HOST;
        return;
    }
    body.scope = OOM_SCOPE_CGROUP;
    // A constant to the verifier, which does not visit the other branch.
    let cgroup =
        if offset!(mem_cgroup_cgroup) == ABSENT { 0 } else { Probed::u64(memcg, offset!(mem_cgroup_cgroup)) };
    path::reset(walk);
    // The calling thread is charged to this cgroup or to one below it, so it is not removed meanwhile.
    let section = path::append_kernfs(walk, Probed::u64(cgroup, offset!(cgroup_kn)), oom_walk);
    body.path_len = section.len;
    body.path_flags = section.flags;
}

/// Reports that the thread with this pid was marked.
#[inline(always)]
pub fn report(victim: u32) {
    let now = emit::now();
    let caller = Task::<Probed>::current();
    let Some(scratch) = OOM_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: a map value that one thread uses at a time.
    let body = unsafe { &mut (*scratch).body };
    // What another thread left does not hold for this one, which finds a thread that is dying anyway, or runs where no program
    // was attached.
    if body.header.tid != caller.pid() {
        body.scope = OOM_SCOPE_UNKNOWN;
        body.path_len = 0;
        body.path_flags = 0;
    }
    let len = size_of::<OomRecord>() as u64 + (u64::from(body.path_len) & TAIL_MASK);
    body.header = emit::header(KIND_OOM, now, caller.group_leader(), caller.pid(), len as usize);
    body.victim = victim;
    // A thread is marked once, so these are no more than deaths. A death may wait for this record.
    emit::variable(KIND_OOM, Priority::Vital, body.header.tgid, true, (&raw const *body).cast(), len);
}
