//! `cargo xtask bench`: observer's costs, held to the budgets of the design, and what they stand against, measured
//! in one run. docs/bench.md says how each is measured.

mod account;
mod child;
mod clock;
mod cost;
mod figure;
mod getppid;
mod idle;
mod journal;
mod latency;
mod list;
mod machine;
mod memory;
mod mirror;
mod observer;
mod peers;
mod slowdown;
mod snapshot;
mod storm;
mod table;
mod work;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use self::figure::{Figure, Outcome};
use self::machine::Machine;
use self::observer::Observer;
use self::work::Work;
use crate::workspace::{self, Workspace};
use crate::{build, setup};

/// Measure observer against its budgets and its peers (as root).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// JSON on standard output instead of a table.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// The table as Markdown.
    #[arg(long)]
    markdown: bool,
    /// A short run: few repetitions, small storms. Says whether it works, not how it compares.
    #[arg(long)]
    quick: bool,
    /// Only this measurement; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<Measure>,
}

/// The measurements, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// BPF time and CPU per fork+exec+exit.
    Cost,
    /// A spawn loop beside each observer.
    Slowdown,
    /// 100,000 short-lived processes.
    Storm,
    /// 100,000 short-lived threads.
    Threads,
    /// A pass over 100, 1,000 and 10,000 processes.
    Snapshot,
    /// `observer list`.
    List,
    /// From the kernel to `observer watch`.
    Latency,
    /// Resident memory.
    Memory,
    /// What is kept of sessions' changes on the disk.
    Journal,
    /// From the kernel to a row in Postgres.
    Commit,
    /// Ten minutes without the database.
    Outage,
    /// 1,000 hosts into one Postgres.
    Fleet,
    /// Wake-ups when nothing happens.
    Idle,
    /// A system call that is none of observer's business.
    Getppid,
}

/// What every measurement needs.
struct Bench<'a> {
    workspace: &'a Workspace,
    binary: PathBuf,
    work: Work,
    quick: bool,
}

impl Bench<'_> {
    /// A size of the full run, or of the quick one.
    fn scaled(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }

    /// A daemon, ready.
    fn observer(&self, config: Option<&str>) -> Result<Observer> {
        Observer::start(&self.binary, config)
    }
}

impl Measure {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn run(self, bench: &Bench<'_>) -> Result<Vec<Figure>> {
        match self {
            Self::Cost => cost::measure(bench),
            Self::Slowdown => slowdown::measure(bench),
            Self::Storm => storm::processes(bench),
            Self::Threads => storm::threads(bench),
            Self::Snapshot => snapshot::measure(bench),
            Self::List => list::measure(bench),
            Self::Latency => latency::measure(bench),
            Self::Memory => memory::measure(bench),
            Self::Journal => journal::measure(bench),
            Self::Commit | Self::Outage | Self::Fleet => mirror::measure(bench, &self.name()),
            Self::Idle => idle::measure(bench),
            Self::Getppid => getppid::measure(bench),
        }
    }
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !workspace::is_root() {
        bail!("loading kernel programs needs root: run as root: cargo xtask bench");
    }
    let toolchain = setup::for_bench()?;
    let binary = build::release(workspace, &toolchain)?;
    install_peers();
    let machine = Machine::look(workspace)?;
    let bench = Bench { workspace, binary, work: Work::prepare()?, quick: arguments.quick };
    let figures = measure(&bench, &chosen(&arguments.only));

    let json = serde_json::to_string_pretty(&table::json(&machine, arguments.quick, &figures))?;
    let file = save(workspace, &json)?;
    let shown = match (arguments.json, arguments.markdown) {
        (true, _) => json,
        (_, true) => table::markdown(&machine, &figures),
        _ => table::text(&machine, &figures),
    };
    writeln!(std::io::stdout(), "{}", shown.trim_end())
        .with_context(|| format!("print the table; it is in {}", file.display()))?;
    eprintln!("bench: the same as JSON: {}", file.display());
    if figures.iter().any(|figure| matches!(figure.outcome, Outcome::Absent(_))) {
        bail!("not everything could be measured; what could not is named above");
    }
    Ok(())
}

fn chosen(only: &[Measure]) -> Vec<Measure> {
    let wanted = |measure: &Measure| only.is_empty() || only.contains(measure);
    Measure::value_variants().iter().copied().filter(wanted).collect()
}

/// A measurement that fails does not keep the others from being made.
fn measure(bench: &Bench<'_>, measures: &[Measure]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for measure in measures {
        let name = measure.name();
        let began = Instant::now();
        match measure.run(bench) {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                eprintln!("bench: {name}: {error:#}");
                figures.push(Figure::absent(name.clone(), name.clone(), format!("{error:#}")));
            }
        }
        eprintln!("bench: {name}: {:.0} s", began.elapsed().as_secs_f64());
    }
    figures
}

/// A peer that cannot be had is named in the table; the rest is measured without it.
fn install_peers() {
    for peer in &peers::PEERS {
        if let Err(error) = peer.install() {
            eprintln!("bench: {}: {error:#}", peer.name);
        }
    }
}

fn save(workspace: &Workspace, json: &str) -> Result<PathBuf> {
    let directory = workspace.target.join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let file = directory.join("bench.json");
    fs::write(&file, format!("{json}\n")).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}

/// A configuration under which every directory in `homes` is a session's home.
fn homes_rule(homes: &Path) -> String {
    format!("[[session]]\ncwd = \"{}/*\"\ntty = \"pts/*\"\n", homes.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_choice_everything_is_measured_in_the_tables_order() {
        assert_eq!(chosen(&[]).len(), 14);
        assert_eq!(chosen(&[Measure::Idle, Measure::Cost]), [Measure::Cost, Measure::Idle]);
        assert_eq!(Measure::Getppid.name(), "getppid");
    }
}
