//! Births, execs and deaths of tasks that come while another task was preempted in the very program that tells them.
//!
//! Newer kernels let a program at a tracepoint be preempted, and until it goes on they skip it for every other task of that CPU.
//! So there each vital tracepoint has two programs, called one after the other: the first leaves the number of the event
//! that it told, the second tells what the first did not. A number that another event overwrites meanwhile makes a record
//! come twice, which the daemon sees.

use observer_common::control;

use crate::emit;
use crate::maps::TOLD;
use crate::task::{Access, Task, offset};

/// Numbers that are kept; more than there are tasks between their first and their second program.
pub const TOLD_SLOTS: u32 = 512;

/// A number of this event of `task` alone, as good as certainly; `time`: which of its events of this kind.
#[inline(always)]
pub fn event<A: Access>(kind: u32, task: Task<A>, time: u32) -> u64 {
    let which = u64::from(task.pid()) << 32 | u64::from(time << 4 | kind);
    task.start_boottime().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ which
}

#[inline(always)]
fn slot(event: u64) -> Option<*mut u64> {
    TOLD.get_ptr_mut((event >> 32) as u32 % TOLD_SLOTS)
}

/// The first program's turn.
#[inline(always)]
pub fn first<T>(event: impl FnOnce() -> u64, tell: impl FnOnce() -> T) -> T {
    let result = tell();
    // A constant to the verifier, which does not look at the other branch.
    if offset!(preempted) == 1 {
        let event = event();
        if let Some(slot) = slot(event) {
            // SAFETY: a pointer into a map value; whole words only.
            unsafe { core::ptr::write_volatile(slot, event) };
        }
    }
    result
}

/// The second program's turn: only of what the first was skipped for.
#[inline(always)]
pub fn second(kind: u32, event: u64, tell: impl FnOnce()) {
    let Some(slot) = slot(event) else { return };
    // SAFETY: a pointer into a map value; whole words only.
    if unsafe { core::ptr::read_volatile(slot) } != event {
        tell();
        emit::count(control::SECOND + kind);
    }
}
