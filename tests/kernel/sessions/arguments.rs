//! Arguments of processes that are older than the daemon, which it reads from their memory.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use observer_harness::{Pty, Puppet, Verb, eventually, text};
use serde_json::Value;

use crate::Scene;
use crate::conditions::with_args;

/// The limit for arguments to be read that nobody stalls. Where the others delay them, that is for as long as these live.
const PROMPTLY: Duration = Duration::from_secs(10);
/// The limit for arguments that could not be read to be read again.
const SOON: Duration = Duration::from_secs(20);
/// More than there are threads for one user.
const STALLERS: usize = 40;

/// Whether the home has a session of `agent` that is certain, and the arguments that its row has.
#[track_caller]
fn known(scene: &Scene, home: &Path, agent: &Puppet) -> (bool, Value) {
    let row = scene.session(home).expect("it goes on");
    assert_eq!(text::u64_any(&row, "pid"), Some(agent.pid.into()), "{row:#}");
    assert_eq!(row.get("state").and_then(Value::as_str), Some("live"), "{row:#}");
    (row.get("certain") == Some(&true.into()), row.get("argv").cloned().unwrap_or_default())
}

/// Returns a counter of `memory_reads` of `status`.
#[track_caller]
fn reads(scene: &Scene, counter: &str) -> Option<u64> {
    scene.daemon.status().pointer(&format!("/memory_reads/{counter}")).and_then(Value::as_u64)
}

#[track_caller]
fn wait_known(scene: &Scene, what: &str, limit: Duration, home: &Path, agent: &Puppet) {
    eventually(what, limit, || match known(scene, home, agent) {
        (true, Value::Array(_)) => Ok(()),
        found => Err(format!("{found:?}; {:?}", scene.daemon.status().get("memory_reads"))),
    });
}

#[test]
fn processes_whose_arguments_do_not_answer_delay_the_arguments_of_no_other() {
    let mut scene = Scene::new("argv = \"--profile=*\"");
    let (home, pty) = (scene.home("read"), Pty::open());
    let stallers: Vec<Puppet> = (0..STALLERS)
        .map(|_| {
            let mut staller = scene.fixture.puppet();
            staller.does(Verb::StallsArguments, &[]);
            staller
        })
        .collect();
    let agent = with_args(&scene, &[], &["--profile=x"], &home, &pty);
    scene.assert_session(&home, &agent, "live");
    scene.daemon.kill();
    scene.daemon.restart();
    wait_known(&scene, "the arguments of another process are read", PROMPTLY, &home, &agent);
    let stuck = reads(&scene, "stuck");
    assert!(
        stuck.is_some_and(|stuck| (1..=4).contains(&stuck)),
        "a user's processes keep a few threads: {stuck:?}"
    );
    drop(stallers);
    eventually("the threads come back", SOON, || match reads(&scene, "stuck") {
        Some(0) => Ok(()),
        stuck => Err(format!("{stuck:?}")),
    });
}

#[test]
fn arguments_that_could_not_be_read_are_read_when_they_can_be() {
    let mut scene = Scene::new("argv = \"--profile=*\"");
    let (home, pty) = (scene.home("hidden"), Pty::open());
    let mut agent = with_args(&scene, &[], &["--profile=x"], &home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.does(Verb::HidesArguments, &[]);
    scene.daemon.kill();
    scene.daemon.restart();
    assert_eq!(known(&scene, &home, &agent), (false, Value::Null), "nobody knows whether the rule admits it");
    agent.does(Verb::ShowsArguments, &[]);
    wait_known(&scene, "the arguments are read again", SOON, &home, &agent);
    assert!(reads(&scene, "retried").is_some_and(|retried| retried > 0));
}

#[test]
fn who_may_be_a_session_by_arguments_that_are_not_read_is_not_certainly_none() {
    let mut scene = Scene::new("argv = \"--profile=*\"");
    let (homes, ptys) = (["unread", "other"].map(|name| scene.home(name)), [Pty::open(), Pty::open()]);
    // They are older than the daemon, which may not read their memory in any case where it runs as its service does.
    scene.daemon.kill();
    let started = |home, pty| {
        let mut agent = with_args(&scene, &[], &["--profile=x"], home, pty);
        agent.does(Verb::HidesArguments, &[]);
        agent
    };
    let [mut agent, mut other] = [started(&homes[0], &ptys[0]), started(&homes[1], &ptys[1])];
    scene.daemon.restart();
    let path = homes[0].to_str().expect("a path of text");
    for (args, code) in [
        (&["pid", path][..], 4),
        (&["pid", "unread"], 4),
        (&["pid", "unread", "--user", "0"], 4),
        (&["pid", "unread", "--user", "3003"], 1),
        (&["pid", "elsewhere"], 1),
        (&["list", "unread"], 4),
        (&["wait", "unread"], 125),
        (&["signal", "unread", "CONT"], 4),
    ] {
        let answer = scene.daemon.observer(args);
        assert_eq!(answer.code, Some(code), "{args:?}: {answer:?}");
        let says_why = answer.stderr.contains(&format!("pid {} of ", agent.pid))
            && answer.stderr.contains("its arguments are not known")
            && answer.stderr.contains("CAP_SYS_PTRACE");
        assert_eq!(says_why, code != 1, "{args:?}: {}", answer.stderr);
    }
    // They are known from the next exec on.
    let execs = |agent: &mut Puppet, argument: &[u8]| {
        let (program, token) = (scene.fixture.program("agent"), scene.fixture.token());
        agent.request(Verb::Exec, &[program.as_os_str().as_bytes(), token.as_bytes(), argument]);
        scene.fixture.meet(&token)
    };
    let again = execs(&mut agent, b"--profile=y");
    scene.assert_session(&homes[0], &again, "live");
    let _refused = execs(&mut other, b"--batch");
    let answer = scene.daemon.observer(&["pid", "other"]);
    assert_eq!(answer.code, Some(1), "no rule admits it: {answer:?}");
}
