//! sid, pgid and terminal of the caller's group.

use observer_common::record::{Ids, KIND_IDS};

use crate::emit::{self, Class};
use crate::task::{self, Access, Task};

/// `task`'s group changed its POSIX session, process group or terminal.
#[inline(always)]
pub fn set<A: Access>(task: Task<A>) {
    let now = emit::now();
    let leader = task.group_leader();
    let header = emit::header(KIND_IDS, now, leader, task.pid(), size_of::<Ids>());
    let signal = leader.signal();
    let tty = signal.tty();
    let record = Ids {
        header,
        sid: signal.sid(),
        pgid: signal.pgid(),
        tty_dev: task::tty_dev::<A>(tty),
        reserved: 0,
        tty_name: task::tty_name::<A>(tty),
    };
    emit::fixed(KIND_IDS, Class::Throttled, header.tgid, record.tty_dev != 0, record);
}
