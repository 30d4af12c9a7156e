//! What the program may open: the list in `tests/checks/allowed-opens.txt`, and the source held against it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use observer_harness::workspace::Workspace;

use crate::source::Crate;

/// Path of the list in the workspace.
const LIST: &str = "tests/checks/allowed-opens.txt";

/// The list.
pub(crate) struct Allowed {
    patterns: Vec<String>,
}

/// What placeholders of the list stand for in one run.
pub(crate) struct Places {
    /// `{run}`: the directory with socket, state and configuration.
    pub(crate) run: PathBuf,
    /// `{home}`: the directory below which the configuration's homes are.
    pub(crate) homes: PathBuf,
}

impl Allowed {
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join(LIST);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let pattern = line.split('#').next().unwrap_or_default().trim();
            if pattern.is_empty() {
                continue;
            }
            if is_process_state(&pattern.replace('*', "1")) {
                bail!("line {}: {pattern} admits the state of processes in /proc; name the files", index + 1);
            }
            if !pattern.starts_with(['/', '{']) {
                bail!("line {}: {pattern} is not an absolute path", index + 1);
            }
            patterns.push(pattern.to_owned());
        }
        if patterns.is_empty() {
            bail!("the list is empty");
        }
        Ok(Self { patterns })
    }

    /// Whether the running program may name `path`.
    pub(crate) fn admits(&self, path: &str, places: &Places) -> bool {
        let path = normal(path);
        !is_process_state(&path)
            && self.patterns.iter().any(|pattern| match pattern.as_str() {
                "{home}" => Path::new(&path).starts_with(&places.homes) || places.homes.starts_with(&path),
                "{run}" => Path::new(&path).starts_with(&places.run),
                pattern => matches(pattern, &path),
            })
    }

    /// Whether a path in the source stands on the list; what is formatted into it counts as any component.
    fn names(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, path))
    }
}

/// Whether `path` is of a process, by number or by one of the names for the caller's own threads: what the kernel
/// publishes about its state, in place of which observer asks the kernel.
pub(crate) fn is_process_state(path: &str) -> bool {
    let mut components = path.split('/').filter(|component| !component.is_empty());
    if components.next() != Some("proc") {
        return false;
    }
    match components.next() {
        Some("thread-self") => true,
        Some("self") => components.next() == Some("task"),
        Some(first) => first.starts_with(|c: char| c.is_ascii_digit()),
        None => false,
    }
}

/// Without empty components, `.` and `..`: `/proc/self/../1/stat` is `/proc/1/stat`.
fn normal(path: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            other => components.push(other),
        }
    }
    format!("/{}", components.join("/"))
}

/// `*` stands for anything within one component, a last component `**` for anything below.
fn matches(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut found = path.split('/');
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some(wanted), Some(found)) if matches_component(wanted, found) => {}
            _ => return false,
        }
    }
}

fn matches_component(pattern: &str, component: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == component,
        Some((start, end)) => component.strip_prefix(start).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches_component(end, rest)))
        }),
    }
}

/// Literals that lead into /proc and are not on the list.
pub(crate) fn check_source(allowed: &Allowed, product: &[Crate]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in product.iter().flat_map(|krate| &krate.sources) {
        for (line, literal) in source.literals() {
            for path in proc_paths(&literal).into_iter().filter(|path| !allowed.names(path)) {
                findings.push(format!(
                    "{}:{line}: {path} is not in {LIST}; ask the kernel instead, or if this is no process's state, \
                     add it there",
                    source.path.display()
                ));
            }
        }
    }
    findings
}

/// Every path into /proc that a literal holds, also in the middle of a sentence. What is formatted into it
/// (`{fd}`) becomes `*`.
fn proc_paths(literal: &str) -> Vec<String> {
    literal
        .match_indices("/proc")
        .filter_map(|(at, _)| literal.get(at..))
        .map(|rest| {
            let mut path = String::new();
            let mut braces = 0u32;
            for c in rest.chars() {
                match c {
                    '{' => braces += 1,
                    '}' => {
                        braces = braces.saturating_sub(1);
                        path.push('*');
                    }
                    _ if braces > 0 => {}
                    c if c.is_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '*') => path.push(c),
                    _ => break,
                }
            }
            path.trim_end_matches('.').to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::source;

    fn admits(list: &str, path: &str) -> bool {
        let places = Places { run: "/tmp/r".into(), homes: "/tmp/h/homes".into() };
        Allowed::parse(list).is_ok_and(|allowed| allowed.admits(path, &places))
    }

    #[test]
    fn the_list_admits_what_it_names_and_nothing_beside() {
        assert!(admits("/etc/passwd # why", "/etc/passwd"));
        assert!(!admits("/etc/passwd", "/etc/passwd-"));
        assert!(admits("/lib/*/lib*.so.*", "/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!admits("/lib/*/lib*.so.*", "/lib/a/b/libc.so.6"), "* stays within a component");
        assert!(admits("/sys/kernel/tracing/**", "/sys/kernel/tracing/events/x/id"));
        assert!(!admits("/sys/kernel/tracing/**", "/sys/kernel/btf/vmlinux"));
    }

    #[test]
    fn placeholders_stand_for_the_places_of_the_run() {
        assert!(admits("{run}", "/tmp/r/observer.sock") && !admits("{run}", "/tmp/other"));
        assert!(
            admits("{home}", "/tmp/h/homes/a") && admits("{home}", "/tmp/h"),
            "realpath asks for ancestors"
        );
        assert!(!admits("{home}", "/tmp/h/other"));
    }

    #[test]
    fn no_list_can_admit_the_state_of_a_process() {
        let all = "/**";
        assert!(admits(all, "/anything"));
        for path in
            ["/proc/1/cwd", "/proc/4242", "//proc/./7/stat", "/proc/self/task/7/comm", "/proc/thread-self/x"]
        {
            assert!(!admits(all, path), "{path}");
        }
        assert!(!admits(all, "/proc/self/../1/cwd"));
        assert!(admits(all, "/proc/self/maps") && admits(all, "/proc/sys/kernel/random/boot_id"));
        assert!(Allowed::parse("/proc/*/cwd").is_err());
        assert!(Allowed::parse("/proc/1/cwd").is_err());
        assert!(Allowed::parse("# nothing").is_err());
    }

    #[test]
    fn a_literal_into_proc_is_found_however_it_is_written() -> Result<()> {
        let allowed = Allowed::parse("/proc/sys/kernel/random/boot_id")?;
        let text = "fn f() { read(\"/proc/sys/kernel/random/boot_id\");\nformat!(\"/proc/{pid}/cwd\");\nopen(c\"/proc\"); }";
        let found = check_source(&allowed, &[Crate { sources: vec![source("a.rs", text)] }]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|finding| finding.starts_with("a.rs:2: ")), "{found:?}");
        Ok(())
    }
}
