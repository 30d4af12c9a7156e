//! The ring buffer between kernel and daemon, and the counters beside it: what is lost, what is left out, what is delayed.

use std::collections::VecDeque;

use observer_common::limits::CWD_LEFT_OUT_NS;
use observer_common::record::{HINT_COUNT, KIND_CWD, KIND_HINT, hint};
use observer_core::ProcessKey;

use crate::bytes::Bytes;

/// Records that the ring has room for. More than half of them is half full.
const RING_RECORDS: usize = 64;

/// How a record is treated while the ring fills up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// It is reserved as long as there is room.
    Vital,
    /// It is left out while the ring is more than half full, and a hint asks for its fields.
    Throttled,
    /// It is left out then, and nothing reads it again.
    Signal,
    /// It is left out then, and nothing depends on it.
    Refinement,
}

/// A record that has its timestamp and is not reserved yet: the program that makes it is preempted.
#[derive(Debug)]
struct DelayedRecord {
    bytes: Vec<u8>,
    /// Processes that do nothing before it is reserved: the one that runs the program, and the one it is about.
    waiting: [u32; 2],
}

/// What happens to the next record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Reserved,
    /// The program is skipped: the kernel counts it, and that count is read later.
    Skipped,
    /// Its user has sent too many.
    OverBudget,
    /// It is reserved later.
    Delayed,
    /// Its place is before that of the last record, whose program ran on another CPU.
    Overtakes,
}

/// The ring.
#[derive(Debug, Default)]
pub struct ModelRing {
    records: VecDeque<(Vec<u8>, [u32; 2])>,
    delayed: Vec<DelayedRecord>,
    pub(crate) fate: Fate,
    /// Records that could not be reserved.
    dropped: u64,
    /// Skipped programs, and how many of them the daemon has read of.
    skipped: u64,
    skipped_seen: u64,
    /// Hint bits that are raised.
    hints: u64,
    cwd_left_out_at: Option<u64>,
    /// The programs are not attached.
    pub(crate) is_detached: bool,
    /// Records that were made.
    pub made: u64,
    /// Records that were left out.
    pub left_out: u64,
}

impl ModelRing {
    fn is_half_full(&self) -> bool {
        self.records.len() > RING_RECORDS / 2
    }

    /// Whether execs tell their directory as well.
    pub(crate) fn tells_cwd_of_execs(&self, now: u64) -> bool {
        self.cwd_left_out_at.is_some_and(|at| now.saturating_sub(at) < CWD_LEFT_OUT_NS)
    }

    /// Sends a record of `kind` that a program makes at `at`. `waiting`: see [`DelayedRecord`].
    pub(crate) fn send(&mut self, kind: u32, priority: Priority, at: u64, waiting: [u32; 2], bytes: Vec<u8>) {
        if self.is_detached {
            return;
        }
        self.made += 1;
        let fate = std::mem::take(&mut self.fate);
        let is_throttled = priority != Priority::Vital && self.is_half_full();
        match fate {
            Fate::Skipped if priority != Priority::Refinement => {
                self.skipped += 1;
                return;
            }
            Fate::OverBudget if priority == Priority::Throttled && kind != KIND_HINT => {
                self.leave_out(kind, at);
                return self.raise(hint::THROTTLED, at);
            }
            Fate::OverBudget if priority == Priority::Signal => return self.leave_out(kind, at),
            _ if is_throttled => {
                if priority == Priority::Throttled {
                    self.hints |= hint::THROTTLED;
                }
                if priority != Priority::Refinement {
                    self.leave_out(kind, at);
                }
                return;
            }
            _ => {}
        }
        if self.records.len() >= RING_RECORDS {
            if priority != Priority::Refinement {
                self.dropped += 1;
            }
            return;
        }
        // Of one process, records come in order.
        let is_apart = |others: &[u32; 2]| waiting.iter().all(|one| *one == 0 || !others.contains(one));
        match (fate, self.records.back()) {
            (Fate::Delayed, _) => self.delayed.push(DelayedRecord { bytes, waiting }),
            (Fate::Overtakes, Some((_, others))) if is_apart(others) => {
                self.records.insert(self.records.len() - 1, (bytes, waiting));
            }
            _ => self.records.push_back((bytes, waiting)),
        }
    }

    fn leave_out(&mut self, kind: u32, at: u64) {
        self.left_out += 1;
        if kind == KIND_CWD {
            self.cwd_left_out_at = Some(at);
        }
    }

    /// Raises a hint.
    pub(crate) fn raise(&mut self, bit: u64, at: u64) {
        if self.hints & bit == 0 && !self.is_detached {
            self.hints |= bit;
            let record = Bytes::header(KIND_HINT, at, ProcessKey::new(0, 0), 0).u64(bit);
            self.send(KIND_HINT, Priority::Throttled, at, [0; 2], record.done());
        }
    }

    /// The process runs on: the programs that it is in end first.
    pub(crate) fn runs(&mut self, tgid: u32) {
        while let Some(at) = self.delayed.iter().position(|delayed| delayed.waiting.contains(&tgid)) {
            self.reserve_delayed(at);
        }
    }

    /// Programs end that were preempted.
    pub fn reserve_all(&mut self) {
        while !self.delayed.is_empty() {
            self.reserve_delayed(0);
        }
    }

    fn reserve_delayed(&mut self, at: usize) {
        let delayed = self.delayed.remove(at);
        if self.records.len() >= RING_RECORDS {
            self.dropped += 1;
        } else {
            self.records.push_back((delayed.bytes, delayed.waiting));
        }
    }

    /// Takes the first record.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.records.pop_front().map(|(bytes, _)| bytes)
    }

    /// Returns the number of records in it.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether it has none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the hint bits that are raised.
    pub fn hints(&self) -> u64 {
        self.hints
    }

    /// Clears hint bits.
    pub fn clear_hints(&mut self, bits: u64) {
        self.hints &= !bits;
    }

    /// Reads how many programs were skipped.
    pub fn read_skipped(&mut self) {
        self.skipped_seen = self.skipped;
    }

    /// Returns the count of lost records as the daemon knows it.
    pub fn drops_total(&self) -> u64 {
        self.dropped + self.skipped_seen
    }

    /// Returns the count of lost records.
    pub fn lost(&self) -> u64 {
        self.dropped + self.skipped
    }

    /// Nobody has the programs attached any more: what is in the ring is lost with it.
    pub fn detach(&mut self) {
        let (made, left_out) = (self.made, self.left_out);
        *self = Self { made, left_out, is_detached: true, ..Self::default() };
    }

    /// The programs are attached again, with another ring.
    pub fn attach(&mut self) {
        self.is_detached = false;
    }
}

const _: () = assert!(HINT_COUNT < 64);
