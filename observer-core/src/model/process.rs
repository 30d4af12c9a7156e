//! One live process as the kernel shows it.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use crate::model::cgroup;
use crate::model::ids::{BootTime, ProcessKey};

/// Bytes that processes choose, such as paths and argv. They need not be text. Parent and child share them.
pub type Bytes = Arc<[u8]>;

/// `task->comm`: at most 15 bytes, padded with NULs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// Returns the bytes before the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        self.0.get(..end).unwrap_or_default()
    }
}

/// A controlling terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tty {
    /// Device number as the kernel holds it: `major << 20 | minor`.
    pub dev: u32,
    /// The kernel's name, such as `pts3` or `tty1`, padded with NULs.
    pub name: [u8; 16],
}

impl Tty {
    /// Returns the name that is shown to people and matched by rules, such as `pts/3` or `tty1`.
    pub fn shown(&self) -> ShownTty {
        let mut shown = ShownTty { bytes: [0; 17], len: 0 };
        let mut previous: &[u8] = &[];
        for (at, &byte) in self.name.iter().enumerate().take_while(|&(_, &byte)| byte != 0) {
            if at == 3 && previous == b"pts" && byte.is_ascii_digit() {
                shown.push(b'/');
            }
            shown.push(byte);
            previous = self.name.get(..=at).unwrap_or_default();
        }
        shown
    }
}

/// The name of a terminal as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownTty {
    bytes: [u8; 17],
    len: usize,
}

impl ShownTty {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// Returns the name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Identity of a directory, as the kernel holds it. All zero where it could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirId {
    /// Inode number.
    pub ino: u64,
    /// `s_dev` of the super block: major << 20 | minor. Not always what stat(2) shows (btrfs, overlayfs).
    pub dev: u32,
    /// `mnt_id` of the mount.
    pub mnt_id: u32,
    /// `i_generation`. It tells directories apart that had the same inode number one after the other. 0 on file
    /// systems that have none.
    pub generation: u32,
    /// A part of the address of the kernel's `struct inode`. It tells directories with the same inode number apart
    /// while both are in use, such as the roots of btrfs subvolumes. An inode that the kernel freed and read
    /// again may have another one.
    pub object: u32,
}

/// A working directory, and what is known of its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkingDirectory {
    /// Absolute path from the root of the mount namespace, without the kernel's " (deleted)"; `None` while it
    /// is being read again or could not be read whole.
    pub path: Option<Bytes>,
    /// Identity of the directory.
    pub id: DirId,
    /// Inode number of the mount namespace; 0 if unknown.
    pub mnt_ns: u32,
    /// The directory was deleted.
    pub deleted: bool,
    /// The path is longer than observer's limits, so `path` is `None`.
    pub truncated: bool,
    /// The directory cannot be reached from the root of the namespace, because its mount was lazily
    /// unmounted.
    pub unreachable: bool,
    /// The leader exited before its threads: this is its last directory.
    pub leader_gone: bool,
    /// When it was read: the timestamp of the record or row.
    pub as_of: BootTime,
}

impl WorkingDirectory {
    /// Returns the path where it may be a new home: the path is complete and the directory exists.
    pub fn usable_path(&self) -> Option<&Bytes> {
        if self.deleted || self.truncated || self.unreachable || self.leader_gone {
            return None;
        }
        self.path.as_ref()
    }
}

/// User ids of the leader, in the initial user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uids {
    /// The real user id.
    pub uid: u32,
    /// The effective user id.
    pub euid: u32,
    /// The saved user id.
    pub suid: u32,
}

/// Where argv was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgvSource {
    /// From the exec itself. This is what was executed, even if the process wrote over it since.
    Exec,
    /// From the memory of the process at a later time. The process may have written over it.
    Memory,
}

/// The arguments of the last exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argv {
    /// NUL-terminated strings as they are in memory. The last one may be cut where `truncated`.
    pub bytes: Bytes,
    /// The arguments are longer than what was read.
    pub truncated: bool,
    /// Where they were read from.
    pub source: ArgvSource,
    /// The real user id that the process had when it executed its program. Where `source` is its memory: when that was read.
    pub uid: u32,
}

impl Argv {
    /// Returns the arguments that were read whole, the name of the program first.
    pub fn whole(&self) -> impl Iterator<Item = &[u8]> {
        // What follows the last NUL is no argument, or is a cut one.
        let is_open = self.bytes.last().is_some_and(|&byte| byte != 0);
        let kept = if is_open && !self.truncated { 0 } else { 1 };
        let count = self.bytes.split(|&byte| byte == 0).count() - kept;
        self.bytes.split(|&byte| byte == 0).take(count)
    }

