//! Several programs at a time, each on a terminal of its own, and a daemon.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use observer_harness::pty::take_terminal;
use observer_harness::{Daemon, Fixture, Options, eventually, programs, text};
use serde_json::Value;

use crate::scene::{FILES, environment, run};
use crate::terminal::Terminal;

/// How long a program may take to start or to end on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Homes below a directory, and a daemon whose rules are for them.
pub(crate) struct Stage {
    pub(crate) daemon: Daemon,
    pub(crate) fixture: Fixture,
}

/// A program on a terminal, killed when it is dropped.
pub(crate) struct Program {
    pub(crate) pid: u32,
    pub(crate) terminal: Terminal,
    child: Child,
}

impl Stage {
    /// Starts a daemon with this configuration, in which `{dir}` is the directory of the homes.
    pub(crate) fn new(config: &str) -> Self {
        let fixture = Fixture::new();
        let config = config.replace("{dir}", &fixture.dir().to_string_lossy());
        let daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
        Self { daemon, fixture }
    }

    /// A home with the files of every home.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        let home = self.fixture.mkdir(name);
        run(Command::new("cp").args(["-r", FILES]).arg(&home));
        home
    }

    /// Runs a command in a home. It must be one program, which has its pid then.
    pub(crate) fn start(&self, command: &str, home: &Path) -> Program {
        programs::require(command);
        let terminal = Terminal::open();
        let slave = CString::new(terminal.path.as_os_str().as_bytes()).expect("a device's path has no NUL");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("cd {}; exec {command}", home.display())]).current_dir("/");
        environment(&mut shell, &self.fixture.dir());
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            shell.pre_exec(move || take_terminal(&slave));
        }
        let child = shell.spawn().expect("start a shell");
        Program { pid: child.id(), terminal, child }
    }

    /// Pids of the sessions of a home.
    pub(crate) fn pids(&self, home: &Path) -> Vec<u32> {
        let is_of = |row: &&Value| row["home"].as_str() == home.to_str();
        let rows = self.daemon.list();
        let pids = rows.iter().filter(is_of).filter_map(|row| text::u64_any(row, "pid"));
        pids.filter_map(|pid| u32::try_from(pid).ok()).collect()
    }

    /// Waits until these are the sessions of a home, and `pid` answers the same.
    #[track_caller]
    pub(crate) fn wait_pids(&self, home: &Path, expected: &[u32]) {
        eventually(&format!("the sessions of {}", home.display()), LIMIT, || {
            let answer = self.daemon.observer(&["pid", home.to_str().expect("a path of text")]);
            let printed: Vec<u32> = answer.text().lines().filter_map(|line| line.parse().ok()).collect();
            match self.pids(home) {
                pids if pids == expected && printed == expected => Ok(()),
                pids => Err(format!("{pids:?} and not {expected:?}; {answer:?}")),
            }
        });
    }

    /// Entries of a home that are written so far.
    pub(crate) fn entries(&self, home: &Path) -> Vec<Value> {
        let mut entries = self.daemon.history();
        entries.retain(|entry| entry["home"].as_str() == home.to_str());
        entries
    }
}

/// Kinds and pids of entries, for comparisons.
pub(crate) fn lives(entries: &[Value]) -> Vec<(&str, u64)> {
    let kinds = ["session_started", "session_ended"];
    let life = |entry: &&Value| kinds.contains(&entry["kind"].as_str().unwrap_or_default());
    let entries = entries.iter().filter(life);
    entries
        .map(|entry| (entry["kind"].as_str().unwrap_or_default(), entry["pid"].as_u64().unwrap_or(0)))
        .collect()
}

impl Program {
    /// Waits until its terminal shows this.
    #[track_caller]
    pub(crate) fn shows(&self, part: &str) {
        eventually(&format!("the terminal shows {part}"), LIMIT, || {
            let output = self.terminal.output();
            if output.contains(part) { Ok(()) } else { Err(output) }
        });
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
