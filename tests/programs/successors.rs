//! A program that replaces itself by its child, below a shell that executes another program as soon as the first one ends.

use std::time::Duration;

use observer_harness::{Truth, eventually, text};

use crate::scene::Scene;
use crate::terminal::Terminal;

/// How long all lives and the answer may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Becomes a session, and goes on as its child, so many times.
const AGENT: &str = r#"
import os, sys, time
lives = int(sys.argv[1])
time.sleep(3 if lives else 3600)
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.01)
    os.execvp("python3", ["python3", "agent.py", str(lives - 1)])
"#;

/// Waits until the only session is the one of the process that is right.
#[track_caller]
fn wait(scene: &Scene) -> Truth {
    eventually("the last life of the agent is the session", LIMIT, || {
        let process = scene.right_process()?;
        let rows = scene.list();
        let [row] = &rows[..] else { return Err(format!("{rows:#?}")) };
        let found = (text::u64_any(row, "pid"), row["program"].as_str(), row["state"].as_str());
        let expected = (Some(process.pid.into()), Some("agent"), Some("live"));
        if found == expected { Ok(process) } else { Err(format!("{found:?}, and not {expected:?}")) }
    })
}

#[test]
fn an_agent_that_replaces_itself_keeps_its_session_from_what_its_shell_executes() {
    let mut scene = Scene::new("bash -c 'python3 agent.py 3; sleep 603'", "python3 agent.py 0");
    std::fs::write(scene.home.join("agent.py"), AGENT).expect("write the agent");
    let terminal = Terminal::open();
    scene.start(&terminal);
    let last = wait(&scene);
    scene.daemon.stop();
    scene.daemon.restart();
    wait(&scene);
    // SAFETY: two integers; the process was found just now, below a directory of this test.
    unsafe { libc::kill(last.pid.cast_signed(), libc::SIGKILL) };
    eventually("what the shell executed is left", LIMIT, || {
        let rows = scene.list();
        let [row] = &rows[..] else { return Err(format!("{rows:#?}")) };
        if row["program"] == "sleep" { Ok(()) } else { Err(format!("{row:#}")) }
    });
}
