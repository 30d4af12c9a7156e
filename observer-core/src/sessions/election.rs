//! Elects the primary of each home among its roots, and reports what changed.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::change::{Change, Request, Sink};
use crate::model::explanation::ElectionCriterion;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::Bytes;
use crate::model::rule::NameTemplate;
use crate::model::session::{EndReason, Home, Session, State};
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::choice::{Choice, Young, choose, eligible, home_dir, others};
use crate::sessions::claims::Owner;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::fitting::is_unconfirmed;
use crate::sessions::homes::{HomeState, Root, SessionSlot, names_primary, session_name};
use crate::sessions::labels::label_by;
use crate::sessions::ownership::{OwnerBasis, is_foreign, is_owner_outdated};
use crate::sessions::run_program::RunProgram;

/// Fields of the primary that a session shows.
const SHOWN: Diff = Diff::EXEC
    .union(Diff::MOVED)
    .union(Diff::COMM)
    .union(Diff::UIDS)
    .union(Diff::TTY)
    .union(Diff::IMAGE)
    .union(Diff::CGROUP)
    .union(Diff::PANE);

/// Whether an election changed what the session shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Reported,
    Unchanged,
}

impl Sessions {
    /// Elects the primary of `home` again after something that concerns it.
    pub(super) fn elect(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>, cause: Cause<'_>) {
        if self.is_looking {
            return;
        }
        let Some(state) = self.homes.by_home.get(home) else { return };
        // A primary that is elsewhere still keeps its descendants from being roots. One that runs another program or
        // is of another user does not.
        let primary = state.current_primary().filter(|&key| cause.gave_up() != Some(key));
        let successors = self.successors_by(ctx, home, cause);
        let mut lineages = self.lineages(ctx, home);
        let mut elsewhere = Vec::new();
        if !matches!(cause, Cause::Changed(..)) {
            self.find_roots(ctx, &mut lineages, primary);
            elsewhere = self.gather(ctx, home, &mut lineages);
            elsewhere.extend(self.move_wrappers(ctx, home));
            if !elsewhere.is_empty() {
                lineages = self.lineages(ctx, home);
                self.find_roots(ctx, &mut lineages, primary);
            }
        }
        let Some(state) = self.homes.by_home.get(home) else { return };
        let young = Young::among(ctx, &self.homes, &self.settling, (home, state, &successors), &mut lineages);
        let choice = choose(ctx, &self.homes, home, (state, primary, &successors), &young);
        let spread = self.spread(ctx, home, &young, (choice, primary), &mut lineages);
        let is_admitted = self.homes.admits_session(home, choice.elected().is_some());
        let is_another = choice.elected().zip(primary).is_some_and(|(elected, primary)| elected != primary);
        if is_another || !spread.is_empty() {
            if !spread.is_empty() {
                lineages = self.lineages(ctx, home);
            }
            self.find_roots(ctx, &mut lineages, primary.filter(|_| !is_another));
        }
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let before = (state.holders(), state.ended_at());
        let basis_before = state.live_session().map(OwnerBasis::of);
        let outcome = match choice {
            _ if !is_admitted => Outcome::Unchanged,
            Choice::Primary(key, criterion) => install(ctx, home, state, (key, criterion), &young, cause),
            Choice::NewIncarnation(key) => {
                if let Some(mut old) = state.slot.take().filter(|slot| !slot.is_ended()) {
                    end(ctx, &mut old, EndReason::Replaced, cause);
                    state.replaced_at = old.changed_at;
                }
                install(ctx, home, state, (key, ElectionCriterion::NewDirectory), &young, cause)
            }
            Choice::NoCandidate => keep_without_candidate(ctx, state, cause),
        };
        let after = (state.holders(), state.ended_at());
        let session = state.live_session();
        let asks_owner = session.filter(|after| is_owner_outdated(basis_before, OwnerBasis::of(after)));
        let asks_owner = asks_owner.map(|session| session.rule);
        if outcome == Outcome::Reported {
            self.reported.push(Arc::clone(home));
        }
        if let Some(rule) = asks_owner {
            self.request_deciding_owner(ctx, home, rule);
        }
        self.homes.set_due(home, young.next_due());
        self.index(ctx, home, before, after);
        self.watch_owner(ctx, home);
        if before.0[0] != after.0[0] {
            self.label_anew(ctx, home);
        }
        for instance in spread.into_iter().chain(elsewhere) {
            self.elect(ctx, &instance, Cause::Candidates);
        }
    }

