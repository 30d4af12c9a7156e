//! The only reader of `task_struct` and of what hangs off it: one function per field, by the kernel's name.
//!
//! Every read goes through `bpf_probe_read_kernel`, so that tracepoint and BTF programs share it; a failed read
//! is zero.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel as probe_read_kernel};
use aya_ebpf::programs::BtfTracePointContext;
use observer_common::limits::{COMM_LEN, TTY_NAME_LEN};
use observer_common::offsets::ABSENT;
use observer_common::record::{DirId, FACT_FS_SHARED, FACT_LEADER_GONE, FACT_NO_MM, Facts};

/// An offset: a constant to the verifier.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static of this object; volatile, so that the compiler does not take the zero it was built with.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::OFFSETS.$field) }
    };
}
pub(crate) use offset;

const PF_KTHREAD: u32 = 0x0020_0000;
const SIGNAL_GROUP_EXIT: u32 = 0x0000_0004;
const PIDTYPE_PGID: u64 = 2;
const PIDTYPE_SID: u64 = 3;

/// Reads a value at a kernel address; zero if that fails.
#[inline(always)]
pub fn read<T: Copy + Default>(address: u64) -> T {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.unwrap_or_default()
}

/// Reads a pointer-sized member.
#[inline(always)]
pub fn pointer(base: u64, offset: u32) -> u64 {
    read(base.wrapping_add(u64::from(offset)))
}

/// Reads a 32-bit member.
#[inline(always)]
pub fn u32_at(base: u64, offset: u32) -> u32 {
    read(base.wrapping_add(u64::from(offset)))
}

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub struct Task(pub u64);

/// A `struct signal_struct`: what threads of a group share.
#[derive(Clone, Copy)]
pub struct Signal(u64);

impl Task {
    /// Argument `n` of a BTF tracepoint.
    #[inline(always)]
    pub fn from_arg(ctx: &BtfTracePointContext, n: usize) -> Self {
        // SAFETY: the context has at least the arguments that the entry points name; the verifier checks it.
        Self(unsafe { *ctx.as_ptr().cast::<u64>().add(n) })
    }

