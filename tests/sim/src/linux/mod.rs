//! A model of Linux: as much of processes, threads, directories and terminals as observer reports, and the records that its
//! programs make of what happens. It knows the truth that the map is compared with.

mod acts;
mod births;
mod deaths;
pub(crate) mod facts;
mod files;
pub mod process;
pub mod ring;

use std::collections::BTreeMap;

use observer_core::ProcessKey;

use files::Files;
pub(crate) use process::NAMES;
use process::{Group, Stage, Thread};
use ring::{ModelRing, Priority};

pub(crate) const INIT: usize = 0;
/// Processes at a time, and threads of one.
const GROUPS_MAX: usize = 24;
const THREADS_MAX: usize = 4;
/// Numbers of processes and threads, so few that they are reused soon.
const PIDS: u32 = 72;
/// What starts user-mode helpers, which is no process.
const KTHREADD: ProcessKey = ProcessKey::new(PIDS + 100, 3);
/// Terminals, cgroups and users.
const TTYS: u32 = 4;
const CGROUPS: u32 = 3;
const UIDS: [u32; 3] = [7, 8, 0];
/// Where the mount namespaces of processes begin. The first is the host's.
pub const HOST_MNT_NS: u32 = 1_000;
/// Between two moments of the kernel, ns.
const TICK_NS: u64 = 700;

/// Who sent the signal that ended a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killer {
    /// Nobody: it exited.
    None,
    /// A process, with its user.
    Process(ProcessKey, u32),
    /// The kernel, for lack of memory.
    Memory,
}

/// The end of a process, as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrueDeath {
    /// When its last thread left.
    pub at: u64,
    /// When it became a zombie. Until then the task iterator shows it as it shows what lives.
    pub until: u64,
    /// What wait(2) returns.
    pub status: u32,
    /// Who caused it.
    pub killer: Killer,
}

/// Cgroups by number.
pub(crate) fn cgroup_path(cgroup: u32) -> String {
    format!("/user{cgroup}.slice")
}

/// The kernel.
#[derive(Debug)]
pub struct Linux {
    /// Boot time, ns.
    pub now: u64,
    /// Processes by tgid, also those that have exited and were not reaped.
    pub groups: BTreeMap<u32, Group>,
    pub(crate) files: Files,
    /// The ring.
    pub ring: ModelRing,
    /// How processes ended, those that the simulation has not forgotten.
    pub deaths: BTreeMap<ProcessKey, TrueDeath>,
    last_pid: u32,
    last_mnt_ns: u32,
    executed: u32,
}

impl Linux {
    /// A kernel with init and a shell, at this boot time.
    pub fn new(now: u64) -> Self {
        let mut files = Files::new();
        let thread = |fs, comm, uid| Thread { fs, comm, uid };
        let mut group = |pid: u32, parent, name: usize, uid| {
            let leader = thread(files.new_fs(0), name, uid);
            Group {
                key: ProcessKey::new(pid, u64::from(pid)),
                parent,
                threads: BTreeMap::from([(pid, leader)]),
                leader,
                sid: pid,
                pgid: pid,
                tty: None,
                mnt_ns: HOST_MNT_NS,
                cgroup: 0,
                exec_id: 1,
                program: name,
                argv: NAMES.get(name).map(|name| [name.as_bytes(), b"\0"].concat()).unwrap_or_default(),
                stage: Stage::Runs,
                is_subreaper: false,
                has_no_mm: false,
                is_forked: false,
            }
        };
        let groups = BTreeMap::from([(1, group(1, 0, INIT, 0)), (2, group(2, 1, 1, 7))]);
        Self {
            now: now.max(1_000),
            groups,
            files,
            ring: ModelRing::default(),
            deaths: BTreeMap::new(),
            last_pid: 2,
            last_mnt_ns: HOST_MNT_NS,
            executed: 0,
        }
    }

    /// The next moment.
    pub fn tick(&mut self) -> u64 {
        self.now += TICK_NS;
        self.now
    }

    /// A number that no task has, nor a process group or a POSIX session.
    fn free_pid(&mut self) -> Option<u32> {
        let is_busy = |pid: u32| {
            self.groups.values().any(|group| {
                group.key.tgid.0 == pid
                    || group.sid == pid
                    || group.pgid == pid
                    || group.threads.contains_key(&pid)
            })
        };
        let pid = (1..PIDS).map(|step| 2 + (self.last_pid + step) % PIDS).find(|&pid| !is_busy(pid))?;
        self.last_pid = pid;
        Some(pid)
    }

    /// A process that runs.
    fn pick(&self, by: u32) -> Option<u32> {
        let running = || self.groups.values().filter(|group| group.stage == Stage::Runs);
        let place = by as usize % running().count().max(1);
        running().nth(place).map(|group| group.key.tgid.0)
    }

    /// A process that runs, and is neither init nor within the kernel.
    fn pick_mortal(&self, by: u32) -> Option<u32> {
        self.pick(by).filter(|&tgid| tgid > 1)
    }

    /// Sends a record of a process that does something itself.
    fn send(&mut self, kind: u32, priority: Priority, at: u64, tgid: u32, bytes: Vec<u8>) {
        self.ring.send(kind, priority, at, [tgid, 0], bytes);
    }

    /// Returns how a process ended, if it did.
    pub fn death(&self, key: ProcessKey) -> Option<TrueDeath> {
        self.deaths.get(&key).copied()
    }

    /// Returns the processes that run.
    pub fn running(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(|group| group.stage == Stage::Runs)
    }

    /// Returns the path of the directory of a process, from the root, and whether it is deleted.
    pub fn path_of(&self, group: &Group) -> (Vec<u8>, bool) {
        let (components, flags) = self.cwd_path(group);
        let mut path = Vec::new();
        for name in components.split(|&byte| byte == 0).filter(|name| !name.is_empty()).rev() {
            path.push(b'/');
            path.extend(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        (path, flags != 0)
    }
}