    /// Keeps the indexes of holders and of ended sessions: `home` went from one state to the other.
    fn index(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        (old_holders, old_end): ([Option<ProcessKey>; 2], Option<BootTime>),
        (new_holders, new_end): ([Option<ProcessKey>; 2], Option<BootTime>),
    ) {
        if old_end != new_end {
            if let Some(since) = old_end {
                self.homes.remove_ended(since, home);
            }
            if let Some(since) = new_end {
                self.homes.add_ended(since, home);
            }
        }
        for key in old_holders.into_iter().flatten().filter(|key| !new_holders.contains(&Some(*key))) {
            self.release(ctx, key, home);
        }
        for key in new_holders.into_iter().flatten().filter(|key| !old_holders.contains(&Some(*key))) {
            self.hold(ctx, key, home);
        }
        let ([old_primary, _], [new_primary, _]) = (old_holders, new_holders);
        if old_primary != new_primary {
            self.relinked.extend([old_primary, new_primary].into_iter().flatten().map(age));
        }
    }

    /// `key` holds `home` from here on, so its records are worth waking the reader for.
    pub(super) fn hold(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        if self.homes.hold(ctx.table, key, home) {
            self.panes.follow(ctx.table, key);
            ctx.sink.request(Request::Watch(key, true));
        }
    }

    /// `key` does not hold `home` any more.
    pub(super) fn release(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        if self.homes.release(ctx.table, key, home) {
            self.panes.unfollow(key);
            ctx.sink.request(Request::Watch(key, false));
        }
    }

    /// Forgets the session of `home` if `key` is its primary: the process never stood for it. It ends for `reason`.
    pub(super) fn withdraw(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        reason: EndReason,
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let before = (state.holders(), state.ended_at());
        // The next primary begins a session of its own, without the starts of this one.
        if let Some(mut slot) = state.slot.take_if(|slot| slot.current_primary() == Some(key)) {
            end(ctx, &mut slot, reason, Cause::Candidates);
            state.replaced_at = slot.changed_at;
        }
        let after = (state.holders(), state.ended_at());
        self.index(ctx, home, before, after);
        self.elect(ctx, home, Cause::Candidates);
        self.homes.forget_empty(home);
    }

