//! Processes and their threads.

use std::collections::BTreeMap;

use observer_core::ProcessKey;

/// Names of programs, and of threads. No rule of the simulations admits `bash` and `init`, and `sudo` and `env` are wrappers.
pub(crate) const NAMES: [&str; 8] = ["init", "bash", "claude", "codex", "node", "sudo", "env", "vim"];

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It runs.
    Runs,
    /// Its last thread has sent the record of the end, and goes on to end with this status.
    Exiting(u32),
    /// It waits to be reaped.
    Zombie(u32),
}

/// A thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its `fs_struct`.
    pub fs: u32,
    /// Place of its comm in [`NAMES`].
    pub comm: usize,
    /// Its user id: real, effective and saved.
    pub uid: u32,
}

/// A thread group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its identity.
    pub key: ProcessKey,
    /// tgid of its parent; 0: the kernel's.
    pub parent: u32,
    /// Its threads by tid. Once the leader is gone, it is not among them.
    pub threads: BTreeMap<u32, Thread>,
    /// What is read of the leader, also once it is gone.
    pub leader: Thread,
    /// The id of its POSIX session.
    pub sid: u32,
    /// The id of its process group.
    pub pgid: u32,
    /// Its terminal.
    pub tty: Option<u32>,
    /// Its mount namespace.
    pub mnt_ns: u32,
    /// Number of its cgroup.
    pub cgroup: u32,
    /// `self_exec_id`.
    pub exec_id: u32,
    /// Place of the name of the executed file in [`NAMES`].
    pub program: usize,
    /// Its arguments, NUL-terminated.
    pub argv: Vec<u8>,
    /// How far it is.
    pub stage: Stage,
    /// Orphans below it become its children.
    pub is_subreaper: bool,
    /// A user-mode helper that has not exec'd.
    pub has_no_mm: bool,
    /// It has not exec'd.
    pub is_forked: bool,
}

impl Group {
    /// Returns whether the leader has exited before the other threads.
    pub fn is_leader_gone(&self) -> bool {
        !self.threads.contains_key(&self.key.tgid.0)
    }

    /// Returns the leader's `fs_struct`.
    pub fn leader_fs(&self) -> Option<u32> {
        self.threads.get(&self.key.tgid.0).map(|leader| leader.fs).filter(|_| self.stage == Stage::Runs)
    }

    /// The thread at a place.
    pub(crate) fn pick(&self, by: u32) -> Option<(u32, Thread)> {
        let place = by as usize % self.threads.len().max(1);
        self.threads.iter().nth(place).map(|(&tid, &thread)| (tid, thread))
    }

    /// The components of the path of the executable.
    pub(crate) fn exe_path(&self) -> Vec<u8> {
        match NAMES.get(self.program) {
            Some(name) if !self.has_no_mm => [name.as_bytes(), b"\0bin\0"].concat(),
            _ => Vec::new(),
        }
    }
}
