//! Hints: fields of processes that did not call for it may differ. One record until the daemon has read again.

use observer_common::control;
use observer_common::record::{Header, Hint, KIND_HINT};

use crate::emit::{self, Class};
use crate::task::Task;

/// Raises hint `bit`.
#[inline(always)]
pub fn raise(bit: u32) {
    if emit::word(control::HINTS + bit) != 0 {
        return;
    }
    let boottime_ns = emit::now();
    emit::set_word(control::HINTS + bit, 1);
    let task = Task::current();
    let header = Header {
        kind: KIND_HINT,
        len: size_of::<Hint>() as u32,
        boottime_ns,
        start_boottime_ns: 0,
        tgid: task.tgid(),
        tid: task.pid(),
    };
    emit::fixed(KIND_HINT, Class::Throttled, header.tgid, true, Hint { header, hint: 1 << bit });
}