    /// `key` becomes a candidate of `home`. Ends the sessions of other homes whose primary it is, since one
    /// process is the primary of one session at most. Returns these homes, in which nobody was elected: what `key` started
    /// there stays its helper if it is the primary of `home` by then.
    #[must_use]
    pub(super) fn vacate_others(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> Vec<Arc<Home>> {
        let others: Vec<Arc<Home>> =
            self.homes.held_by(key).iter().filter(|held| *held != home).cloned().collect();
        let is_primary =
            |other: &Arc<Home>| self.homes.slot(other).and_then(SessionSlot::current_primary) == Some(key);
        let vacated: Vec<Arc<Home>> = others.into_iter().filter(is_primary).collect();
        for other in &vacated {
            self.end_session(ctx, other, EndReason::Moved, Some(&home.path));
        }
        vacated
    }

    /// Elects in homes that a process vacated.
    pub(super) fn elect_vacated(&mut self, ctx: &mut SessionContext<'_>, vacated: &[Arc<Home>]) {
        for home in vacated {
            self.elect(ctx, home, Cause::Candidates);
            self.homes.forget_empty(home);
        }
    }

    /// Ends the session of `home`, if it has one, though its primary lives on.
    pub(super) fn end_session(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        reason: EndReason,
        moved_to: Option<&Bytes>,
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let before = (state.holders(), state.ended_at());
        let Some(slot) = state.slot.as_mut().filter(|slot| !slot.is_ended()) else { return };
        if let Some(moved_to) = moved_to {
            slot.session.moved_to = Some(Arc::clone(moved_to));
        }
        end(ctx, slot, reason, Cause::Candidates);
        let after = (state.holders(), state.ended_at());
        self.index(ctx, home, before, after);
    }
}

/// Makes `key` the primary of `home`, by this criterion unless it is that already: opens a session or brings the present one up
/// to date.
fn install(
    ctx: &mut SessionContext<'_>,
    home: &Arc<Home>,
    state: &mut HomeState,
    (key, criterion): (ProcessKey, ElectionCriterion),
    young: &Young,
    cause: Cause<'_>,
) -> Outcome {
    let table = &*ctx.table;
    let Some(entry) = table.get(key) else { return Outcome::Unchanged };
    let Some(candidacy) = &entry.candidacy else { return Outcome::Unchanged };
    let process = &entry.process;
    let is_start = state.slot.as_ref().is_none_or(SessionSlot::is_ended);
    let before = state.slot.as_ref().filter(|_| !is_start).map(|slot| slot.session.clone());
    let template = ctx.rules.get(candidacy.rule).map_or(NameTemplate::BASENAME, |rule| &rule.name);
    let at = ctx.at.max(state.replaced_at);
    let mut slot = state.slot.take().unwrap_or_else(|| SessionSlot::new(home, process, template, at));
    let at = slot.changed_at.max(at);
    if names_primary(template) || core::mem::take(&mut slot.is_recorded) {
        let recorded = slot.session.recorded_program.as_ref().filter(|_| slot.session.primary == key);
        slot.session.name = session_name(template, home, process, recorded);
    }
    let root = state.roots.iter().find(|root| [root.stand_in, root.launcher].contains(&Some(key)));
    let former_wrapper = slot.session.wrapper.filter(|_| slot.session.primary == key);
    count_start(&mut slot, (entry, criterion), root, is_start, at);
    label_by(ctx.labels, &mut slot, process);
    slot.had_tty |= process.tty.is_some();
    slot.last_primary = None;
    let had_tty = slot.had_tty;
    let session = &mut slot.session;
    session.recorded_program.take_if(|_| session.primary != key || !process.is_unread());
    session.primary = key;
    let is_root =
        |key: &ProcessKey| state.roots.binary_search_by_key(&age(*key), |root| age(root.key)).is_ok();
    // A primary goes on below a root that starts it no more, or that came above it later.
    let is_below = || table.ancestors(entry).map(|above| above.process.key).find(is_root);
    let wrapper = root.map(|root| root.key).or(former_wrapper.filter(is_root)).or_else(is_below);
    session.wrapper = wrapper.filter(|&wrapper| wrapper != key);
    session.rule = candidacy.rule;
    session.unconfirmed = is_unconfirmed(ctx, session, had_tty, process);
    session.stands_in_for = slot.program.name().filter(|_| slot.is_substitute).cloned();
    if let Some(dir) = home_dir(process, home) {
        session.home_dir = dir;
        session.cwd_deleted = process.cwd.deleted;
    }
    let rule = ctx.rules.get(session.rule);
    if let (true, Owner::Known(Some(owner))) = (rule.is_some_and(|rule| rule.owner), state.owner) {
        session.owner = Some(owner);
    }
    session.foreign = is_foreign(rule, home, session.owner);
    state.eligible = eligible(ctx, state, young, session);
    (session.roots, session.others) = others(ctx.table, &state.eligible, session);
    (session.moved_to, session.death, session.end_reason) = (None, None, None);
    let new_state = if had_tty && process.tty.is_none() { State::Detached } else { State::Live };
    if is_start || session.state != new_state {
        enter(session, new_state, at);
    }
    let change = match &before {
        None => Some(Change::SessionStarted(session, process)),
        Some(before) => {
            (*before != *session || shows(cause, key)).then_some(Change::SessionChanged(session, process))
        }
    };
    let outcome = report(ctx.sink, at, change);
    if outcome == Outcome::Reported {
        slot.changed_at = at;
    }
    state.slot = Some(slot);
    outcome
}

/// Brings the starts of a session, its program and its launcher up to date: `entry` is its primary from here on,
/// for `root`, by this criterion unless it was that before. `is_start`: there was no session.
fn count_start(
    slot: &mut SessionSlot,
    (entry, criterion): (&ProcessEntry, ElectionCriterion),
    root: Option<&Root>,
    is_start: bool,
    at: BootTime,
) {
    let process = &entry.process;
    let key = process.key;
    let is_other = is_start || slot.session.primary != key;
    let launcher = root.and_then(|root| root.launcher.filter(|&launcher| launcher != key));
    // What a launcher starts first, and the launcher after it, are the same start.
    let is_handed_over = !is_start
        && is_other
        && (slot.launcher == Some(key)
            || (launcher == Some(slot.session.primary) && slot.launcher != launcher));
    if !is_other {
        slot.session.starts.add_exec(process, entry.lineage_by_birth, at);
    } else {
        slot.elected_by = criterion;
        slot.had_tty = false;
        (slot.was_known, slot.known_exec_id) = (false, None);
        if is_handed_over {
            slot.session.starts.hand_over(process);
        } else {
            slot.session.starts.add_primary(process);
            slot.session.labels.clear();
            slot.labelled_at.clear();
        }
    }
    let is_known = slot.program.is_run_by(process);
    // What a launcher hands over to runs what the launcher does, which may just have executed that.
    let is_another = is_other && !is_handed_over && launcher != Some(slot.session.primary);
    slot.is_substitute = !is_start && !is_known && (is_another || slot.is_substitute);
    // Until its arguments are known, its program is the one that was recorded.
    if !slot.is_substitute && (is_other || !process.is_unread()) {
        slot.program = RunProgram::of(process);
    }
    if launcher.is_some() || slot.launcher != Some(key) {
        slot.launcher = launcher;
    }
}

/// No candidate can be the primary. The session ends with its primary; while that one lives elsewhere, it is
/// left.
fn keep_without_candidate(ctx: &mut SessionContext<'_>, state: &mut HomeState, cause: Cause<'_>) -> Outcome {
    let Some(slot) = state.slot.as_mut().filter(|slot| !slot.is_ended()) else { return Outcome::Unchanged };
    let primary = slot.session.primary;
    let reason = match cause {
        Cause::ExecedAway(key) | Cause::FoundExecedAway(key) if key == primary => Some(EndReason::ExecedAway),
        Cause::ChangedUser(key) if key == primary => Some(EndReason::UserChanged),
        Cause::Died(process, ..) if process.key == primary => Some(EndReason::Died),
        _ => None,
    };
    if let Some(reason) = reason {
        end(ctx, slot, reason, cause);
        return Outcome::Reported;
    }
    let Some(entry) = ctx.table.get(primary) else { return Outcome::Unchanged };
    let process = &entry.process;
    let at = slot.changed_at.max(ctx.at);
    let session = &mut slot.session;
    let before = session.clone();
    session.wrapper = None;
    session.roots = 1;
    session.others.clear();
    session.unconfirmed = is_unconfirmed(ctx, session, slot.had_tty, process);
    session.recorded_program.take_if(|_| !process.is_unread());
    if process.cwd.path.is_some() {
        session.moved_to = process.cwd.path.clone();
    }
    if session.state != State::Left {
        enter(session, State::Left, at);
    }
    if session.starts.misses_image_of(process) {
        session.starts.add_exec(process, false, at);
    }
    let changed = before != *session || shows(cause, primary);
    let outcome = report(ctx.sink, at, changed.then_some(Change::SessionChanged(session, process)));
    if outcome == Outcome::Reported {
        slot.changed_at = at;
    }
    outcome
}

/// Returns whether the cause is a change of fields of `key` that the session shows.
fn shows(cause: Cause<'_>, key: ProcessKey) -> bool {
    matches!(cause, Cause::Changed(of, diff) | Cause::Moved(of, diff) if of == key && diff.intersects(SHOWN))
}

fn enter(session: &mut Session, state: State, at: BootTime) {
    session.state = state;
    session.since = at;
}

fn report(sink: &mut dyn Sink, at: BootTime, change: Option<Change<'_>>) -> Outcome {
    let Some(change) = change else { return Outcome::Unchanged };
    sink.change(at, change);
    Outcome::Reported
}

/// Ends a session and reports it. A primary that died is the reason, whatever else is.
fn end(ctx: &mut SessionContext<'_>, slot: &mut SessionSlot, reason: EndReason, cause: Cause<'_>) {
    let primary = slot.session.primary;
    let dead = match cause {
        Cause::Died(process, death, _) if process.key == primary => Some((process, death)),
        _ => None,
    };
    let at = slot.change_at(ctx.at);
    // Of sessions that ended, the journal has the program alone.
    slot.launcher = None;
    let session = &mut slot.session;
    session.death = dead.map(|(_, death)| death.clone());
    session.end_reason = Some(if dead.is_some() { EndReason::Died } else { reason });
    session.wrapper = None;
    session.unconfirmed = false;
    session.roots = 0;
    session.others.clear();
    enter(session, State::Ended, at);
    let alive = || ctx.table.get(primary).map(|entry| &entry.process);
    let Some(last) = dead.map(|(process, _)| process).or_else(alive) else { return };
    // It may have executed another program, and that is why the session ends.
    let recorded = session.recorded_program.as_ref().filter(|_| last.is_unread());
    let ran = recorded.or(last.program.as_ref());
    let is_other = |program: &&Bytes| ran != Some(*program);
    session.stands_in_for = slot.program.name().filter(is_other).cloned();
    let mut last = Box::new(last.clone());
    // It may be of another user by now, and that is why the session ends.
    last.uids.uid = session.home.uid;
    ctx.sink.change(at, Change::SessionEnded(session, &last));
    let is_found = matches!(cause, Cause::FoundExecedAway(_));
    let is_other_program = dead.is_none() && !is_found && session.end_reason == Some(EndReason::ExecedAway);
    let former = is_other_program.then(|| session.former(&last, at));
    slot.last_primary = Some(last);
    if let Some(former) = former {
        // What the former program started goes on below the present one.
        let children = ctx.table.children_by_birth(primary.tgid).filter_map(|child| ctx.table.by_tgid(child));
        let children: Vec<ProcessKey> = children.map(|child| child.process.key).collect();
        ctx.table.leave(&children, Some(&former));
    }
}
