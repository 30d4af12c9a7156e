//! What births, execs, exits and the records of single fields do to the map.

use alloc::boxed::Box;

use observer_common::record::hint;

use crate::core::Core;
use crate::input::{Block, Facts};
use crate::limits::EMBRYOS_MAX;
use crate::model::change::{Change, Request, Sink};
use crate::model::death::{Death, DeathKind};
use crate::model::ids::{BootTime, ProcessKey};
use crate::processes::entry::Entry;
use crate::processes::fields::Diff;
use crate::processes::merge::{Image, Merged};
use crate::processes::table::Standing;

impl Core {
    pub(crate) fn fork(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        facts: &Facts,
        creator: ProcessKey,
        sink: &mut dyn Sink,
    ) {
        self.hear(at);
        match self.standing(at, key, sink) {
            Standing::Live => return self.late_birth(at, key, facts, creator, sink),
            Standing::Dead => return,
            Standing::Unknown | Standing::Reused(_) => {}
        }
        if facts.no_mm {
            if self.embryos.len() >= EMBRYOS_MAX {
                self.embryos.pop_first();
            }
            self.embryos.insert(key);
            return;
        }
        let mut entry = Box::new(Entry::new(at, key, facts, self.wall_offset_ns));
        entry.lineage_by_birth = true;
        let reread = match self.table.get(creator) {
            Some(creator) => entry.inherit(creator),
            None => true,
        };
        let lineage = if self.table.get(creator).is_some() { creator } else { facts.parent };
        self.insert(entry, Some(lineage));
        self.dead_parent(at, facts.parent, sink);
        if reread {
            self.passes.want(self.now, 0, sink);
        }
        self.started(at, key, Some(creator), sink);
    }

    /// The birth of a process that a row or an exec had told of before.
    fn late_birth(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        facts: &Facts,
        creator: ProcessKey,
        sink: &mut dyn Sink,
    ) {
        self.passes.explained(key, Diff::FOUND);
        let Some(entry) = self.table.get_mut(key) else { return };
        let by_birth = core::mem::replace(&mut entry.lineage_by_birth, true);
        if !by_birth {
            self.relink(at, key, creator, sink);
        }
        let told = self.table.get(creator).and_then(|creator| creator.told(facts.exec_id));
        self.update(at, key, Diff::FOUND, sink, |entry| {
            let mut merged = entry.merge_identities(at, facts);
            if let Some(told) = told.filter(|_| entry.process.exec_id == facts.exec_id) {
                merged.diff |= entry.inherit_told(told);
            }
            merged
        });
    }

    /// The nearest live ancestor by birth is another than was believed.
    pub(crate) fn relink(&mut self, at: BootTime, key: ProcessKey, above: ProcessKey, sink: &mut dyn Sink) {
        if self.table.set_lineage(key, above) {
            self.say(at, key, Diff::PARENT, sink);
            self.sessions_ctx(at, sink, |sessions, ctx| sessions.relinked(ctx, key));
        }
    }

    pub(crate) fn exec(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        facts: &Facts,
        image: &Image<'_>,
        sink: &mut dyn Sink,
    ) {
        self.hear(at);
        match self.standing(at, key, sink) {
            Standing::Dead => return,
            Standing::Live => {
                let keep = core::mem::take(&mut self.settings.env);
                self.update(at, key, Diff::RECORDED, sink, |entry| {
                    let mut merged = entry.merge_identities(at, facts);
                    merged.diff |= entry.merge_exec(at, facts.exec_id, image, &keep);
                    merged
                });
                self.settings.env = keep;
                return;
            }
            Standing::Unknown | Standing::Reused(_) => {}
        }
        let helper = self.embryos.remove(&key);
        let mut entry = Box::new(Entry::new(at, key, facts, self.wall_offset_ns));
        // The exec itself is no second fact of the birth: the row starts with its image.
        entry.process.exec_id = facts.exec_id.wrapping_sub(1);
        entry.stamps.exec = BootTime(0);
        entry.merge_exec(at, facts.exec_id, image, &self.settings.env);
        self.insert(entry, Some(facts.parent));
        self.dead_parent(at, facts.parent, sink);
        if !helper {
            self.counters.orphans += 1;
        }
        self.passes.want(self.now, 0, sink);
        self.started(at, key, None, sink);
    }

    /// The last thread of a group left. The first exit of a process that is heard ends it; whatever says the same
    /// of it later (another thread that died at once, a row, an absence) is counted and changes nothing: a death
    /// that was said stays said.
    pub(crate) fn exit(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        raw_status: u32,
        led_sid: Option<u32>,
        sink: &mut dyn Sink,
    ) {
        self.hear(at);
        self.passes.explained(key, Diff::RECORDED);
        match self.standing(at, key, sink) {
            Standing::Live => self.end(at, key, Death::from_status(raw_status, at), sink),
            Standing::Dead => {
                self.counters.duplicate_exits += 1;
                return;
            }
            Standing::Unknown | Standing::Reused(_) => {
                if !self.embryos.remove(&key) {
                    self.counters.orphans += 1;
                }
                self.table.bury(key, self.now);
            }
        }
        if led_sid.is_some() {
            self.passes.want(self.now, hint::IDS, sink);
        }
        self.try_close(at, sink);
    }

