//! Signals that were sent to a process, as JSON.

use observer_core::death::{AddressClass, ReceivedSignal, SendingProcess, SentSignal, SignalOrigin};
use serde::{Deserialize, Serialize};

use super::key::LifeKey;
use crate::text::bytes::{Big, Text};
use crate::text::time::rfc3339;

/// `si_code` of SIGSYS by a seccomp filter (SYS_SECCOMP), include/uapi/asm-generic/siginfo.h.
const SYS_SECCOMP: i32 = 1;
/// `si_code` of a timer that a process made, include/uapi/asm-generic/siginfo.h.
const SI_TIMER: i32 = -2;

/// Who sent a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderKind {
    /// A process, by a system call.
    User,
    /// The kernel.
    Kernel,
    /// A word that this program does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How a signal was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SentBy {
    /// kill(2), or a pidfd.
    Kill,
    /// tgkill(2) or tkill(2).
    Tgkill,
    /// sigqueue(3).
    Sigqueue,
    /// The kernel, because of what the named process did.
    Caused,
    /// The kernel, because the process itself did what it must not: a fault.
    Fault,
    /// The kernel, because a timer expired.
    Timer,
    /// The kernel by itself, for a reason that the signal does not carry.
    Kernel,
    /// A word that this program does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Why the kernel sent a signal, as far as it says: what another process did, or what the signal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalReason {
    /// That process was the parent, or the thread of it that was ended, and the target had asked for a signal then.
    ParentEnded,
    /// That process was the first of the pid namespace, and ended.
    NamespaceEnded,
    /// That process traced the target with PTRACE_O_EXITKILL, and ended.
    TracerEnded,
    /// That process wrote to `cgroup.kill`.
    CgroupKill,
    /// The terminal was hung up, or the process ended, or gave it up, that controlled it.
    HangUp,
    /// Somebody typed Ctrl-C or Ctrl-\ on the terminal.
    TerminalKey,
    /// The process itself wrote to a pipe or socket that nobody reads.
    ClosedPipe,
    /// It reached a limit of CPU time: the hard one, if the signal is SIGKILL, otherwise the soft one.
    CpuLimit,
    /// It wrote beyond its limit of file size.
    FileSizeLimit,
    /// A timer expired that it had set.
    Timer,
    /// It made a system call that its seccomp filter forbids.
    Seccomp,
    /// A word that this program does not know.
    #[serde(other)]
    Unknown,
}

/// Where the address of a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAddress {
    /// In the first 64 KiB: a null pointer, with the offset of a member.
    NullPage,
    /// Elsewhere in the part of the address space that processes have.
    User,
    /// In the part of the kernel.
    Kernel,
    /// In neither.
    NonCanonical,
    /// A word that this program does not know.
    #[serde(other)]
    Unknown,
}

impl From<AddressClass> for FaultAddress {
    fn from(class: AddressClass) -> Self {
        match class {
            AddressClass::NullPage => Self::NullPage,
            AddressClass::User => Self::User,
            AddressClass::Kernel => Self::Kernel,
            AddressClass::NonCanonical => Self::NonCanonical,
        }
    }
}

