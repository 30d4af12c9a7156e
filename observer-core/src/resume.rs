//! Sessions that the daemon knew before it was started again. What the kernel does not keep is taken over: that a
//! terminal was there, that a rule admitted the primary before it left, when the state was entered, earlier starts,
//! the clock by which all this was told.

use alloc::sync::Arc;

use crate::homes::Row;
use crate::input::KnownSession;
use crate::limits::STARTS_MAX;
use crate::model::change::{Change, Request};
use crate::model::ids::ProcessKey;
use crate::model::process::{Process, WorkingDirectory};
use crate::processes::entry::Member;
use crate::rows::open;
use crate::rules::{admits, admits_without_tty, home_len, namespace};
use crate::session::{Home, Rule, State};
use crate::sessions::{Cause, Ctx, Sessions, follows_cwd};

/// A moment that was kept in milliseconds is this much earlier at most, ns.
const GRAIN_NS: u64 = 1_000_000;

impl Sessions {
    /// Takes over what is known of a session: all of it where its primary lives and a rule would have admitted that
    /// one to the home, else the starts; and when the primary began, by the clock as it was told.
    pub(crate) fn resume(&mut self, ctx: &mut Ctx<'_>, known: &KnownSession<'_>) {
        let home = self.homes.intern(known.home.clone());
        let redated = redate(ctx, known);
        self.return_home(ctx, &home, known);
        self.remember(ctx, &home, known, redated);
    }

    fn return_home(&mut self, ctx: &mut Ctx<'_>, home: &Arc<Home>, known: &KnownSession<'_>) {
        let Some(entry) = ctx.table.get(known.primary) else { return };
        let process = &entry.process;
        let row = self.homes.by_home.get(home).and_then(|state| state.row.as_ref());
        if row.is_some_and(|row| row.holder() == Some(known.primary)) {
            return;
        }
        let Some(index) = ctx.rules.iter().position(|rule| fits(rule, process, known)) else { return };
        let keeps = ctx.rules.get(index).is_some_and(follows_cwd);
        let there = keeps || is_inside(ctx, index, known, &process.cwd);
        // Who stands for the home now is another: a primary stays as long as it is there.
        if row.is_some_and(|row| row.is_ended() || !there) {
            return;
        }
        // It went to another home that it is a candidate of: that is where it stands.
        if entry.member.as_ref().is_some_and(|member| member.home != *home) && !keeps {
            return;
        }
        let here = entry.member.as_ref().is_some_and(|member| member.home == *home);
        let member = (there && !here).then(|| member(ctx, home, index, process));
        if !here {
            self.depart(ctx, known.primary);
        }
        self.adopt(ctx, home, index, known);
        match member {
            Some(member) => self.join(ctx, known.primary, member),
            None => self.refresh(ctx, home, Cause::Candidates),
        }
    }

    /// The process is no candidate of the home in which the first look found it, and that home's session was none.
    fn depart(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey) {
        let Some(entry) = ctx.table.get_mut(key) else { return };
        let Some(member) = entry.member.take() else { return };
        self.leave(ctx, key, &member.home, true, Cause::Candidates);
        self.withdraw(ctx, key, &member.home);
    }

    /// The home's row is the known primary's, which need not be there.
    fn adopt(&mut self, ctx: &mut Ctx<'_>, home: &Arc<Home>, rule: usize, known: &KnownSession<'_>) {
        let Some(entry) = ctx.table.get(known.primary) else { return };
        let process = &entry.process;
        let state = self.homes.by_home.entry(Arc::clone(home)).or_default();
        let before = state.row.take();
        let template = ctx.rules.get(rule).map_or("{basename}", |rule| &rule.name);
        let mut row = open(home, known.primary, template, ctx.at);
        row.session.rule = rule;
        row.session.state = State::Left;
        row.session.moved_to = process.cwd.path.clone();
        row.exec_id = process.exec_id;
        row.exec_known = process.exec_at.is_some();
        row.push_start(process.exec_at.unwrap_or(known.primary.start_boottime));
        let change = match &before {
            None => Change::SessionStarted(&row.session, process),
            Some(_) => Change::SessionChanged(&row.session, process),
        };
        ctx.sink.change(ctx.at, change);
        state.row = Some(row);
        let former = before.map(|row| [Some(row.session.primary), row.session.wrapper]);
        for key in former.into_iter().flatten().flatten() {
            if self.homes.release(key, home) {
                ctx.sink.request(Request::Watch(key, false));
            }
        }
        if self.homes.hold(known.primary, home) {
            ctx.sink.request(Request::Watch(known.primary, true));
        }
    }

