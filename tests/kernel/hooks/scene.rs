//! A quiet daemon that nobody queries for processes: every change that `watch` shows here was reported by a
//! hook.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use observer_harness::{Daemon, Fixture, Frame, Watch};
use serde_json::Value;

/// Passes that were requested earlier are over when no pass was made for this long.
const QUIET: Duration = Duration::from_millis(150);
/// Other programs on this machine may keep it from becoming quiet; the test continues after this time.
const NOISE_MAX: Duration = Duration::from_secs(3);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Returns a guard under which no other test of this program runs, because a daemon also raises hints when it
/// starts.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resources of one test.
pub struct Scene {
    pub fixture: Fixture,
    pub watch: Watch,
    status: Value,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    pub fn new() -> Self {
        let alone = alone();
        let daemon = Daemon::shared();
        Self { fixture: Fixture::new(), watch: Watch::all(daemon), status: daemon.status(), _alone: alone }
    }

    /// Returns the sources of `fact` on this kernel: `fexit/…` or `tracepoint/…`; empty if no hook reports
    /// it.
    pub fn sources(&self, fact: &str) -> Vec<String> {
        sources(&self.status, fact)
    }

    /// Returns whether hooks on kernel functions report `fact`.
    pub fn by_functions(&self, fact: &str) -> bool {
        self.sources(fact).iter().any(|source| source.starts_with("fexit/"))
    }

    /// Returns the number of hints that the daemon has received. Each hint requests a pass.
    pub fn hints(&self) -> u64 {
        let status = Daemon::shared().status();
        status.pointer("/events_by_kind/hint").and_then(Value::as_u64).expect("status counts hints")
    }

    /// Waits until the passes that earlier events requested are over, so that no pass reports a change before
    /// its hook does.
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

    /// Fails unless `watch` shows this change of the process without a query. If no hook reports `fact` on
    /// this kernel, fails unless `status` lists it as a blind spot.
    #[track_caller]
    pub fn assert_reported(&self, fact: &str, pid: u32, what: &str, sort: impl Fn(&Frame) -> bool) {
        if self.sources(fact).is_empty() {
            self.assert_blind(fact, "");
        } else {
            self.watch.wait_for(what, |frame| frame.pid() == Some(pid) && sort(frame));
        }
    }

    /// Fails unless `status` lists a blind spot of `fact` that contains `words`; if no hook reports the fact,
    /// any blind spot of it suffices.
    #[track_caller]
    pub fn assert_blind(&self, fact: &str, words: &str) {
        let result = blind_spots(&self.status, fact);
        let words = if self.sources(fact).is_empty() { "" } else { words };
        assert!(
            result.iter().any(|what| what.contains(words)),
            "{fact}: {words:?} is not seen, and printed: {result:?}"
        );
    }
}

fn passes() -> u64 {
    let status = Daemon::shared().status();
    status.pointer("/passes/total").and_then(Value::as_u64).expect("status counts passes")
}

/// Returns the sources of a fact according to `status`.
pub fn sources(status: &Value, fact: &str) -> Vec<String> {
    texts(status, "hooks", fact, "source")
}

/// Returns the blind spots of a fact according to `status`.
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
