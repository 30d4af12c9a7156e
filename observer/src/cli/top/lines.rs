//! Answers as lines: the processes of a session as a tree, and entries of its history.

use std::collections::{HashMap, HashSet};

use super::event::{EventLine, LastDeath};
use crate::api::death::DeathJson;
use crate::api::process::ProcessJson;
use crate::api::restarts::RestartsJson;
use crate::api::words::{EntryKind, SessionEndReason};
use crate::cli::history::shown::{Shown, local_time};
use crate::cli::ps::{command, tree};
use crate::text::bytes::to_one_line;
use serde::Deserialize;

/// Processes of a session that are shown.
const TREE_LINES_MAX: usize = 200;

/// The process `pid` and what was born below it, as a tree. What has another parent by now stands at its end.
pub(super) fn tree_lines(processes: Vec<ProcessJson<'_>>, pid: u32) -> Vec<String> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in &processes {
        let above = process.ancestor_pid.unwrap_or(process.ppid);
        children.entry(above).or_default().push(process.pid);
    }
    let (mut family, mut pending) = (HashSet::new(), vec![pid]);
    while let Some(next) = pending.pop() {
        if family.insert(next) {
            pending.extend(children.remove(&next).unwrap_or_default());
        }
    }
    let family: Vec<_> = processes.into_iter().filter(|process| family.contains(&process.pid)).collect();
    let rows = tree(&family);
    let line = |(branch, process): &(String, &ProcessJson<'_>)| {
        format!("{branch}{} {}", process.pid, command(process))
    };
    // The primary's own tree comes first, whatever the order of the pids.
    let is_root = |(branch, _): &(String, &ProcessJson<'_>)| branch.is_empty();
    let begin = rows.iter().position(|(_, process)| process.pid == pid).unwrap_or(0);
    let (before, own) = rows.split_at(begin);
    let end = own.iter().skip(1).position(is_root).map_or(own.len(), |at| at + 1);
    let (own, after) = own.split_at(end);
    let mut lines: Vec<String> = own.iter().chain(before).chain(after).map(line).collect();
    if lines.is_empty() {
        lines.push(format!("pid {pid} has ended"));
    }
    if lines.len() > TREE_LINES_MAX {
        let more = lines.len() - TREE_LINES_MAX;
        lines.truncate(TREE_LINES_MAX);
        lines.push(format!("and {more} more: see `observer ps {pid}`"));
    }
    lines
}

/// An entry of this kind as a line.
pub(super) fn event_line(at_unix_ns: i64, kind: &EntryKind, pid: Option<u32>, detail: &str) -> EventLine {
    // Another version may have written it.
    let shown: Shown<'_> = serde_json::from_str(detail).unwrap_or_default();
    let (event, how) = shown.words(kind, pid);
    let is_bad = matches!(kind, EntryKind::SessionEnded | EntryKind::ProcessEnded | EntryKind::Gap);
    EventLine {
        when: local_time(at_unix_ns).get(..19).unwrap_or_default().into(),
        event: to_one_line(event).into_owned(),
        how: to_one_line(&how).into_owned(),
        is_bad,
    }
}

/// The death that an entry has; `None`: it has none.
pub(super) fn last_death(pid: u32, detail: &str) -> Option<LastDeath> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Ended<'a> {
        at: String,
        death: Option<DeathJson<'a>>,
        end_reason: Option<SessionEndReason>,
        restarts: Option<RestartsJson<'a>>,
    }
    let ended: Ended<'_> = serde_json::from_str(detail).ok()?;
    let of_restarts = ended.restarts.and_then(|restarts| restarts.last_death);
    let death = ended.death.or(of_restarts);
    let at = death.as_ref().map_or(ended.at, |death| death.at.clone());
    let cause =
        DeathJson::describe_end(death.map(|death| death.describe_in_full(Some(pid))), ended.end_reason);
    (!cause.is_empty()).then(|| LastDeath { at, cause: to_one_line(&cause).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ppid: u32, ancestor: Option<u32>) -> ProcessJson<'static> {
        let comm = crate::text::bytes::Text::from(&b"a\x1bb"[..]);
        ProcessJson { pid, ppid, ancestor_pid: ancestor, comm, ..ProcessJson::default() }
    }

    #[test]
    fn the_tree_of_a_session_has_what_was_born_in_it() {
        let processes = vec![
            process(1, 0, None),
            process(3, 1, Some(7)),
            process(7, 1, Some(1)),
            process(8, 7, Some(7)),
            process(9, 8, Some(8)),
            process(10, 1, Some(1)),
        ];
        let lines = tree_lines(processes, 7);
        assert_eq!(lines, [r"7 [a\x1bb]", r"└─ 8 [a\x1bb]", r"   └─ 9 [a\x1bb]", r"3 [a\x1bb]"]);
        assert_eq!(tree_lines(vec![process(1, 0, None)], 7), ["pid 7 has ended"]);
    }

    #[test]
    fn a_large_tree_is_cut_and_says_so() {
        let processes = (1..=500).map(|pid| process(pid, pid - 1, None)).collect();
        let lines = tree_lines(processes, 1);
        assert_eq!(lines.len(), TREE_LINES_MAX + 1);
        assert_eq!(lines.last().unwrap(), "and 300 more: see `observer ps 1`");
    }

    #[test]
    fn an_entry_is_a_harmless_line_and_may_have_a_death() {
        let detail = r#"{"at":"2026-11-21T08:00:00.000Z","end_reason":"died","death":{"kind":"signaled","signal":9,
            "signal_name":"SIGKILL","at":"2026-11-21T08:00:00.000Z","sender":{"pid":8,"comm":"\u001b[2J","kind":"user"}}}"#;
        let line = event_line(1_795_248_000_000_000_000, &EntryKind::SessionEnded, Some(7), detail);
        assert_eq!((line.event.as_str(), line.how.as_str()), ("ended", r"SIGKILL by \x1b[2J (8)"));
        assert!(line.is_bad && line.when.len() == 19, "{line:?}");
        let death = last_death(7, detail).unwrap();
        assert_eq!(
            (death.at.as_str(), death.cause.as_str()),
            ("2026-11-21T08:00:00.000Z", r"SIGKILL by \x1b[2J (8)")
        );
        assert_eq!((last_death(7, "{}"), last_death(7, "no JSON")), (None, None));
        let strange = event_line(0, &EntryKind::from("new\x1bkind"), None, "[]");
        assert_eq!(strange.event, r"new\x1bkind");
    }
}
