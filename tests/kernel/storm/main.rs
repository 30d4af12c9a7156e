//! Storms: 100,000 processes are born, exec and die while directories change. With the default ring nothing
//! is lost. With a small ring and a starved daemon the loss is counted, repaired and reported. A daemon that
//! is killed in the middle is correct again as soon as it answers. The tests run one at a time, because each
//! one takes the whole machine.

mod fair;
mod loops;
mod mass;
mod races;
mod streams;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::observe::total;
use observer_harness::{Daemon, Fixture, Options, Pty, Puppet, Watch, eventually, population, text, tiny};
use serde_json::Value;

/// The number of processes of one storm, and of the puppets that start them.
const PROCESSES: u64 = 100_000;
const MAKERS: u64 = 4;
/// The time that a storm may take; it takes some 20 s on two cores.
const LONG: Duration = Duration::from_secs(240);
/// The time after a storm during which the map may be wrong.
const HEALED: Duration = Duration::from_secs(1);

/// Storms do not run beside each other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A running storm.
struct Storm {
    makers: Vec<Puppet>,
    each: u64,
}

impl Storm {
    fn begin(fixture: &Fixture, processes: u64) -> Self {
        let program = fixture.dir().join("tiny");
        fixture.install(&tiny::image(), &program);
        let dirs = [fixture.mkdir("a"), fixture.mkdir("b")];
        let each = processes / MAKERS;
        let count = each.to_string();
        let mut makers: Vec<_> = (0..MAKERS).map(|_| fixture.puppet()).collect();
        for maker in &mut makers {
            maker.patience(LONG);
            let [a, b] = [&dirs[0], &dirs[1]].map(|dir| dir.as_os_str().as_bytes());
            maker.request(Verb::Storm, &[program.as_os_str().as_bytes(), a, count.as_bytes(), a, b, b"0"]);
        }
        Self { makers, each }
    }

    /// Returns whether every maker still starts children.
    fn goes_on(&self) -> bool {
        self.makers.iter().all(Puppet::is_silent)
    }

    /// Waits for the storm's end, and asserts that every process exec'd and ended as it should.
    #[track_caller]
    fn end(&mut self) -> Instant {
        for maker in &mut self.makers {
            let result = maker.answer(Verb::Storm).expect("the storm goes to its end");
            let right = result.first().map(|word| observer_harness::fixture::number(word));
            assert_eq!(right, Some(self.each), "every process ran and exited with its code");
        }
        Instant::now()
    }
}

/// Starts children that stay, and the puppet whose death ends them.
fn population(fixture: &Fixture) -> (Puppet, Vec<u32>) {
    let mut parent = fixture.puppet();
    let pids = parent.does(Verb::BearsMany, &[b"300"]);
    (parent, pids.into_iter().map(|pid| u32::try_from(pid).expect("a pid")).collect())
}

/// How many differences are shown: of thousands, all would hide the rest of the output.
const SHOWN: usize = 20;

#[track_caller]
fn assert_right_now(daemon: &Daemon) {
    let found = population::differences(daemon);
    let first: Vec<_> = found.iter().take(SHOWN).map(String::as_str).collect();
    assert!(found.is_empty(), "the map differs from /proc in {}:\n{}", found.len(), first.join("\n"));
}

