//! Bounds how many records of lower priority the processes of one user send, so that no loop of system calls occupies
//! the daemon. What is not sent is read again by a pass, as where the ring is more than half full; the sender of a signal is
//! lost.

use observer_common::limits::{RECORD_EVERY_NS, RECORDS_BURST_MAX};
use observer_common::record::HINT_BIT_THROTTLED;

use crate::access::Access;
use crate::emit;
use crate::hooks::hint;
use crate::maps::{BUDGETS, Budget};
use crate::task::Task;

/// Takes a record of this kind about `task` from what its user may send. Returns whether it may be sent; if not, counts
/// it and asks the daemon to read the fields again.
#[inline(always)]
pub fn allows<A: Access>(kind: u32, now: u64, task: Task<A>) -> bool {
    let (uid, ..) = task.uids();
    if has_left(now, uid) {
        return true;
    }
    emit::leave_out(kind, || now);
    hint::raise(HINT_BIT_THROTTLED);
    false
}

/// Takes a record from what this user may send. Returns whether it may be sent. Two CPUs that take at the same moment may
/// take one together: the bound need not be exact.
#[inline(always)]
pub fn has_left(now: u64, uid: u32) -> bool {
    let Some(budget) = BUDGETS.get_ptr_mut(&uid) else {
        let budget = Budget { left: RECORDS_BURST_MAX - 1, since: now };
        // If there is no room, which an LRU map makes, the next record tries again.
        let _ = BUDGETS.insert(&uid, &budget, 0);
        return true;
    };
    // SAFETY: a pointer into a map value; whole words, which other CPUs may change.
    let (mut left, since) = unsafe {
        ((&raw const (*budget).left).read_volatile(), (&raw const (*budget).since).read_volatile())
    };
    let more = now.saturating_sub(since) / RECORD_EVERY_NS;
    if more > 0 {
        left = (left + more).min(RECORDS_BURST_MAX);
        // SAFETY: as above.
        unsafe { (&raw mut (*budget).since).write_volatile(since + more * RECORD_EVERY_NS) };
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*budget).left).write_volatile(left.saturating_sub(1)) };
    left > 0
}
