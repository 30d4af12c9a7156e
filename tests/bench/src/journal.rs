//! What the journal costs: a change to the disk, changes as fast as they come, and what they take of disk and memory.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use observer_harness::fixture::LIVES_A_HOME;

use crate::account;
use crate::figure::{Figure, Reference, Sample};
use crate::observer::{Observer, Status};
use crate::setting::Bench;
use crate::work::Work;

const NAME: &str = "journal";
/// Its thread.
const THREAD: &str = "journal";
/// Between two changes whose commit is measured: each finds the journal idle.
const APART: Duration = Duration::from_millis(25);
const LIMIT: Duration = Duration::from_secs(60);
/// Ten minutes of a hundred a second.
const OUTAGE: u64 = 60_000;
/// Entries that may wait while changes are made: some milliseconds of them.
const QUEUED_MAX: u64 = 2_000;
/// What a storm took is given back within this.
const CALM: Duration = Duration::from_secs(11);
/// Bound of the journal that is full.
const FULL_BYTES: u64 = 32 << 20;
const MEBIBYTE: f64 = 1048576.0;

/// Sessions that start and end at once. Each is two changes: of other changes the journal takes few of one session.
struct ShortLives {
    homes: tempfile::TempDir,
    program: PathBuf,
    lives: Cell<usize>,
}

/// Changes of one session: its start and its end.
const CHANGES_EACH: u64 = 2;

/// What many changes cost.
struct Load {
    changes: f64,
    seconds: f64,
    cpu_us: f64,
    of_journal_us: f64,
    bytes: f64,
    resident: f64,
    expired: u64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let outage = bench.scaled(OUTAGE, OUTAGE / 20);
    let alone = fsyncs(bench.scaled(200, 50))?;
    let (commits, load) = {
        let (observer, sessions) = begin(bench, "")?;
        let commits = commits(&observer, &sessions, bench.scaled(400, 60))?;
        (commits, many(observer, sessions, outage)?)
    };
    let full = {
        let (observer, sessions) = begin(bench, &format!("[journal]\nmax_bytes = {FULL_BYTES}\n"))?;
        many(observer, sessions, bench.scaled(OUTAGE, OUTAGE / 2))?
    };
    if full.expired == 0 {
        bail!("{} changes did not fill a journal of {FULL_BYTES} bytes", full.changes);
    }
    let mut figures = Vec::new();
    for (name, percent) in [("p50", 50.0), ("p99", 99.0)] {
        let sample = |values: &[f64]| Sample::percentile(values, percent).context("nothing was committed");
        let beside = Reference::measured("4 KiB, write and fdatasync", sample(&alone)?.value, "ms");
        let what = format!("a session's change, handed over → committed, {name}");
        figures.push(Figure::new(NAME, what, "ms", sample(&commits)?).against([beside]));
    }
    let once = |what: &str, unit, value| Figure::new(NAME, what, unit, Sample::once(value));
    let split =
        format!("{:.0} changes; of it the journal's thread {:.1} µs", load.changes, load.of_journal_us);
    let outage =
        format!("{:.0} changes on the disk: 10 minutes without a database, 100 a second", load.changes);
    figures.extend([
        once("changes of sessions committed, as fast as they come", "/s", load.changes / load.seconds)
            .larger_is_better(),
        once("daemon CPU per change of a session", "µs", load.cpu_us).note(split),
        once(&outage, "MiB", load.bytes / MEBIBYTE)
            .note(format!("{:.0} bytes a change, log included", load.bytes / load.changes)),
        once("resident memory after them", "MiB", load.resident / MEBIBYTE).at_most(16.0),
        once("changes committed, while a full journal drops the oldest", "/s", full.changes / full.seconds)
            .larger_is_better(),
        once("daemon CPU per change, while it does", "µs", full.cpu_us),
        once("resident memory with a full journal of 32 MiB", "MiB", full.resident / MEBIBYTE).at_most(16.0),
    ]);
    Ok(figures)
}

fn begin(bench: &Bench, journal: &str) -> Result<(Observer, ShortLives)> {
    let homes = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
    let rule = format!(
        "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ncomm = [\"{}\"]\ntty = \"any\"\n",
        homes.path().display(),
        Work::TINY
    );
    let observer = Observer::start(Some(&format!("{rule}{journal}")));
    let sessions = ShortLives { homes, program: bench.work.tiny().to_owned(), lives: Cell::new(0) };
    sessions.run()?;
    settled(&observer)?;
    Ok((observer, sessions))
}

