//! What a home makes of its candidates: its row, and what is said of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::homes::{HomeState, Row, same_dir};
use crate::model::change::{Change, Request, Sink};
use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Bytes, DirId, Process};
use crate::primary::{is_member, roots};
use crate::processes::fields::Diff;
use crate::processes::table::Table;
use crate::rules::name;
use crate::session::{EndReason, Home, Session, State};
use crate::sessions::{Cause, Ctx, Sessions};

/// Fields of the primary that a session shows.
const SHOWN: Diff =
    Diff::EXEC.and(Diff::MOVED).and(Diff::COMM).and(Diff::UIDS).and(Diff::TTY).and(Diff::IMAGE);

/// Who should stand for a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// This process; `fresh`: in a directory that is not the one that the row is of.
    Primary {
        key: ProcessKey,
        fresh: bool,
    },
    Nobody,
}

impl Sessions {
    /// Looks at a home again after something that concerns it.
    pub(crate) fn refresh(&mut self, ctx: &mut Ctx<'_>, home: &Arc<Home>, cause: Cause<'_>) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        // A primary that is elsewhere still keeps what is below it from being roots; one that exec'd away does not.
        let holder = state.row.as_ref().and_then(Row::holder);
        let holder = holder.filter(|&key| !matches!(cause, Cause::ExecedAway(away) if away == key));
        if !matches!(cause, Cause::Changed(..)) {
            state.roots = roots(ctx.table, &state.members, home, holder);
        }
        let young = young(ctx, state);
        let choice = choose(ctx, home, state, &young);
        if let Choice::Primary { key, .. } = choice
            && holder.is_some_and(|holder| holder != key)
        {
            state.roots = roots(ctx.table, &state.members, home, None);
        }
        let due = young.iter().map(|&(_, due)| due).min();
        let before = held(state);
        let was_ended = state.row.as_ref().filter(|row| row.is_ended()).map(|row| row.session.since);
        let said = match choice {
            Choice::Primary { key, fresh } => take(ctx, home, state, key, fresh, &young, cause),
            Choice::Nobody => nobody(ctx, state, cause),
        };
        let after = held(state);
        let is_ended = state.row.as_ref().filter(|row| row.is_ended()).map(|row| row.session.since);
        if said {
            self.said.push(Arc::clone(home));
        }
        self.homes.set_due(home, due);
        if was_ended != is_ended {
            if let Some(since) = was_ended {
                self.homes.remove_ended(since, home);
            }
            if let Some(since) = is_ended {
                self.homes.add_ended(since, home);
            }
        }
        for key in before.into_iter().flatten().filter(|key| !after.contains(&Some(*key))) {
            if self.homes.release(key, home) {
                ctx.sink.request(Request::Watch(key, false));
            }
        }
        for key in after.into_iter().flatten().filter(|key| !before.contains(&Some(*key))) {
            if self.homes.hold(key, home) {
                ctx.sink.request(Request::Watch(key, true));
            }
        }
    }
}

impl Sessions {
    /// The session of `home`, if `key` is its primary, is forgotten: it was never there.
    pub(crate) fn withdraw(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, home: &Arc<Home>) {
        self.retire(ctx, key, home, None);
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        if let Some(row) = state.row.take_if(|row| row.is_ended() && row.session.primary == key) {
            self.homes.remove_ended(row.session.since, home);
        }
        self.homes.forget_empty(home);
    }

    /// `key` is a candidate of `home`: a session of another home that it is primary of ends. One process stands for one session.
    pub(crate) fn vacate(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, home: &Arc<Home>) {
        let others = self.homes.held_by(key).iter().filter(|held| *held != home).cloned();
        for other in others.collect::<Vec<_>>() {
            self.retire(ctx, key, &other, Some(&home.path));
            self.homes.forget_empty(&other);
        }
    }

    /// Ends the session of `home` if `key` is its primary, which lives on: it went to `moved_to`.
    fn retire(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, home: &Arc<Home>, moved_to: Option<&Bytes>) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let Some(row) = state.row.as_mut().filter(|row| row.holder() == Some(key)) else { return };
        let wrapper = row.session.wrapper;
        row.session.moved_to = moved_to.cloned();
        end(ctx.table, ctx.at, ctx.sink, row, EndReason::Moved, Cause::Candidates);
        let since = row.session.since;
        self.homes.add_ended(since, home);
        for held in [Some(key), wrapper].into_iter().flatten() {
            if self.homes.release(held, home) {
                ctx.sink.request(Request::Watch(held, false));
            }
        }
        // What was below it may be a root.
        self.refresh(ctx, home, Cause::Candidates);
    }
}

/// Primary and wrapper of a session that has not ended.
fn held(state: &HomeState) -> [Option<ProcessKey>; 2] {
    match state.row.as_ref().filter(|row| !row.is_ended()) {
        Some(row) => [Some(row.session.primary), row.session.wrapper],
        None => [None, None],
    }
}

/// Stand-ins that are too young to count, with the moment from which they do.
type Young = Vec<(ProcessKey, BootTime)>;

