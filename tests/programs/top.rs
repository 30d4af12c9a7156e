//! `observer top` in a terminal of tmux: keys are typed, and its screen is read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use observer_harness::daemon::product;
use observer_harness::fixture::PuppetOptions;
use observer_harness::observe::CommandResult;
use observer_harness::{Pty, Puppet, eventually, programs};

use crate::stage::{LIMIT, Program, Stage};

const CONFIG: &str = "[[session]]\nmin_age = \"0s\"\ncwd = \"{dir}/homes/*\"\ntty = \"pts/*\"\n";

/// A tmux client on a terminal of 80×24 cells, whose window has a shell, and a daemon.
struct Terminals {
    stage: Stage,
    /// Path of the server's socket.
    server: String,
    client: Program,
    ptys: Vec<Pty>,
}

impl Terminals {
    #[track_caller]
    fn new() -> Self {
        programs::require("tmux");
        let stage = Stage::new(CONFIG);
        let server = stage.fixture.dir().join("tmux.socket").display().to_string();
        let shell = "new-session -x 80 -y 24 'exec env PS1=ready: TERM=screen sh'";
        let line = format!("tmux -u -S {server} -f /dev/null {shell} \\; set status off");
        let client = stage.start(&line, &stage.fixture.dir());
        let terminals = Self { stage, server, client, ptys: Vec::new() };
        terminals.shows("the shell", |screen| screen.starts_with("ready:"));
        terminals
    }

    /// The answer of tmux.
    #[track_caller]
    fn tmux(&self, args: &[&str]) -> String {
        self.attempt(args).unwrap_or_else(|result| panic!("tmux {args:?}: {result}"))
    }

    fn attempt(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("tmux");
        command.args(["-u", "-S", &self.server]).args(args).env_remove("TMUX");
        let result = CommandResult::of(&mut command);
        if result.code == Some(0) {
            Ok(result.text().trim_end().to_owned())
        } else {
            Err(format!("{result:?}"))
        }
    }

    /// Types keys by their names.
    #[track_caller]
    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", ":0"], keys].concat());
    }

    /// Types a line into the shell.
    #[track_caller]
    fn line(&self, line: &str) {
        self.tmux(&["send-keys", "-t", ":0", "-l", line]);
        self.keys(&["Enter"]);
    }

    /// Starts `top` in the shell; what precedes it sets its environment.
    #[track_caller]
    fn top(&self, before: &str) {
        let program = product();
        self.line(&format!(
            "{before} {} top --socket {}",
            program.display(),
            self.stage.daemon.socket().display()
        ));
        self.shows("the table", |screen| screen.contains("observer top") && screen.contains("NAME"));
    }

    fn screen(&self) -> Result<String, String> {
        self.attempt(&["capture-pane", "-p", "-t", ":0"])
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(&format!("the screen shows {what}"), LIMIT, || {
            let screen = self.screen()?;
            if wanted(&screen) { Ok(screen) } else { Err(format!("\n{screen}")) }
        })
    }

    /// How often the screen has red, green or yellow.
    fn colours(&self) -> usize {
        let raw = self.tmux(&["capture-pane", "-p", "-e", "-t", ":0"]);
        ["[31m", "[32m", "[33m"].iter().map(|colour| raw.matches(colour).count()).sum()
    }

    /// Whether the pane has its other screen, and its cursor.
    fn modes(&self) -> String {
        self.tmux(&["display-message", "-p", "-t", ":0", "#{alternate_on} #{cursor_flag}"])
    }

    /// Starts a session in a home of this name, on a terminal of its own.
    fn session(&mut self, name: &OsStr) -> Puppet {
        let dir = self.stage.fixture.mkdir(Path::new("homes").join(name));
        let pty = Pty::open();
        let options = PuppetOptions { dir: Some(dir), pty: Some(&pty), ..PuppetOptions::default() };
        let puppet = self.stage.fixture.cast(&options);
        self.ptys.push(pty);
        puppet
    }

    /// Asserts that the shell has its screen, its cursor, and its terminal as it was when `settings` were written.
    #[track_caller]
    fn assert_clean(&self, settings: &str) {
        eventually("the shell's own screen, and the cursor", LIMIT, || {
            let modes = self.modes();
            if modes == "0 1" { Ok(()) } else { Err(modes) }
        });
        assert_eq!(self.settings(), settings);
    }

    /// The settings of the terminal, as stty(1) reads them from the outside. Unlike bash, sh neither changes them for its line
    /// nor mends them after a program that was killed.
    #[track_caller]
    fn settings(&self) -> String {
        let tty = self.tmux(&["display-message", "-p", "-t", ":0", "#{pane_tty}"]);
        self.shows("a prompt", |screen| screen.trim_end().ends_with("ready:"));
        let result = CommandResult::of(Command::new("stty").args(["-g", "-F", &tty]));
        assert_eq!(result.code, Some(0), "{result:?}");
        result.text().trim().to_owned()
    }

    /// The pid of `top`: the only child of the shell.
    #[track_caller]
    fn pid(&self) -> i32 {
        let shell = self.tmux(&["display-message", "-p", "-t", ":0", "#{pane_pid}"]);
        let children = CommandResult::of(Command::new("ps").args(["-o", "pid=", "--ppid", &shell]));
        children.text().trim().parse().unwrap_or_else(|_| panic!("one child: {children:?}"))
    }

    #[track_caller]
    fn kill(&self, pid: i32, signal: i32) {
        // SAFETY: kill(2) takes numbers; the process is the test's own and lives.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-S", &self.server, "kill-server"]).output();
        self.client.kill();
    }
}