    /// Ends a live process: the only way out of the map.
    pub(crate) fn end(&mut self, at: BootTime, key: ProcessKey, death: Death, sink: &mut dyn Sink) {
        let was_parent = self.table.has_children(key);
        let Some((mut entry, orphans)) = self.table.remove(key, self.now) else { return };
        sink.change(at, Change::ProcessEnded(&entry.process, death));
        for orphan in orphans {
            if let Some(orphan) = self.table.get(orphan) {
                sink.change(at, Change::ProcessChanged(&orphan.process));
            }
        }
        let member = entry.member.take();
        let row = &entry.process;
        self.sessions_ctx(at, sink, |sessions, ctx| sessions.ended(ctx, row, member, death));
        if was_parent {
            self.dead_parent(at, key, sink);
        }
    }

    /// Reparenting has no hook and happens after the parent's death: the children are read again until none of
    /// them names it any more.
    pub(crate) fn dead_parent(&mut self, _at: BootTime, parent: ProcessKey, sink: &mut dyn Sink) {
        if self.table.is_dead(parent) && self.table.has_children(parent) {
            self.passes.dead_parents.entry(parent).or_insert(0);
            self.passes.want(self.now, 0, sink);
        }
    }

    /// What is known of `key`. A younger process of the same tgid proves the older one gone, somewhere between its
    /// last sign of life and this birth; its exit, if it still comes, is a duplicate.
    pub(crate) fn standing(&mut self, at: BootTime, key: ProcessKey, sink: &mut dyn Sink) -> Standing {
        let standing = self.table.standing(key);
        if let Standing::Reused(older) = standing {
            self.missed(older, Diff::VANISHED, sink);
            let seen = self.table.get(older).map_or(older.start_boottime, |entry| entry.seen);
            let to = key.start_boottime.max(seen);
            let kind = DeathKind::Unobserved { from: seen, to };
            self.end(at, older, Death { kind, raw_status: None, at: to }, sink);
        }
        standing
    }

    /// A record of single fields: `merge` puts them into the row. `fields` are those that it explains.
    pub(crate) fn update(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        fields: Diff,
        sink: &mut dyn Sink,
        merge: impl FnOnce(&mut Entry) -> Merged,
    ) {
        self.hear(at);
        self.passes.explained(key, fields);
        match self.standing(at, key, sink) {
            Standing::Live => self.merge(at, key, sink, merge),
            Standing::Dead => {}
            Standing::Unknown | Standing::Reused(_) => {
                if !self.embryos.contains(&key) {
                    self.counters.orphans += 1;
                    self.passes.not_kept(key);
                    self.passes.want(self.now, 0, sink);
                }
            }
        }
    }

    /// Merges into a live row, keeps the indexes, says what changed.
    pub(crate) fn merge(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        sink: &mut dyn Sink,
        merge: impl FnOnce(&mut Entry) -> Merged,
    ) {
        let began = self.passes.last_begin;
        let Some(entry) = self.table.get_mut(key) else { return };
        entry.seen = entry.seen.max(at);
        // Seen since the last pass began: that pass's missing it says nothing.
        entry.absent &= at < began;
        let before = entry.process.parent;
        let merged = merge(entry);
        let parent = entry.process.parent;
        if before != parent {
            self.table.reparented(before, parent);
            self.dead_parent(at, parent, sink);
        }
        if merged.reread {
            self.passes.want(self.now, 0, sink);
        }
        self.say(at, key, merged.diff, sink);
    }

    /// Says that a process is in the map, and lets sessions follow.
    pub(crate) fn started(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        creator: Option<ProcessKey>,
        sink: &mut dyn Sink,
    ) {
        let Some(entry) = self.table.get(key) else { return };
        sink.change(at, Change::ProcessStarted(&entry.process));
        self.sessions_ctx(at, sink, |sessions, ctx| sessions.started(ctx, key, creator));
    }

    pub(crate) fn memory(
        &mut self,
        at: BootTime,
        key: ProcessKey,
        exec_id: u32,
        (argv, env): (Block<'_>, Block<'_>),
        sink: &mut dyn Sink,
    ) {
        self.hear(at);
        if self.table.standing(key) != Standing::Live {
            return;
        }
        let keep = core::mem::take(&mut self.settings.env);
        self.merge(at, key, sink, |entry| entry.merge_memory(exec_id, argv, env, &keep).into());
        self.settings.env = keep;
    }

    /// Asks for argv and environment of an image whose exec was not seen, once.
    pub(crate) fn ask_memory(&mut self, key: ProcessKey, sink: &mut dyn Sink) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let image = Some(entry.process.exec_id);
        if entry.process.argv.is_none() && entry.memory_asked != image {
            entry.memory_asked = image;
            sink.request(Request::Memory(key));
        }
    }
}
