//! The hooks in use, and what each must look like in the running kernel's BTF: what differs is not attached. The daemon
//! attaches from this list and compares it with the kernel at start, docs/kernels.md is generated from it, and the tests
//! compare it with every kernel that is tested, with a BTF reader of their own.

use crate::offsets::CType::{self, Int, Ptr, Struct};
use crate::record::{
    KIND_CGROUP, KIND_COMM, KIND_CREDS, KIND_CWD, KIND_EXEC, KIND_EXIT, KIND_FORK, KIND_HINT, KIND_IDS,
    KIND_OOM, KIND_RELEASE, KIND_ROW, KIND_SIGNAL,
};

/// Something that observer learns from the kernel, each by hooks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A new process.
    Birth,
    /// A process runs a new program.
    Exec,
    /// A process ended.
    Death,
    /// Every field of every process, at one time.
    Snapshot,
    /// The leader's comm.
    Comm,
    /// The cgroup in the v2 hierarchy.
    Cgroup,
    /// A signal that may end a process, and its sender; that a terminal hung up.
    Signal,
    /// The CPU time of a process that ended, to the end.
    CpuTime,
    /// That the kernel killed a process for lack of memory.
    Oom,
    /// What had no memory left then.
    OomScope,
    /// The working directory.
    Cwd,
    /// Names of directories and mounts, which are part of paths.
    Paths,
    /// User ids.
    Uids,
    /// The POSIX session.
    Sid,
    /// The process group.
    Pgid,
    /// The controlling terminal.
    Terminal,
    /// Arguments and environment of processes that called exec before observer started, which no hook reports.
    OlderArgv,
}

impl Fact {
    /// The name of the fact in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Birth => "birth",
            Self::Exec => "exec",
            Self::Death => "death",
            Self::Snapshot => "snapshot",
            Self::Comm => "comm",
            Self::Cgroup => "cgroup",
            Self::Signal => "signal",
            Self::CpuTime => "cpu_time",
            Self::Oom => "oom",
            Self::OomScope => "oom_scope",
            Self::Cwd => "cwd",
            Self::Paths => "paths",
            Self::Uids => "uids",
            Self::Sid => "sid",
            Self::Pgid => "pgid",
            Self::Terminal => "terminal",
            Self::OlderArgv => "older argv",
        }
    }

    /// Whether a pass can read the fact that no hook reported. A birth, an end or a signal is over then, and a pass reads no
    /// memory.
    pub const fn is_read_again(self) -> bool {
        !matches!(
            self,
            Self::Birth
                | Self::Exec
                | Self::Death
                | Self::Signal
                | Self::CpuTime
                | Self::Oom
                | Self::OlderArgv
                | Self::OomScope
        )
    }
}

/// One hook. Its program has the name of its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The fact that it reports.
    pub fact: Fact,
    /// Where its program is attached.
    pub point: Point,
    /// Kind of the records that its program sends.
    pub kind: u32,
    /// What becomes of the fact without the hook.
    pub without: Without,
    /// The arguments that the program reads; the point may have others, which differ between kernels.
    pub arguments: &'static [Argument],
    /// A second program at the same point, for kernels on which the first can be preempted and then skipped.
    pub second: Option<&'static str>,
    /// The call with which the daemon checks, after attaching, that the program runs.
    pub trial: Option<Trial>,
}

