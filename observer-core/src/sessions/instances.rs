//! Gives each process that could be the primary of a home a session of its own, where the rule says so.
//!
//! A process is admitted to the instance of the candidate above it, else to the first. Once it may be the primary of
//! another session beside the one that is there, it goes to an instance of its own, with what is below it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::limits::{INSTANCES_MAX, LAUNCHERS_MAX};
use crate::model::ids::ProcessKey;
use crate::model::process::{DirId, Process};
use crate::model::rule::Rule;
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::sessions::Sessions;
use crate::sessions::admission::{has_namespace, home_len};
use crate::sessions::by_age::age;
use crate::sessions::choice::{Choice, Young, is_each, is_in_chain, rule_of};
use crate::sessions::context::SessionContext;
use crate::sessions::homes::{HomeState, Homes, Root};
use crate::sessions::lineages::Lineages;
use crate::sessions::roots::{instance_above, is_candidate, position, trees, would_be_above};

impl Homes {
    /// Returns the instances of `home` but itself, in the order of their numbers.
    fn siblings(&self, home: &Home) -> impl Iterator<Item = (&Arc<Home>, &HomeState)> {
        let numbered = |instance| Arc::new(Home { instance, ..home.clone() });
        let all: RangeInclusive<Arc<Home>> = numbered(Home::FIRST)..=numbered(u32::MAX);
        let instance = home.instance;
        self.by_home.range(all).filter(move |(sibling, _)| sibling.instance != instance)
    }

    /// Returns the instance of `home`, other than itself, whose last session was of the program that `process` runs.
    pub(super) fn ended_sibling_of(&self, home: &Home, process: &Process) -> Option<&Arc<Home>> {
        let ran_it = |state: &HomeState| {
            let slot = state.slot.as_ref().filter(|slot| slot.is_ended() && state.roots.is_empty());
            slot.is_some_and(|slot| slot.program.is_run_by(process))
        };
        self.siblings(home).find(|(_, state)| ran_it(state)).map(|(sibling, _)| sibling)
    }

    /// Returns whether `process` takes another instance of `home` than `home` itself, whose state is `state`, if it begins a
    /// session: of those that its program had, the one with the lowest number, else of those that nobody has. Which one it was
    /// born in is history.
    pub(super) fn takes_sibling(&self, home: &Home, state: &HomeState, process: &Process) -> bool {
        let ran_here = state.slot.as_ref().is_some_and(|slot| slot.program.is_run_by(process));
        let ended = self.ended_sibling_of(home, process);
        if state.live_session().is_some() {
            return !ran_here && ended.is_some();
        }
        if ran_here || ended.is_some() {
            return ended.is_some_and(|ended| !ran_here || ended.instance < home.instance);
        }
        let lower = self.siblings(home).take_while(|(sibling, _)| sibling.instance < home.instance);
        let taken = lower.filter(|(_, state)| state.is_taken()).count();
        u32::try_from(taken).is_ok_and(|taken| Home::FIRST + taken < home.instance)
    }

    /// Returns whether another instance of `home` is free.
    fn has_free_sibling(&self, home: &Home) -> bool {
        let taken = self.siblings(home).filter(|(_, state)| state.is_taken()).count();
        u32::try_from(taken).is_ok_and(|taken| taken + 1 < INSTANCES_MAX)
    }

    /// Returns the instance of `home` that `process` takes, which can have no session in `home` itself: the one that its
    /// program had, else the one with the lowest number that nobody has. `None`: there are too many.
    fn free_sibling(&self, home: &Home, process: &Process) -> Option<Arc<Home>> {
        if let Some(sibling) = self.ended_sibling_of(home, process) {
            return Some(Arc::clone(sibling));
        }
        let mut free = if home.instance == Home::FIRST { Home::FIRST + 1 } else { Home::FIRST };
        for (sibling, state) in self.siblings(home) {
            if sibling.instance > free || !state.is_taken() {
                break;
            }
            free = sibling.instance + 1;
            if free == home.instance {
                free += 1;
            }
        }
        (free <= INSTANCES_MAX).then(|| self.intern(Home { instance: free, ..home.clone() }))
    }
}

impl HomeState {
    /// Returns whether it has a session, or may have one soon. What is left there of sessions that moved does not matter.
    fn is_taken(&self) -> bool {
        !self.roots.is_empty() || self.slot.as_ref().is_some_and(|slot| !slot.is_ended())
    }
}