#[test]
fn a_storm_with_the_default_ring_loses_nothing() {
    let _alone = alone();
    let (daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let (_parent, _children) = population(&fixture);
    let before = daemon.status();
    let mut storm = Storm::begin(&fixture, PROCESSES);
    storm.end();
    let after = daemon.status();
    assert_eq!(total(&after, "drops_by_kind"), 0, "nothing lost: {after:#}");
    for counter in ["gaps", "drift_total"] {
        assert_eq!(text::u64_any(&after, counter), Some(0), "{counter}: {after:#}");
    }
    for kind in ["fork", "exec", "exit"] {
        let count = |status: &serde_json::Value| {
            text::u64_any(&status["events_by_kind"], kind)
                .unwrap_or_else(|| panic!("{kind} is counted: {status:#}"))
        };
        let seen = count(&after) - count(&before);
        assert!(seen >= PROCESSES, "{seen} of at least {PROCESSES} {kind} records: {after:#}");
    }
    assert_right_now(&daemon);
    daemon.assert_no_drift();
}

#[test]
fn a_loss_in_a_storm_with_a_small_ring_is_counted_repaired_and_reported() {
    let _alone = alone();
    let fixture = Fixture::new();
    let config = format!(
        "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"pts/*\"\n",
        fixture.mkdir("homes").display()
    );
    let daemon =
        Daemon::start(&Options { config: Some(config), ring_bytes: Some(64 << 10), ..Default::default() });
    let watch = Watch::sessions(&daemon);
    let (parent, children) = population(&fixture);
    let pty = Pty::open();
    let session = fixture.cast(&PuppetOptions {
        dir: Some(fixture.mkdir("homes/one")),
        pty: Some(&pty),
        ..Default::default()
    });
    watch.wait_for("the session", |frame| frame.is("session_started", session.pid));
    // By their start times too: another process may get the pid of a dead one.
    let keys = |rows: &[Value]| -> BTreeSet<(Option<u64>, Option<u64>)> {
        let key = |row: &Value| (text::u64_any(row, "pid"), text::u64_any(row, "start_boottime_ns"));
        let is_child = |pid: Option<u64>| children.iter().any(|&child| pid == Some(child.into()));
        rows.iter().map(key).filter(|(pid, _)| is_child(*pid)).collect()
    };
    let born = keys(&daemon.ps());
    assert_eq!(born.len(), children.len(), "every child is shown");
    let mut storm = Storm::begin(&fixture, PROCESSES);
    // A daemon that runs may be fast enough for this ring; a daemon that gets no CPU cannot be.
    for _ in 0..3 {
        daemon.starve(true);
        std::thread::sleep(Duration::from_millis(200));
        daemon.starve(false);
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.starve(true);
    // The records of these deaths find the ring full.
    std::thread::sleep(Duration::from_millis(300));
    let pid = session.pid;
    session.killed(libc::SIGKILL);
    parent.killed(libc::SIGKILL);
    std::thread::sleep(Duration::from_millis(100));
    daemon.starve(false);
    assert!(storm.goes_on(), "the storm outlasts the starving");
    let ended = storm.end();
    eventually("the map is the kernel's again", HEALED.saturating_sub(ended.elapsed()), || {
        let found = population::differences(&daemon);
        if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
    });
    daemon.assert_no_drift();
    let status = daemon.status();
    assert!(total(&status, "drops_by_kind") > 0, "the loss is counted: {status:#}");
    for counter in ["gaps", "resyncs"] {
        assert!(text::u64_any(&status, counter).is_some_and(|count| count > 0), "{counter}: {status:#}");
    }
    assert!(born.is_disjoint(&keys(&daemon.ps())), "the dead are dead");
    assert_reported(&watch, pid);
}

/// Asserts that the gap was published with the count of lost records and was closed, and that the death
/// during the gap is not invented.
#[track_caller]
fn assert_reported(watch: &Watch, pid: u32) {
    watch.wait_for("the gap", |frame| frame.kind() == "gap_opened");
    let closed = watch.wait_for("its end", |frame| frame.kind() == "gap_closed");
    assert!(text::u64_any(&closed.0, "lost").is_some_and(|lost| lost > 0), "how much was lost: {closed:?}");
    let death = watch.wait_for("the session's end", |frame| frame.is("session_ended", pid)).death();
    match death.get("kind").and_then(serde_json::Value::as_str) {
        Some("unobserved") => {
            assert!(death.get("between").is_some_and(serde_json::Value::is_array), "an interval: {death:#}");
            assert!(
                death.get("raw_status").is_some_and(serde_json::Value::is_null),
                "no invention: {death:#}"
            );
        }
        Some("signaled") => assert_eq!(death.get("signal"), Some(&libc::SIGKILL.into()), "{death:#}"),
        other => panic!("{other:?} is not how it died: {death:#}"),
    }
    let count = |kind: &str| watch.count(|frame| frame.kind() == kind);
    assert_eq!(count("gap_opened"), count("gap_closed"), "every gap closed");
}

#[test]
fn a_daemon_killed_during_a_storm_is_correct_as_soon_as_it_answers() {
    let _alone = alone();
    let (mut daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let (parent, children) = population(&fixture);
    let mut storm = Storm::begin(&fixture, PROCESSES);
    std::thread::sleep(Duration::from_millis(500));
    daemon.kill();
    // No daemon observes these deaths.
    parent.killed(libc::SIGKILL);
    let mut mover = fixture.puppet();
    daemon.restart();
    let movers: Vec<u32> = storm.makers.iter().map(|maker| maker.pid).collect();
    let found = population::differences_while(&daemon, &movers);
    assert!(found.is_empty(), "the map is not what /proc says:\n{}", found.join("\n"));
    assert!(storm.goes_on(), "it was right while the storm went on");
    let rows = daemon.ps();
    assert!(
        !rows.iter().any(|row| children.iter().any(|&pid| text::u64_any(row, "pid") == Some(pid.into()))),
        "the dead are dead"
    );
    mover.chdir(&fixture.mkdir("moved"));
    observer_harness::truth::assert_row(&daemon, mover.pid);
    storm.end();
    assert_right_now(&daemon);
    daemon.assert_no_drift();
    assert_eq!(daemon.drops(), 0, "nothing lost since it is there");
}

#[test]
fn births_and_deaths_of_threads_produce_no_records() {
    let _alone = alone();
    let (daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let mut puppet = fixture.puppet();
    puppet.patience(LONG);
    let before = daemon.status();
    puppet.does(Verb::ManyThreads, &[b"50000"]);
    let after = daemon.status();
    assert_eq!(total(&after, "drops_by_kind"), 0, "{after:#}");
    // Births and deaths of threads produce no records; the counts come from the other programs on the
    // machine.
    for kind in ["fork", "exit"] {
        let count = |status: &serde_json::Value| text::u64_any(&status["events_by_kind"], kind).unwrap_or(0);
        assert!(count(&after) - count(&before) < 10_000, "{kind}: {before:#} {after:#}");
    }
    observer_harness::truth::assert_row(&daemon, puppet.pid);
    daemon.assert_no_drift();
}
