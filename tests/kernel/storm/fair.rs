//! What one user does delays no start and no end of a session of another user, in the stream and on the disk.

use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Daemon, Fixture, Frame, Options, Pty, Puppet, Verb, Watch, eventually, text};
use rusqlite::{Connection, OpenFlags};

/// The user who floods.
const NOBODY: u32 = 65_534;
/// The limit for a frame or an entry to come at all.
const LIMIT: Duration = Duration::from_secs(20);
/// What another user may delay a start or an end, ms, beyond what it takes with nobody else there. Four fifths of the
/// measurements are below: some wait for the disk, which others use too. Whoever waits for a processor is not measured: the
/// daemon, the watcher and the test run before the flood.
const DELAY_MAX_MS: u64 = 50;
/// Sessions that are measured, while the other user starts and ends as many at once.
const SESSIONS: usize = 15;
const AT_ONCE: usize = 150;
/// The same where the daemon finds all ends at once, in how many rounds.
const ENDS_AT_ONCE: usize = 2_000;
const ROUNDS: usize = 4;
/// What the line that ends a snapshot has.
const SNAPSHOT_END: &[u8] = br#""kind":"snapshot_end""#;

/// A line and when it came, in ns of boot time.
type Line = (u64, Vec<u8>);

/// When the frames about sessions in one directory came, by a watcher that gets those of all.
struct Arrivals {
    watcher: Child,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Arrivals {
    /// Begins to watch. What happens after this call comes as a frame of its own.
    fn of(daemon: &Daemon, home: &Path) -> Self {
        let mut watcher = daemon
            .command(&["watch", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("start observer watch");
        let stdout = BufReader::new(watcher.stdout.take().expect("a pipe"));
        let lines = Arc::new(Mutex::new(Vec::<Line>::new()));
        let (kept, home) = (Arc::clone(&lines), home.as_os_str().as_bytes().to_vec());
        let (begun, has_begun) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if line.windows(SNAPSHOT_END.len()).any(|part| part == SNAPSHOT_END) {
                    let _ = begun.send(());
                }
                if line.windows(home.len()).any(|part| part == home) {
                    kept.lock().expect("no reader panicked").push((boottime_ns(), line));
                }
            }
        });
        has_begun.recv_timeout(LIMIT).expect("the watcher has what was there before it");
        Self { watcher, lines }
    }

    /// When this came, and when it happened, ns of boot time.
    #[track_caller]
    fn of_change(&self, kind: &str, pid: u32) -> (u64, u64) {
        eventually(&format!("watch shows {kind} of {pid}"), LIMIT, || {
            let lines = self.lines.lock().map_err(|error| error.to_string())?;
            let found = lines.iter().find_map(|(at, line)| {
                let frame = Frame(serde_json::from_slice(line).ok()?);
                let happened = text::u64_any(&frame.0, "boottime_ns").filter(|_| frame.is(kind, pid))?;
                Some((*at, happened))
            });
            found.ok_or_else(|| lines.iter().map(|(_, line)| String::from_utf8_lossy(line)).collect())
        })
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}

fn boottime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the kernel to fill.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) }, 0);
    u64::try_from(time.tv_sec).expect("positive") * 1_000_000_000
        + u64::try_from(time.tv_nsec).expect("positive")
}

/// Returns how many milliseconds are from one time to another, ns; 0 where that is earlier.
fn ms(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / 1_000_000
}

/// When an entry was on the disk, ns of boot time.
#[track_caller]
fn written(journal: &Connection, kind: &str, pid: u32) -> u64 {
    // The newest first: the table has no index of pids.
    let query = "SELECT count(*) FROM (SELECT kind, pid FROM entry ORDER BY seq DESC LIMIT 1000) WHERE kind = ? AND pid = ?";
    eventually(&format!("{kind} of {pid} is on the disk"), LIMIT, || {
        let count: i64 = journal
            .query_row(query, rusqlite::params![kind, pid], |row| row.get(0))
            .map_err(|it| it.to_string())?;
        if count > 0 { Ok(boottime_ns()) } else { Err("none".into()) }
    })
}

