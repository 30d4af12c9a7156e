//! Finds the right process through /proc alone.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use observer_harness::Truth;

/// Every process whose working directory this is.
pub(crate) fn processes_in(home: &Path) -> Vec<Truth> {
    all().filter(|process| process.cwd.as_deref() == Some(home.as_os_str().as_bytes())).collect()
}

fn all() -> impl Iterator<Item = Truth> {
    let entries = std::fs::read_dir("/proc").expect("list /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Truth::of).filter(|process| !process.dead)
}

/// The innermost of the processes in `home` that have this command line.
pub(crate) fn right_process(home: &Path, pattern: &str) -> Result<Truth, String> {
    let processes = processes_in(home);
    let is_match = |process: &&Truth| matches(pattern, &command_line(process));
    let is_innermost =
        |process: &&Truth| !processes.iter().any(|child| child.ppid == process.pid && is_match(&child));
    let mut found = processes.iter().filter(is_match).filter(is_innermost);
    match (found.next(), found.next()) {
        (Some(process), None) => Ok(process.clone()),
        _ => Err(format!("not exactly one `{pattern}` in the home, which has {}", shown(&processes))),
    }
}

/// The arguments of a process, with spaces between them.
pub(crate) fn command_line(process: &Truth) -> String {
    String::from_utf8_lossy(&process.argv.join(&b' ')).into_owned()
}

/// Processes for a person to read.
pub(crate) fn shown(processes: &[Truth]) -> String {
    let shown = |process: &Truth| format!("{} `{}`", process.pid, command_line(process));
    processes.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Whether the text has this pattern, in which `*` is anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.any(|at| matches(after, rest.split_at(at).1))
}

#[test]
fn a_pattern_matches_the_whole_command_line() {
    assert!(matches("*node --* */gemini", "/usr/bin/node --max-old-space-size=1 /usr/bin/gemini"));
    assert!(!matches("*node --* */gemini", "node /usr/bin/gemini"));
    assert!(matches("mc", "mc") && !matches("mc", "mcedit") && matches("a*", "a"));
}
