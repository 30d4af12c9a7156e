//! User ids: a row's are its leader's.

use observer_common::record::{Creds, KIND_CREDS};

use crate::emit::{self, Class};
use crate::task::{Access, Task};

/// `task` set user ids.
#[inline(always)]
pub fn set<A: Access>(task: Task<A>) {
    let now = emit::now();
    if !task.is_leader() || task.is_kthread() {
        return;
    }
    let header = emit::header(KIND_CREDS, now, task, task.pid(), size_of::<Creds>());
    let (uid, euid, suid) = task.uids();
    let record = Creds { header, uid, euid, suid, reserved: 0 };
    emit::fixed(KIND_CREDS, Class::Throttled, header.tgid, false, record);
}
