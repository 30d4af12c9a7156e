//! How long `observer list` takes, against the shell script that it replaces.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::child::{Child, Conversation};
use crate::figure::{Budget, Figure, Reference, Sample};
use crate::observer::Observer;
use crate::setting::{Bench, homes_rule};
use crate::work::disperse;

const NAME: &str = "list";
/// Processes that sleep beside; a fresh machine has some tens of its own.
const CROWDS: [u64; 2] = [50, 950];
const SESSIONS: usize = 3;
/// With up to 1,000 processes.
const P50_MAX_MS: f64 = 1.5;
const LIMIT: Duration = Duration::from_secs(60);

/// Every process with its name and directory, as one did it without observer.
const SCRIPT: &str = "for p in /proc/[0-9]*; do
    read -r comm <$p/comm || continue
    cwd=$(readlink $p/cwd) || continue
    printf '%s\\t%s\\t%s\\n' \"${p#/proc/}\" \"$comm\" \"$cwd\"
done 2>/dev/null";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let homes = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
    let observer = Observer::start(Some(&homes_rule(homes.path())));
    let _sessions = sessions(bench, &observer, homes.path())?;
    let mut figures = Vec::new();
    for crowd in CROWDS {
        let sleepers = bench.work.crowd("processes", crowd)?;
        let processes = observer.status()?.number(&["processes"])?;
        let times = (0..bench.scaled(100, 20)).map(|_| list(&observer)).collect::<Result<Vec<_>>>()?;
        let script = (0..bench.scaled(10, 3)).map(|_| script(bench)).collect::<Result<Vec<_>>>()?;
        disperse(sleepers)?;
        let script = Sample::median(&script).context("the script did not run")?;
        for (name, percent, budget) in
            [("p50", 50.0, Budget::AtMost(P50_MAX_MS)), ("p99", 99.0, Budget::None)]
        {
            let sample = Sample::percentile(&times, percent).context("no list was made")?;
            figures.push(
                Figure::new(NAME, format!("`observer list`, {name}, {processes} processes"), "ms", sample)
                    .budget(budget)
                    .against([Reference::measured("the shell script", script.value, "ms")])
                    .note("from starting the program to its end"),
            );
        }
    }
    observer.stop()?;
    Ok(figures)
}

fn sessions(bench: &Bench, observer: &Observer, homes: &Path) -> Result<Vec<Conversation>> {
    let make = |n: usize| {
        let home = homes.join(format!("session-{n}"));
        fs::create_dir(&home)?;
        bench.work.session(&home)
    };
    let sessions = (0..SESSIONS).map(make).collect::<Result<Vec<_>>>()?;
    let end = Instant::now() + LIMIT;
    while observer.status()?.number(&["sessions"])? < SESSIONS as u64 {
        if Instant::now() > end {
            bail!("{SESSIONS} processes sit in homes, and observer knows fewer sessions after {LIMIT:?}");
        }
    }
    Ok(sessions)
}

fn list(observer: &Observer) -> Result<f64> {
    let (took_ms, rows) = timed(observer)?;
    if rows != SESSIONS {
        bail!("observer list gave {rows} sessions of {SESSIONS}");
    }
    Ok(took_ms)
}

/// How long `observer list` took, ms, and how many sessions it gave.
pub(crate) fn timed(observer: &Observer) -> Result<(f64, usize)> {
    let began = Instant::now();
    let output = observer.command(&["list", "--porcelain"]).output().context("run observer list")?;
    let took = began.elapsed();
    // 1: there is certainly none.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("observer list failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let rows = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    Ok((took.as_secs_f64() * 1000.0, rows))
}

fn script(bench: &Bench) -> Result<f64> {
    let began = Instant::now();
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).stdout(fs::File::create(bench.work.directory().join("script.out"))?);
    let status = Child::spawn(command.stdin(Stdio::null()))?.wait(LIMIT)?;
    if !status.success() {
        bail!("the shell script failed ({status})");
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
