//! Elects the primary of each home among its roots, and reports what changed.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::change::{Change, Request, Sink};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Bytes, DirId, Process};
use crate::model::session::{EndReason, Home, Session, State};
use crate::processes::fields::Diff;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, SessionSlot, names_program, session_name};
use crate::sessions::roots::{is_candidate, roots};

/// Fields of the primary that a session shows.
const SHOWN: Diff =
    Diff::EXEC.union(Diff::MOVED).union(Diff::COMM).union(Diff::UIDS).union(Diff::TTY).union(Diff::IMAGE);

/// The result of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// This process is the primary.
    Primary(ProcessKey),
    /// This process is the primary of a new incarnation: another directory is at the path of the home.
    NewIncarnation(ProcessKey),
    /// No candidate can be the primary.
    NoCandidate,
}

/// Whether an election changed what the session shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Reported,
    Unchanged,
}

impl Sessions {
    /// Elects the primary of `home` again after something that concerns it.
    pub(super) fn elect(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>, cause: Cause<'_>) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        // A primary that is elsewhere still keeps its descendants from being roots. One that exec'd away does
        // not.
        let primary =
            state.current_primary().filter(|&key| !matches!(cause, Cause::ExecedAway(away) if away == key));
        if !matches!(cause, Cause::Changed(..)) {
            state.roots = roots(ctx.table, &state.candidates, home, primary);
        }
        let young = Young::among(ctx, state);
        let choice = choose(ctx, home, state, &young);
        if let Choice::Primary(key) | Choice::NewIncarnation(key) = choice
            && primary.is_some_and(|primary| primary != key)
        {
            state.roots = roots(ctx.table, &state.candidates, home, None);
        }
        let before = (state.holders(), state.ended_at());
        let outcome = match choice {
            Choice::Primary(key) => install(ctx, home, state, key, &young, cause),
            Choice::NewIncarnation(key) => {
                if let Some(mut old) = state.slot.take().filter(|slot| !slot.is_ended()) {
                    end(ctx, &mut old, EndReason::Replaced, cause);
                }
                install(ctx, home, state, key, &young, cause)
            }
            Choice::NoCandidate => keep_without_candidate(ctx, state, cause),
        };
        let after = (state.holders(), state.ended_at());
        if outcome == Outcome::Reported {
            self.reported.push(Arc::clone(home));
        }
        self.homes.set_due(home, young.next_due());
        self.index(ctx, home, before, after);
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
    }

    /// `key` holds `home` from here on, so its records are worth waking the reader for.
    pub(super) fn hold(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        if self.homes.hold(key, home) {
            ctx.sink.request(Request::Watch(key, true));
        }
    }

    /// `key` does not hold `home` any more.
    pub(super) fn release(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        if self.homes.release(key, home) {
            ctx.sink.request(Request::Watch(key, false));
        }
    }

    /// Forgets the session of `home` if `key` is its primary: the process never stood for it.
    pub(super) fn withdraw(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let before = (state.holders(), state.ended_at());
        // The next primary begins a session of its own, without the starts of this one.
        if let Some(mut slot) = state.slot.take_if(|slot| slot.current_primary() == Some(key)) {
            end(ctx, &mut slot, EndReason::Moved, Cause::Candidates);
        }
        let after = (state.holders(), state.ended_at());
        self.index(ctx, home, before, after);
        self.elect(ctx, home, Cause::Candidates);
        self.homes.forget_empty(home);
    }

    /// `key` becomes a candidate of `home`. Ends the sessions of other homes whose primary it is, since one
    /// process is the primary of one session at most.
    pub(super) fn vacate_others(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        let others = self.homes.held_by(key).iter().filter(|held| *held != home).cloned();
        for other in others.collect::<Vec<_>>() {
            self.end_moved(ctx, key, &other, &home.path);
            self.homes.forget_empty(&other);
        }
    }

    /// Ends the session of `home` if `key` is its primary, which lives on and went to `moved_to`.
    fn end_moved(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        moved_to: &Bytes,
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let before = (state.holders(), state.ended_at());
        let Some(slot) = state.slot.as_mut().filter(|slot| slot.current_primary() == Some(key)) else {
            return;
        };
        slot.session.moved_to = Some(Arc::clone(moved_to));
        end(ctx, slot, EndReason::Moved, Cause::Candidates);
        let after = (state.holders(), state.ended_at());
        self.index(ctx, home, before, after);
        // Its descendants may be roots.
        self.elect(ctx, home, Cause::Candidates);
    }
}

/// Stand-ins that are too young to be a primary, each with the time from which it is old enough.
struct Young(Vec<(ProcessKey, BootTime)>);

