//! Brings the map in line with the kernel: hints, losses, passes, and the healing of a gap.

use alloc::boxed::Box;
use alloc::vec::Vec;

use observer_common::record::hint;

use crate::core::Core;
use crate::core::passes::OpenGap;
use crate::input::TaskRow;
use crate::limits::{
    ABSENT_SETTLE_NS, DRIFT_SETTLE_NS, PASS_RETRY_NS, REPARENT_PASSES_MAX, TORN_REREADS_MAX,
};
use crate::model::change::{Change, Sink};
use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::processes::table::Standing;

impl Core {
    /// Fields may have changed with no record of their own: a pass reads them again.
    pub(super) fn apply_hint(&mut self, bits: u64, sink: &mut dyn Sink) {
        let mut fields = Diff::default();
        if bits & (hint::PATHS | hint::FS_SHARED) != 0 {
            fields |= Diff::MOVED;
        }
        if bits & hint::THROTTLED != 0 {
            fields |= Diff::THROTTLED;
        }
        self.passes.suspects.explain_all(fields);
        self.passes.add_hinted(fields);
        self.passes.request_soon(self.now, bits, sink);
    }

    /// The count of lost records. If it did not rise, no loss is known up to `at`, and the next gap begins
    /// there.
    pub(super) fn apply_drops(&mut self, at: BootTime, total: u64, sink: &mut dyn Sink) {
        if total <= self.passes.drops_total {
            self.passes.lossless_until = self.passes.lossless_until.max(at);
            return;
        }
        self.open_gap(at, total, sink);
        self.passes.request_now(self.now, sink);
    }

    /// Records were lost: opens a gap, unless one is open.
    fn open_gap(&mut self, at: BootTime, drops_total: u64, sink: &mut dyn Sink) {
        let passes = &mut self.passes;
        let lost_before = core::mem::replace(&mut passes.drops_total, drops_total);
        passes.suspects.clear();
        if passes.gap.is_none() {
            let from = if passes.lossless_until == BootTime(0) { at } else { passes.lossless_until };
            passes.gap = Some(OpenGap { from, lost_before, corrected: 0 });
            self.counters.gaps += 1;
            sink.change(at, Change::GapOpened { from });
        }
    }

    /// A pass begins.
    pub(super) fn begin_pass(&mut self, at: BootTime, drops_total: u64, sink: &mut dyn Sink) {
        self.passes.begin(at, drops_total);
        if !self.passes.first_done && self.passes.gap.is_none() {
            // The map was empty: the first pass reads whatever was lost before it.
            self.passes.drops_total = self.passes.drops_total.max(drops_total);
        }
        if drops_total > self.passes.drops_total {
            self.open_gap(at, drops_total, sink);
        } else {
            self.passes.lossless_until = self.passes.lossless_until.max(at);
        }
    }

    /// Applies one process as the pass in progress shows it.
    pub(super) fn apply_row(&mut self, row: &TaskRow<'_>, sink: &mut dyn Sink) {
        if self.passes.open.is_none() {
            return;
        }
        let facts = &row.facts;
        if let Some(status) = row.dead {
            return self.apply_dead_row(row, status, sink);
        }
        match self.identify(row.at, row.key, sink) {
            Standing::Dead => {}
            Standing::Live => self.apply_live_row(row, sink),
            // A user-mode helper before its exec, or a process that is about to end: its children are about to get another
            // parent.
            Standing::Unknown | Standing::Reused(_) if facts.no_mm && !facts.leader_gone => {
                self.passes.dead_parents.entry(row.key).or_insert(0);
            }
            Standing::Unknown | Standing::Reused(_) => self.insert_row(row, sink),
        }
    }

    /// Applies one process that was read outside of a pass. What proves the map wrong is left to a pass.
    pub(super) fn apply_lone_row(&mut self, row: &TaskRow<'_>, sink: &mut dyn Sink) {
        match self.table.standing(row.key) {
            Standing::Live if row.dead.is_none() => self.apply_live_row(row, sink),
            Standing::Live if self.open_deaths.has(row.key) => {}
            Standing::Dead => {}
            // A user-mode helper before its exec, or a process that is about to end.
            Standing::Unknown | Standing::Reused(_) if row.facts.no_mm && !row.facts.leader_gone => {}
            Standing::Live | Standing::Unknown | Standing::Reused(_) => {
                self.passes.request_soon(self.now, 0, sink);
            }
        }
    }

