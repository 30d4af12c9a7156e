//! Restores sessions that were known before the daemon was started again. The kernel does not keep all of it:
//! that the primary had a terminal, that a rule admitted it before it left, since when the session is in its
//! state, earlier starts, and the clock by which its times were reported.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::input::KnownSession;
use crate::model::change::Change;
use crate::model::ids::ProcessKey;
use crate::model::process::{Bytes, WorkingDirectory};
use crate::model::rule::{NameTemplate, Rule};
use crate::model::session::{EndReason, Home, State};
use crate::processes::entry::Candidacy;
use crate::sessions::Sessions;
use crate::sessions::admission::{finds_home, follows_cwd, is_wrapper, namespace};
use crate::sessions::by_age::age;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::fitting::{Tenure, is_surely_ignored};
use crate::sessions::homes::{SessionSlot, session_name};
use crate::sessions::instances::is_surplus;
use crate::sessions::roots::roots;
use crate::sessions::run_program::RunProgram;

/// Times are kept in milliseconds, so a kept time is at most this much too early, ns.
pub(super) const GRAIN_NS: u64 = 1_000_000;

impl Sessions {
    /// Restores known sessions: all of a session if its primary lives and a rule would have admitted that one to the home,
    /// else its starts and its program alone. The times of the primary stay as they were reported in either case. Elects in every home
    /// if the known sessions were awaited.
    pub(crate) fn resume(&mut self, ctx: &mut SessionContext<'_>, known: &[KnownSession<'_>]) {
        let is_surplus = |it: &&KnownSession<'_>| is_surplus_of(ctx, it, known);
        let (surplus, mut known): (Vec<_>, Vec<_>) = known.iter().partition(is_surplus);
        for known in surplus {
            restore_wall_offset(ctx, known);
        }
        // What an older process is the primary of is known before its helpers are looked at.
        known.sort_by_key(|known| age(known.primary));
        if !self.is_looking {
            known.into_iter().for_each(|known| self.resume_late(ctx, known));
            return;
        }
        let offsets_changed: Vec<bool> = known.iter().map(|known| restore_wall_offset(ctx, known)).collect();
        let live: Vec<&KnownSession<'_>> =
            known.iter().copied().filter(|known| known.state != State::Ended).collect();
        let lost = self.put_in_places(ctx, &live);
        known.iter().for_each(|known| self.remember(ctx, known));
        self.elect_lost(ctx, &lost);
        self.elect_all(ctx);
        for (known, offset_changed) in known.iter().zip(offsets_changed) {
            let home = self.homes.intern(known.home.clone());
            self.restore_slot(ctx, &home, known, offset_changed);
        }
    }

    /// Keeps which program a session was of that has ended, and its starts: its program has the number of the session, and is
    /// known in the home, when it is started again.
    fn remember(&mut self, ctx: &SessionContext<'_>, known: &KnownSession<'_>) {
        let entry = ctx.table.get(known.primary);
        let candidacy = entry.and_then(|entry| entry.candidacy.as_ref());
        // One that went elsewhere, or that no rule admits, has no session here any more.
        let is_there = candidacy.is_some_and(|candidacy| candidacy.home.is_sibling(known.home));
        let has_ended = known.state == State::Ended || !is_there;
        let program = known.stands_in_for.or(known.program);
        let Some(program) = program.filter(|_| has_ended) else { return };
        let home = self.homes.intern(known.home.clone());
        let state = self.homes.by_home.entry(Arc::clone(&home)).or_default();
        if state.slot.is_none() {
            state.slot = Some(SessionSlot::recorded(&home, known, program));
            self.homes.add_ended(known.since, &home);
        }
    }

    /// Restores a known session after elections took place without it, because the journal could not be read before.
    fn resume_late(&mut self, ctx: &mut SessionContext<'_>, known: &KnownSession<'_>) {
        let home = self.homes.intern(known.home.clone());
        let offset_changed = restore_wall_offset(ctx, known);
        if known.state != State::Ended {
            self.return_primary(ctx, &home, known);
        }
        self.remember(ctx, known);
        self.restore_slot(ctx, &home, known, offset_changed);
    }

    /// Makes the known primary that of the home again, unless another process has taken its place.
    fn return_primary(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>, known: &KnownSession<'_>) {
        let Some(entry) = ctx.table.get(known.primary) else { return };
        let process = &entry.process;
        let slot = self.homes.slot(home);
        if slot.is_some_and(|slot| slot.current_primary() == Some(known.primary)) {
            return;
        }
        let mut rules = ctx.rules.iter().enumerate();
        let is_ignored = is_surely_ignored(ctx.ignored, process);
        let tenure = Tenure::from(known);
        let fitting = rules.find(|(_, rule)| !is_ignored && tenure.fits(rule, process));
        let Some((index, rule)) = fitting else { return };
        // A primary that had left was about to move: only being there brings it back.
        let keeps_home = follows_cwd(rule) && known.state != State::Left;
        let is_there = keeps_home || is_inside(ctx, rule, known, &process.cwd);
        // Another process is the primary. It would not be if the known one had been there all the time. What the known one
        // started would be its helper.
        let is_taken = || !roots(ctx.table, &self.homes, home, Some(known.primary)).is_empty();
        if slot.is_some_and(|slot| slot.is_ended() || (!is_there && is_taken())) {
            return;
        }
        let present_home = entry.candidacy.as_ref().map(|candidacy| &candidacy.home);
        let is_candidate = present_home == Some(home);
        let is_elsewhere = present_home.is_some_and(|present| !present.is_sibling(home));
        // It went to another home and is a candidate there.
        if is_elsewhere && !keeps_home {
            return;
        }
        // Its session, if it has one in another home, ends.
        let leaves = self.homes.home_of_primary(known.primary).is_some_and(|held| held.uid == home.uid);
        if !leaves && !self.homes.has_room(home) {
            return;
        }
        let candidacy = (is_there && !is_candidate).then(|| Candidacy {
            home: Arc::clone(home),
            rule: index,
            is_wrapper: is_wrapper(rule, process),
            dir: process.cwd.id,
            since: ctx.at,
            is_assumed: false,
        });
        if let Some(present) =
            present_home.filter(|present| is_there && !is_candidate && present.is_sibling(home)).cloned()
        {
            self.move_launchers(ctx, &present, known.primary, home);
        }
        if !is_candidate {
            self.depart(ctx, known.primary, EndReason::Moved);
        }
        let vacated = self.vacate_others(ctx, known.primary, home);
        // Another one may have begun where its session ended.
        if self.homes.has_room(home) {
            self.adopt(ctx, home, index, known);
        }
        match candidacy {
            Some(candidacy) => self.join(ctx, known.primary, candidacy),
            None => self.elect(ctx, home, Cause::Candidates),
        }
        self.elect_vacated(ctx, &vacated);
        self.withdraw_helpers(ctx, known.primary, home);
    }

    /// Ends the sessions of helpers of `primary`, whose session is that of `home` again: the first pass found them where no
    /// primary was above them. Those that were known are resumed later, since they are younger.
    fn withdraw_helpers(&mut self, ctx: &mut SessionContext<'_>, primary: ProcessKey, home: &Arc<Home>) {
        let mut pending = alloc::vec![primary.tgid];
        while let Some(tgid) = pending.pop() {
            pending.extend(ctx.table.children_by_birth(tgid));
            let Some(key) = ctx.table.by_tgid(tgid).map(|entry| entry.process.key) else { continue };
            let Some(held) = self.homes.home_of_primary(key).filter(|held| *held != home) else { continue };
            let roots = roots(ctx.table, &self.homes, held, None);
            if !roots.iter().any(|root| [root.stand_in, root.launcher].contains(&Some(key))) {
                let held = Arc::clone(held);
                self.withdraw(ctx, key, &held, EndReason::Moved);
            }
        }
    }

    /// Takes a process from the home in which the first pass found it, whose session it never was. If it was reported
    /// as that, the session ends for `reason`.
    pub(super) fn depart(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, reason: EndReason) {
        let Some(entry) = ctx.table.get_mut(key) else { return };
        let Some(candidacy) = entry.candidacy.take() else { return };
        if let Some(state) = self.homes.by_home.get_mut(&candidacy.home) {
            state.candidates.remove(&age(key));
        }
        self.withdraw(ctx, key, &candidacy.home, reason);
    }

    /// Gives the home's session to the known primary, which need not be there.
    pub(super) fn adopt(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        rule: usize,
        known: &KnownSession<'_>,
    ) {
        let Some(entry) = ctx.table.get(known.primary) else { return };
        let process = &entry.process;
        let state = self.homes.by_home.entry(Arc::clone(home)).or_default();
        let before = state.slot.take();
        let template = ctx.rules.get(rule).map_or(NameTemplate::BASENAME, |rule| &rule.name);
        let mut slot = SessionSlot::new(home, process, template, ctx.at);
        slot.had_tty = known.had_tty;
        slot.session.home_dir = known.home_dir;
        slot.was_known = true;
        if process.is_unread() {
            slot.program = RunProgram::recorded(process, known.program);
            slot.session.recorded_program = known.program.map(Bytes::from);
            let recorded = slot.session.recorded_program.as_ref();
            slot.session.name = session_name(template, home, process, recorded);
        }
        if let Some(program) = known.stands_in_for {
            slot.program = RunProgram::named(program);
            slot.is_substitute = true;
        }
        slot.session.rule = rule;
        slot.session.state = State::Left;
        slot.session.moved_to = process.cwd.path.clone();
        slot.session.starts.add_primary(process);
        let change = match &before {
            None => Change::SessionStarted(&slot.session, process),
            Some(_) => Change::SessionChanged(&slot.session, process),
        };
        ctx.sink.change(ctx.at, change);
        state.slot = Some(slot);
        // What is below the primaries may have become roots, or ceased to be.
        self.relinked(known.primary);
        before.iter().for_each(|slot| self.relinked(slot.session.primary));
        let former = before.map(|slot| [Some(slot.session.primary), slot.session.wrapper]);
        for key in former.into_iter().flatten().flatten() {
            self.release(ctx, key, home);
        }
        self.hold(ctx, known.primary, home);
    }

    /// Restores the starts; the terminal and the time of the state too if the session is still of the same
    /// process.
    fn restore_slot(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        known: &KnownSession<'_>,
        offset_changed: bool,
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let Some(slot) = state.slot.as_mut().filter(|slot| !slot.is_ended()) else { return };
        let Some(entry) = ctx.table.get(slot.session.primary) else { return };
        let before = slot.session.clone();
        let session = &mut slot.session;
        session.starts.restore(known.starts, GRAIN_NS);
        let same_primary = session.primary == known.primary;
        if same_primary {
            slot.known_exec_id = known.exec_id;
            slot.had_tty |= known.had_tty;
            if entry.process.is_unread() {
                session.recorded_program = known.program.map(Bytes::from);
            }
            if slot.had_tty && entry.process.tty.is_none() && session.state == State::Live {
                session.state = State::Detached;
                session.since = ctx.at;
            }
            if session.state == known.state {
                session.since = known.since;
            }
        }
        if (offset_changed && same_primary) || before != *session {
            let at = slot.change_at(ctx.at);
            ctx.sink.change(at, Change::SessionChanged(&slot.session, &entry.process));
        }
        if same_primary {
            self.restore_labels(ctx, home, known.labels);
        }
    }
}