fn choose(ctx: &Ctx<'_>, home: &Home, state: &HomeState, young: &Young) -> Choice {
    let stand_ins = || {
        let keys = state.roots.iter().filter_map(|root| root.stand_in);
        keys.filter(|&key| !is_young(young, key))
    };
    let Some(row) = &state.row else {
        return stand_ins().next().map_or(Choice::Nobody, |key| Choice::Primary { key, fresh: false });
    };
    // Another directory at the home's path is a new incarnation.
    if let Some(key) = stand_ins().find(|&key| is_replacement(ctx.table, home, row, key)) {
        return Choice::Primary { key, fresh: true };
    }
    if let Some(holder) = row.holder()
        && let Some(entry) = ctx.table.get(holder)
        && is_member(entry, home)
    {
        let below = state.roots.iter().find(|root| root.key == holder).and_then(|root| root.stand_in);
        return Choice::Primary { key: below.unwrap_or(holder), fresh: false };
    }
    match stand_ins().find(|&key| eligible(ctx.table, row.session.cwd_deleted, key)) {
        Some(key) => Choice::Primary { key, fresh: false },
        None => Choice::Nobody,
    }
}

/// Who is in a deleted directory stands for that incarnation of the home only.
fn eligible(table: &Table, cwd_deleted: bool, key: ProcessKey) -> bool {
    table.get(key).is_some_and(|entry| cwd_deleted || !entry.process.cwd.deleted)
}

fn is_young(young: &Young, key: ProcessKey) -> bool {
    young.iter().any(|&(other, _)| other == key)
}

/// Roots below their rule's `min_age`. It does not hold back the program that the home's row is of: a crash loop is
/// seen. (Any program would do by the letter of "never applies to a home that has a row"; then, under the default
/// rule, each command typed where a session once ran would be a session.)
fn young(ctx: &Ctx<'_>, state: &HomeState) -> Young {
    let mut young = Young::new();
    for key in state.roots.iter().filter_map(|root| root.stand_in) {
        let Some(entry) = ctx.table.get(key) else { continue };
        let rule = entry.member.as_ref().and_then(|member| ctx.rules.get(member.rule));
        let due = key.start_boottime.after(rule.map_or(0, |rule| rule.min_age_ns));
        if due > ctx.now && !restarts(ctx, state.row.as_ref(), &entry.process) {
            young.push((key, due));
        }
    }
    young
}

/// Whether `process` runs what the row's primary runs, or ran last.
fn restarts(ctx: &Ctx<'_>, row: Option<&Row>, process: &Process) -> bool {
    let Some(row) = row else { return false };
    let live = ctx.table.get(row.session.primary).map(|entry| &entry.process);
    let Some(last) = row.last.as_deref().or(live) else { return false };
    last.comm == process.comm || (last.exe.is_some() && last.exe == process.exe)
}

/// The home's own directory, if the process stands right in it.
fn home_dir(process: &Process, home: &Home) -> Option<DirId> {
    let cwd = &process.cwd;
    let there = cwd.path.as_deref() == Some(&*home.path) && cwd.id != DirId::default();
    there.then_some(cwd.id)
}

fn is_replacement(table: &Table, home: &Home, row: &Row, key: ProcessKey) -> bool {
    let Some(entry) = table.get(key).filter(|entry| !entry.process.cwd.deleted) else { return false };
    let Some(member) = &entry.member else { return false };
    if row.is_ended() && row.session.cwd_deleted {
        return true;
    }
    let known = row.session.home_dir != DirId::default();
    let other = home_dir(&entry.process, home).is_some_and(|dir| !same_dir(dir, row.session.home_dir));
    known && other && member.since > row.opened_at
}

