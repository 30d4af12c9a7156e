//! The child of the self-test that uses processor and memory.

use std::sync::atomic::{AtomicBool, Ordering};

use super::child_ends::{ChildEnds, THREAD, report, wait_for_order};

/// Memory that the child has at a time, bytes.
pub const MEMORY_BYTES: usize = 8 << 20;
/// CPU time of its leader, and of its second thread, ns.
const LEADER_NS: i64 = 20_000_000;
const THREAD_NS: i64 = 10_000_000;
/// CPU time of its own child in the kernel and outside, ns. Both, and their difference, are more than the tolerance of the
/// comparison, and more than a tick, by which the kernel tells them apart.
const CHILD_IN_KERNEL_NS: i64 = 16_000_000;
const CHILD_OUTSIDE_NS: i64 = 40_000_000;

/// Body of the child: it waits for a child of its own, has [`MEMORY_BYTES`] and reports that; after an order it has given them
/// back and reports again; after another one it computes, and ends.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
pub(super) unsafe fn busy(stack: &mut [u64], ends: ChildEnds) -> ! {
    let is_done = AtomicBool::new(false);
    // SAFETY: see above; every pointer is to memory that the child has a copy of. The thread has a stack of its own, and what it
    // shares outlives it.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let child = libc::syscall(libc::SYS_clone, libc::c_long::from(libc::SIGCHLD), 0, 0, 0, 0);
        if child == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            in_kernel(CHILD_IN_KERNEL_NS);
            outside(CHILD_IN_KERNEL_NS + CHILD_OUTSIDE_NS);
            libc::_exit(0);
        }
        let mut status = 0;
        let mut failed = child < 0 || libc::waitpid(child as libc::pid_t, &raw mut status, 0) < 0;
        let top = stack.as_mut_ptr_range().end;
        failed |= libc::clone(thread, top.cast(), THREAD, (&raw const is_done).cast_mut().cast()) < 0;
        while !failed && !is_done.load(Ordering::Acquire) {
            libc::sched_yield();
        }
        let memory = libc::mmap(
            std::ptr::null_mut(),
            MEMORY_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        );
        report(ends, failed || memory == libc::MAP_FAILED, false);
        wait_for_order(ends.orders);
        report(ends, libc::munmap(memory, MEMORY_BYTES) != 0, false);
        wait_for_order(ends.orders);
        outside(own_ns() + LEADER_NS);
        libc::_exit(0)
    }
}

/// Body of the second thread.
extern "C" fn thread(is_done: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the leader's, which waits for this thread.
    let is_done = unsafe { &*is_done.cast::<AtomicBool>() };
    outside(THREAD_NS);
    is_done.store(true, Ordering::Release);
    0
}

/// Computes in the kernel until the thread has used this much CPU time.
fn in_kernel(ns: i64) {
    while own_ns() < ns {}
}

/// Computes outside the kernel until the thread has used this much CPU time.
fn outside(ns: i64) {
    const STEPS: u64 = 200_000;
    while own_ns() < ns {
        (0..STEPS).for_each(|step| {
            std::hint::black_box(step);
        });
    }
}

/// CPU time of the calling thread, ns.
fn own_ns() -> i64 {
    // SAFETY: fills a struct of plain integers.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    let us = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    (us(usage.ru_utime) + us(usage.ru_stime)) * 1000
}
