//! What sessions left, in the database.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use observer_harness::scene::Scene;
use observer_harness::{Pty, Verb};

/// The limit for a change to reach the database on a machine that runs other tests.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn what_a_session_left_is_in_the_view_with_the_memory_that_it_had() {
    let scene = Scene::new(&[]);
    let (home, pty) = (scene.home("deserted"), Pty::open());
    let mut agent = scene.agent(&home, Some(&pty));
    let pid = agent.pid;
    scene.gives("SELECT pid FROM observer.live", &pid.to_string(), SOON);
    let (mut before, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    before.does(Verb::Setsid, &[]);
    let (program, token) = (scene.fixture.program("server"), scene.fixture.token());
    before.request(Verb::Exec, &[program.as_os_str().as_bytes(), token.as_bytes()]);
    let _server = scene.fixture.meet(&token);
    agent.killed(libc::SIGKILL);
    let left =
        "SELECT name, pid, left_processes, left_rss_bytes > 1000000, jsonb_array_length(keys), is_same_boot
        FROM observer.leftovers";
    scene.gives(left, &format!("deserted|{pid}|1|t|1|t"), SOON);
}