    /// A row of a process that is in the map.
    fn apply_live_row(&mut self, row: &TaskRow<'_>, sink: &mut dyn Sink) {
        let serial = self.passes.serial;
        let mut found = Diff::default();
        let mut moves_unrecorded = false;
        if row.facts.no_mm && !row.facts.leader_gone && self.passes.gap.is_some() {
            self.passes.note_ending(row.key);
        }
        self.merge(row.at, row.key, sink, |entry, store| {
            entry.last_pass = serial;
            entry.max_rss_pages = entry.max_rss_pages.max(row.usage.max_rss_pages);
            entry.rss_pages = row.rss_pages;
            moves_unrecorded = entry.process.fs_shared || row.facts.fs_shared || row.facts.leader_gone;
            let merged = entry.merge_row(row, &mut store.recent);
            found = merged.diff;
            merged
        });
        if moves_unrecorded {
            found = found.without(Diff::MOVED);
        }
        self.note_missed_record(row.key, found.intersection(Diff::RECORDED));
        self.request_memory(row.key, sink);
    }

    /// A row of a process that is not in the map.
    fn insert_row(&mut self, row: &TaskRow<'_>, sink: &mut dyn Sink) {
        let mut entry = Box::new(ProcessEntry::new(row.at, row.key, &row.facts, self.wall_offset_ns));
        entry.stamps.cwd = BootTime(0);
        entry.stamps.exec = BootTime(0);
        entry.stamps.cgroup = BootTime(0);
        entry.stamps.ids = BootTime(0);
        let merged = entry.merge_row(row, &mut self.store.recent);
        entry.ended.cpu_ns = row.usage.children_cpu_ns;
        entry.max_rss_pages = row.usage.max_rss_pages;
        entry.rss_pages = row.rss_pages;
        entry.last_pass = self.passes.serial;
        self.table.insert(entry, Some(row.facts.parent));
        self.unexeced_helpers.remove(&row.key);
        self.await_reparenting(row.facts.parent, sink);
        if merged.reread {
            self.passes.request_soon(self.now, 0, sink);
        }
        if self.passes.first_done {
            self.note_missed_record(row.key, Diff::FOUND);
        }
        self.request_memory(row.key, sink);
        self.report_start(row.at, row.key, None, sink);
    }

    /// A row of a group that waits to be reaped: its status is exact, the time of its death is the row's.
    fn apply_dead_row(&mut self, row: &TaskRow<'_>, status: u32, sink: &mut dyn Sink) {
        match self.identify(row.at, row.key, sink) {
            Standing::Live if self.open_deaths.has(row.key) => {}
            Standing::Live => {
                if !self.passes.is_hanging(row.key) {
                    self.note_missed_record(row.key, Diff::VANISHED);
                }
                self.end(row.at, row.key, Death::from_status(status, row.at), Some(row.usage), sink);
                if row.facts.sid == row.key.tgid.0 {
                    self.passes.request_soon(self.now, hint::IDS, sink);
                }
            }
            Standing::Dead => {}
            Standing::Unknown | Standing::Reused(_) => {
                self.unexeced_helpers.remove(&row.key);
                self.table.add_tombstone(row.key, self.now);
            }
        }
    }

    /// A pass or a reused tgid showed what a record should have reported. Either a loss explains it, or the
    /// record is still on its way, or it is drift.
    pub(super) fn note_missed_record(&mut self, key: ProcessKey, fields: Diff) {
        if fields.is_empty() {
            return;
        }
        if let Some(gap) = &mut self.passes.gap {
            gap.corrected += 1;
            return;
        }
        if !self.passes.first_done {
            return;
        }
        let unapplied = self.passes.unapplied.contains(&key);
        let unapplied = if unapplied { Diff::THROTTLED } else { Diff::default() };
        let fields = fields.without(self.passes.hinted).without(unapplied);
        let due = self.now.after(DRIFT_SETTLE_NS);
        self.counters.drift_total += self.passes.suspects.add(key, fields, due);
    }

    /// The pass in progress ended. Nothing is concluded from one that is not complete.
    pub(super) fn end_pass(&mut self, at: BootTime, complete: bool, sink: &mut dyn Sink) {
        let Some(pass) = self.passes.open.take() else { return };
        if !complete {
            self.passes.request(self.now.after(PASS_RETRY_NS), 0, sink);
            return;
        }
        let has_read_all = self.end_absent(at, pass.at, sink);
        self.passes.count_ending(self.now, |key| self.table.get(key).is_some(), sink);
        self.resolve_parents(sink);
        self.resolve_lineage(at, sink);
        if !core::mem::replace(&mut self.passes.first_done, true) {
            let awaits_known = self.settings.awaits_known;
            self.with_sessions(at, sink, |sessions, ctx| {
                sessions.look(ctx);
                if !awaits_known {
                    sessions.elect_all(ctx);
                }
            });
        }
        self.locate_followed(at, sink);
        // What it was to read again, it has not read of processes that it did not show.
        if has_read_all {
            self.passes.forget_read();
        } else if self.passes.has_reason_to_read_again() {
            self.passes.request_soon(self.now, 0, sink);
        }
        self.passes.healed_drops = Some(pass.drops_total);
        if self.passes.gap.is_some() {
            self.counters.resyncs += 1;
            if pass.drops_total < self.passes.drops_total {
                self.passes.request_now(self.now, sink);
            }
        }
        self.try_close_gap(at, sink);
    }