impl Young {
    /// Finds the stand-ins below the `min_age` of their rule. `min_age` does not hold back the program that
    /// the home's session runs or ran, so that a crash loop is shown. It holds back any other program:
    /// otherwise, under the default rule, each command typed where a session once ran would be a session.
    fn among(ctx: &SessionContext<'_>, state: &HomeState) -> Self {
        let mut young = Vec::new();
        for key in state.roots.iter().filter_map(|root| root.stand_in) {
            let Some(entry) = ctx.table.get(key) else { continue };
            let rule = entry.candidacy.as_ref().and_then(|candidacy| ctx.rules.get(candidacy.rule));
            let due = key.start_boottime.after(rule.map_or(0, |rule| rule.min_age_ns));
            if due > ctx.now && !runs_the_same(ctx, state.slot.as_ref(), &entry.process) {
                young.push((key, due));
            }
        }
        Self(young)
    }

    fn contains(&self, key: ProcessKey) -> bool {
        self.0.iter().any(|&(young, _)| young == key)
    }

    /// When the first of them is old enough.
    fn next_due(&self) -> Option<BootTime> {
        self.0.iter().map(|&(_, due)| due).min()
    }
}

/// Returns whether `process` runs the program that the session's primary runs, or ran last.
fn runs_the_same(ctx: &SessionContext<'_>, slot: Option<&SessionSlot>, process: &Process) -> bool {
    let Some(slot) = slot else { return false };
    let live = ctx.table.get(slot.session.primary).map(|entry| &entry.process);
    let Some(last) = slot.last_primary.as_deref().or(live) else { return false };
    last.comm == process.comm || (last.exe.is_some() && last.exe == process.exe)
}

/// Chooses the primary: the present one while it is a candidate, else the oldest root.
fn choose(ctx: &SessionContext<'_>, home: &Home, state: &HomeState, young: &Young) -> Choice {
    let stand_ins = || {
        let keys = state.roots.iter().filter_map(|root| root.stand_in);
        keys.filter(|&key| !young.contains(key))
    };
    let Some(slot) = &state.slot else {
        return stand_ins().next().map_or(Choice::NoCandidate, Choice::Primary);
    };
    if let Some(key) = stand_ins().find(|&key| is_replacement(ctx.table, home, slot, key)) {
        return Choice::NewIncarnation(key);
    }
    if let Some(primary) = slot.current_primary()
        && let Some(entry) = ctx.table.get(primary)
        && is_candidate(entry, home)
    {
        let below = state.roots.iter().find(|root| root.key == primary).and_then(|root| root.stand_in);
        return Choice::Primary(below.unwrap_or(primary));
    }
    let eligible = stand_ins().find(|&key| is_eligible(ctx.table, slot.session.cwd_deleted, key));
    eligible.map_or(Choice::NoCandidate, Choice::Primary)
}

/// A process in a deleted directory can be the primary only of the incarnation of the home that is deleted
/// too.
fn is_eligible(table: &ProcessTable, cwd_deleted: bool, key: ProcessKey) -> bool {
    table.get(key).is_some_and(|entry| cwd_deleted || !entry.process.cwd.deleted)
}

/// Returns the identity of the home's directory, if the process is right in it.
fn home_dir(process: &Process, home: &Home) -> Option<DirId> {
    let cwd = &process.cwd;
    let is_there = cwd.path.as_deref() == Some(&*home.path) && cwd.id != DirId::default();
    is_there.then_some(cwd.id)
}

/// Returns whether both are the same directory, whichever mount they are seen through.
fn same_dir(one: DirId, other: DirId) -> bool {
    one.ino == other.ino && one.dev == other.dev
}

/// Returns whether `key` is in another directory at the home's path than the one that the session is of.
fn is_replacement(table: &ProcessTable, home: &Home, slot: &SessionSlot, key: ProcessKey) -> bool {
    let Some(entry) = table.get(key).filter(|entry| !entry.process.cwd.deleted) else { return false };
    let Some(candidacy) = &entry.candidacy else { return false };
    if slot.is_ended() && slot.session.cwd_deleted {
        return true;
    }
    let known = slot.session.home_dir != DirId::default();
    let differs = home_dir(&entry.process, home).is_some_and(|dir| !same_dir(dir, slot.session.home_dir));
    known && differs && candidacy.since > slot.opened_at
}