impl ShortLives {
    /// The next session, from its start to its end.
    fn run(&self) -> Result<()> {
        let n = self.lives.replace(self.lives.get() + 1);
        let home = self.homes.path().join(format!("session-{}", n / LIVES_A_HOME));
        fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        let mut command = Command::new(&self.program);
        command.current_dir(home).status().with_context(|| format!("run {}", self.program.display()))?;
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.homes.close().context("remove the sessions' homes")
    }
}

/// Waits until everything is on the disk.
fn settled(observer: &Observer) -> Result<Status> {
    let end = Instant::now() + LIMIT;
    loop {
        let status = observer.status()?;
        if status.number(&["journal", "queued"])? == 0 && status.number(&["journal", "last_seq"])? > 0 {
            return Ok(status);
        }
        if Instant::now() > end {
            bail!("not everything was committed within {LIMIT:?}");
        }
    }
}

/// Changes one at a time: from when each was handed over to its commit, ms.
fn commits(observer: &Observer, sessions: &ShortLives, count: u64) -> Result<Vec<f64>> {
    let mut last_seq = settled(observer)?.number(&["journal", "last_seq"])?;
    let mut commits = Vec::new();
    for n in 0..count {
        std::thread::sleep(APART + Duration::from_micros(n % 32 * 300));
        sessions.run()?;
        let end = Instant::now() + LIMIT;
        let status = loop {
            let status = observer.status()?;
            if status.number(&["journal", "last_seq"])? >= last_seq + CHANGES_EACH {
                break status;
            }
            if Instant::now() > end {
                bail!("a change was not committed within {LIMIT:?}");
            }
        };
        last_seq = status.number(&["journal", "last_seq"])?;
        commits.push(status.number(&["journal", "commit_us"])? as f64 / 1000.0);
    }
    Ok(commits)
}

/// Changes as fast as they come, but no faster than they are committed.
fn many(observer: Observer, sessions: ShortLives, count: u64) -> Result<Load> {
    let pid = observer.pid();
    account::settle(pid)?;
    let before = settled(&observer)?;
    let number = |status: &Status, name| status.number(&["journal", name]);
    let (cpu, of_journal, began) =
        (account::cpu_ns(pid)?, account::thread_cpu_ns(pid, THREAD)?, Instant::now());
    for n in 0..count / CHANGES_EACH {
        sessions.run()?;
        while n % 100 == 0 && number(&observer.status()?, "queued")? > QUEUED_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let after = settled(&observer)?;
    let seconds = began.elapsed().as_secs_f64();
    let changes = number(&after, "last_seq")?.saturating_sub(number(&before, "last_seq")?) as f64;
    if (changes - count as f64).abs() > count as f64 / 100.0 || number(&after, "dropped")? > 0 {
        let throttled = after.sum("throttled_by_kind")?;
        bail!("{count} changes made {changes} entries; {throttled} records were throttled");
    }
    let per_change = |from: u64, to: u64| to.saturating_sub(from) as f64 / changes / 1000.0;
    let cpu_us = per_change(cpu, account::cpu_ns(pid)?);
    let of_journal_us = per_change(of_journal, account::thread_cpu_ns(pid, THREAD)?);
    let load = Load {
        changes,
        seconds,
        cpu_us,
        of_journal_us,
        bytes: number(&after, "bytes")?.saturating_sub(number(&before, "bytes")?) as f64,
        resident: {
            std::thread::sleep(CALM);
            let memory = account::memory(pid)?;
            memory.resident.saturating_sub(memory.maps) as f64
        },
        expired: number(&after, "expired")?,
    };
    sessions.end()?;
    observer.stop()?;
    Ok(load)
}

/// What the disk takes for the least that a commit needs, ms.
fn fsyncs(count: u64) -> Result<Vec<f64>> {
    let directory = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
    let mut file = File::create(directory.path().join("file"))?;
    let one = |_| {
        let began = Instant::now();
        file.write_all(&[0x5a; 4_096])?;
        file.sync_data()?;
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    };
    (0..count).map(one).collect()
}
