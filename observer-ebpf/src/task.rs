//! The only reader of `task_struct` and of what hangs off it: one function per field, by the kernel's name.
//!
//! Written once for both ways of reading ([`Access`]), so that BTF programs and plain tracepoints share it; a failed
//! read is zero.

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel as probe_read_kernel};
use observer_common::limits::{COMM_LEN, TTY_NAME_LEN};
use observer_common::offsets::ABSENT;
use observer_common::record::{DirId, FACT_FORKED, FACT_FS_SHARED, FACT_LEADER_GONE, FACT_NO_MM, Facts};

/// An offset: a constant to the verifier.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static of this object; volatile, so that the compiler does not take the zero it was built with.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::OFFSETS.$field) }
    };
}
pub(crate) use offset;

const PF_FORKNOEXEC: u32 = 0x0000_0040;
const PF_KTHREAD: u32 = 0x0020_0000;
const SIGNAL_GROUP_EXIT: u32 = 0x0000_0004;
const PIDTYPE_PGID: u32 = 2;
const PIDTYPE_SID: u32 = 3;

/// How kernel memory is read.
pub trait Access: Copy {
    /// 64 bits at `base + offset`; 0 where that cannot be read.
    fn u64(base: u64, offset: u32) -> u64;
    /// 32 bits at `base + offset`; 0 where that cannot be read.
    fn u32(base: u64, offset: u32) -> u32;
}

/// Plain loads through pointers whose types the verifier knows, from the arguments of a BTF program on: a few
/// instructions each, where a helper call costs some 30 ns. A bad address reads as 0. By helper where the kernel does
/// not keep that promise (`typed_loads`).
#[derive(Clone, Copy)]
pub struct Typed;

/// Loads by helper: for pointers that are numbers to the verifier.
#[derive(Clone, Copy)]
pub struct Probed;

/// Loads a `$size` through a typed pointer; 0 where the pointer is null.
///
/// Newer kernels hand out some members as "or null" and want to see the test. Assembly, because the compiler would
/// combine it with others by arithmetic, which the verifier forbids on pointers, and because kernel members need not
/// be aligned for Rust.
macro_rules! typed_load {
    ($size:literal, $base:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: the verifier admits only what it knows to lie within the type; a fault reads as 0.
        unsafe {
            core::arch::asm!(
                "{value} = 0",
                "if {at} == 0 goto +2",
                "{at} += {offset}",
                concat!("{value} = *(", $size, " *)({at} + 0)"),
                at = inout(reg) $base => _,
                offset = in(reg) u64::from($offset),
                value = out(reg) value,
                options(nostack)
            );
        }
        value
    }};
}

impl Access for Typed {
    #[inline(always)]
    fn u64(base: u64, offset: u32) -> u64 {
        // A constant to the verifier, which does not look at the other branch.
        if offset!(typed_loads) == 1 { typed_load!("u64", base, offset) } else { Probed::u64(base, offset) }
    }

    #[inline(always)]
    fn u32(base: u64, offset: u32) -> u32 {
        if offset!(typed_loads) == 1 {
            typed_load!("u32", base, offset) as u32
        } else {
            Probed::u32(base, offset)
        }
    }
}

impl Access for Probed {
    #[inline(always)]
    fn u64(base: u64, offset: u32) -> u64 {
        read(base.wrapping_add(u64::from(offset)))
    }

    #[inline(always)]
    fn u32(base: u64, offset: u32) -> u32 {
        read(base.wrapping_add(u64::from(offset)))
    }
}

/// Whether a pointer is null, asked in a way that the compiler cannot turn into arithmetic on it.
#[inline(always)]
pub fn is_null(pointer: u64) -> bool {
    let null: u64;
    // SAFETY: compares and sets a register.
    unsafe {
        core::arch::asm!(
            "{null} = 1",
            "if {pointer} == 0 goto +1",
            "{null} = 0",
            pointer = in(reg) pointer,
            null = out(reg) null,
            options(nostack, nomem, pure)
        );
    }
    null != 0
}

/// Whether two pointers are one, asked as in [`is_null`].
#[inline(always)]
pub fn is_same(one: u64, other: u64) -> bool {
    let same: u64;
    // SAFETY: compares and sets a register.
    unsafe {
        core::arch::asm!(
            "{same} = 1",
            "if {one} == {other} goto +1",
            "{same} = 0",
            one = in(reg) one,
            other = in(reg) other,
            same = out(reg) same,
            options(nostack, nomem, pure)
        );
    }
    same != 0
}