/// The line of a session.
fn row<'s>(screen: &'s str, name: &str) -> Option<&'s str> {
    screen.lines().find(|line| line.starts_with(&format!("{name} ")))
}

#[test]
fn sessions_are_shown_chosen_and_explained_on_terminals_of_two_sizes() {
    let mut terminals = Terminals::new();
    let settings = terminals.settings();
    let alpha = terminals.session(OsStr::new("alpha"));
    let _evil = terminals.session(OsStr::from_bytes("ev\x1b[2Jil\u{202e}語".as_bytes()));
    terminals.top("");
    let screen = terminals.shows("its costs", |screen| {
        row(screen, "alpha")
            .is_some_and(|row| row.contains(" live ") && row.contains('%') && row.contains(" MB "))
    });
    assert!(screen.contains(r"ev\x1b[…202e}語"), "{screen}");
    assert!(terminals.colours() > 0, "what is live is green");
    assert_eq!(terminals.modes(), "1 0");
    // A session that starts is shown, and its end.
    let beta = terminals.session(OsStr::new("beta"));
    terminals.shows("a session that started", |screen| row(screen, "beta").is_some());
    assert!(beta.signal(libc::SIGKILL), "it lives");
    terminals.shows("its end", |screen| row(screen, "beta").is_none());
    let _again = terminals.session(OsStr::new("beta"));
    terminals.shows("its last death", |screen| {
        row(screen, "beta").is_some_and(|row| row.contains("ago: SIGKILL"))
    });
    // The filter, and the details.
    terminals.keys(&["/", "a", "l", "p", "Enter"]);
    terminals.shows("what matches", |screen| row(screen, "alpha").is_some() && row(screen, "beta").is_none());
    terminals.keys(&["Enter"]);
    let process = format!("{} ", alpha.pid);
    terminals.shows("details", |screen| {
        screen.contains("LAST EVENTS") && screen.contains("  started") && screen.contains(&process)
    });
    terminals.keys(&["g"]);
    terminals.shows("where it is", |screen| screen.contains("alpha is in no pane of tmux or screen"));
    // A small terminal has the details alone, and the table when they are closed.
    terminals.tmux(&["resize-window", "-t", ":0", "-x", "40", "-y", "10"]);
    let small = terminals.shows("details on a small screen", |screen| {
        screen.contains("── details, lines 1-") && screen.lines().all(|line| line.chars().count() <= 40)
    });
    assert!(!small.contains("NAME"), "{small}");
    terminals.keys(&["Escape"]);
    terminals.shows("the table on a small screen", |screen| screen.contains("STATE         UP   CPU"));
    // Only now: two that come at once are one key for most programs.
    terminals.keys(&["Escape"]);
    terminals.shows("all sessions", |screen| row(screen, "beta").is_some());
    terminals.keys(&["?"]);
    terminals.shows("the keys", |screen| screen.contains("── keys"));
    terminals.keys(&["q"]);
    terminals.assert_clean(&settings);
}