/// Returns whether a known session is a further one of its directory, one of `all`, where that has one alone by these rules.
fn is_surplus_of(ctx: &SessionContext<'_>, known: &KnownSession<'_>, all: &[KnownSession<'_>]) -> bool {
    let is_live = |it: &KnownSession<'_>| it.state != State::Ended;
    let Some(entry) = ctx.table.get(known.primary).filter(|_| is_live(known)) else { return false };
    let is_ignored = is_surely_ignored(ctx.ignored, &entry.process);
    let tenure = Tenure::from(known);
    let rule = ctx.rules.iter().find(|rule| !is_ignored && tenure.fits(rule, &entry.process));
    let first = Home { instance: Home::FIRST, ..known.home.clone() };
    let first = all.iter().find(|it| *it.home == first && is_live(it)).map(|it| it.home_dir);
    let is_deleted = known.home_deleted || entry.process.cwd.deleted;
    rule.is_some_and(|rule| is_surplus(ctx.rules, (rule, known.home), known.home_dir, first, is_deleted))
}

/// Makes the times of the primary be shown by the clock by which they were reported. Returns whether that is
/// another clock than the present one.
fn restore_wall_offset(ctx: &mut SessionContext<'_>, known: &KnownSession<'_>) -> bool {
    let Some(entry) = ctx.table.get_mut(known.primary) else { return false };
    let process = &mut entry.process;
    let differs = process.wall_offset_ns != known.wall_offset_ns;
    if differs {
        process.wall_offset_ns = known.wall_offset_ns;
        ctx.sink.change(ctx.at, Change::ProcessChanged(process));
    }
    differs
}

/// Returns whether `cwd` is in the home, which may be deleted.
pub(super) fn is_inside(
    ctx: &SessionContext<'_>,
    rule: &Rule,
    known: &KnownSession<'_>,
    cwd: &WorkingDirectory,
) -> bool {
    let path = cwd.path.as_deref().filter(|_| !cwd.unreachable);
    path.is_some_and(|path| finds_home(rule, path, known.home))
        && namespace(ctx.host_mnt_ns, cwd.mnt_ns) == known.home.mnt_ns
}

impl<'a> From<&KnownSession<'a>> for Tenure<'a> {
    fn from(known: &KnownSession<'a>) -> Self {
        Self { home: known.home, had_tty: known.had_tty, program: known.program }
    }
}
