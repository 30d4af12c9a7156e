//! The steps that every row goes through. A step that fails does not keep the others from being tried.

use std::time::{Duration, Instant};

use observer_harness::{Truth, Watch, text};
use serde_json::Value;

use crate::scene::Scene;
use crate::terminal::Terminal;
use crate::witness;

/// How long a program may take to start or to end on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long observer may take to have the right answer then: `min_age`, and the time in which a successor settles, on a busy
/// machine.
const ANSWER: Duration = Duration::from_secs(20);
/// The same in a row that has failed already.
const ANSWER_OF_FAILED: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// A program, and what is expected of observer.
pub(crate) struct Row {
    pub(crate) command: &'static str,
    pub(crate) right: &'static str,
    pub(crate) program: &'static str,
    pub(crate) tty: Tty,
    pub(crate) pane: Pane,
    pub(crate) hang_up: After,
    pub(crate) server: Server,
}

/// The terminal of the right process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tty {
    /// The one that the test gave to the command.
    Outer,
    /// The one of tmux's pane.
    Pane,
    /// One that a program between the test and the right process made.
    Inner,
    /// One of another devpts instance, whose number says nothing here.
    Other,
    /// Some terminal: what makes one here differs between versions.
    Free,
    /// None.
    No,
}

/// Whose pane it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pane {
    Tmux,
    Screen,
    /// In none, though the environment names one: that of a multiplexer further up.
    Stale,
    No,
}

/// What becomes of a session when something around it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Its process ends, and the session with it.
    Ends,
    /// Nothing.
    Live,
    /// Its process lives without its terminal.
    Detached,
    /// One or the other.
    Varies,
}

/// The outermost multiplexer, and what the end of its server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Tmux(After),
    /// A tmux around the row's own.
    OuterTmux(After),
    Screen(After),
    Dtach(After),
    No,
}

/// One run of a row.
struct Run<'a> {
    row: &'a Row,
    scene: Scene,
    terminal: Option<Terminal>,
    failures: Vec<String>,
}

impl Row {
    /// Goes through the steps, and fails with all that was wrong.
    #[track_caller]
    pub(crate) fn run(&self) {
        let scene = Scene::new(self.command, self.right);
        let mut run = Run { row: self, scene, terminal: None, failures: Vec::new() };
        run.steps();
        let Run { failures, scene, .. } = run;
        drop(scene);
        assert!(failures.is_empty(), "`{}`:\n{}", self.command, failures.join("\n"));
    }
}

