//! Sessions follow processes: who is a candidate of which home. What a home makes of its candidates is `rows`'.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::core::Core;
use crate::homes::{HomeState, Homes, Owner};
use crate::limits::SETTLE_NS;
use crate::model::change::{Request, Sink};
use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::Process;
use crate::primary::{Place, age, is_member, place};
use crate::processes::entry::{Entry, Member};
use crate::processes::fields::Diff;
use crate::processes::table::Table;
use crate::rules::{admissions, admits, home_len, namespace, whole};
use crate::session::{Home, HomeRule, Rule, Session};
use crate::settling::Settling;

/// What sessions need of the rest of the core while one input is handled.
pub(crate) struct Ctx<'a> {
    pub rules: &'a [Rule],
    pub host_mnt_ns: u32,
    pub table: &'a mut Table,
    pub now: BootTime,
    pub at: BootTime,
    pub sink: &'a mut dyn Sink,
}

/// Why a home is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause<'a> {
    /// Candidates came or went, or time passed.
    Candidates,
    /// Fields of this process changed, and no candidate came or went.
    Changed(ProcessKey, Diff),
    /// Fields of this process changed, and it joined or left the candidates with that.
    Moved(ProcessKey, Diff),
    /// This process exec'd into something that its home's rule does not admit.
    ExecedAway(ProcessKey),
    /// This process died.
    Died(&'a Process, Death),
}

/// Candidates and homes.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub homes: Homes,
    /// Processes that a rule would admit once the owner of the home is known.
    awaiting: BTreeMap<ProcessKey, Arc<Home>>,
    /// Processes that moved into another home, and become candidates there if they stay.
    settling: Settling,
    /// Homes whose row was spoken of since a process's fields changed: one change is said once.
    pub said: Vec<Arc<Home>>,
}

/// What the rules say of a process.
enum Verdict {
    No,
    /// The owner of this home must be known first.
    Await(Arc<Home>),
    Yes(Member),
}

/// Fields that decide whether a rule admits.
const ADMITTING: Diff = Diff::EXEC
    .and(Diff::MOVED)
    .and(Diff::COMM)
    .and(Diff::UIDS)
    .and(Diff::TTY)
    .and(Diff::CGROUP)
    .and(Diff::IMAGE);

/// Fields that decide whether a process runs what ran in its home before.
const PROGRAM: Diff = Diff::EXEC.and(Diff::COMM).and(Diff::IMAGE);

impl Core {
    pub(crate) fn sessions_ctx(
        &mut self,
        at: BootTime,
        sink: &mut dyn Sink,
        act: impl FnOnce(&mut Sessions, &mut Ctx<'_>),
    ) {
        if self.settings.rules.is_empty() {
            return;
        }
        let mut ctx = Ctx {
            rules: &self.settings.rules,
            host_mnt_ns: self.settings.host_mnt_ns,
            table: &mut self.table,
            now: self.now,
            at,
            sink,
        };
        self.sessions.said.clear();
        act(&mut self.sessions, &mut ctx);
    }
}

impl Sessions {
    pub fn poll_timeout(&self) -> Option<BootTime> {
        [self.homes.next_due().map(|(at, _)| at), self.settling.next_due()].into_iter().flatten().min()
    }

    /// Processes that moved into another home and have not stayed long enough to be its candidates, and until when.
    pub fn settling(&self) -> impl Iterator<Item = (ProcessKey, BootTime)> {
        self.settling.iter()
    }

    pub fn rows<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = (&'a Session, &'a Process)> {
        self.homes.by_home.values().filter_map(|state| shown_row(table, state))
    }

    pub fn row<'a>(&'a self, table: &'a Table, home: &Home) -> Option<(&'a Session, &'a Process)> {
        shown_row(table, self.homes.by_home.get(home)?)
    }

