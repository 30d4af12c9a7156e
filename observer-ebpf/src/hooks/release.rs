//! Reports that a process which ended was released, with the CPU time that it had in the end.
//!
//! At the exit of its last thread the kernel has not counted what that thread ran since the last tick, which is all of a short
//! life. It has when it frees the thread. The sum of the process may lack it even then, because the kernel adds a thread to the
//! sum when it releases it, which may be while it still runs: the last thread of a process that nobody waits for releases
//! itself, and a parent on another CPU is as quick.

use observer_common::record::{KIND_RELEASE, ReleaseRecord};

use crate::access::Typed;
use crate::emit;
use crate::task::Task;

/// Reports that the kernel frees `task`, if that led a process.
#[inline(always)]
pub fn report(task: Task<Typed>) {
    if !task.is_leader() || task.is_kthread() {
        return;
    }
    let now = emit::now();
    let header = emit::header(KIND_RELEASE, now, task, task.pid(), size_of::<ReleaseRecord>());
    // A process of one thread has used what its thread ran.
    let cpu_ns = task.signal().sum_sched_runtime().max(task.sum_exec_runtime());
    emit::refinement(KIND_RELEASE, ReleaseRecord { header, cpu_ns });
}
