//! The map against the kernel: passes, loss and its healing, drift.

use alloc::boxed::Box;
use alloc::vec::Vec;

use observer_common::record::hint;

use crate::core::Core;
use crate::core::passes::Gap;
use crate::input::Row;
use crate::limits::{
    ABSENT_SETTLE_NS, DRIFT_SETTLE_NS, PASS_RETRY_NS, REPARENT_PASSES_MAX, TORN_REREADS_MAX,
};
use crate::model::change::{Change, Sink};
use crate::model::death::{Death, DeathKind};
use crate::model::ids::{BootTime, ProcessKey};
use crate::processes::entry::Entry;
use crate::processes::fields::Diff;
use crate::processes::table::Standing;

impl Core {
    pub(crate) fn hint(&mut self, at: BootTime, bits: u64, sink: &mut dyn Sink) {
        self.hear(at);
        let mut fields = Diff::default();
        if bits & (hint::PATHS | hint::FS_SHARED) != 0 {
            fields |= Diff::MOVED;
        }
        if bits & hint::THROTTLED != 0 {
            fields |= Diff::THROTTLED;
        }
        self.passes.all_explained(fields);
        self.passes.hinted |= fields;
        self.passes.want(self.now, bits, sink);
    }

    /// The count of lost records. Unchanged, it moves the begin of the next gap: no loss is known up to `at`.
    pub(crate) fn dropped(&mut self, at: BootTime, total: u64, sink: &mut dyn Sink) {
        self.hear(at);
        if total <= self.passes.drops_total {
            self.passes.calm_at = self.passes.calm_at.max(at);
            return;
        }
        self.lost(at, total, sink);
        self.passes.want_at_once(self.now, sink);
    }

    fn lost(&mut self, at: BootTime, total: u64, sink: &mut dyn Sink) {
        let passes = &mut self.passes;
        let lost_before = core::mem::replace(&mut passes.drops_total, total);
        // The loss explains whatever differs.
        passes.suspects.clear();
        if passes.gap.is_none() {
            let from = if passes.calm_at == BootTime(0) { at } else { passes.calm_at };
            passes.gap = Some(Gap { from, lost_before, corrected: 0 });
            self.counters.gaps += 1;
            sink.change(at, Change::GapOpened { from });
        }
    }

    pub(crate) fn pass_begin(&mut self, at: BootTime, drops_total: u64, sink: &mut dyn Sink) {
        self.hear(at);
        self.passes.begin(at, drops_total);
        if !self.passes.first_done && self.passes.gap.is_none() {
            // What was lost before the first snapshot was never missed.
            self.passes.drops_total = self.passes.drops_total.max(drops_total);
        }
        if drops_total > self.passes.drops_total {
            self.lost(at, drops_total, sink);
        } else {
            self.passes.calm_at = self.passes.calm_at.max(at);
        }
    }

    pub(crate) fn pass_row(&mut self, row: &Row<'_>, sink: &mut dyn Sink) {
        self.hear(row.at);
        if self.passes.open.is_none() {
            return;
        }
        let facts = &row.facts;
        if let Some(status) = row.dead {
            return self.dead_row(row, status, sink);
        }
        match self.standing(row.at, row.key, sink) {
            Standing::Dead => {}
            Standing::Live => self.known_row(row, sink),
            // A user-mode helper before its exec, or a process that is about to end.
            Standing::Unknown | Standing::Reused(_) if facts.no_mm && !facts.leader_gone => {}
            Standing::Unknown | Standing::Reused(_) => self.found_row(row, sink),
        }
    }

    fn known_row(&mut self, row: &Row<'_>, sink: &mut dyn Sink) {
        let serial = self.passes.serial;
        let mut found = Diff::default();
        let mut blind = false;
        self.merge(row.at, row.key, sink, |entry| {
            entry.pass = serial;
            entry.absent = false;
            blind = entry.process.fs_shared || row.facts.fs_shared || row.facts.leader_gone;
            let merged = entry.merge_row(row);
            found = merged.diff;
            merged
        });
        if blind {
            found = found.without(Diff::MOVED);
        }
        self.missed(row.key, found.only(Diff::RECORDED), sink);
        self.ask_memory(row.key, sink);
    }

    fn found_row(&mut self, row: &Row<'_>, sink: &mut dyn Sink) {
        let mut entry = Box::new(Entry::new(row.at, row.key, &row.facts, self.wall_offset_ns));
        entry.stamps.cwd = BootTime(0);
        entry.stamps.exec = BootTime(0);
        entry.stamps.cgroup = BootTime(0);
        entry.stamps.ids = BootTime(0);
        let merged = entry.merge_row(row);
        entry.pass = self.passes.serial;
        self.insert(entry, Some(row.facts.parent));
        self.embryos.remove(&row.key);
        self.dead_parent(row.at, row.facts.parent, sink);
        if merged.reread {
            self.passes.want(self.now, 0, sink);
        }
        if self.passes.first_done {
            self.missed(row.key, Diff::FOUND, sink);
        }
        self.ask_memory(row.key, sink);
        self.started(row.at, row.key, None, sink);
    }

    /// A group that waits to be reaped: its status is exact, its moment is the row's.
    fn dead_row(&mut self, row: &Row<'_>, status: u32, sink: &mut dyn Sink) {
        match self.standing(row.at, row.key, sink) {
            Standing::Live => {
                self.missed(row.key, Diff::VANISHED, sink);
                self.end(row.at, row.key, Death::from_status(status, row.at), sink);
                if row.facts.sid == row.key.tgid.0 {
                    self.passes.want(self.now, hint::IDS, sink);
                }
            }
            Standing::Dead => {}
            Standing::Unknown | Standing::Reused(_) => {
                self.embryos.remove(&row.key);
                self.table.bury(row.key, self.now);
            }
        }
    }

