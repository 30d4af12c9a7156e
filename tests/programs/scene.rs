//! What a row is run in: a home, a daemon whose one rule is for it, and a cgroup that has all that the row starts.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use observer_harness::daemon::product;
use observer_harness::fixture::OwnedProcess;
use observer_harness::observe::CommandResult;
use observer_harness::pty::take_terminal;
use observer_harness::{Cgroup, Daemon, Fixture, Options, Truth, eventually, programs};
use serde_json::Value;

use crate::container;
use crate::row::Pane;
use crate::terminal::Terminal;
use crate::witness;

/// The editor of most rows.
const VIM: &str = "vim -Nu NONE -n notes";
/// Starts the row's tmux in the foreground, with the command that follows.
const TMUX: &str = "tmux -L row -f /dev/null new-session";
/// Starts another tmux in the foreground, with the command that follows.
const OUTER: &str = "tmux -L outer -f /dev/null new-session";
/// Starts a shell in the row's tmux, and types the words that follow.
const TYPED: &str = "{tmux} 'bash --norc' \\; send-keys";
/// Starts the row's screen in the foreground.
const SCREEN: &str = "screen -c /dev/null -S row";
/// The files of a home.
pub(crate) const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/home/.");
/// Has programs ask nobody for updates, send nothing, and start nothing of their own in the home: byobu's status line has
/// apt count updates there, for longer than the session lives where apt's cache is cold.
const SETTINGS: [(&str, &str); 3] = [
    (
        ".gemini/settings.json",
        r#"{"general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false},
            "privacy": {"usageStatisticsEnabled": false}}"#,
    ),
    (".byobu/status.disable", ""),
    (".codex/config.toml", "check_for_update_on_startup = false\n[analytics]\nenabled = false\n"),
];

/// One row's world. All that it started ends with it.
pub(crate) struct Scene {
    pub(crate) daemon: Daemon,
    pub(crate) home: PathBuf,
    fixture: Fixture,
    cgroup: Cgroup,
    command: String,
    right: String,
    children: Vec<Child>,
}