    /// A process came into the map.
    pub fn started(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, creator: Option<ProcessKey>) {
        let Some(entry) = ctx.table.get(key) else { return };
        if creator.is_some_and(|creator| self.settling.contains(creator)) {
            self.settling.set(key, ctx.now.after(SETTLE_NS));
            return;
        }
        if creator.and_then(|creator| ctx.table.get(creator)).is_some_and(|from| as_refused(entry, from)) {
            return;
        }
        self.consider(ctx, key);
    }

    /// Fields of a process changed.
    pub fn changed(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, diff: Diff) {
        let Some(entry) = ctx.table.get(key) else { return };
        let member = entry.member.as_ref().map(|member| Arc::clone(&member.home));
        if diff.has(ADMITTING) {
            match member {
                Some(home) => self.follow(ctx, key, &home, diff),
                None if !diff.has(Diff::EXEC) && self.comes_back(ctx, key) => {}
                None => self.arrive(ctx, key, diff),
            }
        }
        self.holders_changed(ctx, key, diff);
    }

    /// A process that is no candidate may become one: at once, or where it moved, after it has stayed. So a program that
    /// walks through homes is a session of none of them, and costs each step a timer at most.
    fn arrive(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, diff: Diff) {
        let was_settling = self.settling.end(key);
        let execed = diff.has(Diff::EXEC);
        let moved = diff.has(Diff::CWD_ID) && !execed;
        let holds = !self.homes.held_by(key).is_empty();
        let waits =
            (moved && !self.follows_at_once(ctx, key)) || holds || (was_settling.is_some() && !execed);
        if !waits {
            return self.consider(ctx, key);
        }
        if let Some(entry) = ctx.table.get_mut(key)
            && core::mem::take(&mut entry.owner_awaited)
        {
            self.awaiting.remove(&key);
        }
        let goes_on = was_settling.filter(|_| !moved);
        if !matches!(self.verdict(ctx, key), Verdict::No) {
            self.settling.set(key, goes_on.unwrap_or(ctx.now.after(SETTLE_NS)));
        }
    }

    /// A process that is too young to be a session where its directory is its home goes from home to home without a trace.
    fn follows_at_once(&self, ctx: &Ctx<'_>, key: ProcessKey) -> bool {
        let Verdict::Yes(member) = self.verdict(ctx, key) else { return false };
        ctx.rules.get(member.rule).is_some_and(|rule| follows_cwd(rule) && ctx.now < old_enough(rule, key))
    }

    /// The process has stayed in a home that it moved into.
    fn settled(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey) {
        if ctx.table.get(key).is_some_and(|entry| entry.member.is_none()) {
            self.consider(ctx, key);
        }
    }

    /// The ancestors by birth of a process are others: roots among it and those below it may be none any more.
    pub fn relinked(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey) {
        let mut homes: BTreeSet<Arc<Home>> = BTreeSet::new();
        let mut below = alloc::vec![key.tgid];
        while let Some(tgid) = below.pop() {
            let member = ctx.table.by_tgid(tgid).and_then(|entry| entry.member.as_ref());
            homes.extend(member.map(|member| Arc::clone(&member.home)));
            below.extend(ctx.table.below(tgid));
        }
        for home in homes {
            self.refresh(ctx, &home, Cause::Candidates);
        }
    }

    /// The homes that the process is primary of, wherever it is.
    fn holders_changed(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, diff: Diff) {
        if self.homes.held_by(key).is_empty() {
            return;
        }
        let held: Vec<Arc<Home>> = self.homes.held_by(key).to_vec();
        for home in held.into_iter().filter(|home| !self.said.contains(home)).collect::<Vec<_>>() {
            let Some(entry) = ctx.table.get(key) else { return };
            let row = self.homes.by_home.get(&home).and_then(|state| state.row.as_ref());
            let rule = row.map(|row| row.session.rule).and_then(|rule| ctx.rules.get(rule));
            let away = diff.has(Diff::EXEC)
                && !is_member(entry, &home)
                && rule.is_none_or(|rule| admits(rule, &entry.process).is_none());
            let cause = if away { Cause::ExecedAway(key) } else { Cause::Changed(key, diff) };
            self.refresh(ctx, &home, cause);
        }
    }

