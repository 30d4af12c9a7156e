//! Reports that a leader's comm was set. Only a thread of the same group can set it.

use observer_common::limits::COMM_LEN;
use observer_common::record::{CommRecord, KIND_COMM};

use crate::access::{Typed, read};
use crate::budget;
use crate::emit::{self, Priority};
use crate::task::Task;

/// Reports that `task` is about to be named `comm`. The name that execve gives to the calling thread is left to the exec's own
/// record; a name that another thread gives to a thread within execve is reported, because the execve may still fail.
#[inline(always)]
pub fn report(task: Task<Typed>, comm: *const u8) {
    let now = emit::now();
    if !task.is_leader() || task.is_kthread() || (task.in_execve() && task.is_current()) {
        return;
    }
    if !budget::allows(KIND_COMM, now, task) {
        return;
    }
    let header = emit::header(KIND_COMM, now, task, task.pid(), size_of::<CommRecord>());
    let mut comm: [u8; COMM_LEN] = read(comm as u64);
    // The kernel keeps 15 bytes and a NUL (`__set_task_comm`, fs/exec.c).
    comm[COMM_LEN - 1] = 0;
    emit::fixed(KIND_COMM, Priority::Throttled, header.tgid, false, CommRecord { header, comm });
}
