//! Processes as JSON.

use std::borrow::Cow;

use observer_core::Process;
use observer_core::process::{ArgvSource, DirId, Pane, Tty};
use serde::{Deserialize, Serialize};

use super::Context;
use super::death::DeathJson;
use super::key::LifeKey;
use super::pane::PaneNames;
use crate::text::bytes::{Big, Text};
use crate::text::time::rfc3339;

/// A process, as docs/json.md describes it. A field that is not known is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessJson<'a> {
    /// tgid.
    pub pid: u32,
    /// tgid of the parent as the kernel has it.
    pub ppid: u32,
    /// tgid of the nearest live ancestor by birth, whoever is the parent since; null where none is known.
    pub ancestor_pid: Option<u32>,
    /// Start, boot time in ns: identifies the process together with `pid` and `boot_id`.
    pub start_boottime_ns: Big,
    /// Both and the boot, as one word ([`LifeKey`]).
    pub key: String,
    /// Start, RFC 3339.
    pub started_at: String,
    /// When it last executed a program, if that was observed.
    pub exec_at: Option<String>,
    /// The kernel's `self_exec_id`, which differs after each exec; null in entries of versions that did not record it.
    pub exec_id: Option<u32>,
    /// `task->comm` of the leader.
    pub comm: Text<'a>,
    /// What a person would call the program.
    pub program: Option<Text<'a>>,
    /// Path of the executable.
    pub exe: Option<Text<'a>>,
    /// Whether the executable was unlinked or replaced.
    pub exe_deleted: bool,
    /// Arguments: all of them for root and the user who executed the program, the first for others.
    pub argv: Option<Vec<Text<'a>>>,
    /// Whether there are more arguments than `argv` has.
    pub argv_truncated: bool,
    /// Where `argv` comes from: `exec` or `memory`.
    pub argv_source: Option<Cow<'a, str>>,
    /// Working directory, with the kernel's ` (deleted)`.
    pub cwd: Option<Text<'a>>,
    /// `major:minor` of its super block.
    pub cwd_dev: Option<String>,
    /// Inode number of the working directory.
    pub cwd_ino: Option<Big>,
    /// Whether the working directory was unlinked.
    pub cwd_deleted: bool,
    /// Whether its path is longer than observer's limits; `cwd` is then null.
    pub cwd_truncated: bool,
    /// Whether it cannot be reached from the root of the mount namespace.
    pub cwd_unreachable: bool,
    /// Inode number of the mount namespace.
    pub mnt_ns: Option<u32>,
    /// Controlling terminal: `pts/3`.
    pub tty: Option<Text<'a>>,
    /// `major:minor` of its device.
    pub tty_dev: Option<String>,
    /// Whether its process group is the terminal's foreground group.
    pub foreground: Option<bool>,
    /// Whether a signal stopped it.
    pub stopped: bool,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// POSIX session.
    pub sid: u32,
    /// Process group.
    pub pgid: u32,
    /// Path of the v2 cgroup.
    pub cgroup: Option<Text<'a>>,
    /// The systemd unit that this path names.
    pub unit: Option<Text<'a>>,
    /// The container that this path names.
    pub container: Option<Text<'a>>,
    /// The pane of its terminal, if that is one of tmux or screen.
    pub pane: Option<Text<'a>>,
    /// Whether the environment at exec names a pane that is not known to be that of its terminal.
    pub pane_stale: bool,
    /// `tmux` or `screen`.
    pub mux: Option<Cow<'a, str>>,
    /// Socket path of tmux, or screen's session.
    pub mux_socket: Option<Text<'a>>,
    /// When fields were read that no active hook keeps current.
    pub as_of: AsOf,
    /// Whether no gap is open.
    pub certain: bool,
    /// The id of this boot.
    pub boot_id: Cow<'a, str>,
    /// How it ended; left out while it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death: Option<DeathJson<'a>>,
}

/// When fields were read that can change without an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AsOf {
    /// When `cwd`, `cwd_dev` and `cwd_ino` were read.
    pub cwd: Option<String>,
}

