//! Compares what a child used with what the system calls return.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use observer_core::cost::ProcessUsage;

use super::busy::MEMORY_BYTES;
use super::children::{DEADLINE, TestChild};
use super::values::{self, ComparedValue, same};
use crate::clock;

/// How far two readings of CPU time may be apart, ns. Some kernels count it by two clocks.
const TOLERANCE_NS: u64 = 5_000_000;

/// What the busy child used, as its last row shows it and the system calls return it.
#[derive(Clone, Copy)]
pub struct UsedByChild {
    /// The pid.
    pub pid: u32,
    /// What it used.
    pub usage: ProcessUsage,
}

/// Compares the rows of a child that uses processor and memory. `row` returns what the row of a pid shows.
pub fn check(via: &str, row: &dyn Fn(u32) -> Result<ProcessUsage>) -> Result<UsedByChild> {
    let mut child = TestChild::busy()?;
    let pid = child.pid;
    let page_bytes = page_bytes()?;
    child.wait_ready()?;
    let missing_pages = missing_pages();
    let least_pages = (MEMORY_BYTES as u64 / page_bytes).saturating_sub(missing_pages);
    let having = row(pid)?.max_rss_pages;
    child.order()?;
    child.wait_ready()?;
    let had = row(pid)?.max_rss_pages;
    child.order()?;
    child.wait_dead()?;
    let (used, own_ns) = at_rest(pid, row)?;
    let (_, truth) = child.reap_with_usage()?;

    let pages = u64::try_from(truth.ru_maxrss).context("ru_maxrss")? * 1024 / page_bytes;
    // wait4(2) returns the most that it or its own child had.
    let is_near = (pages.saturating_sub(missing_pages)..=pages).contains(&used.max_rss_pages);
    same(via, &values::MAX_RSS, used.max_rss_pages, if is_near { used.max_rss_pages } else { pages })?;
    let most_pages = pages + missing_pages;
    for (value, found) in [(&values::RSS, having), (&values::PEAK_RSS, had)] {
        // 0: this kernel's counters are not known.
        ensure!(
            found == 0 || (least_pages..=most_pages).contains(&found),
            "{via}: {value} is {found} pages, expected {least_pages} to {most_pages} ({})",
            value.through()
        );
    }
    same(via, &values::CPU_TIME, used.cpu_ns, own_ns)?;
    let with_children = [truth.ru_utime, truth.ru_stime].map(|time| time.tv_sec * 1_000_000 + time.tv_usec);
    let with_children = u64::try_from(with_children.iter().sum::<i64>()).context("ru_utime")? * 1000;
    near(via, &values::CHILDREN_CPU_TIME, used.children_cpu_ns, with_children.saturating_sub(own_ns))?;
    Ok(UsedByChild { pid, usage: used })
}

/// Pages that single CPUs or threads may not have added to the counters of a process: on each of some CPUs a batch
/// (`percpu_counter_batch`, lib/percpu_counter.c).
fn missing_pages() -> u64 {
    const CPUS: u64 = 8;
    let configured = sysconf(SysconfVar::_NPROCESSORS_CONF).ok().flatten();
    let cpus = configured.and_then(|cpus| u64::try_from(cpus).ok()).unwrap_or(1);
    CPUS.min(cpus) * (2 * cpus).max(32)
}

/// What the row of an ended child shows, and its CPU time. It runs for a moment when it counts as ended; that is over when its
/// time stands still.
fn at_rest(pid: u32, row: &dyn Fn(u32) -> Result<ProcessUsage>) -> Result<(ProcessUsage, u64)> {
    let cpu_ns = || clock::cpu_ns(pid).context("read the CPU time of the self-test's child");
    let deadline = Instant::now() + DEADLINE;
    loop {
        let before = cpu_ns()?;
        let used = row(pid)?;
        if used.cpu_ns == before || Instant::now() > deadline {
            return Ok((used, before));
        }
        std::thread::yield_now();
    }
}

/// Compares what the child's exit record says with its last row. The record lacks what ran since the last tick.
pub fn check_exit(via: &str, exit: ProcessUsage, row: &UsedByChild) -> Result<()> {
    same(via, &values::CPU_TIME, exit.cpu_ns.min(row.usage.cpu_ns), exit.cpu_ns)?;
    same(via, &values::CHILDREN_CPU_TIME, exit.children_cpu_ns, row.usage.children_cpu_ns)?;
    same(via, &values::MAX_RSS, exit.max_rss_pages, row.usage.max_rss_pages)
}

/// Compares the CPU time with which the kernel released the child.
pub fn check_release(via: &str, cpu_ns: u64, row: &UsedByChild) -> Result<()> {
    near(via, &values::CPU_TIME, cpu_ns, row.usage.cpu_ns)
}

fn near(via: &str, value: &ComparedValue, got: u64, expected: u64) -> Result<()> {
    ensure!(
        got.abs_diff(expected) <= TOLERANCE_NS,
        "{via}: {value} is {got} ns, expected {expected} ns ({})",
        value.through()
    );
    Ok(())
}

fn page_bytes() -> Result<u64> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).context("ask for the size of a page")?;
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).context("the size of a page is not known")
}
