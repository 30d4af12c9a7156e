//! Reports sid, pgid and controlling terminal of a group.

use observer_common::record::{IdsRecord, KIND_IDS};

use crate::access::Access;
use crate::budget;
use crate::emit::{self, Priority};
use crate::task::{self, Task};

/// Reports that `task`'s group changed its POSIX session, process group or terminal.
#[inline(always)]
pub fn report<A: Access>(task: Task<A>) {
    let now = emit::now();
    let leader = task.group_leader();
    if !budget::allows(KIND_IDS, now, leader) {
        return;
    }
    let header = emit::header(KIND_IDS, now, leader, task.pid(), size_of::<IdsRecord>());
    let signal = leader.signal();
    let tty = signal.tty();
    let record = IdsRecord {
        header,
        sid: signal.sid(),
        pgid: signal.pgid(),
        tty_dev: task::tty_dev::<A>(tty),
        reserved: 0,
        tty_name: task::tty_name::<A>(tty),
    };
    emit::fixed(KIND_IDS, Priority::Throttled, header.tgid, record.tty_dev != 0, record);
}
