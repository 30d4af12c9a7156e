//! The memory of the daemon, of which its service has a limited amount.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Cgroup, Daemon, Fixture, Options, Puppet, Verb, eventually};

use crate::{Scene, count};

/// `MemoryMax=` of packaging/observer.service.
const LIMIT_BYTES: u64 = 512 << 20;
/// Processes with a session each that end, and that leave their homes.
const ENDED: usize = 1_500;
const LEFT: usize = 2_600;
/// Homes of others that a process goes through when it leaves its own.
const PASSED_THROUGH: &str = "15";
/// How long thousands of processes may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

impl Scene {
    /// Children that are called `agent`, each in a home of its own.
    fn walkers(&self, name: &str, children: usize) -> (Puppet, Vec<u64>) {
        let homes = self.fixture.mkdir("homes");
        for at in 0..children {
            std::fs::create_dir(homes.join(format!("{name}{at}"))).expect("create a home");
        }
        let program = Some(self.fixture.program("agent"));
        let mut parent = self.fixture.cast(&PuppetOptions { program, ..PuppetOptions::default() });
        parent.patience(LONG);
        let (prefix, children) = (homes.join(name), children.to_string());
        let words = [prefix.as_os_str().as_bytes(), children.as_bytes(), PASSED_THROUGH.as_bytes(), b"/"];
        let pids = parent.does(Verb::BearsWalkers, &words);
        (parent, pids)
    }

    /// Waits until `list` answers with so many rows, and all are in this state. Asks once more then.
    #[track_caller]
    fn wait_rows(&mut self, rows: usize, state: &str) {
        let counted = u64::try_from(rows).expect("a small number");
        eventually(&format!("{rows} sessions are {state}"), LONG, || {
            assert!(self.daemon.is_running(), "the daemon did not survive the question");
            let sessions = self.daemon.counter("sessions");
            if sessions != counted {
                return Err(format!("{sessions} sessions"));
            }
            let found = self.daemon.list().iter().filter(|row| row["state"] == state).count();
            if found == rows { Ok(()) } else { Err(format!("{found}")) }
        });
        assert_eq!(self.daemon.list().len(), rows);
        assert!(self.daemon.is_running());
    }
}

#[test]
fn thousands_of_sessions_that_left_their_homes_or_ended_fit_into_the_memory_of_the_service() {
    let unit = include_str!("../../../packaging/observer.service");
    assert!(unit.lines().any(|line| line == "MemoryMax=512M"), "the limit is the unit's");
    let cgroup = Cgroup::limited("memory", LIMIT_BYTES);
    let fixture = Fixture::new();
    let config = Some(Scene::config(&fixture, ""));
    let options = Options { config, cgroup: Some(cgroup.path.clone()), ..Options::default() };
    let mut scene = Scene { daemon: Daemon::start(&options), fixture };
    // Its canary may be there too, for a moment.
    assert!(cgroup.pids().contains(&scene.daemon.pid()));

    let (parent, _) = scene.walkers("ended", ENDED);
    scene.wait_rows(ENDED, "live");
    drop(parent);
    scene.wait_rows(0, "live");
    let (_parent, pids) = scene.walkers("left", LEFT);
    scene.wait_rows(LEFT, "live");
    for pid in pids {
        let pid = i32::try_from(pid).expect("a pid");
        // SAFETY: two integers. Nobody reaps the children of the puppet, so the pid is no stranger's.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGUSR1) }, 0, "{pid} is there");
    }
    scene.wait_rows(LEFT, "left");
    scene.wait_written();

    scene.daemon.kill();
    scene.daemon.restart();
    scene.wait_rows(LEFT, "left");
    assert_eq!(scene.daemon.stop(), Some(0));
    scene.daemon.restart();
    scene.wait_rows(LEFT, "left");
    assert!(cgroup.pids().contains(&scene.daemon.pid()));

    let entries = scene.history(&[]);
    let of = |kind| count(&entries, kind);
    assert_eq!((of("session_started"), of("session_ended")), (ENDED + LEFT, ENDED));
    assert!(of("session_changed") < 4 * LEFT, "{} changes", of("session_changed"));
}
