//! Finds the pane of a terminal multiplexer in which a process runs.
//!
//! Whoever is on a terminal is in the pane of that terminal, and the terminal was opened by the nearest live
//! ancestor by birth of the leader of its POSIX session: the kernel gives a terminal to the descendants of
//! its session leader only, and takes it from all of them when the leader or the opener ends. So the pane is
//! found in a few steps, however deep the process is. The environment names the pane, and is believed only
//! where it names the multiplexer that opened the terminal.

use crate::limits::{SCREEN_WINDOWS_MAX, TERMINALS_MAX};
use crate::model::ids::Tgid;
use crate::model::process::{Env, Pane, Process};
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;

/// Programs that give each of their panes the environment variable `TMUX`.
const TMUX: [&str; 2] = ["tmux", "tmate"];

/// Programs that give each of their windows the environment variable `STY`.
const SCREEN: [&str; 1] = ["screen"];

/// Programs that pass what is typed on their own terminal to the one that they open, or to the one that they
/// hand over, and do not outlive it.
const RELAYS: [&str; 15] = [
    "asciinema",
    "crun",
    "doas",
    "login",
    "pkexec",
    "rlwrap",
    "runc",
    "runuser",
    "script",
    "setpriv",
    "su",
    "sudo",
    "sudo-rs",
    "systemd-nspawn",
    "ttyrec",
];

/// What a process does with the terminals that it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opener {
    /// It is the server of tmux: each terminal is a pane.
    Tmux,
    /// It is the server of screen: each terminal is a window.
    Screen,
    /// It passes on what is typed on its own terminal.
    Relay,
    /// Any other program: another multiplexer, a terminal emulator, an editor, sshd.
    Other,
}

impl Opener {
    fn of(process: &Process) -> Self {
        // The client opens no terminal. Its comm is its own choice, as is that of the server.
        if process.comm.as_bytes() == b"tmux: client" {
            return Self::Other;
        }
        if process.comm.as_bytes() == b"tmux: server" || is_one_of(process, &TMUX) {
            Self::Tmux
        } else if is_one_of(process, &SCREEN) {
            Self::Screen
        } else if is_one_of(process, &RELAYS) {
            Self::Relay
        } else {
            Self::Other
        }
    }
}

/// Returns whether the executable or the program has one of these names, with or without a version.
fn is_one_of(process: &Process, names: &[&str]) -> bool {
    let exe = process.exe.as_deref().and_then(|exe| exe.rsplit(|&byte| byte == b'/').next());
    let called = [exe, process.program.as_deref()];
    called.into_iter().flatten().any(|called| names.iter().any(|name| is_version_of(called, name)))
}

/// Returns whether `called` is `name` or such as `screen-4.9.0`.
fn is_version_of(called: &[u8], name: &str) -> bool {
    let Some((base, version)) = called.split_at_checked(name.len()) else { return false };
    let is_version = || matches!(version, [b'-', digit, ..] if digit.is_ascii_digit());
    base.eq_ignore_ascii_case(name.as_bytes()) && (version.is_empty() || is_version())
}

/// A server of tmux or screen that opened a terminal.
struct Server<'a> {
    process: &'a Process,
    /// [`Opener::Tmux`] or [`Opener::Screen`].
    kind: Opener,
    /// What it started on that terminal.
    below: &'a ProcessEntry,
}

impl Server<'_> {
    /// Returns whether `env` names this server.
    fn is_named_by(&self, env: &Env) -> bool {
        let named = match self.kind {
            Opener::Tmux => variable(env, "TMUX").and_then(tmux_server),
            Opener::Screen => variable(env, "STY").and_then(screen_server),
            Opener::Relay | Opener::Other => None,
        };
        named == Some(self.process.key.tgid)
    }

    /// Returns the pane that `env` names, if it is one of this server.
    fn pane_named_by(&self, table: &ProcessTable, env: &Env) -> Option<Pane> {
        if !self.is_named_by(env) {
            return None;
        }
        if self.kind == Opener::Tmux {
            return Some(Pane::Tmux(env.clone()));
        }
        let is_alone = !self.may_have_other_windows(table);
        Some(if is_alone { Pane::Screen(env.clone()) } else { Pane::SomeWindow(env.clone()) })
    }

    /// Returns whether screen may have another window than this one. Two windows can swap their numbers (`number`), which changes
    /// neither the kernel nor any environment.
    fn may_have_other_windows(&self, table: &ProcessTable) -> bool {
        let mut started = table.children_by_birth(self.process.key.tgid);
        let near = started.by_ref().take(SCREEN_WINDOWS_MAX).filter_map(|tgid| table.by_tgid(tgid));
        let mut others = near.filter(|other| !is_same(other, self.below));
        let leads = |other: &ProcessEntry| terminal_leader(table, other).is_some_and(|it| is_same(it, other));
        others.any(leads) || started.next().is_some()
    }
}

