//! Where the running kernel keeps what the programs read. The daemon finds every member in the kernel's BTF and passes
//! [`Offsets`] to the programs as one read-only global, which the verifier treats as constants.

/// A member of a kernel struct that the programs read.
#[derive(Clone, Copy, Debug)]
pub struct KernelMember {
    /// Name of its field in [`Offsets`].
    pub field: &'static str,
    /// Kernel struct.
    pub of: &'static str,
    /// Names of the member, newest first; `a.b` descends into a named member. Anonymous members are searched.
    pub names: &'static [&'static str],
    /// Its type.
    pub ctype: CType,
}

/// The C type that a member or an argument must have for the programs to read it. Exact if they read all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CType {
    /// An integer or enum of this many bytes, or a struct that holds just one (`kuid_t`, `atomic_t`).
    Int(u32),
    /// A pointer to `struct NAME`; if the name is empty, a pointer to anything.
    Ptr(&'static str),
    /// `struct NAME` itself.
    Struct(&'static str),
    /// Exactly this many bytes of text.
    Text(u32),
    /// At least this many bytes of text.
    TextFrom(u32),
    /// An array of at least this many pointers to `struct NAME`.
    PtrsFrom(u32, &'static str),
    /// An array of `struct NAME` whose length is known at run time only.
    Structs(&'static str),
}

/// Offset of a member that this kernel does not have, and without which the programs work.
pub const ABSENT: u32 = u32::MAX;

/// The cgroup whose limit was reached when memory ran out; null where no limit was.
pub const OOM_CONTROL_MEMCG: KernelMember = KernelMember {
    field: "oom_control_memcg",
    of: "oom_control",
    names: &["memcg"],
    ctype: CType::Ptr("mem_cgroup"),
};

/// The cgroup that a limit of memory belongs to.
pub const MEM_CGROUP_CGROUP: KernelMember = KernelMember {
    field: "mem_cgroup_cgroup",
    of: "mem_cgroup",
    names: &["css.cgroup"],
    ctype: CType::Ptr("cgroup"),
};

/// The limits of a process; the first one is of its CPU time.
pub const SIGNAL_RLIM: KernelMember = KernelMember {
    field: "signal_rlim",
    of: "signal_struct",
    names: &["rlim"],
    ctype: CType::Structs("rlimit"),
};

/// CPU time of a process in its own code, ns, as the kernel compares it with that limit. Not counted without a limit.
pub const SIGNAL_COUNTED_UTIME: KernelMember = KernelMember {
    field: "signal_counted_utime",
    of: "signal_struct",
    names: &["cputimer.cputime_atomic.utime"],
    ctype: CType::Int(8),
};

/// The same in the kernel's code.
pub const SIGNAL_COUNTED_STIME: KernelMember = KernelMember {
    field: "signal_counted_stime",
    of: "signal_struct",
    names: &["cputimer.cputime_atomic.stime"],
    ctype: CType::Int(8),
};

/// Members without which observer works, because they tell no more than what had no memory left, or that a limit of CPU time
/// was reached. Their offsets are [`ABSENT`] on kernels that lack them. No self-test can have them read.
pub const OPTIONAL: &[KernelMember] =
    &[OOM_CONTROL_MEMCG, MEM_CGROUP_CGROUP, SIGNAL_RLIM, SIGNAL_COUNTED_UTIME, SIGNAL_COUNTED_STIME];

/// Number of words in [`Offsets`].
pub const WORDS: usize = MEMBERS.len() + 15;

macro_rules! offsets {
    ($($field:ident = $of:literal [$($member:literal),+] $ctype:expr;)*) => {
        /// Byte offsets; each field is named `struct_member`.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = concat!("`struct ", $of, "`")] pub $field: u32,)*
            /// Offset of the byte that holds `task_struct::in_execve`, or [`ABSENT`].
            pub task_in_execve_byte: u32,
            /// Its bit within that byte, as a mask.
            pub task_in_execve_mask: u32,
            /// 1 if the tracepoint `sched_process_exit` has the argument `group_dead`.
            pub exit_has_group_dead: u32,
            /// Index of the argument of `change_pid` that is the task.
            pub change_pid_task: u32,
            /// Offset of the first counter of `mm_struct::rss_stat`, or [`ABSENT`].
            pub mm_rss_stat: u32,
            /// From one counter of `mm_struct::rss_stat` to the next, bytes.
            pub mm_rss_stride: u32,
            /// 1 if the argument of the tracepoint `mark_victim` is a task, and not its pid.
            pub mark_victim_has_task: u32,
            /// Offset of `oom_control::memcg`, or [`ABSENT`].
            pub oom_control_memcg: u32,
            /// Offset of `mem_cgroup::css.cgroup`, or [`ABSENT`].
            pub mem_cgroup_cgroup: u32,
            /// Offset of `signal_struct::rlim`, or [`ABSENT`].
            pub signal_rlim: u32,
            /// Offset of `signal_struct::cputimer.cputime_atomic.utime`, or [`ABSENT`].
            pub signal_counted_utime: u32,
            /// Offset of `signal_struct::cputimer.cputime_atomic.stime`, or [`ABSENT`].
            pub signal_counted_stime: u32,
            /// 1 if a plain load through a BTF-typed pointer is safe: a load that faults returns 0.
            pub typed_loads: u32,
            /// 1 if a program at a tracepoint can be preempted, so that vital tracepoints have a second program.
            pub preempted: u32,
            /// Size of the ring, bytes.
            pub ring_bytes: u32,
        }

        impl Offsets {
            /// All zero: what the programs are compiled with.
            pub const ZERO: Self = Self {
                $($field: 0,)*
                task_in_execve_byte: 0,
                task_in_execve_mask: 0,
                exit_has_group_dead: 0,
                change_pid_task: 0,
                mm_rss_stat: 0,
                mm_rss_stride: 0,
                mark_victim_has_task: 0,
                oom_control_memcg: 0,
                mem_cgroup_cgroup: 0,
                signal_rlim: 0,
                signal_counted_utime: 0,
                signal_counted_stime: 0,
                typed_loads: 0,
                preempted: 0,
                ring_bytes: 0,
            };

            /// The fields as words, in their order: the content of the programs' global.
            pub fn words(&self) -> [u32; WORDS] {
                [
                    $(self.$field,)*
                    self.task_in_execve_byte,
                    self.task_in_execve_mask,
                    self.exit_has_group_dead,
                    self.change_pid_task,
                    self.mm_rss_stat,
                    self.mm_rss_stride,
                    self.mark_victim_has_task,
                    self.oom_control_memcg,
                    self.mem_cgroup_cgroup,
                    self.signal_rlim,
                    self.signal_counted_utime,
                    self.signal_counted_stime,
                    self.typed_loads,
                    self.preempted,
                    self.ring_bytes,
                ]
            }

            /// Sets the offset of the member with this index in [`MEMBERS`]; returns false if there is none.
            pub fn set(&mut self, index: usize, offset: u32) -> bool {
                match [$(&mut self.$field),*].get_mut(index) {
                    Some(field) => {
                        **field = offset;
                        true
                    }
                    None => false,
                }
            }
        }

        const _: () = assert!(core::mem::size_of::<Offsets>() == WORDS * 4);

        /// Every member in use, in the order of the fields of [`Offsets`].
        pub const MEMBERS: &[KernelMember] = &[$(KernelMember {
            field: stringify!($field),
            of: $of,
            names: &[$($member),+],
            ctype: $ctype,
        }),*];
    };
}

use CType::{Int, Ptr, PtrsFrom, Struct, Structs, Text, TextFrom};

offsets! {
    task_pid = "task_struct" ["pid"] Int(4);
    task_tgid = "task_struct" ["tgid"] Int(4);
    task_flags = "task_struct" ["flags"] Int(4);
    task_exit_state = "task_struct" ["exit_state"] Int(4);
    task_exit_code = "task_struct" ["exit_code"] Int(4);
    task_real_parent = "task_struct" ["real_parent"] Ptr("task_struct");
    task_group_leader = "task_struct" ["group_leader"] Ptr("task_struct");
    task_start_boottime = "task_struct" ["start_boottime", "real_start_time"] Int(8);
    task_real_cred = "task_struct" ["real_cred"] Ptr("cred");
    task_comm = "task_struct" ["comm"] Text(16);
    task_fs = "task_struct" ["fs"] Ptr("fs_struct");
    task_nsproxy = "task_struct" ["nsproxy"] Ptr("nsproxy");
    task_signal = "task_struct" ["signal"] Ptr("signal_struct");
    task_sighand = "task_struct" ["sighand"] Ptr("sighand_struct");
    task_mm = "task_struct" ["mm"] Ptr("mm_struct");
    task_self_exec_id = "task_struct" ["self_exec_id"] Int(8);
    task_cgroups = "task_struct" ["cgroups"] Ptr("css_set");
    task_sum_exec_runtime = "task_struct" ["se.sum_exec_runtime"] Int(8);
    signal_live = "signal_struct" ["live"] Int(4);
    signal_nr_threads = "signal_struct" ["nr_threads"] Int(4);
    signal_group_exit_code = "signal_struct" ["group_exit_code"] Int(4);
    signal_flags = "signal_struct" ["flags"] Int(4);
    signal_pids = "signal_struct" ["pids"] PtrsFrom(4, "pid");
    signal_leader = "signal_struct" ["leader"] Int(4);
    signal_tty = "signal_struct" ["tty"] Ptr("tty_struct");
    signal_sum_sched_runtime = "signal_struct" ["sum_sched_runtime"] Int(8);
    signal_cutime = "signal_struct" ["cutime"] Int(8);
    signal_cstime = "signal_struct" ["cstime"] Int(8);
    signal_maxrss = "signal_struct" ["maxrss"] Int(8);
    sighand_action = "sighand_struct" ["action"] Structs("k_sigaction");
    siginfo_code = "kernel_siginfo" ["si_code"] Int(4);
    pid_numbers = "pid" ["numbers"] Structs("upid");
    upid_nr = "upid" ["nr"] Int(4);
    cred_uid = "cred" ["uid"] Int(4);
    cred_euid = "cred" ["euid"] Int(4);
    cred_suid = "cred" ["suid"] Int(4);
    fs_users = "fs_struct" ["users"] Int(4);
    fs_pwd = "fs_struct" ["pwd"] Struct("path");
    path_mnt = "path" ["mnt"] Ptr("vfsmount");
    path_dentry = "path" ["dentry"] Ptr("dentry");
    mount_mnt = "mount" ["mnt"] Struct("vfsmount");
    mount_parent = "mount" ["mnt_parent"] Ptr("mount");
    mount_mountpoint = "mount" ["mnt_mountpoint"] Ptr("dentry");
    mount_ns = "mount" ["mnt_ns"] Ptr("mnt_namespace");
    mount_id = "mount" ["mnt_id"] Int(4);
    vfsmount_root = "vfsmount" ["mnt_root"] Ptr("dentry");
    dentry_seq = "dentry" ["d_seq.seqcount.sequence", "d_seq.sequence"] Int(4);
    dentry_parent = "dentry" ["d_parent"] Ptr("dentry");
    dentry_hash_len = "dentry" ["d_name.hash_len"] Int(8);
    dentry_name = "dentry" ["d_name.name"] Ptr("");
    dentry_hash_pprev = "dentry" ["d_hash.pprev"] Ptr("");
    dentry_inode = "dentry" ["d_inode"] Ptr("inode");
    dentry_sb = "dentry" ["d_sb"] Ptr("super_block");
    inode_mode = "inode" ["i_mode"] Int(2);
    inode_ino = "inode" ["i_ino"] Int(8);
    inode_generation = "inode" ["i_generation"] Int(4);
    sb_dev = "super_block" ["s_dev"] Int(4);
    nsproxy_mnt_ns = "nsproxy" ["mnt_ns"] Ptr("mnt_namespace");
    mnt_namespace_inum = "mnt_namespace" ["ns.inum"] Int(4);
    mm_arg_start = "mm_struct" ["arg_start"] Int(8);
    mm_arg_end = "mm_struct" ["arg_end"] Int(8);
    mm_env_start = "mm_struct" ["env_start"] Int(8);
    mm_env_end = "mm_struct" ["env_end"] Int(8);
    mm_hiwater_rss = "mm_struct" ["hiwater_rss"] Int(8);
    mm_exe_file = "mm_struct" ["exe_file"] Ptr("file");
    file_path = "file" ["f_path"] Struct("path");
    binprm_filename = "linux_binprm" ["filename"] Ptr("");
    tty_name = "tty_struct" ["name"] TextFrom(16);
    tty_index = "tty_struct" ["index"] Int(4);
    tty_driver = "tty_struct" ["driver"] Ptr("tty_driver");
    tty_pgrp = "tty_struct" ["ctrl.pgrp", "pgrp"] Ptr("pid");
    tty_driver_major = "tty_driver" ["major"] Int(4);
    tty_driver_minor_start = "tty_driver" ["minor_start"] Int(4);
    css_set_dfl_cgrp = "css_set" ["dfl_cgrp"] Ptr("cgroup");
    cgroup_kn = "cgroup" ["kn"] Ptr("kernfs_node");
    kernfs_id = "kernfs_node" ["id"] Int(8);
    kernfs_name = "kernfs_node" ["name"] Ptr("");
    kernfs_parent = "kernfs_node" ["__parent", "parent"] Ptr("kernfs_node");
}
