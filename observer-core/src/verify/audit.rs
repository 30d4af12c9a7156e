//! Compares the live map with the rows of a pass, field by field, without changing the map.
//!
//! The rows are read while processes run, so a single difference proves nothing. The caller drains the ring,
//! runs a pass into an [`Audit`], drains the ring again, and repeats this. What is in both reports
//! ([`AuditReport::confirmed`]) with the same values is drift.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use crate::core::Core;
use crate::input::{TaskRow, join_path};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Bytes, DirId, Process};

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// The field has no value.
    None,
    /// A number: an id, an inode number or a flag.
    Number(u64),
    /// Bytes that processes choose: a path, a comm or the name of a terminal.
    Bytes(Bytes),
    /// Several numbers as text: the identity of a directory, a process key or user ids.
    Text(String),
}

/// A field that an audit compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditedField {
    /// The parent.
    Ppid,
    /// The POSIX session.
    Sid,
    /// The process group.
    Pgid,
    /// The controlling terminal.
    Tty,
    /// The id of the cgroup in the v2 hierarchy.
    CgroupId,
    /// The path of that cgroup.
    Cgroup,
    /// How often the process called exec, as the kernel counts.
    ExecId,
    /// The leader's comm.
    Comm,
    /// The user ids.
    Uid,
    /// The inode number of the mount namespace.
    MntNs,
    /// The identity of the working directory.
    CwdId,
    /// The path of the working directory.
    Cwd,
    /// Whether the working directory is deleted.
    CwdDeleted,
}

impl AuditedField {
    /// The name, in the kernel's words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ppid => "ppid",
            Self::Sid => "sid",
            Self::Pgid => "pgid",
            Self::Tty => "tty",
            Self::CgroupId => "cgroup_id",
            Self::Cgroup => "cgroup",
            Self::ExecId => "exec_id",
            Self::Comm => "comm",
            Self::Uid => "uid",
            Self::MntNs => "mnt_ns",
            Self::CwdId => "cwd_id",
            Self::Cwd => "cwd",
            Self::CwdDeleted => "cwd_deleted",
        }
    }
}

/// A field whose value in the map differs from the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The process.
    pub key: ProcessKey,
    /// The field.
    pub field: AuditedField,
    /// The value in the map.
    pub ours: FieldValue,
    /// The value in the kernel.
    pub kernel: FieldValue,
}

/// The result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// The number of processes that were compared.
    pub processes: usize,
    /// Those of them that were in the middle of an exec. What an exec sets was not compared of them: how often they called it,
    /// comm and user ids.
    pub executing: BTreeSet<ProcessKey>,
    /// The fields that differ.
    pub drift: Vec<Drift>,
    /// Processes that the kernel has and the map has not.
    pub missing: Vec<ProcessKey>,
    /// Processes that the map has and the kernel has not.
    pub surplus: Vec<ProcessKey>,
}

impl AuditReport {
    /// Returns whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.drift.is_empty() && self.missing.is_empty() && self.surplus.is_empty()
    }

    /// Reduces the differences in this report to what an earlier one found as well. What was not compared in either was not
    /// compared.
    #[must_use]
    pub fn confirmed(mut self, earlier: &Self) -> Self {
        self.executing.extend(&earlier.executing);
        self.drift.retain(|drift| earlier.drift.contains(drift));
        self.missing.retain(|key| earlier.missing.contains(key));
        self.surplus.retain(|key| earlier.surplus.contains(key));
        self
    }
}

/// An audit in progress.
#[derive(Debug, Default)]
pub struct Audit {
    began: BootTime,
    seen: BTreeSet<ProcessKey>,
    report: AuditReport,
}

impl Audit {
    /// Starts an audit. `began` is the boot time before the iterator was opened: younger processes may be
    /// absent from the pass.
    pub fn new(began: BootTime) -> Self {
        Self { began, ..Self::default() }
    }