/// `key` stands for the home.
fn take(
    ctx: &mut Ctx<'_>,
    home: &Arc<Home>,
    state: &mut HomeState,
    key: ProcessKey,
    fresh: bool,
    young: &Young,
    cause: Cause<'_>,
) -> bool {
    let (table, rules, at) = (&*ctx.table, ctx.rules, ctx.at);
    let Some(entry) = table.get(key) else { return false };
    let Some(member) = &entry.member else { return false };
    let process = &entry.process;
    let root = state.roots.iter().find(|root| root.stand_in == Some(key));
    let wrapper = root.map(|root| root.key).filter(|&root| root != key);
    let starting = fresh || state.row.as_ref().is_none_or(Row::is_ended);
    if fresh && let Some(mut old) = state.row.take().filter(|row| !row.is_ended()) {
        end(table, at, ctx.sink, &mut old, EndReason::Replaced, cause);
    }
    let rule = rules.get(member.rule);
    let template = rule.map_or("{basename}", |rule| &rule.name);
    let mut before = None;
    let mut row = match state.row.take() {
        Some(row) => {
            before = (!starting).then(|| row.session.clone());
            row
        }
        None => open(home, key, template, at),
    };
    let same = row.session.primary == key && !starting;
    let exec_known = process.exec_at.is_some();
    let started_at = process.exec_at.unwrap_or(key.start_boottime);
    if !same {
        row.had_tty = false;
        row.push_start(started_at);
    } else if row.exec_id != process.exec_id {
        // A birth, and the exec that it was for, are one start.
        if !row.exec_known && entry.lineage_by_birth && row.session.starts.last() == Some(&key.start_boottime)
        {
            row.session.starts.pop();
        }
        row.push_start(process.exec_at.unwrap_or(at));
    } else if exec_known && !row.exec_known {
        row.session.starts.pop();
        row.push_start(started_at);
    }
    row.exec_id = process.exec_id;
    row.exec_known = exec_known;
    row.had_tty |= process.tty.is_some();
    row.last = None;
    let session = &mut row.session;
    session.primary = key;
    session.wrapper = wrapper;
    session.rule = member.rule;
    let dir = home_dir(process, home);
    session.home_dir = dir.unwrap_or(session.home_dir);
    if dir.is_some() {
        session.cwd_deleted = process.cwd.deleted;
    }
    let stands = |stand_in| !is_young(young, stand_in) && eligible(table, session.cwd_deleted, stand_in);
    let stood_for = state.roots.iter().filter_map(|root| root.stand_in).filter(|&root| stands(root)).count();
    session.roots = u32::try_from(stood_for).unwrap_or(u32::MAX).max(1);
    session.moved_to = None;
    session.death = None;
    session.end_reason = None;
    let detached = row.had_tty && process.tty.is_none();
    enter(session, if detached { State::Detached } else { State::Live }, starting, at);
    let changed = before.as_ref() != Some(&row.session) || shows(cause, key);
    if starting {
        ctx.sink.change(at, Change::SessionStarted(&row.session, process));
    } else if changed {
        ctx.sink.change(at, Change::SessionChanged(&row.session, process));
    }
    state.row = Some(row);
    starting || changed
}

/// No candidate stands for the home.
fn nobody(ctx: &mut Ctx<'_>, state: &mut HomeState, cause: Cause<'_>) -> bool {
    let Some(row) = state.row.as_mut().filter(|row| !row.is_ended()) else { return false };
    let primary = row.session.primary;
    let reason = match cause {
        Cause::ExecedAway(key) if key == primary => Some(EndReason::ExecedAway),
        Cause::Died(process, _) if process.key == primary => Some(EndReason::Died),
        _ => None,
    };
    if let Some(reason) = reason {
        end(ctx.table, ctx.at, ctx.sink, row, reason, cause);
        return true;
    }
    let Some(entry) = ctx.table.get(primary) else { return false };
    let process = &entry.process;
    let before = row.session.clone();
    row.session.wrapper = None;
    row.session.roots = 1;
    if process.cwd.path.is_some() {
        row.session.moved_to = process.cwd.path.clone();
    }
    enter(&mut row.session, State::Left, false, ctx.at);
    if row.exec_id != process.exec_id {
        row.exec_id = process.exec_id;
        row.exec_known = process.exec_at.is_some();
        row.push_start(process.exec_at.unwrap_or(ctx.at));
    }
    let changed = before != row.session || shows(cause, primary);
    if changed {
        ctx.sink.change(ctx.at, Change::SessionChanged(&row.session, process));
    }
    changed
}

/// Whether the cause is a change of fields of `key` that the session shows.
fn shows(cause: Cause<'_>, key: ProcessKey) -> bool {
    matches!(cause, Cause::Changed(of, diff) | Cause::Moved(of, diff) if of == key && diff.has(SHOWN))
}

fn enter(session: &mut Session, state: State, anew: bool, at: BootTime) {
    if anew || session.state != state {
        session.state = state;
        session.since = at;
    }
}

/// Ends a row and says so.
fn end(table: &Table, at: BootTime, sink: &mut dyn Sink, row: &mut Row, reason: EndReason, cause: Cause<'_>) {
    let primary = row.session.primary;
    let dead = match cause {
        Cause::Died(process, death) if process.key == primary => Some((process, death)),
        _ => None,
    };
    row.session.death = dead.map(|(_, death)| death);
    row.session.end_reason = Some(if dead.is_some() { EndReason::Died } else { reason });
    row.session.wrapper = None;
    row.session.roots = 0;
    enter(&mut row.session, State::Ended, true, at);
    let alive = || table.get(primary).map(|entry| &entry.process);
    let Some(last) = dead.map(|(process, _)| process).or_else(alive) else { return };
    row.last = Some(Box::new(last.clone()));
    sink.change(at, Change::SessionEnded(&row.session, last));
}

pub(crate) fn open(home: &Arc<Home>, key: ProcessKey, template: &str, at: BootTime) -> Row {
    let session = Session {
        home: Arc::clone(home),
        home_dir: DirId::default(),
        name: name(template, &home.path),
        primary: key,
        wrapper: None,
        roots: 1,
        state: State::Live,
        since: at,
        moved_to: None,
        cwd_deleted: false,
        rule: 0,
        death: None::<Death>,
        end_reason: None,
        starts: Vec::new(),
    };
    Row { session, last: None, had_tty: false, exec_id: 0, exec_known: false, opened_at: at }
}