    /// A process left the map; `row` is its last.
    pub fn ended(&mut self, ctx: &mut Ctx<'_>, row: &Process, member: Option<Member>, death: Death) {
        self.awaiting.remove(&row.key);
        self.settling.end(row.key);
        let home = member.map(|member| member.home);
        if let Some(home) = &home {
            self.leave(ctx, row.key, home, false, Cause::Died(row, death));
        }
        let held: Vec<Arc<Home>> = self.homes.held_by(row.key).to_vec();
        for held in held {
            if Some(&held) != home.as_ref() {
                self.refresh(ctx, &held, Cause::Died(row, death));
            }
        }
    }

    /// Processes that have settled, and homes whose roots have reached the age that their rule asks for.
    pub fn tick(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(key) = self.settling.take_due(ctx.now) {
            self.settled(ctx, key);
        }
        while let Some((at, home)) = self.homes.next_due() {
            if at > ctx.now {
                break;
            }
            let home = Arc::clone(home);
            self.homes.set_due(&home, None);
            self.refresh(ctx, &home, Cause::Candidates);
        }
    }

    /// The edge told who owns a directory.
    pub fn owner_known(&mut self, ctx: &mut Ctx<'_>, path: &[u8], uid: Option<u32>) {
        let waiting: Vec<(ProcessKey, Arc<Home>)> = self
            .awaiting
            .iter()
            .filter(|(_, home)| *home.path == *path)
            .map(|(&key, home)| (key, Arc::clone(home)))
            .collect();
        for (_, home) in &waiting {
            if let Some(state) = self.homes.by_home.get_mut(home) {
                state.owner = Owner::Known(uid);
            }
        }
        for (key, home) in waiting {
            self.consider(ctx, key);
            self.homes.forget_empty(&home);
        }
    }

    /// A primary that left its home and is there again needs no admission: rules do not evict.
    fn comes_back(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey) -> bool {
        let Some(entry) = ctx.table.get(key) else { return false };
        let Some(path) = whole(&entry.process.cwd) else { return false };
        let namespace = namespace(ctx.host_mnt_ns, entry.process.cwd.mnt_ns);
        let back = self.homes.held_by(key).iter().find_map(|home| {
            let row = self.homes.by_home.get(home)?.row.as_ref()?;
            let rule = ctx.rules.get(row.session.rule).filter(|_| row.holder() == Some(key))?;
            let prefix = path.get(..home_len(&rule.home, path)?)?;
            let there = *prefix == *home.path && namespace == home.mnt_ns;
            there.then(|| (Arc::clone(home), row.session.rule))
        });
        let Some((home, rule)) = back else { return false };
        let comm = entry.process.comm.as_bytes();
        let wrapper = ctx
            .rules
            .get(rule)
            .is_some_and(|rule| rule.wrappers.iter().any(|wrapper| wrapper.is_match(comm)));
        let member = Member { home, rule, wrapper, dir: entry.process.cwd.id, since: ctx.at };
        self.join(ctx, key, member);
        true
    }

    /// Whether a process that is no candidate becomes one.
    fn consider(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey) {
        let Some(entry) = ctx.table.get_mut(key) else { return };
        if core::mem::take(&mut entry.owner_awaited) {
            self.awaiting.remove(&key);
        }
        match self.verdict(ctx, key) {
            Verdict::No => {}
            Verdict::Await(home) => {
                if let Some(entry) = ctx.table.get_mut(key) {
                    entry.owner_awaited = true;
                }
                let state = self.homes.by_home.entry(Arc::clone(&home)).or_default();
                if state.owner == Owner::Unknown {
                    state.owner = Owner::Asked;
                    ctx.sink.request(Request::HomeOwner(&home));
                }
                self.awaiting.insert(key, home);
            }
            Verdict::Yes(member) => self.join(ctx, key, member),
        }
    }