    /// A pass or a reuse showed what a record should have told: the loss explains it, or its record is on the way,
    /// or it is drift.
    pub(crate) fn missed(&mut self, key: ProcessKey, fields: Diff, _sink: &mut dyn Sink) {
        if fields.none() {
            return;
        }
        if let Some(gap) = &mut self.passes.gap {
            gap.corrected += 1;
            return;
        }
        if !self.passes.first_done {
            return;
        }
        let told = if self.passes.unheard.contains(&key) { Diff::THROTTLED } else { Diff::default() };
        let fields = fields.without(self.passes.hinted).without(told);
        let due = self.now.after(DRIFT_SETTLE_NS);
        if self.passes.suspect(key, fields, due) {
            self.counters.drift_total += u64::from(fields.count());
        }
    }

    pub(crate) fn pass_end(&mut self, at: BootTime, complete: bool, sink: &mut dyn Sink) {
        self.hear(at);
        let Some(pass) = self.passes.open.take() else { return };
        if !complete {
            self.passes.ask(self.now.after(PASS_RETRY_NS), 0, sink);
            return;
        }
        self.end_absent(at, pass.at, sink);
        self.resolve_parents(sink);
        self.resolve_lineage(at, sink);
        self.passes.first_done = true;
        self.passes.hinted = Diff::default();
        self.passes.unheard.clear();
        self.passes.healed_to = Some(pass.drops_total);
        if self.passes.gap.is_some() {
            self.counters.resyncs += 1;
            if pass.drops_total < self.passes.drops_total {
                self.passes.want_at_once(self.now, sink);
            }
        }
        self.try_close(at, sink);
    }

    /// A process that started before the pass began and that the pass did not show is gone if the pass before did
    /// not show it either. One absence proves nothing: the iterator is no point in time.
    fn end_absent(&mut self, at: BootTime, began: BootTime, sink: &mut dyn Sink) {
        let serial = self.passes.serial;
        let mut gone: Vec<(ProcessKey, BootTime)> = Vec::new();
        self.passes.absent.clear();
        for entry in self.table.iter_mut() {
            let key = entry.process.key;
            if entry.pass == serial || key.start_boottime >= began || entry.seen >= began {
                entry.absent = false;
            } else if entry.absent {
                gone.push((key, entry.seen));
            } else {
                entry.absent = true;
                self.passes.absent.push(key);
            }
        }
        for (key, seen) in gone {
            self.missed(key, Diff::VANISHED, sink);
            let kind = DeathKind::Unobserved { from: seen, to: at };
            self.end(at, key, Death { kind, raw_status: None, at }, sink);
        }
        let some = !self.passes.absent.is_empty();
        self.passes.absent_due = some.then(|| self.now.after(ABSENT_SETTLE_NS));
    }

    /// Forgets dead parents that no row names any more; asks again for the others.
    fn resolve_parents(&mut self, sink: &mut dyn Sink) {
        let table = &self.table;
        let unresolved = &mut self.counters.parents_unresolved;
        self.passes.dead_parents.retain(|&parent, passes| {
            *passes = passes.saturating_add(1);
            let named = table.has_children(parent);
            let give_up = named && *passes >= REPARENT_PASSES_MAX;
            *unresolved += u64::from(give_up);
            named && !give_up
        });
        if !self.passes.dead_parents.is_empty() {
            self.passes.want(self.now, 0, sink);
        }
    }

    /// Rows come in no order: a process may have been shown before its parent.
    fn resolve_lineage(&mut self, at: BootTime, sink: &mut dyn Sink) {
        let lone: Vec<(ProcessKey, ProcessKey)> = self
            .table
            .iter()
            .filter(|entry| entry.process.lineage.is_none() && !entry.lineage_by_birth)
            .map(|entry| (entry.process.key, entry.process.parent))
            .collect();
        for (key, parent) in lone {
            self.relink(at, key, parent, sink);
        }
    }

    /// Absences that an exit has explained since are none.
    fn still_absent(&mut self) -> bool {
        let table = &self.table;
        self.passes.absent.retain(|&key| table.get(key).is_some_and(|entry| entry.absent));
        if self.passes.absent.is_empty() {
            self.passes.absent_due = None;
        }
        !self.passes.absent.is_empty()
    }

    /// Closes the gap once a complete pass covers all that is known to be lost and nobody is left in doubt.
    pub(crate) fn try_close(&mut self, at: BootTime, sink: &mut dyn Sink) {
        let Some(gap) = self.passes.gap else { return };
        let covered = self.passes.open.is_none() && self.passes.healed_to == Some(self.passes.drops_total);
        if !covered || self.still_absent() {
            return;
        }
        self.passes.gap = None;
        self.passes.calm_at = self.passes.calm_at.max(at);
        let lost = self.passes.drops_total.saturating_sub(gap.lost_before);
        sink.change(at, Change::GapClosed { from: gap.from, to: at, lost, corrected: gap.corrected });
    }

    pub(crate) fn tick(&mut self, at: BootTime, sink: &mut dyn Sink) {
        self.hear(at);
        if self.passes.absent_due.is_some_and(|due| due <= at) {
            self.passes.absent_due = None;
            if self.still_absent() {
                self.passes.want_at_once(self.now, sink);
            } else {
                self.try_close(at, sink);
            }
        }
        self.counters.drift_total += self.passes.settle(at);
        self.sessions_ctx(at, sink, |sessions, ctx| sessions.tick(ctx));
    }
}

const _: () = assert!(TORN_REREADS_MAX < u8::MAX);
