//! `cargo xtask bench`: observer's costs, held to the budgets of the design, and what they stand against, measured
//! in one run. docs/bench.md describes how each is measured.

mod account;
mod beside;
mod child;
mod cost;
mod figure;
mod getppid;
mod hostile;
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
mod soak;
mod storm;
mod table;
mod work;

use std::any::Any;
use std::fs;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use observer_harness::failure;

use crate::figure::{Figure, Outcome};
use crate::machine::Machine;
use crate::peers::{PEERS, Peer};
use crate::work::Work;

/// Measure observer against its budgets and its peers (as root).
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// JSON on standard output instead of a table.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// The table as Markdown.
    #[arg(long)]
    markdown: bool,
    /// A short run: few repetitions, small storms. It shows whether it works, not how it compares.
    #[arg(long)]
    quick: bool,
    /// Only this measurement; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<Measure>,
    /// Measure another build of observer in the same run, in turns with this one, and show its figures beside. Peers are
    /// left out.
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// Where the figures are kept as JSON.
    #[arg(long, hide = true, default_value = "bench.json")]
    save: PathBuf,
    /// Given by `cargo bench` to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
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
    /// What a user without privileges can make it spend.
    Hostile,
    /// Wake-ups when nothing happens.
    Idle,
    /// A system call that is none of observer's business.
    Getppid,
    /// Half an hour of mixed load; only where it is asked for.
    Soak,
}

/// What every measurement needs.
struct Bench {
    work: Work,
    quick: bool,
    peers: &'static [Peer],
}

impl Bench {
    /// A size of the full run, or of the quick one.
    fn scaled<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

impl Measure {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn run(self, bench: &Bench) -> Result<Vec<Figure>> {
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
            Self::Commit => Ok(mirror::commit::measure(bench)),
            Self::Outage => Ok(mirror::outage::measure(bench)),
            Self::Fleet => Ok(mirror::fleet::measure(bench)),
            Self::Hostile => hostile::measure(bench),
            Self::Idle => idle::measure(bench),
            Self::Getppid => getppid::measure(bench),
            Self::Soak => soak::measure(bench),
        }
    }
}

/// The program: measures what its command line asks for and prints a table.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if !failure::is_root() {
        bail!("loading kernel programs needs root: run as root: cargo xtask bench");
    }
    let peers: &'static [Peer] = if arguments.beside.is_some() { &[] } else { &PEERS };
    install(peers);
    let machine = Machine::look()?;
    let bench = Bench { work: Work::prepare()?, quick: arguments.quick, peers };
    let figures = measure(&bench, &chosen(&arguments.only), arguments.beside.as_deref());

    let json = serde_json::to_string_pretty(&table::json(&machine, arguments.quick, &figures))?;
    let file = &arguments.save;
    save(file, &json)?;
    let shown = match (arguments.json, arguments.markdown) {
        (true, _) => json,
        (_, true) => table::markdown(&machine, &figures),
        _ => table::text(&machine, &figures),
    };
    writeln!(std::io::stdout(), "{}", shown.trim_end())
        .with_context(|| format!("print the table; it is in {}", file.display()))?;
    eprintln!("bench: the same as JSON: {}", file.display());
    verdict(&figures, arguments.quick)
}

/// Fails where something could not be measured, or a budget that must hold was missed. A short run shows neither.
fn verdict(figures: &[Figure], quick: bool) -> Result<()> {
    let failures: Vec<String> = figures.iter().filter_map(Figure::failure).collect();
    let failures = failures.join("\n");
    let is_absent = figures.iter().any(|figure| matches!(figure.outcome, Outcome::Absent(_)));
    match (is_absent, failures.is_empty()) {
        (false, true) => Ok(()),
        (false, false) if quick => {
            eprintln!("bench: a run without --quick would fail: these budgets must hold:\n{failures}");
            Ok(())
        }
        (true, true) => bail!("not everything could be measured; what could not is named above"),
        (true, false) => {
            bail!("not everything could be measured, and these budgets must hold and are missed:\n{failures}")
        }
        (false, false) => bail!("these budgets must hold and are missed:\n{failures}"),
    }
}

fn chosen(only: &[Measure]) -> Vec<Measure> {
    let wanted = |measure: &Measure| match only {
        [] => *measure != Measure::Soak,
        only => only.contains(measure),
    };
    Measure::value_variants().iter().copied().filter(wanted).collect()
}

/// Makes these measurements. One that fails, or panics, does not keep the others from being made.
fn measure(bench: &Bench, measures: &[Measure], beside: Option<&Path>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for measure in measures {
        let name = measure.name();
        let began = Instant::now();
        let measured = panic::catch_unwind(AssertUnwindSafe(|| match beside {
            None => measure.run(bench),
            Some(other) => beside::in_turns(other, || measure.run(bench)),
        }));
        match measured.unwrap_or_else(|panic| bail!("{}", message(&*panic))) {
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

/// The text of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked; its message stands above")
}

/// A peer that cannot be had is named in the table; the rest is measured without it.
fn install(peers: &[Peer]) {
    for peer in peers {
        if let Err(error) = peer.install() {
            eprintln!("bench: {}: {error:#}", peer.name);
        }
    }
}

fn save(file: &Path, json: &str) -> Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    fs::write(file, format!("{json}\n")).with_context(|| format!("write {}", file.display()))
}

/// A configuration under which every directory in `homes` is a session's home.
fn homes_rule(homes: &Path) -> String {
    format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"pts/*\"\n", homes.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_budget_of_hostile_users_is_a_failure_that_names_it() {
        let figure = |ratio| {
            Figure::new("hostile", "fork on a terminal", "", figure::Sample::once(ratio)).must_be_at_most(0.5)
        };
        assert!(verdict(&[figure(0.5)], false).is_ok());
        let missed = verdict(&[figure(0.1), figure(0.7)], false).map_err(|error| error.to_string());
        let expected =
            "these budgets must hold and are missed:\nhostile: fork on a terminal: 0.70 of at most 0.5";
        assert_eq!(missed, Err(expected.to_owned()));
        assert!(verdict(&[figure(0.7)], true).is_ok(), "a short run does not show it");
        let absent = Figure::absent("hostile", "fork", "no gcc");
        assert!(verdict(&[absent], true).is_err());
    }

    #[test]
    fn without_a_choice_everything_is_measured_in_the_tables_order() {
        assert_eq!(chosen(&[]).len(), 15);
        assert_eq!(chosen(&[Measure::Idle, Measure::Cost]), [Measure::Cost, Measure::Idle]);
        assert_eq!(Measure::Getppid.name(), "getppid");
    }
}