impl SignalReason {
    fn of(sent: &SentSignal) -> Option<Self> {
        use nix::libc::{
            SIGALRM, SIGHUP, SIGINT, SIGPIPE, SIGPROF, SIGQUIT, SIGSYS, SIGVTALRM, SIGXCPU, SIGXFSZ,
        };
        Some(match (sent.origin, i32::from(sent.signal)) {
            (SignalOrigin::KernelForChild, _) => Self::ParentEnded,
            (SignalOrigin::KernelForEnding, _) => Self::NamespaceEnded,
            (SignalOrigin::KernelForTracee, _) => Self::TracerEnded,
            (SignalOrigin::KernelForCgroup, _) => Self::CgroupKill,
            (SignalOrigin::Kernel | SignalOrigin::KernelForProcess, SIGHUP) => Self::HangUp,
            (SignalOrigin::KernelForProcess, SIGPIPE) => Self::ClosedPipe,
            (SignalOrigin::KernelForProcess, SIGXFSZ) => Self::FileSizeLimit,
            (SignalOrigin::Kernel, SIGINT | SIGQUIT) => Self::TerminalKey,
            (SignalOrigin::Kernel, SIGXCPU) | (SignalOrigin::KernelForLimit, _) => Self::CpuLimit,
            (SignalOrigin::Kernel, SIGALRM | SIGVTALRM | SIGPROF) => Self::Timer,
            (SignalOrigin::KernelCode(SI_TIMER, _), _) => Self::Timer,
            (SignalOrigin::KernelCode(SYS_SECCOMP, _), SIGSYS) => Self::Seccomp,
            _ => return None,
        })
    }
}

/// Who sent a signal, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sender<'a> {
    /// tgid; null where the kernel sent it by itself.
    pub pid: Option<u32>,
    /// Start of that process, boot time in ns.
    pub start_boottime_ns: Option<Big>,
    /// comm.
    pub comm: Option<Text<'a>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Who sent it.
    pub kind: SenderKind,
    /// How.
    pub by: SentBy,
    /// Why the kernel sent it; null where that is not known, where `by` says all, and where a process sent it.
    pub reason: Option<SignalReason>,
    /// `si_code` of a signal that was sent with one.
    pub code: Option<i32>,
    /// Where the address of a fault is; null where it has none, or the processor gives none.
    pub address: Option<FaultAddress>,
    /// That process as one word ([`LifeKey`]).
    pub key: Option<String>,
    /// Name of the session to which that process belonged.
    pub session: Option<Text<'a>>,
}

/// A signal that could have been handled, before the fatal one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoliteSignal<'a> {
    /// Number.
    pub signal: u8,
    /// Its name.
    pub signal_name: Option<String>,
    /// When it was sent, RFC 3339.
    pub at: String,
    /// Who sent it.
    pub sender: Option<Sender<'a>>,
}

impl Sender<'_> {
    /// The sender of a signal in the boot `boot_id`.
    pub fn new(received: &ReceivedSignal, boot_id: &str) -> Self {
        let sent = &received.sent;
        let (mut address, reason) = (None, SignalReason::of(sent));
        let (kind, by, code) = match sent.origin {
            SignalOrigin::Kill => (SenderKind::User, SentBy::Kill, None),
            SignalOrigin::ThreadKill => (SenderKind::User, SentBy::Tgkill, None),
            SignalOrigin::Queue(code) => (SenderKind::User, SentBy::Sigqueue, Some(code)),
            SignalOrigin::KernelForProcess
            | SignalOrigin::KernelForCgroup
            | SignalOrigin::KernelForEnding
            | SignalOrigin::KernelForTracee
            | SignalOrigin::KernelForChild => (SenderKind::Kernel, SentBy::Caused, None),
            SignalOrigin::KernelCode(SI_TIMER, _) => (SenderKind::Kernel, SentBy::Timer, Some(SI_TIMER)),
            SignalOrigin::KernelCode(code, class) if is_fault(sent.signal) => {
                address = class.map(FaultAddress::from);
                (SenderKind::Kernel, SentBy::Fault, Some(code))
            }
            SignalOrigin::KernelCode(code, _) => (SenderKind::Kernel, SentBy::Kernel, Some(code)),
            SignalOrigin::Kernel | SignalOrigin::KernelForLimit | SignalOrigin::LackOfMemory => {
                (SenderKind::Kernel, SentBy::Kernel, None)
            }
        };
        let Some(SendingProcess { key, comm, uid }) = sent.process else {
            return Self { kind, by, reason, code, address, ..Self::default() };
        };
        Self {
            pid: Some(key.tgid.0),
            start_boottime_ns: Some(Big(key.start_boottime.0)),
            comm: Some(Text::from(comm.as_bytes().to_vec())),
            uid: Some(uid),
            kind,
            by,
            reason,
            code,
            address,
            key: Some(LifeKey::of(boot_id, key).to_string()),
            session: received.sender_session.as_ref().map(|name| Text::from(name.to_vec())),
        }
    }

    /// The sender for people, of a signal to the process `to`: `bash (4711)`, `itself`, `the kernel`. Empty where it is not
    /// known.
    pub fn describe(&self, to: Option<u32>) -> String {
        let comm =
            || self.comm.as_ref().map_or("?".into(), |comm| crate::text::bytes::to_line(comm.as_bytes()));
        match (self.kind, self.pid) {
            (SenderKind::User, Some(pid)) if Some(pid) == to => "itself".into(),
            (SenderKind::User, Some(pid)) => format!("{} ({pid})", comm()),
            (SenderKind::Kernel, Some(pid)) if Some(pid) != to => {
                format!("the kernel for {} ({pid})", comm())
            }
            (SenderKind::Kernel, _) => "the kernel".into(),
            (SenderKind::User | SenderKind::Unknown, _) => String::new(),
        }
    }
}

