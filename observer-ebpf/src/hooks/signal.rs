//! Reports signals that may end a process, and who sent them. Runs in the context of the sender, or in an interrupt.

use observer_common::origin::{
    ADDRESS_KERNEL, ADDRESS_NON_CANONICAL, ADDRESS_NULL_PAGE, ADDRESS_UNKNOWN, ADDRESS_USER,
    SIGNAL_BY_CALLER, SIGNAL_BY_KERNEL, SIGNAL_BY_KERNEL_CODE, SIGNAL_BY_KERNEL_FOR_CALLER,
    SIGNAL_BY_KERNEL_FOR_CHILD, SIGNAL_BY_KERNEL_FOR_ENDING, SIGNAL_BY_KERNEL_FOR_LIMIT,
    SIGNAL_BY_KERNEL_FOR_TRACEE,
};
use observer_common::record::{KIND_SIGNAL, SIGNAL_HANDLED, SignalRecord};

use crate::access::{Probed, Typed, offset, read};
use crate::budget;
use crate::emit::{self, Priority};
use crate::task::Task;

// Numbers of signals, include/uapi/asm-generic/signal.h.
const SIGHUP: u32 = 1;
const SIGINT: u32 = 2;
const SIGQUIT: u32 = 3;
const SIGILL: u32 = 4;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
const SIGKILL: u32 = 9;
const SIGSEGV: u32 = 11;
const SIGTERM: u32 = 15;
const SIGNAL_LAST: u32 = 64;
/// Those that the kernel sends with the address of a fault.
const FAULTS: u64 = 1 << SIGILL | 1 << SIGBUS | 1 << SIGFPE | 1 << SIGSEGV;
/// Those that by default end nothing: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG and WINCH.
const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;
/// Those that ask a process to end, which it may handle.
const POLITE: u64 = 1 << SIGHUP | 1 << SIGINT | 1 << SIGQUIT | 1 << SIGTERM;
// The pointers that stand for no siginfo, include/linux/sched/signal.h.
const SEND_SIG_NOINFO: u64 = 0;
const SEND_SIG_PRIV: u64 = 1;
// Results of the tracepoint, include/trace/events/signal.h.
const RESULT_IGNORED: u32 = 1;
const RESULT_ALREADY_PENDING: u32 = 2;
const RESULT_FAILED: u32 = 3;
// Of `si_code`, include/uapi/asm-generic/siginfo.h.
const SI_USER: i32 = 0;
const SI_TIMER: i32 = -2;
const SI_ASYNCIO: i32 = -4;
const SI_SIGIO: i32 = -5;
const SI_KERNEL: i32 = 0x80;
/// From `si_code` to `si_addr`, bytes. No kernel moves it: processes get the same bytes (`copy_siginfo_to_user`,
/// kernel/signal.c), in the layout of include/uapi/asm-generic/siginfo.h.
const ADDRESS_AFTER_CODE: u64 = 8;
/// Where the first addresses end that no process has, unless the administrator allows it: the default of
/// `vm.mmap_min_addr` (mm/Kconfig).
const NULL_PAGE_END: u64 = 0x1_0000;

/// Whether the kernel itself hung up a terminal.
#[inline(always)]
pub fn is_hang_up(signal: u32, info: u64) -> bool {
    signal == SIGHUP && info == SEND_SIG_PRIV
}

/// Whether this is a signal that ends a process unless that handles it.
#[inline(always)]
pub fn may_end(signal: u32) -> bool {
    (1..=SIGNAL_LAST).contains(&signal) && HARMLESS & (1 << (signal & 63)) == 0
}

