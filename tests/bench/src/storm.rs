//! Storms of short-lived processes and threads: what is lost, and whether the map is right afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::figure::{Figure, Reference, Sample};
use crate::observer::{Observer, Status};
use crate::peers::Peer;
use crate::setting::Bench;
use crate::work::{Place, Spawn, Work, finish};

const PROCESSES: &str = "storm";
const THREADS: &str = "threads";
/// Loops at once.
const SPAWNERS: u64 = 4;

/// How long a peer may take to report what it has already seen.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// What one storm did.
struct Storm {
    lost: f64,
    drift: f64,
    per_second: f64,
}

pub(crate) fn processes(bench: &Bench) -> Result<Vec<Figure>> {
    let total = bench.scaled(100_000, 20_000);
    let storms = (0..bench.scaled(3, 1)).map(|_| observed(bench, total)).collect::<Result<Vec<_>>>()?;
    let worst = |of: fn(&Storm) -> f64| {
        Sample::worst(&storms.iter().map(of).collect::<Vec<_>>()).context("no storm was made")
    };
    let peers: Vec<_> =
        bench.peers.iter().map(|peer| reported(bench, peer, bench.scaled(20_000, 4_000))).collect();
    let rate = Sample::median(&storms.iter().map(|storm| storm.per_second).collect::<Vec<_>>());
    Ok(vec![
        Figure::new(
            PROCESSES,
            format!("events lost, {total} processes from {SPAWNERS} loops"),
            "",
            worst(|s| s.lost)?,
        )
        .at_most(0.0)
        .against(peers)
        .note("births, execs and deaths; peers: processes that they did not report"),
        Figure::new(PROCESSES, "differences between map and kernel afterwards", "", worst(|s| s.drift)?)
            .at_most(0.0),
        Figure::new(PROCESSES, "spawns a second in the storm", "/s", rate.context("no storm was made")?)
            .larger_is_better(),
    ])
}

fn observed(bench: &Bench, total: u64) -> Result<Storm> {
    let observer = Observer::start(None);
    let before = observer.status()?;
    let began = Instant::now();
    storm(bench, total)?;
    let per_second = total as f64 / began.elapsed().as_secs_f64();
    let after = observer.status()?;
    let dropped = after.sum("drops_by_kind")?;
    let unseen = ["fork", "exec", "exit"].into_iter().map(|kind| {
        let seen = risen(&before, &after, &["events_by_kind", kind])?;
        Ok(total.saturating_sub(seen))
    });
    let unseen: u64 = unseen.sum::<Result<u64>>()?;
    let drift = observer.drift()?;
    observer.stop()?;
    // What was dropped may have been another process's: whichever count is worse.
    Ok(Storm { lost: dropped.max(unseen) as f64, drift: drift as f64, per_second })
}

fn risen(before: &Status, after: &Status, path: &[&str]) -> Result<u64> {
    Ok(after.number(path)?.saturating_sub(before.number(path)?))
}

fn storm(bench: &Bench, total: u64) -> Result<()> {
    let loops =
        (0..SPAWNERS).map(|_| bench.work.start_spawning(Spawn::Tiny, Place::Anywhere, total / SPAWNERS));
    // All are started before the first is waited for.
    let loops: Vec<_> = loops.collect::<Result<_>>()?;
    loops.into_iter().try_for_each(|spawner| finish(spawner).map(drop))
}

fn reported(bench: &Bench, peer: &'static Peer, total: u64) -> Reference {
    let lost = || -> Result<f64> {
        let running = peer.start(&bench.work)?;
        storm(bench, total)?;
        // What is still on its way to it is not lost.
        std::thread::sleep(STRAGGLERS);
        let seen = running.stop(Work::TINY)?;
        if seen == 0 {
            bail!("it reported none of {total}: its output is not what it is taken for");
        }
        Ok(total.saturating_sub(seen) as f64)
    };
    let name = format!("{}, of {total}", peer.name);
    match lost() {
        Ok(lost) => Reference::measured(name, lost, ""),
        Err(error) => Reference::absent(peer.name, format!("{error:#}")),
    }
}

pub(crate) fn threads(bench: &Bench) -> Result<Vec<Figure>> {
    let total = bench.scaled(100_000, 20_000);
    let observer = Observer::start(None);
    let counts = (0..bench.scaled(3, 1)).map(|_| thread_storm(bench, &observer, total));
    let counts = counts.collect::<Result<Vec<_>>>()?;
    let drift = observer.drift()?;
    observer.stop()?;
    let worst = Sample::worst(&counts).context("no storm was made")?;
    Ok(vec![
        Figure::new(THREADS, format!("births and deaths reported of {total} short-lived threads"), "", worst)
            .note(format!("{} are the loops' own; the rest is what else went on here", 2 * SPAWNERS)),
        Figure::new(THREADS, "differences between map and kernel afterwards", "", Sample::once(drift as f64))
            .at_most(0.0),
    ])
}

fn thread_storm(bench: &Bench, observer: &Observer, total: u64) -> Result<f64> {
    let before = observer.status()?;
    let loops = (0..SPAWNERS).map(|_| bench.work.start("threads", total / SPAWNERS));
    let loops: Vec<_> = loops.collect::<Result<_>>()?;
    loops.into_iter().try_for_each(|threads| finish(threads).map(drop))?;
    let after = observer.status()?;
    let shown = ["fork", "exit"].into_iter().map(|kind| risen(&before, &after, &["events_by_kind", kind]));
    Ok(shown.sum::<Result<u64>>()? as f64)
}
