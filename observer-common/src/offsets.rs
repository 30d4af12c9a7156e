//! Where the running kernel keeps what the programs read. The daemon resolves every entry from the kernel's BTF
//! and hands [`Offsets`] to the programs as one read-only global, which the verifier treats as constants.

/// One entry of [`TABLE`].
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Field of [`Offsets`], for messages.
    pub field: &'static str,
    /// Kernel struct.
    pub of: &'static str,
    /// Names of the member, newest first; `a.b` descends into a named member. Anonymous members are searched.
    pub members: &'static [&'static str],
    /// Bytes that the programs read there; 0: only the address is used.
    pub size: u32,
}

/// Offset of a member that this kernel does not have and the programs do without.
pub const ABSENT: u32 = u32::MAX;

/// Words of [`Offsets`].
pub const WORDS: usize = TABLE.len() + 5;

macro_rules! offsets {
    ($($field:ident = $of:literal [$($member:literal),+] $size:literal;)*) => {
        /// Byte offsets, by `struct_member`.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = concat!("`struct ", $of, "`")] pub $field: u32,)*
            /// Byte that holds `task_struct::in_execve`, or [`ABSENT`].
            pub task_in_execve_byte: u32,
            /// Its bit within that byte, as a mask.
            pub task_in_execve_mask: u32,
            /// 1 where the tracepoint `sched_process_exit` has the argument `group_dead`.
            pub exit_has_group_dead: u32,
            /// 1 where a plain load through a BTF-typed pointer is safe: a fault reads as 0.
            pub typed_loads: u32,
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
                typed_loads: 0,
                ring_bytes: 0,
            };

            /// As words, in the order of the fields: what the programs' global is made of.
            pub fn words(&self) -> [u32; WORDS] {
                [
                    $(self.$field,)*
                    self.task_in_execve_byte,
                    self.task_in_execve_mask,
                    self.exit_has_group_dead,
                    self.typed_loads,
                    self.ring_bytes,
                ]
            }

            /// Sets the entry of [`TABLE`] with this index; false if there is none.
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

        /// Every offset, in the order of the fields of [`Offsets`].
        pub const TABLE: &[Entry] = &[$(Entry {
            field: stringify!($field),
            of: $of,
            members: &[$($member),+],
            size: $size,
        }),*];
    };
}

offsets! {
    task_pid = "task_struct" ["pid"] 4;
    task_tgid = "task_struct" ["tgid"] 4;
    task_flags = "task_struct" ["flags"] 4;
    task_exit_state = "task_struct" ["exit_state"] 4;
    task_exit_code = "task_struct" ["exit_code"] 4;
    task_real_parent = "task_struct" ["real_parent"] 8;
    task_group_leader = "task_struct" ["group_leader"] 8;
    task_start_boottime = "task_struct" ["start_boottime", "real_start_time"] 8;
    task_cred = "task_struct" ["cred"] 8;
    task_comm = "task_struct" ["comm"] 16;
    task_fs = "task_struct" ["fs"] 8;
    task_nsproxy = "task_struct" ["nsproxy"] 8;
    task_signal = "task_struct" ["signal"] 8;
    task_mm = "task_struct" ["mm"] 8;
    task_self_exec_id = "task_struct" ["self_exec_id"] 0;
    task_cgroups = "task_struct" ["cgroups"] 8;
    signal_live = "signal_struct" ["live"] 4;
    signal_nr_threads = "signal_struct" ["nr_threads"] 4;
    signal_group_exit_code = "signal_struct" ["group_exit_code"] 4;
    signal_flags = "signal_struct" ["flags"] 4;
    signal_pids = "signal_struct" ["pids"] 0;
    signal_leader = "signal_struct" ["leader"] 4;
    signal_tty = "signal_struct" ["tty"] 8;
    pid_numbers = "pid" ["numbers"] 0;
    upid_nr = "upid" ["nr"] 4;
    cred_uid = "cred" ["uid"] 4;
    cred_euid = "cred" ["euid"] 4;
    cred_suid = "cred" ["suid"] 4;
    fs_users = "fs_struct" ["users"] 4;
    fs_pwd = "fs_struct" ["pwd"] 16;
    path_mnt = "path" ["mnt"] 8;
    path_dentry = "path" ["dentry"] 8;
    mount_mnt = "mount" ["mnt"] 0;
    mount_parent = "mount" ["mnt_parent"] 8;
    mount_mountpoint = "mount" ["mnt_mountpoint"] 8;
    mount_ns = "mount" ["mnt_ns"] 8;
    mount_id = "mount" ["mnt_id"] 4;
    vfsmount_root = "vfsmount" ["mnt_root"] 8;
    dentry_parent = "dentry" ["d_parent"] 8;
    dentry_hash_len = "dentry" ["d_name.hash_len"] 8;
    dentry_name = "dentry" ["d_name.name"] 8;
    dentry_hash_pprev = "dentry" ["d_hash.pprev"] 8;
    dentry_inode = "dentry" ["d_inode"] 8;
    dentry_sb = "dentry" ["d_sb"] 8;
    inode_ino = "inode" ["i_ino"] 8;
    sb_dev = "super_block" ["s_dev"] 4;
    nsproxy_mnt_ns = "nsproxy" ["mnt_ns"] 8;
    mnt_namespace_inum = "mnt_namespace" ["ns.inum"] 4;
    mm_arg_start = "mm_struct" ["arg_start"] 8;
    mm_arg_end = "mm_struct" ["arg_end"] 8;
    mm_env_start = "mm_struct" ["env_start"] 8;
    mm_env_end = "mm_struct" ["env_end"] 8;
    mm_exe_file = "mm_struct" ["exe_file"] 8;
    file_path = "file" ["f_path"] 16;
    binprm_filename = "linux_binprm" ["filename"] 8;
    tty_name = "tty_struct" ["name"] 0;
    tty_index = "tty_struct" ["index"] 4;
    tty_driver = "tty_struct" ["driver"] 8;
    tty_pgrp = "tty_struct" ["ctrl.pgrp", "pgrp"] 8;
    tty_driver_major = "tty_driver" ["major"] 4;
    tty_driver_minor_start = "tty_driver" ["minor_start"] 4;
    css_set_dfl_cgrp = "css_set" ["dfl_cgrp"] 8;
    cgroup_kn = "cgroup" ["kn"] 8;
    cgroup_root = "cgroup" ["root"] 8;
    cgroup_root_hierarchy_id = "cgroup_root" ["hierarchy_id"] 4;
    kernfs_id = "kernfs_node" ["id"] 8;
    kernfs_name = "kernfs_node" ["name"] 8;
    kernfs_parent = "kernfs_node" ["__parent", "parent"] 8;
}
