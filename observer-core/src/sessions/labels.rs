//! Labels sessions by the environment of what is executed in them: by their primary, and by what was born below it.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{LABEL_BYTES_MAX, LABELLING_PROCESSES_MAX};
use crate::model::change::Change;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::label::{Label, LabelVariable};
use crate::model::process::{Process, variable};
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::sessions::Sessions;
use crate::sessions::context::SessionContext;
use crate::sessions::homes::SessionSlot;

/// The time of a label that was read from the memory of a process whose exec was not observed.
const UNOBSERVED: BootTime = BootTime(0);
/// The time of a label that the session had before the daemon was started again.
const RESTORED: BootTime = BootTime(1);

impl Sessions {
    /// A process executed a program, or its environment was read: labels the session of which it is the primary, or in
    /// which it was born below the primary. Other roots of the home label nothing.
    pub fn executed(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        if ctx.labels.is_empty() {
            return;
        }
        let Some(entry) = ctx.table.get(key) else { return };
        let has_variables = entry.process.env.as_ref().is_some_and(|env| !env.is_empty());
        let Some(session) = self.session_of(ctx.table, key).filter(|_| has_variables) else { return };
        if !self.is_below_primary(ctx, session.primary, &session.home, entry) {
            return;
        }
        let home = Arc::clone(&session.home);
        self.update_labels(ctx, &home, |ctx, slot| {
            if let Some(entry) = ctx.table.get(key) {
                label_by(ctx.labels, slot, &entry.process);
            }
        });
    }

    /// Labels the session of `home` by what its primary and those born in it have executed, of these as many as
    /// [`LABELLING_PROCESSES_MAX`], the nearest first.
    pub(super) fn label_anew(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>) {
        if ctx.labels.is_empty() {
            return;
        }
        let Some(primary) = self.homes.slot(home).and_then(SessionSlot::current_primary) else { return };
        let (mut found, mut pending) = (Vec::new(), VecDeque::from([primary.tgid]));
        for _ in 0..LABELLING_PROCESSES_MAX {
            let Some(tgid) = pending.pop_front() else { break };
            let Some(entry) = ctx.table.by_tgid(tgid) else { continue };
            let key = entry.process.key;
            let is_here = || self.session_of(ctx.table, key).is_some_and(|session| session.home == *home);
            if key == primary || (is_here() && self.is_below_primary(ctx, primary, home, entry)) {
                found.push((entry.process.exec_at, key));
                pending.extend(ctx.table.children_by_birth(tgid).take(LABELLING_PROCESSES_MAX));
            }
        }
        found.sort_unstable();
        self.update_labels(ctx, home, |ctx, slot| {
            for entry in found.iter().filter_map(|&(_, key)| ctx.table.get(key)) {
                label_by(ctx.labels, slot, &entry.process);
            }
        });
    }

    /// Returns whether `entry` is the primary of `home`, or was born below it and below no other root since.
    fn is_below_primary(
        &self,
        ctx: &SessionContext<'_>,
        primary: ProcessKey,
        home: &Home,
        entry: &ProcessEntry,
    ) -> bool {
        let roots = self.homes.by_home.get(home).map_or(&[][..], |state| &state.roots);
        let is_other_root = |key: ProcessKey| {
            let mut others = roots.iter().filter(|root| root.stand_in != Some(primary));
            others.any(|root| root.key == key || root.stand_in == Some(key))
        };
        let mut line = core::iter::once(entry).chain(ctx.table.ancestors(entry)).map(|it| it.process.key);
        line.find(|&key| key == primary || is_other_root(key)) == Some(primary)
    }

    /// Gives the session of `home` the labels that it had before the daemon was started again, and then those of what is
    /// executed in it.
    pub(super) fn restore_labels(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>, known: &[Label]) {
        self.update_labels(ctx, home, |ctx, slot| {
            let is_wanted = |label: &&Label| {
                let is_same =
                    |it: &LabelVariable| label.variable.is_empty() || *label.variable == *it.variable;
                ctx.labels.iter().any(|it| it.name == label.name && is_same(it))
                    && label.value.len() <= LABEL_BYTES_MAX
            };
            known.iter().filter(is_wanted).for_each(|label| set(slot, label.clone(), RESTORED));
        });
        self.label_anew(ctx, home);
    }

    /// Other variables label sessions than the `former` ones. A label whose variable is the same stays.
    pub fn relabel(&mut self, ctx: &mut SessionContext<'_>, former: &[LabelVariable]) {
        let homes: Vec<Arc<Home>> = self.homes.by_home.keys().cloned().collect();
        for home in homes {
            self.update_labels(ctx, &home, |ctx, slot| {
                let is_kept = |name: &Arc<str>| {
                    ctx.labels.iter().any(|label| label.name == *name && former.contains(label))
                };
                slot.session.labels.retain(|label| is_kept(&label.name));
                slot.labelled_at.retain(|name, _| is_kept(name));
            });
            self.label_anew(ctx, &home);
        }
    }

    /// Applies `update` to the live session of `home`, and reports the session if its labels are others then.
    fn update_labels(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        update: impl FnOnce(&SessionContext<'_>, &mut SessionSlot),
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let Some(slot) = state.slot.as_mut().filter(|slot| !slot.is_ended()) else { return };
        let before = slot.session.labels.clone();
        update(ctx, slot);
        if slot.session.labels == before {
            return;
        }
        if let Some(entry) = ctx.table.get(slot.session.primary) {
            let at = slot.change_at(ctx.at);
            ctx.sink.change(at, Change::SessionChanged(&slot.session, &entry.process));
        }
    }
}

/// Labels a session by the variables of a process in it. What was executed later than this counts already.
pub(super) fn label_by(labels: &[LabelVariable], slot: &mut SessionSlot, process: &Process) {
    let Some(env) = process.env.as_ref().filter(|env| !labels.is_empty() && !env.is_empty()) else { return };
    // A fork alone executes nothing: its environment is that of an exec that counted.
    let at = process.exec_at.unwrap_or(UNOBSERVED);
    for LabelVariable { name, variable: of } in labels {
        let value = variable(env, of).filter(|value| value.len() <= LABEL_BYTES_MAX);
        let Some(value) = value else { continue };
        let known = slot.session.labels.iter().find(|label| label.name == *name);
        let label = known.filter(|label| *label.value == *value && *label.variable == **of).cloned();
        let (name, variable) = (Arc::clone(name), || of.as_slice().into());
        set(slot, label.unwrap_or_else(|| Label { name, variable: variable(), value: value.into() }), at);
    }
}

/// Sets a label that was seen at `at`, unless a later one is known. Labels are in the order of their names.
fn set(slot: &mut SessionSlot, label: Label, at: BootTime) {
    let seen_at = slot.labelled_at.entry(Arc::clone(&label.name)).or_insert(at);
    if at < *seen_at {
        return;
    }
    *seen_at = at;
    let labels = &mut slot.session.labels;
    match labels.binary_search_by(|known| known.name.cmp(&label.name)) {
        Ok(index) => {
            if let Some(known) = labels.get_mut(index) {
                *known = label;
            }
        }
        Err(index) => labels.insert(index, label),
    }
}
