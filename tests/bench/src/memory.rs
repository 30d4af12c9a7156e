//! Resident memory, by the number of processes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::account::{self, Memory};
use crate::figure::{Figure, Sample};
use crate::observer::Observer;
use crate::setting::Bench;
use crate::work::disperse;

const NAME: &str = "memory";
const CROWDS: [u64; 2] = [1_000, 10_000];
const LIMIT: Duration = Duration::from_secs(60);
const MEBIBYTE: f64 = 1048576.0;

/// Resident memory with so many processes in the map, bytes; the ring's mapping left out.
#[derive(Clone, Copy)]
struct Resident {
    bytes: f64,
    processes: f64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut grown = Vec::new();
    let mut begun = Vec::new();
    let mut asked = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..bench.scaled(3, 1) {
        let observer = Observer::start(None);
        idle.push(resident(&observer, 0)?);
        for crowd in CROWDS {
            // Born while it watches.
            let sleepers = bench.work.crowd("processes", crowd)?;
            grown.push((crowd, resident(&observer, crowd)?));
            if Some(&crowd) == CROWDS.last() {
                observer.drift()?;
                observer.processes()?;
                asked.push(resident(&observer, crowd)?);
            }
            disperse(sleepers)?;
        }
        observer.stop()?;
        for crowd in CROWDS {
            // There when it starts.
            let sleepers = bench.work.crowd("processes", crowd)?;
            let observer = Observer::start(None);
            begun.push((crowd, resident(&observer, crowd)?));
            disperse(sleepers)?;
            observer.stop()?;
        }
    }
    let mut figures = vec![mebibytes("resident memory, idle", &idle)?];
    for (from, list) in [("born beside it", &grown), ("there at its start", &begun)] {
        for crowd in CROWDS {
            let figure = mebibytes(
                &format!("resident memory with {crowd} more processes, {from}"),
                &only(list, crowd),
            )?;
            figures.push(if crowd == 1_000 { figure.at_most(16.0) } else { figure });
        }
        figures.push(each(&format!("memory of each further process, {from}"), list)?);
    }
    figures.push(mebibytes("resident memory with 10000 more processes, after `audit` and `ps`", &asked)?);
    Ok(figures)
}

fn only(list: &[(u64, Resident)], crowd: u64) -> Vec<Resident> {
    list.iter().filter(|(of, _)| *of == crowd).map(|(_, resident)| *resident).collect()
}

fn mebibytes(what: &str, list: &[Resident]) -> Result<Figure> {
    let values: Vec<f64> = list.iter().map(|resident| resident.bytes / MEBIBYTE).collect();
    figure(what, "MiB", &values).map(|figure| figure.note("the ring's mapping aside"))
}

fn each(what: &str, list: &[(u64, Resident)]) -> Result<Figure> {
    let [few, many] = CROWDS.map(|crowd| only(list, crowd));
    let values: Vec<f64> = few
        .iter()
        .zip(&many)
        .map(|(few, many)| (many.bytes - few.bytes) / (many.processes - few.processes).max(1.0))
        .collect();
    let figure = figure(what, "B", &values)?;
    Ok(figure
        .at_most(1024.0)
        .note("argv and paths included, which the budget leaves out: some 150 bytes here"))
}

fn figure(what: &str, unit: &'static str, values: &[f64]) -> Result<Figure> {
    match Sample::median(values) {
        Some(sample) => Ok(Figure::new(NAME, what, unit, sample)),
        None => bail!("no round was run"),
    }
}

/// Waits until the map holds `crowd` processes and the daemon has read what it wants of them.
fn resident(observer: &Observer, crowd: u64) -> Result<Resident> {
    let end = Instant::now() + LIMIT;
    let mut reads = None;
    loop {
        let status = observer.status()?;
        let processes = status.number(&["processes"])?;
        let done = status.number(&["memory_reads", "read"])? + status.number(&["memory_reads", "failed"])?;
        if processes > crowd && reads == Some(done) {
            let Memory { resident, maps } = account::memory(observer.pid())?;
            let bytes = resident.saturating_sub(maps) as f64;
            return Ok(Resident { bytes, processes: processes as f64 });
        }
        if Instant::now() > end {
            bail!("{processes} processes known of more than {crowd}, after {LIMIT:?}");
        }
        reads = Some(done);
        std::thread::sleep(Duration::from_millis(300));
    }
}
