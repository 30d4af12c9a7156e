//! Reports a death: once for each thread group, in the context of the thread that exits last.

use observer_common::record::{EXIT_BY_LEADER, EXIT_SESSION_LEADER, ExitRecord, KIND_EXIT};

use crate::access::Typed;
use crate::emit::{self, Priority};
use crate::task::{self, Task};

/// Reports the death of the group of which `task` is the last thread.
#[inline(always)]
pub fn report(task: Task<Typed>) {
    let now = emit::now();
    if task.is_kthread() {
        return;
    }
    let leader = task.group_leader();
    let signal = leader.signal();
    let exit_code = leader.wait_status();
    let tid = task.pid();
    let header = emit::header(KIND_EXIT, now, leader, tid, size_of::<ExitRecord>());
    let mut flags = 0;
    if tid == header.tgid {
        flags |= EXIT_BY_LEADER;
    }
    if signal.leads_session() {
        flags |= EXIT_SESSION_LEADER;
    }
    let tty_dev = task::tty_dev::<Typed>(signal.tty());
    let record = ExitRecord { header, exit_code, flags, tty_dev, sid: signal.sid() };
    emit::fixed(KIND_EXIT, Priority::Vital, header.tgid, tty_dev != 0, record);
}