    /// Returns whether there are others than the first, which is the name of the program.
    pub fn has_more_than_name(&self) -> bool {
        let end_of_name = self.bytes.iter().position(|&byte| byte == 0);
        end_of_name.is_some_and(|end| end + 1 < self.bytes.len())
    }
}

/// Those environment variables at the last exec that the configuration names, as `NAME=value`.
pub type Env = Arc<[Bytes]>;

/// The pane of a terminal multiplexer in which a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    /// None, or none that its environment could name.
    #[default]
    None,
    /// Its environment names a pane that is not known to be that of its terminal.
    Stale,
    /// A pane of tmux. `TMUX` and `TMUX_PANE` name it, in the environment of the process or of one that shares its
    /// terminal.
    Tmux(Env),
    /// The only window of a screen. `STY` and `WINDOW` name it, likewise.
    Screen(Env),
    /// One of several windows of a screen, which `STY` names. They may have swapped their numbers, so `WINDOW` does not tell
    /// which it is.
    SomeWindow(Env),
}

impl Pane {
    /// Returns the socket of the multiplexer: the path of tmux's, or the `STY` of screen.
    pub fn mux_socket(&self) -> Option<&[u8]> {
        match self {
            Self::None | Self::Stale => None,
            // TMUX is `socket,server pid,session`; the socket's path may hold commas itself.
            Self::Tmux(env) => {
                variable(env, b"TMUX").and_then(|tmux| tmux.rsplitn(3, |&byte| byte == b',').nth(2))
            }
            Self::Screen(env) | Self::SomeWindow(env) => variable(env, b"STY"),
        }
    }
}

/// Returns the value of a variable.
pub(crate) fn variable<'a>(env: &'a Env, name: &[u8]) -> Option<&'a [u8]> {
    let value = |entry: &'a [u8]| entry.strip_prefix(name)?.strip_prefix(b"=");
    env.iter().find_map(|entry| value(entry))
}

/// One live process: a thread group with a user memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its identity.
    pub key: ProcessKey,
    /// Realtime minus boot time, ns, when the process was first seen. It fixes the wall-clock time of its
    /// start.
    pub wall_offset_ns: i64,
    /// The parent as the kernel has it. `start_boottime` is 0 where only the tgid is known.
    pub parent: ProcessKey,
    /// The nearest live ancestor by birth, as observed. Reparenting does not change it.
    pub lineage: Option<ProcessKey>,
    /// `task->comm` of the leader.
    pub comm: Comm,
    /// Path of `mm->exe_file`.
    pub exe: Option<Bytes>,
    /// The executable was unlinked or replaced since.
    pub exe_deleted: bool,
    /// The name given to the last exec that was observed.
    pub filename: Option<Bytes>,
    /// The arguments; `None` where they could not be read.
    pub argv: Option<Argv>,
    /// What a person would call the program: the script that an interpreter runs, else the executed file.
    /// `None` where that is not known.
    pub program: Option<Bytes>,
    /// The chosen environment variables at exec; `None` where they were not read.
    pub env: Option<Env>,
    /// The pane in which it runs.
    pub pane: Pane,
    /// When it last exec'd, if that was observed.
    pub exec_at: Option<BootTime>,
    /// The kernel's `self_exec_id`.
    pub exec_id: u32,
    /// The working directory of the leader.
    pub cwd: WorkingDirectory,
    /// The controlling terminal.
    pub tty: Option<Tty>,
    /// The foreground process group of the terminal when it was last read; 0 if unknown or none.
    pub tty_pgrp: u32,
    /// A signal had stopped it when that was last read.
    pub stopped: bool,
    /// The user ids.
    pub uids: Uids,
    /// The id of the POSIX session.
    pub sid: u32,
    /// The id of the process group.
    pub pgid: u32,
    /// kernfs id of the v2 cgroup; 0 if unknown.
    pub cgroup_id: u64,
    /// Path of the v2 cgroup.
    pub cgroup: Option<Bytes>,
    /// Other thread groups share its `fs_struct`.
    pub fs_shared: bool,
}

impl Process {
    /// Returns whether its arguments are not known: its exec was not observed, and its memory was not read, or could not
    /// be. What is called its program is that of the executable then, if it has any.
    pub fn is_unread(&self) -> bool {
        self.argv.is_none() && self.filename.is_none()
    }

    /// Returns the systemd unit that the path of its cgroup names, as [`cgroup::unit`] does.
    pub fn unit(&self) -> Option<&[u8]> {
        cgroup::unit(self.cgroup.as_deref()?)
    }

    /// Returns the container that the path of its cgroup names, as [`cgroup::container`] does.
    pub fn container(&self) -> Option<Cow<'_, [u8]>> {
        cgroup::container(self.cgroup.as_deref()?)
    }
}