/// Reads a value at a kernel address by helper; zero if that fails.
///
/// The answer is not looked at, for the helper zeroes the target of a read that fails: a branch here would double the
/// verifier's states at each read, which older ones never bring together again (fork ran into the limit on 6.1).
#[inline(always)]
pub fn read<T: Copy + Default>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and writes all of the value in any case. T is made of integers.
    unsafe {
        probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _);
        value.assume_init()
    }
}

/// Reads 16 bytes.
#[inline(always)]
fn bytes16<A: Access>(base: u64, offset: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&A::u64(base, offset).to_ne_bytes());
    high.copy_from_slice(&A::u64(base, offset.wrapping_add(8)).to_ne_bytes());
    bytes
}

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub struct Task<A>(u64, PhantomData<A>);

/// A `struct signal_struct`: what threads of a group share.
#[derive(Clone, Copy)]
pub struct Signal<A>(u64, PhantomData<A>);

impl Task<Typed> {
    /// Argument `n` of a BTF program.
    #[inline(always)]
    pub fn from_arg(ctx: &impl EbpfContext, n: usize) -> Self {
        // SAFETY: the context has at least the arguments that the entry points name; the verifier checks it.
        Self(unsafe { *ctx.as_ptr().cast::<u64>().add(n) }, PhantomData)
    }

    /// The argument of `change_pid` that is a task: kernels differ in which it is.
    #[inline(always)]
    pub fn from_change_pid(ctx: &impl EbpfContext) -> Self {
        let task: u64;
        // Assembly, because the compiler would make one load at a computed place of the two, which the verifier
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

    /// The task that an iterator shows.
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

    /// Not exec'd since its birth.
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

    /// No user memory map: a kernel thread, a user-mode helper before its exec, a zombie.
    #[inline(always)]
    pub fn has_no_mm(self) -> bool {
        is_null(self.mm())
    }

    #[inline(always)]
    pub fn mm(self) -> u64 {
        A::u64(self.0, offset!(task_mm))
    }

    #[inline(always)]
    pub fn fs(self) -> u64 {
        A::u64(self.0, offset!(task_fs))
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        bytes16::<A>(self.0, offset!(task_comm))
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
        A::u32(self.0, offset!(task_self_exec_id))
    }

    /// uid, euid, suid in the initial user namespace: the task's own, as /proc has them. `cred` is another's while the
    /// task acts for that other, as it does within overlayfs.
    #[inline(always)]
    pub fn uids(self) -> (u32, u32, u32) {
        let cred = A::u64(self.0, offset!(task_real_cred));
        (A::u32(cred, offset!(cred_uid)), A::u32(cred, offset!(cred_euid)), A::u32(cred, offset!(cred_suid)))
    }

    #[inline(always)]
    pub fn signal(self) -> Signal<A> {
        Signal(A::u64(self.0, offset!(task_signal)), PhantomData)
    }

    /// `signal->live`: threads that have not begun to exit.
    #[inline(always)]
    pub fn live(self) -> u32 {
        A::u32(self.signal().0, offset!(signal_live))
    }

    /// `struct mnt_namespace` of the task; 0 once it has left its namespaces.
    #[inline(always)]
    pub fn mnt_namespace(self) -> u64 {
        A::u64(A::u64(self.0, offset!(task_nsproxy)), offset!(nsproxy_mnt_ns))
    }

    /// Inode number of the mount namespace.
    #[inline(always)]
    pub fn mnt_ns(self) -> u32 {
        A::u32(self.mnt_namespace(), offset!(mnt_namespace_inum))
    }

    /// `fs->pwd`: `(mnt, dentry)`, both 0 where the task has no `fs`.
    #[inline(always)]
    pub fn pwd(self) -> (u64, u64) {
        let (fs, pwd) = (self.fs(), offset!(fs_pwd));
        (A::u64(fs, pwd + offset!(path_mnt)), A::u64(fs, pwd + offset!(path_dentry)))
    }

    /// Whether other groups share the leader's `fs_struct`: more users than the group has threads.
    #[inline(always)]
    pub fn fs_shared(self) -> bool {
        A::u32(self.fs(), offset!(fs_users)) > A::u32(self.signal().0, offset!(signal_nr_threads))
    }

    /// The task's cgroup in the v2 hierarchy.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        A::u64(A::u64(self.0, offset!(task_cgroups)), offset!(css_set_dfl_cgrp))
    }

    /// Its kernfs node.
    #[inline(always)]
    pub fn cgroup_kn(self) -> u64 {
        A::u64(self.cgroup(), offset!(cgroup_kn))
    }

