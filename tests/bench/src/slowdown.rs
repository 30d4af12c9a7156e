//! How much slower loops of spawns get beside each observer.

use anyhow::{Context, Result};

use crate::account;
use crate::figure::{Figure, Reference, Sample};
use crate::observer::Observer;
use crate::peers::Peer;
use crate::setting::Bench;
use crate::work::{Place, Spawn, Work};

const NAME: &str = "slowdown";

/// A loop that is run alone and beside each observer.
struct Loop {
    kind: Spawn,
    place: Place,
    what: &'static str,
    /// Spawns, in a full run and in a quick one.
    counts: (u64, u64),
    note: &'static str,
}

/// Each takes a fifth of a second or so.
const LOOPS: [Loop; 3] = [
    Loop {
        kind: Spawn::Tiny,
        place: Place::OneCpu,
        what: "the smallest program, vfork+exec, on one CPU",
        counts: (3_000, 500),
        note: "the loop stays on one CPU, observers run where they like",
    },
    Loop {
        kind: Spawn::True,
        place: Place::OneCpu,
        what: "/bin/true, fork+exec, on one CPU",
        counts: (750, 150),
        note: "",
    },
    Loop {
        kind: Spawn::Tiny,
        place: Place::Anywhere,
        what: "the smallest program, vfork+exec, anywhere",
        counts: (3_000, 500),
        note: "where the scheduler happens to put the children moves this more than anything else: see how far the \
            rounds are apart",
    },
];

/// How far the loop's two times alone may be apart in a round that counts: beyond, something else went on.
const STEADY: f64 = 0.1;
/// With fewer steady rounds than this, all count.
const STEADY_MIN: usize = 3;

/// A loop's round beside an observer.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Time beside it to the mean of the times alone before and after.
    ratio: f64,
    steady: bool,
}

/// For each loop the rounds beside one observer.
type Rounds = [Vec<Round>; LOOPS.len()];
/// For each loop the times alone, µs a spawn.
type Times = [Vec<f64>; LOOPS.len()];

impl Round {
    fn new(before: f64, beside: f64, after: f64) -> Self {
        let alone = (before + after) / 2.0;
        Self { ratio: beside / alone, steady: (before - after).abs() <= STEADY * alone }
    }
}

/// The median of the steady rounds, and whether there were enough to leave the others out.
fn median(rounds: &[Round]) -> Option<(Sample, bool)> {
    let ratios = |wanted: fn(&Round) -> bool| -> Vec<f64> {
        rounds.iter().filter(|round| wanted(round)).map(|round| round.ratio).collect()
    };
    let steady = ratios(|round| round.steady);
    let enough = steady.len() >= STEADY_MIN;
    let sample = Sample::median(&if enough { steady } else { ratios(|_| true) })?;
    Some((sample, enough))
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut alone = Times::default();
    let mut observer = Rounds::default();
    let mut peers: Vec<(Rounds, Option<String>)> = bench.peers.iter().map(|_| Default::default()).collect();
    // Caches and the clock frequency find their level.
    loops(bench)?;
    for _ in 0..bench.scaled(11, 3) {
        round(bench, &mut alone, &mut observer, || {
            let observer = Observer::start(None);
            account::settle(observer.pid())?;
            let took = loops(bench)?;
            observer.stop().map(|()| took)
        })?;
        for (peer, (rounds, why)) in bench.peers.iter().zip(&mut peers).filter(|(_, (_, why))| why.is_none())
        {
            if let Err(error) = round(bench, &mut alone, rounds, || beside(bench, peer)) {
                *why = Some(format!("{error:#}"));
            }
        }
    }
    figures(bench, &alone, &observer, &peers)
}

fn beside(bench: &Bench, peer: &'static Peer) -> Result<[f64; LOOPS.len()]> {
    let running = peer.start(&bench.work)?;
    account::settle(running.pid())?;
    let took = loops(bench)?;
    running.stop(Work::TINY).map(|_| took)
}

/// Every loop once: µs a spawn.
fn loops(bench: &Bench) -> Result<[f64; LOOPS.len()]> {
    let mut took = [0.0; LOOPS.len()];
    for (took, each) in took.iter_mut().zip(&LOOPS) {
        let count = bench.scaled(each.counts.0, each.counts.1);
        *took = bench.work.spawn(each.kind, each.place, count)? as f64 / 1000.0 / count as f64;
    }
    Ok(took)
}

/// The loops alone, beside an observer, and alone again; adds what came out.
fn round(
    bench: &Bench,
    alone: &mut Times,
    rounds: &mut Rounds,
    beside: impl FnOnce() -> Result<[f64; LOOPS.len()]>,
) -> Result<()> {
    let before = loops(bench)?;
    let between = beside()?;
    let after = loops(bench)?;
    let times = before.into_iter().zip(between).zip(after);
    for (((before, between), after), (alone, rounds)) in times.zip(alone.iter_mut().zip(rounds)) {
        alone.extend([before, after]);
        rounds.push(Round::new(before, between, after));
    }
    Ok(())
}

fn figures(
    bench: &Bench,
    alone: &Times,
    observer: &Rounds,
    peers: &[(Rounds, Option<String>)],
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (n, each) in LOOPS.iter().enumerate() {
        let of_loop = |rounds: &Rounds| rounds.get(n).and_then(|rounds| median(rounds));
        let reference =
            |(peer, (rounds, why)): (&Peer, &(Rounds, Option<String>))| match (why, of_loop(rounds)) {
                (None, Some((sample, _))) => Reference::measured(peer.name, sample.value, "×"),
                (why, _) => Reference::absent(peer.name, why.clone().unwrap_or_default()),
            };
        let scale = alone.get(n).and_then(|times| Sample::median(times)).context("no round was run")?;
        let (beside, steady) = of_loop(observer).context("no round was run")?;
        let rounds = if steady {
            "rounds in which the loop alone kept its pace"
        } else {
            "no steady rounds: all count"
        };
        let note =
            [each.note, rounds].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        let what = format!("a spawn, nobody watching: {}", each.what);
        figures.push(Figure::new(NAME, what, "µs", scale).for_scale());
        figures.push(
            Figure::new(NAME, format!("the same beside observer: {}", each.what), "×", beside)
                .at_most(1.03)
                .against(bench.peers.iter().zip(peers).map(reference))
                .note(note),
        );
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_something_else_disturbed_does_not_count_where_others_do() {
        let steady = Round::new(100.0, 102.0, 100.0);
        let disturbed = Round::new(100.0, 102.0, 300.0);
        let value =
            |rounds: &[Round]| median(rounds).map(|(sample, enough)| (sample.value, sample.count, enough));
        assert_eq!(value(&[steady, disturbed, steady, steady, disturbed]), Some((1.02, 3, true)));
        assert_eq!(
            value(&[disturbed, disturbed]),
            Some((0.51, 2, false)),
            "noisy figures are kept, with a note"
        );
        assert_eq!(value(&[]), None);
    }
}
