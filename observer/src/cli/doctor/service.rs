//! The checks of `observer doctor` about the service: its configuration, its socket, its memory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group};

use crate::api::check::{Check, Verdict};
use crate::api::status::StatusAnswer;
use crate::config::Config;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::socket::listen::GROUP;
use crate::text::bytes::{from_json, to_line};

/// The cgroup of the service as systemd makes it.
const CGROUP: &str = "/sys/fs/cgroup/system.slice/observer.service";
/// Less than this is no room for what clients do not read, bytes.
const MEMORY_MIN: u64 = 256 << 20;

/// The configuration in `file`, or the built-in one, and what is to be said about it.
pub fn configuration(file: Option<&Path>) -> (Config, Vec<Check>) {
    let name = "configuration";
    let Some(file) = file else {
        let detail = "none: the built-in rule is in force, and everything else has its default";
        return (Config::without_file(), vec![Check::new(name, Verdict::Fine, detail)]);
    };
    let shown = to_line(file.as_os_str().as_encoded_bytes()).into_owned();
    match Config::load(Some(file)) {
        Ok(config) => {
            let mut checks: Vec<_> = config
                .warnings
                .iter()
                .map(|warning| Check::new(name, Verdict::Limited, warning.to_string()))
                .collect();
            if checks.is_empty() {
                let detail = format!("{shown} has {} session rules", config.rules.len());
                checks.push(Check::new(name, Verdict::Fine, detail));
            }
            (config, checks)
        }
        Err(error) => (Config::without_file(), vec![Check::new(name, Verdict::Fails, error.to_string())]),
    }
}

/// The configuration of the daemon that answers on the socket.
pub fn config_in_use(socket: &Path) -> Option<PathBuf> {
    let line = Client::connect(socket).ok()?.ask(&ClientRequest::Status {}).ok()?;
    let StatusAnswer { config, .. } = decode(&line).ok()?;
    config.map(|path| PathBuf::from(OsString::from_vec(from_json(&path))))
}

/// Whether a daemon answers on the socket.
pub fn answers(socket: &Path) -> bool {
    Client::connect(socket).is_ok()
}

/// A daemon that runs, or that could: not running is no failure of the machine.
pub fn daemon(socket: &Path) -> Vec<Check> {
    let (verdict, detail) = match Client::connect(socket) {
        Ok(client) => {
            (Verdict::Fine, format!("runs, pid {}, version {}", client.hello.pid, client.hello.observer))
        }
        Err(error @ ClientError::NoDaemon(_)) => (Verdict::Limited, error.to_string()),
        Err(error) => (Verdict::Fails, error.to_string()),
    };
    let group = Group::from_name(GROUP).ok().flatten();
    let mut checks = vec![Check::new("daemon", verdict, detail), members(group.as_ref())];
    if let Ok(meta) = fs::symlink_metadata(socket) {
        checks.push(rights(socket, (meta.mode(), meta.gid()), group.map(|group| group.gid)));
    }
    checks
}

fn members(group: Option<&Group>) -> Check {
    let name = format!("group {GROUP}");
    match group {
        Some(group) => {
            let detail = match group.mem.as_slice() {
                [] => format!("has no members, so only root may ask the daemon: `usermod -aG {GROUP} NAME`"),
                members => format!("may ask the daemon: {}", members.join(", ")),
            };
            Check::new(name, Verdict::Fine, detail)
        }
        None => {
            let detail =
                format!("is not there, so only root may ask the daemon: `groupadd --system {GROUP}`");
            Check::new(name, Verdict::Limited, detail)
        }
    }
}