/// Returns whether a session of `home`, to which `rule` admits its primary, is a further one of a directory that has one alone:
/// no rule gives each program there a session. One of another directory, which was at the path before, is none. `own` is the
/// directory of this session, which may be deleted, and `first` that of the first instance.
pub(super) fn is_surplus(
    rules: &[Rule],
    (rule, home): (&Rule, &Home),
    own: DirId,
    first: Option<DirId>,
    is_deleted: bool,
) -> bool {
    let is_of_each = |rule: &Rule| {
        is_each(Some(rule))
            && home_len(&rule.home, &home.path) == Some(home.path.len())
            && has_namespace(&rule.conditions, home.mnt_ns)
    };
    let identity = |dir: DirId| (dir.ino, dir.dev, dir.generation);
    let is_other_dir = |first: DirId| {
        own != DirId::default() && first != DirId::default() && identity(first) != identity(own)
    };
    home.instance != Home::FIRST
        && !is_each(Some(rule))
        && !rules.iter().any(is_of_each)
        && !is_deleted
        && !first.is_some_and(is_other_dir)
}

impl Sessions {
    /// Returns the instance of `home` to which a process belongs that is admitted to it.
    pub(super) fn instance_of(
        &self,
        ctx: &SessionContext<'_>,
        (key, is_wrapper): (ProcessKey, bool),
        home: &Arc<Home>,
    ) -> Arc<Home> {
        if self.homes.siblings(home).next().is_none() {
            return Arc::clone(home);
        }
        let held = self.homes.home_of_primary(key).filter(|held| held.is_sibling(home));
        let above = || instance_above(ctx.table, &self.homes, ctx.table.get(key)?, home);
        let below = || self.instance_below(ctx, (key, is_wrapper), home);
        Arc::clone(held.or_else(above).or_else(below).unwrap_or(home))
    }

