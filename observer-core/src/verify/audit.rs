//! The live map against the kernel's rows, field by field, without touching the map.
//!
//! Rows are read while the host goes on: a difference is a candidate, not a verdict. The caller drains the ring, runs
//! a pass into an [`Audit`], drains again, and runs the audit anew; what stands in both reports ([`Report::again`]) at
//! the same value is drift.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use crate::core::Core;
use crate::input::Row;
use crate::input::join_path;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Bytes, DirId, Process};

/// One value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is none.
    None,
    /// A number: ids, inode numbers, flags.
    Number(u64),
    /// Bytes that processes choose: paths, comm, a terminal's name.
    Bytes(Bytes),
    /// Several numbers, as text (directory identities, process keys, user ids).
    Text(String),
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub key: ProcessKey,
    /// Name of the field, the kernel's word.
    pub field: &'static str,
    /// In the map.
    pub ours: Value,
    /// In the kernel.
    pub kernel: Value,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Processes compared.
    pub processes: usize,
    /// Fields that differ.
    pub drift: Vec<Drift>,
    /// In the kernel, not in the map.
    pub missing: Vec<ProcessKey>,
    /// In the map, not in the kernel.
    pub surplus: Vec<ProcessKey>,
}

impl Report {
    /// Nothing differs.
    pub fn is_clean(&self) -> bool {
        self.drift.is_empty() && self.missing.is_empty() && self.surplus.is_empty()
    }

    /// What an earlier report had found and this one finds again.
    #[must_use]
    pub fn again(mut self, earlier: &Self) -> Self {
        self.drift.retain(|drift| earlier.drift.contains(drift));
        self.missing.retain(|key| earlier.missing.contains(key));
        self.surplus.retain(|key| earlier.surplus.contains(key));
        self
    }
}

/// A comparison in progress.
#[derive(Debug, Default)]
pub struct Audit {
    began: BootTime,
    seen: BTreeSet<ProcessKey>,
    report: Report,
}

impl Audit {
    /// `began`: read before the iterator was opened. Processes younger than that may be absent from it.
    pub fn new(began: BootTime) -> Self {
        Self { began, ..Self::default() }
    }

    /// Compares one row.
    pub fn row(&mut self, core: &Core, row: &Row<'_>) {
        if row.dead.is_some() {
            return;
        }
        self.seen.insert(row.key);
        let Some(ours) = core.process_by_key(row.key) else {
            // A user-mode helper before its exec is no process yet.
            if !row.facts.no_mm || row.facts.leader_gone {
                self.report.missing.push(row.key);
            }
            return;
        };
        self.report.processes += 1;
        self.compare(ours, row);
    }

    /// What was found; call after the last row of a complete pass.
    pub fn finish(mut self, core: &Core) -> Report {
        for process in core.processes() {
            let old = process.key.start_boottime < self.began;
            if old && !self.seen.contains(&process.key) {
                self.report.surplus.push(process.key);
            }
        }
        self.report
    }

    fn compare(&mut self, ours: &Process, row: &Row<'_>) {
        let facts = &row.facts;
        let key = row.key;
        let mut differ = |field, ours: Value, kernel: Value| {
            if ours != kernel {
                self.report.drift.push(Drift { key, field, ours, kernel });
            }
        };
        differ("ppid", text(&ours.parent), text(&facts.parent));
        differ("sid", number(ours.sid), number(facts.sid));
        differ("pgid", number(ours.pgid), number(facts.pgid));
        differ("tty", tty(ours.tty), tty(facts.tty));
        if facts.cgroup_id != 0 {
            differ("cgroup_id", Value::Number(ours.cgroup_id), Value::Number(facts.cgroup_id));
            differ("cgroup", path(ours.cgroup.clone()), path(join_path(row.cgroup)));
        }
        if !facts.no_mm {
            differ("exec_id", number(ours.exec_id), number(facts.exec_id));
        }
        // What lives in the leader is its last when it has left before its threads.
        if facts.leader_gone {
            return;
        }
        differ("comm", bytes(ours.comm.as_bytes()), bytes(facts.comm.as_bytes()));
        differ("uid", text(&ours.uids), text(&facts.uids));
        differ("mnt_ns", number(ours.cwd.mnt_ns), number(facts.mnt_ns));
        differ("cwd_id", text(&ours.cwd.id), text(&facts.cwd));
        if facts.cwd != DirId::default() {
            differ("cwd", path(ours.cwd.path.clone()), path(join_path(row.cwd_path)));
            let deleted = row.cwd_path.flags & observer_common::record::path_flag::DELETED != 0;
            differ("cwd_deleted", number(u32::from(ours.cwd.deleted)), number(u32::from(deleted)));
        }
    }
}

fn number(value: u32) -> Value {
    Value::Number(value.into())
}

fn text(value: &impl Debug) -> Value {
    Value::Text(format!("{value:?}"))
}

fn bytes(value: &[u8]) -> Value {
    Value::Bytes(Bytes::from(value))
}

fn path(value: Option<Bytes>) -> Value {
    value.map_or(Value::None, Value::Bytes)
}

fn tty(value: Option<crate::model::process::Tty>) -> Value {
    value.map_or(Value::None, |tty| bytes(tty.shown().as_bytes()))
}
