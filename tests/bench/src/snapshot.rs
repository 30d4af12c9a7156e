//! What a pass over all processes costs, by the daemon's own clock, and what reading /proc costs beside it.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::figure::{Figure, Reference, Sample};
use crate::observer::Observer;
use crate::setting::Bench;
use crate::work::disperse;

const NAME: &str = "snapshot";
const CROWDS: [u64; 3] = [100, 1_000, 10_000];
const THREADS: u64 = 10_000;

/// Time of a pass, or of reading /proc, µs; and the processes that were there.
struct Pass {
    us: f64,
    processes: f64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let count = bench.scaled(30, 5);
    let observer = Observer::start(None);
    let mut figures = Vec::new();
    for crowd in CROWDS {
        let sleepers = bench.work.crowd("processes", crowd)?;
        let passes = passes(&observer, count)?;
        let reference = (0..count.min(5)).map(|_| read_proc()).collect::<Result<Vec<_>>>()?;
        disperse(sleepers)?;
        let sample = per_process(&passes)?;
        let reference = per_process(&reference)?;
        figures.push(
            Figure::new(NAME, format!("snapshot, a process, with {crowd} more of them"), "µs", sample)
                .at_most(2.0)
                .against([Reference::measured("reading /proc/PID/{stat,cwd}", reference.value, "µs")]),
        );
    }
    figures.push(threads(bench, &observer, count)?);
    observer.stop()?;
    Ok(figures)
}

fn threads(bench: &Bench, observer: &Observer, count: u64) -> Result<Figure> {
    let without = per_pass(&passes(observer, count)?)?;
    let sleepers = bench.work.crowd("sleeping-threads", THREADS)?;
    let with = passes(observer, count)?;
    disperse(sleepers)?;
    let each: Vec<f64> = with.iter().map(|pass| (pass.us - without.value) / THREADS as f64).collect();
    let sample = Sample::median(&each).context("no pass was made")?;
    let what = format!("snapshot, a further thread, of {THREADS} in one process");
    Ok(Figure::new(NAME, what, "µs", sample).at_most(0.2))
}

/// Has the daemon make passes, one by one.
fn passes(observer: &Observer, count: u64) -> Result<Vec<Pass>> {
    let pass = |_| {
        let before = observer.status()?.number(&["passes", "total"])?;
        let drift = observer.drift()?;
        let status = observer.status()?;
        if status.number(&["passes", "total"])? <= before {
            bail!("an audit made no pass: whose time would this be?");
        }
        if drift > 0 {
            bail!("the audit found {drift} differences: run `observer audit`");
        }
        let us = status.number(&["passes", "last_us"])? as f64;
        Ok(Pass { us, processes: status.number(&["processes"])? as f64 })
    };
    (0..count).map(pass).collect()
}

fn per_process(passes: &[Pass]) -> Result<Sample> {
    let each: Vec<f64> = passes.iter().map(|pass| pass.us / pass.processes.max(1.0)).collect();
    Sample::median(&each).context("no pass was made")
}

fn per_pass(passes: &[Pass]) -> Result<Sample> {
    let each: Vec<f64> = passes.iter().map(|pass| pass.us).collect();
    Sample::median(&each).context("no pass was made")
}

/// The way without a kernel program, for two of the fields.
fn read_proc() -> Result<Pass> {
    let began = Instant::now();
    let mut processes = 0.0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A process may end while it is read.
        if name.bytes().all(|byte| byte.is_ascii_digit())
            && fs::read(path.join("stat")).is_ok()
            && fs::read_link(path.join("cwd")).is_ok()
        {
            processes += 1.0;
        }
    }
    Ok(Pass { us: began.elapsed().as_nanos() as f64 / 1000.0, processes })
}
