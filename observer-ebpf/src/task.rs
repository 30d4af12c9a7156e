//! The only reader of `task_struct`, `signal_struct` and the structs that they point to: one function for each field,
//! under the kernel's name.
//!
//! Each function exists once for both ways of reading ([`Access`]), so that BTF programs and plain tracepoints share it.
//! A read that fails returns zero.

use core::marker::PhantomData;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use observer_common::limits::{COMM_LEN, TTY_NAME_LEN};
use observer_common::offsets::ABSENT;
use observer_common::record::{
    FACT_FORKED, FACT_FS_SHARED, FACT_LEADER_GONE, FACT_NO_MM, RawDirId, RawFacts, RawUsage,
};

use crate::access::{Access, Probed, Typed, bytes16, is_null, offset, read};

/// `PF_EXITING`, include/linux/sched.h: set at the begin of do_exit.
const PF_EXITING: u32 = 0x0000_0004;
/// `PF_FORKNOEXEC`, include/linux/sched.h: set by copy_process, cleared by begin_new_exec.
const PF_FORKNOEXEC: u32 = 0x0000_0040;
/// `PF_KTHREAD`, include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;
// Of `signal->flags`, include/linux/sched/signal.h.
const SIGNAL_STOP_STOPPED: u32 = 0x0000_0001;
const SIGNAL_GROUP_EXIT: u32 = 0x0000_0004;
/// Of `struct rlimit`; compared with BTF at start (`observer_common::hooks::FIXED`). `RLIMIT_CPU`, the first limit, is 0
/// (include/uapi/asm-generic/resource.h).
const RLIM_HARD: u32 = 8;
/// `RLIM_INFINITY` there.
const RLIM_INFINITY: u64 = u64::MAX;
const NS_A_SECOND: u64 = 1_000_000_000;
/// `PIDTYPE_PGID`; compared with BTF at start (`observer_common::hooks::CONSTANTS`).
const PIDTYPE_PGID: u32 = 2;
/// `PIDTYPE_SID`; compared with BTF at start.
const PIDTYPE_SID: u32 = 3;

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub struct Task<A>(u64, PhantomData<A>);

/// A `struct signal_struct`, which the threads of a group share.
#[derive(Clone, Copy)]
pub struct Signal<A>(u64, PhantomData<A>);

impl Task<Typed> {
    /// Argument `n` of a BTF program.
    #[inline(always)]
    pub fn from_arg(ctx: &impl EbpfContext, n: usize) -> Self {
        // SAFETY: the context has at least the arguments that the entry points name; the verifier checks it.
        Self(unsafe { *ctx.as_ptr().cast::<u64>().add(n) }, PhantomData)
    }

    /// The argument of `change_pid` (kernel/pid.c) that is a task: the first up to 6.12, the second from 6.18 on. The daemon
    /// finds its index in BTF.
    #[inline(always)]
    pub fn from_change_pid(ctx: &impl EbpfContext) -> Self {
        let task: u64;
        // Assembly, because the compiler would merge the two loads into one load at a computed place, which the verifier
        // forbids in a context.
        if offset!(change_pid_task) == 0 {
            // SAFETY: loads the first argument.
            unsafe { core::arch::asm!("{0} = *(u64 *)({1} + 0)", out(reg) task, in(reg) ctx.as_ptr()) };
        } else {
            // SAFETY: loads the second argument; the verifier checks that there is one.
            unsafe { core::arch::asm!("{0} = *(u64 *)({1} + 8)", out(reg) task, in(reg) ctx.as_ptr()) };
        }
        Self(task, PhantomData)
    }

    /// The task that an iterator visits.
    #[inline(always)]
    pub fn from_iterator(task: *mut u8) -> Self {
        Self(task as u64, PhantomData)
    }
}

impl Task<Probed> {
    /// The calling thread.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a helper without arguments.
        Self(unsafe { bpf_get_current_task() }, PhantomData)
    }
}

impl<A: Access> Task<A> {
    #[inline(always)]
    pub fn pid(self) -> u32 {
        A::u32(self.0, offset!(task_pid))
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        A::u32(self.0, offset!(task_tgid))
    }

    #[inline(always)]
    pub fn is_leader(self) -> bool {
        self.pid() == self.tgid()
    }

    #[inline(always)]
    pub fn is_kthread(self) -> bool {
        A::u32(self.0, offset!(task_flags)) & PF_KTHREAD != 0
    }

    /// Whether the task has begun to exit.
    #[inline(always)]
    pub fn is_exiting(self) -> bool {
        A::u32(self.0, offset!(task_flags)) & PF_EXITING != 0
    }

