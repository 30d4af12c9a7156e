//! The hooks in use, and what each must look like in the running kernel's BTF: what is not as written here is not
//! attached. docs/kernels.md is made from this list, the daemon holds it against the kernel at start, and so do the
//! tests on every kernel, with a reader of their own.

use crate::control::FIRED;
use crate::offsets::Shape::{self, Int, Ptr};

/// One hook.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// The fact that it tells.
    pub fact: &'static str,
    /// What the kernel calls it.
    pub point: Point,
    /// The arguments that programs take; others may be there, and differ between kernels.
    pub takes: &'static [Take],
    /// What becomes of the fact without it.
    pub without: Without,
}

/// A place in the kernel that programs attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Tracepoint: `btf_trace_NAME` in BTF.
    Tracepoint(&'static str),
    /// Function, for fexit.
    Function(&'static str),
    /// Entry of a system call, for fexit: `__x64_sys_NAME`, `__arm64_sys_NAME`.
    Syscall(&'static str),
    /// Entry of a system call for 32-bit callers, for fexit. A kernel that does not have it has no such callers.
    Compat(&'static str),
    /// Iterator: `bpf_iter_NAME` in BTF.
    Iterator(&'static str),
}

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// At this index.
    At(u8, Shape),
    /// At this index, where the kernel hands it out.
    MayBeAt(u8, Shape),
    /// At an index that is looked up: the first of this shape.
    Found(Shape),
    /// What the function returned, which stands after as many arguments as this.
    ReturnedAfter(u8),
}

/// What becomes of a fact whose hook is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// There is no map without it.
    Refused,
    /// It is told by an exit of a system call instead.
    Fallback,
    /// Nothing tells it: it is read again when asked, with `as_of`, and listed as a blind spot.
    Blind,
}

use Point::{Compat, Function, Iterator, Syscall, Tracepoint};
use Take::{At, Found, MayBeAt, ReturnedAfter};

/// Index of the argument of `sched_process_exit` that tells whether the whole group is dead.
pub const GROUP_DEAD: u8 = 1;

const TASK: Shape = Ptr("task_struct");
const DENTRY: Shape = Ptr("dentry");

/// Every hook that a program is attached to by its type in BTF. Exits of system calls (`SYSCALL_EXITS`) have none.
pub const HOOKS: &[Hook] = &[
    hook("birth", Tracepoint("sched_process_fork"), &[At(0, TASK), At(1, TASK)], Without::Refused),
    hook(
        "exec",
        Tracepoint("sched_process_exec"),
        &[At(0, TASK), At(2, Ptr("linux_binprm"))],
        Without::Refused,
    ),
    hook(
        "death",
        Tracepoint("sched_process_exit"),
        &[At(0, TASK), MayBeAt(GROUP_DEAD, Int(1))],
        Without::Refused,
    ),
    hook("snapshot", Iterator("task"), &[At(0, Ptr("bpf_iter_meta")), At(1, TASK)], Without::Refused),
    hook("comm", Tracepoint("task_rename"), &[At(0, TASK), At(1, Ptr(""))], Without::Blind),
    hook(
        "cgroup",
        Tracepoint("cgroup_attach_task"),
        &[At(0, Ptr("cgroup")), At(1, Ptr("")), At(2, TASK)],
        Without::Blind,
    ),
    hook(
        "hang-up",
        Tracepoint("signal_generate"),
        &[At(0, Int(4)), At(1, Ptr("kernel_siginfo"))],
        Without::Blind,
    ),
    hook("cwd", Function("set_fs_pwd"), &[], Without::Fallback),
    hook("paths", Function("d_move"), &[At(0, DENTRY)], Without::Fallback),
    hook("paths", Function("d_exchange"), &[At(0, DENTRY), At(1, DENTRY)], Without::Fallback),
    hook("paths", Function("d_delete"), &[At(0, DENTRY)], Without::Fallback),
    hook("paths", Function("__detach_mounts"), &[], Without::Fallback),
    hook("paths", Function("path_mount"), &[ReturnedAfter(5)], Without::Fallback),
    hook("paths", Function("path_umount"), &[ReturnedAfter(2)], Without::Fallback),
    hook("paths", Function("ksys_unshare"), &[ReturnedAfter(1)], Without::Fallback),
    hook("paths", Syscall("move_mount"), &[ReturnedAfter(1)], Without::Fallback),
    hook("paths", Compat("__ia32_sys_move_mount"), &[ReturnedAfter(1)], Without::Fallback),
    hook("paths", Function("chroot_fs_refs"), &[], Without::Fallback),
    hook("paths", Syscall("setns"), &[ReturnedAfter(1)], Without::Fallback),
    hook("paths", Compat("__ia32_sys_setns"), &[ReturnedAfter(1)], Without::Fallback),
    hook("uids", Function("commit_creds"), &[], Without::Fallback),
    hook("sid", Function("ksys_setsid"), &[ReturnedAfter(0)], Without::Fallback),
    hook("pgid", Function("change_pid"), &[Found(TASK)], Without::Fallback),
    hook("terminal", Function("tty_jobctrl_ioctl"), &[At(3, Int(4)), ReturnedAfter(5)], Without::Blind),
    hook("terminal", Function("tty_open_proc_set_tty"), &[At(1, Ptr("tty_struct"))], Without::Blind),
];

const fn hook(fact: &'static str, point: Point, takes: &'static [Take], without: Without) -> Hook {
    Hook { fact, point, takes, without }
}

/// A member whose place is compiled into the programs: what BPF itself and the tracing events promise to keep.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// Kernel struct.
    pub of: &'static str,
    /// Member.
    pub member: &'static str,
    /// Where it must stand, bytes.
    pub offset: u32,
    /// What it must be.
    pub shape: Shape,
}

/// Every such member.
pub const FIXED: &[Fixed] = &[
    Fixed { of: "bpf_iter__task", member: "meta", offset: 0, shape: Ptr("bpf_iter_meta") },
    Fixed { of: "bpf_iter__task", member: "task", offset: 8, shape: TASK },
    Fixed { of: "bpf_iter_meta", member: "seq", offset: 0, shape: Ptr("seq_file") },
    Fixed { of: "trace_event_raw_sys_exit", member: "ret", offset: 16, shape: Int(8) },
];

/// A number that is compiled into the programs: enum, constant, value.
pub const CONSTANTS: &[(&str, &str, u32)] =
    &[("pid_type", "PIDTYPE_PGID", 2), ("pid_type", "PIDTYPE_SID", 3)];

impl Point {
    /// The name by which programs and people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Tracepoint(name) | Function(name) | Syscall(name) | Compat(name) | Iterator(name) => name,
        }
    }
}

/// Control word of the hook whose point has this name, if there is one.
pub const fn fired(name: &str) -> Option<u32> {
    let (mut hooks, mut word) = (HOOKS, FIRED);
    while let Some((hook, others)) = hooks.split_first() {
        if same(hook.point.name().as_bytes(), name.as_bytes()) {
            return Some(word);
        }
        (hooks, word) = (others, word + 1);
    }
    None
}

const fn same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let (Some((first, rest)), Some((second, others))) = (one.split_first(), other.split_first()) {
        if *first != *second {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}
