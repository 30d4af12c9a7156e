//! Puts the primaries of known sessions in their places before anybody is elected, so that elections find them as
//! present primaries.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::input::KnownSession;
use crate::limits::{CANDIDATES_A_HOME_MAX, LAUNCHERS_MAX, OTHERS_MAX};
use crate::model::ids::ProcessKey;
use crate::model::rule::Rule;
use crate::model::session::{Home, State};
use crate::processes::entry::{Candidacy, ProcessEntry};
use crate::sessions::Sessions;
use crate::sessions::admission::{follows_cwd, has_namespace, home_len, is_wrapper};
use crate::sessions::by_age::age;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::fitting::{RecordedExec, Tenure, is_surely_ignored};
use crate::sessions::look::oldest_first;
use crate::sessions::resume::{GRAIN_NS, is_inside};
use crate::sessions::roots::{LineagePosition, instance_above, is_candidate, position, stands_aside};
use crate::sessions::run_program::RunProgram;

/// Homes whose primary executed a program that no rule admits there, or changed its user, while no daemon ran.
pub(super) type LostPrimaries = BTreeMap<Arc<Home>, Cause<'static>>;

/// Where the primary of a known session is.
enum Place {
    /// In its home, to which this rule admits it.
    Home(usize),
    /// Elsewhere, where no rule admits it; this rule admitted it to its home.
    Outside(usize),
    /// In another home, to which a rule admits it; this rule admitted it to the one that it left.
    OtherHome(usize),
}

