//! What the daemon does when nothing happens.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::account;
use crate::figure::{Figure, Sample};
use crate::observer::Observer;
use crate::setting::Bench;

const NAME: &str = "idle";

/// One stretch of nothing.
struct Stretch {
    wakes: f64,
    cpu_us: f64,
    records: f64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let observer = Observer::start(None);
    let length = Duration::from_secs(bench.scaled(10, 4));
    let pid = observer.pid();
    let stretches = (0..bench.scaled(3, 1)).map(|_| {
        let before = observer.status()?.sum("events_by_kind")?;
        // What the question itself set going ends within this.
        std::thread::sleep(Duration::from_millis(500));
        let (sleeps, cpu, began) = (account::sleeps(pid)?, account::cpu_ns(pid)?, Instant::now());
        std::thread::sleep(length);
        let seconds = began.elapsed().as_secs_f64();
        let wakes = account::sleeps(pid)?.saturating_sub(sleeps) as f64 / seconds;
        let cpu_us = account::cpu_ns(pid)?.saturating_sub(cpu) as f64 / 1000.0 / seconds;
        let records = observer.status()?.sum("events_by_kind")?.saturating_sub(before) as f64;
        Ok(Stretch { wakes, cpu_us, records })
    });
    let stretches = stretches.collect::<Result<Vec<_>>>()?;
    observer.stop()?;
    let sample = |of: fn(&Stretch) -> f64| {
        Sample::median(&stretches.iter().map(of).collect::<Vec<_>>()).context("nothing was measured")
    };
    let records = sample(|stretch| stretch.records)?.value;
    let note =
        format!("over {} s, in which the machine's own processes made {records} records", length.as_secs());
    Ok(vec![
        Figure::new(NAME, "wake-ups a second, idle", "/s", sample(|stretch| stretch.wakes)?)
            .at_most(1.0)
            .note(&note),
        Figure::new(NAME, "daemon CPU a second, idle", "µs", sample(|stretch| stretch.cpu_us)?).note(&note),
    ])
}
