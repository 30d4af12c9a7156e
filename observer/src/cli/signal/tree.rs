//! The descendants of a session's primary.

use std::collections::{HashMap, HashSet};

use crate::api::process::ProcessJson;

/// One descendant.
#[derive(Clone, Copy, Debug)]
pub struct Descendant<'p, 'a> {
    /// The process.
    pub process: &'p ProcessJson<'a>,
    /// Whether it is the primary of another session, was started by one, or runs one, as a multiplexer does.
    pub in_other_session: bool,
}

/// The tree below one process, as answers have shown it so far. Who was once in it stays in it: where a process ends, the
/// next answer shows its children below its own parent.
pub struct ProcessTree {
    /// The key of the process at the top.
    root: String,
    /// The keys of its descendants.
    members: HashSet<String>,
    /// Those of other sessions.
    others: HashSet<String>,
    /// A descendant became the primary of a session in between.
    has_lost: bool,
}

impl ProcessTree {
    /// The tree below the process with the key `root`, of which nothing is known yet.
    pub fn new(root: &str) -> Self {
        Self { root: root.into(), members: HashSet::new(), others: HashSet::new(), has_lost: false }
    }

    /// Whether a descendant became the primary of a session in between, so that it and what is below it belong to that one.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// The descendants that are among `processes`, the deepest first. `primaries` are the keys of the primaries of all
    /// sessions.
    pub fn look<'p, 'a>(
        &mut self,
        processes: &'p [ProcessJson<'a>],
        primaries: &HashSet<String>,
    ) -> Vec<Descendant<'p, 'a>> {
        let mut by_age: Vec<&ProcessJson<'a>> = processes.iter().collect();
        by_age.sort_by_key(|it| it.start_boottime_ns.0);
        let known: HashMap<u32, &ProcessJson<'_>> = processes.iter().map(|it| (it.pid, it)).collect();
        // How far each is below the top, as far as what is between lives. Whoever is above another is older.
        let mut depths: HashMap<&str, usize> = HashMap::new();
        let mut found = Vec::new();
        for process in by_age {
            if process.key == self.root {
                continue;
            }
            let parent = above(process).and_then(|pid| known.get(&pid)).filter(|it| is_older(it, process));
            let parent_key = parent.map(|it| it.key.as_str());
            let depth = parent_key.and_then(|key| depths.get(key).copied());
            let is_below = depth.is_some() || parent_key == Some(&self.root);
            if !is_below && !self.members.contains(&process.key) {
                continue;
            }
            depths.insert(&process.key, depth.unwrap_or(0) + 1);
            let is_new = self.members.insert(process.key.clone());
            self.has_lost |=
                !is_new && primaries.contains(&process.key) && !self.others.contains(&process.key);
            if parent_key.is_some_and(|key| self.others.contains(key)) || primaries.contains(&process.key) {
                self.others.insert(process.key.clone());
            }
            found.push(process);
        }
        // A stable order: of the same depth, the youngest comes first.
        found.reverse();
        found.sort_by_key(|it| std::cmp::Reverse(depths.get(it.key.as_str()).copied()));
        let running = running(processes, &self.root, primaries);
        let in_other_session =
            |it: &ProcessJson<'_>| self.others.contains(&it.key) || running.contains(&it.key);
        found
            .into_iter()
            .map(|process| Descendant { process, in_other_session: in_other_session(process) })
            .collect()
    }
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
        let found = ProcessTree::new(root).look(processes, &HashSet::new());
        found.iter().map(|it| it.process.pid).collect()
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
        let found = ProcessTree::new("k10").look(&processes, &primaries);
        let of = |other| -> Vec<u32> {
            found.iter().filter(|it| it.in_other_session == other).map(|it| it.process.pid).collect()
        };
        assert_eq!((of(false), of(true)), (vec![15, 16], vec![14, 13, 12, 11]));
        // What runs it is known without the root, too.
        let keys = HashSet::from(["k11".into(), "k12".into()]);
        assert_eq!(running(&processes, "k10", &primaries), keys);
        assert_eq!(running(processes.get(1..).unwrap(), "k10", &primaries), keys);
    }

    #[test]
    fn who_was_in_the_tree_stays_in_it_when_those_above_end() {
        let all = [
            process(10, 1, Some(1), 10),
            process(11, 10, Some(10), 11),
            process(12, 11, Some(11), 12),
            process(13, 10, Some(10), 13), // another session
            process(14, 13, Some(13), 14),
        ];
        let primaries = HashSet::from(["k10".into(), "k13".into()]);
        let mut tree = ProcessTree::new("k10");
        assert_eq!(tree.look(&all, &primaries).len(), 4);
        // The top, a process between and the other session's primary have ended. One more was born.
        let later = [
            process(1, 0, None, 1),
            process(12, 1, Some(1), 12),
            process(14, 1, Some(1), 14),
            process(15, 12, Some(12), 15),
            process(16, 1, Some(1), 16),
        ];
        let found = tree.look(&later, &HashSet::new());
        let found: Vec<_> = found.iter().map(|it| (it.process.pid, it.in_other_session)).collect();
        assert_eq!(found, [(15, false), (14, true), (12, false)]);
    }
}
