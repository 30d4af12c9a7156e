//! Reports user ids. The user ids of a process are those of its leader.

use observer_common::record::{CredsRecord, KIND_CREDS};

use crate::access::Access;
use crate::budget;
use crate::emit::{self, Priority};
use crate::task::Task;

/// Reports the user ids that `task` has set.
#[inline(always)]
pub fn report<A: Access>(task: Task<A>) {
    let now = emit::now();
    if !task.is_leader() || task.is_kthread() || !budget::allows(KIND_CREDS, now, task) {
        return;
    }
    let header = emit::header(KIND_CREDS, now, task, task.pid(), size_of::<CredsRecord>());
    let (uid, euid, suid) = task.uids();
    let record = CredsRecord { header, uid, euid, suid, reserved: 0 };
    emit::fixed(KIND_CREDS, Priority::Throttled, header.tgid, false, record);
}
