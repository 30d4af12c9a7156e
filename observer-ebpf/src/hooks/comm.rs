//! A leader's comm set outside exec. Only a thread of the same group can set it.

use observer_common::limits::COMM_LEN;
use observer_common::record::{Comm, KIND_COMM};

use crate::emit::{self, Class};
use crate::task::{Task, Typed, read};

/// `task` is about to be named `comm`.
#[inline(always)]
pub fn renamed(task: Task<Typed>, comm: *const u8) {
    let now = emit::now();
    if !task.is_leader() || task.in_execve() || task.is_kthread() {
        return;
    }
    let header = emit::header(KIND_COMM, now, task, task.pid(), size_of::<Comm>());
    let mut comm: [u8; COMM_LEN] = read(comm as u64);
    // The kernel keeps 15 bytes and a NUL.
    comm[COMM_LEN - 1] = 0;
    emit::fixed(KIND_COMM, Class::Throttled, header.tgid, false, Comm { header, comm });
}
