//! The kernel programs: entry points only, one function for each hook, named after the hook. Those at the ends of kernel
//! functions are in `fexit`, those at entries in `fentry`.
//!
//! What a hook does is in `hooks`, separate from the entry points, so that a tracepoint and an fexit program can share it.
//! No program returns an error to the kernel: what cannot be read is flagged, what cannot be sent is counted.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use aya_log_ebpf::debug;
use observer_common::record::{KIND_EXEC, KIND_EXIT, KIND_FORK};

mod access;
mod budget;
mod emit;
mod fentry;
mod fexit;
mod hooks;
mod maps;
mod pages;
mod path;
mod preemption;
mod task;

use access::{Typed, offset};
use task::Task;

#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task::from_arg(&ctx, 0), Task::from_arg(&ctx, 1));
    preemption::first(|| preemption::event(KIND_FORK, child, 0), || hooks::fork::report(parent, child));
    0
}

/// See `preemption`.
#[btf_tracepoint(function = "sched_process_fork")]
fn fork_second(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task::from_arg(&ctx, 0), Task::from_arg(&ctx, 1));
    preemption::second(KIND_FORK, preemption::event(KIND_FORK, child, 0), || {
        hooks::fork::report(parent, child)
    });
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    let flags = preemption::first(
        || preemption::event(KIND_EXEC, task, task.self_exec_id()),
        || hooks::exec::report(task, ctx.arg::<*const u8>(2)),
    );
    if flags != 0 {
        debug!(&ctx, "exec of {}: path flags {} of the executable", ctx.tgid(), flags);
    }
    0
}

/// See `preemption`.
#[btf_tracepoint(function = "sched_process_exec")]
fn exec_second(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    preemption::second(KIND_EXEC, preemption::event(KIND_EXEC, task, task.self_exec_id()), || {
        hooks::exec::report_second(task, ctx.arg::<*const u8>(2))
    });
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    preemption::first(|| preemption::event(KIND_EXIT, task, 0), || thread_exited(&ctx, task));
    0
}

/// See `preemption`.
#[btf_tracepoint(function = "sched_process_exit")]
fn exit_second(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    preemption::second(KIND_EXIT, preemption::event(KIND_EXIT, task, 0), || thread_exited(&ctx, task));
    0
}

/// Reports a death if the thread that exits is the last of its group.
#[inline(always)]
fn thread_exited(ctx: &BtfTracePointContext, task: Task<Typed>) {
    // A constant to the verifier, which does not visit the load of the argument on kernels that have no such argument.
    let group_dead =
        if offset!(exit_has_group_dead) == 1 { ctx.arg::<u64>(1) & 1 == 1 } else { task.live() == 0 };
    if group_dead {
        hooks::exit::report(task);
    }
}

#[btf_tracepoint(function = "task_rename")]
fn task_rename(ctx: BtfTracePointContext) -> i32 {
    hooks::comm::report(Task::from_arg(&ctx, 0), ctx.arg::<*const u8>(1));
    0
}

#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    hooks::cgroup::report(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), Task::from_arg(&ctx, 2));
    0
}

#[btf_tracepoint(function = "signal_generate")]
fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    let signal = ctx.arg::<u64>(0) as u32;
    // Most of all signals are SIGCHLD.
    if !hooks::signal::may_end(signal) {
        return 0;
    }
    // By helper and not by a load, after which the verifier would take it for a pointer that is not null, and leave out
    // what is for null (`reg_not_null`, kernel/bpf/verifier.c).
    let info: u64 = access::read(ctx.as_ptr() as u64 + size_of::<u64>() as u64);
    if hooks::signal::is_hang_up(signal, info) {
        // Every process of the terminal's POSIX session lost it.
        hooks::hint::raise(observer_common::record::HINT_BIT_IDS);
    }
    let is_to_group = ctx.arg::<u64>(3) as u32 != 0;
    hooks::signal::report(signal, info, Task::from_arg(&ctx, 2), is_to_group, ctx.arg::<u64>(4) as u32);
    0
}

#[btf_tracepoint(function = "sched_process_free")]
fn sched_process_free(ctx: BtfTracePointContext) -> i32 {
    hooks::release::report(Task::from_arg(&ctx, 0));
    0
}

#[btf_tracepoint(function = "mark_victim")]
fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    // A constant to the verifier, which does not visit the other branch.
    let victim = if offset!(mark_victim_has_task) == 1 {
        Task::from_arg(&ctx, 0).pid()
    } else {
        // By helper, because the compiler would merge the two loads.
        access::read(ctx.as_ptr() as u64)
    };
    hooks::oom::report(victim);
    0
}

#[tracepoint]
fn sys_exit_chdir(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        let flags = hooks::cwd::report(Task::current());
        if flags != 0 {
            debug!(&ctx, "chdir of {}: path flags {}", ctx.tgid(), flags);
        }
    }
    0
}

#[tracepoint]
fn sys_exit_setuid(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        hooks::creds::report(Task::current());
    }
    0
}

#[tracepoint]
fn sys_exit_setsid(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        hooks::ids::report(Task::current());
        // The process usually acquires a terminal next, which no tracepoint shows.
        hooks::hint::raise(observer_common::record::HINT_BIT_IDS);
    }
    0
}

/// The target may be a child, and this hook does not have the argument that names it. So it raises a hint.
#[tracepoint]
fn sys_exit_setpgid(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        hooks::hint::raise(observer_common::record::HINT_BIT_IDS);
    }
    0
}

/// rename*, rmdir, unlinkat, mount changes, setns, unshare: paths of other processes than the caller may have changed.
#[tracepoint]
fn sys_exit_paths(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        hooks::hint::raise(observer_common::record::HINT_BIT_PATHS);
    }
    0
}

/// `iter/task`: aya-ebpf has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn iter_task(ctx: *mut hooks::row::IterTask) -> i32 {
    hooks::row::write(ctx)
}

/// Returns whether a system call succeeded: `trace_event_raw_sys_exit::ret` at byte 16, which is compared with BTF at start
/// (`observer_common::hooks::FIXED`).
#[inline(always)]
fn succeeded(ctx: &TracePointContext) -> bool {
    // SAFETY: reads the context of a sys_exit tracepoint within its 24 bytes, through the helper that checks.
    unsafe { ctx.read_at::<i64>(16) }.is_ok_and(|ret| ret >= 0)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that this object uses are available to GPL-compatible programs only; the kernel accepts this text as such
/// (`license_is_gpl_compatible`, include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
