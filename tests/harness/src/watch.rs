//! `observer watch --json`, read in the background.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::{Daemon, eventually};

/// How long a change may take to arrive before a test fails. It takes milliseconds; a watcher on an emulated machine that has thousands of
/// frames to read first takes seconds.
pub const SOON: Duration = Duration::from_secs(20);

/// One line of the stream.
#[derive(Clone, Debug)]
pub struct Frame(pub Value);

impl Frame {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.0.get("kind").and_then(Value::as_str).unwrap_or("")
    }

    /// Its number on this connection.
    pub fn seq(&self) -> u64 {
        crate::text::u64_any(&self.0, "seq").unwrap_or_else(|| panic!("a frame has a seq: {self:?}"))
    }

    /// A field of the process or session that it is about.
    pub fn field(&self, name: &str) -> Option<&Value> {
        ["process", "session"].iter().find_map(|of| self.0.get(of)?.get(name)).or_else(|| self.0.get(name))
    }

    /// pid of what it is about.
    pub fn pid(&self) -> Option<u32> {
        self.field("pid")?.as_u64()?.try_into().ok()
    }

    /// Kind and pid, for messages.
    pub fn brief(&self) -> String {
        format!("{} {} {}", self.seq(), self.kind(), self.pid().map_or(String::new(), |pid| pid.to_string()))
    }

    /// This kind, of this process.
    pub fn is(&self, kind: &str, pid: u32) -> bool {
        self.kind() == kind && self.pid() == Some(pid)
    }

    /// The end of the very process that `row` shows.
    pub fn ends(&self, row: &Value) -> bool {
        self.kind() == "process_ended" && key_of(&self.0) == key_of(row)
    }

    /// The certificate in an end.
    #[track_caller]
    pub fn death(&self) -> Value {
        let death = self.field("death").unwrap_or_else(|| panic!("an end carries death: {self:?}"));
        assert!(death.is_object(), "an end carries death: {self:?}");
        death.clone()
    }
}

/// Lines that end as lines do: the last one may be cut off where the watcher is killed.
fn whole_lines(mut stdout: impl BufRead) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        stdout.read_until(b'\n', &mut line).ok()?;
        line.ends_with(b"\n").then_some(line)
    })
}

/// A running `observer watch --json`.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    frames: Arc<Mutex<Vec<Frame>>>,
    /// What the watchers of this daemon wrote to standard error, for messages: most say at the end that the daemon closed the
    /// connection, which would stand in the middle of the tests' results.
    errors: PathBuf,
}

impl Watch {
    /// Sessions only.
    #[track_caller]
    pub fn sessions(daemon: &Daemon) -> Self {
        Self::start(daemon, &["watch", "--json"])
    }

    /// Processes too.
    #[track_caller]
    pub fn all(daemon: &Daemon) -> Self {
        Self::start(daemon, &["watch", "--json", "--all"])
    }

    /// Any `watch --json`; returns once its snapshot has ended.
    #[track_caller]
    pub fn start(daemon: &Daemon, args: &[&str]) -> Self {
        Self::of(daemon, daemon.command(args))
    }

    /// The same by this command, which asks `daemon`.
    #[track_caller]
    pub fn of(daemon: &Daemon, mut command: Command) -> Self {
        let errors = daemon.log().with_file_name("watch-errors");
        let file = File::options().append(true).create(true).open(&errors).expect("a file for its errors");
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("start observer watch");
        let stdout = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
        let frames = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&frames);
        std::thread::spawn(move || {
            for line in whole_lines(stdout) {
                let value = serde_json::from_slice(&line)
                    .unwrap_or_else(|error| panic!("no JSON ({error}): {}", line.escape_ascii()));
                received.lock().expect("no reader panicked").push(Frame(value));
            }
        });
        let watch = Self { child, frames, errors };
        watch.wait_for("the end of the snapshot", |frame| frame.kind() == "snapshot_end");
        watch
    }

    /// Every frame received so far.
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.lock().expect("every line was JSON").clone()
    }

    /// The first frame of this sort, received already or soon.
    #[track_caller]
    pub fn wait_for(&self, what: &str, sort: impl Fn(&Frame) -> bool) -> Frame {
        self.wait_within(SOON, what, sort)
    }

    /// The first frame of this sort, received already or within `limit`.
    #[track_caller]
    pub fn wait_within(&self, limit: Duration, what: &str, sort: impl Fn(&Frame) -> bool) -> Frame {
        let mut looked = 0;
        eventually(&format!("watch shows {what}"), limit, || {
            // Only what is new, and out of the reader's way: streams of many thousands of frames are usual here.
            let new = self.since(looked)?;
            looked += new.len();
            assert!(
                !new.iter().any(|frame| frame.kind() == "lagged"),
                "observer watch fell behind and was resynchronised: changes that the test waits for may be in no frame"
            );
            let last: Vec<_> = new.iter().rev().take(3).map(Frame::brief).collect();
            new.into_iter()
                .find(|frame| sort(frame))
                .ok_or_else(|| format!("{looked} frames, the newest {last:?}; {}", self.errors()))
        })
    }

    fn since(&self, looked: usize) -> Result<Vec<Frame>, String> {
        let frames = self.frames.lock().map_err(|_| "a line was no JSON".to_owned())?;
        Ok(frames.get(looked..).unwrap_or_default().to_vec())
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_else(|error| error.to_string())
    }

    /// The end of this process, received already or soon.
    #[track_caller]
    pub fn end_of(&self, pid: u32) -> Frame {
        self.wait_for(&format!("process_ended of {pid}"), |frame| frame.is("process_ended", pid))
    }

    /// The end of the very process that `row` shows: its pid may have been another's since the watch began.
    #[track_caller]
    pub fn end_of_row(&self, row: &Value) -> Frame {
        self.wait_for(&format!("process_ended of {}", key_of(row)), |frame| frame.ends(row))
    }

    /// Fails unless the frames are numbered from 1 without holes.
    #[track_caller]
    pub fn assert_no_holes(&self) {
        for (index, frame) in self.frames().iter().enumerate() {
            assert_eq!(frame.seq(), index as u64 + 1, "numbered from 1 without holes: {frame:?}");
        }
    }

    /// Stops the watcher (SIGSTOP): nobody reads its end of the socket any more.
    pub fn stop_reading(&self) {
        // SAFETY: the child is ours and not reaped, so its pid is no stranger's.
        let stopped = unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGSTOP) };
        assert_eq!(stopped, 0, "stop the watcher");
    }

    /// How many frames of this sort were received so far.
    pub fn count(&self, sort: impl Fn(&Frame) -> bool) -> usize {
        self.frames.lock().expect("every line was JSON").iter().filter(|frame| sort(frame)).count()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What identifies a process in a row or frame.
fn key_of(row: &Value) -> String {
    format!("{} started at {}", row["pid"], row["start_boottime_ns"])
}
