//! What the bench makes the kernel do: `load.c` and `tiny.c`, built at the beginning of a run.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::child::Conversation;
use observer_harness::{Pty, command};

const LOAD: &str = include_str!("../programs/load.c");
const TINY: &str = include_str!("../programs/tiny.c");
const ATTACK: &str = include_str!("../programs/attack.c");

/// User and group of attacks: nobody.
pub(crate) const ATTACKER: u32 = 65_534;

/// How long any loop may take.
const LOOP: Duration = Duration::from_secs(300);
/// How long 10,000 processes may take to be made, and to end.
const CROWD: Duration = Duration::from_secs(60);

/// Bytes of the environment under which a program with a terminal is spawned: about that of a developer's shell.
const ENVIRONMENT_BYTES: usize = 3 * 1024;

/// The programs, and a directory for what the run leaves.
pub(crate) struct Work {
    directory: TempDir,
    load: PathBuf,
    attack: PathBuf,
    tiny: PathBuf,
    sign: PathBuf,
}

/// What a spawn loop execs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spawn {
    /// The smallest program, by vfork.
    Tiny,
    /// A dynamically linked program, by fork.
    True,
    /// The smallest program with 200 bytes of arguments, 3 KiB of environment and a terminal.
    TinyWithTerminal,
}

/// What a user without privileges does in a loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack<'a> {
    /// A kind of `attack.c`.
    pub(crate) kind: &'a str,
    pub(crate) seconds: f64,
    /// The directories that it expects are here.
    pub(crate) homes: &'a Path,
    pub(crate) terminal: bool,
}

/// Where a loop and what it spawns may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    /// On the last CPU that the bench may use.
    OneCpu,
}

impl Work {
    /// comm of the program that loops spawn.
    pub(crate) const TINY: &str = "bench-tiny";
    /// comm of the program that is spawned to see whether an observer sees anything.
    pub(crate) const SIGN: &str = "bench-sign";

    /// Compiles the programs.
    pub(crate) fn prepare() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
        let path = |name: &str| directory.path().join(name);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        compile(LOAD, &path("bench-load"), &["-pthread"])?;
        compile(ATTACK, &path("bench-attack"), &["-pthread"])?;
        compile(TINY, &path(Self::TINY), &["-nostdlib", "-Wl,--build-id=none"])?;
        fs::copy(path(Self::TINY), path(Self::SIGN))?;
        let [load, attack, tiny, sign] = ["bench-load", "bench-attack", Self::TINY, Self::SIGN].map(path);
        Ok(Self { directory, load, attack, tiny, sign })
    }

    /// The smallest program.
    pub(crate) fn tiny(&self) -> &Path {
        &self.tiny
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command of bench-load's.
    pub(crate) fn load(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.load);
        // What observers read of it is the same wherever the bench runs.
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir(self.directory());
        command
    }

    /// Spawns a few programs named [`Self::SIGN`].
    pub(crate) fn spawn_signs(&self) -> Result<()> {
        let mut command = self.load(&["spawn", "3"]);
        finish(Conversation::start(command.arg(&self.sign))?).map(drop)
    }

    /// Runs a spawn loop; ns that it took.
    pub(crate) fn spawn(&self, kind: Spawn, place: Place, count: u64) -> Result<u64> {
        finish(self.start_spawning(kind, place, count)?)
    }

    /// Starts a spawn loop, to be ended by [`finish`].
    pub(crate) fn start_spawning(&self, kind: Spawn, place: Place, count: u64) -> Result<Conversation> {
        let verb = if kind == Spawn::True { "fork" } else { "spawn" };
        let program = if kind == Spawn::True { Path::new("/bin/true") } else { &self.tiny };
        let mut command = self.load(&[verb, &count.to_string()]);
        command.arg(program);
        if place == Place::OneCpu {
            stay_on_one_cpu(&mut command)?;
        }
        if kind != Spawn::TinyWithTerminal {
            return Conversation::start(&mut command);
        }
        command.args((0..8).map(|n| format!("--option-{n}=some/realistic/value")));
        environment(&mut command);
        let master = on_terminal(&mut command)?;
        let mut conversation = Conversation::start(&mut command)?;
        conversation.keep(master);
        Ok(conversation)
    }

    /// Runs a loop that prints how long it took; ns.
    pub(crate) fn time(&self, verb: &str, count: u64) -> Result<u64> {
        finish(Conversation::start(&mut self.load(&[verb, &count.to_string()]))?)
    }

    /// Starts a loop that prints how long it took, to be ended by [`finish`].
    pub(crate) fn start(&self, verb: &str, count: u64) -> Result<Conversation> {
        Conversation::start(&mut self.load(&[verb, &count.to_string()]))
    }

    /// Has `count` processes (`processes`) or threads (`sleeping-threads`) sleep until [`disperse`].
    pub(crate) fn crowd(&self, verb: &str, count: u64) -> Result<Conversation> {
        let mut conversation = Conversation::start(&mut self.load(&[verb, &count.to_string()]))?;
        let ready = conversation.line(CROWD);
        ready.with_context(|| {
            format!("make {count} for `{verb}`: check pid_max, ulimit -u and free memory")
        })?;
        Ok(conversation)
    }

    /// Starts an attack, which prints its rounds and its CPU time.
    pub(crate) fn attack(&self, attack: &Attack<'_>) -> Result<Conversation> {
        let mut command = Command::new(&self.attack);
        command.args([attack.kind, &attack.seconds.to_string()]).arg(attack.homes).arg(&self.tiny);
        command.env_clear().current_dir("/").uid(ATTACKER).gid(ATTACKER);
        let master = if attack.terminal { Some(on_terminal(&mut command)?) } else { None };
        let mut conversation = Conversation::start(&mut command)?;
        if let Some(master) = master {
            conversation.keep(master);
        }
        Ok(conversation)
    }

    /// A process on a terminal of its own in `home`, which changes directory when it is sent a path.
    pub(crate) fn session(&self, home: &Path) -> Result<Conversation> {
        let mut command = self.load(&["session"]);
        let master = on_terminal(command.current_dir(home))?;
        let mut conversation = Conversation::start(&mut command)?;
        conversation.keep(master);
        conversation.line(CROWD)?;
        Ok(conversation)
    }
}

