//! The rule that applies without a configuration, and the lists that every rule begins with.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use observer_core::Rule;
use observer_core::rule::{Conditions, HomeRule, Ignore, Instances, Pattern, TtyRule};

use crate::text::glob::Glob;

/// Programs that are never a session unless a rule has its own list: shells, multiplexers and login programs. Where a
/// process has such a comm, it is never a session either.
pub(super) const NOT_PROGRAM_DEFAULT: [&str; 39] = [
    // shells
    "sh",
    "bash",
    "rbash",
    "dash",
    "ash",
    "zsh",
    "fish",
    "ksh",
    "ksh93",
    "mksh",
    "tcsh",
    "csh",
    "nu",
    "elvish",
    "xonsh",
    "pwsh",
    "busybox",
    // multiplexers and terminals' own servers
    "tmux",
    "screen",
    "zellij",
    "dtach",
    "abduco",
    "byobu",
    // login programs
    "login",
    "agetty",
    "getty",
    "mingetty",
    "systemd",
    "newgrp",
    "sg",
    // remote shells
    "sshd",
    "sshd-session",
    "sshd-auth",
    "ssh",
    "mosh-server",
    "mosh-client",
    "dropbear",
    "autossh",
    // copies of this program elsewhere; the one that runs is ignored by its path
    "observer",
];

/// comms that such programs give themselves.
const NOT_COMM_MORE: [&str; 4] = ["tmux: server", "tmux: client", "SCREEN", "(sd-pam)"];

/// comms and programs of wrappers, which run the program that is the session, unless a rule has its own list. A shell
/// that runs a script is a wrapper too.
pub(super) const WRAPPERS_DEFAULT: [&str; 50] = [
    "sudo",
    "doas",
    "pkexec",
    "su",
    "runuser",
    "env",
    "timeout",
    "nice",
    "ionice",
    "chrt",
    "taskset",
    "nohup",
    "setsid",
    "stdbuf",
    "unbuffer",
    "expect",
    "script",
    "scriptreplay",
    "npx",
    "npm",
    "npm exec*",
    "npm run*",
    "pnpm",
    "bunx",
    "uv",
    "uvx",
    "pipx",
    "make",
    "gmake",
    "xargs",
    "parallel",
    "strace",
    "ltrace",
    "unshare",
    "nsenter",
    "setpriv",
    "chroot",
    "bwrap",
    "firejail",
    "runc",
    "crun",
    "podman",
    "docker",
    "flock",
    "chronic",
    "time",
    "direnv",
    "systemd-run",
    "dumb-init",
    "tini",
];

/// How old a process must be to be a session where there is no configuration: it excludes `ls` and other short commands.
const MIN_AGE_DEFAULT: Duration = Duration::from_secs(1);

/// The name of a session.
const NAME_DEFAULT: &str = "{basename}";
/// What a line of a printed list has at most, without its indentation.
const LIST_BYTES: usize = 96;
/// The terminals of the rule that applies without a configuration.
const TTY_DEFAULT: &str = "pts/*";

/// The rule that applies without a configuration.
pub(super) fn default_rule() -> Rule {
    let globs = |globs: &[&str]| globs.iter().filter_map(|it| Glob::name(it).map(boxed).ok()).collect();
    let tty = Glob::path(TTY_DEFAULT).map_or(TtyRule::Any, |pts| TtyRule::Matches(boxed(pts)));
    Rule {
        home: HomeRule::Cwd,
        conditions: Conditions { tty, ..Conditions::default() },
        not_comm: globs(&not_comm_default()),
        not_program: globs(&NOT_PROGRAM_DEFAULT),
        wrappers: globs(&WRAPPERS_DEFAULT),
        owner: false,
        instances: Instances::Each,
        min_age_ns: MIN_AGE_DEFAULT.as_nanos() as u64,
        name: NAME_DEFAULT.into(),
    }
}

/// comms that are never a session unless a rule has its own list.
pub(super) fn not_comm_default() -> Vec<&'static str> {
    NOT_PROGRAM_DEFAULT.into_iter().chain(NOT_COMM_MORE).collect()
}

/// The glob as the core takes it.
pub(super) fn boxed(glob: Glob) -> Box<dyn Pattern> {
    Box::new(glob)
}

/// observer's own commands, which are never sessions: `observer watch` stays on its terminal, too.
pub(super) fn own_commands() -> Option<Ignore> {
    // Asked once, because the kernel adds " (deleted)" as soon as an upgrade has replaced the file.
    static OWN_PATH: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::current_exe().ok()?.into_os_string().into_string().ok());
    let exe = Glob::resolved_path(&globset::escape(OWN_PATH.as_ref()?)).ok()?;
    let conditions = Conditions { exe: vec![boxed(exe)], ..Conditions::default() };
    Some(Ignore { cwd: Vec::new(), conditions })
}

/// The built-in rule as a configuration would state it.
pub fn builtin_rules() -> String {
    let mut text = format!(
        "# The rule that applies without a configuration. A rule that is written has the same lists, min_age\n\
         # and name, unless it says otherwise: not_comm, not_program and wrappers add to a list, and the\n\
         # same names with _only replace it.\n\
         [[session]]\ntty       = {TTY_DEFAULT:?}\nmin_age   = \"{}s\"\nname      = {NAME_DEFAULT:?}\n\
         # Without cwd, each program of a directory is a session of its own; with cwd the default is \"one\".\n\
         instances = \"each\"\n",
        MIN_AGE_DEFAULT.as_secs()
    );
    list(&mut text, "comms that are never a session", "not_comm_only", &not_comm_default());
    list(&mut text, "programs that are never a session", "not_program_only", &NOT_PROGRAM_DEFAULT);
    list(
        &mut text,
        "comms and programs of wrappers: the session is the program below",
        "wrappers_only",
        &WRAPPERS_DEFAULT,
    );
    text
}

/// Writes a list, several names a line.
fn list(text: &mut String, what: &str, field: &str, names: &[&str]) {
    let _ = write!(text, "# {what}\n{field} = [");
    let mut room = 0;
    for name in names {
        let name = format!(" {name:?},");
        if name.len() > room {
            text.push_str("\n   ");
            room = LIST_BYTES;
        }
        room = room.saturating_sub(name.len());
        text.push_str(&name);
    }
    text.push_str("\n]\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplexers_and_remote_shells_are_no_sessions_unless_a_rule_says_so() {
        let known =
            "tmux screen zellij dtach abduco byobu mosh-server mosh-client sshd sshd-session ssh dropbear";
        for name in known.split(' ') {
            assert!(NOT_PROGRAM_DEFAULT.contains(&name), "{name}");
        }
    }
}
