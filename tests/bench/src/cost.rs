//! BPF time and CPU for each fork+exec+exit, and the same of the peers.

use anyhow::{Context as _, Result, bail};

use crate::account::{self, BpfStatistics, BpfTime};
use crate::figure::{Figure, Reference, Sample};
use crate::observer::Observer;
use crate::peers::Peer;
use crate::setting::Bench;
use crate::work::{Place, Spawn, Work};

const NAME: &str = "cost";

/// For one spawn.
#[derive(Clone, Copy)]
struct Cost {
    bpf_us: f64,
    cpu_us: f64,
    /// Runs of BPF programs.
    runs: f64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let spawns = bench.scaled(5_000, 1_000);
    let rounds = bench.scaled(7, 2);
    let plain = of_observer(bench, Spawn::Tiny, spawns, rounds)?;
    let terminal = of_observer(bench, Spawn::TinyWithTerminal, spawns, rounds)?;
    let ordinary = of_observer(bench, Spawn::True, spawns / 5, rounds)?;
    let peers: Vec<_> = bench
        .peers
        .iter()
        .map(|peer| (peer, of_peer(bench, peer, spawns, rounds.min(3)).map_err(|error| format!("{error:#}"))))
        .collect();
    let bpf = |peer: &Peer, cost: &Cost| peer.by_bpf.then_some(cost.bpf_us);
    Ok(vec![
        figure("BPF time per fork+exec+exit, no argv and environment kept", &plain, |cost| cost.bpf_us)?
            .at_most(3.0)
            .against(references(&peers, bpf))
            .note(format!("no terminal; {} program runs a spawn", runs(&plain))),
        figure("BPF time per fork+exec+exit, with argv and environment", &terminal, |cost| cost.bpf_us)?
            .at_most(3.0)
            .note("on a terminal: 250 bytes of argv, 3 KiB of environment; its records wake the reader"),
        figure("daemon CPU per fork+exec+exit", &plain, |cost| cost.cpu_us)?
            .at_most(1.0)
            .against(references(&peers, |_, cost| Some(cost.cpu_us))),
        figure("daemon CPU per fork+exec+exit, on a terminal", &terminal, |cost| cost.cpu_us)?
            .at_most(2.0 * median(&plain, |cost| cost.cpu_us)?.value)
            .note("the budget is twice what it costs without one"),
        figure("BPF time per fork+exec+exit of /bin/true", &ordinary, |cost| cost.bpf_us)?,
        figure("daemon CPU per fork+exec+exit of /bin/true", &ordinary, |cost| cost.cpu_us)?,
    ])
}

fn figure(what: &str, costs: &[Cost], of: impl Fn(&Cost) -> f64) -> Result<Figure> {
    Ok(Figure::new(NAME, what, "µs", median(costs, of)?))
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> Result<Sample> {
    let values: Vec<f64> = costs.iter().map(of).collect();
    Sample::median(&values).context("no round was run")
}

fn runs(costs: &[Cost]) -> String {
    let values: Vec<f64> = costs.iter().map(|cost| cost.runs).collect();
    Sample::median(&values).map_or_else(String::new, |sample| format!("{:.1}", sample.value))
}

fn references(
    peers: &[(&Peer, Result<Vec<Cost>, String>)],
    of: impl Fn(&Peer, &Cost) -> Option<f64>,
) -> Vec<Reference> {
    let reference = |(peer, costs): &(&Peer, Result<Vec<Cost>, String>)| match costs {
        Ok(costs) => {
            let values: Vec<f64> = costs.iter().filter_map(|cost| of(peer, cost)).collect();
            Sample::median(&values).map(|sample| Reference::measured(peer.name, sample.value, "µs"))
        }
        Err(why) => Some(Reference::absent(peer.name, why)),
    };
    peers.iter().filter_map(reference).collect()
}

fn of_observer(bench: &Bench, kind: Spawn, spawns: u64, rounds: u64) -> Result<Vec<Cost>> {
    let observer = Observer::start(None);
    let costs =
        (0..rounds).map(|_| round(bench, observer.pid(), kind, spawns)).collect::<Result<Vec<_>>>()?;
    if costs.iter().any(|cost| cost.runs < 3.0) {
        bail!("its programs ran less than three times a spawn: whose time was counted?");
    }
    observer.stop()?;
    Ok(costs)
}

fn of_peer(bench: &Bench, peer: &'static Peer, spawns: u64, rounds: u64) -> Result<Vec<Cost>> {
    let running = peer.start(&bench.work)?;
    let costs =
        (0..rounds).map(|_| round(bench, running.pid(), Spawn::Tiny, spawns)).collect::<Result<Vec<_>>>()?;
    if peer.by_bpf && costs.iter().any(|cost| cost.runs < 1.0) {
        bail!("its programs ran less than once a spawn: whose time was counted?");
    }
    running.stop(Work::TINY)?;
    Ok(costs)
}

fn round(bench: &Bench, pid: u32, kind: Spawn, spawns: u64) -> Result<Cost> {
    // Both in one loop: that BPF time is counted costs the programs something, and the reader nothing.
    let _statistics = BpfStatistics::enable()?;
    account::settle(pid)?;
    let (bpf, cpu) = (account::bpf_time(pid)?, account::cpu_ns(pid)?);
    bench.work.spawn(kind, Place::Anywhere, spawns)?;
    let BpfTime { run_time_ns, runs, .. } = account::bpf_time(pid)?;
    account::settle(pid)?;
    let per_spawn = |from: u64, to: u64| to.saturating_sub(from) as f64 / spawns as f64;
    Ok(Cost {
        bpf_us: per_spawn(bpf.run_time_ns, run_time_ns) / 1000.0,
        cpu_us: per_spawn(cpu, account::cpu_ns(pid)?) / 1000.0,
        runs: per_spawn(bpf.runs, runs),
    })
}
