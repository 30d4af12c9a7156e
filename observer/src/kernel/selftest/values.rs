//! The values that the self-test compares, and the members of kernel structs through which each is read. Every member in use
//! belongs to at least one value (tested), so that the self-test names a member whose offset is wrong.

use std::fmt;

use anyhow::{Result, ensure};
use observer_common::offsets::MEMBERS;

/// A value that is compared.
pub struct ComparedValue {
    name: &'static str,
    /// Fields of [`MEMBERS`] through which it is read.
    members: &'static [&'static str],
}

impl ComparedValue {
    /// Describes these members, for messages.
    pub fn through(&self) -> String {
        let members = MEMBERS.iter().filter(|member| self.members.contains(&member.field));
        let names: Vec<_> =
            members.map(|member| format!("{}.{}", member.of, member.names.join("/"))).collect();
        format!("read through {}", names.join(", "))
    }
}

impl fmt::Display for ComparedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Fails if a value differs, naming the value and the members through which it was read. `via` is "ring" or "iterator".
pub fn same<T: PartialEq + fmt::Debug>(via: &str, value: &ComparedValue, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{via}: {value} is {got:?}, expected {expected:?} ({})", value.through());
    Ok(())
}

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident = $text:literal [$($member:ident)*];)*) => {
        $($(#[$doc])* pub const $name: ComparedValue = ComparedValue { name: $text, members: &[$(stringify!($member)),*] };)*

        #[cfg(test)]
        const ALL: &[ComparedValue] = &[$($name),*];
    };
}

values! {
    ROW = "the row" [task_pid task_tgid task_group_leader task_flags task_mm task_exit_state task_self_exec_id];
    RECORDS = "its records" [task_pid task_tgid task_group_leader task_flags task_signal signal_live task_start_boottime];
    START = "start_boottime_ns" [task_start_boottime task_group_leader];
    PPID = "ppid" [task_real_parent task_group_leader task_pid];
    SID = "sid" [task_group_leader task_signal signal_pids pid_numbers upid_nr];
    PGID = "pgid" [task_group_leader task_signal signal_pids pid_numbers upid_nr];
    UIDS = "uid, euid and suid" [task_real_cred cred_uid cred_euid cred_suid];
    COMM = "comm" [task_comm];
    FORKED = "whether it has not exec'd" [task_flags];
    EXEC_ID = "the count of its execs" [task_self_exec_id];
    NO_MM = "whether it has no memory" [task_mm];
    CWD = "cwd" [
        task_fs fs_pwd path_mnt path_dentry mount_mnt mount_parent mount_mountpoint mount_ns vfsmount_root
        dentry_parent dentry_hash_len dentry_name task_nsproxy nsproxy_mnt_ns
    ];
    CWD_ID = "device, inode and mount of its cwd" [
        task_fs fs_pwd path_mnt path_dentry dentry_inode inode_ino dentry_sb sb_dev mount_mnt mount_id
    ];
    CWD_GENERATION = "generation of its cwd" [inode_generation];
    CWD_REACHED = "whether its cwd is within its mount namespace" [
        mount_parent mount_ns mount_mnt task_nsproxy nsproxy_mnt_ns
    ];
    CWD_DELETED = "whether its cwd is deleted" [dentry_hash_pprev dentry_parent];
    FS_SHARED = "whether others share its directory" [task_fs fs_users signal_nr_threads];
    MNT_NS = "mount namespace" [task_nsproxy nsproxy_mnt_ns mnt_namespace_inum];
    EXE = "exe" [
        task_mm mm_exe_file file_path path_mnt path_dentry dentry_parent dentry_hash_len dentry_name mount_mnt
        mount_parent mount_mountpoint mount_ns vfsmount_root
    ];
    TTY = "terminal" [
        task_signal signal_tty tty_name tty_index tty_driver tty_driver_major tty_driver_minor_start
    ];
    FOREGROUND = "foreground group of its terminal" [signal_tty tty_pgrp pid_numbers upid_nr];
    CGROUP_ID = "cgroup id" [task_cgroups css_set_dfl_cgrp cgroup_kn kernfs_id];
    CGROUP = "cgroup" [task_cgroups css_set_dfl_cgrp cgroup_kn kernfs_name kernfs_parent];
    STOPPED = "whether a signal stopped it" [task_signal signal_flags];
    LEADER_GONE = "whether its leader has left" [task_exit_state];
    DEAD = "whether it is dead, and its wait status" [
        task_exit_state signal_live signal_flags signal_group_exit_code task_exit_code
    ];
    STATUS = "wait status" [task_signal signal_flags signal_group_exit_code task_exit_code];
    SIGNAL = "the signal that killed it, and how it was sent" [task_sighand sighand_action siginfo_code];
    HANDLED = "whether a signal that it handled is taken for one that ends it" [task_sighand sighand_action];
    SENDER = "the sender of that signal" [task_group_leader task_tgid task_real_cred cred_uid];
    LED_SID = "the POSIX session that it led" [signal_leader signal_pids];
    RENAMED = "the hint that a directory was renamed" [inode_mode dentry_inode];
    CPU_TIME = "its CPU time" [task_sum_exec_runtime signal_sum_sched_runtime];
    CHILDREN_CPU_TIME = "the CPU time of its children" [signal_cutime signal_cstime];
    MAX_RSS = "the most memory that it had" [signal_maxrss];
    RSS = "the memory that it has" [task_mm mm_hiwater_rss];
    PEAK_RSS = "the most memory that it had while it lives" [mm_hiwater_rss];
    ARGV = "argv" [task_mm mm_arg_start mm_arg_end];
    ENVIRONMENT = "environment" [task_mm mm_env_start mm_env_end signal_tty];
    FILENAME = "filename" [binprm_filename];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members of which no value is shown: they are read only to doubt another value. With a wrong offset, values are
    /// doubted more or less often than they should be. Nothing can cause the doubt for a comparison.
    const GUARDS: [&str; 1] = ["dentry_seq"];

    #[test]
    fn every_member_in_use_belongs_to_a_value_that_is_compared() {
        let unchecked: Vec<_> = MEMBERS
            .iter()
            .map(|member| member.field)
            .filter(|field| !GUARDS.contains(field))
            .filter(|field| !ALL.iter().any(|value| value.members.contains(field)))
            .collect();
        assert!(unchecked.is_empty(), "a wrong offset of these would show wrong values: {unchecked:?}");
        for value in ALL {
            for member in value.members {
                assert!(MEMBERS.iter().any(|known| known.field == *member), "{value}: no member {member}");
            }
        }
    }

    #[test]
    fn a_value_names_the_members_through_which_it_is_read() {
        assert_eq!(FILENAME.through(), "read through linux_binprm.filename");
    }
}