    /// What wait(2) would return, and whether it is the group's.
    #[inline(always)]
    pub fn wait_status(self) -> (u32, bool) {
        let signal = self.signal().0;
        if A::u32(signal, offset!(signal_flags)) & SIGNAL_GROUP_EXIT != 0 {
            (A::u32(signal, offset!(signal_group_exit_code)), true)
        } else {
            (A::u32(self.0, offset!(task_exit_code)), false)
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

    /// Whether the group leads a POSIX session.
    #[inline(always)]
    pub fn leads_session(self) -> bool {
        A::u32(self.0, offset!(signal_leader)) != 0
    }

    #[inline(always)]
    fn pid_nr(self, pidtype: u32) -> u32 {
        global_nr::<A>(A::u64(self.0, offset!(signal_pids) + pidtype * 8))
    }

    /// `signal->tty`; 0 without a controlling terminal.
    #[inline(always)]
    pub fn tty(self) -> u64 {
        A::u64(self.0, offset!(signal_tty))
    }
}

/// A `struct pid`'s number in the initial pid namespace.
#[inline(always)]
fn global_nr<A: Access>(pid: u64) -> u32 {
    A::u32(pid, offset!(pid_numbers) + offset!(upid_nr))
}

/// Device number of a terminal (major << 20 | minor); 0 for none.
#[inline(always)]
pub fn tty_dev<A: Access>(tty: u64) -> u32 {
    let driver = A::u64(tty, offset!(tty_driver));
    let minor = A::u32(driver, offset!(tty_driver_minor_start)).wrapping_add(A::u32(tty, offset!(tty_index)));
    A::u32(driver, offset!(tty_driver_major)) << 20 | minor & 0xf_ffff
}

/// The kernel's name of a terminal, NUL-padded; zero for none.
#[inline(always)]
pub fn tty_name<A: Access>(tty: u64) -> [u8; TTY_NAME_LEN] {
    bytes16::<A>(tty, offset!(tty_name))
}

/// Foreground process group of a terminal.
#[inline(always)]
pub fn tty_pgrp<A: Access>(tty: u64) -> u32 {
    global_nr::<A>(A::u64(tty, offset!(tty_pgrp)))
}

/// Identity of the directory `(mnt, dentry)`; zero where there is none.
#[inline(always)]
pub fn dir_id<A: Access>(mnt: u64, dentry: u64) -> DirId {
    let inode = A::u64(dentry, offset!(dentry_inode));
    let sb = A::u64(dentry, offset!(dentry_sb));
    let mount = mnt.wrapping_sub(u64::from(offset!(mount_mnt)));
    DirId {
        ino: A::u64(inode, offset!(inode_ino)),
        dev: A::u32(sb, offset!(sb_dev)),
        // Not within the type that the pointer has.
        mnt_id: Probed::u32(mount, offset!(mount_id)),
    }
}

/// Whether a `struct dentry` is a directory's.
#[inline(always)]
pub fn is_directory(dentry: u64) -> bool {
    const S_IFMT: u16 = 0o170_000;
    const S_IFDIR: u16 = 0o040_000;
    let inode = Probed::u64(dentry, offset!(dentry_inode));
    read::<u16>(inode.wrapping_add(u64::from(offset!(inode_mode)))) & S_IFMT == S_IFDIR
}

/// Fills `facts` from the group that `leader` leads.
#[inline(always)]
pub fn facts<A: Access>(leader: Task<A>, facts: &mut Facts) {
    let signal = leader.signal();
    let parent = leader.real_parent().group_leader();
    let (mnt, dentry) = leader.pwd();
    let tty = signal.tty();
    let (uid, euid, suid) = leader.uids();
    facts.parent_start_boottime_ns = parent.start_boottime();
    facts.ppid = parent.pid();
    facts.cwd = dir_id::<A>(mnt, dentry);
    facts.mnt_ns = leader.mnt_ns();
    facts.cgroup_id = A::u64(leader.cgroup_kn(), offset!(kernfs_id));
    facts.sid = signal.sid();
    facts.pgid = signal.pgid();
    facts.uid = uid;
    facts.euid = euid;
    facts.suid = suid;
    facts.tty_dev = tty_dev::<A>(tty);
    facts.tty_name = tty_name::<A>(tty);
    facts.exec_id = leader.self_exec_id();
    facts.comm = leader.comm();
    let forked = if leader.is_forked() { FACT_FORKED } else { 0 };
    facts.flags = fs_flags(leader) | forked | if leader.has_no_mm() { FACT_NO_MM } else { 0 };
}

/// [`FACT_FS_SHARED`] and [`FACT_LEADER_GONE`], as they hold.
#[inline(always)]
pub fn fs_flags<A: Access>(leader: Task<A>) -> u32 {
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
