//! A death: once per thread group, by whichever thread leaves last.

use observer_common::record::{EXIT_BY_LEADER, EXIT_GROUP, EXIT_SESSION_LEADER, Exit, KIND_EXIT};

use crate::emit::{self, Class};
use crate::task::{self, Task, Typed};

/// `task` is the last of its group to leave.
#[inline(always)]
pub fn died(task: Task<Typed>) {
    let now = emit::now();
    if task.is_kthread() {
        return;
    }
    let leader = task.group_leader();
    let signal = leader.signal();
    let (exit_code, group) = leader.wait_status();
    let tid = task.pid();
    let header = emit::header(KIND_EXIT, now, leader, tid, size_of::<Exit>());
    let mut flags = 0;
    if tid == header.tgid {
        flags |= EXIT_BY_LEADER;
    }
    if group {
        flags |= EXIT_GROUP;
    }
    if signal.leads_session() {
        flags |= EXIT_SESSION_LEADER;
    }
    let tty_dev = task::tty_dev::<Typed>(signal.tty());
    let record = Exit { header, exit_code, flags, tty_dev, sid: signal.sid() };
    emit::fixed(KIND_EXIT, Class::Vital, header.tgid, tty_dev != 0, record);
}
