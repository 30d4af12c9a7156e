//! Which programs tell which fact, the better way first.

/// A fact that needs no other way than BTF tracepoints. Each is named like its program.
pub const BTF_TRACEPOINTS: &[(&str, &str)] = &[
    ("birth", "sched_process_fork"),
    ("exec", "sched_process_exec"),
    ("death", "sched_process_exit"),
    ("comm", "task_rename"),
    ("cgroup", "cgroup_attach_task"),
    ("hang-up", "signal_generate"),
];

/// The first so many are those without which there is no map.
pub const VITAL: usize = 3;

/// Their second programs, for kernels that preempt the first: program, tracepoint.
pub const SECOND: [(&str, &str); VITAL] = [
    ("fork_second", "sched_process_fork"),
    ("exec_second", "sched_process_exec"),
    ("exit_second", "sched_process_exit"),
];

/// A fact that is told at the ends of kernel functions, or else at the exits of system calls.
pub struct Fact {
    /// What it is called in `status`.
    pub name: &'static str,
    /// Programs at the ends of kernel functions, each named like its point in `observer_common::hooks`.
    pub functions: &'static [&'static str],
    /// The program that serves the exits, and the system calls; none: the fact has no other way.
    pub syscalls: Option<(&'static str, &'static [&'static str])>,
    /// What is not seen without the functions.
    pub unseen: &'static str,
}

/// Every such fact.
pub const FACTS: &[Fact] = &[
    Fact {
        name: "cwd",
        functions: &["set_fs_pwd"],
        syscalls: Some(("sys_exit_chdir", &["chdir", "fchdir"])),
        unseen: "chdir and fchdir called by 32-bit code",
    },
    Fact {
        name: "uids",
        functions: &["commit_creds"],
        syscalls: Some(("sys_exit_setuid", &["setuid", "setreuid", "setresuid"])),
        unseen: "setuid, setreuid and setresuid called by 32-bit code",
    },
    Fact {
        name: "sid",
        functions: &["ksys_setsid"],
        syscalls: Some(("sys_exit_setsid", &["setsid"])),
        unseen: "setsid called by 32-bit code",
    },
    Fact {
        name: "pgid",
        functions: &["change_pid"],
        syscalls: Some(("sys_exit_setpgid", &["setpgid"])),
        unseen: "setpgid called by 32-bit code",
    },
    Fact {
        name: "paths",
        functions: &[
            "d_move",
            "d_exchange",
            "d_delete",
            "__detach_mounts",
            "path_mount",
            "path_umount",
            "ksys_unshare",
            "move_mount",
            "__ia32_sys_move_mount",
            "chroot_fs_refs",
            "setns",
            "__ia32_sys_setns",
        ],
        syscalls: Some((
            "sys_exit_paths",
            &[
                "rename",
                "renameat",
                "renameat2",
                "rmdir",
                "unlinkat",
                "mount",
                "umount",
                "move_mount",
                "pivot_root",
                "setns",
                "unshare",
            ],
        )),
        unseen: "renames and removals made through io_uring; renames, removals and mount changes made by 32-bit code",
    },
    Fact {
        name: "terminal",
        functions: &["tty_jobctrl_ioctl", "tty_open_proc_set_tty"],
        syscalls: None,
        unseen: "a terminal gained or given up by ioctl or by opening it",
    },
];
