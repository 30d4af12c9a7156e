//! Who sent a signal, and the kernel's reasons for those that it sends, in words.

use nix::libc::{
    SIGALRM, SIGBUS, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGIO, SIGKILL, SIGPIPE, SIGPROF, SIGQUIT, SIGSEGV,
    SIGSYS, SIGTRAP, SIGVTALRM, SIGXCPU, SIGXFSZ,
};

use crate::api::signal::{FaultAddress, Sender, SentBy, SignalReason};
use crate::text::bytes::to_line;

/// `si_code` of a fault whose address the processor does not give, include/uapi/asm-generic/siginfo.h.
const SI_KERNEL: i32 = 0x80;

/// The process in a sender: `pid 812 (bash) of session alpha`.
pub fn process(sender: &Sender<'_>) -> String {
    let pid = sender.pid.unwrap_or_default();
    let comm = sender.comm.as_ref().map(|comm| format!(" ({})", to_line(comm.as_bytes())));
    let session = sender.session.as_ref().map(|name| format!(" of session {}", to_line(name.as_bytes())));
    format!("pid {pid}{}{}", comm.unwrap_or_default(), session.unwrap_or_default())
}

/// Why the kernel sent `signal` to the process `to`, as a clause about `it`; `None`: it does not say.
pub fn reason(signal: u8, sender: &Sender<'_>, to: Option<u32>) -> Option<String> {
    let signal = i32::from(signal);
    let words = match sender.by {
        SentBy::Fault => return Some(fault(signal, sender)),
        SentBy::Caused => return caused(signal, sender, to),
        SentBy::Timer => "a timer that it had set expired",
        _ if signal == SIGKILL && sender.reason == Some(SignalReason::CpuLimit) => {
            "it used up its CPU time, by the hard limit"
        }
        _ => by_itself(signal)?,
    };
    Some(words.into())
}

/// What the process did that the processor or a filter forbids.
fn fault(signal: i32, sender: &Sender<'_>) -> String {
    let code = sender.code;
    let words = match (signal, code) {
        (SIGSEGV, Some(1)) => "it used an address at which nothing is mapped",
        (SIGSEGV, Some(2)) => "it used an address in a way that is not allowed there",
        (SIGSEGV, Some(3)) => "it used an address beyond its bounds",
        (SIGSEGV, Some(4)) => "it used an address that a protection key denies",
        (SIGSEGV, Some(SI_KERNEL)) => "it used an address, or an instruction, that no process may use",
        (SIGBUS, Some(1)) => "it used an address that is not aligned",
        (SIGBUS, Some(2)) => "it used an address beyond the end of a mapped file",
        (SIGBUS, Some(4 | 5)) => "the memory that it used is damaged",
        (SIGFPE, Some(1)) => "it divided an integer by zero",
        (SIGFPE, _) => "its arithmetic failed",
        (SIGILL, _) => "it executed an instruction that does not exist, or is not allowed",
        (SIGSYS, Some(1)) => "it made a system call that its seccomp filter forbids",
        (SIGSYS, _) => "it made a system call that does not exist",
        (SIGTRAP, _) => "it reached a breakpoint",
        _ => "it used memory as it must not",
    };
    let address = match sender.address {
        // Of these it is that of the instruction.
        _ if [SIGILL, SIGFPE].contains(&signal) => "",
        Some(FaultAddress::NullPage) => ", a null pointer",
        Some(FaultAddress::User) => ", in the memory of processes",
        Some(FaultAddress::Kernel) => ", in the memory of the kernel",
        Some(FaultAddress::NonCanonical) => ", in nobody's memory",
        Some(FaultAddress::Unknown) | None => "",
    };
    code.map_or_else(|| words.into(), |code| format!("{words} (code {code}{address})"))
}

/// What a process did that made the kernel send the signal.
fn caused(signal: i32, sender: &Sender<'_>, to: Option<u32>) -> Option<String> {
    match signal {
        SIGPIPE => return Some("it wrote to a closed pipe or socket".into()),
        SIGXFSZ => return Some("it wrote beyond its limit of file size".into()),
        _ if sender.pid.is_none() || sender.pid == to => return None,
        _ => {}
    }
    let process = process(sender);
    Some(match (sender.reason, signal) {
        (Some(SignalReason::ParentEnded), _) => {
            format!("its parent, {process}, ended, or the thread of it that was the parent")
        }
        (Some(SignalReason::NamespaceEnded), _) => {
            format!("{process} ended, the first process of its pid namespace")
        }
        (Some(SignalReason::TracerEnded), _) => format!("its tracer, {process}, ended"),
        (Some(SignalReason::CgroupKill), _) => format!("{process} wrote to cgroup.kill"),
        (Some(SignalReason::HangUp), _) => format!("{process} gave up its terminal"),
        (Some(SignalReason::Unknown) | None, SIGKILL) => format!(
            "{process} wrote to cgroup.kill, or ended as its parent, its tracer or the first process of its pid namespace"
        ),
        (_, SIGHUP) => {
            format!("{process} gave up its terminal, or ended as the parent that it must not outlive")
        }
        _ => format!("{process} ended as the parent that it must not outlive"),
    })
}

/// What makes the kernel send this signal by itself.
fn by_itself(signal: i32) -> Option<&'static str> {
    Some(match signal {
        SIGHUP => "its terminal was hung up, or the process that controlled it ended",
        SIGINT => "Ctrl-C was typed on its terminal",
        SIGQUIT => "Ctrl-\\ was typed on its terminal",
        SIGXCPU => "it reached its limit of CPU time",
        SIGALRM | SIGVTALRM | SIGPROF => "a timer that it had set expired",
        SIGIO => "its input or output was ready, and it did not expect that",
        SIGKILL => {
            "for a limit of CPU time, the secure attention key or lack of memory; it does not say which"
        }
        _ => return None,
    })
}