impl Sessions {
    /// Makes each known primary that lives, and that a rule still admits to its home, the primary there. Returns those that no
    /// rule admits any more, because of what they did while no daemon ran.
    pub(super) fn put_in_places(
        &mut self,
        ctx: &mut SessionContext<'_>,
        known: &[&KnownSession<'_>],
    ) -> LostPrimaries {
        let (mut at_home, mut outside) = (Vec::new(), Vec::new());
        for known in known {
            match self.place(ctx, known) {
                Some(Place::Home(rule)) => {
                    self.put_home(ctx, known, rule);
                    at_home.push((*known, rule));
                }
                Some(place) => outside.push((known, place)),
                None => {}
            }
        }
        self.put_all_assumed(ctx, known, &at_home);
        for (known, place) in outside {
            let rule = match place {
                Place::Home(rule) | Place::Outside(rule) => rule,
                // It moved.
                Place::OtherHome(_) if self.may_be_session(ctx, known.primary) => continue,
                Place::OtherHome(rule) => {
                    self.pass_over(ctx, known.primary);
                    rule
                }
            };
            if self.may_be_restored(known) {
                let home = self.homes.intern(known.home.clone());
                self.adopt(ctx, &home, rule, known);
            }
        }
        let lost = known.iter().filter_map(|known| self.put_lost(ctx, known)).collect();
        self.put_in_instances(ctx, known, &lost);
        lost
    }

    /// Gives a known session to its primary where that executed another program while no daemon ran, or changed its user, so
    /// that no rule admits it any more. Returns that as the cause of the next election: the session ends by it, or another
    /// process goes on with it.
    fn put_lost(
        &mut self,
        ctx: &mut SessionContext<'_>,
        known: &KnownSession<'_>,
    ) -> Option<(Arc<Home>, Cause<'static>)> {
        let process = &ctx.table.get(known.primary)?.process;
        let recorded = RecordedExec { program: known.program, exec_id: known.exec_id };
        let cause = match process.uids.uid == known.home.uid {
            false => Cause::ChangedUser(known.primary),
            true if recorded.differs_from(process) => Cause::FoundExecedAway(known.primary),
            true => return None,
        };
        let path = &known.home.path;
        let rule = ctx.rules.iter().position(|rule| {
            home_len(&rule.home, path) == Some(path.len())
                && has_namespace(&rule.conditions, known.home.mnt_ns)
        })?;
        if self.place(ctx, known).is_some() || !self.may_be_restored(known) {
            return None;
        }
        let home = self.homes.intern(known.home.clone());
        self.adopt(ctx, &home, rule, known);
        let launcher = launcher_of(ctx, known);
        let slot = self.homes.by_home.get_mut(&home).and_then(|state| state.slot.as_mut())?;
        slot.launcher = launcher;
        slot.session.starts.restore(known.starts, GRAIN_NS);
        if let Some(program) = known.program.filter(|_| !slot.is_substitute) {
            slot.program = RunProgram::named(program);
        }
        Some((home, cause))
    }

    /// Elects in the homes of those that are lost. What these had for helpers may be sessions, and who takes their place is
    /// known before that.
    pub(super) fn elect_lost(&mut self, ctx: &mut SessionContext<'_>, lost: &LostPrimaries) {
        self.is_looking = false;
        for (home, &cause) in lost {
            self.elect(ctx, home, cause);
        }
    }

    fn place(&self, ctx: &SessionContext<'_>, known: &KnownSession<'_>) -> Option<Place> {
        let entry = ctx.table.get(known.primary)?;
        let process = &entry.process;
        if is_surely_ignored(ctx.ignored, process) {
            return None;
        }
        let mut rules = ctx.rules.iter().enumerate();
        let (index, rule) = rules.find(|(_, rule)| Tenure::from(known).fits(rule, process))?;
        // A primary that had left was about to move: only being there brings it back.
        let keeps_home = follows_cwd(rule) && known.state != State::Left;
        if keeps_home || is_inside(ctx, rule, known, &process.cwd) {
            return Some(Place::Home(index));
        }
        let is_admitted = entry.candidacy.is_some();
        Some(if is_admitted { Place::OtherHome(index) } else { Place::Outside(index) })
    }

    /// Returns whether neither the home nor the primary of a known session has another one, and its user may have one more.
    fn may_be_restored(&self, known: &KnownSession<'_>) -> bool {
        self.homes.slot(known.home).is_none()
            && self.homes.home_of_primary(known.primary).is_none()
            && self.homes.has_room(known.home)
    }

    /// Makes a known primary that is in its home the primary and a candidate there.
    fn put_home(&mut self, ctx: &mut SessionContext<'_>, known: &KnownSession<'_>, rule: usize) {
        let key = known.primary;
        if !self.may_be_restored(known) {
            return;
        }
        let home = self.homes.intern(known.home.clone());
        self.settling.remove(ctx.table, key);
        self.left_out.remove(key);
        self.stop_claiming(ctx, key);
        self.remove_candidate(ctx, key);
        let since = ctx.at;
        let Some((entry, settings)) = ctx.table.get_mut(key).zip(ctx.rules.get(rule)) else { return };
        entry.candidacy = Some(Candidacy {
            home: Arc::clone(&home),
            rule,
            is_wrapper: is_wrapper(settings, &entry.process),
            dir: entry.process.cwd.id,
            since,
            is_assumed: false,
        });
        self.homes.by_home.entry(Arc::clone(&home)).or_default().candidates.insert(age(key));
        self.adopt(ctx, &home, rule, known);
    }

    /// Makes candidates of the processes around known primaries of which it is not known whether the rule admits them: their
    /// launchers and wrappers, the others that could have been the primary, and then what those started.
    fn put_all_assumed(
        &mut self,
        ctx: &mut SessionContext<'_>,
        known: &[&KnownSession<'_>],
        at_home: &[(&KnownSession<'_>, usize)],
    ) {
        let primaries: BTreeSet<ProcessKey> = known.iter().map(|known| known.primary).collect();
        for &(known, rule) in at_home {
            let mut keys = launchers(ctx, known);
            keys.extend(known.others.iter().take(OTHERS_MAX).flat_map(|&other| with_launchers(ctx, other)));
            keys.retain(|key| !primaries.contains(key));
            self.put_assumed(ctx, known, rule, &keys);
        }
        // What launched a primary below another one is with it.
        for &(known, rule) in at_home {
            self.put_assumed(ctx, known, rule, &launchers_below_another(ctx, known, &primaries));
        }
        // Where one of two that a launcher started is not known, it launched neither.
        for &(known, rule) in at_home {
            let mut keys = started(ctx, known);
            keys.retain(|key| !primaries.contains(key));
            self.put_assumed(ctx, known, rule, &keys);
        }
    }

    /// Makes `keys` candidates of the home of a known session whose primary is there, as far as it depends on arguments that
    /// are not known whether they are.
    fn put_assumed(
        &mut self,
        ctx: &mut SessionContext<'_>,
        known: &KnownSession<'_>,
        rule: usize,
        keys: &[ProcessKey],
    ) {
        let Some(home) = self.homes.home_of_primary(known.primary) else { return };
        let Some(home) = Some(home).filter(|home| ***home == *known.home).map(Arc::clone) else { return };
        let Some(settings) = ctx.rules.get(rule) else { return };
        let wrapper = known.wrapper.and_then(|tgid| ctx.table.by_tgid(tgid)).map(|entry| entry.process.key);
        for &key in keys {
            let Some(candidacy) = assumed(ctx, known, (&home, rule, settings), key) else { continue };
            self.settling.remove(ctx.table, key);
            self.stop_claiming(ctx, key);
            let Some(entry) = ctx.table.get_mut(key) else { continue };
            entry.candidacy = Some(candidacy);
            let Some(state) = self.homes.by_home.get_mut(&home) else { continue };
            state.candidates.insert(age(key));
            if let Some(slot) = state.slot.as_mut().filter(|_| Some(key) == wrapper) {
                slot.session.wrapper = wrapper;
                self.hold(ctx, key, &home);
            }
        }
    }

    fn remove_candidate(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        let Some(candidacy) = ctx.table.get_mut(key).and_then(|entry| entry.candidacy.take()) else { return };
        if let Some(state) = self.homes.by_home.get_mut(&candidacy.home) {
            state.candidates.remove(&age(key));
        }
        self.homes.forget_empty(&candidacy.home);
    }

    /// Returns whether a process may be a session in the home of which it is a candidate.
    fn may_be_session(&self, ctx: &SessionContext<'_>, key: ProcessKey) -> bool {
        let Some(entry) = ctx.table.get(key) else { return false };
        let Some(candidacy) = &entry.candidacy else { return false };
        let home = self.instance_for(ctx, entry, &candidacy.home);
        let primary = self.homes.slot(home).map(|slot| slot.session.primary);
        match position(ctx.table, &self.homes, entry, home, primary) {
            LineagePosition::Root => true,
            LineagePosition::Below(above) => {
                primary != Some(above) && ctx.table.get(above).is_none_or(|above| !is_candidate(above, home))
            }
            LineagePosition::Helper(_) => false,
        }
    }

    /// A process can be no session where it is, so it keeps the one that it left.
    fn pass_over(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        let Some(entry) = ctx.table.get(key) else { return };
        let Some(candidacy) = &entry.candidacy else { return };
        let home = Arc::clone(self.instance_for(ctx, entry, &candidacy.home));
        self.remove_candidate(ctx, key);
        self.passed_over.add(key, &home);
    }

    /// Returns the instance of `home`, in which `entry` was found, that what is above it belongs to.
    fn instance_for<'a>(
        &'a self,
        ctx: &'a SessionContext<'_>,
        entry: &'a ProcessEntry,
        home: &'a Arc<Home>,
    ) -> &'a Arc<Home> {
        instance_above(ctx.table, &self.homes, entry, home).unwrap_or(home)
    }

    /// Every candidate was found in the first instance of its home. Moves what is above and below each known primary to the
    /// instance of that primary.
    fn put_in_instances(
        &mut self,
        ctx: &mut SessionContext<'_>,
        known: &[&KnownSession<'_>],
        lost: &LostPrimaries,
    ) {
        let mut placed = BTreeSet::new();
        // What runs several primaries belongs to the one of which it is known to be the wrapper or the launcher.
        let with_wrapper = known.iter().filter(|known| known.wrapper.is_some());
        // What was admitted while no daemon ran, with several below it, belongs to the one with the lowest number.
        let without = known.iter().filter(|known| known.wrapper.is_none());
        let mut without: Vec<_> = without.collect();
        without.sort_by_key(|known| known.home.instance);
        for known in with_wrapper.chain(without) {
            let home = self.homes.home_of_primary(known.primary).filter(|home| ***home == *known.home);
            let Some(home) = home.map(Arc::clone) else { continue };
            // What started one that left may belong to another session since then.
            let is_there = ctx.table.get(known.primary).is_some_and(|entry| is_candidate(entry, &home));
            if !is_there && !lost.contains_key(&home) {
                continue;
            }
            let first = self.homes.intern(Home { instance: Home::FIRST, ..known.home.clone() });
            let mut above = self.chain_above(ctx, known.primary, (&first, &home));
            above.retain(|above| !placed.contains(above));
            placed.extend(above.iter().copied());
            if home != first {
                self.move_members(ctx, &first, &home, above);
                self.homes.forget_empty(&first);
            }
        }
        for key in oldest_first(ctx.table) {
            if placed.contains(&key) || self.homes.home_of_primary(key).is_some() {
                continue;
            }
            let Some(entry) = ctx.table.get(key) else { continue };
            let Some(candidacy) = &entry.candidacy else { continue };
            let to = instance_above(ctx.table, &self.homes, entry, &candidacy.home);
            let Some(to) = to.filter(|to| **to != candidacy.home).map(Arc::clone) else { continue };
            let from = Arc::clone(&candidacy.home);
            self.move_members(ctx, &from, &to, alloc::vec![key]);
            self.homes.forget_empty(&from);
        }
    }

    /// Returns the candidates of `first` above `key`, the primary of `home`, up to the root. Where a primary is among them, they
    /// are taken for that one's, but for what launched `key`.
    fn chain_above(
        &self,
        ctx: &SessionContext<'_>,
        key: ProcessKey,
        (first, home): (&Home, &Home),
    ) -> Vec<ProcessKey> {
        let next =
            |&key: &ProcessKey| match position(ctx.table, &self.homes, ctx.table.get(key)?, first, None) {
                LineagePosition::Below(above) | LineagePosition::Helper(above) => Some(above),
                LineagePosition::Root => None,
            };
        let above = core::iter::successors(Some(key), next).skip(1).take(LAUNCHERS_MAX);
        let mut above: Vec<ProcessKey> = above.collect();
        if above.iter().any(|&above| self.homes.home_of_primary(above).is_some()) {
            return self.launched_by(ctx, key, (first, home));
        }
        above.retain(|&above| ctx.table.get(above).is_some_and(|above| is_candidate(above, first)));
        above
    }

    /// Returns the candidates of `first`, or of `home` by an assumption, that launched `key`, the primary of `home`, and are no
    /// primaries themselves.
    fn launched_by(
        &self,
        ctx: &SessionContext<'_>,
        key: ProcessKey,
        (first, home): (&Home, &Home),
    ) -> Vec<ProcessKey> {
        let next = |&key: &ProcessKey| {
            let below = ctx.table.get(key)?;
            let above = ctx.table.get(below.process.lineage?)?;
            let launches =
                is_candidate(above, home) || (is_candidate(above, first) && stands_aside(above, below));
            let above = above.process.key;
            (launches && self.homes.home_of_primary(above).is_none()).then_some(above)
        };
        core::iter::successors(Some(key), next).skip(1).take(LAUNCHERS_MAX).collect()
    }
}

/// Returns the candidacy of a process that may be a candidate of the home of a known session.
fn assumed(
    ctx: &SessionContext<'_>,
    known: &KnownSession<'_>,
    (home, rule, settings): (&Arc<Home>, usize, &Rule),
    key: ProcessKey,
) -> Option<Candidacy> {
    let entry = ctx.table.get(key).filter(|entry| entry.candidacy.is_none())?;
    let process = &entry.process;
    let tenure = Tenure { program: None, ..Tenure::from(known) };
    let may_be = process.is_unread()
        && !is_surely_ignored(ctx.ignored, process)
        && tenure.fits(settings, process)
        && is_inside(ctx, settings, known, &process.cwd);
    may_be.then(|| Candidacy {
        home: Arc::clone(home),
        rule,
        is_wrapper: is_wrapper(settings, process),
        dir: process.cwd.id,
        since: ctx.at,
        is_assumed: true,
    })
}

/// Returns the processes above a known primary, up to the wrapper or launcher that it runs under.
fn launchers(ctx: &SessionContext<'_>, known: &KnownSession<'_>) -> Vec<ProcessKey> {
    let Some(entry) = ctx.table.get(known.primary) else { return Vec::new() };
    let mut above: Vec<ProcessKey> = ctx.table.ancestors(entry).map(|above| above.process.key).collect();
    let top = above.iter().position(|above| Some(above.tgid) == known.wrapper);
    above.truncate(top.map_or(0, |top| top + 1).min(LAUNCHERS_MAX));
    above
}

/// Returns the launcher that stood aside for a known primary: the outermost process above it that runs the program which that
/// was recorded to run.
fn launcher_of(ctx: &SessionContext<'_>, known: &KnownSession<'_>) -> Option<ProcessKey> {
    let runs_same = |&key: &ProcessKey| {
        let entry = ctx.table.get(key).filter(|entry| entry.candidacy.is_some() && !entry.is_wrapper());
        entry.is_some_and(|entry| entry.process.program.as_deref() == known.program)
    };
    launchers(ctx, known).into_iter().rev().find(runs_same)
}

/// Returns a process, and those above it that may be its launchers: the journal does not have these.
fn with_launchers(ctx: &SessionContext<'_>, key: ProcessKey) -> Vec<ProcessKey> {
    let Some(entry) = ctx.table.get(key) else { return Vec::new() };
    let is_alike = |above: &&ProcessEntry| above.process.comm == entry.process.comm;
    let above = ctx.table.ancestors(entry).take_while(is_alike).take(LAUNCHERS_MAX);
    core::iter::once(key).chain(above.map(|above| above.process.key)).collect()
}

/// Returns what may have launched a known primary below another one; the journal does not record it.
fn launchers_below_another(
    ctx: &SessionContext<'_>,
    known: &KnownSession<'_>,
    primaries: &BTreeSet<ProcessKey>,
) -> Vec<ProcessKey> {
    let Some(entry) = ctx.table.get(known.primary).filter(|_| known.wrapper.is_none()) else {
        return Vec::new();
    };
    let is_primary = |above: &ProcessEntry| primaries.contains(&above.process.key);
    let above: Vec<&ProcessEntry> = ctx.table.ancestors(entry).take(LAUNCHERS_MAX).collect();
    let end = above.iter().position(|above| is_primary(above)).unwrap_or(0);
    let is_alike = |above: &&&ProcessEntry| above.process.comm == entry.process.comm;
    above.iter().take(end).take_while(is_alike).map(|above| above.process.key).collect()
}

/// Returns what a known primary and its launchers started, as far as it may be candidates.
fn started(ctx: &SessionContext<'_>, known: &KnownSession<'_>) -> Vec<ProcessKey> {
    let above = core::iter::once(known.primary).chain(launchers(ctx, known));
    let children = above.flat_map(|key| ctx.table.children_by_birth(key.tgid));
    let children = children.filter_map(|child| ctx.table.by_tgid(child));
    let unread = children.filter(|child| child.candidacy.is_none() && child.process.is_unread());
    unread.map(|child| child.process.key).take(CANDIDATES_A_HOME_MAX).collect()
}