/// Makes `key` the primary of `home`: opens a session or brings the present one up to date.
fn install(
    ctx: &mut SessionContext<'_>,
    home: &Arc<Home>,
    state: &mut HomeState,
    key: ProcessKey,
    young: &Young,
    cause: Cause<'_>,
) -> Outcome {
    let (table, at) = (&*ctx.table, ctx.at);
    let Some(entry) = table.get(key) else { return Outcome::Unchanged };
    let Some(candidacy) = &entry.candidacy else { return Outcome::Unchanged };
    let process = &entry.process;
    let is_start = state.slot.as_ref().is_none_or(SessionSlot::is_ended);
    let before = state.slot.as_ref().filter(|_| !is_start).map(|slot| slot.session.clone());
    let template = ctx.rules.get(candidacy.rule).map_or("{basename}", |rule| &rule.name);
    let mut slot = state.slot.take().unwrap_or_else(|| SessionSlot::new(home, process, template, at));
    if names_program(template) {
        slot.session.name = session_name(template, &home.path, process);
    }
    if is_start || slot.session.primary != key {
        slot.had_tty = false;
        slot.session.starts.add_primary(process);
    } else {
        slot.session.starts.add_exec(process, entry.lineage_by_birth, at);
    }
    slot.had_tty |= process.tty.is_some();
    slot.last_primary = None;
    let session = &mut slot.session;
    session.primary = key;
    session.wrapper = wrapper_of(state, key);
    session.rule = candidacy.rule;
    if let Some(dir) = home_dir(process, home) {
        session.home_dir = dir;
        session.cwd_deleted = process.cwd.deleted;
    }
    session.roots = count_roots(table, state, young, session.cwd_deleted);
    session.moved_to = None;
    session.death = None;
    session.end_reason = None;
    let is_detached = slot.had_tty && process.tty.is_none();
    let new_state = if is_detached { State::Detached } else { State::Live };
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
    state.slot = Some(slot);
    outcome
}

/// Returns the wrapper that `key` runs under: the root whose stand-in it is, unless that is itself.
fn wrapper_of(state: &HomeState, key: ProcessKey) -> Option<ProcessKey> {
    let root = state.roots.iter().find(|root| root.stand_in == Some(key));
    root.map(|root| root.key).filter(|&root| root != key)
}

/// Returns the number of roots that could be the primary, at least 1.
fn count_roots(table: &ProcessTable, state: &HomeState, young: &Young, cwd_deleted: bool) -> u32 {
    let stand_ins = state.roots.iter().filter_map(|root| root.stand_in);
    let count = stand_ins.filter(|&key| !young.contains(key) && is_eligible(table, cwd_deleted, key)).count();
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// No candidate can be the primary. The session ends with its primary; while that one lives elsewhere, it is
/// left.
fn keep_without_candidate(ctx: &mut SessionContext<'_>, state: &mut HomeState, cause: Cause<'_>) -> Outcome {
    let Some(slot) = state.slot.as_mut().filter(|slot| !slot.is_ended()) else { return Outcome::Unchanged };
    let primary = slot.session.primary;
    let reason = match cause {
        Cause::ExecedAway(key) if key == primary => Some(EndReason::ExecedAway),
        Cause::Died(process, _) if process.key == primary => Some(EndReason::Died),
        _ => None,
    };
    if let Some(reason) = reason {
        end(ctx, slot, reason, cause);
        return Outcome::Reported;
    }
    let Some(entry) = ctx.table.get(primary) else { return Outcome::Unchanged };
    let process = &entry.process;
    let session = &mut slot.session;
    let before = session.clone();
    session.wrapper = None;
    session.roots = 1;
    if process.cwd.path.is_some() {
        session.moved_to = process.cwd.path.clone();
    }
    if session.state != State::Left {
        enter(session, State::Left, ctx.at);
    }
    if session.starts.misses_image_of(process) {
        session.starts.add_exec(process, false, ctx.at);
    }
    let changed = before != *session || shows(cause, primary);
    report(ctx.sink, ctx.at, changed.then_some(Change::SessionChanged(session, process)))
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
        Cause::Died(process, death) if process.key == primary => Some((process, death)),
        _ => None,
    };
    let session = &mut slot.session;
    session.death = dead.map(|(_, death)| death);
    session.end_reason = Some(if dead.is_some() { EndReason::Died } else { reason });
    session.wrapper = None;
    session.roots = 0;
    enter(session, State::Ended, ctx.at);
    let alive = || ctx.table.get(primary).map(|entry| &entry.process);
    let Some(last) = dead.map(|(process, _)| process).or_else(alive) else { return };
    slot.last_primary = Some(Box::new(last.clone()));
    ctx.sink.change(ctx.at, Change::SessionEnded(&slot.session, last));
}