impl<'a> ProcessJson<'a> {
    /// `process` as it is in the map.
    pub fn new(process: &'a Process, context: Context<'a>) -> Self {
        let wall = process.wall_offset_ns;
        let names = PaneNames::of(&process.pane);
        let cwd = &process.cwd;
        let argv = process.argv.as_ref();
        let is_argv_whole = argv.is_none_or(|argv| context.audience.sees(argv));
        let shown_max = if is_argv_whole { usize::MAX } else { 1 };
        Self {
            pid: process.key.tgid.0,
            ppid: process.parent.tgid.0,
            ancestor_pid: process.lineage.map(|key| key.tgid.0),
            start_boottime_ns: Big(process.key.start_boottime.0),
            key: LifeKey::of(context.boot_id, process.key).to_string(),
            started_at: rfc3339(process.key.start_boottime, wall),
            exec_at: process.exec_at.map(|at| rfc3339(at, wall)),
            exec_id: Some(process.exec_id),
            comm: Text::from(process.comm.as_bytes()),
            program: process.program.as_deref().map(Text::from),
            exe: process.exe.as_deref().map(Text::from),
            exe_deleted: process.exe_deleted,
            argv: argv.map(|argv| strings(&argv.bytes).take(shown_max).map(Text::from).collect()),
            argv_truncated: !is_argv_whole || argv.is_some_and(|argv| argv.truncated),
            argv_source: argv.map(|argv| Cow::Borrowed(source(argv.source))),
            cwd: cwd_path(process),
            cwd_dev: known(cwd.id).map(|id| device(id.dev)),
            cwd_ino: known(cwd.id).map(|id| Big(id.ino)),
            cwd_deleted: cwd.deleted,
            cwd_truncated: cwd.truncated,
            cwd_unreachable: cwd.unreachable,
            mnt_ns: Some(cwd.mnt_ns).filter(|&ns| ns != 0),
            tty: process.tty.as_ref().map(|tty| Text::from(tty_name(tty))),
            tty_dev: process.tty.as_ref().map(|tty| device(tty.dev)),
            foreground: foreground(process),
            stopped: process.stopped,
            uid: process.uids.uid,
            euid: process.uids.euid,
            suid: process.uids.suid,
            sid: process.sid,
            pgid: process.pgid,
            cgroup: process.cgroup.as_deref().map(Text::from),
            unit: process.unit().map(Text::from),
            container: process.container().map(Text),
            pane: names.pane.map(Text::from),
            pane_stale: names.stale,
            mux: names.mux.map(Cow::Borrowed),
            mux_socket: names.socket.map(Text::from),
            as_of: AsOf { cwd: Some(cwd.as_of).filter(|at| at.0 != 0).map(|at| rfc3339(at, wall)) },
            certain: context.certain,
            boot_id: Cow::Borrowed(context.boot_id),
            death: None,
        }
    }

    /// The same, in another pane.
    #[must_use]
    pub fn in_pane(mut self, pane: &Pane) -> Self {
        let names = PaneNames::of(pane);
        self.pane = names.pane.map(|name| Text::from(name.to_vec()));
        self.pane_stale = names.stale;
        self.mux = names.mux.map(Cow::Borrowed);
        self.mux_socket = names.socket.map(|socket| Text::from(socket.to_vec()));
        self
    }

    /// Leaves out the arguments that not everyone sees.
    pub fn hide_arguments(&mut self) {
        if let Some(argv) = self.argv.as_mut().filter(|argv| argv.len() > 1) {
            argv.truncate(1);
            self.argv_truncated = true;
        }
    }

    /// What people see as its program: comm where the program is not known.
    pub fn shown_program(&self) -> &Text<'a> {
        self.program.as_ref().unwrap_or(&self.comm)
    }
}

fn source(source: ArgvSource) -> &'static str {
    match source {
        ArgvSource::Exec => "exec",
        ArgvSource::Memory => "memory",
    }
}

/// The strings of a block in which each is NUL-terminated; the last may lack its NUL.
pub fn strings(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let terminated = block.strip_suffix(b"\0").unwrap_or(block);
    let count = if block.is_empty() { 0 } else { usize::MAX };
    terminated.split(|&byte| byte == 0).take(count)
}

fn known(id: DirId) -> Option<DirId> {
    Some(id).filter(|id| *id != DirId::default())
}

/// `major:minor` of a kernel device number.
pub fn device(dev: u32) -> String {
    format!("{}:{}", dev >> 20, dev & 0xf_ffff)
}

/// The device number that [`device`] shows.
pub fn device_number(shown: &str) -> Option<u32> {
    let (major, minor) = shown.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

/// The working directory as readlink(2) of /proc/PID/cwd shows it.
fn cwd_path(process: &Process) -> Option<Text<'_>> {
    let path = process.cwd.path.as_deref()?;
    if process.cwd.deleted {
        Some(Text::from([path, b" (deleted)"].concat()))
    } else {
        Some(Text::from(path))
    }
}

/// The terminal's name: `pts/3` for the kernel's `pts3`, the kernel's own name for others.
pub fn tty_name(tty: &Tty) -> Vec<u8> {
    let end = tty.name.iter().position(|&byte| byte == 0).unwrap_or(tty.name.len());
    let name = tty.name.get(..end).unwrap_or_default();
    match name.strip_prefix(b"pts") {
        Some(index) if !index.is_empty() && index.iter().all(u8::is_ascii_digit) => [b"pts/", index].concat(),
        _ => name.to_vec(),
    }
}

fn foreground(process: &Process) -> Option<bool> {
    let known = process.tty.is_some() && process.tty_pgrp != 0;
    known.then_some(process.tty_pgrp == process.pgid)
}
