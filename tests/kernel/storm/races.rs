//! Races within one process: the map is equal to the kernel's state at the end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use observer_harness::Verb;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Frame, Options, eventually, text};

const TIMES: &[u8] = b"10000";
const LONG: Duration = Duration::from_secs(60);

#[test]
fn two_threads_that_race_chdir_end_in_the_directory_that_the_kernel_has() {
    let _alone = crate::alone();
    let (daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let dirs = [fixture.mkdir("a"), fixture.mkdir("b")];
    for _ in 0..3 {
        let mut puppet = fixture.puppet();
        puppet.patience(LONG);
        puppet
            .does(Verb::ChdirRace, &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes(), TIMES]);
        assert_row(&daemon, puppet.pid);
    }
    assert_eq!(daemon.drops(), 0, "nothing lost");
}

#[test]
fn children_born_while_their_parent_moves_have_the_directory_that_the_kernel_has() {
    let _alone = crate::alone();
    let (daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let dirs = [fixture.mkdir("a"), fixture.mkdir("b")];
    let mut puppet = fixture.puppet();
    puppet.patience(LONG);
    let kept = puppet.does(
        Verb::ForkRace,
        &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes(), TIMES, b"100"],
    );
    assert_eq!(kept.len(), 100);
    let rows = daemon.ps();
    for pid in kept {
        let truth = observer_harness::Truth::of(pid.try_into().expect("a pid")).expect("it stays");
        let row = rows
            .iter()
            .find(|row| text::u64_any(row, "pid") == Some(pid))
            .unwrap_or_else(|| panic!("{pid} has no row"));
        let found = truth.differences(row);
        assert!(found.is_empty(), "{pid}: {found:?}");
    }
    assert_row(&daemon, puppet.pid);
    assert_eq!(daemon.drops(), 0, "nothing lost");
}

/// The number of times that `observer watch` shows each directory of one process. The frames themselves would
/// fill the memory.
struct Directories {
    watch: std::process::Child,
    counts: Arc<Mutex<BTreeMap<Option<String>, u64>>>,
}

impl Directories {
    fn of(daemon: &Daemon, pid: u32) -> Self {
        let mut command = daemon.command(&["watch", "--json", "--all"]);
        let mut watch = command.stdout(Stdio::piped()).spawn().expect("start the watcher");
        let lines = BufReader::new(watch.stdout.take().expect("its output is piped")).lines();
        let frames =
            lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok().map(Frame));
        let mut frames = frames.skip_while(|frame| frame.kind() != "snapshot_end");
        assert!(frames.next().is_some(), "the watcher hears what is there, and then what changes");
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        let into = Arc::clone(&counts);
        std::thread::spawn(move || {
            // The frames may be of any kind: a watcher that falls behind receives the current state instead
            // of what it missed.
            for frame in frames.filter(|frame| frame.pid() == Some(pid)) {
                let Some(cwd) = frame.field("cwd") else { continue };
                let cwd = cwd.as_str().map(str::to_owned);
                *into.lock().expect("nobody failed with it").entry(cwd).or_default() += 1;
            }
        });
        Self { watch, counts }
    }

    /// Waits until `watch` has shown this directory.
    #[track_caller]
    fn wait_for(&self, cwd: &Option<String>) {
        eventually(&format!("watch tells {cwd:?}"), LONG, || {
            let counts = self.counts();
            if counts.contains_key(cwd) { Ok(()) } else { Err(format!("{counts:?}")) }
        });
    }

    fn counts(&self) -> BTreeMap<Option<String>, u64> {
        self.counts.lock().expect("nobody failed with it").clone()
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

#[test]
fn a_path_that_never_existed_is_never_shown() {
    const MS: &[u8] = b"6000";
    let _alone = crate::alone();
    let (daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let [here, there] = ["p1/a", "p2/b"].map(|name| fixture.dir().join(name));
    let deep = |dir: &Path| dir.join("c/d/e");
    std::fs::create_dir_all(deep(&here)).expect("create directories");
    fixture.mkdir("p2");
    let [mut mover, mut renamer] = [fixture.puppet(), fixture.puppet()];
    let received = Directories::of(&daemon, mover.pid);
    // The watcher receives this move before the race begins.
    mover.chdir(&deep(&here));
    let name = |dir: &Path| Some(dir.display().to_string());
    received.wait_for(&name(&deep(&here)));
    for puppet in [&mover, &renamer] {
        puppet.patience(LONG);
    }
    mover.request(Verb::FchdirsFor, &[deep(&here).as_os_str().as_bytes(), b"/", MS]);
    // The mover has opened its directories before the first rename.
    received.wait_for(&Some("/".into()));
    renamer.request(Verb::RenamesFor, &[here.as_os_str().as_bytes(), there.as_os_str().as_bytes(), MS]);
    let renames = renamer.answer(Verb::RenamesFor).expect("it renames");
    let moves = mover.answer(Verb::FchdirsFor).expect("it moves");
    let count =
        |result: Vec<Vec<u8>>| result.first().map_or(0, |word| observer_harness::fixture::number(word));
    let [renames, moves] = [renames, moves].map(count);
    mover.chdir(&fixture.mkdir("last"));
    let last = name(&fixture.dir().join("last"));
    received.wait_for(&last);
    let counts = received.counts();
    println!("{renames} renames beside {moves} moves: {counts:?}");
    let real = [name(&deep(&here)), name(&deep(&there)), Some("/".into()), last, None];
    let invented: Vec<_> = counts.iter().filter(|(cwd, _)| !real.contains(cwd)).collect();
    assert!(invented.is_empty(), "paths that never were, of {moves} moves: {invented:?}");
    for dir in [&here, &there] {
        assert!(counts.get(&name(&deep(dir))).is_some_and(|&count| count > 100), "they raced: {counts:?}");
    }
    assert_row(&daemon, mover.pid);
    daemon.assert_no_drift();
}
