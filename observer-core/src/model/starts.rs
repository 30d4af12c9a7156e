//! Counts the starts of the primaries of one home.

use alloc::vec::Vec;
use core::ops::Deref;

use crate::limits::{STARTING_NS, STARTS_MAX};
use crate::model::ids::BootTime;
use crate::model::process::Process;

/// When the primaries of one home started, oldest first, at most [`STARTS_MAX`] times. An exec of the primary
/// is a start too, unless it follows the last start by less than [`STARTING_NS`]: an interpreter or a launcher
/// that replaces itself by the program that it was called for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    times: Vec<BootTime>,
    /// `exec_id` of the image that the last start is of.
    exec_id: u32,
    /// The last start is the time of an observed exec.
    exec_known: bool,
    /// The image executed so soon after the last start that it belongs to that one, whose time stays.
    is_absorbed: bool,
}

impl Starts {
    /// Whether the last start is of another image than the one that `process` runs.
    pub(crate) fn misses_image_of(&self, process: &Process) -> bool {
        self.exec_id != process.exec_id
    }

    /// Counts the start of a process that becomes the primary.
    pub(crate) fn add_primary(&mut self, process: &Process) {
        self.push(process.exec_at.unwrap_or(process.key.start_boottime));
        self.set_image(process);
    }

    /// `process` becomes the primary for the one that was, and the last start is its start too.
    pub(crate) fn hand_over(&mut self, process: &Process) {
        self.set_image(process);
    }

    /// Counts the exec of the primary, if it has exec'd since its last start. `at` is the time of the exec
    /// where its record was not observed. A birth that was observed (`born`) and the first exec after it are
    /// one start, and so is an exec soon after another one.
    pub(crate) fn add_exec(&mut self, process: &Process, born: bool, at: BootTime) {
        let birth = Some(&process.key.start_boottime);
        if self.misses_image_of(process) {
            let at = process.exec_at.unwrap_or(at);
            if born && !self.exec_known && self.times.last() == birth {
                self.times.pop();
                self.push(at);
            } else if self.times.last().is_none_or(|&last| at.since(last) >= STARTING_NS) {
                self.push(at);
            } else {
                self.is_absorbed = true;
            }
        } else if let Some(exec_at) = process.exec_at.filter(|_| !self.exec_known && !self.is_absorbed) {
            self.times.pop();
            self.push(exec_at);
        }
        self.set_image(process);
    }

    /// Puts the starts that were known before the daemon was started again in front. They are known to
    /// `grain_ns`, so a start that is not later than the last of them by more than that is the same start.
    pub(crate) fn restore(&mut self, known: &[BootTime], grain_ns: u64) {
        let Some(&last) = known.last() else { return };
        self.times.retain(|start| start.since(last) > grain_ns);
        let all = known.iter().chain(&self.times).copied();
        let surplus = (known.len() + self.times.len()).saturating_sub(STARTS_MAX);
        self.times = all.skip(surplus).collect();
    }

    fn push(&mut self, at: BootTime) {
        if self.times.len() >= STARTS_MAX {
            self.times.remove(0);
        }
        self.times.push(at);
        self.is_absorbed = false;
    }

    fn set_image(&mut self, process: &Process) {
        self.exec_id = process.exec_id;
        self.exec_known = process.exec_at.is_some();
    }
}

/// The times, oldest first.
impl Deref for Starts {
    type Target = [BootTime];

    fn deref(&self) -> &[BootTime] {
        &self.times
    }
}

impl From<Vec<BootTime>> for Starts {
    /// Returns starts of which only the times are known.
    fn from(times: Vec<BootTime>) -> Self {
        Self { times, ..Self::default() }
    }
}