/// A place in the kernel that programs attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Tracepoint: `btf_trace_NAME` in BTF.
    Tracepoint(&'static str),
    /// End of a function, for fexit.
    Function(&'static str),
    /// Entry of a function, for fentry.
    Entry(&'static str),
    /// Entry of a system call, for fexit: `__x64_sys_NAME`, `__arm64_sys_NAME`.
    Syscall(&'static str),
    /// Entry of a system call for 32-bit callers, for fexit. A kernel without this function has no such callers.
    Compat(&'static str),
    /// Iterator: `bpf_iter_NAME` in BTF.
    Iterator(&'static str),
}

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The argument at this index.
    At(u8, CType),
    /// The argument at this index, on kernels that have it.
    MayBeAt(u8, CType),
    /// The argument at this index, which has one of these types.
    EitherAt(u8, CType, CType),
    /// The first argument of this type.
    Found(CType),
    /// What the function returns, which follows this many arguments.
    ReturnedAfter(u8),
}

/// What becomes of a fact whose hook cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// observer does not start.
    Refused,
    /// Exits of system calls report it instead ([`FALLBACKS`]).
    Fallback,
    /// Nothing reports it, and it is listed as a blind spot. It is read again when asked and carries `as_of`, if a pass can read
    /// it ([`Fact::is_read_again`]); otherwise it stays unknown.
    Blind,
}

/// A harmless system call that a child of the daemon makes at start, to check that the programs of a function run. In the
/// order in which they are made: those that a sandbox may forbid by killing the caller are last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Changes to the directory that it is in.
    ChangeDirectory,
    /// Sets credentials to what they are.
    CommitCredentials,
    /// Renames a directory made for this.
    Rename,
    /// Exchanges two directories made for this.
    Exchange,
    /// Removes a directory made for this.
    RemoveDirectory,
    /// Begins a POSIX session.
    BeginSession,
    /// Opens a terminal, which becomes the controlling one.
    OpenTerminal,
    /// Takes a terminal by ioctl.
    TakeTerminal,
    /// Unshares nothing.
    Unshare,
    /// Mounts with a flag that is refused.
    Mount,
    /// Unmounts a directory that is no mount point.
    Unmount,
}

impl Trial {
    /// Every trial, in the order in which they are made.
    pub const ALL: [Self; 11] = [
        Self::ChangeDirectory,
        Self::CommitCredentials,
        Self::Rename,
        Self::Exchange,
        Self::RemoveDirectory,
        Self::BeginSession,
        Self::OpenTerminal,
        Self::TakeTerminal,
        Self::Unshare,
        Self::Mount,
        Self::Unmount,
    ];
}

use Argument::{At, EitherAt, Found, MayBeAt, ReturnedAfter};
use Point::{Compat, Entry, Function, Iterator, Syscall, Tracepoint};
use Without::{Blind, Refused};

/// Index of the argument `group_dead` of `sched_process_exit`, on kernels that have it.
pub const GROUP_DEAD: u8 = 1;

/// Index of the argument of `mark_victim` that is the victim.
pub const VICTIM: u8 = 0;

const TASK: CType = Ptr("task_struct");
const DENTRY: CType = Ptr("dentry");

/// Every hook that a program is attached to by its type in BTF. Exits of system calls have no such type; they are in
/// [`FALLBACKS`].
pub const HOOKS: &[Hook] = &[
    hook(Fact::Birth, Tracepoint("sched_process_fork"), KIND_FORK, Refused)
        .takes(&[At(0, TASK), At(1, TASK)])
        .second("fork_second"),
    hook(Fact::Exec, Tracepoint("sched_process_exec"), KIND_EXEC, Refused)
        .takes(&[At(0, TASK), At(2, Ptr("linux_binprm"))])
        .second("exec_second"),
    hook(Fact::Death, Tracepoint("sched_process_exit"), KIND_EXIT, Refused)
        .takes(&[At(0, TASK), MayBeAt(GROUP_DEAD, Int(1))])
        .second("exit_second"),
    hook(Fact::Snapshot, Iterator("task"), KIND_ROW, Refused)
        .takes(&[At(0, Ptr("bpf_iter_meta")), At(1, TASK)]),
    hook(Fact::Comm, Tracepoint("task_rename"), KIND_COMM, Blind).takes(&[At(0, TASK), At(1, Ptr(""))]),
    hook(Fact::Cgroup, Tracepoint("cgroup_attach_task"), KIND_CGROUP, Blind).takes(&[
        At(0, Ptr("cgroup")),
        At(1, Ptr("")),
        At(2, TASK),
    ]),
    hook(Fact::Signal, Tracepoint("signal_generate"), KIND_SIGNAL, Blind).takes(&[
        At(0, Int(4)),
        At(1, Ptr("kernel_siginfo")),
        At(2, TASK),
        At(3, Int(4)),
        At(4, Int(4)),
    ]),
    hook(Fact::CpuTime, Tracepoint("sched_process_free"), KIND_RELEASE, Blind).takes(&[At(0, TASK)]),
    // The pid up to 6.7, the task from 6.8 on (include/trace/events/oom.h).
    hook(Fact::Oom, Tracepoint("mark_victim"), KIND_OOM, Blind).takes(&[EitherAt(VICTIM, Int(4), TASK)]),
    function(Fact::Cwd, Function("set_fs_pwd"), KIND_CWD).tried_by(Trial::ChangeDirectory),
    function(Fact::Paths, Function("d_move"), KIND_HINT).takes(&[At(0, DENTRY)]).tried_by(Trial::Rename),
    function(Fact::Paths, Function("d_exchange"), KIND_HINT)
        .takes(&[At(0, DENTRY), At(1, DENTRY)])
        .tried_by(Trial::Exchange),
    function(Fact::Paths, Function("d_delete"), KIND_HINT)
        .takes(&[At(0, DENTRY)])
        .tried_by(Trial::RemoveDirectory),
    function(Fact::Paths, Function("__detach_mounts"), KIND_HINT),
    function(Fact::Paths, Function("path_mount"), KIND_HINT)
        .takes(&[ReturnedAfter(5)])
        .tried_by(Trial::Mount),
    function(Fact::Paths, Function("path_umount"), KIND_HINT)
        .takes(&[ReturnedAfter(2)])
        .tried_by(Trial::Unmount),
    function(Fact::Paths, Function("ksys_unshare"), KIND_HINT)
        .takes(&[ReturnedAfter(1)])
        .tried_by(Trial::Unshare),
    function(Fact::Paths, Syscall("move_mount"), KIND_HINT).takes(&[ReturnedAfter(1)]),
    function(Fact::Paths, Compat("__ia32_sys_move_mount"), KIND_HINT).takes(&[ReturnedAfter(1)]),
    function(Fact::Paths, Function("chroot_fs_refs"), KIND_HINT),
    function(Fact::Paths, Syscall("setns"), KIND_HINT).takes(&[ReturnedAfter(1)]),
    function(Fact::Paths, Compat("__ia32_sys_setns"), KIND_HINT).takes(&[ReturnedAfter(1)]),
    function(Fact::Uids, Function("commit_creds"), KIND_CREDS).tried_by(Trial::CommitCredentials),
    function(Fact::Sid, Function("ksys_setsid"), KIND_IDS)
        .takes(&[ReturnedAfter(0)])
        .tried_by(Trial::BeginSession),
    function(Fact::Pgid, Function("change_pid"), KIND_IDS)
        .takes(&[Found(TASK)])
        .tried_by(Trial::BeginSession),
    hook(Fact::Terminal, Function("tty_jobctrl_ioctl"), KIND_IDS, Blind)
        .takes(&[At(3, Int(4)), ReturnedAfter(5)])
        .tried_by(Trial::TakeTerminal),
    hook(Fact::Terminal, Function("tty_open_proc_set_tty"), KIND_IDS, Blind)
        .takes(&[At(1, Ptr("tty_struct"))])
        .tried_by(Trial::OpenTerminal),
    // At its end the victim may be gone. No call that a process can make tries it.
    hook(Fact::OomScope, Entry("oom_kill_process"), KIND_OOM, Blind).takes(&[At(0, Ptr("oom_control"))]),
];

const fn hook(fact: Fact, point: Point, kind: u32, without: Without) -> Hook {
    Hook { fact, point, kind, without, arguments: &[], second: None, trial: None }
}

/// A hook at the end of a function, which exits of system calls can replace.
const fn function(fact: Fact, point: Point, kind: u32) -> Hook {
    hook(fact, point, kind, Without::Fallback)
}

impl Hook {
    const fn takes(self, arguments: &'static [Argument]) -> Self {
        Self { arguments, ..self }
    }

    const fn second(self, program: &'static str) -> Self {
        Self { second: Some(program), ..self }
    }

    const fn tried_by(self, trial: Trial) -> Self {
        Self { trial: Some(trial), ..self }
    }
}

/// What reports a fact if one of its functions cannot be attached to, at its end or its entry.
#[derive(Clone, Copy, Debug)]
pub struct Fallback {
    /// The fact.
    pub fact: Fact,
    /// The exits of system calls that report it; `None` if nothing does.
    pub exits: Option<SyscallExits>,
    /// What stays unseen without the functions, for operators.
    pub unseen: &'static str,
}

/// A program at the exits of system calls (`tracepoint/syscalls/sys_exit_CALL`).
#[derive(Clone, Copy, Debug)]
pub struct SyscallExits {
    /// Name of the program.
    pub program: &'static str,
    /// The system calls.
    pub calls: &'static [&'static str],
    /// Kind of the records that the program sends.
    pub kind: u32,
}

/// Every fact that programs at kernel functions report, and what replaces them.
pub const FALLBACKS: &[Fallback] = &[
    Fallback {
        fact: Fact::Cwd,
        exits: exits("sys_exit_chdir", KIND_CWD, &["chdir", "fchdir"]),
        unseen: "chdir and fchdir called by 32-bit code",
    },
    Fallback {
        fact: Fact::Uids,
        exits: exits("sys_exit_setuid", KIND_CREDS, &["setuid", "setreuid", "setresuid"]),
        unseen: "setuid, setreuid and setresuid called by 32-bit code",
    },
    Fallback {
        fact: Fact::Sid,
        exits: exits("sys_exit_setsid", KIND_IDS, &["setsid"]),
        unseen: "setsid called by 32-bit code",
    },
    Fallback {
        fact: Fact::Pgid,
        exits: exits("sys_exit_setpgid", KIND_HINT, &["setpgid"]),
        unseen: "setpgid called by 32-bit code",
    },
    Fallback {
        fact: Fact::Paths,
        exits: exits(
            "sys_exit_paths",
            KIND_HINT,
            // arm64 has no system calls `rename` and `rmdir` (arch/arm64/tools/syscall_64.tbl; before 6.11
            // include/uapi/asm-generic/unistd.h).
            &[
                #[cfg(not(target_arch = "aarch64"))]
                "rename",
                "renameat",
                "renameat2",
                #[cfg(not(target_arch = "aarch64"))]
                "rmdir",
                "unlinkat",
                "mount",
                "umount",
                "move_mount",
                "pivot_root",
                "setns",
                "unshare",
            ],
        ),
        unseen: "renames and removals made through io_uring; renames, removals and mount changes made by 32-bit code",
    },
    Fallback {
        fact: Fact::Terminal,
        exits: None,
        unseen: "a terminal gained or given up by ioctl or by opening it",
    },
    Fallback {
        fact: Fact::OomScope,
        exits: None,
        unseen: "whether a cgroup or the whole host had no memory left when the kernel killed a process for that",
    },
];

const fn exits(program: &'static str, kind: u32, calls: &'static [&'static str]) -> Option<SyscallExits> {
    Some(SyscallExits { program, calls, kind })
}

impl Fallback {
    /// The hooks at functions that report the fact.
    pub fn functions(&self) -> impl core::iter::Iterator<Item = &'static Hook> {
        let fact = self.fact;
        HOOKS.iter().filter(move |hook| hook.fact == fact)
    }
}

/// A member whose place is compiled into the programs, because BPF or the tracing events guarantee it.
#[derive(Clone, Copy, Debug)]
pub struct FixedMember {
    /// Kernel struct.
    pub of: &'static str,
    /// Member.
    pub member: &'static str,
    /// Its offset, bytes.
    pub offset: u32,
    /// Its type.
    pub ctype: CType,
}

/// Every such member.
pub const FIXED: &[FixedMember] = &[
    FixedMember { of: "bpf_iter__task", member: "meta", offset: 0, ctype: Ptr("bpf_iter_meta") },
    FixedMember { of: "bpf_iter__task", member: "task", offset: 8, ctype: TASK },
    FixedMember { of: "bpf_iter_meta", member: "seq", offset: 0, ctype: Ptr("seq_file") },
    FixedMember { of: "k_sigaction", member: "sa", offset: 0, ctype: Struct("sigaction") },
    FixedMember { of: "sigaction", member: "sa_handler", offset: 0, ctype: Ptr("") },
    FixedMember { of: "rlimit", member: "rlim_max", offset: 8, ctype: Int(8) },
    // The last member, of 8 bytes.
    FixedMember { of: "sigaction", member: "sa_mask", offset: 24, ctype: Struct("") },
    FixedMember { of: "trace_event_raw_sys_exit", member: "ret", offset: 16, ctype: Int(8) },
];

/// Numbers that are compiled into the programs: enum, constant, value.
pub const CONSTANTS: &[(&str, &str, u32)] =
    &[("pid_type", "PIDTYPE_PGID", 2), ("pid_type", "PIDTYPE_SID", 3)];

impl Point {
    /// The name of the point, which is also the name of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Tracepoint(name) | Function(name) | Entry(name) | Syscall(name) | Compat(name)
            | Iterator(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_says_what_becomes_of_its_fact() {
        for hook in HOOKS {
            let fallback = FALLBACKS.iter().find(|fallback| fallback.fact == hook.fact);
            let at_function = !matches!(hook.point, Tracepoint(_) | Iterator(_));
            assert_eq!(fallback.is_some(), at_function, "{hook:?}");
            let has_exits = fallback.is_some_and(|fallback| fallback.exits.is_some());
            assert_eq!(has_exits, hook.without == Without::Fallback, "{hook:?}");
            assert!(hook.second.is_none() || hook.without == Refused, "{hook:?}");
            assert!(hook.trial.is_none() || at_function, "{hook:?}");
        }
        for fallback in FALLBACKS {
            assert_ne!(fallback.functions().count(), 0, "{fallback:?}");
        }
    }

    #[test]
    fn every_trial_checks_a_hook() {
        for trial in Trial::ALL {
            assert!(HOOKS.iter().any(|hook| hook.trial == Some(trial)), "{trial:?}");
        }
    }
}