    /// Returns the instance of `home` whose session is of what a process started that is admitted to `home` afterwards, as a
    /// launcher is whose arguments are learned late.
    fn instance_below<'a>(
        &'a self,
        ctx: &SessionContext<'_>,
        admitted: (ProcessKey, bool),
        home: &'a Arc<Home>,
    ) -> Option<&'a Arc<Home>> {
        if self.is_looking || !ctx.table.has_children_by_birth(admitted.0.tgid) {
            return None;
        }
        let source = self.lineage_source(ctx.table);
        let mut lineages = Lineages::to(home, ctx.now, admitted.0);
        let mut is_above = |home: &Arc<Home>, state: &HomeState| {
            let roots = state.roots.iter().filter_map(|root| ctx.table.get(root.key));
            let mut roots = roots.filter(|_| state.current_primary().is_some());
            roots.any(|root| {
                lineages.has_above(source, root, admitted.0)
                    && is_candidate(root, home)
                    && would_be_above(ctx.table, &self.homes, root, home, admitted)
            })
        };
        let own = self.homes.by_home.get(home).filter(|state| is_above(home, state)).map(|_| home);
        own.or_else(|| {
            let mut siblings = self.homes.siblings(home);
            siblings.find(|&(sibling, state)| is_above(sibling, state)).map(|(sibling, _)| sibling)
        })
    }

    /// Moves each root that is to have a session of its own to another instance of `home`, with what is below it.
    /// `choice` is who is elected in `home` itself, and `primary` the present primary unless it gave the session up. Returns these
    /// instances, in which nobody was elected yet.
    pub(super) fn spread(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        young: &Young,
        (choice, primary): (Choice, Option<ProcessKey>),
        lineages: &mut Lineages,
    ) -> Vec<Arc<Home>> {
        let Some(state) = self.homes.by_home.get(home) else { return Vec::new() };
        let elected = choice.elected();
        // The process of the deleted directory goes on, beside the session of the new one.
        let replaced = state.current_primary().filter(|_| matches!(choice, Choice::NewIncarnation(_)));
        let (mut roots, mut keys) = (Vec::new(), Vec::new());
        for root in &state.roots {
            let is_replaced = replaced.is_some_and(|replaced| is_in_chain(ctx.table, root, replaced));
            let candidate = young.candidate(ctx, state, root).or(replaced.filter(|_| is_replaced));
            let Some(key) = candidate else { continue };
            let rule = ctx.table.get(key).and_then(|entry| rule_of(ctx, entry));
            if elected != Some(key) && (is_replaced || is_each(rule)) {
                roots.push(root.key);
                keys.push(key);
            }
        }
        if roots.is_empty() || !self.homes.has_free_sibling(home) {
            return Vec::new();
        }
        let source = self.lineage_source(ctx.table);
        let position = |entry: &ProcessEntry| lineages.position(source, entry, primary);
        let trees = trees(ctx.table, &self.homes, home, (primary, &roots), position);
        let is_leaving = |(_, members): &(ProcessKey, Vec<ProcessKey>)| {
            elected.is_none_or(|elected| !members.contains(&elected))
        };
        let leaving: Vec<_> = keys.into_iter().zip(trees).filter(is_leaving).collect();
        leaving.into_iter().filter_map(|(key, members)| self.move_tree(ctx, home, key, members)).collect()
    }

    /// Moves each root of `home`, which has no session, that belongs to what is above it in another instance there, with
    /// what is below it: that one came after it. Returns these instances, in which nobody was elected yet.
    pub(super) fn gather(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        lineages: &mut Lineages,
    ) -> Vec<Arc<Home>> {
        let Some(state) = self.homes.by_home.get(home) else { return Vec::new() };
        if state.live_session().is_some() || self.homes.siblings(home).next().is_none() {
            return Vec::new();
        }
        let source = self.lineage_source(ctx.table);
        let mut instance = |key: ProcessKey| lineages.instance_above(source, ctx.table.get(key)?);
        let belongs = |root: &Root| Some((root.key, instance(root.key).filter(|to| to != home)?));
        let (keys, to): (Vec<ProcessKey>, Vec<Arc<Home>>) = state.roots.iter().filter_map(belongs).unzip();
        let position = |entry: &ProcessEntry| lineages.position(source, entry, None);
        let trees = trees(ctx.table, &self.homes, home, (None, &keys), position);
        for (members, to) in trees.into_iter().zip(&to) {
            self.move_members(ctx, home, to, members);
        }
        to
    }

    /// Moves each wrapper that runs a program of one instance, and is a candidate of another one in which it runs nothing, with
    /// what is below it there: it came above that program later. One of both is `home`. Returns the other instances, in which
    /// nobody was elected yet.
    pub(super) fn move_wrappers(&mut self, ctx: &mut SessionContext<'_>, home: &Arc<Home>) -> Vec<Arc<Home>> {
        let Some(state) = self.homes.by_home.get(home) else { return Vec::new() };
        let runs = |state: &HomeState, key, any: bool| {
            state.roots.iter().any(|it| it.key == key && it.stand_in.is_some() == any)
        };
        let moves = state.roots.iter().filter_map(|root| {
            let of = &ctx.table.get(root.key)?.candidacy.as_ref()?.home;
            let (from, to) = match root.stand_in {
                None if of == home => {
                    let mut siblings = self.homes.siblings(home);
                    (home, siblings.find(|(_, state)| runs(state, root.key, true))?.0)
                }
                Some(_) if of != home && of.is_sibling(home) => {
                    let there = self.homes.by_home.get(of)?;
                    runs(there, root.key, false).then_some((of, home))?
                }
                _ => return None,
            };
            Some((root.key, Arc::clone(from), Arc::clone(to)))
        });
        let moves: Vec<(ProcessKey, Arc<Home>, Arc<Home>)> = moves.collect();
        let mut others = Vec::new();
        for (wrapper, from, to) in moves {
            let primary = self.homes.by_home.get(&from).and_then(HomeState::current_primary);
            let position = |entry: &ProcessEntry| position(ctx.table, &self.homes, entry, &from, primary);
            let trees = trees(ctx.table, &self.homes, &from, (primary, &[wrapper]), position);
            let members: Vec<ProcessKey> = trees.into_iter().flatten().collect();
            // A session goes on where it is.
            if members.iter().all(|&key| self.homes.home_of_primary(key).is_none()) {
                self.move_members(ctx, &from, &to, members);
                others.push(if from == *home { to } else { from });
            }
        }
        others
    }

    /// Moves `members` to another instance of `home`, in which `key` is to be the primary.
    fn move_tree(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        key: ProcessKey,
        members: Vec<ProcessKey>,
    ) -> Option<Arc<Home>> {
        let to = self.homes.free_sibling(home, &ctx.table.get(key)?.process)?;
        self.move_members(ctx, home, &to, members);
        Some(to)
    }

    /// Moves the launchers that stand aside for `key` in `home` to the instance `to`. Nobody is elected.
    pub(super) fn move_launchers(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        key: ProcessKey,
        to: &Arc<Home>,
    ) {
        let Some(entry) = ctx.table.get(key) else { return };
        let program = &entry.process.program;
        let is_launcher = |above: &&ProcessEntry| {
            is_candidate(above, home)
                && above.process.program == *program
                && self.homes.home_led_by(above).is_none()
        };
        let launchers = ctx.table.ancestors(entry).take(LAUNCHERS_MAX).filter(is_launcher);
        let launchers = launchers.map(|above| above.process.key).collect();
        self.move_members(ctx, home, to, launchers);
    }

    /// Makes `members`, which are candidates of `home`, candidates of the instance `to`. Nobody is elected.
    pub(super) fn move_members(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: &Arc<Home>,
        to: &Arc<Home>,
        members: Vec<ProcessKey>,
    ) {
        for key in members {
            if let Some(state) = self.homes.by_home.get_mut(home) {
                state.candidates.remove(&age(key));
            }
            let state = self.homes.by_home.entry(Arc::clone(to)).or_default();
            state.candidates.insert(age(key));
            if let Some(candidacy) = ctx.table.get_mut(key).and_then(|entry| entry.candidacy.as_mut()) {
                candidacy.home = Arc::clone(to);
            }
        }
    }
}
