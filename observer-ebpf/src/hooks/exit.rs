//! Reports a death: once for each thread group, in the context of the thread that exits last.

use observer_common::record::{EXIT_SESSION_LEADER, ExitRecord, KIND_EXIT};

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
    let header = emit::header(KIND_EXIT, now, leader, task.pid(), size_of::<ExitRecord>());
    let flags = if signal.leads_session() { EXIT_SESSION_LEADER } else { 0 };
    let tty_dev = task::tty_dev::<Typed>(signal.tty());
    let mut usage = leader.usage();
    if !task.is_leader() {
        usage.cpu_ns = usage.cpu_ns.wrapping_add(task.sum_exec_runtime());
    }
    let record = ExitRecord { header, exit_code, flags, tty_dev, sid: signal.sid(), usage };
    emit::fixed(KIND_EXIT, Priority::Vital, header.tgid, tty_dev != 0, record);
}