    /// The calling thread.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a helper without arguments.
        Self(unsafe { bpf_get_current_task() })
    }

    #[inline(always)]
    pub fn pid(self) -> u32 {
        u32_at(self.0, offset!(task_pid))
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        u32_at(self.0, offset!(task_tgid))
    }

    #[inline(always)]
    pub fn is_leader(self) -> bool {
        self.pid() == self.tgid()
    }

    #[inline(always)]
    pub fn is_kthread(self) -> bool {
        u32_at(self.0, offset!(task_flags)) & PF_KTHREAD != 0
    }

    #[inline(always)]
    pub fn group_leader(self) -> Self {
        Self(pointer(self.0, offset!(task_group_leader)))
    }

    #[inline(always)]
    pub fn start_boottime(self) -> u64 {
        pointer(self.0, offset!(task_start_boottime))
    }

    #[inline(always)]
    pub fn real_parent(self) -> Self {
        Self(pointer(self.0, offset!(task_real_parent)))
    }

    #[inline(always)]
    pub fn exit_state(self) -> u32 {
        u32_at(self.0, offset!(task_exit_state))
    }

    #[inline(always)]
    pub fn mm(self) -> u64 {
        pointer(self.0, offset!(task_mm))
    }

    #[inline(always)]
    pub fn fs(self) -> u64 {
        pointer(self.0, offset!(task_fs))
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        read(self.0.wrapping_add(u64::from(offset!(task_comm))))
    }

    /// In the middle of an exec, whose own record will carry comm.
    #[inline(always)]
    pub fn in_execve(self) -> bool {
        let byte = offset!(task_in_execve_byte);
        byte != ABSENT
            && u32::from(read::<u8>(self.0.wrapping_add(u64::from(byte)))) & offset!(task_in_execve_mask) != 0
    }

    #[inline(always)]
    pub fn self_exec_id(self) -> u32 {
        u32_at(self.0, offset!(task_self_exec_id))
    }

    /// uid, euid, suid in the initial user namespace.
    #[inline(always)]
    pub fn uids(self) -> (u32, u32, u32) {
        let cred = pointer(self.0, offset!(task_cred));
        (u32_at(cred, offset!(cred_uid)), u32_at(cred, offset!(cred_euid)), u32_at(cred, offset!(cred_suid)))
    }

    #[inline(always)]
    pub fn signal(self) -> Signal {
        Signal(pointer(self.0, offset!(task_signal)))
    }

    /// `signal->live`: threads that have not begun to exit.
    #[inline(always)]
    pub fn live(self) -> u32 {
        u32_at(self.signal().0, offset!(signal_live))
    }

    /// `struct mnt_namespace` of the task; 0 once it has left its namespaces.
    #[inline(always)]
    pub fn mnt_namespace(self) -> u64 {
        match pointer(self.0, offset!(task_nsproxy)) {
            0 => 0,
            nsproxy => pointer(nsproxy, offset!(nsproxy_mnt_ns)),
        }
    }

    /// Inode number of the mount namespace.
    #[inline(always)]
    pub fn mnt_ns(self) -> u32 {
        match self.mnt_namespace() {
            0 => 0,
            namespace => u32_at(namespace, offset!(mnt_namespace_inum)),
        }
    }

    /// `fs->pwd`: `(mnt, dentry)`, both 0 where the task has no `fs`.
    #[inline(always)]
    pub fn pwd(self) -> (u64, u64) {
        match self.fs() {
            0 => (0, 0),
            fs => {
                let pwd = fs.wrapping_add(u64::from(offset!(fs_pwd)));
                (pointer(pwd, offset!(path_mnt)), pointer(pwd, offset!(path_dentry)))
            }
        }
    }

    /// Whether other groups share the leader's `fs_struct`: more users than the group has threads.
    #[inline(always)]
    pub fn fs_shared(self) -> bool {
        match self.fs() {
            0 => false,
            fs => u32_at(fs, offset!(fs_users)) > u32_at(self.signal().0, offset!(signal_nr_threads)),
        }
    }

    /// kernfs node of the task's cgroup in the v2 hierarchy.
    #[inline(always)]
    pub fn cgroup_kn(self) -> u64 {
        let cset = pointer(self.0, offset!(task_cgroups));
        let cgroup = pointer(cset, offset!(css_set_dfl_cgrp));
        pointer(cgroup, offset!(cgroup_kn))
    }

    /// What wait(2) would return, and whether it is the group's.
    #[inline(always)]
    pub fn wait_status(self) -> (u32, bool) {
        let signal = self.signal().0;
        if u32_at(signal, offset!(signal_flags)) & SIGNAL_GROUP_EXIT != 0 {
            (u32_at(signal, offset!(signal_group_exit_code)), true)
        } else {
            (u32_at(self.0, offset!(task_exit_code)), false)
        }
    }
}

impl Signal {
    #[inline(always)]
    pub fn sid(self) -> u32 {
        self.pid_nr(PIDTYPE_SID)
    }

    #[inline(always)]
    pub fn pgid(self) -> u32 {
        self.pid_nr(PIDTYPE_PGID)
    }

    /// Whether the group leads a POSIX session.
    #[inline(always)]
    pub fn leads_session(self) -> bool {
        u32_at(self.0, offset!(signal_leader)) != 0
    }

    #[inline(always)]
    fn pid_nr(self, pidtype: u64) -> u32 {
        global_nr(read(self.0.wrapping_add(u64::from(offset!(signal_pids)) + pidtype * 8)))
    }

    /// `signal->tty`; 0 without a controlling terminal.
    #[inline(always)]
    pub fn tty(self) -> u64 {
        pointer(self.0, offset!(signal_tty))
    }
}

