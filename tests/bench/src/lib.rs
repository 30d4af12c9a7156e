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
mod setting;
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
use crate::setting::Bench;
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
    /// Fail where a figure is worse than that of the other build by more than so many percent; without this, the
    /// comparison is only shown.
    #[arg(long, value_name = "PERCENT", requires = "beside", value_parser = percent)]
    worse_at_most: Option<f64>,
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
    verdict(&figures, arguments.quick, arguments.worse_at_most)
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent: &f64| percent.is_finite() && *percent >= 0.0);
    percent.ok_or_else(|| "it is no percentage: write for instance 3".to_owned())
}

/// Fails where something could not be measured, a budget that must hold was missed, or a figure is worse than that of the other
/// build by more than `worse_at_most` percent. A short run shows neither of the last two.
fn verdict(figures: &[Figure], quick: bool, worse_at_most: Option<f64>) -> Result<()> {
    let missed: Vec<String> = figures.iter().filter_map(Figure::failure).collect();
    let limit = worse_at_most.unwrap_or(f64::INFINITY);
    let worse: Vec<String> = figures.iter().filter_map(|figure| figure.is_worse(limit)).collect();
    let budgets = "these budgets must hold and are missed".to_owned();
    let others = format!("these figures are worse than those of the other build by more than {limit} %");
    let failures = [(budgets, missed), (others, worse)].into_iter().filter(|(_, lines)| !lines.is_empty());
    let failures = failures.map(|(what, lines)| format!("{what}:\n{}", lines.join("\n")));
    let failures = failures.collect::<Vec<_>>().join("\n");
    let is_absent = figures.iter().any(|figure| matches!(figure.outcome, Outcome::Absent(_)));
    match (is_absent, failures.is_empty()) {
        (false, true) => Ok(()),
        (false, false) if quick => {
            eprintln!("bench: a run without --quick would fail: {failures}");
            Ok(())
        }
        (true, true) => bail!("not everything could be measured; what could not is named above"),
        (true, false) => {
            bail!("not everything could be measured, and {failures}")
        }
        (false, false) => bail!("{failures}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_budget_of_hostile_users_is_a_failure_that_names_it() {
        let figure = |ratio| {
            Figure::new("hostile", "fork on a terminal", "", figure::Sample::once(ratio)).must_be_at_most(0.5)
        };
        assert!(verdict(&[figure(0.5)], false, None).is_ok());
        let missed = verdict(&[figure(0.1), figure(0.7)], false, None).map_err(|error| error.to_string());
        let expected =
            "these budgets must hold and are missed:\nhostile: fork on a terminal: 0.70 of at most 0.5";
        assert_eq!(missed, Err(expected.to_owned()));
        assert!(verdict(&[figure(0.7)], true, None).is_ok(), "a short run does not show it");
        let absent = Figure::absent("hostile", "fork", "no gcc");
        assert!(verdict(&[absent], true, None).is_err());
    }

    #[test]
    fn a_figure_that_is_worse_than_the_other_builds_is_a_failure_if_that_is_asked_for() {
        let figure = |worse_percent| Figure {
            worse_percent,
            ..Figure::new("cost", "daemon CPU", "µs", figure::Sample::once(1.0))
        };
        let (better, worse) = (figure(Some(-2.0)), figure(Some(4.0)));
        assert!(verdict(&[worse], false, None).is_ok());
        assert!(verdict(&[better], false, Some(0.0)).is_ok());
        let figures = [figure(Some(-2.0)), figure(Some(4.0)), figure(None)];
        assert!(verdict(&figures, false, Some(4.0)).is_ok());
        let failed = verdict(&figures, false, Some(3.0)).map_err(|error| error.to_string());
        let expected = "these figures are worse than those of the other build by more than 3 %:\n\
                        cost: daemon CPU: worse by 4.0 %";
        assert_eq!(failed, Err(expected.to_owned()));
        assert!(verdict(&figures, true, Some(3.0)).is_ok(), "a short run does not show it");
    }

    #[test]
    fn a_limit_for_the_comparison_needs_a_build_to_compare_with() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["bench"], words].concat());
        let given = parse(&["--beside", "/o", "--worse-at-most", "3"]).ok().and_then(|it| it.worse_at_most);
        assert_eq!(given, Some(3.0));
        for wrong in [&["--worse-at-most", "3"][..], &["--beside", "/o", "--worse-at-most", "NaN"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_choice_everything_is_measured_in_the_tables_order() {
        assert_eq!(chosen(&[]).len(), 15);
        assert_eq!(chosen(&[Measure::Idle, Measure::Cost]), [Measure::Cost, Measure::Idle]);
        assert_eq!(Measure::Getppid.name(), "getppid");
    }
}
