//! Raises hints: fields of other processes than the caller may have changed. A hint is sent once until the daemon clears it.

use observer_common::control;
use observer_common::record::{HintRecord, KIND_HINT, RecordHeader};

use crate::emit::{self, Priority};
use crate::task::Task;

/// Raises the hint with this bit number.
#[inline(always)]
pub fn raise(bit: u32) {
    if emit::word(control::HINTS + bit) != 0 {
        return;
    }
    let boottime_ns = emit::now();
    emit::set_word(control::HINTS + bit, 1);
    let task = Task::current();
    let header = RecordHeader {
        kind: KIND_HINT,
        len: size_of::<HintRecord>() as u32,
        boottime_ns,
        start_boottime_ns: 0,
        tgid: task.tgid(),
        tid: task.pid(),
    };
    emit::fixed(KIND_HINT, Priority::Throttled, header.tgid, true, HintRecord { header, hint: 1 << bit });
}