    /// Starts; terminal and the moment of the state where the row is still of the same process.
    fn remember(&mut self, ctx: &mut Ctx<'_>, home: &Arc<Home>, known: &KnownSession<'_>, redated: bool) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        let Some(row) = state.row.as_mut().filter(|row| !row.is_ended()) else { return };
        let Some(entry) = ctx.table.get(row.session.primary) else { return };
        let before = row.session.clone();
        restore(row, known);
        if row.session.primary == known.primary {
            row.had_tty |= known.had_tty;
            let session = &mut row.session;
            if row.had_tty && entry.process.tty.is_none() && session.state == State::Live {
                session.state = State::Detached;
                session.since = ctx.at;
            }
            if session.state == known.state {
                session.since = known.since;
            }
        }
        let redated = redated && row.session.primary == known.primary;
        if redated || before != row.session {
            ctx.sink.change(ctx.at, Change::SessionChanged(&row.session, &entry.process));
        }
    }
}

/// The primary's moments are shown by the clock that they were told by. Whether that is another.
fn redate(ctx: &mut Ctx<'_>, known: &KnownSession<'_>) -> bool {
    let Some(entry) = ctx.table.get_mut(known.primary) else { return false };
    let process = &mut entry.process;
    let redated = process.wall_offset_ns != known.wall_offset_ns;
    if redated {
        process.wall_offset_ns = known.wall_offset_ns;
        ctx.sink.change(ctx.at, Change::ProcessChanged(process));
    }
    redated
}

fn member(ctx: &Ctx<'_>, home: &Arc<Home>, rule: usize, process: &Process) -> Member {
    let comm = process.comm.as_bytes();
    let wrappers = ctx.rules.get(rule).map(|rule| rule.wrappers.as_slice()).unwrap_or_default();
    let wrapper = wrappers.iter().any(|wrapper| wrapper.is_match(comm));
    Member { home: Arc::clone(home), rule, wrapper, dir: process.cwd.id, since: ctx.at }
}

/// Whether `cwd` lies in the home, which may be deleted.
fn is_inside(ctx: &Ctx<'_>, rule: usize, known: &KnownSession<'_>, cwd: &WorkingDirectory) -> bool {
    let path = cwd.path.as_deref().filter(|_| !cwd.unreachable);
    let prefix =
        path.zip(ctx.rules.get(rule)).and_then(|(path, rule)| path.get(..home_len(&rule.home, path)?));
    prefix == Some(&*known.home.path) && namespace(ctx.host_mnt_ns, cwd.mnt_ns) == known.home.mnt_ns
}

/// The starts that were known, then those since.
fn restore(row: &mut Row, known: &KnownSession<'_>) {
    let Some(&last) = known.starts.last() else { return };
    let starts = &mut row.session.starts;
    starts.retain(|start| start.since(last) > GRAIN_NS);
    let kept = known.starts.iter().copied().chain(starts.iter().copied());
    *starts = kept.clone().skip(kept.count().saturating_sub(STARTS_MAX)).collect();
}

/// Whether `rule` admits `process` to the home, but for what it may have lost since it was admitted: its place and
/// its terminal.
fn fits(rule: &Rule, process: &Process, known: &KnownSession<'_>) -> bool {
    let path = &known.home.path;
    let lost_tty = known.had_tty && process.tty.is_none();
    let admitted = if lost_tty { admits_without_tty(rule, process) } else { admits(rule, process) };
    home_len(&rule.home, path) == Some(path.len()) && admitted.is_some()
}
