//! All processes, read from /proc twice around a question: what stood still between the readings must be shown
//! exactly, and nothing may be shown that was gone before.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::protocol::boottime_ns;
use crate::truth::{Truth, ns_per_tick};
use crate::{Daemon, text};

/// A reading of /proc.
#[derive(Debug)]
struct Reading {
    began_ns: u64,
    live: BTreeMap<u32, Truth>,
}

fn read() -> Reading {
    let began_ns = boottime_ns();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let live = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Truth::of(pid).map(|truth| (pid, truth)))
        .filter(|(_, truth)| !truth.kernel_thread && !truth.dead)
        .collect();
    Reading { began_ns, live }
}

/// Every difference between `observer ps` now and /proc: pids, start times, cwd, ppid and the ids of every
/// process that did not change between two readings around the question.
pub fn differences(daemon: &Daemon) -> Vec<String> {
    differences_while(daemon, &[])
}

/// The same while these processes move to and fro, so that both readings may find them at a place where they were
/// not in between: of them only their presence is compared.
pub fn differences_while(daemon: &Daemon, movers: &[u32]) -> Vec<String> {
    let before = read();
    let rows: BTreeMap<u32, Value> = daemon.ps().into_iter().map(|row| (pid_of(&row), row)).collect();
    let after = read();
    let mut found = Vec::new();
    for (pid, truth) in &before.live {
        let Some(still) = after.live.get(pid).filter(|still| still.start_ticks == truth.start_ticks) else {
            continue;
        };
        match rows.get(pid) {
            // A sandbox's first process may be hidden from the iterator, as it is closed to root in /proc.
            None if *pid == 1 && !truth.readable => {}
            // It may have ended for observer before the question, or not.
            _ if truth.exits || still.exits => {}
            None => found.push(format!(
                "{pid} {} lives and has no row; now it is {}",
                truth.comm.escape_ascii(),
                doing(*pid)
            )),
            Some(row) if truth == still && !movers.contains(pid) => {
                found.extend(
                    truth
                        .differences(row)
                        .into_iter()
                        .filter(|what| lasting(what))
                        .map(|what| format!("{pid}: {what}")),
                );
            }
            Some(_) => {}
        }
    }
    for (pid, row) in &rows {
        let start_ns = text::u64_string(row, "start_boottime_ns").unwrap_or(0);
        let known = [&before, &after].iter().any(|reading| {
            reading.live.get(pid).is_some_and(|truth| truth.start_ticks == start_ns / ns_per_tick())
        });
        if !known && start_ns < before.began_ns {
            found.push(format!("{pid} has a row and is dead: {row}"));
        }
    }
    assert!(!before.live.is_empty(), "/proc shows processes");
    found
}

/// The state of a process, and where in the kernel it waits.
fn doing(pid: u32) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map_or("gone", str::trim);
    format!("{state}, waiting in {:?}", read("wchan"))
}

/// argv and exe are facts of the exec: a title written since, or an executable replaced since, is no difference.
fn lasting(difference: &str) -> bool {
    !difference.starts_with("argv") && !difference.starts_with("exe")
}

fn pid_of(row: &Value) -> u32 {
    row.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok()).expect("a row has a pid")
}
