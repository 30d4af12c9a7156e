//! Programs that the kernel skipped because they were running on that CPU already: as lost as a record that could
//! not be reserved, unless a second program told it. The kernel counts them (from 5.12 on) and tells in the descriptor's
//! fdinfo.

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use observer_common::record::{
    KIND_CGROUP, KIND_COMM, KIND_COUNT, KIND_CREDS, KIND_CWD, KIND_EXEC, KIND_EXIT, KIND_FORK, KIND_HINT,
    KIND_IDS,
};

use super::ring::Control;

/// How long a task that was skipped may take to its second program, before it is believed to have none.
const SECOND_WAIT: Duration = Duration::from_millis(1);

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

type ByKind = [u64; KIND_COUNT];

/// Skips by program.
pub struct Misses {
    programs: Vec<(OwnedFd, u32)>,
    by_kind: ByKind,
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

    /// Reads the counts anew; where one cannot be read, all stay as they were.
    pub fn refresh(&mut self, control: &Control) {
        let Some(mut lost) = self.read(control) else { return };
        if pairs(&lost, &self.by_kind).any(|(lost, known)| lost > known) {
            // A second program counts a moment after the kernel did.
            thread::sleep(SECOND_WAIT);
            let Some(later) = self.read(control) else { return };
            lost = of_pairs(&lost, &later, u64::min);
        }
        self.by_kind = of_pairs(&self.by_kind, &lost, u64::max);
    }

    fn read(&self, control: &Control) -> Option<ByKind> {
        let mut skipped = [0; KIND_COUNT];
        for (fd, kind) in &self.programs {
            let misses = read_misses(fd.as_raw_fd())?;
            if let Some(count) = skipped.get_mut(*kind as usize) {
                *count += misses;
            }
        }
        Some(of_pairs(&skipped, &control.second(), u64::saturating_sub))
    }

    /// As of the last refresh.
    pub fn by_kind(&self) -> ByKind {
        self.by_kind
    }
}

fn pairs<'a>(one: &'a ByKind, other: &'a ByKind) -> impl Iterator<Item = (u64, u64)> + 'a {
    one.iter().copied().zip(other.iter().copied())
}

fn of_pairs(one: &ByKind, other: &ByKind, of: impl Fn(u64, u64) -> u64) -> ByKind {
    let mut each = pairs(one, other).map(|(one, other)| of(one, other));
    std::array::from_fn(|_| each.next().unwrap_or_default())
}

fn read_misses(fd: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}