    fn verdict(&self, ctx: &Ctx<'_>, key: ProcessKey) -> Verdict {
        let Some(entry) = ctx.table.get(key) else { return Verdict::No };
        let process = &entry.process;
        for admission in admissions(ctx.rules, process) {
            let home = self.homes.intern(admission.home(ctx.host_mnt_ns, process.cwd.mnt_ns));
            let asks = ctx.rules.get(admission.rule).is_some_and(|rule| rule.owner);
            if asks {
                // The edge can look at the host's directories only: whose home another namespace's is stays open.
                if home.mnt_ns.is_some() {
                    continue;
                }
                match self.homes.by_home.get(&home).map(|state| state.owner).unwrap_or_default() {
                    Owner::Known(Some(uid)) if uid == process.uids.uid => {}
                    Owner::Known(_) => continue,
                    Owner::Unknown | Owner::Asked => return Verdict::Await(home),
                }
            }
            return Verdict::Yes(Member {
                home,
                rule: admission.rule,
                wrapper: admission.wrapper,
                dir: process.cwd.id,
                since: ctx.at,
            });
        }
        Verdict::No
    }

    /// A candidate changed: it stays, leaves, or goes to another home. Rules admit, they do not evict: only another
    /// image or another directory ends a candidacy.
    fn follow(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, home: &Arc<Home>, diff: Diff) {
        let Some(entry) = ctx.table.get(key) else { return };
        let Some(member) = &entry.member else { return };
        let Some(rule) = ctx.rules.get(member.rule) else { return };
        let process = &entry.process;
        let cwd = &process.cwd;
        let other_program = diff.has(Diff::EXEC) && diff.has(Diff::COMM);
        let stays_there = follows_cwd(rule)
            && !other_program
            && (ctx.now >= old_enough(rule, key) || self.homes.held_by(key).contains(home));
        let inside = match &cwd.path {
            _ if stays_there => true,
            None if !cwd.truncated => true,
            _ if namespace(ctx.host_mnt_ns, cwd.mnt_ns) != home.mnt_ns => false,
            _ if cwd.id == member.dir && whole(cwd).is_none() => true,
            Some(path) if !cwd.unreachable => home_len(&rule.home, path)
                .is_some_and(|len| path.get(..len).is_some_and(|prefix| *prefix == *home.path)),
            _ => false,
        };
        let admitted = admits(rule, process);
        let stays = inside && (!diff.has(Diff::EXEC) || admitted.is_some());
        let place_known = whole(&process.cwd).is_some();
        if stays {
            let wrapper = rule.wrappers.iter().any(|wrapper| wrapper.is_match(process.comm.as_bytes()));
            let (dir, before) = (process.cwd.id, member.dir);
            let at = ctx.at;
            let Some(member) = ctx.table.get_mut(key).and_then(|entry| entry.member.as_mut()) else { return };
            let turned = core::mem::replace(&mut member.wrapper, wrapper) != wrapper;
            if place_known && dir != before {
                member.dir = dir;
                member.since = at;
            }
            let awaited = self.homes.by_home.get(home).is_some_and(|state| state.due.is_some());
            if turned {
                self.refresh(ctx, home, Cause::Moved(key, diff));
            } else if diff.has(Diff::CWD_ID) && self.in_front(key, home) {
                self.refresh(ctx, home, Cause::Changed(key, diff));
            } else if awaited && diff.has(PROGRAM) {
                // What was too young as another program may be one that runs here again.
                self.refresh(ctx, home, Cause::Candidates);
            }
            return;
        }
        let away = diff.has(Diff::EXEC) && admitted.is_none();
        if let Verdict::Yes(member) = self.verdict(ctx, key)
            && member.home == *home
        {
            // Another rule admits it to the same home.
            if let Some(entry) = ctx.table.get_mut(key) {
                entry.member = Some(member);
            }
            self.refresh(ctx, home, Cause::Moved(key, diff));
            return;
        }
        let cause = if away { Cause::ExecedAway(key) } else { Cause::Moved(key, diff) };
        if let Some(entry) = ctx.table.get_mut(key) {
            entry.member = None;
        }
        self.leave(ctx, key, home, true, cause);
        let back = !diff.has(Diff::EXEC) && self.comes_back(ctx, key);
        if !back {
            self.arrive(ctx, key, diff);
        }
    }

