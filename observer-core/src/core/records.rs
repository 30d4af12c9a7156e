//! Applies births, execs, exits and the records of single fields to the map.

use alloc::boxed::Box;
use alloc::sync::Arc;

use observer_common::record::hint;

use crate::core::Core;
use crate::input::{Block, ProcessFacts};
use crate::limits::UNEXECED_HELPERS_MAX;
use crate::model::change::{Change, Request, Sink};
use crate::model::cost::ProcessUsage;
use crate::model::death::{Death, LeftProcesses, ReceivedSignal, SentSignal, SignalContext, SignalOrigin};
use crate::model::ids::{BootTime, ProcessKey};
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::processes::merge::{Image, Merged, ValueStore};
use crate::processes::open_deaths::OpenDeath;
use crate::processes::table::{Indexed, Standing};

impl Core {
    /// A thread group was born.
    pub(super) fn apply_fork(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        facts: &ProcessFacts,
        creator: ProcessKey,
        sink: &mut dyn Sink,
    ) {
        match self.identify(at, key, sink) {
            Standing::Live => return self.apply_late_fork(at, key, facts, creator, sink),
            Standing::Dead => return,
            Standing::Unknown | Standing::Reused(_) => {}
        }
        if facts.no_mm {
            if self.unexeced_helpers.len() >= UNEXECED_HELPERS_MAX {
                self.unexeced_helpers.pop_first();
            }
            self.unexeced_helpers.insert(key);
            return;
        }
        let mut entry = Box::new(ProcessEntry::new(at, key, facts, self.wall_offset_ns));
        entry.lineage_by_birth = true;
        let (lineage, reread) = match self.table.get(creator) {
            // A path that is being read again is not read of a child that is born meanwhile.
            Some(from) => {
                let reread = entry.inherit(from, self.passes.paths_read_since) || self.passes.reads_moved();
                (creator, reread)
            }
            None => (facts.parent, true),
        };
        self.table.insert(entry, Some(lineage));
        self.await_reparenting(facts.parent, sink);
        if reread {
            self.passes.request_soon(self.now, 0, sink);
        }
        self.report_start(at, key, Some(creator), sink);
    }

