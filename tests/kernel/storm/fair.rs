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
/// What another user may delay a start or an end, ms. A quarter of the measurements are below: some wait for a processor or for
/// the disk, which others use too, but a queue in which the flood comes first delays all.
const DELAY_MAX_MS: u64 = 50;
/// Sessions that are measured, while the other user starts and ends as many at once.
const SESSIONS: usize = 15;
const AT_ONCE: usize = 150;

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

    /// How long after it happened this came, ms, and when it happened.
    #[track_caller]
    fn delay(&self, kind: &str, pid: u32) -> (u64, u64) {
        eventually(&format!("watch shows {kind} of {pid}"), LIMIT, || {
            let lines = self.lines.lock().map_err(|error| error.to_string())?;
            let found = lines.iter().find_map(|(at, line)| {
                let frame = Frame(serde_json::from_slice(line).ok()?);
                let happened = text::u64_any(&frame.0, "boottime_ns").filter(|_| frame.is(kind, pid))?;
                Some((at.saturating_sub(happened) / 1_000_000, happened))
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

/// How long after it `happened` an entry was on the disk, ms.
#[track_caller]
fn written(journal: &Connection, kind: &str, pid: u32, happened: u64) -> u64 {
    // The newest first: the table has no index of pids.
    let query = "SELECT count(*) FROM (SELECT kind, pid FROM entry ORDER BY seq DESC LIMIT 1000) WHERE kind = ? AND pid = ?";
    eventually(&format!("{kind} of {pid} is on the disk"), LIMIT, || {
        let count: i64 = journal
            .query_row(query, rusqlite::params![kind, pid], |row| row.get(0))
            .map_err(|it| it.to_string())?;
        if count > 0 { Ok((boottime_ns() - happened) / 1_000_000) } else { Err("none".into()) }
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

impl Drop for Others {
    fn drop(&mut self) {
        // SAFETY: integers. The shell is a child that is not reaped, so its group is no stranger's.
        unsafe { libc::kill(-self.0.id().cast_signed(), libc::SIGKILL) };
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

#[test]
fn a_flood_of_one_user_delays_no_start_and_no_end_of_another_user() {
    let _alone = crate::alone();
    let fixture = Fixture::new();
    let homes = fixture.mkdir("homes");
    let config = format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"any\"\n", homes.display());
    let daemon = Daemon::start(&Options { config: Some(config), ..Default::default() });
    let path = daemon.state_dir().join("journal.sqlite");
    let journal =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("open the journal");
    let (watch, arrivals) =
        (Watch::start(&daemon, &["watch", "--json", "looper"]), Arrivals::of(&daemon, &homes.join("ours")));
    let pty = Pty::open();
    let _looper = looper(&fixture, &pty);
    watch.wait_for("the looper", |frame| frame.kind() == "session_started");
    drop(watch);
    for at in 0..AT_ONCE {
        fixture.mkdir(format!("homes/many{at}"));
    }
    let [mut shown, mut kept]: [Vec<u64>; 2] = Default::default();
    for session in 0..SESSIONS {
        let others = Others::start(&homes);
        let dir = Some(fixture.mkdir(format!("homes/ours{session}")));
        let agent = fixture.cast(&PuppetOptions { dir, ..Default::default() });
        let pid = agent.pid;
        let (delay, happened) = arrivals.delay("session_started", pid);
        shown.push(delay);
        kept.push(written(&journal, "session_started", pid, happened));
        drop(others);
        agent.ends(Verb::Exit, &[b"0"]);
        let (delay, happened) = arrivals.delay("session_ended", pid);
        shown.push(delay);
        kept.push(written(&journal, "session_ended", pid, happened));
    }
    for (what, mut delays) in [("watch", shown), ("the journal", kept)] {
        delays.sort_unstable();
        let quarter = delays.get(delays.len() / 4).copied();
        assert!(quarter.is_some_and(|quarter| quarter <= DELAY_MAX_MS), "in {what}: {delays:?} ms");
    }
    assert_eq!((daemon.dropped(), daemon.drops()), (0, 0));
}