/// The other user's sessions, which start at once and end at once.
struct Others(Child);

impl Others {
    fn start(homes: &Path) -> Self {
        let script = format!(
            "cd {} && for home in many*; do (cd $home && exec sleep 100) & done; wait",
            homes.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).uid(NOBODY).process_group(0);
        Self(command.spawn().expect("start a shell"))
    }
}

impl Others {
    /// Ends them, and returns when they have ended.
    fn end_all(mut self) {
        let group = self.0.id().cast_signed();
        // SAFETY: integers. The shell is a child that is not reaped, so its group is no stranger's.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        eventually("all have ended", LIMIT, || {
            let is_reaped = matches!(self.0.try_wait(), Ok(Some(_)));
            // SAFETY: integers. It sends no signal.
            let is_empty = is_reaped && unsafe { libc::kill(-group, 0) } != 0;
            if is_empty { Ok(()) } else { Err("some are there".into()) }
        });
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // SAFETY: integers. The shell is a child that is not reaped, so its group is no stranger's.
            unsafe { libc::kill(-self.0.id().cast_signed(), libc::SIGKILL) };
        }
        let _ = self.0.wait();
    }
}

/// A session whose primary names itself without end.
fn looper(fixture: &Fixture, pty: &Pty) -> Puppet {
    let dir = Some(fixture.mkdir("homes/looper"));
    let mut looper =
        fixture.cast(&PuppetOptions { dir, pty: Some(pty), uid: Some(NOBODY), ..Default::default() });
    looper.request(Verb::NamesItselfForever, &[]);
    looper
}