impl Scene {
    pub(crate) fn new(command: &str, right: &str) -> Self {
        let fixture = Fixture::new();
        let dir = fixture.dir();
        let home = fixture.mkdir("homes/home");
        run(Command::new("cp").args(["-r", FILES]).arg(&home));
        for (name, text) in SETTINGS {
            let path = fixture.mkdir("user").join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&path)).expect("create a directory");
            std::fs::write(path, text).expect("write a program's settings");
        }
        let screens = fixture.mkdir("screen");
        std::fs::set_permissions(screens, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("close screen's directory to others");
        if command.contains("{bundle}") {
            container::bundle(&dir, &home, &VIM.split(' ').collect::<Vec<_>>());
        }
        let config = format!("[[session]]\ncwd = \"{}/homes/*\"\ntty = \"any\"\n", dir.display());
        let daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
        let filled = |text: &str| {
            let dtach = format!("dtach -c {}/dtach -z", dir.display());
            let text = text
                .replace("{typed}", TYPED)
                .replace("{outer}", OUTER)
                .replace("{tmux}", TMUX)
                .replace("{screen}", SCREEN)
                .replace("{dtach}", &dtach);
            let text = text.replace("{vim}", VIM).replace("{bundle}", &dir.join("bundle").to_string_lossy());
            let text = text.replace("{npm}", &programs::npm_directory().to_string_lossy());
            text.replace("{dir}", &dir.to_string_lossy()).replace("{id}", &fixture.address)
        };
        let (command, right) = (filled(command), filled(right));
        programs::require(&command);
        programs::require(&right);
        let cgroup = Cgroup::new(&fixture.address);
        Self { daemon, home, cgroup, command, right, fixture, children: Vec::new() }
    }

    /// Runs the row's command on this terminal.
    pub(crate) fn start(&mut self, terminal: &Terminal) {
        let slave = CString::new(terminal.path.as_os_str().as_bytes()).expect("a device's path has no NUL");
        let script = format!("echo 0 > {}/cgroup.procs; exec {}", self.cgroup.path.display(), self.command);
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(&self.home);
        environment(&mut command, &self.fixture.dir());
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || take_terminal(&slave));
        }
        self.children.push(command.spawn().expect("start the row's command"));
    }

    /// What `observer list` answers now.
    pub(crate) fn list(&self) -> Vec<Value> {
        self.daemon.list()
    }

    /// What one look at the kernel answers, without a daemon.
    pub(crate) fn look(&self) -> Vec<Value> {
        let dir = self.daemon.dir();
        let mut command = Command::new(product());
        command.args(["list", "--json", "--config"]).arg(dir.join("observer.toml"));
        let answer = CommandResult::of(command.arg("--socket").arg(dir.join("none")));
        match answer.json() {
            Value::Array(rows) => rows,
            other => panic!("expected an array: {other:#}"),
        }
    }

    pub(crate) fn right_process(&self) -> Result<Truth, String> {
        witness::right_process(&self.home, &self.right)
    }

    /// `pane` and `mux_socket` as the multiplexer itself has them.
    pub(crate) fn pane(&self, pane: Pane) -> (Option<String>, Option<String>) {
        match pane {
            Pane::Stale | Pane::No => (None, None),
            Pane::Tmux => (self.tmux_pane("#{pane_id}"), self.tmux_pane("#{socket_path}")),
            Pane::Screen => {
                let sockets = std::fs::read_dir(self.fixture.dir().join("screen")).expect("screen's sockets");
                let name =
                    sockets.flatten().next().map(|entry| entry.file_name().to_string_lossy().into_owned());
                (name.as_ref().map(|_| "0".to_owned()), name)
            }
        }
    }

    /// A variable of tmux's only pane; a terminal without its `/dev/`.
    pub(crate) fn tmux_pane(&self, format: &str) -> Option<String> {
        let words = ["list-panes", "-a", "-F", format];
        let answer = CommandResult::of(self.tmux("row", &words).env_remove("TMUX"));
        let line = answer.text().lines().next()?;
        Some(line.strip_prefix("/dev/").unwrap_or(line).to_owned())
    }

    fn tmux(&self, server: &str, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        environment(&mut command, &self.fixture.dir());
        command.args(["-L", server]).args(words);
        command
    }

    /// Ends the server of the row's multiplexer.
    pub(crate) fn kill_server(&self, name: &str) {
        match name {
            "tmux" => run(&mut self.tmux("row", &["kill-server"])),
            "the outer tmux" => run(&mut self.tmux("outer", &["kill-server"])),
            "screen" => {
                let mut command = Command::new("screen");
                environment(&mut command, &self.fixture.dir());
                run(command.args(["-S", "row", "-X", "quit"]));
            }
            _ => self.kill(|process| process.comm == name.as_bytes()),
        }
    }

    /// Kills all that the row started, and waits until it is gone.
    pub(crate) fn end_processes(&mut self) {
        self.kill(|_| true);
        for mut child in self.children.drain(..) {
            let _ = child.wait();
        }
        eventually("the row's processes end", std::time::Duration::from_secs(30), || {
            self.kill(|_| true);
            if self.pids().is_empty() { Ok(()) } else { Err(format!("{:?}", self.pids())) }
        });
        // A dtach that was killed before its program had ended leaves its socket, and another one refuses that address.
        let _ = std::fs::remove_file(self.fixture.dir().join("dtach"));
    }

    /// Everything in the cgroup; a container has left it and stays in the home.
    fn pids(&self) -> Vec<u32> {
        let listed = std::fs::read_to_string(self.cgroup.path.join("cgroup.procs")).unwrap_or_default();
        let mut pids: Vec<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
        pids.extend(witness::processes_in(&self.home).iter().map(|process| process.pid));
        pids.retain(|&pid| Truth::of(pid).is_some_and(|process| !process.dead));
        pids
    }

    fn kill(&self, which: impl Fn(&Truth) -> bool) {
        for pid in self.pids() {
            // An owned process is killed when it is dropped.
            let process = Truth::of(pid).filter(|process| which(process)).map(|_| OwnedProcess::new(pid));
            drop(process);
        }
    }
}

/// The environment of the programs of a test, which has its files in `dir`.
pub(crate) fn environment(command: &mut Command, dir: &Path) {
    command.env_clear().env("PATH", programs::search_path()).env("HOME", dir.join("user"));
    command.envs([("TERM", "xterm-256color"), ("LANG", "C.UTF-8"), ("SHELL", "/bin/bash"), ("USER", "root")]);
    command.env("TMUX_TMPDIR", dir).env("SCREENDIR", dir.join("screen"));
    command.env("UV_CACHE_DIR", dir.join("uv")).env("UV_PYTHON_DOWNLOADS", "never");
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.end_processes();
        let containers = self.fixture.dir().join("runc");
        if containers.exists() {
            let mut runc = Command::new("runc");
            runc.arg("--root").arg(containers).args(["delete", "--force", &self.fixture.address]);
            let _ = runc.output();
        }
    }
}

#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let result = CommandResult::of(command);
    assert_eq!(result.code, Some(0), "{command:?}: {result:?}");
}
