//! How much slower a loop of spawns gets beside each observer.

use anyhow::{Context, Result};

use super::Bench;
use super::account;
use super::figure::{Figure, Reference, Sample};
use super::peers::PEERS;
use super::work::Spawn;

const NAME: &str = "slowdown";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let spawns = bench.scaled(3_000, 500);
    let rounds = bench.scaled(11, 3);
    let mut figures = Vec::new();
    for (kind, what, count) in [
        (Spawn::Tiny, "the smallest program, vfork+exec", spawns),
        (Spawn::True, "/bin/true, fork+exec", spawns / 4),
    ] {
        figures.extend(loops(bench, kind, what, count, rounds)?);
    }
    Ok(figures)
}

fn loops(bench: &Bench, kind: Spawn, what: &str, count: u64, rounds: u64) -> Result<Vec<Figure>> {
    let mut alone = Vec::new();
    let mut ratios = Vec::new();
    let mut peers: Vec<(Vec<f64>, Option<String>)> = PEERS.iter().map(|_| Default::default()).collect();
    // Caches and the clock frequency find their level.
    bench.work.spawn(kind, count)?;
    for _ in 0..rounds {
        ratios.push(round(bench, kind, count, &mut alone, || {
            let observer = bench.observer(None)?;
            account::settle(observer.pid())?;
            let took = bench.work.spawn(kind, count)?;
            observer.stop().map(|()| took)
        })?);
        for (peer, (ratios, why)) in PEERS.iter().zip(&mut peers).filter(|(_, (_, why))| why.is_none()) {
            let ratio = round(bench, kind, count, &mut alone, || {
                let running = peer.start(&bench.work)?;
                account::settle(running.pid())?;
                let took = bench.work.spawn(kind, count)?;
                running.stop(super::Work::TINY).map(|_| took)
            });
            match ratio {
                Ok(ratio) => ratios.push(ratio),
                Err(error) => *why = Some(format!("{error:#}")),
            }
        }
    }
    let references =
        PEERS.iter().zip(&peers).map(|(peer, (ratios, why))| match (why, Sample::median(ratios)) {
            (None, Some(sample)) => Reference::measured(peer.name, sample.value, "×"),
            (why, _) => Reference::absent(peer.name, why.clone().unwrap_or_default()),
        });
    let alone = Sample::median(&alone).context("no round was run")?;
    let beside = Sample::median(&ratios).context("no round was run")?;
    Ok(vec![
        Figure::new(NAME, format!("spawn, nobody watching: {what}"), "µs", alone),
        Figure::new(NAME, format!("the same loop beside observer: {what}"), "×", beside)
            .at_most(1.03)
            .against(references)
            .note("each round against the loop alone just before and just after it"),
    ])
}

/// How the loop beside an observer compares with the loop alone right before and right after; the latter are added
/// to `alone`, µs a spawn.
fn round(
    bench: &Bench,
    kind: Spawn,
    count: u64,
    alone: &mut Vec<f64>,
    beside: impl FnOnce() -> Result<u64>,
) -> Result<f64> {
    let before = bench.work.spawn(kind, count)? as f64;
    let between = beside()? as f64;
    let after = bench.work.spawn(kind, count)? as f64;
    alone.extend([before, after].map(|ns| ns / 1000.0 / count as f64));
    Ok(between / ((before + after) / 2.0))
}
