//! Reports which thread the kernel chose when memory ran out. Runs in the context of the thread that asked for memory,
//! after SIGKILL was sent to the victim, and often after the victim has ended on another CPU.

use observer_common::record::{KIND_OOM, OomRecord};

use crate::access::Probed;
use crate::emit::{self, Priority};
use crate::task::Task;

/// Reports that the thread with this pid was marked.
#[inline(always)]
pub fn report(victim: u32) {
    let now = emit::now();
    let caller = Task::<Probed>::current();
    let header = emit::header(KIND_OOM, now, caller.group_leader(), caller.pid(), size_of::<OomRecord>());
    let record = OomRecord { header, victim, reserved: 0 };
    // A thread is marked once, so these are no more than deaths. A death may wait for this record.
    emit::fixed(KIND_OOM, Priority::Vital, header.tgid, true, record);
}