/// The time that a loop took, ns.
pub(crate) fn finish(mut conversation: Conversation) -> Result<u64> {
    let line = conversation.line(LOOP)?;
    conversation.finish(CROWD)?;
    line.parse().with_context(|| format!("bench-load printed {line:?} for a time"))
}

/// Ends a crowd.
pub(crate) fn disperse(crowd: Conversation) -> Result<()> {
    crowd.finish(CROWD)
}

fn compile(source: &str, program: &Path, options: &[&str]) -> Result<()> {
    let file = program.with_extension("c");
    fs::write(&file, source)?;
    let mut command = Command::new("gcc");
    command.args(["-O2", "-Wall", "-static"]).args(options).arg("-o").arg(program).arg(&file);
    command::quiet(&mut command).context("build what the bench spawns")
}

/// About what a developer's shell under tmux passes on.
fn environment(command: &mut Command) {
    command.env("TMUX", "/tmp/tmux-0/default,1234,0").env("TMUX_PANE", "%7").env("TERM", "tmux-256color");
    let value = "/srv/some/realistic/path/to/a/tool/bin:/usr/local/share/other/tool";
    let each = value.len() + "VARIABLE_00=".len() + 1;
    for n in 0..ENVIRONMENT_BYTES / each {
        command.env(format!("VARIABLE_{n:02}"), value);
    }
}

fn stay_on_one_cpu(command: &mut Command) -> Result<()> {
    // SAFETY: an all-zero set is an empty one.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set and its size belong together.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) } != 0 {
        return Err(std::io::Error::last_os_error()).context("read which CPUs there are");
    }
    let cpus = 0..usize::try_from(libc::CPU_SETSIZE)?;
    // SAFETY: the CPU's number is below the set's size.
    let last = cpus.rev().find(|cpu| unsafe { libc::CPU_ISSET(*cpu, &allowed) });
    let last = last.context("no CPU is allowed, and yet this runs")?;
    // SAFETY: an all-zero set is an empty one.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the CPU's number is below the set's size.
    unsafe { libc::CPU_SET(last, &mut one) };
    // SAFETY: between fork and exec one system call runs, on a set of ours.
    unsafe {
        command.pre_exec(move || match libc::sched_setaffinity(0, size_of_val(&one), &raw const one) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    Ok(())
}

/// Gives a command a terminal and a POSIX session of its own; returns the terminal's master: closing it hangs up.
fn on_terminal(command: &mut Command) -> Result<OwnedFd> {
    let pty = Pty::open();
    let slave = fs::File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&pty.path);
    let slave = slave.with_context(|| format!("open {}", pty.path.display()))?;
    // SAFETY: between fork and exec only system calls run, which touch no memory.
    unsafe {
        command.pre_exec(move || {
            let slave = slave.as_raw_fd();
            // It stays open over the exec: the kernel takes a terminal that no process holds open from its session.
            let done = libc::setsid() >= 0
                && libc::ioctl(slave, libc::TIOCSCTTY, 0) == 0
                && libc::fcntl(slave, libc::F_SETFD, 0) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    Ok(pty.master)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_do_what_they_say() -> Result<()> {
        let work = Work::prepare()?;
        for kind in [Spawn::Tiny, Spawn::True, Spawn::TinyWithTerminal] {
            for place in [Place::Anywhere, Place::OneCpu] {
                assert!(work.spawn(kind, place, 2)? > 1000, "{kind:?} takes more than a microsecond");
            }
        }
        assert!(work.time("threads", 2)? > 1000);
        assert!(work.time("getppid", 100)? > 100);
        Ok(())
    }

    #[test]
    fn a_crowd_is_there_until_it_is_dispersed() -> Result<()> {
        let work = Work::prepare()?;
        let crowd = work.crowd("processes", 3)?;
        let parent = format!(" {} ", crowd.child().pid());
        assert_eq!(children(&parent)?, 3);
        disperse(crowd)?;
        assert_eq!(children(&parent)?, 0);
        Ok(())
    }

    /// Processes whose parent's pid, between blanks, is this.
    fn children(parent: &str) -> Result<usize> {
        let stats = fs::read_dir("/proc")?
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        // PID (COMM) STATE PPID …
        Ok(stats
            .filter(|stat| {
                stat.rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.get(2..).is_some_and(|rest| rest.starts_with(parent)))
            })
            .count())
    }

    #[test]
    fn a_session_has_a_terminal_and_goes_where_it_is_sent() -> Result<()> {
        let work = Work::prepare()?;
        let mut session = work.session(Path::new("/usr"))?;
        let directory = format!("/proc/{}/cwd", session.child().pid());
        assert_eq!(fs::read_link(&directory)?, Path::new("/usr"));
        session.send(Path::new("/etc"))?;
        let line = session.line(CROWD)?;
        assert_eq!(line.split(' ').count(), 2, "{line}");
        assert_eq!(fs::read_link(&directory)?, Path::new("/etc"));
        let stat = fs::read_to_string(format!("/proc/{}/stat", session.child().pid()))?;
        let terminal = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(4));
        assert!(terminal.is_some_and(|number| number != "0"), "{stat}");
        session.finish(CROWD)
    }
}