/// Has threads run before all others, which is nothing that they start has: what is measured then is no lack of processors.
fn run_first(tids: impl IntoIterator<Item = u32>) {
    let parameters = libc::sched_param { sched_priority: 10 };
    for tid in tids {
        let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
        // SAFETY: the parameters outlive the call.
        let set = unsafe { libc::sched_setscheduler(tid.cast_signed(), policy, &raw const parameters) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

/// The threads of a process.
fn threads(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A daemon to which each directory in `homes` is a home, and its journal.
fn of_homes(homes: &Path) -> (Daemon, Connection) {
    let config = format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"any\"\n", homes.display());
    let daemon = Daemon::start(&Options { config: Some(config), ..Default::default() });
    let path = daemon.state_dir().join("journal.sqlite");
    let journal =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("open the journal");
    (daemon, journal)
}

/// Stops or continues a daemon.
fn signal(daemon: &Daemon, signal: libc::c_int) {
    // SAFETY: integers. The daemon is a child that is not reaped.
    assert_eq!(unsafe { libc::kill(daemon.pid().cast_signed(), signal) }, 0);
}

#[test]
fn ends_of_one_user_that_come_at_once_are_not_all_before_another_users() {
    let _alone = crate::alone();
    let fixture = Fixture::new();
    let homes = fixture.mkdir("homes");
    let (daemon, journal) = of_homes(&homes);
    let arrivals = Arrivals::of(&daemon, &homes.join("ours"));
    for pid in [daemon.pid(), arrivals.watcher.id(), std::process::id()] {
        run_first(threads(pid));
    }
    for at in 0..ENDS_AT_ONCE {
        fixture.mkdir(format!("homes/many{at}"));
    }
    let count = |query: &str| -> usize {
        let count: i64 = journal.query_row(query, [], |row| row.get(0)).expect("a number");
        usize::try_from(count).expect("it counts")
    };
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        let others = Others::start(&homes);
        let dir = Some(fixture.mkdir(format!("homes/ours{round}")));
        let agent = fixture.cast(&PuppetOptions { dir, ..Default::default() });
        let pid = agent.pid;
        eventually("all are sessions", Duration::from_secs(120), || {
            let started = count("SELECT count(*) FROM entry WHERE kind = 'session_started'");
            if started == (round + 1) * (ENDS_AT_ONCE + 1) { Ok(()) } else { Err(started.to_string()) }
        });
        // All that end are in the ring when the daemon goes on, and ours is behind them.
        signal(&daemon, libc::SIGSTOP);
        others.end_all();
        agent.ends(Verb::Exit, &[b"0"]);
        signal(&daemon, libc::SIGCONT);
        let (came, _) = arrivals.of_change("session_ended", pid);
        delays.push(ms(came, written(&journal, "session_ended", pid)));
        let before = count(&format!(
            "SELECT count(*) FROM entry WHERE kind = 'session_ended'
             AND seq < (SELECT max(seq) FROM entry WHERE kind = 'session_ended' AND pid = {pid})"
        ));
        let before = before - round * (ENDS_AT_ONCE + 1);
        println!("{before} of {ENDS_AT_ONCE} ends are before it, {delays:?} ms");
        assert!(before < ENDS_AT_ONCE * 3 / 4, "{before} of {ENDS_AT_ONCE} ends are before it");
        eventually("all have ended", Duration::from_secs(60), || {
            let ended = count("SELECT count(*) FROM entry WHERE kind = 'session_ended'");
            if ended == (round + 1) * (ENDS_AT_ONCE + 1) { Ok(()) } else { Err(ended.to_string()) }
        });
    }
    delays.sort_unstable();
    let most = delays.get(delays.len() * 3 / 4 - 1).copied();
    assert!(most.is_some_and(|most| most <= DELAY_MAX_MS), "from the watcher to the disk: {delays:?} ms");
    assert_eq!((daemon.dropped(), daemon.drops()), (0, 0));
}

#[test]
fn a_flood_of_one_user_delays_no_start_and_no_end_of_another_user() {
    let _alone = crate::alone();
    let fixture = Fixture::new();
    let homes = fixture.mkdir("homes");
    let (daemon, journal) = of_homes(&homes);
    let (watch, arrivals) =
        (Watch::start(&daemon, &["watch", "--json", "looper"]), Arrivals::of(&daemon, &homes.join("ours")));
    for pid in [daemon.pid(), arrivals.watcher.id(), std::process::id()] {
        run_first(threads(pid));
    }
    let life = |name: String, others: Option<Others>, [shown, kept]: &mut [Vec<u64>; 2]| {
        let dir = Some(fixture.mkdir(format!("homes/ours{name}")));
        let agent = fixture.cast(&PuppetOptions { dir, ..Default::default() });
        let pid = agent.pid;
        let (came, happened) = arrivals.of_change("session_started", pid);
        shown.push(ms(happened, came));
        kept.push(ms(happened, written(&journal, "session_started", pid)));
        drop(others);
        agent.ends(Verb::Exit, &[b"0"]);
        let (came, happened) = arrivals.of_change("session_ended", pid);
        shown.push(ms(happened, came));
        kept.push(ms(happened, written(&journal, "session_ended", pid)));
    };
    let [mut alone, mut beside]: [[Vec<u64>; 2]; 2] = Default::default();
    for session in 0..SESSIONS {
        life(format!("-alone{session}"), None, &mut alone);
    }
    let pty = Pty::open();
    let _looper = looper(&fixture, &pty);
    watch.wait_for("the looper", |frame| frame.kind() == "session_started");
    drop(watch);
    for at in 0..AT_ONCE {
        fixture.mkdir(format!("homes/many{at}"));
    }
    for session in 0..SESSIONS {
        life(session.to_string(), Some(Others::start(&homes)), &mut beside);
    }
    let at_most = |delays: &mut Vec<u64>| {
        delays.sort_unstable();
        *delays.get(delays.len() * 4 / 5).expect("delays")
    };
    for (what, (alone, beside)) in ["watch", "the journal"].iter().zip(alone.iter_mut().zip(&mut beside)) {
        let (without, with) = (at_most(alone), at_most(beside));
        println!("in {what}: alone {alone:?} ms, beside the flood {beside:?} ms");
        assert!(with <= without + DELAY_MAX_MS, "in {what}: {with} ms beside the flood, {without} ms alone");
    }
    assert_eq!((daemon.dropped(), daemon.drops()), (0, 0));
}
