//! Reports births, execs and deaths for which the kernel skipped the program, because another task was preempted in that
//! program on the same CPU.
//!
//! From 7.0 on, tracepoints call their programs with preemption enabled (`__DECLARE_TRACE`, include/linux/tracepoint.h), and
//! the kernel skips a program for every task of a CPU on which another task is within it (`prog->active`,
//! `__bpf_trace_run` in kernel/trace/bpf_trace.c). Therefore each vital tracepoint has two programs there, which the kernel
//! calls one after the other. The first stores the number of the event that it reported in a slot. The second reports every
//! event whose number is not in its slot. If another event overwrites the slot in between, the event is reported twice, and
//! the daemon drops the duplicate.

use observer_common::control;

use crate::access::{Access, offset};
use crate::emit;
use crate::maps::{REPORTED, REPORTED_SLOTS};
use crate::task::Task;

/// Returns a number that almost certainly belongs to this event alone: of this kind, of `task`, and the `count`-th such
/// event of that task.
#[inline(always)]
pub fn event<A: Access>(kind: u32, task: Task<A>, count: u32) -> u64 {
    let which = u64::from(task.pid()) << 32 | u64::from(count << 4 | kind);
    task.start_boottime().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ which
}

#[inline(always)]
fn slot(event: u64) -> Option<*mut u64> {
    REPORTED.get_ptr_mut((event >> 32) as u32 % REPORTED_SLOTS)
}

/// Runs `report` in the first program of a tracepoint; stores the event's number if there is a second program.
#[inline(always)]
pub fn first<T>(event: impl FnOnce() -> u64, report: impl FnOnce() -> T) -> T {
    let result = report();
    // A constant to the verifier, which does not visit the other branch.
    if offset!(preempted) == 1 {
        let event = event();
        if let Some(slot) = slot(event) {
            // SAFETY: a pointer into a map value; whole words only.
            unsafe { core::ptr::write_volatile(slot, event) };
        }
    }
    result
}

/// Runs `report` in the second program of a tracepoint, if the first was skipped for this event.
#[inline(always)]
pub fn second(kind: u32, event: u64, report: impl FnOnce()) {
    let Some(slot) = slot(event) else { return };
    // SAFETY: a pointer into a map value; whole words only.
    if unsafe { core::ptr::read_volatile(slot) } != event {
        report();
        emit::count(control::SECOND + kind);
    }
}
