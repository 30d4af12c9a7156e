//! A daemon is killed at random moments during hundreds of changes. Every acknowledged entry is kept, no
//! entry appears twice, and a gap covers everything that is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use observer_harness::fixture::LIVES_A_HOME;
use observer_harness::text::{moment_ms, u64_any};
use observer_harness::{Daemon, Watch};
use serde_json::Value;

use crate::{Scene, kind};

/// The number of times that the daemon is started and killed.
const LIVES: u32 = 12;
/// The number of processes that run at a time.
const RUNNING: usize = 6;

/// One process that was a session, as its parent observed it.
#[derive(Debug)]
struct Witness {
    home: String,
    started_ns: i64,
    ended_ns: i64,
    raw_status: i32,
}

/// The last number that any run of the daemon reported as committed, and the frames that the watchers
/// received, by number.
#[derive(Default)]
struct Reports {
    acknowledged: u64,
    frames: BTreeMap<u64, (String, u64)>,
}

fn now_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_nanos()).expect("before 2262")
}

/// Starts and ends processes in directories of `homes` until `stop` is set, [`RUNNING`] at a time and [`LIVES_A_HOME`] in
/// each. Returns each process with its pid.
fn churn(program: &Path, homes: &Path, stop: &AtomicBool) -> Vec<(u32, Witness)> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut running: Vec<Option<(Child, i64, PathBuf)>> = (0..RUNNING).map(|_| None).collect();
    let mut seen = Vec::new();
    let mut lives = 0;
    while !stop.load(Ordering::Relaxed) || running.iter().any(Option::is_some) {
        for (number, slot) in running.iter_mut().enumerate() {
            match slot.take() {
                Some((mut child, started_ns, home)) => {
                    child.kill().expect("kill a child");
                    let status = child.wait().expect("reap a child");
                    let (home, ended_ns) = (home.display().to_string(), now_ns());
                    seen.push((
                        child.id(),
                        Witness { home, started_ns, ended_ns, raw_status: status.into_raw() },
                    ));
                }
                None if !stop.load(Ordering::Relaxed) => {
                    let home = homes.join(format!("h{number}-{}", lives / LIVES_A_HOME / RUNNING));
                    std::fs::create_dir_all(&home).expect("make a home");
                    lives += 1;
                    let started_ns = now_ns();
                    let child =
                        Command::new(program).arg("600").current_dir(&home).spawn().expect("start a child");
                    *slot = Some((child, started_ns, home));
                }
                None => {}
            }
        }
        std::thread::sleep(Duration::from_micros(next(4_000)));
    }
    seen
}

/// Ends the churn, also where the test fails: it would wait for the churn without an end.
struct StopsAtEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls the last committed number until `until`, then kills the daemon.
fn listen(daemon: &mut Daemon, watch: &Watch, until: Instant, reports: &mut Reports) {
    while Instant::now() < until {
        let status = daemon.status();
        reports.acknowledged = reports.acknowledged.max(u64_any(&status["journal"], "last_seq").unwrap_or(0));
    }
    daemon.kill();
    for frame in watch.frames() {
        let (seq, pid) = (u64_any(&frame.0, "event_seq"), u64_any(&frame.0, "pid"));
        // Numbers that were not acknowledged are assigned again.
        if let (Some(seq), Some(pid)) = (seq.filter(|seq| *seq <= reports.acknowledged), pid) {
            reports.frames.insert(seq, (frame.kind().to_owned(), pid));
        }
    }
}

#[test]
fn killed_at_any_moment_the_daemon_keeps_what_was_acknowledged_and_writes_nothing_twice() {
    let mut scene = Scene::new();
    let program = scene.fixture.dir().join("agent");
    std::os::unix::fs::symlink("/bin/sleep", &program).expect("link sleep");
    let homes = scene.fixture.mkdir("homes");
    let stop = AtomicBool::new(false);
    let (mut reports, mut lives) = (Reports::default(), Vec::new());
    let witnesses = std::thread::scope(|scope| {
        let churner = scope.spawn(|| churn(&program, &homes, &stop));
        let stops = StopsAtEnd(&stop);
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..LIVES {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let watch = Watch::sessions(&scene.daemon);
            lives.push((now_ns(), 0));
            let until = Instant::now() + Duration::from_millis(50 + random % 700);
            listen(&mut scene.daemon, &watch, until, &mut reports);
            if let Some(life) = lives.last_mut() {
                life.1 = now_ns();
            }
            scene.daemon.restart();
        }
        drop(stops);
        churner.join().expect("the churner")
    });
    scene.wait_written();
    assert!(witnesses.len() > 100, "{}", witnesses.len());
    let reports_received = scene.history(&[]);
    assert_numbers(&reports_received, &reports);
    assert_truth(&reports_received, &witnesses);
    let ended: BTreeSet<_> = reports_received
        .iter()
        .filter(|it| kind(it) == "gap")
        .map(|it| it["reason"].as_str().expect("a reason"))
        .collect();
    assert_eq!(ended.into_iter().collect::<Vec<_>>(), ["not_running"], "nothing else was lost");
    scene.daemon.assert_no_drift();
}

