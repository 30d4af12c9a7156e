//! What history says of sessions that the kernel killed.

use std::fs;
use std::path::Path;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Cgroup, Puppet, Verb, eventually, text};
use serde_json::Value;

use crate::{SOON, Scene, kind};

/// The memory of a control group, and what a process takes in it.
const LIMIT_BYTES: u64 = 24 << 20;
const TAKEN_BYTES: &[u8] = b"67108864";

impl Scene {
    /// An agent that these words start, once it is the session of its home.
    fn session(&self, home: &Path, wrapper: &[&str]) -> Puppet {
        let agent = self.fixture.cast(&PuppetOptions {
            program: Some(self.fixture.program("agent")),
            wrapper: wrapper.iter().map(Into::into).collect(),
            dir: Some(home.to_owned()),
            ..PuppetOptions::default()
        });
        self.wait_live(home, &agent);
        agent
    }

    /// The death that ended the session of a home, which history tells people by this sentence.
    #[track_caller]
    fn assert_told(&self, home: &Path, sentence: &str) -> Value {
        let end = eventually("the session's end", SOON, || {
            let entries = self.entries_of(home);
            let mut ends = entries.iter().filter(|entry| kind(entry) == "session_ended");
            ends.next().cloned().ok_or(format!("{entries:#?}"))
        });
        let mut command = self.daemon.command(&["history", "--killed"]);
        command.arg(home).arg("--state-dir").arg(self.daemon.state_dir());
        let told = observer_harness::observe::CommandResult::of(&mut command);
        // The sentence may go on in the next line.
        let words = told.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words.matches(sentence).count(), 1, "{sentence}: {told:?}\n{end:#}");
        end["death"].clone()
    }
}

/// Its own name, as the kernel has it.
fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives").trim_end().to_owned()
}

#[test]
fn history_says_that_a_session_was_killed_for_lack_of_memory() {
    let (scene, cgroup) = (Scene::new(), Cgroup::limited("session", LIMIT_BYTES));
    let home = scene.home("memory");
    let mut agent = scene.session(&home, &[]);
    fs::write(cgroup.path.join("cgroup.procs"), agent.pid.to_string()).expect("move the agent");
    agent.request(Verb::TakesMemory, &[TAKEN_BYTES]);
    assert_eq!(agent.reap().si_status, libc::SIGKILL);
    let death = scene.assert_told(&home, "the kernel killed it");
    assert_eq!((&death["kind"], &death["raw_status"]), (&"oom_killed".into(), &9.into()), "{death:#}");
}

#[test]
fn history_says_for_whose_end_the_kernel_killed_a_session() {
    let scene = Scene::new();
    let home = scene.home("namespace");
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "\"$0\" \"$@\" & wait"];
    let agent = scene.session(&home, &wrapper);
    let row = scene.daemon.row(agent.pid).expect("it lives");
    let init = text::u64_any(&row, "ppid").and_then(|ppid| u32::try_from(ppid).ok()).expect("a parent");
    assert_eq!(comm(init), "sh");
    // SAFETY: a process of ours, which its parent has not reaped.
    assert_eq!(unsafe { libc::kill(init.cast_signed(), libc::SIGKILL) }, 0);
    scene.assert_told(
        &home,
        &format!("because pid {init} (sh) ended, the first process of its pid namespace"),
    );
}

#[test]
fn history_says_who_killed_the_control_group_of_a_session() {
    let (scene, cgroup) = (Scene::new(), Cgroup::new("session"));
    let home = scene.home("cgroup");
    let mut agent = scene.session(&home, &[]);
    fs::write(cgroup.path.join("cgroup.procs"), agent.pid.to_string()).expect("move the agent");
    fs::write(cgroup.path.join("cgroup.kill"), "1").expect("kill the control group");
    agent.reap();
    let own = std::process::id();
    scene.assert_told(&home, &format!("because pid {own} ({}) wrote to cgroup.kill", comm(own)));
}