/// Whether the socket has the rights that the daemon gave it: its mode and group, and the group that there is.
fn rights(socket: &Path, (mode, gid): (u32, u32), group: Option<Gid>) -> Check {
    let name = "socket";
    let shown = to_line(socket.as_os_str().as_encoded_bytes()).into_owned();
    let mode = mode & 0o777;
    if mode & 0o007 != 0 {
        let detail = format!("{shown} has the mode {mode:04o}, so everybody may ask: `chmod 0660 {shown}`");
        return Check::new(name, Verdict::Fails, detail);
    }
    match group {
        Some(group) if group.as_raw() != gid || mode & 0o060 != 0o060 => {
            let detail = format!(
                "{shown} has the group {gid} and the mode {mode:04o}, so members of {GROUP} may not ask: restart the daemon, as a \
                 member of that group or as root"
            );
            Check::new(name, Verdict::Limited, detail)
        }
        _ => Check::new(name, Verdict::Fine, format!("{shown} has the mode {mode:04o}")),
    }
}

/// What the service may have and has of memory, where systemd runs it.
pub fn memory() -> Option<Check> {
    let read = |name: &str| fs::read_to_string(Path::new(CGROUP).join(name)).ok();
    Some(memory_of(&read("memory.max")?, &read("memory.current")?, &read("memory.events")?))
}

fn memory_of(max: &str, current: &str, events: &str) -> Check {
    let name = "memory of the service";
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let victims =
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(number).unwrap_or(0);
    let has = number(current).unwrap_or(0) >> 20;
    let Some(max) = number(max) else {
        return Check::new(name, Verdict::Fine, format!("{has} MiB, without a limit"));
    };
    let found = format!("{has} MiB, and the unit allows {} MiB", max >> 20);
    if victims > 0 {
        let next = "raise MemoryMax=, and report it with `observer status --json`";
        return Check::new(
            name,
            Verdict::Limited,
            format!("{found}: it was killed for that {victims} times; {next}"),
        );
    }
    if max < MEMORY_MIN {
        let detail =
            format!("{found}: clients that do not read may fill that; the packaged unit has MemoryMax=512M");
        return Check::new(name, Verdict::Limited, detail);
    }
    Check::new(name, Verdict::Fine, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_for_everybody_is_a_problem_and_one_without_its_group_a_warning() {
        let group = Some(Gid::from_raw(990));
        let verdict = |mode, gid, group| rights(Path::new("/s"), (mode, gid), group).verdict;
        assert_eq!(verdict(0o140_660, 990, group), Verdict::Fine);
        assert_eq!(verdict(0o140_666, 990, group), Verdict::Fails);
        assert_eq!(verdict(0o140_660, 0, group), Verdict::Limited);
        assert_eq!(verdict(0o140_600, 990, group), Verdict::Limited);
        assert_eq!(verdict(0o140_660, 0, None), Verdict::Fine);
    }

    #[test]
    fn memory_that_was_not_enough_or_is_little_is_a_warning() {
        let found = |max, events| {
            let check = memory_of(max, "25165824\n", events);
            (check.verdict, check.detail)
        };
        let none = "low 0\nmax 0\noom 0\noom_kill 0\n";
        assert_eq!(found("536870912\n", none), (Verdict::Fine, "24 MiB, and the unit allows 512 MiB".into()));
        assert_eq!(found("max\n", none), (Verdict::Fine, "24 MiB, without a limit".into()));
        assert_eq!(found("67108864\n", none).0, Verdict::Limited);
        let (verdict, detail) = found("536870912\n", "oom 3\noom_kill 2\n");
        assert!(verdict == Verdict::Limited && detail.contains("killed for that 2 times"), "{detail}");
    }

    #[test]
    fn a_configuration_that_cannot_be_used_is_a_problem_and_the_built_in_one_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("observer.toml");
        std::fs::write(&file, "[[session]]\ncwdd = \"/x\"\n").unwrap();
        let (config, checks) = configuration(Some(&file));
        assert_eq!(checks.iter().map(|check| check.verdict).collect::<Vec<_>>(), [Verdict::Fails]);
        assert_eq!(config.rules.len(), 1);
        let (_, checks) = configuration(None);
        assert_eq!(checks.iter().map(|check| check.verdict).collect::<Vec<_>>(), [Verdict::Fine]);
    }
}