/// Asserts that the numbers are 1, 2, 3 and so on, and that every acknowledged entry equals the frame that a
/// watcher received.
#[track_caller]
fn assert_numbers(reports_received: &[Value], reports: &Reports) {
    let streams: BTreeSet<_> = reports_received.iter().map(|entry| entry["stream_id"].as_str()).collect();
    assert_eq!(streams.len(), 1, "one stream through all lives");
    let seqs: Vec<_> = reports_received.iter().filter_map(|entry| u64_any(entry, "event_seq")).collect();
    assert_eq!(seqs, (1..=reports_received.len() as u64).collect::<Vec<_>>(), "no holes, nothing twice");
    assert!(
        reports.acknowledged > 100 && reports.acknowledged <= reports_received.len() as u64,
        "{}",
        reports.acknowledged
    );
    assert!(reports.frames.len() > 100, "{}", reports.frames.len());
    for (seq, (of, pid)) in &reports.frames {
        let at = usize::try_from(*seq - 1).expect("a small number");
        let entry = &reports_received[at];
        assert_eq!((kind(entry), u64_any(entry, "pid")), (of.as_str(), Some(*pid)), "{seq}: {entry:#}");
    }
}

/// Asserts that every process that was a session started once and ended once, with the status from wait(2) or
/// unobserved, or that it is in no entry because it started and ended while no daemon ran.
#[track_caller]
fn assert_truth(reports_received: &[Value], witnesses: &[(u32, Witness)]) {
    let mut starts: BTreeMap<(u64, String), Vec<&Value>> = BTreeMap::new();
    let mut ends = starts.clone();
    for entry in reports_received {
        let key = || {
            let start = entry["start_boottime_ns"].as_str().expect("a start").to_owned();
            (u64_any(entry, "pid").expect("a pid"), start)
        };
        match kind(entry) {
            "session_started" => starts.entry(key()).or_default().push(entry),
            "session_ended" | "process_ended" => ends.entry(key()).or_default().push(entry),
            _ => {}
        }
    }
    for (key, entries) in starts.iter().chain(&ends) {
        assert_eq!(entries.len(), 1, "{key:?} once: {entries:#?}");
    }
    let absences: Vec<_> =
        reports_received.iter().filter(|entry| kind(entry) == "gap").map(absence).collect();
    let (mut unobserved, mut unseen) = (0, 0);
    for (pid, witness) in witnesses {
        let mine = |entry: &&&Value| {
            let started_ns = moment_ns(entry["started_at"].as_str().expect("a start"));
            // Times have a precision of a millisecond; a pid is reused only much later.
            entry["home"].as_str() == Some(&witness.home)
                && (started_ns - witness.started_ns).abs() < 1_000_000_000
        };
        let of_pid = ((*pid).into(), String::new())..=((*pid).into(), "a".into());
        let start = starts.range(of_pid.clone()).flat_map(|(_, entries)| entries).find(mine);
        let end = ends.range(of_pid).flat_map(|(_, entries)| entries).find(mine);
        let Some(start) = start else {
            assert!(end.is_none(), "{pid} ended and never started: {end:?}");
            // The limits allow for a millisecond of rounding and for the duration of a fork and an exec.
            let covered = |(from, to): &(i64, i64)| {
                *from - 2_000_000 <= witness.ended_ns && witness.started_ns <= *to + 2_000_000
            };
            assert!(
                absences.iter().any(covered),
                "{pid} is in no entry and no absence: {witness:?}, {absences:?}"
            );
            unseen += 1;
            continue;
        };
        let end = end.unwrap_or_else(|| panic!("{pid} started and never ended: {start:#} {witness:?}"));
        let death = &end["death"];
        match death["kind"].as_str() {
            Some("unobserved") => {
                let [from, to] = [0, 1].map(|at| moment_ns(death["between"][at].as_str().expect("a moment")));
                let slack = 2_000_000;
                assert!(
                    from - slack <= witness.ended_ns && witness.started_ns <= to + slack,
                    "{end:#} {witness:?}"
                );
                unobserved += 1;
            }
            _ => assert_eq!(u64_any(death, "raw_status"), u64::try_from(witness.raw_status).ok(), "{end:#}"),
        }
    }
    eprintln!("{} processes, {unobserved} ended unobserved, {unseen} in an absence", witnesses.len());
}

fn absence(gap: &Value) -> (i64, i64) {
    let at = |field: &str| moment_ns(gap[field].as_str().expect("a moment"));
    (at("from"), at("to"))
}

/// Returns an RFC 3339 time in milliseconds as ns since 1970.
fn moment_ns(text: &str) -> i64 {
    moment_ms(text).expect("a moment") * 1_000_000
}