#[test]
fn the_terminal_is_as_it_was_after_each_signal() {
    let mut terminals = Terminals::new();
    let _alpha = terminals.session(OsStr::new("alpha"));
    let settings = terminals.settings();
    for (signal, status) in [(libc::SIGTERM, 143), (libc::SIGINT, 130), (libc::SIGHUP, 129)] {
        terminals.line("clear");
        terminals.top("");
        terminals.kill(terminals.pid(), signal);
        terminals.assert_clean(&settings);
        terminals.line("echo status=$?");
        terminals.shows("its status", |screen| screen.contains(&format!("status={status}\n")));
    }
    // It stops and goes on, also where a key asks for it.
    terminals.line("clear");
    terminals.top("");
    let pid = terminals.pid();
    terminals.kill(pid, libc::SIGTSTP);
    terminals.assert_clean(&settings);
    for _ in 0..2 {
        terminals.line("fg");
        terminals.shows("the table again", |screen| row(screen, "alpha").is_some());
        assert_eq!(terminals.modes(), "1 0");
        terminals.keys(&["C-z"]);
        terminals.assert_clean(&settings);
    }
    terminals.line("fg");
    terminals.shows("the table again", |screen| row(screen, "alpha").is_some());
    terminals.keys(&["C-c"]);
    terminals.assert_clean(&settings);
}

#[test]
fn a_daemon_that_goes_away_is_said_and_met_again() {
    let mut terminals = Terminals::new();
    let _alpha = terminals.session(OsStr::new("alpha"));
    terminals.top("NO_COLOR=1");
    terminals.shows("a session", |screen| row(screen, "alpha").is_some());
    terminals.stage.daemon.kill();
    let screen =
        terminals.shows("that nobody answers", |screen| screen.contains("the daemon is away since "));
    assert!(row(&screen, "alpha").is_some(), "{screen}");
    terminals.stage.daemon.restart();
    terminals.shows("the daemon's answer", |screen| {
        row(screen, "alpha").is_some_and(|row| row.contains(" live ")) && !screen.contains("is away")
    });
    assert_eq!(terminals.colours(), 0);
    terminals.keys(&["q"]);
}

#[test]
fn g_shows_the_pane_of_a_session_in_the_same_tmux_server() {
    let terminals = Terminals::new();
    let home = terminals.stage.fixture.mkdir("homes/paned");
    let fixture = &terminals.stage.fixture;
    let agent = format!("exec {} {} paned", fixture.program("agent").display(), fixture.address);
    let new = ["new-window", "-d", "-t", ":1", "-c", &home.display().to_string(), &agent];
    terminals.tmux(&new);
    let _paned = fixture.meet("paned");
    terminals.top("");
    terminals.shows("the session", |screen| row(screen, "paned").is_some());
    let window = |terminals: &Terminals| terminals.tmux(&["display-message", "-p", "#{window_index}"]);
    assert_eq!(window(&terminals), "0");
    terminals.keys(&["g"]);
    eventually("tmux shows the other window", LIMIT, || match window(&terminals) {
        shown if shown == "1" => Ok(()),
        shown => Err(format!("window {shown}:\n{}", terminals.tmux(&["capture-pane", "-p"]))),
    });
    terminals.keys(&["q"]);
}

#[test]
fn without_a_terminal_that_places_text_it_says_what_else_there_is() {
    let terminals = Terminals::new();
    let piped = terminals.stage.daemon.observer(&["top"]);
    assert_eq!((piped.code, piped.text()), (Some(2), ""), "{piped:?}");
    assert!(piped.stderr.contains("use `observer list` or `observer watch`"), "{piped:?}");
    let socket = terminals.stage.daemon.socket();
    terminals.line(&format!(
        "TERM=dumb {} top --socket {}; echo status=$?",
        product().display(),
        socket.display()
    ));
    let screen = terminals.shows("the reason", |screen| screen.contains("status=2"));
    assert!(screen.replace('\n', "").contains("TERM is dumb: set TERM, or use `observer list`"), "{screen}");
    terminals.line(&format!("clear; {} top --socket /nonexistent; echo status=$?", product().display()));
    let screen = terminals.shows("the reason", |screen| screen.contains("status=4"));
    assert!(screen.contains("no daemon listens"), "{screen}");
    assert_eq!(terminals.modes(), "0 1");
}
