//! A birth: only when the child is a new thread group.

use observer_common::record::{Facts, Fork, KIND_FORK};

use crate::emit::{self, Class};
use crate::task::{self, Task, Typed};

/// `parent` called fork, `child` is new and has not run.
#[inline(always)]
pub fn born(parent: Task<Typed>, child: Task<Typed>) {
    let now = emit::now();
    if !child.is_leader() || child.is_kthread() {
        return;
    }
    let creator = parent.group_leader();
    let header = emit::header(KIND_FORK, now, child, child.pid(), size_of::<Fork>());
    let mut record = Fork {
        header,
        facts: Facts::default(),
        creator_start_boottime_ns: creator.start_boottime(),
        creator_tgid: creator.pid(),
        reserved: 0,
    };
    task::facts(child, &mut record.facts);
    let urgent = record.facts.tty_dev != 0;
    emit::fixed(KIND_FORK, Class::Vital, header.tgid, urgent, record);
}
