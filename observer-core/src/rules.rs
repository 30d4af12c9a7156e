//! Rules against processes: which one admits, and to which home. First match wins.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::NAME_MAX;
use crate::model::process::{Bytes, Process, WorkingDirectory};
use crate::session::{Home, HomeRule, Pattern, Rule, TtyRule};

/// A rule that admits a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission<'a> {
    /// Its index.
    pub rule: usize,
    /// The process is one of its wrappers.
    pub wrapper: bool,
    /// Path of the home.
    pub home: &'a Bytes,
    /// Bytes of that path which are the home: a prefix cut at a component.
    pub len: usize,
}

fn any(patterns: &[alloc::boxed::Box<dyn Pattern>], bytes: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(bytes))
}

/// Everything that a rule asks but for the home. `Some(true)`: admitted as a wrapper. A wrapper need not have the
/// comm or the executable of what it wraps.
pub(crate) fn admits(rule: &Rule, process: &Process) -> Option<bool> {
    let tty = match (&rule.tty, &process.tty) {
        (TtyRule::Any, _) | (TtyRule::None, None) => true,
        (TtyRule::Matches(pattern), Some(tty)) => pattern.is_match(tty.shown().as_bytes()),
        (TtyRule::None, Some(_)) | (TtyRule::Matches(_), None) => false,
    };
    if tty { admits_without_tty(rule, process) } else { None }
}

/// The same, but for the terminal as well.
pub(crate) fn admits_without_tty(rule: &Rule, process: &Process) -> Option<bool> {
    if rule.uid.is_some_and(|uid| uid != process.uids.uid) {
        return None;
    }
    let comm = process.comm.as_bytes();
    if any(&rule.not_comm, comm) {
        return None;
    }
    if let Some(pattern) = &rule.cgroup
        && !process.cgroup.as_ref().is_some_and(|path| pattern.is_match(path))
    {
        return None;
    }
    let wrapper = any(&rule.wrappers, comm);
    if wrapper {
        return Some(true);
    }
    let comm = rule.comm.is_empty() || any(&rule.comm, comm);
    let exe = rule
        .exe
        .as_ref()
        .is_none_or(|pattern| process.exe.as_ref().is_some_and(|path| pattern.is_match(path)));
    (comm && exe).then_some(false)
}

/// How many bytes of `path` are the home that `rule` finds in it.
pub(crate) fn home_len(rule: &HomeRule, path: &[u8]) -> Option<usize> {
    let pattern = match rule {
        HomeRule::Cwd => return Some(path.len()),
        HomeRule::Prefix(pattern) => pattern,
    };
    let cuts = path.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    let root = (path.len() > 1).then_some(1);
    root.into_iter()
        .chain(cuts)
        .chain([path.len()])
        .find(|&len| path.get(..len).is_some_and(|prefix| pattern.is_match(prefix)))
}

/// A path that may name a new home: whole, and the directory is there.
pub(crate) fn whole(cwd: &WorkingDirectory) -> Option<&Bytes> {
    if cwd.deleted || cwd.truncated || cwd.unreachable || cwd.leader_gone {
        return None;
    }
    cwd.path.as_ref()
}

/// The rules that admit `process`, in their order, each with its home. The first decides, unless the home's
/// owner says no.
pub(crate) fn admissions<'a>(rules: &'a [Rule], process: &'a Process) -> impl Iterator<Item = Admission<'a>> {
    let path = whole(&process.cwd);
    rules.iter().enumerate().filter_map(move |(index, rule)| {
        let home = path?;
        let wrapper = admits(rule, process)?;
        Some(Admission { rule: index, wrapper, home, len: home_len(&rule.home, home)? })
    })
}

impl Admission<'_> {
    /// The home; shares the path where the home is the whole of it.
    pub fn home(&self, host_mnt_ns: u32, mnt_ns: u32) -> Home {
        let whole = self.len == self.home.len();
        let path = if whole {
            Arc::clone(self.home)
        } else {
            Bytes::from(self.home.get(..self.len).unwrap_or_default())
        };
        Home { mnt_ns: namespace(host_mnt_ns, mnt_ns), path }
    }
}

/// The mount namespace as a home names it: none for the host's own and for one that could not be read.
pub(crate) fn namespace(host_mnt_ns: u32, mnt_ns: u32) -> Option<u32> {
    (mnt_ns != 0 && host_mnt_ns != 0 && mnt_ns != host_mnt_ns).then_some(mnt_ns)
}

/// The name that `template` gives to a home.
pub(crate) fn name(template: &str, home: &[u8]) -> Bytes {
    let base = match home.rsplit(|&byte| byte == b'/').next() {
        Some(b"") | None => home,
        Some(base) => base,
    };
    let mut name = Vec::with_capacity(template.len() + base.len());
    let mut rest = template;
    loop {
        let next = [("{basename}", base), ("{home}", home)]
            .into_iter()
            .filter_map(|(key, value)| rest.find(key).map(|at| (at, key, value)))
            .min_by_key(|&(at, ..)| at);
        let Some((at, key, value)) = next else { break };
        name.extend_from_slice(rest.get(..at).unwrap_or_default().as_bytes());
        name.extend_from_slice(value);
        rest = rest.get(at + key.len()..).unwrap_or_default();
    }
    name.extend_from_slice(rest.as_bytes());
    name.truncate(NAME_MAX);
    Bytes::from(name)
}