/// A `struct pid`'s number in the initial pid namespace.
#[inline(always)]
fn global_nr(pid: u64) -> u32 {
    if pid == 0 {
        return 0;
    }
    u32_at(pid.wrapping_add(u64::from(offset!(pid_numbers))), offset!(upid_nr))
}

/// Device number of a terminal (major << 20 | minor); 0 for none.
#[inline(always)]
pub fn tty_dev(tty: u64) -> u32 {
    if tty == 0 {
        return 0;
    }
    let driver = pointer(tty, offset!(tty_driver));
    let minor = u32_at(driver, offset!(tty_driver_minor_start)).wrapping_add(u32_at(tty, offset!(tty_index)));
    u32_at(driver, offset!(tty_driver_major)) << 20 | minor & 0xf_ffff
}

/// The kernel's name of a terminal, NUL-padded; zero for none.
#[inline(always)]
pub fn tty_name(tty: u64) -> [u8; TTY_NAME_LEN] {
    if tty == 0 {
        return [0; TTY_NAME_LEN];
    }
    read(tty.wrapping_add(u64::from(offset!(tty_name))))
}

/// Foreground process group of a terminal.
#[inline(always)]
pub fn tty_pgrp(tty: u64) -> u32 {
    if tty == 0 { 0 } else { global_nr(pointer(tty, offset!(tty_pgrp))) }
}

/// Identity of the directory `(mnt, dentry)`; zero where there is none.
#[inline(always)]
pub fn dir_id(mnt: u64, dentry: u64) -> DirId {
    if dentry == 0 {
        return DirId::default();
    }
    let inode = pointer(dentry, offset!(dentry_inode));
    let sb = pointer(dentry, offset!(dentry_sb));
    let mount = mnt.wrapping_sub(u64::from(offset!(mount_mnt)));
    DirId {
        ino: pointer(inode, offset!(inode_ino)),
        dev: u32_at(sb, offset!(sb_dev)),
        mnt_id: u32_at(mount, offset!(mount_id)),
    }
}

/// Fills `facts` from the group that `leader` leads.
#[inline(always)]
pub fn facts(leader: Task, facts: &mut Facts) {
    let signal = leader.signal();
    let parent = leader.real_parent().group_leader();
    let (mnt, dentry) = leader.pwd();
    let tty = signal.tty();
    let (uid, euid, suid) = leader.uids();
    facts.parent_start_boottime_ns = parent.start_boottime();
    facts.ppid = parent.pid();
    facts.cwd = dir_id(mnt, dentry);
    facts.mnt_ns = leader.mnt_ns();
    facts.cgroup_id = pointer(leader.cgroup_kn(), offset!(kernfs_id));
    facts.sid = signal.sid();
    facts.pgid = signal.pgid();
    facts.uid = uid;
    facts.euid = euid;
    facts.suid = suid;
    facts.tty_dev = tty_dev(tty);
    facts.tty_name = tty_name(tty);
    facts.exec_id = leader.self_exec_id();
    facts.comm = leader.comm();
    facts.flags = fs_flags(leader) | if leader.mm() == 0 { FACT_NO_MM } else { 0 };
}

/// [`FACT_FS_SHARED`] and [`FACT_LEADER_GONE`], as they hold.
#[inline(always)]
pub fn fs_flags(leader: Task) -> u32 {
    let shared = if leader.fs_shared() { FACT_FS_SHARED } else { 0 };
    let gone = if leader.exit_state() != 0 { FACT_LEADER_GONE } else { 0 };
    shared | gone
}

/// Reads `len` bytes of kernel memory; whether that worked. `len` must be bounded for the verifier.
#[inline(always)]
pub fn read_bytes(to: *mut u8, len: u64, from: u64) -> bool {
    // SAFETY: the verifier checks the target, the helper the source.
    unsafe { probe_read_kernel(to.cast(), len as u32, from as *const _) == 0 }
}