/// Whether the kernel sends this signal to a process that did what the processor or a filter forbids.
fn is_fault(signal: u8) -> bool {
    use nix::libc::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    [SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS].contains(&i32::from(signal))
}

impl PoliteSignal<'_> {
    /// The JSON of a signal in the boot `boot_id`. `name` is its name.
    pub fn new(received: &ReceivedSignal, name: String, wall_offset_ns: i64, boot_id: &str) -> Self {
        Self {
            signal: received.sent.signal,
            signal_name: Some(name),
            at: rfc3339(received.sent.at, wall_offset_ns),
            sender: Some(Sender::new(received, boot_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use observer_core::process::Comm;
    use observer_core::{BootTime, ProcessKey};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_kernels_own_signals_say_why_it_sent_them() {
        use SignalOrigin::{
            Kernel, KernelCode, KernelForChild, KernelForEnding, KernelForLimit, KernelForProcess, Kill,
            LackOfMemory,
        };
        let process = SendingProcess { key: ProcessKey::new(7, 1), comm: Comm([0; 16]), uid: 0 };
        for (signal, origin, process, reason) in [
            (1, Kernel, None, json!("hang_up")),
            (1, KernelForProcess, Some(process), json!("hang_up")),
            (1, KernelForChild, Some(process), json!("parent_ended")),
            (1, Kill, Some(process), Value::Null),
            (2, Kernel, None, json!("terminal_key")),
            (3, Kernel, None, json!("terminal_key")),
            (9, Kernel, None, Value::Null),
            (9, LackOfMemory, None, Value::Null),
            (9, KernelForLimit, None, json!("cpu_limit")),
            (9, KernelForEnding, Some(process), json!("namespace_ended")),
            (13, KernelForProcess, Some(process), json!("closed_pipe")),
            (13, Kill, Some(process), Value::Null),
            (14, Kernel, None, json!("timer")),
            (10, KernelCode(SI_TIMER, None), None, json!("timer")),
            (11, KernelCode(1, None), None, Value::Null),
            (31, KernelCode(SYS_SECCOMP, None), None, json!("seccomp")),
            (31, KernelCode(2, None), None, Value::Null),
            (24, Kernel, None, json!("cpu_limit")),
            (25, KernelForProcess, Some(process), json!("file_size_limit")),
        ] {
            let sent = SentSignal { signal, at: BootTime(1), origin, process };
            let sender = Sender::new(&ReceivedSignal { sent, sender_session: None }, "boot");
            let json = serde_json::to_value(&sender).unwrap();
            assert_eq!(json["reason"], reason, "{signal} {origin:?}");
        }
        assert_eq!(serde_json::from_value::<SignalReason>(json!("later")).unwrap(), SignalReason::Unknown);
    }
}
