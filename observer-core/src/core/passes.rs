//! When passes are requested, what a pass in progress has shown, and the gap that it closes. Which processes
//! a pass corrects is decided in `resync`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::core::suspects::Suspects;
use crate::limits::{ENDING_PASSES_MAX, HANGING_PASS_NS, PASS_INTERVAL_NS, SUSPECTS_MAX};
use crate::model::change::{Request, Sink};
use crate::model::ids::{BootTime, ProcessKey};
use crate::processes::fields::Diff;

/// A time in which records were lost and that no pass has healed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenGap {
    pub from: BootTime,
    /// The count of lost records before it.
    pub lost_before: u64,
    /// Processes that passes corrected in it.
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
struct PendingPass {
    not_before: BootTime,
    hints: u64,
}

/// State of the passes and of the gap.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    /// Number of the pass in progress or of the last one; 0 before the first.
    pub serial: u32,
    pub open: Option<OpenPass>,
    pending: Option<PendingPass>,
    /// When the last pass began.
    pub last_begin: BootTime,
    /// Fields that the hints since the last pass explain.
    pub hinted: Diff,
    /// Those of them that came while the pass in progress read: its rows may be older.
    hinted_meanwhile: Diff,
    /// When the last complete pass began that read paths again because of a hint. A path that was read before it may be old.
    pub paths_read_since: BootTime,
    /// A pass was complete: the map holds every process of the host.
    pub first_done: bool,
    pub gap: Option<OpenGap>,
    /// Events do not come, so no gap closes.
    pub is_blind: bool,
    /// The latest known count of lost records.
    pub drops_total: u64,
    /// The latest moment at which that count was known not to have risen.
    pub lossless_until: BootTime,
    /// When the last gap was closed.
    pub last_loss: BootTime,
    /// `drops_total` at the begin of the last complete pass: losses up to there are healed.
    pub healed_drops: Option<u64>,
    /// Processes that the last complete pass did not show.
    pub absent: Vec<ProcessKey>,
    /// Processes that were shown as about to end while a gap is open, since the last pass began. Their exit records may be among
    /// those that were lost.
    pub ending: BTreeSet<ProcessKey>,
    /// Live ones among those of this and of former passes, each with the number of passes that showed it so.
    ending_passes: BTreeMap<ProcessKey, u8>,
    /// When a second pass is requested for those that are still absent.
    pub absent_due: Option<BootTime>,
    /// Dead processes that live ones still have as parent, each with the number of passes since.
    pub dead_parents: BTreeMap<ProcessKey, u8>,
    /// Processes of which a record came before their birth. It was not applied, so the next pass may find
    /// what it held.
    pub unapplied: BTreeSet<ProcessKey>,
    /// Those of them whose record came while the pass in progress read.
    unapplied_meanwhile: BTreeSet<ProcessKey>,
    pub suspects: Suspects,
}

impl Passes {
    /// Requests a pass because of hints or of fields to be read again: at most one in [`PASS_INTERVAL_NS`].
    pub fn request_soon(&mut self, now: BootTime, hints: u64, sink: &mut dyn Sink) {
        let soonest = self.last_begin.after(PASS_INTERVAL_NS);
        let soonest = if self.serial == 0 { now } else { now.max(soonest) };
        self.request(soonest, hints, sink);
    }

    /// Requests a pass at once: records were lost, or a second pass has to confirm an absence.
    pub fn request_now(&mut self, now: BootTime, sink: &mut dyn Sink) {
        self.request(now, 0, sink);
    }

    /// Requests a pass no sooner than `not_before`. A request that is still unanswered is repeated only to
    /// make it sooner or to add hints.
    pub fn request(&mut self, not_before: BootTime, hints: u64, sink: &mut dyn Sink) {
        let pass = match self.pending {
            Some(pending) if pending.not_before <= not_before && pending.hints & hints == hints => return,
            Some(pending) => {
                PendingPass { not_before: pending.not_before.min(not_before), hints: pending.hints | hints }
            }
            None => PendingPass { not_before, hints },
        };
        self.pending = Some(pass);
        sink.request(Request::Pass { not_before: pass.not_before, hints: pass.hints });
    }

    /// A pass begins. It answers every request made before.
    pub fn begin(&mut self, at: BootTime, drops_total: u64) {
        self.serial = self.serial.wrapping_add(1).max(1);
        self.open = Some(OpenPass { at, drops_total });
        self.pending = None;
        self.last_begin = at;
        self.ending.clear();
        self.hinted_meanwhile = Diff::default();
        self.unapplied_meanwhile.clear();
    }

    /// A process was shown as about to end while a gap is open. One that hangs in its exit keeps no gap open.
    pub fn note_ending(&mut self, key: ProcessKey) {
        if !self.is_hanging(key) {
            self.ending.insert(key);
        }
    }

    /// Whether more than [`ENDING_PASSES_MAX`] passes showed a process as about to end.
    pub fn is_hanging(&self, key: ProcessKey) -> bool {
        self.ending_passes.get(&key).is_some_and(|&passes| passes > ENDING_PASSES_MAX)
    }

    /// A pass ended: counts it for those that it showed as about to end, and forgets those that do not live. Requests another
    /// one where a process hangs in its exit: if its exit record is lost, nothing else tells when it is gone.
    pub fn count_ending(&mut self, now: BootTime, lives: impl Fn(ProcessKey) -> bool, sink: &mut dyn Sink) {
        for &key in &self.ending {
            let passes = self.ending_passes.entry(key).or_insert(0);
            *passes = passes.saturating_add(1);
        }
        self.ending_passes.retain(|&key, _| lives(key));
        if self.ending_passes.values().any(|&passes| passes > ENDING_PASSES_MAX) {
            self.request(now.after(HANGING_PASS_NS), 0, sink);
        }
    }

    /// A hint explains what the next passes find different in these fields.
    pub fn add_hinted(&mut self, fields: Diff) {
        self.hinted |= fields;
        if self.open.is_some() {
            self.hinted_meanwhile |= fields;
        }
    }

    /// Whether a hint, or a record that could not be applied, asks for a pass that reads everything again.
    pub fn has_reason_to_read_again(&self) -> bool {
        !self.hinted.is_empty() || !self.unapplied.is_empty()
    }

    /// A complete pass ended: it has read what was hinted and what could not be applied before it began.
    pub fn forget_read(&mut self) {
        if self.hinted.intersects(Diff::MOVED) {
            self.paths_read_since = self.last_begin;
        }
        self.hinted = core::mem::take(&mut self.hinted_meanwhile);
        self.unapplied = core::mem::take(&mut self.unapplied_meanwhile);
    }

    /// Whether the pass in progress may read paths before a change that a hint is about.
    pub fn reads_moved(&self) -> bool {
        self.open.is_some() && self.hinted.intersects(Diff::MOVED)
    }

    /// Remembers that a record of `key` could not be applied.
    pub fn add_unapplied(&mut self, key: ProcessKey) {
        if self.unapplied.len() < SUSPECTS_MAX {
            self.unapplied.insert(key);
            if self.open.is_some() {
                self.unapplied_meanwhile.insert(key);
            }
        }
    }

    /// When a tick is due.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        [self.absent_due, self.suspects.poll_timeout()].into_iter().flatten().min()
    }
}