    /// Compares one row of the pass with the map.
    pub fn row(&mut self, core: &Core, row: &TaskRow<'_>) {
        if row.dead.is_some() {
            return;
        }
        self.seen.insert(row.key);
        let Some(ours) = core.process_by_key(row.key) else {
            // A user-mode helper is not in the map before its exec.
            if !row.facts.no_mm || row.facts.leader_gone {
                self.report.missing.push(row.key);
            }
            return;
        };
        self.report.processes += 1;
        if row.executing {
            self.report.executing.insert(row.key);
        }
        self.compare(ours, row);
    }

    /// Returns the report. To be called after the last row of a complete pass.
    pub fn finish(mut self, core: &Core) -> AuditReport {
        for process in core.processes() {
            let old = process.key.start_boottime < self.began;
            if old && !core.has_open_death(process.key) && !self.seen.contains(&process.key) {
                self.report.surplus.push(process.key);
            }
        }
        self.report
    }

    fn compare(&mut self, ours: &Process, row: &TaskRow<'_>) {
        let facts = &row.facts;
        let key = row.key;
        let mut differ = |field, ours: FieldValue, kernel: FieldValue| {
            if ours != kernel {
                self.report.drift.push(Drift { key, field, ours, kernel });
            }
        };
        differ(AuditedField::Ppid, text(&ours.parent), text(&facts.parent));
        differ(AuditedField::Sid, number(ours.sid), number(facts.sid));
        differ(AuditedField::Pgid, number(ours.pgid), number(facts.pgid));
        differ(AuditedField::Tty, tty(ours.tty), tty(facts.tty));
        if facts.cgroup_id != 0 {
            differ(
                AuditedField::CgroupId,
                FieldValue::Number(ours.cgroup_id),
                FieldValue::Number(facts.cgroup_id),
            );
            differ(AuditedField::Cgroup, path(ours.cgroup.clone()), path(join_path(row.cgroup)));
        }
        // In the middle of an exec, the kernel has set part of what the exec's record will tell.
        if !facts.no_mm && !row.executing {
            differ(AuditedField::ExecId, number(ours.exec_id), number(facts.exec_id));
        }
        // Where the leader exited before its threads, the map keeps the leader's last values.
        if facts.leader_gone {
            return;
        }
        if !row.executing {
            differ(AuditedField::Comm, bytes(ours.comm.as_bytes()), bytes(facts.comm.as_bytes()));
            differ(AuditedField::Uid, text(&ours.uids), text(&facts.uids));
        }
        differ(AuditedField::MntNs, number(ours.cwd.mnt_ns), number(facts.mnt_ns));
        // The address of an inode is not shown, only whether it is another one.
        let other_object = u32::from(ours.cwd.id.object != facts.cwd.object);
        let id = |id: DirId, object| text(&DirId { object, ..id });
        differ(AuditedField::CwdId, id(ours.cwd.id, other_object), id(facts.cwd, 0));
        if facts.cwd != DirId::default() {
            differ(AuditedField::Cwd, path(ours.cwd.path.clone()), path(join_path(row.cwd_path)));
            let deleted = row.cwd_path.flags & observer_common::record::path_flag::DELETED != 0;
            differ(AuditedField::CwdDeleted, number(u32::from(ours.cwd.deleted)), number(u32::from(deleted)));
        }
    }
}

fn number(value: u32) -> FieldValue {
    FieldValue::Number(value.into())
}

fn text(value: &impl Debug) -> FieldValue {
    FieldValue::Text(format!("{value:?}"))
}

fn bytes(value: &[u8]) -> FieldValue {
    FieldValue::Bytes(Bytes::from(value))
}

fn path(value: Option<Bytes>) -> FieldValue {
    value.map_or(FieldValue::None, FieldValue::Bytes)
}

fn tty(value: Option<crate::model::process::Tty>) -> FieldValue {
    value.map_or(FieldValue::None, |tty| bytes(tty.shown().as_bytes()))
}