    /// Ends each process that started before the pass began and that neither this pass nor the one before
    /// showed. One absence proves nothing, because the iterator does not read all processes at one point in
    /// time. What is about to end counts as absent once. Returns whether the pass has read all that began before it and
    /// still lives.
    fn end_absent(&mut self, at: BootTime, began: BootTime, sink: &mut dyn Sink) -> bool {
        let serial = self.passes.serial;
        let mut gone: Vec<(ProcessKey, BootTime)> = Vec::new();
        let mut has_read_all = true;
        self.passes.absent.clear();
        for entry in self.table.iter_mut() {
            let key = entry.process.key;
            let is_shown =
                entry.last_pass == serial || key.start_boottime >= began || entry.last_seen >= began;
            let is_ending = self.passes.ending.contains(&key);
            let mut is_read = entry.last_pass == serial || key.start_boottime >= began;
            if (is_shown && !is_ending) || self.open_deaths.has(key) {
                entry.absent = false;
            } else if entry.absent && !is_shown {
                gone.push((key, entry.last_seen));
                is_read = true;
            } else {
                entry.absent = true;
                self.passes.absent.push(key);
            }
            has_read_all &= is_read || self.open_deaths.has(key);
        }
        for (key, from) in gone {
            if !self.passes.is_hanging(key) {
                self.note_missed_record(key, Diff::VANISHED);
            }
            self.end(at, key, Death::unobserved(from, at), None, sink);
        }
        let some = !self.passes.absent.is_empty();
        self.passes.absent_due = some.then(|| self.now.after(ABSENT_SETTLE_NS));
        has_read_all
    }

    /// Forgets dead parents that no live process has any more, and requests another pass for the others.
    fn resolve_parents(&mut self, sink: &mut dyn Sink) {
        let table = &self.table;
        let unresolved = &mut self.counters.parents_unresolved;
        self.passes.dead_parents.retain(|&parent, passes| {
            *passes = passes.saturating_add(1);
            let has_children = table.has_children(parent);
            let gives_up = has_children && *passes >= REPARENT_PASSES_MAX;
            *unresolved += u64::from(gives_up);
            has_children && !gives_up
        });
        if !self.passes.dead_parents.is_empty() {
            self.passes.request_soon(self.now, 0, sink);
        }
    }

    /// Links processes to their parents. Rows come in no order, so a process may have been shown before its
    /// parent.
    fn resolve_lineage(&mut self, at: BootTime, sink: &mut dyn Sink) {
        let unlinked: Vec<(ProcessKey, ProcessKey)> = self
            .table
            .iter()
            .filter(|entry| entry.process.lineage.is_none() && !entry.lineage_by_birth)
            .map(|entry| (entry.process.key, entry.process.parent))
            .collect();
        for (key, parent) in unlinked {
            self.relink(at, key, parent, sink);
        }
    }

    /// Forgets absences that an exit has explained. Returns whether any remains.
    fn prune_absent(&mut self) -> bool {
        let table = &self.table;
        self.passes.absent.retain(|&key| table.get(key).is_some_and(|entry| entry.absent));
        if self.passes.absent.is_empty() {
            self.passes.absent_due = None;
        }
        !self.passes.absent.is_empty()
    }

    /// Closes the gap once a complete pass began after the last known loss and no absence is in doubt.
    pub(super) fn try_close_gap(&mut self, at: BootTime, sink: &mut dyn Sink) {
        let Some(gap) = self.passes.gap else { return };
        let healed = self.passes.open.is_none() && self.passes.healed_drops == Some(self.passes.drops_total);
        if !healed || self.passes.is_blind || self.prune_absent() {
            return;
        }
        self.passes.gap = None;
        self.passes.last_loss = self.passes.last_loss.max(at);
        self.passes.lossless_until = self.passes.lossless_until.max(at);
        let lost = self.passes.drops_total.saturating_sub(gap.lost_before);
        sink.change(at, Change::GapClosed { from: gap.from, to: at, lost, corrected: gap.corrected });
    }

    /// Time passed: acts on every deadline up to `at`.
    pub(super) fn apply_tick(&mut self, at: BootTime, sink: &mut dyn Sink) {
        if self.passes.absent_due.is_some_and(|due| due <= at) {
            self.passes.absent_due = None;
            if self.prune_absent() {
                self.passes.request_now(self.now, sink);
            } else {
                self.try_close_gap(at, sink);
            }
        }
        self.counters.drift_total += self.passes.suspects.settle(at);
        self.with_sessions(at, sink, |sessions, ctx| sessions.tick(ctx));
        self.left_counts.tick(self.now, sink);
    }
}

const _: () = assert!(TORN_REREADS_MAX < u8::MAX);