    /// Whether the task has not called exec since its birth.
    #[inline(always)]
    pub fn is_forked(self) -> bool {
        A::u32(self.0, offset!(task_flags)) & PF_FORKNOEXEC != 0
    }

    #[inline(always)]
    pub fn group_leader(self) -> Self {
        Self(A::u64(self.0, offset!(task_group_leader)), PhantomData)
    }

    #[inline(always)]
    pub fn start_boottime(self) -> u64 {
        A::u64(self.0, offset!(task_start_boottime))
    }

    #[inline(always)]
    pub fn real_parent(self) -> Self {
        Self(A::u64(self.0, offset!(task_real_parent)), PhantomData)
    }

    #[inline(always)]
    pub fn exit_state(self) -> u32 {
        A::u32(self.0, offset!(task_exit_state))
    }

    /// Whether the task has no user memory: it is a kernel thread, a user-mode helper before its exec, or a zombie.
    #[inline(always)]
    pub fn has_no_mm(self) -> bool {
        is_null(self.mm())
    }

    #[inline(always)]
    pub fn mm(self) -> u64 {
        A::u64(self.0, offset!(task_mm))
    }

    /// Which memory the task has: a part of the address of its `struct mm_struct`, which no other has in machines with less
    /// than 256 GiB, and hardly one in others. 0: none.
    #[inline(always)]
    pub fn memory(self) -> u32 {
        // By helper, because the verifier forbids to shift a pointer. No two begin in the same line of the processor's cache.
        (Probed::u64(self.0, offset!(task_mm)) >> 6) as u32
    }

    #[inline(always)]
    pub fn fs(self) -> u64 {
        A::u64(self.0, offset!(task_fs))
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        bytes16::<A>(self.0, offset!(task_comm))
    }

    /// Whether the task is within execve, whose own record will carry the fields that it sets if it succeeds.
    #[inline(always)]
    pub fn in_execve(self) -> bool {
        let byte = offset!(task_in_execve_byte);
        byte != ABSENT
            && u32::from(read::<u8>(self.0.wrapping_add(u64::from(byte)))) & offset!(task_in_execve_mask) != 0
    }

    /// Whether the task is the calling thread.
    #[inline(always)]
    pub fn is_current(self) -> bool {
        self.pid() == bpf_get_current_pid_tgid() as u32
    }

    #[inline(always)]
    pub fn self_exec_id(self) -> u32 {
        A::u32(self.0, offset!(task_self_exec_id))
    }

    /// uid, euid and suid in the initial user namespace, from `real_cred`, as /proc shows them. `cred` belongs to another
    /// task while this one acts for it, as it does within overlayfs.
    #[inline(always)]
    pub fn uids(self) -> (u32, u32, u32) {
        let cred = A::u64(self.0, offset!(task_real_cred));
        (A::u32(cred, offset!(cred_uid)), A::u32(cred, offset!(cred_euid)), A::u32(cred, offset!(cred_suid)))
    }

    #[inline(always)]
    pub fn signal(self) -> Signal<A> {
        Signal(A::u64(self.0, offset!(task_signal)), PhantomData)
    }

    /// Whether `sighand->action` leaves this signal, 1 to 64, to its default (`SIG_DFL`, 0).
    #[inline(always)]
    pub fn has_default_action(self, signal: u32) -> bool {
        // `struct k_sigaction`, whose layout is compared with BTF at start (`observer_common::hooks::FIXED`).
        const ACTION_BYTES: u64 = 32;
        let sighand = A::u64(self.0, offset!(task_sighand));
        let action =
            u64::from(offset!(sighand_action)) + u64::from(signal.wrapping_sub(1) & 63) * ACTION_BYTES;
        read::<u64>(sighand.wrapping_add(action)) == 0
    }

    /// `signal->live`: the number of threads that have not begun to exit.
    #[inline(always)]
    pub fn live(self) -> u32 {
        A::u32(self.signal().0, offset!(signal_live))
    }

    /// `struct mnt_namespace` of the task; 0 once the task has left its namespaces.
    #[inline(always)]
    pub fn mnt_namespace(self) -> u64 {
        A::u64(A::u64(self.0, offset!(task_nsproxy)), offset!(nsproxy_mnt_ns))
    }

    /// Inode number of the mount namespace.
    #[inline(always)]
    pub fn mnt_ns(self) -> u32 {
        A::u32(self.mnt_namespace(), offset!(mnt_namespace_inum))
    }