impl Run<'_> {
    fn steps(&mut self) {
        self.start();
        self.expect_session("after the start", "live", Scene::list);
        self.scene.daemon.kill();
        self.expect_session("in one look without a daemon", "live", Scene::look);
        self.scene.daemon.restart();
        self.expect_session("after a restart of the daemon", "live", Scene::list);
        self.kill_the_right_process();
        self.scene.end_processes();
        self.start();
        self.expect_session("after the program's restart", "live", Scene::list);
        self.terminal = None;
        self.expect_after("after the hang-up", self.row.hang_up);
        let server = match self.row.server {
            Server::No => return,
            Server::Tmux(after) => ("tmux", after),
            Server::OuterTmux(after) => ("the outer tmux", after),
            Server::Screen(after) => ("screen", after),
            Server::Dtach(after) => ("dtach", after),
        };
        self.scene.kill_server(server.0);
        self.expect_after(&format!("after the end of the server of {}", server.0), server.1);
    }

    fn start(&mut self) {
        let terminal = Terminal::open();
        self.scene.start(&terminal);
        self.terminal = Some(terminal);
        if let Err(error) = within(START, || self.scene.right_process().map(drop)) {
            let output = self.terminal.as_ref().map(Terminal::output).unwrap_or_default();
            panic!("`{}` does not run: {error}; its terminal shows {output:?}", self.row.command);
        }
    }

    fn kill_the_right_process(&mut self) {
        let watch = Watch::all(&self.scene.daemon);
        let process = match self.scene.right_process() {
            Ok(process) => process,
            Err(error) => return self.failures.push(format!("before the kill: {error}")),
        };
        // SAFETY: two integers; the process was found just now, below a directory of this test.
        unsafe { libc::kill(process.pid.cast_signed(), libc::SIGKILL) };
        let death = watch.end_of(process.pid).death();
        if death.get("signal") != Some(&libc::SIGKILL.into()) {
            self.failures.push(format!("after SIGKILL of the program: its death is {death}"));
        }
        self.expect_none("after SIGKILL of the program");
    }

    fn expect_after(&mut self, step: &str, after: After) {
        if after == After::Varies {
            return self.expect_what_is(step);
        }
        let begin = self.scene.right_process();
        let is_right = within(START, || match (self.scene.right_process(), after) {
            (Err(_), After::Ends) => Ok(()),
            (Ok(process), After::Detached) if process.tty.is_none() => Ok(()),
            (Ok(process), After::Live) if begin.as_ref().is_ok_and(|begin| begin.tty == process.tty) => {
                Ok(())
            }
            (process, _) => Err(format!("{:?}", process.map(|process| (process.pid, process.tty)))),
        });
        if let Err(error) = is_right {
            self.failures.push(format!("{step}: the program itself: {after:?} is expected, not {error}"));
        }
        match after {
            After::Ends => self.expect_none(step),
            After::Live => self.expect_session(step, "live", Scene::list),
            After::Detached => self.expect_session(step, "detached", Scene::list),
            After::Varies => {}
        }
    }

    /// The session is detached while the program lives, and there is none once it ended.
    fn expect_what_is(&mut self, step: &str) {
        let expected = within(self.patience(), || {
            let (process, rows) = (self.scene.right_process(), self.scene.list());
            match (process, &rows[..]) {
                (Ok(process), [row]) => self.compare(row, &process, "detached"),
                (Err(_), []) => Ok(()),
                (process, rows) => Err(format!("{process:?}, and {}", self.briefs(rows))),
            }
        });
        if let Err(error) = expected {
            self.failures.push(format!("{step}: {error}"));
        }
    }

    /// The only session is the one of the right process.
    fn expect_session(&mut self, step: &str, state: &str, rows: fn(&Scene) -> Vec<Value>) {
        let has_daemon = self.scene.daemon.is_running();
        let expected = within(self.patience(), || {
            let process = self.scene.right_process()?;
            let rows = rows(&self.scene);
            let [row] = &rows[..] else {
                return Err(format!("{} and not only {}", self.briefs(&rows), process.pid));
            };
            self.compare(row, &process, state)?;
            if has_daemon { self.compare_pid(&process) } else { Ok(()) }
        });
        if let Err(error) = expected {
            self.failures.push(format!("{step}: {error}"));
        }
    }

    fn expect_none(&mut self, step: &str) {
        let expected = within(self.patience(), || {
            let rows = self.scene.list();
            let code =
                self.scene.daemon.observer(&["pid", self.scene.home.to_str().unwrap_or_default()]).code;
            if rows.is_empty() && code == Some(1) {
                Ok(())
            } else {
                Err(format!("no session is expected; {}; exit code {code:?} of pid", self.briefs(&rows)))
            }
        });
        if let Err(error) = expected {
            self.failures.push(format!("{step}: {error}"));
        }
    }

    fn patience(&self) -> Duration {
        if self.failures.is_empty() { ANSWER } else { ANSWER_OF_FAILED }
    }

    fn compare(&self, row: &Value, process: &Truth, state: &str) -> Result<(), String> {
        let tty = (state != "detached").then_some(process.tty.clone()).flatten();
        let (pane, mux_socket) = self.scene.pane(self.row.pane);
        // A pane whose server has ended is in the environment alone.
        let is_stale = self.row.pane == Pane::Stale || (self.row.pane == Pane::Tmux && pane.is_none());
        let expected = [
            ("pid", Some(process.pid.to_string())),
            ("state", Some(state.to_owned())),
            ("home", self.scene.home.to_str().map(str::to_owned)),
            ("program", Some(self.row.program.to_owned())),
            ("tty", tty),
            ("pane", pane),
            ("mux_socket", mux_socket),
        ];
        let mut wrong = Vec::new();
        for (field, value) in expected {
            let found = shown(row, field);
            if found != value {
                wrong.push(format!("{field} is {found:?} and not {value:?}"));
            }
        }
        if (row.get("pane_stale") == Some(&true.into())) != is_stale {
            wrong.push(format!("pane_stale is {:?} and not {is_stale}", row.get("pane_stale")));
        }
        wrong.extend(self.wrong_terminal(process, state));
        if wrong.is_empty() {
            return Ok(());
        }
        let processes = witness::shown(&witness::processes_in(&self.scene.home));
        Err(format!("{} (the home has {processes})", wrong.join("; ")))
    }

    /// What the table says of the terminal, compared with what /proc has.
    fn wrong_terminal(&self, process: &Truth, state: &str) -> Option<String> {
        let outer = self.terminal.as_ref().map(|terminal| terminal.tty.clone());
        let tty = process.tty.clone();
        let is_right = match self.row.tty {
            _ if state == "detached" => tty.is_none(),
            Tty::Outer => tty == outer,
            Tty::Pane => tty.is_some() && tty == self.scene.tmux_pane("#{pane_tty}"),
            Tty::Inner => tty.is_some() && tty != outer,
            Tty::Other | Tty::Free => tty.is_some(),
            Tty::No => tty.is_none(),
        };
        (!is_right).then(|| format!("/proc has the terminal {tty:?}, not {:?} ({outer:?})", self.row.tty))
    }

    fn compare_pid(&self, process: &Truth) -> Result<(), String> {
        let home = self.scene.home.display();
        let own = Truth::of(std::process::id()).and_then(|own| own.mnt_ns);
        let name = match process.mnt_ns.filter(|_| process.mnt_ns != own) {
            Some(mnt_ns) => format!("{home}@{mnt_ns}"),
            None => home.to_string(),
        };
        let answer = self.scene.daemon.observer(&["pid", &name]);
        if answer.code == Some(0) && answer.text().trim() == process.pid.to_string() {
            Ok(())
        } else {
            Err(format!("observer pid answers {answer:?}, not {}", process.pid))
        }
    }

    fn briefs(&self, rows: &[Value]) -> String {
        let brief = |row: &Value| {
            let field = |name| shown(row, name).unwrap_or_default();
            let pid = field("pid").parse().unwrap_or(0);
            let line = Truth::of(pid).map(|process| witness::command_line(&process)).unwrap_or_default();
            format!("{pid} {} {} `{line}`", field("program"), field("state"))
        };
        match rows {
            [] => "observer lists no session".to_owned(),
            rows => format!("observer lists {}", rows.iter().map(brief).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// A field as a person reads it.
fn shown(row: &Value, field: &str) -> Option<String> {
    match row.get(field)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        _ => text::u64_any(row, field).map(|number| number.to_string()),
    }
}

/// Looks until it is right, and returns what was wrong last.
fn within(limit: Duration, mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