    /// The birth record of a process that a pass or an exec record put into the map before.
    fn apply_late_fork(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        facts: &ProcessFacts,
        creator: ProcessKey,
        sink: &mut dyn Sink,
    ) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let by_birth = core::mem::replace(&mut entry.lineage_by_birth, true);
        if !by_birth {
            self.relink(at, key, creator, sink);
        }
        let image = self.table.get(creator).and_then(|creator| creator.exec_image(facts.exec_id));
        self.apply_fields(at, key, Diff::FOUND, sink, |entry, store| {
            let mut merged = entry.merge_identities(at, facts);
            if let Some(image) = image.filter(|_| entry.process.exec_id == facts.exec_id) {
                merged.diff |= entry.inherit_image(image, &mut store.recent);
            }
            merged
        });
    }

    /// The nearest live ancestor by birth of `key` is `ancestor`, and not the one that was assumed.
    pub(super) fn relink(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        ancestor: ProcessKey,
        sink: &mut dyn Sink,
    ) {
        if self.table.set_lineage(key, ancestor) {
            let diff = Diff::PARENT | self.locate(key);
            self.report_fields(at, key, diff, sink);
            self.with_sessions(at, sink, |sessions, _| sessions.relinked(key));
            self.locate_decided(at, key, sink);
        }
    }

    /// A process replaced its program image. The exec of an unknown process puts it into the map.
    pub(super) fn apply_exec(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        facts: &ProcessFacts,
        image: &Image<'_>,
        sink: &mut dyn Sink,
    ) {
        match self.identify(at, key, sink) {
            Standing::Dead => return,
            Standing::Live => {
                return self.apply_fields(at, key, Diff::RECORDED, sink, |entry, store| {
                    let mut merged = entry.merge_identities(at, facts);
                    merged.diff |= entry.merge_exec(at, facts, image, store);
                    merged
                });
            }
            Standing::Unknown | Standing::Reused(_) => {}
        }
        let helper = self.unexeced_helpers.remove(&key);
        let mut entry = Box::new(ProcessEntry::new(at, key, facts, self.wall_offset_ns));
        // The process starts with its image: its start and its exec are reported as one change.
        entry.process.exec_id = facts.exec_id.wrapping_sub(1);
        entry.stamps.exec = BootTime(0);
        entry.merge_exec(at, facts, image, &mut self.store);
        self.table.insert(entry, Some(facts.parent));
        self.await_reparenting(facts.parent, sink);
        if !helper {
            self.counters.orphans += 1;
        }
        self.passes.request_soon(self.now, 0, sink);
        self.report_start(at, key, None, sink);
        self.with_sessions(at, sink, |sessions, ctx| sessions.executed(ctx, key));
    }

    /// The last thread of a group left. The first exit record of a process ends it. Whatever shows the same
    /// end later (the record of a thread that left at once, a row of a pass, an absence) is counted and
    /// changes nothing: a death that was reported is final.
    pub(super) fn apply_exit(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        (raw_status, usage): (u32, ProcessUsage),
        led_sid: Option<u32>,
        sink: &mut dyn Sink,
    ) {
        self.passes.suspects.explain(key, Diff::RECORDED);
        match self.identify(at, key, sink) {
            Standing::Live if !self.open_deaths.has(key) => {
                let death = || Death::from_status(raw_status, at);
                if self.settings.awaits_oom_marks && self.explained(key, death()).may_lack_memory() {
                    let led_session = led_sid.is_some();
                    return self.leave_open(key, OpenDeath { death: death(), usage, led_session }, sink);
                }
                self.end(at, key, death(), Some(usage), sink);
            }
            Standing::Live | Standing::Dead => {
                self.counters.duplicate_exits += 1;
                return;
            }
            Standing::Unknown | Standing::Reused(_) => {
                if !self.unexeced_helpers.remove(&key) {
                    self.counters.orphans += 1;
                }
                self.table.add_tombstone(key, self.now);
            }
        }
        self.after_exit(at, led_sid.is_some(), sink);
    }

    /// What follows from the exit of a process, which may have led a POSIX session.
    pub(super) fn after_exit(&mut self, at: BootTime, led_session: bool, sink: &mut dyn Sink) {
        if led_session {
            self.passes.request_soon(self.now, hint::IDS, sink);
        }
        self.try_close_gap(at, sink);
    }

    /// Adds to the death of a process what is known of the signals that led to it.
    fn explained(&self, key: ProcessKey, death: Death) -> Death {
        let signals = self.table.get(key).and_then(|entry| entry.signals.as_ref());
        match signals {
            Some(signals) => signals.explain(death),
            None => death,
        }
    }

    /// Ends a live process. Nothing else removes a process from the map. `used` is what it used, if that is known.
    pub(super) fn end(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        death: Death,
        used: Option<ProcessUsage>,
        sink: &mut dyn Sink,
    ) {
        let former = self.former_session(key, death.at);
        let is_counted = used.is_some() || former.is_some();
        let live = if is_counted { self.counted_descendants(key) } else { None };
        let cost = used.and_then(|used| self.cost_at_end(key, used, live.as_deref()));
        let none_is_left = former.as_ref().is_some_and(|former| {
            live.as_ref().is_some_and(|live| self.born_in_no_other(live, former).is_empty())
        });
        let left = (none_is_left && !self.may_lack_births(key)).then(LeftProcesses::none);
        let death = Death { cost, left, ..self.explained(key, death) };
        let was_parent = self.table.has_children(key);
        let successors = self.sessions.successors_of(&self.table, self.now, key);
        let Some((mut entry, orphans)) = self.table.remove(key, self.now, used) else { return };
        self.table.leave(&orphans, former.as_ref().or(entry.left_of.as_ref()));
        self.keep_births(&entry, &orphans);
        self.count_orphans(&entry, &orphans);
        if let Some(former) = former.filter(|_| !none_is_left) {
            self.count_later(&former, &entry.process, &death, &orphans);
        }
        sink.change(at, Change::ProcessEnded(&entry.process, &death));
        for &orphan in &orphans {
            if let Some(orphan) = self.table.get(orphan) {
                sink.change(at, Change::ProcessChanged(&orphan.process));
            }
        }
        let candidacy = entry.candidacy.take();
        let process = &entry.process;
        self.with_sessions(at, sink, |sessions, ctx| {
            sessions.ended(ctx, candidacy, &orphans, (process, &death, &successors));
        });
        self.locate_decided(at, key, sink);
        if was_parent {
            self.await_reparenting(key, sink);
        }
    }

    /// A signal was sent to a process that may end it. Its record precedes the one of the death: the kernel generates it under
    /// the lock under which the process receives it (`siglock`).
    pub(super) fn apply_signal(&mut self, key: ProcessKey, mut sent: SentSignal, context: SignalContext) {
        let lack_of_memory = self.kernel_kills.add(key, &sent, context);
        if lack_of_memory.is_some() {
            (sent.origin, sent.process) = (SignalOrigin::LackOfMemory, None);
        }
        if self.table.get(key).is_none() {
            return;
        }
        let of_sender = sent.process.and_then(|sender| self.sessions.session_of(&self.table, sender.key));
        let sender_session = of_sender.map(|session| Arc::clone(&session.name));
        if let Some(entry) = self.table.get_mut(key) {
            let received = ReceivedSignal { sent, sender_session };
            let is_one_forgotten = entry.signals.get_or_insert_default().add(
                received,
                context.is_handled,
                lack_of_memory.unwrap_or_default(),
            );
            self.counters.signals_forgotten += u64::from(is_one_forgotten);
        }
    }

    /// The kernel gives the children of a dead parent another one, and no hook shows it. So they are read
    /// again until none of them has the dead parent any more.
    pub(super) fn await_reparenting(&mut self, parent: ProcessKey, sink: &mut dyn Sink) {
        if self.table.is_dead(parent) && self.table.has_children(parent) {
            self.passes.dead_parents.entry(parent).or_insert(0);
            self.passes.request_soon(self.now, 0, sink);
        }
    }

    /// Returns what is known of `key`. A younger process of the same tgid proves that the older one is gone.
    /// That one ends here, unobserved, between its last sign of life and this birth; if its exit record still
    /// arrives, it counts as a duplicate.
    pub(super) fn identify(&mut self, at: BootTime, key: ProcessKey, sink: &mut dyn Sink) -> Standing {
        let standing = self.table.standing(key);
        if let Standing::Reused(older) = standing
            && !self.close_death(older, sink)
        {
            self.note_missed_record(older, Diff::VANISHED);
            let from = self.table.get(older).map_or(older.start_boottime, |entry| entry.last_seen);
            let to = key.start_boottime.max(from);
            self.end(at, older, Death::unobserved(from, to), None, sink);
        }
        standing
    }

    /// Applies a record: `merge` puts its values into the entry. `fields` are the differences that it
    /// explains.
    pub(super) fn apply_fields(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        fields: Diff,
        sink: &mut dyn Sink,
        merge: impl FnOnce(&mut ProcessEntry, &mut ValueStore) -> Merged,
    ) {
        self.passes.suspects.explain(key, fields);
        match self.identify(at, key, sink) {
            Standing::Live => self.merge(at, key, sink, merge),
            Standing::Dead => {}
            Standing::Unknown | Standing::Reused(_) => {
                if !self.unexeced_helpers.contains(&key) {
                    self.counters.orphans += 1;
                    self.passes.add_unapplied(key);
                    self.passes.request_soon(self.now, 0, sink);
                }
            }
        }
    }

    /// Merges values into the entry of a live process, keeps the indexes, and reports what changed.
    pub(super) fn merge(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        sink: &mut dyn Sink,
        merge: impl FnOnce(&mut ProcessEntry, &mut ValueStore) -> Merged,
    ) {
        let began = self.passes.last_begin;
        let Some(entry) = self.table.get_mut(key) else { return };
        entry.last_seen = entry.last_seen.max(at);
        // It was seen after the last pass began, so its absence from that pass means nothing, unless it was about to end.
        entry.absent &= at < began || self.passes.ending.contains(&key);
        let (before, from) = (entry.process.parent, Indexed::of(&entry.process));
        let merged = merge(entry, &mut self.store);
        let (parent, to) = (entry.process.parent, Indexed::of(&entry.process));
        self.table.reindex(key, from, to);
        if before != parent {
            self.table.reparented(before, parent);
            self.await_reparenting(parent, sink);
        }
        if merged.reread {
            self.passes.request_soon(self.now, 0, sink);
        }
        self.report_fields(at, key, merged.diff, sink);
    }

    /// Reports that a process is in the map, and lets sessions follow.
    pub(super) fn report_start(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        creator: Option<ProcessKey>,
        sink: &mut dyn Sink,
    ) {
        self.locate(key);
        let Some(entry) = self.table.get(key) else { return };
        sink.change(at, Change::ProcessStarted(&entry.process));
        self.with_sessions(at, sink, |sessions, ctx| sessions.started(ctx, key, creator));
    }

    /// Applies argv and environment that the edge read from the memory of a process.
    pub(super) fn apply_memory(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        exec_id: u32,
        (argv, env): (Block<'_>, Block<'_>),
        sink: &mut dyn Sink,
    ) {
        if self.table.standing(key) != Standing::Live {
            return;
        }
        self.merge(at, key, sink, |entry, store| entry.merge_memory(exec_id, argv, env, store).into());
    }

    /// Requests argv and environment of an image whose exec was not observed, once per image.
    pub(super) fn request_memory(&mut self, key: ProcessKey, sink: &mut dyn Sink) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let image = Some(entry.process.exec_id);
        if entry.process.argv.is_none() && entry.memory_requested != image {
            entry.memory_requested = image;
            sink.request(Request::Memory(key));
        }
    }
}
