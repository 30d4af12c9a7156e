//! Half an hour of mixed load: sessions that come and go, programs, threads, commands and a watcher. What grows all the time
//! shows in the memory and the descriptors of the last minutes beside those of the first.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::account::{self, Memory};
use crate::figure::{Figure, Sample};
use crate::latency::{one_session, watch};
use crate::list::timed;
use crate::observer::Observer;
use crate::setting::{Bench, homes_rule};
use crate::work::{Place, Spawn, disperse};

const NAME: &str = "soak";
const FULL: Duration = Duration::from_secs(30 * 60);
const QUICK: Duration = Duration::from_secs(60);
/// The beginning and the end that are compared are such a part of the whole.
const PART: u32 = 6;
/// Homes in which sessions come and go in turn.
const HOMES: u64 = 64;
/// Rounds between two looks at what the daemon takes.
const LOOK_EVERY: u64 = 10;
/// Rounds between two comparisons of the map with the kernel.
const AUDIT_EVERY: u64 = 200;
const MEBIBYTE: f64 = 1048576.0;

/// What the daemon takes at a moment.
#[derive(Clone, Copy)]
struct Taken {
    after: Duration,
    mebibytes: f64,
    descriptors: f64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let whole = bench.scaled(FULL, QUICK);
    let homes = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
    let observer = Observer::start(Some(&homes_rule(homes.path())));
    let mut watcher = watch(&observer, &[])?;
    let (began, mut round, mut taken, mut drift) = (Instant::now(), 0, Vec::new(), 0);
    while began.elapsed() < whole {
        let home = homes.path().join(format!("session-{}", round % HOMES));
        fs::create_dir(&home)?;
        one_session(bench, &mut watcher, &home, Duration::ZERO)?;
        fs::remove_dir(&home)?;
        for (kind, count) in [(Spawn::Tiny, 500), (Spawn::True, 50), (Spawn::TinyWithTerminal, 20)] {
            bench.work.spawn(kind, Place::Anywhere, count)?;
        }
        disperse(bench.work.crowd("processes", 100)?)?;
        disperse(bench.work.crowd("sleeping-threads", 100)?)?;
        timed(&observer)?;
        observer.processes()?;
        if round % LOOK_EVERY == 0 {
            let Memory { resident, maps } = account::memory(observer.pid())?;
            let mebibytes = resident.saturating_sub(maps) as f64 / MEBIBYTE;
            let descriptors = account::descriptors(observer.pid())? as f64;
            taken.push(Taken { after: began.elapsed(), mebibytes, descriptors });
        }
        if round % AUDIT_EVERY == 0 {
            drift += observer.drift()?;
        }
        round += 1;
    }
    drop(watcher);
    drift += observer.drift()?;
    let status = observer.status()?;
    let (lost, drift_total) = (status.sum("drops_by_kind")?, status.number(&["drift_total"])?);
    observer.stop()?;
    let minutes = whole.as_secs() / 60;
    let mut figures = of_taken(&taken, whole)?;
    let count = |what: &str, value: f64| Figure::new(NAME, what, "", Sample::once(value));
    figures.push(count(&format!("sessions started and ended in {minutes} minutes"), round as f64));
    figures.push(count("events lost meanwhile", lost as f64).at_most(0.0));
    figures.push(
        count("differences between map and kernel meanwhile", drift as f64 + drift_total as f64).at_most(0.0),
    );
    Ok(figures)
}

/// Compares the end with the beginning.
fn of_taken(taken: &[Taken], whole: Duration) -> Result<Vec<Figure>> {
    let part = whole / PART;
    let of = |from: Duration, to: Duration, value: fn(&Taken) -> f64| {
        let within: Vec<_> = taken.iter().filter(|it| from <= it.after && it.after < to).map(value).collect();
        Sample::median(&within).context("nothing was measured in a part of the run")
    };
    let end = whole + whole;
    let minutes = part.as_secs_f64() / 60.0;
    let mut figures = Vec::new();
    for (what, unit, value, budget) in [
        ("resident memory", "MiB", (|it| it.mebibytes) as fn(&Taken) -> f64, 1.0),
        ("open descriptors", "", |it| it.descriptors, 1.0),
    ] {
        let (first, last) = (of(Duration::ZERO, part, value)?, of(whole - part, end, value)?);
        ensure!(first.value > 0.0, "the daemon had no {what}");
        figures.push(Figure::new(NAME, format!("{what}, the first {minutes:.1} minutes"), unit, first));
        figures.push(Figure::new(NAME, format!("{what}, the last {minutes:.1} minutes"), unit, last));
        let grown = Sample::once(last.value - first.value);
        figures.push(Figure::new(NAME, format!("{what}, grown in between"), unit, grown).at_most(budget));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Outcome;

    #[test]
    fn what_grows_between_the_first_and_the_last_part_shows() -> Result<()> {
        let at =
            |second, mebibytes| Taken { after: Duration::from_secs(second), mebibytes, descriptors: 30.0 };
        let taken = [at(1, 9.0), at(5, 9.0), at(9, 10.0), at(30, 50.0), at(55, 12.0), at(61, 12.0)];
        let figures = of_taken(&taken, Duration::from_secs(60))?;
        let value = |what: &str| {
            let figure = figures.iter().find(|figure| figure.what.starts_with(what))?;
            match figure.outcome {
                Outcome::Measured(sample) => Some(sample.value),
                Outcome::Absent(_) => None,
            }
        };
        assert_eq!(value("resident memory, grown"), Some(3.0));
        assert_eq!(value("open descriptors, grown"), Some(0.0));
        let [first, ..] = taken;
        assert!(of_taken(&[first], Duration::from_secs(60)).is_err(), "the run ended early");
        Ok(())
    }
}
