//! Reports a birth: a fork whose child is a new thread group.

use observer_common::record::{ForkRecord, KIND_FORK, RawFacts};

use crate::access::Typed;
use crate::emit::{self, Priority};
use crate::task::{self, Task};

/// Reports that `parent` called fork and `child` is new; the child has not run yet.
#[inline(always)]
pub fn report(parent: Task<Typed>, child: Task<Typed>) {
    let now = emit::now();
    if !child.is_leader() || child.is_kthread() {
        return;
    }
    let creator = parent.group_leader();
    let header = emit::header(KIND_FORK, now, child, child.pid(), size_of::<ForkRecord>());
    let mut record = ForkRecord {
        header,
        facts: RawFacts::default(),
        creator_start_boottime_ns: creator.start_boottime(),
        creator_tgid: creator.pid(),
        reserved: 0,
    };
    task::read_facts(child, &mut record.facts);
    let urgent = record.facts.tty_dev != 0;
    emit::fixed(KIND_FORK, Priority::Vital, header.tgid, urgent, record);
}
