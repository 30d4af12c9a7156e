//! When passes are asked for, what a pass in progress has shown, and the gap that it closes. Which processes it
//! corrects is `resync`'s.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::limits::{PASS_INTERVAL_NS, SUSPECTS_MAX};
use crate::model::change::{Request, Sink};
use crate::model::ids::{BootTime, ProcessKey};
use crate::processes::fields::Diff;

/// A time in which records were lost, not healed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub from: BootTime,
    /// Records lost before it.
    pub lost_before: u64,
    /// What passes corrected in it.
    pub corrected: u64,
}

/// A pass between its begin and its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenPass {
    pub at: BootTime,
    pub drops_total: u64,
}

/// A request that no pass has answered.
#[derive(Clone, Copy, Debug)]
struct Pending {
    not_before: BootTime,
    hints: u64,
}

/// A difference that a pass found and no record has explained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect {
    pub due: BootTime,
    pub fields: Diff,
}

/// State of passes and of the gap.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    /// Number of the pass in progress or the last one; 0 before the first.
    pub serial: u32,
    pub open: Option<OpenPass>,
    pending: Option<Pending>,
    pub last_begin: BootTime,
    /// Fields that hints raised since the last pass explain.
    pub hinted: Diff,
    /// A pass was complete: the map is the host's.
    pub first_done: bool,
    pub gap: Option<Gap>,
    /// The latest known count of lost records.
    pub drops_total: u64,
    /// When that count was last known not to have risen.
    pub calm_at: BootTime,
    /// `drops_total` at the begin of the last complete pass.
    pub healed_to: Option<u64>,
    /// Absent from the last complete pass.
    pub absent: Vec<ProcessKey>,
    /// When those that are still absent want a second pass.
    pub absent_due: Option<BootTime>,
    /// Dead processes that rows still name as parent, and the passes that did.
    pub dead_parents: BTreeMap<ProcessKey, u8>,
    /// Processes of which a record came before their birth: what it told was not kept, so the next pass may find it.
    pub unheard: BTreeSet<ProcessKey>,
    pub suspects: BTreeMap<ProcessKey, Suspect>,
    /// Moments at which suspects are due, all at or after this one.
    pub suspects_due: Option<BootTime>,
    pub suspects_dropped: u64,
}

impl Passes {
    /// Asks for a pass because of hints or fields to be read again: soon, and not twice.
    pub fn want(&mut self, now: BootTime, hints: u64, sink: &mut dyn Sink) {
        let soonest = self.last_begin.after(PASS_INTERVAL_NS);
        let soonest = if self.serial == 0 { now } else { now.max(soonest) };
        self.ask(soonest, hints, sink);
    }

    /// Asks for a pass at once: records were lost, or an absence waits for its proof.
    pub fn want_at_once(&mut self, now: BootTime, sink: &mut dyn Sink) {
        self.ask(now, 0, sink);
    }

    /// Asks for a pass no sooner than `not_before`. A request that is still unanswered is repeated only to make it
    /// sooner or to add hints.
    pub fn ask(&mut self, not_before: BootTime, hints: u64, sink: &mut dyn Sink) {
        let asked = match self.pending {
            Some(pending) if pending.not_before <= not_before && pending.hints & hints == hints => return,
            Some(pending) => {
                Pending { not_before: pending.not_before.min(not_before), hints: pending.hints | hints }
            }
            None => Pending { not_before, hints },
        };
        self.pending = Some(asked);
        sink.request(Request::Pass { not_before: asked.not_before, hints: asked.hints });
    }

    /// A pass begins: it answers whatever was asked before.
    pub fn begin(&mut self, at: BootTime, drops_total: u64) {
        self.serial = self.serial.wrapping_add(1).max(1);
        self.open = Some(OpenPass { at, drops_total });
        self.pending = None;
        self.last_begin = at;
    }

    /// A difference that only a missed record explains; true if there is no room to wait for it.
    pub fn suspect(&mut self, key: ProcessKey, fields: Diff, due: BootTime) -> bool {
        if fields.none() {
            return false;
        }
        if self.suspects.len() >= SUSPECTS_MAX && !self.suspects.contains_key(&key) {
            self.suspects_dropped += 1;
            return true;
        }
        let suspect = self.suspects.entry(key).or_insert(Suspect { due, fields });
        suspect.fields |= fields;
        suspect.due = suspect.due.max(due);
        self.suspects_due = Some(self.suspects_due.map_or(due, |soonest| soonest.min(due)));
        false
    }

    /// A record of this process was not kept.
    pub fn not_kept(&mut self, key: ProcessKey) {
        if self.unheard.len() < SUSPECTS_MAX {
            self.unheard.insert(key);
        }
    }

    /// A record explains these fields of a process.
    pub fn explained(&mut self, key: ProcessKey, fields: Diff) {
        if self.suspects.is_empty() {
            return;
        }
        if let Some(suspect) = self.suspects.get_mut(&key) {
            suspect.fields = suspect.fields.without(fields);
            if suspect.fields.none() {
                self.suspects.remove(&key);
            }
        }
    }

    /// A hint explains these fields of any process.
    pub fn all_explained(&mut self, fields: Diff) {
        self.suspects.retain(|_, suspect| {
            suspect.fields = suspect.fields.without(fields);
            !suspect.fields.none()
        });
    }

    /// Suspects that nothing has explained in time; how many differences.
    pub fn settle(&mut self, now: BootTime) -> u64 {
        if self.suspects_due.is_none_or(|due| due > now) {
            return 0;
        }
        let mut drift = 0;
        let mut soonest = None;
        self.suspects.retain(|_, suspect| {
            let wait = suspect.due > now;
            if wait {
                soonest = Some(soonest.map_or(suspect.due, |at: BootTime| at.min(suspect.due)));
            } else {
                drift += u64::from(suspect.fields.count());
            }
            wait
        });
        self.suspects_due = soonest;
        drift
    }

    /// When a tick is due.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let suspects = self.suspects_due.filter(|_| !self.suspects.is_empty());
        [self.absent_due, suspects].into_iter().flatten().min()
    }
}
