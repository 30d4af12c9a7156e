//! Launchers that start their program again when it ends. The program is killed, and the launcher lives on.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use observer_harness::{Truth, eventually, text};
use serde_json::Value;

use crate::scene::Scene;
use crate::terminal::Terminal;

/// How long a program and its answer may take on a busy machine, `min_age` included.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the program is killed. It is less often than what counts as a loop.
const KILLS: usize = 3;

/// A launcher: a file that it is, or needs, in the home; the command line that starts it; and, as /proc has it, the one of the
/// program that it starts again and again.
struct Launcher {
    file: (&'static str, &'static str),
    command: &'static str,
    right: &'static str,
    program: &'static str,
    /// Whether the launcher is the same program, and so the session's process until it has started the other one again.
    stands_in: bool,
}

/// Node that starts node with the same script, as gemini does to change its limits, and again when it ended.
const NODE: &str = r#"#!/usr/bin/env node
if (process.argv[2] === "inner") {
  setInterval(() => {}, 1e6);
} else {
  const start = () =>
    require("child_process")
      .spawn(process.execPath, [__filename, "inner"], { stdio: "inherit" })
      .on("exit", start);
  start();
}
"#;

impl Launcher {
    /// Kills the program, and asserts after each time that the session is the same with one more start, of the new process.
    #[track_caller]
    fn run(&self) {
        let mut scene = Scene::new(self.command, self.right);
        let path = scene.home.join(self.file.0);
        std::fs::write(&path, self.file.1).expect("write the launcher");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
        let terminal = Terminal::open();
        scene.start(&terminal);
        let mut former = self.wait(&scene, None, 1);
        for starts in 2..=KILLS + 1 {
            // SAFETY: two integers; the process was found just now, below a directory of this test.
            unsafe { libc::kill(former.pid.cast_signed(), libc::SIGKILL) };
            former = self.wait(&scene, Some(&former), starts);
        }
        // A change may wait for the journal a quarter of a second, and a daemon that is killed loses it.
        eventually("the last start is written", LIMIT, || match scene.daemon.history().last() {
            Some(last) if text::u64_any(last, "pid") == Some(former.pid.into()) => Ok(()),
            last => Err(format!("{last:?}")),
        });
        self.assert_history(&scene);
        scene.daemon.kill();
        scene.daemon.restart();
        self.wait(&scene, None, KILLS + 1);
        self.assert_history(&scene);
    }

    /// Waits until the only session is the one of a program that started after `former`, with so many starts.
    #[track_caller]
    fn wait(&self, scene: &Scene, former: Option<&Truth>, starts: usize) -> Truth {
        eventually(&format!("{} has {starts} starts", self.program), LIMIT, || {
            let process = scene.right_process()?;
            if former.is_some_and(|former| former.pid == process.pid) {
                return Err("it was not started again".into());
            }
            let rows = scene.list();
            let [row] = &rows[..] else { return Err(format!("{rows:#?}")) };
            let found = (
                text::u64_any(row, "pid"),
                row.get("program").and_then(Value::as_str),
                row.get("state").and_then(Value::as_str),
                row.get("starts").and_then(Value::as_array).map(Vec::len),
            );
            let expected = (Some(process.pid.into()), Some(self.program), Some("live"), Some(starts));
            if found == expected { Ok(process) } else { Err(format!("{found:?}, and not {expected:?}")) }
        })
    }

    /// The history has this session's starts and ends, each death, and no other session.
    #[track_caller]
    fn assert_history(&self, scene: &Scene) {
        let history = scene.daemon.history();
        let text = |entry: &Value, field| entry.get(field).and_then(Value::as_str).map(str::to_owned);
        let count = |kind: &str| {
            let of = history.iter().filter(|entry| text(entry, "kind").as_deref() == Some(kind));
            of.inspect(|entry| assert_eq!(text(entry, "home").as_deref(), scene.home.to_str())).count()
        };
        let found = [count("session_started"), count("session_ended"), count("process_ended")];
        let expected = if self.stands_in { [1, 0, KILLS] } else { [KILLS + 1, KILLS, 0] };
        assert_eq!(found, expected, "{history:#?}");
        let killed = |entry: &&Value| {
            entry.pointer("/death/signal").and_then(Value::as_i64) == Some(libc::SIGKILL.into())
        };
        assert_eq!(history.iter().filter(killed).count(), KILLS, "{history:#?}");
    }
}

#[test]
fn node_that_starts_node_again() {
    let launcher = Launcher {
        file: ("agent", NODE),
        command: "./agent",
        right: "*node */agent inner",
        program: "agent",
        stands_in: true,
    };
    launcher.run();
}

#[test]
fn a_loop_of_a_shell() {
    let launcher = Launcher {
        file: ("loop.sh", "#!/bin/sh\nwhile true; do vim -Nu NONE -n notes; done\n"),
        command: "./loop.sh",
        right: "{vim}",
        program: "vim",
        stands_in: false,
    };
    launcher.run();
}

#[test]
fn make_that_goes_on() {
    let launcher = Launcher {
        file: ("loop.mk", "all: one two three four\none two three four:\n\tpython3 tool.py\n"),
        command: "make -k -f loop.mk all",
        right: "python3 tool.py",
        program: "tool",
        stands_in: false,
    };
    launcher.run();
}

#[test]
fn xargs_that_goes_on() {
    let launcher = Launcher {
        file: ("words", "1 2 3 4\n"),
        command: "xargs -a words -n 1 sh -c 'python3 tool.py; true'",
        right: "python3 tool.py",
        program: "tool",
        stands_in: false,
    };
    launcher.run();
}
