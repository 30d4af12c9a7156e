//! The values that the self-test compares, and which members of kernel structs each is read through: every member in
//! use stands behind one at least (tested), so that a wrong offset is named where it shows.

use std::fmt;

use observer_common::offsets::TABLE;

/// One value.
pub struct Value {
    name: &'static str,
    /// Entries of [`TABLE`], by field.
    members: &'static [&'static str],
}

impl Value {
    /// The members behind it, for messages.
    pub fn through(&self) -> String {
        let entries = TABLE.iter().filter(|entry| self.members.contains(&entry.field));
        let names: Vec<_> =
            entries.map(|entry| format!("{}.{}", entry.of, entry.members.join("/"))).collect();
        format!("read through {}", names.join(", "))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident = $text:literal [$($member:ident)*];)*) => {
        $($(#[$doc])* pub const $name: Value = Value { name: $text, members: &[$(stringify!($member)),*] };)*

        #[cfg(test)]
        const ALL: &[Value] = &[$($name),*];
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
    LEADER_GONE = "whether its leader has left" [task_exit_state];
    DEAD = "whether it is dead, and its wait status" [
        task_exit_state signal_live signal_flags signal_group_exit_code task_exit_code
    ];
    STATUS = "wait status" [task_signal signal_flags signal_group_exit_code task_exit_code];
    LED_SID = "the POSIX session that it led" [signal_leader signal_pids];
    RENAMED = "the hint that a directory was renamed" [inode_mode dentry_inode];
    ARGV = "argv" [task_mm mm_arg_start mm_arg_end];
    ENVIRONMENT = "environment" [task_mm mm_env_start mm_env_end signal_tty];
    FILENAME = "filename" [binprm_filename];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_in_use_stands_behind_a_value_that_is_compared() {
        let unchecked: Vec<_> = TABLE
            .iter()
            .map(|entry| entry.field)
            .filter(|field| !ALL.iter().any(|value| value.members.contains(field)))
            .collect();
        assert!(unchecked.is_empty(), "a wrong offset of these would show wrong values: {unchecked:?}");
        for value in ALL {
            for member in value.members {
                assert!(TABLE.iter().any(|entry| entry.field == *member), "{value}: no member {member}");
            }
        }
    }

    #[test]
    fn a_value_names_the_members_behind_it() {
        assert_eq!(FILENAME.through(), "read through linux_binprm.filename");
    }
}
