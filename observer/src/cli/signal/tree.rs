//! The descendants of a session's primary.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::api::process::ProcessJson;

/// One descendant.
#[derive(Clone, Copy, Debug)]
pub struct Descendant<'p, 'a> {
    /// The process.
    pub process: &'p ProcessJson<'a>,
    /// Whether it is the primary of another session, was started by one, or runs one, as a multiplexer does.
    pub in_other_session: bool,
}

/// The descendants of the process with the key `root`, the deepest first; none where it is not among `processes`. `primaries`
/// are the keys of the primaries of all sessions.
pub fn descendants<'p, 'a>(
    processes: &'p [ProcessJson<'a>],
    root: &str,
    primaries: &HashSet<String>,
) -> Vec<Descendant<'p, 'a>> {
    let known: HashMap<u32, &ProcessJson<'_>> = processes.iter().map(|it| (it.pid, it)).collect();
    let mut children: HashMap<u32, Vec<&ProcessJson<'a>>> = HashMap::new();
    for process in processes {
        if let Some(above) = above(process).and_then(|pid| known.get(&pid))
            && is_older(above, process)
        {
            children.entry(above.pid).or_default().push(process);
        }
    }
    let Some(root) = processes.iter().find(|it| it.key == root) else { return Vec::new() };
    let mut parent_of = HashMap::new();
    let mut found = Vec::new();
    let mut pending = VecDeque::from([root]);
    // Whoever is above another is older, so there are no circles.
    while let Some(process) = pending.pop_front() {
        for &child in children.get(&process.pid).into_iter().flatten() {
            parent_of.insert(child.pid, process.pid);
            found.push(child);
            pending.push_back(child);
        }
    }
    let mut others = HashSet::new();
    for process in &found {
        let is_below = parent_of.get(&process.pid).is_some_and(|parent| others.contains(parent));
        if is_below || primaries.contains(&process.key) {
            others.insert(process.pid);
        }
    }
    let running = running(processes, &root.key, primaries);
    let in_other_session =
        |process: &ProcessJson<'_>| others.contains(&process.pid) || running.contains(&process.key);
    found
        .into_iter()
        .rev()
        .map(|process| Descendant { process, in_other_session: in_other_session(process) })
        .collect()
}

/// The keys of what runs sessions: the ancestors of each primary, up to the process with the key `root`. They are found also
/// where that one has ended.
pub fn running(processes: &[ProcessJson<'_>], root: &str, primaries: &HashSet<String>) -> HashSet<String> {
    let known: HashMap<u32, &ProcessJson<'_>> = processes.iter().map(|it| (it.pid, it)).collect();
    let mut running = HashSet::new();
    for primary in processes.iter().filter(|it| it.key != root && primaries.contains(&it.key)) {
        let mut at = primary;
        while let Some(&parent) = above(at).and_then(|pid| known.get(&pid))
            && is_older(parent, at)
            && parent.key != root
            && running.insert(parent.key.clone())
        {
            at = parent;
        }
    }
    running
}

/// The pid of the process that started it: the nearest ancestor by birth that lives, or the parent where that is not known.
fn above(process: &ProcessJson<'_>) -> Option<u32> {
    process.ancestor_pid.or(Some(process.ppid)).filter(|&pid| pid != process.pid)
}

/// Whether `above` started first. The parent of a process may have died, and its pid been given to another process, which
/// started later.
fn is_older(above: &ProcessJson<'_>, below: &ProcessJson<'_>) -> bool {
    above.start_boottime_ns.0 <= below.start_boottime_ns.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::bytes::Big;

    /// A process that started at `start`, was started by `ancestor_pid` and has the parent `ppid`.
    fn process(pid: u32, ppid: u32, ancestor_pid: Option<u32>, start: u64) -> ProcessJson<'static> {
        let start_boottime_ns = Big(start);
        ProcessJson {
            pid,
            ppid,
            ancestor_pid,
            start_boottime_ns,
            key: format!("k{pid}"),
            ..ProcessJson::default()
        }
    }

    fn pids(processes: &[ProcessJson<'_>], root: &str) -> Vec<u32> {
        descendants(processes, root, &HashSet::new()).iter().map(|it| it.process.pid).collect()
    }

    #[test]
    fn the_deepest_come_first() {
        let processes = [
            process(1, 0, None, 1),
            process(10, 1, Some(1), 10),
            process(11, 10, Some(10), 11),
            process(12, 11, Some(11), 12),
            process(13, 10, Some(10), 13),
            process(20, 1, Some(1), 20),
        ];
        assert_eq!(pids(&processes, "k10"), [12, 13, 11]);
        assert_eq!(pids(&processes, "k12"), [0; 0]);
        assert_eq!(pids(&processes, "k99"), [0; 0]);
    }

    #[test]
    fn a_process_whose_parent_died_is_still_one_of_them() {
        let processes = [process(1, 0, None, 1), process(10, 1, Some(1), 10), process(12, 1, Some(10), 12)];
        assert_eq!(pids(&processes, "k10"), [12]);
        // Of an answer without ancestors by birth, the parent counts.
        let processes = [process(10, 1, None, 10), process(11, 10, None, 11), process(12, 1, None, 12)];
        assert_eq!(pids(&processes, "k10"), [11]);
    }

    #[test]
    fn whoever_got_the_pid_of_a_dead_parent_has_not_its_children() {
        let processes = [process(10, 1, None, 50), process(11, 10, None, 20), process(12, 12, None, 60)];
        assert_eq!(pids(&processes, "k10"), [0; 0]);
    }

    #[test]
    fn other_sessions_and_what_runs_them_are_told_apart() {
        let processes = [
            process(10, 1, Some(1), 10),
            process(11, 1, Some(10), 11),  // a multiplexer
            process(12, 11, Some(11), 12), // its shell
            process(13, 12, Some(12), 13), // the session in it
            process(14, 13, Some(13), 14), // its helper
            process(15, 11, Some(11), 15), // another shell
            process(16, 10, Some(10), 16),
        ];
        let primaries = HashSet::from(["k10".into(), "k13".into()]);
        let found = descendants(&processes, "k10", &primaries);
        let of = |other| -> Vec<u32> {
            found.iter().filter(|it| it.in_other_session == other).map(|it| it.process.pid).collect()
        };
        assert_eq!((of(false), of(true)), (vec![15, 16], vec![14, 13, 12, 11]));
        // What runs it is known without the root, too.
        let keys = HashSet::from(["k11".into(), "k12".into()]);
        assert_eq!(running(&processes, "k10", &primaries), keys);
        assert_eq!(running(processes.get(1..).unwrap(), "k10", &primaries), keys);
    }
}