    /// Whether the home's row depends on this candidate by itself.
    fn in_front(&self, key: ProcessKey, home: &Arc<Home>) -> bool {
        self.homes.by_home.get(home).is_some_and(|state| {
            state.roots.iter().any(|root| root.key == key || root.stand_in == Some(key))
                || state.row.as_ref().is_some_and(|row| {
                    row.holder() == Some(key) || (!row.is_ended() && row.session.wrapper == Some(key))
                })
        })
    }

    pub(crate) fn join(&mut self, ctx: &mut Ctx<'_>, key: ProcessKey, member: Member) {
        let home = Arc::clone(&member.home);
        self.settling.end(key);
        self.vacate(ctx, key, &home);
        let wrapper = member.wrapper;
        let Some(entry) = ctx.table.get_mut(key) else { return };
        entry.member = Some(member);
        let state = self.homes.by_home.entry(Arc::clone(&home)).or_default();
        state.members.insert(age(key));
        let holder = state.row.as_ref().and_then(|row| row.holder());
        let Some(entry) = ctx.table.get(key) else { return };
        let root = place(ctx.table, entry, &home, holder) == Place::Root;
        let younger = |stand_in: ProcessKey| age(key) < age(stand_in);
        let stands_in = !wrapper && state.roots.iter().any(|root| root.stand_in.is_none_or(younger));
        // Most processes of a busy home are below its primary and change nothing.
        if root || stands_in || holder == Some(key) || ctx.table.has_below(key.tgid) {
            self.refresh(ctx, &home, Cause::Candidates);
        }
    }

    /// `key` is no candidate of `home` any more. `alive`: what is below it may have become a root.
    pub(crate) fn leave(
        &mut self,
        ctx: &mut Ctx<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        alive: bool,
        cause: Cause<'_>,
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        state.members.remove(&age(key));
        if self.in_front(key, home) || (alive && ctx.table.has_below(key.tgid)) {
            self.refresh(ctx, home, cause);
        }
        self.homes.forget_empty(home);
    }
}

/// The row of a home, with its primary as last known.
fn shown_row<'a>(table: &'a Table, state: &'a HomeState) -> Option<(&'a Session, &'a Process)> {
    let row = state.row.as_ref()?;
    let process = match &row.last {
        Some(last) => last,
        None => &table.get(row.session.primary)?.process,
    };
    Some((&row.session, process))
}

/// Whether homes of this rule are the directories of their processes.
pub(crate) fn follows_cwd(rule: &Rule) -> bool {
    matches!(rule.home, HomeRule::Cwd)
}

/// When `key` reaches the age that `rule` asks for.
fn old_enough(rule: &Rule, key: ProcessKey) -> BootTime {
    key.start_boottime.after(rule.min_age_ns)
}

/// The child of a process that no rule admits, with the same facts: refused without asking the rules again.
fn as_refused(child: &Entry, creator: &Entry) -> bool {
    let (one, other) = (&child.process, &creator.process);
    creator.member.is_none()
        && !creator.owner_awaited
        && one.exec_id == other.exec_id
        && one.comm == other.comm
        && one.tty == other.tty
        && one.uids.uid == other.uids.uid
        && one.exe == other.exe
        && one.cgroup == other.cgroup
        && (one.cwd.path.is_none() || one.cwd == other.cwd)
}
