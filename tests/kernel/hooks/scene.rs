//! One quiet daemon that nobody asks for processes: what `watch` tells here, a hook told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use observer_harness::{Daemon, Frame, Stage, Watch};
use serde_json::Value;

/// Passes that were asked for earlier are over when none was made for this long.
const QUIET: Duration = Duration::from_millis(150);
/// Others on this machine may keep it from being quiet: then the test goes on all the same.
const NOISE_MAX: Duration = Duration::from_secs(3);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Nothing else goes on in this program meanwhile: what a daemon does at its start raises hints, too.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one test has.
pub struct Scene {
    pub stage: Stage,
    pub watch: Watch,
    status: Value,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    pub fn new() -> Self {
        let alone = alone();
        let daemon = Daemon::shared();
        Self { stage: Stage::new(), watch: Watch::all(daemon), status: daemon.status(), _alone: alone }
    }

    /// Where `fact` comes from here: `fexit/…`, `tracepoint/…`; empty where no hook tells it.
    pub fn sources(&self, fact: &str) -> Vec<String> {
        sources(&self.status, fact)
    }

    /// Whether kernel functions tell `fact`.
    pub fn by_functions(&self, fact: &str) -> bool {
        self.sources(fact).iter().any(|source| source.starts_with("fexit/"))
    }

    /// Hints that the daemon heard so far: each asks for a pass.
    pub fn hints(&self) -> u64 {
        let status = Daemon::shared().status();
        status.pointer("/events_by_kind/hint").and_then(Value::as_u64).expect("status counts hints")
    }

    /// Waits until passes that earlier events asked for are over, so that none tells in a hook's place.
    pub fn settle(&self) {
        let (end, mut since, mut seen) = (Instant::now() + NOISE_MAX, Instant::now(), passes());
        while since.elapsed() < QUIET && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
            let now = passes();
            if now != seen {
                (since, seen) = (Instant::now(), now);
            }
        }
    }

    /// Fails unless `watch` tells it of this process, without having been asked; or no hook tells `fact` here, and that
    /// is said.
    #[track_caller]
    pub fn told(&self, fact: &str, pid: u32, what: &str, sort: impl Fn(&Frame) -> bool) {
        if self.sources(fact).is_empty() {
            self.assert_blind(fact, "");
        } else {
            self.watch.wait_for(what, |frame| frame.pid() == Some(pid) && sort(frame));
        }
    }

    /// Fails unless `status` says that this is not seen; where no hook tells the fact, that nothing of it is.
    #[track_caller]
    pub fn assert_blind(&self, fact: &str, words: &str) {
        let said = blind_spots(&self.status, fact);
        let words = if self.sources(fact).is_empty() { "" } else { words };
        assert!(
            said.iter().any(|what| what.contains(words)),
            "{fact}: {words:?} is not seen, and said: {said:?}"
        );
    }
}

fn passes() -> u64 {
    let status = Daemon::shared().status();
    status.pointer("/passes/total").and_then(Value::as_u64).expect("status counts passes")
}

/// Sources of a fact, as `status` says.
pub fn sources(status: &Value, fact: &str) -> Vec<String> {
    texts(status, "hooks", fact, "source")
}

/// What is not seen of a fact, as `status` says.
pub fn blind_spots(status: &Value, fact: &str) -> Vec<String> {
    texts(status, "blind_spots", fact, "what")
}

fn texts(status: &Value, list: &str, fact: &str, field: &str) -> Vec<String> {
    let all = status.get(list).and_then(Value::as_array).expect("status lists them");
    all.iter()
        .filter(|one| one.get("fact").and_then(Value::as_str) == Some(fact))
        .filter_map(|one| one.get(field).and_then(Value::as_str).map(str::to_owned))
        .collect()
}
