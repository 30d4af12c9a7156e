//! The journal's writer is suspended, as on a disk that does not respond: the map and the watchers are not
//! affected.

use std::time::{Duration, Instant};

use observer_harness::{Watch, eventually};
use serde_json::json;

use crate::{SOON, Scene, count, kind};

/// One suspended thread of another process.
struct Held(libc::pid_t);

impl Held {
    /// Suspends the thread of this name of the process with this pid while the thread sleeps.
    fn new(pid: u32, name: &str) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let tid: libc::pid_t = tasks
            .filter_map(|task| Some(task.ok()?.path()))
            .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name))
            .and_then(|task| task.file_name()?.to_str()?.parse().ok())
            .expect("the thread");
        eventually("it sleeps", SOON, || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).expect("its state");
            if stat.contains(") S ") { Ok(()) } else { Err(stat) }
        });
        let null = std::ptr::null_mut::<libc::c_void>();
        let mut status = 0;
        // SAFETY: the requests take no memory of this process; `status` is valid for the kernel to fill.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, tid, null, null), 0, "seize {tid}");
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, tid, null, null), 0, "interrupt {tid}");
            assert_eq!(libc::waitpid(tid, &raw mut status, libc::__WALL), tid, "it stops");
        }
        assert!(libc::WIFSTOPPED(status), "{status:#x}");
        Self(tid)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request takes no memory of this process.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, null, null) };
    }
}

#[test]
fn the_map_stays_current_while_the_disk_does_not_respond() {
    let scene = Scene::new();
    let home = scene.home("busy");
    let below = scene.fixture.mkdir("homes/busy/below");
    let mut agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    scene.wait_written();
    let watch = Watch::sessions(&scene.daemon);
    let written = scene.journal()["last_seq"].as_u64().expect("a number");
    let held = Held::new(scene.daemon.pid(), "journal");
    let mut longest = Duration::ZERO;
    for n in 0..200 {
        let to = if n % 2 == 0 { &below } else { &home };
        agent.chdir(to);
        let asked = Instant::now();
        let row = scene.row(&home).expect("a row");
        longest = longest.max(asked.elapsed());
        assert_eq!(row["cwd"].as_str(), to.to_str(), "asked is read");
    }
    scene.fixture.short_lives(&scene.home("short"), &[], 110);
    let pid = agent.pid;
    agent.killed(libc::SIGKILL);
    watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    assert!(longest < Duration::from_secs(2), "nobody waited for the disk: {longest:?}");
    let journal = scene.journal();
    assert_eq!(journal["last_seq"], written, "nothing is written: {journal}");
    assert!(journal["queued"].as_u64().is_some_and(|queued| queued > 200), "{journal}");
    assert_eq!((scene.daemon.drops(), scene.daemon.counter("gaps")), (0, 0), "the ring was read");
    drop(held);
    scene.wait_written();
    let received = scene.history(&[]);
    let changes = watch.frames().into_iter().filter(|frame| frame.kind().starts_with("session_"));
    for frame in changes {
        // The journal does not store every move of one session.
        let Some(seq) = frame.0.get("event_seq") else {
            assert_eq!(frame.kind(), "session_changed");
            continue;
        };
        assert!(seq.is_u64(), "there was room: {frame:?}");
        let entry = received.iter().find(|entry| entry["event_seq"] == *seq).expect("it is written now");
        assert_eq!((kind(entry), &entry["cwd"]), (frame.kind(), &frame.0["cwd"]));
    }
}

#[test]
fn what_a_disk_does_not_take_before_the_end_is_a_gap_of_the_next_daemon() {
    let mut scene = Scene::new();
    let [dies, lives] = ["dies", "lives"].map(|name| scene.home(name));
    let [dying, _living] = [&dies, &lives].map(|home| {
        let agent = scene.agent(home, None);
        scene.wait_live(home, &agent);
        agent
    });
    scene.wait_written();
    let file = scene.daemon.state_dir().join("journal.sqlite");
    let other = rusqlite::Connection::open(file).expect("open the journal");
    other.execute_batch("BEGIN IMMEDIATE").expect("keep the daemon from writing");
    let watch = Watch::sessions(&scene.daemon);
    let pid = dying.pid;
    dying.killed(libc::SIGKILL);
    let end = watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    assert_eq!(scene.daemon.stop(), Some(0));
    other.execute_batch("ROLLBACK").expect("let go");
    assert_eq!(count(&scene.entries_of(&dies), "session_ended"), 0, "it was not written");
    scene.daemon.restart();
    scene.wait_written();
    let gaps: Vec<_> = scene.history(&[]).into_iter().filter(|entry| kind(entry) == "gap").collect();
    let [gap] = &gaps[..] else { panic!("one gap: {gaps:#?}") };
    assert_eq!(gap["reason"], json!("not_running"));
    assert!(gap["from"].as_str() <= end.0["at"].as_str(), "it begins before the end: {gap:#} {end:?}");
    let ended = scene.entries_of(&dies).pop().expect("entries");
    assert_eq!((kind(&ended), &ended["death"]["kind"]), ("session_ended", &json!("unobserved")));
    assert_eq!(count(&scene.entries_of(&lives), "session_ended"), 0);
}