    /// `fs->pwd` as `(mnt, dentry)`; both are 0 if the task has no `fs`.
    #[inline(always)]
    pub fn pwd(self) -> (u64, u64) {
        let (fs, pwd) = (self.fs(), offset!(fs_pwd));
        (A::u64(fs, pwd + offset!(path_mnt)), A::u64(fs, pwd + offset!(path_dentry)))
    }

    /// Whether other groups share the leader's `fs_struct`: it has more users than the group has threads.
    #[inline(always)]
    pub fn fs_shared(self) -> bool {
        A::u32(self.fs(), offset!(fs_users)) > A::u32(self.signal().0, offset!(signal_nr_threads))
    }

    /// The task's cgroup in the v2 hierarchy.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        A::u64(A::u64(self.0, offset!(task_cgroups)), offset!(css_set_dfl_cgrp))
    }

    /// The kernfs node of that cgroup.
    #[inline(always)]
    pub fn cgroup_kn(self) -> u64 {
        A::u64(self.cgroup(), offset!(cgroup_kn))
    }

    /// Whether a signal stopped this leader's group (SIGNAL_STOP_STOPPED). A group that a tracer stopped is not.
    #[inline(always)]
    pub fn is_stopped(self) -> bool {
        A::u32(self.signal().0, offset!(signal_flags)) & SIGNAL_STOP_STOPPED != 0
    }

    /// `se.sum_exec_runtime` of the thread, ns.
    #[inline(always)]
    pub fn sum_exec_runtime(self) -> u64 {
        A::u64(self.0, offset!(task_sum_exec_runtime))
    }

    /// What this leader's group has used. Of its threads that were not released, the leader's time counts alone.
    #[inline(always)]
    pub fn usage(self) -> RawUsage {
        let signal = self.signal();
        RawUsage {
            cpu_ns: signal.sum_sched_runtime().wrapping_add(self.sum_exec_runtime()),
            children_cpu_ns: A::u64(signal.0, offset!(signal_cutime))
                .wrapping_add(A::u64(signal.0, offset!(signal_cstime))),
            max_rss_pages: A::u64(signal.0, offset!(signal_maxrss)),
        }
    }

    /// The status that wait(2) returns for this leader's group (`wait_task_zombie`, kernel/exit.c): the group's exit code
    /// once SIGNAL_GROUP_EXIT is set, otherwise the leader's own.
    #[inline(always)]
    pub fn wait_status(self) -> u32 {
        let signal = self.signal();
        if signal.is_ending() {
            A::u32(signal.0, offset!(signal_group_exit_code))
        } else {
            A::u32(self.0, offset!(task_exit_code))
        }
    }
}

impl<A: Access> Signal<A> {
    #[inline(always)]
    pub fn sid(self) -> u32 {
        self.pid_nr(PIDTYPE_SID)
    }

    #[inline(always)]
    pub fn pgid(self) -> u32 {
        self.pid_nr(PIDTYPE_PGID)
    }

    /// Whether all threads of the group were told to end.
    #[inline(always)]
    pub fn is_ending(self) -> bool {
        A::u32(self.0, offset!(signal_flags)) & SIGNAL_GROUP_EXIT != 0
    }

    /// Whether the group leads a POSIX session.
    #[inline(always)]
    pub fn leads_session(self) -> bool {
        A::u32(self.0, offset!(signal_leader)) != 0
    }

    #[inline(always)]
    fn pid_nr(self, pidtype: u32) -> u32 {
        global_nr::<A>(A::u64(self.0, offset!(signal_pids) + pidtype * 8))
    }

    /// CPU time of the threads of the group that were released, ns.
    #[inline(always)]
    pub fn sum_sched_runtime(self) -> u64 {
        A::u64(self.0, offset!(signal_sum_sched_runtime))
    }

    /// Whether the group's CPU time has reached its hard limit. Compares what the kernel does before it sends SIGKILL
    /// (`check_process_timers`, kernel/time/posix-cpu-timers.c), in seconds.
    #[inline(always)]
    pub fn is_at_cpu_limit(self) -> bool {
        let (rlim, utime) = (offset!(signal_rlim), offset!(signal_counted_utime));
        let stime = offset!(signal_counted_stime);
        if rlim == ABSENT || utime == ABSENT || stime == ABSENT {
            return false;
        }
        let limit = A::u64(self.0, rlim.wrapping_add(RLIM_HARD));
        let used = A::u64(self.0, utime).wrapping_add(A::u64(self.0, stime));
        // A limit of 0 ends nothing before a second is over; a limit that cannot be read is 0 too.
        limit != RLIM_INFINITY && limit != 0 && used / NS_A_SECOND >= limit
    }

