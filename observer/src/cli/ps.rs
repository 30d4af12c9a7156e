//! `observer ps`

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use clap::Args;

use super::exit::Exit;
use super::flags::BtfFlag;
use super::once::StandaloneMap;
use super::term;
use crate::api::answer::ProcessesAnswer;
use crate::api::process::ProcessJson;
use crate::clock;
use crate::daemon::answers;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{Text, to_line};
use crate::text::style::FAINT;
use crate::text::table::{Align, Cell, Table, cut};
use crate::text::time::{age_s, span};

/// Levels of the tree that are indented.
const DEPTH_MAX: usize = 24;

/// Cells that a program takes at most.
const PROGRAM_WIDTH: usize = 16;
/// Cells that a directory takes at most.
const CWD_WIDTH: usize = 40;

/// Without a daemon: one snapshot of the kernel (needs root).
#[derive(Args)]
pub struct PsArgs {
    /// JSON: an array of processes (docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    btf: BtfFlag,
}

impl PsArgs {
    /// 0, or 4 not certain.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        match Client::connect(socket) {
            Ok(mut client) => {
                let line = client.ask(&ClientRequest::Processes {})?;
                self.show(&decode(&line)?)
            }
            Err(ClientError::NoDaemon(_)) => {
                let map = StandaloneMap::take(None, self.btf.btf.as_deref())?;
                if !self.json {
                    anstream::eprintln!(
                        "observer: no daemon on {}: this is one look at the kernel",
                        socket.display()
                    );
                }
                self.show(&answers::processes(&map.core, map.answer_time()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn show(&self, answer: &ProcessesAnswer<'_>) -> anyhow::Result<Exit> {
        if self.json {
            term::print_json(&answer.processes)?;
        } else {
            term::print_table(&table(&answer.processes))?;
        }
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: not certain: events were lost and the kernel is read again; ask again in a second"
            );
            return Ok(Exit::Unknown);
        }
        Ok(Exit::Found)
    }
}

fn table(processes: &[ProcessJson<'_>]) -> Table {
    let mut table = Table::new(&[
        ("PID", Align::Right),
        ("PPID", Align::Right),
        ("UID", Align::Right),
        ("TTY", Align::Left),
        ("UP", Align::Right),
        ("PROGRAM", Align::Left),
        ("CWD", Align::Left),
        ("COMMAND", Align::Left),
    ]);
    for (branch, process) in tree(processes) {
        let cwd = process.cwd.as_ref().map_or("?".into(), |cwd| to_line(cwd.as_bytes()).into_owned());
        table.push(vec![
            Cell::new(process.pid.to_string()),
            Cell::new(process.ppid.to_string()).styled(FAINT),
            Cell::new(process.uid.to_string()),
            Cell::new(process.tty.as_ref().map_or("-".into(), |tty| to_line(tty.as_bytes()).into_owned())),
            Cell::new(span(age_s(&process.started_at, clock::realtime_ns()))).styled(FAINT),
            Cell::new(cut(&to_line(process.shown_program().as_bytes()), PROGRAM_WIDTH)),
            Cell::new(cut(&cwd, CWD_WIDTH)),
            Cell::new(format!("{branch}{}", command(process))),
        ]);
    }
    table
}

/// The arguments as one line; comm where they are not known.
fn command(process: &ProcessJson<'_>) -> String {
    match process.argv.as_deref() {
        Some(argv @ [_, ..]) => {
            let words: Vec<_> = argv.iter().map(|word: &Text<'_>| to_line(word.as_bytes())).collect();
            words.join(" ")
        }
        _ => format!("[{}]", to_line(process.comm.as_bytes())),
    }
}

/// Every process once, children below their parents, each with the drawing that precedes it. A process whose parent is missing is a
/// root. Fields that were read at different times can form a circle; one of its processes is then a root.
fn tree<'p, 'a>(processes: &'p [ProcessJson<'a>]) -> Vec<(String, &'p ProcessJson<'a>)> {
    let known: HashMap<u32, &ProcessJson<'_>> =
        processes.iter().map(|process| (process.pid, process)).collect();
    let mut children: BTreeMap<u32, Vec<&ProcessJson<'a>>> = BTreeMap::new();
    let mut roots = Vec::new();
    for process in processes {
        match known.get(&process.ppid) {
            Some(parent) if parent.pid != process.pid => {
                children.entry(parent.pid).or_default().push(process)
            }
            _ => roots.push(process),
        }
    }
    let mut rows = Vec::with_capacity(processes.len());
    let mut seen = std::collections::HashSet::new();
    // Roots first. Processes that they do not reach form circles, which begin at any of their processes.
    for root in roots.into_iter().chain(processes) {
        let mut stack = vec![(root, String::new(), String::new())];
        while let Some((process, branch, below)) = stack.pop() {
            if !seen.insert(process.pid) {
                continue;
            }
            rows.push((branch, process));
            let mut last = true;
            for child in children.get(&process.pid).into_iter().flatten().rev() {
                let (branch, under) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                last = false;
                let flat = below.chars().count() >= 3 * DEPTH_MAX;
                let under = if flat { below.clone() } else { format!("{below}{under}") };
                stack.push((child, format!("{below}{branch}"), under));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ppid: u32) -> ProcessJson<'static> {
        ProcessJson { pid, ppid, ..ProcessJson::default() }
    }

    fn drawn(processes: &[ProcessJson<'_>]) -> Vec<String> {
        tree(processes).iter().map(|(branch, process)| format!("{branch}{}", process.pid)).collect()
    }

    #[test]
    fn children_are_below_their_parents() {
        let processes = [process(1, 0), process(2, 1), process(3, 1), process(4, 2), process(9, 7)];
        assert_eq!(drawn(&processes), ["1", "├─ 2", "│  └─ 4", "└─ 3", "9"]);
    }

    #[test]
    fn a_circle_is_shown_once_and_ends() {
        let processes = [process(1, 1), process(2, 3), process(3, 2)];
        assert_eq!(drawn(&processes), ["1", "2", "└─ 3"]);
    }

    #[test]
    fn the_width_of_deep_trees_is_bounded() {
        let processes: Vec<_> = (1..=5_000).map(|pid| process(pid, pid - 1)).collect();
        let rows = tree(&processes);
        assert_eq!(rows.len(), 5_000);
        assert!(rows.iter().all(|(branch, _)| branch.chars().count() <= 3 * DEPTH_MAX + 3));
    }
}