/// Reports that `signal`, which may end its target, was sent to `target`: the thread, or its whole process. One that the target
/// handles or ignores is left out, unless it asks for the end.
#[inline(always)]
pub fn report(signal: u32, info: u64, target: Task<Typed>, is_to_group: bool, result: u32) {
    if matches!(result, RESULT_ALREADY_PENDING | RESULT_FAILED) || target.is_kthread() {
        return;
    }
    let is_polite = signal < SIGNAL_LAST && POLITE & (1 << (signal & 63)) != 0;
    // Also by the kernel, for the first process of a pid namespace that has no handler.
    if result == RESULT_IGNORED && (!is_polite || target.signal().is_ending()) {
        return;
    }
    let is_handled = result == RESULT_IGNORED || !target.has_default_action(signal);
    if signal != SIGKILL && !is_polite && is_handled {
        return;
    }
    let now = emit::now();
    let leader = target.group_leader();
    let thread = Task::<Probed>::current();
    let caller = thread.group_leader();
    let (mut origin, code) = origin(info);
    // Its own end is no reason to kill a process: that was a limit, or lack of memory.
    if thread.is_exiting() && caller.tgid() != leader.tgid() {
        origin = for_ending(origin, signal, is_to_group);
    }
    // At its hard limit of CPU time, a process is killed from within. So it is, seldom, for lack of memory: then a mark follows.
    let is_from_within = is_to_group && caller.tgid() == leader.tgid();
    if origin == SIGNAL_BY_KERNEL && signal == SIGKILL && is_from_within && target.signal().is_at_cpu_limit()
    {
        origin = SIGNAL_BY_KERNEL_FOR_LIMIT;
    }
    // Each process is killed once. Of other signals, nobody causes more than their share; whoever is running when the
    // kernel sends one by itself has not caused it.
    let (sender_uid, ..) = caller.uids();
    if signal != SIGKILL {
        let is_by_caller =
            matches!(origin, SIGNAL_BY_CALLER | SIGNAL_BY_KERNEL_FOR_CALLER | SIGNAL_BY_KERNEL_FOR_CHILD);
        let (target_uid, ..) = leader.uids();
        if !budget::has_left(now, if is_by_caller { sender_uid } else { target_uid }) || emit::is_half_full()
        {
            emit::count(observer_common::control::THROTTLED + KIND_SIGNAL);
            return;
        }
    }
    let header = emit::header(KIND_SIGNAL, now, leader, target.pid(), size_of::<SignalRecord>());
    let record = SignalRecord {
        header,
        sender_start_boottime_ns: caller.start_boottime(),
        sender_tgid: caller.tgid(),
        sender_uid,
        signal,
        code,
        origin,
        memory: target.memory(),
        sender_comm: caller.comm(),
        address: if origin == SIGNAL_BY_KERNEL_CODE {
            address_class(signal, code, info)
        } else {
            ADDRESS_UNKNOWN
        },
        flags: if is_handled { SIGNAL_HANDLED } else { 0 },
    };
    // What the ring has no room for was refused above: no pass can read it again.
    emit::fixed(KIND_SIGNAL, Priority::Vital, header.tgid, false, record);
}

/// Where the address is that the processor gave for a fault. The address itself stays in the kernel: where a process has its
/// memory is nobody else's business.
#[inline(always)]
fn address_class(signal: u32, code: i32, info: u64) -> u32 {
    // With SI_KERNEL, which stands for a general protection fault, there is no address.
    if FAULTS & (1 << (signal & 63)) == 0 || signal > SIGNAL_LAST - 1 || !(1..SI_KERNEL).contains(&code) {
        return ADDRESS_UNKNOWN;
    }
    let address: u64 = read(info.wrapping_add(u64::from(offset!(siginfo_code)) + ADDRESS_AFTER_CODE));
    match address {
        // x86 gives none for one that is not aligned (`exc_alignment_check`, arch/x86/kernel/traps.c).
        0 if signal == SIGBUS => ADDRESS_UNKNOWN,
        0..NULL_PAGE_END => ADDRESS_NULL_PAGE,
        // With five levels of page tables, processes have 56 bits (arch/x86/include/asm/page_64_types.h).
        _ if address >> 56 == 0 => ADDRESS_USER,
        _ if address >> 56 == 0xff => ADDRESS_KERNEL,
        _ => ADDRESS_NON_CANONICAL,
    }
}

/// What stands for `origin` if the calling thread is ending, and the signal is to another process.
#[inline(always)]
fn for_ending(origin: u32, signal: u32, is_to_group: bool) -> u32 {
    // `reparent_leader`, kernel/exit.c; a thread that is ending writes to no `cgroup.kill`.
    if origin == SIGNAL_BY_KERNEL_FOR_CALLER {
        return SIGNAL_BY_KERNEL_FOR_CHILD;
    }
    if origin != SIGNAL_BY_KERNEL || signal != SIGKILL {
        return origin;
    }
    // `zap_pid_ns_processes` (kernel/pid_namespace.c) kills groups, `exit_ptrace` (kernel/ptrace.c) a thread.
    if is_to_group { SIGNAL_BY_KERNEL_FOR_ENDING } else { SIGNAL_BY_KERNEL_FOR_TRACEE }
}

/// Who sent a signal with this `info`, and its `si_code`.
#[inline(always)]
fn origin(info: u64) -> (u32, i32) {
    if info == SEND_SIG_PRIV {
        return (SIGNAL_BY_KERNEL, 0);
    }
    if info == SEND_SIG_NOINFO {
        return (SIGNAL_BY_KERNEL_FOR_CALLER, 0);
    }
    let code: i32 = read(info.wrapping_add(u64::from(offset!(siginfo_code))));
    // Processes may choose codes below zero. The kernel has some of them, and sends with these from interrupts.
    let origin = match code {
        SI_TIMER | SI_ASYNCIO | SI_SIGIO => SIGNAL_BY_KERNEL_CODE,
        _ if code <= SI_USER => SIGNAL_BY_CALLER,
        _ => SIGNAL_BY_KERNEL_CODE,
    };
    (origin, code)
}
