//! What a system call costs that has nothing to do with processes.

use anyhow::{Context, Result};

use crate::figure::{Budget, Figure, Sample};
use crate::observer::Observer;
use crate::setting::Bench;

const NAME: &str = "getppid";
/// Noise of a loop of system calls on a quiet machine: within it, unchanged.
const UNCHANGED: f64 = 1.03;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let calls = bench.scaled(3_000_000, 300_000);
    let mut alone = Vec::new();
    let mut ratios = Vec::new();
    let mut taps = false;
    let time = || Ok::<f64, anyhow::Error>(bench.work.time("getppid", calls)? as f64 / calls as f64);
    for _ in 0..bench.scaled(9, 3) {
        let before = time()?;
        let observer = Observer::start(None);
        taps = observer.status()?.taps_system_calls();
        let beside = time()?;
        observer.stop()?;
        let after = time()?;
        alone.extend([before, after]);
        ratios.push(beside / ((before + after) / 2.0));
    }
    let budget = if taps {
        Budget::NotHere {
            text: "unchanged where fexit works".into(),
            why: "no fexit on this kernel: system call tracepoints stand in".into(),
        }
    } else {
        Budget::AtMost(UNCHANGED)
    };
    let alone = Sample::median(&alone).context("nothing was measured")?;
    let ratio = Sample::median(&ratios).context("nothing was measured")?;
    Ok(vec![
        Figure::new(NAME, "getppid, nobody watching", "ns", alone).for_scale(),
        Figure::new(NAME, "getppid beside observer", "×", ratio).budget(budget),
    ])
}