    /// `signal->tty`; 0 without a controlling terminal.
    #[inline(always)]
    pub fn tty(self) -> u64 {
        A::u64(self.0, offset!(signal_tty))
    }
}

/// Number of a `struct pid` in the initial pid namespace.
#[inline(always)]
fn global_nr<A: Access>(pid: u64) -> u32 {
    A::u32(pid, offset!(pid_numbers) + offset!(upid_nr))
}

/// Device number of a terminal (major << 20 | minor); 0 if there is none.
#[inline(always)]
pub fn tty_dev<A: Access>(tty: u64) -> u32 {
    let driver = A::u64(tty, offset!(tty_driver));
    let minor = A::u32(driver, offset!(tty_driver_minor_start)).wrapping_add(A::u32(tty, offset!(tty_index)));
    A::u32(driver, offset!(tty_driver_major)) << 20 | minor & 0xf_ffff
}

/// The kernel's name of a terminal, NUL-padded; all zero if there is none.
#[inline(always)]
pub fn tty_name<A: Access>(tty: u64) -> [u8; TTY_NAME_LEN] {
    bytes16::<A>(tty, offset!(tty_name))
}

/// Foreground process group of a terminal.
#[inline(always)]
pub fn tty_pgrp<A: Access>(tty: u64) -> u32 {
    global_nr::<A>(A::u64(tty, offset!(tty_pgrp)))
}

/// Identity of the directory `(mnt, dentry)`; zero if there is none.
#[inline(always)]
pub fn dir_id<A: Access>(mnt: u64, dentry: u64) -> RawDirId {
    let inode = A::u64(dentry, offset!(dentry_inode));
    let sb = A::u64(dentry, offset!(dentry_sb));
    let mount = mnt.wrapping_sub(u64::from(offset!(mount_mnt)));
    RawDirId {
        ino: A::u64(inode, offset!(inode_ino)),
        dev: A::u32(sb, offset!(sb_dev)),
        // `mnt_id` lies outside the `struct vfsmount` that the pointer is typed as.
        mnt_id: Probed::u32(mount, offset!(mount_id)),
        generation: A::u32(inode, offset!(inode_generation)),
        inode,
        reserved: 0,
    }
}

/// Returns whether a `struct dentry` is a directory's.
#[inline(always)]
pub fn is_directory(dentry: u64) -> bool {
    const S_IFMT: u16 = 0o170_000;
    const S_IFDIR: u16 = 0o040_000;
    let inode = Probed::u64(dentry, offset!(dentry_inode));
    read::<u16>(inode.wrapping_add(u64::from(offset!(inode_mode)))) & S_IFMT == S_IFDIR
}

/// Fills `facts` from the group that `leader` leads.
///
/// Each pointer is followed before the next one is read. The verifier follows a pointer as null and as not null, so it
/// goes through what is in between twice; and for each pointer that it reads through a task, some kernels look up names
/// in all their types (`type_is_rcu` and others, kernel/bpf/verifier.c, from 6.3 on).
#[inline(always)]
pub fn read_facts<A: Access>(leader: Task<A>, facts: &mut RawFacts) {
    let (uid, euid, suid) = leader.uids();
    facts.uid = uid;
    facts.euid = euid;
    facts.suid = suid;
    let parent = leader.real_parent().group_leader();
    facts.parent_start_boottime_ns = parent.start_boottime();
    facts.ppid = parent.pid();
    let (mnt, dentry) = leader.pwd();
    facts.cwd = dir_id::<A>(mnt, dentry);
    facts.mnt_ns = leader.mnt_ns();
    facts.cgroup_id = A::u64(leader.cgroup_kn(), offset!(kernfs_id));
    let signal = leader.signal();
    facts.sid = signal.sid();
    facts.pgid = signal.pgid();
    let tty = signal.tty();
    facts.tty_dev = tty_dev::<A>(tty);
    facts.tty_name = tty_name::<A>(tty);
    facts.exec_id = leader.self_exec_id();
    facts.comm = leader.comm();
    let forked = if leader.is_forked() { FACT_FORKED } else { 0 };
    facts.flags = fs_flags(leader) | forked | if leader.has_no_mm() { FACT_NO_MM } else { 0 };
}

/// Returns [`FACT_FS_SHARED`] and [`FACT_LEADER_GONE`] as they hold for the group that `leader` leads.
#[inline(always)]
pub fn fs_flags<A: Access>(leader: Task<A>) -> u32 {
    let shared = if leader.fs_shared() { FACT_FS_SHARED } else { 0 };
    let gone = if leader.exit_state() != 0 { FACT_LEADER_GONE } else { 0 };
    shared | gone
}
