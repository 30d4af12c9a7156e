//! The kernel programs: entry points only, one function per hook, named after the hook; those at the ends of kernel
//! functions are in `fexit`.
//!
//! What a hook does is in `hooks`, apart from what calls it, so that a tracepoint and an fexit program can share
//! it. Nothing here returns an error to the kernel: what cannot be read is flagged, what cannot be sent is counted.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use aya_log_ebpf::debug;
use observer_common::record::{KIND_EXEC, KIND_EXIT, KIND_FORK};

mod emit;
mod fexit;
mod hooks;
mod maps;
mod path;
mod task;
mod turn;

use task::Task;

#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task::from_arg(&ctx, 0), Task::from_arg(&ctx, 1));
    turn::first(|| turn::event(KIND_FORK, child, 0), || hooks::fork::born(parent, child));
    0
}

/// See `turn`.
#[btf_tracepoint(function = "sched_process_fork")]
fn fork_second(ctx: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task::from_arg(&ctx, 0), Task::from_arg(&ctx, 1));
    turn::second(KIND_FORK, turn::event(KIND_FORK, child, 0), || hooks::fork::born(parent, child));
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    let flags = turn::first(
        || turn::event(KIND_EXEC, task, task.self_exec_id()),
        || hooks::exec::execed(task, ctx.arg::<*const u8>(2)),
    );
    if flags != 0 {
        debug!(&ctx, "exec of {}: path flags {} of the executable", ctx.tgid(), flags);
    }
    0
}

/// See `turn`.
#[btf_tracepoint(function = "sched_process_exec")]
fn exec_second(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    turn::second(KIND_EXEC, turn::event(KIND_EXEC, task, task.self_exec_id()), || {
        hooks::exec::execed_second(task, ctx.arg::<*const u8>(2))
    });
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    turn::first(|| turn::event(KIND_EXIT, task, 0), || left(&ctx, task));
    0
}

/// See `turn`.
#[btf_tracepoint(function = "sched_process_exit")]
fn exit_second(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(&ctx, 0);
    turn::second(KIND_EXIT, turn::event(KIND_EXIT, task, 0), || left(&ctx, task));
    0
}

/// A thread leaves: a death, if it is the last of its group.
#[inline(always)]
fn left(ctx: &BtfTracePointContext, task: Task<task::Typed>) {
    // The verifier sees a constant here, and does not look at the argument where the kernel has none.
    let group_dead =
        if task::offset!(exit_has_group_dead) == 1 { ctx.arg::<u64>(1) & 1 == 1 } else { task.live() == 0 };
    if group_dead {
        hooks::exit::died(task);
    }
}

#[btf_tracepoint(function = "task_rename")]
fn task_rename(ctx: BtfTracePointContext) -> i32 {
    hooks::comm::renamed(Task::from_arg(&ctx, 0), ctx.arg::<*const u8>(1));
    0
}

#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    hooks::cgroup::attached(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), Task::from_arg(&ctx, 2));
    0
}

/// SIGHUP that the kernel itself sends: a terminal hung up, its whole POSIX session lost it.
#[btf_tracepoint(function = "signal_generate")]
fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    const SIGHUP: u64 = 1;
    /// `SEND_SIG_PRIV`: the kernel is the sender.
    const SEND_SIG_PRIV: u64 = 1;
    if ctx.arg::<u64>(0) & 0xff == SIGHUP && ctx.arg::<*const u8>(1) as u64 == SEND_SIG_PRIV {
        hooks::hint::raise(observer_common::record::HINT_BIT_IDS);
    }
    0
}

#[tracepoint]
fn sys_exit_chdir(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        let flags = hooks::cwd::set(Task::current());
        if flags != 0 {
            debug!(&ctx, "chdir of {}: path flags {}", ctx.tgid(), flags);
        }
    }
    0
}

#[tracepoint]
fn sys_exit_setuid(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        hooks::creds::set(Task::current());
    }
    0
}

#[tracepoint]
fn sys_exit_setsid(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        hooks::ids::set(Task::current());
        // A terminal is usually acquired next, which no hook of these shows.
        hooks::hint::raise(observer_common::record::HINT_BIT_IDS);
    }
    0
}

/// The target may be a child: its record would need the caller's argument, which this hook does not have.
#[tracepoint]
fn sys_exit_setpgid(ctx: TracePointContext) -> u32 {
    if succeeded(&ctx) {
        hooks::hint::raise(observer_common::record::HINT_BIT_IDS);
    }
    0
}

/// rename*, rmdir, unlinkat, mount changes, setns, unshare: paths of processes that did not call it may differ.
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
    hooks::row::show(ctx)
}

/// Whether a syscall returned no error: `struct trace_event_raw_sys_exit::ret`, at byte 16 on every kernel.
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

/// Helpers that this object uses are open to GPL-compatible programs only; the text is what the kernel compares with.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
