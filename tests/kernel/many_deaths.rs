//! Thousands of processes that exit with any code, or are killed by others in every way.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use observer_harness::watch::SOON;
use observer_harness::{Daemon, Fixture, Frame, Verb, Watch, eventually, share, text};
use serde_json::{Value, json};

/// Processes that die.
const DEATHS: usize = 10_000;
/// Those of all emulated machines together.
const DEATHS_EMULATED: usize = 2_000;
/// How long they may take.
const LONG: Duration = Duration::from_secs(240);

/// A process, and how it died, as its parent and its killer know.
#[derive(Debug)]
struct Died {
    pid: u64,
    /// pid of the process that killed it, the signal, and the way in which that was sent.
    killed: Option<(u64, u64, &'static str)>,
    raw_status: u64,
}

impl Died {
    fn of(numbers: &[u64; 5]) -> Self {
        let &[pid, killer, signal, way, raw_status] = numbers;
        let way = match way {
            0 => None,
            // What comes through a pidfd is as if by kill(2).
            1 | 4 => Some("kill"),
            2 => Some("tgkill"),
            _ => Some("sigqueue"),
        };
        Self { pid, killed: way.map(|way| (killer, signal, way)), raw_status }
    }

    /// Asserts that the certificate has this status and no other sender. Returns whether it lacks the sender.
    #[track_caller]
    fn check(&self, death: &Value) -> bool {
        assert_eq!(death.get("raw_status"), Some(&json!(self.raw_status)), "{self:?}: {death:#}");
        let kind = if self.killed.is_some() { "signaled" } else { "exited" };
        assert_eq!(death.get("kind"), Some(&json!(kind)), "{self:?}: {death:#}");
        assert_eq!(death.get("polite_signal"), Some(&Value::Null), "{self:?}: {death:#}");
        let sender = death.get("sender").expect("a sender, or null");
        let Some((killer, signal, by)) = self.killed else {
            assert_eq!(sender, &Value::Null, "{self:?}: {death:#}");
            return false;
        };
        assert_eq!(self.raw_status & 0x7f, signal, "the signal ended it: {self:?}");
        if sender.is_null() {
            assert_ne!(signal, 9, "the sender of SIGKILL is never left out: {death:#}");
            return true;
        }
        let expected = (Some(&json!(killer)), Some(&json!("user")), Some(&json!(by)));
        let found = (sender.get("pid"), sender.get("kind"), sender.get("by"));
        assert_eq!(found, expected, "{self:?}: {death:#}");
        false
    }
}

fn throttled(daemon: &Daemon) -> u64 {
    let status = daemon.status();
    let counts = status.get("throttled_by_kind").expect("counters");
    text::u64_any(counts, "signal").unwrap_or_else(|| panic!("signals are counted: {counts:#}"))
}

#[test]
fn each_of_thousands_of_certificates_has_the_status_of_waitid_and_no_wrong_sender() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let mut parent = fixture.puppet();
    parent.patience(LONG);
    let before = throttled(daemon);
    let deaths = if share::is_emulated() { DEATHS_EMULATED } else { DEATHS };
    let count = share::of(0..deaths).len();
    let seed = std::process::id();
    let numbers =
        parent.does(Verb::DiesInManyWays, &[count.to_string().as_bytes(), seed.to_string().as_bytes()]);
    let died: Vec<_> = numbers.as_chunks().0.iter().map(Died::of).collect();
    assert_eq!(died.len(), count);
    let is_child = |frame: &Frame| {
        let ppid = frame.field("ppid").and_then(Value::as_u64);
        frame.kind() == "process_ended" && ppid == Some(parent.pid.into())
    };
    // The three that killed ended as well.
    eventually("the last death is reported", SOON, || match watch.count(is_child) {
        reported if reported == count + 3 => Ok(()),
        reported => Err(format!("{reported} of {count} and 3")),
    });
    watch.assert_no_holes();
    let mut deaths: BTreeMap<u64, VecDeque<Value>> = BTreeMap::new();
    for frame in watch.frames().iter().filter(|frame| is_child(frame)) {
        deaths.entry(frame.pid().expect("a pid").into()).or_default().push_back(frame.death());
    }
    let mut unknown = 0;
    for process in &died {
        let death = deaths.get_mut(&process.pid).and_then(VecDeque::pop_front);
        let death = death.unwrap_or_else(|| panic!("{process:?} has a death (seed {seed})"));
        unknown += u64::from(process.check(&death));
    }
    let left_out = throttled(daemon) - before;
    println!("{count} deaths, {unknown} without their sender, {left_out} signals left out; seed {seed}");
    assert!(unknown <= left_out, "{unknown} senders are missing, and {left_out} were left out (seed {seed})");
}
