//! `observer ps`

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use clap::Args;

use super::exit::{Exit, Failure};
use super::flags::BtfFlag;
use super::once::StandaloneMap;
use super::term;
use crate::api::answer::ProcessesAnswer;
use crate::api::process::ProcessJson;
use crate::clock;
use crate::daemon::answers;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::socket::hub::{FrameScope, WatchFilter};
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
    /// Only this process with its ancestors and descendants; or those whose program or comm matches, or with a `/` in it,
    /// whose directory does
    #[arg(value_name = "PID|GLOB")]
    selection: Option<String>,
    /// JSON: an array of processes (docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    btf: BtfFlag,
}

impl PsArgs {
    /// 0 some, 1 certainly none, 2 wrong usage, 4 not certain.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        // A glob that cannot be compiled is said before anything is asked.
        let selection = self.selection.as_deref().map(Selection::new).transpose()?;
        match Client::connect(socket) {
            Ok(mut client) => {
                let line = client.ask(&ClientRequest::Processes {})?;
                self.show(selection.as_ref(), decode(&line)?)
            }
            Err(ClientError::NoDaemon(_)) => {
                let map = StandaloneMap::take(None, self.btf.btf.as_deref())?;
                if !self.json {
                    anstream::eprintln!(
                        "observer: no daemon on {}: this is one look at the kernel",
                        socket.display()
                    );
                }
                self.show(selection.as_ref(), answers::processes(&map.core, map.answer_time()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn show(&self, selection: Option<&Selection>, mut answer: ProcessesAnswer<'_>) -> anyhow::Result<Exit> {
        if let Some(selection) = selection {
            selection.apply(&mut answer.processes);
        }
        if self.json {
            term::print_json(&answer.processes)?;
        } else {
            term::print_table(&table(&answer.processes))?;
        }
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: not certain: events were lost and the kernel is read again; ask again in a second (`observer status` says more)"
            );
            return Ok(Exit::Unknown);
        }
        if answer.processes.is_empty() {
            anstream::eprintln!("observer: no process matches: `observer ps` shows those there are");
            return Ok(Exit::None);
        }
        Ok(Exit::Found)
    }
}

/// Which processes are shown.
enum Selection {
    /// This one, its ancestors and its descendants.
    Family(u32),
    /// Those that match.
    Matching(WatchFilter),
}

impl Selection {
    fn new(text: &str) -> Result<Self, Failure> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Family(pid));
        }
        let filter = WatchFilter::new(true, Some(text));
        filter.map(Self::Matching).map_err(|message| Failure { exit: Exit::Usage, message })
    }

    fn apply(&self, processes: &mut Vec<ProcessJson<'_>>) {
        match self {
            Self::Family(pid) => {
                let family = family(processes, *pid);
                processes.retain(|process| family.contains(&process.pid));
            }
            Self::Matching(filter) => processes.retain(|process| {
                [process.shown_program(), &process.comm].into_iter().any(|name| {
                    let cwd = process.cwd.as_ref().map(Text::as_bytes);
                    filter.wants(FrameScope::Process { in_session: false, comm: name.as_bytes(), cwd })
                })
            }),
        }
    }
}

/// The pids of a process, its ancestors and its descendants; none if it is not there.
fn family(processes: &[ProcessJson<'_>], pid: u32) -> HashSet<u32> {
    let parents: HashMap<u32, u32> = processes.iter().map(|process| (process.pid, process.ppid)).collect();
    let mut family = HashSet::new();
    let mut at = pid;
    while let Some(&parent) = parents.get(&at).filter(|_| family.insert(at)) {
        at = parent;
    }
    family.retain(|pid| parents.contains_key(pid));
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (&child, &parent) in &parents {
        children.entry(parent).or_default().push(child);
    }
    let mut pending = children.remove(&pid).filter(|_| family.contains(&pid)).unwrap_or_default();
    while let Some(below) = pending.pop() {
        if family.insert(below) {
            pending.extend(children.remove(&below).unwrap_or_default());
        }
    }
    family
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

/// The arguments as one line, with a mark where there are more than this user sees; comm where they are not known.
pub(super) fn command(process: &ProcessJson<'_>) -> String {
    match process.argv.as_deref() {
        Some(argv @ [_, ..]) => {
            let words = argv.iter().map(|word: &Text<'_>| to_line(word.as_bytes()));
            let more = process.argv_truncated.then_some("…".into());
            words.chain(more).collect::<Vec<_>>().join(" ")
        }
        _ => format!("[{}]", to_line(process.comm.as_bytes())),
    }
}

/// Every process once, children below their parents, each with the drawing that precedes it. A process whose parent is missing is a
/// root. Fields that were read at different times can form a circle; one of its processes is then a root.
pub(super) fn tree<'p, 'a>(processes: &'p [ProcessJson<'a>]) -> Vec<(String, &'p ProcessJson<'a>)> {
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
    let mut seen = HashSet::new();
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
    fn arguments_that_are_not_shown_are_marked() {
        let argv = ["a", "b\n"].map(|word| Text::from(word.as_bytes())).to_vec();
        let whole = ProcessJson { argv: Some(argv), ..process(1, 0) };
        assert_eq!(command(&whole), "a b\\n");
        let mut hidden = whole;
        hidden.hide_arguments();
        assert_eq!(command(&hidden), "a …");
    }

    #[test]
    fn a_pid_selects_its_ancestors_and_descendants() -> Result<(), Failure> {
        let all =
            || vec![process(1, 0), process(2, 1), process(3, 1), process(4, 2), process(5, 4), process(6, 3)];
        let selected = |text: &str| -> Result<Vec<u32>, Failure> {
            let mut processes = all();
            Selection::new(text)?.apply(&mut processes);
            Ok(processes.iter().map(|process| process.pid).collect())
        };
        assert_eq!(selected("2")?, [1, 2, 4, 5]);
        assert_eq!(selected("6")?, [1, 3, 6]);
        assert_eq!(selected("99")?, [0; 0]);
        assert_eq!(selected("no*")?, [0; 0]);
        assert!(Selection::new("{").is_err_and(|failure| failure.exit == Exit::Usage));
        let circle = [process(2, 3), process(3, 2)];
        assert_eq!(family(&circle, 2), HashSet::from([2, 3]));
        Ok(())
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
