//! Programs that the kernel skipped because they were running on that CPU already: as lost as a record that could
//! not be reserved. The kernel counts them (from 5.12 on) and tells in the descriptor's fdinfo.

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use aya::Ebpf;
use observer_common::record::{
    KIND_CGROUP, KIND_COMM, KIND_COUNT, KIND_CREDS, KIND_CWD, KIND_EXEC, KIND_EXIT, KIND_FORK, KIND_HINT,
    KIND_IDS,
};

const KIND_BY_PROGRAM: &[(&str, u32)] = &[
    ("sched_process_fork", KIND_FORK),
    ("sched_process_exec", KIND_EXEC),
    ("sched_process_exit", KIND_EXIT),
    ("task_rename", KIND_COMM),
    ("cgroup_attach_task", KIND_CGROUP),
    ("signal_generate", KIND_HINT),
    ("sys_exit_chdir", KIND_CWD),
    ("sys_exit_setuid", KIND_CREDS),
    ("sys_exit_setsid", KIND_IDS),
    ("sys_exit_setpgid", KIND_HINT),
    ("sys_exit_paths", KIND_HINT),
    ("set_fs_pwd", KIND_CWD),
    ("commit_creds", KIND_CREDS),
    ("ksys_setsid", KIND_IDS),
    ("change_pid", KIND_IDS),
    ("tty_jobctrl_ioctl", KIND_IDS),
    ("tty_open_proc_set_tty", KIND_IDS),
    ("d_move", KIND_HINT),
    ("d_exchange", KIND_HINT),
    ("d_delete", KIND_HINT),
    ("__detach_mounts", KIND_HINT),
    ("path_mount", KIND_HINT),
    ("path_umount", KIND_HINT),
    ("ksys_unshare", KIND_HINT),
    ("move_mount", KIND_HINT),
    ("__ia32_sys_move_mount", KIND_HINT),
    ("chroot_fs_refs", KIND_HINT),
    ("setns", KIND_HINT),
    ("__ia32_sys_setns", KIND_HINT),
];

/// Skips by program.
pub struct Misses {
    programs: Vec<(OwnedFd, u32)>,
    by_kind: [u64; KIND_COUNT],
}

impl Misses {
    /// Of the loaded programs; those that are not loaded are left out.
    pub fn new(ebpf: &Ebpf) -> Self {
        let programs = KIND_BY_PROGRAM
            .iter()
            .filter_map(|&(name, kind)| {
                let fd = ebpf.program(name)?.fd().ok()?;
                Some((fd.as_fd().try_clone_to_owned().ok()?, kind))
            })
            .collect();
        Self { programs, by_kind: [0; KIND_COUNT] }
    }

    /// Reads the counts anew; one that cannot be read stays as it was.
    pub fn refresh(&mut self) {
        let mut by_kind = [0; KIND_COUNT];
        for (fd, kind) in &self.programs {
            let Some(misses) = read_misses(fd.as_raw_fd()) else { return };
            if let Some(count) = by_kind.get_mut(*kind as usize) {
                *count += misses;
            }
        }
        self.by_kind = by_kind;
    }

    /// As of the last refresh.
    pub fn by_kind(&self) -> [u64; KIND_COUNT] {
        self.by_kind
    }
}

fn read_misses(fd: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}