/// Returns the value of a variable, unless it is empty.
fn variable<'a>(env: &'a Env, name: &str) -> Option<&'a [u8]> {
    let value = |entry: &'a [u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    env.iter().find_map(|entry| value(entry)).filter(|value| !value.is_empty())
}

/// Returns the server in `socket,server,session`, the value of `TMUX`. The socket's path may hold commas itself.
fn tmux_server(value: &[u8]) -> Option<Tgid> {
    value.rsplit(|&byte| byte == b',').nth(1).and_then(number)
}

/// Returns the server in `server.name`, the value of `STY`.
fn screen_server(value: &[u8]) -> Option<Tgid> {
    value.split(|&byte| byte == b'.').next().and_then(number)
}

fn number(digits: &[u8]) -> Option<Tgid> {
    core::str::from_utf8(digits).ok()?.parse().ok().map(Tgid)
}

/// Returns whether the variables name a multiplexer.
fn names_server(env: &Env) -> bool {
    variable(env, "TMUX").is_some() || variable(env, "STY").is_some()
}

fn is_same(one: &ProcessEntry, other: &ProcessEntry) -> bool {
    one.process.key == other.process.key
}

/// Returns the leader of the POSIX session that has the terminal of `entry`, if both have one.
pub(crate) fn terminal_leader<'a>(table: &'a ProcessTable, entry: &ProcessEntry) -> Option<&'a ProcessEntry> {
    let (sid, tty) = (entry.process.sid, entry.process.tty?);
    table.by_tgid(Tgid(sid)).filter(|leader| leader.process.sid == sid && leader.process.tty == Some(tty))
}

/// Finds the server that opened the terminal of `entry`. `visit` gets each process that decides about the
/// answer, nearest first and beginning with the process itself.
fn server<'a>(
    table: &'a ProcessTable,
    entry: &'a ProcessEntry,
    mut visit: impl FnMut(&'a ProcessEntry),
) -> Option<Server<'a>> {
    visit(entry);
    let mut below = terminal_leader(table, entry)?;
    if !is_same(below, entry) {
        visit(below);
    }
    for _ in 0..TERMINALS_MAX {
        let above = below.process.lineage.and_then(|key| table.get(key))?;
        visit(above);
        match Opener::of(&above.process) {
            kind @ (Opener::Tmux | Opener::Screen) => {
                return Some(Server { process: &above.process, kind, below });
            }
            Opener::Other => return None,
            // A relay that handed its terminal over has none: login.
            Opener::Relay if above.process.tty.is_none() => below = above,
            Opener::Relay => {
                below = terminal_leader(table, above)?;
                if !is_same(below, above) {
                    visit(below);
                }
            }
        }
    }
    None
}

/// Calls `visit` with each process that decides in which pane `entry` is.
pub(crate) fn visit_deciding<'a>(
    table: &'a ProcessTable,
    entry: &'a ProcessEntry,
    visit: impl FnMut(&'a ProcessEntry),
) {
    server(table, entry, visit);
}

/// Returns whether a multiplexer opened the terminal of a process, so that an environment may name its pane.
pub(crate) fn may_have_pane(table: &ProcessTable, entry: &ProcessEntry) -> bool {
    server(table, entry, |_| {}).is_some()
}

/// Returns the pane in which a process runs.
pub(crate) fn pane(table: &ProcessTable, entry: &ProcessEntry) -> Pane {
    let own = entry.process.env.as_ref();
    let otherwise = match own {
        Some(env) if names_server(env) || variable(env, "TMUX_PANE").is_some() => Pane::Stale,
        _ => Pane::None,
    };
    let Some(server) = server(table, entry, |_| {}) else { return otherwise };
    if let Some(env) = own.filter(|env| names_server(env)) {
        return server.pane_named_by(table, env).unwrap_or(otherwise);
    }
    // A wrapper such as sudo or `env -i` cleared the environment.
    let mut found = None;
    visit_deciding(table, entry, |above| {
        if found.is_none() {
            found = above.process.env.as_ref().and_then(|env| server.pane_named_by(table, env));
        }
    });
    found.unwrap_or(otherwise)
}
