//! Keeps the candidates of each home: which processes a rule admits to it, as processes start, change and
//! end.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{SETTLE_NS, SETTLED_A_TICK_MAX};
use crate::model::death::Death;
use crate::model::ids::ProcessKey;
use crate::model::process::Process;
use crate::model::rule::Rule;
use crate::model::session::Home;
use crate::processes::entry::{Candidacy, ProcessEntry};
use crate::processes::fields::Diff;
use crate::sessions::Sessions;
use crate::sessions::admission::{
    AdmissionResult, admits, finds_home, follows_cwd, has_namespace, is_ignored, is_refused_by_arguments,
    is_refused_like, is_wrapper, namespace, old_enough_at,
};
use crate::sessions::by_age::age;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, Root, SessionSlot};
use crate::sessions::left_out::Part;
use crate::sessions::roots::{
    LineagePosition, is_candidate, is_launched, is_right_below_candidate, wrapping_root,
};
use crate::sessions::settling::Stay;

/// Fields that decide whether a rule admits a process.
const ADMITTING: Diff = Diff::EXEC
    .union(Diff::MOVED)
    .union(Diff::COMM)
    .union(Diff::UIDS)
    .union(Diff::TTY)
    .union(Diff::CGROUP)
    .union(Diff::IMAGE)
    .union(Diff::PANE);

/// Fields that decide whether a process runs the program that ran in its home before.
const PROGRAM: Diff = Diff::EXEC.union(Diff::COMM).union(Diff::IMAGE);

impl Sessions {
    /// A process came into the map.
    pub fn started(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, creator: Option<ProcessKey>) {
        let Some(entry) = ctx.table.get(key) else { return };
        if let Some(home) = creator.and_then(|creator| self.settling.home_of(creator)) {
            let due = ctx.now.after(SETTLE_NS);
            self.settling.set(ctx.table, key, Stay { home, due, first_due: due });
            return;
        }
        let creator = creator.and_then(|creator| ctx.table.get(creator));
        let may_be_refused =
            |it: &&ProcessEntry| !self.passed_over.has(it.process.key) && !self.left_out.has(it.process.key);
        if let Some(creator) = creator.filter(may_be_refused).filter(|it| is_refused_like(entry, it)) {
            return self.claim_like(ctx, key, creator.process.key);
        }
        self.consider(ctx, key);
    }

    /// Fields of a process changed.
    pub fn changed(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, diff: Diff) {
        let Some(entry) = ctx.table.get(key) else { return };
        let home = entry.candidacy.as_ref().map(|candidacy| Arc::clone(&candidacy.home));
        if diff.intersects(ADMITTING) {
            match home {
                Some(home) => self.reconsider(ctx, key, &home, diff),
                None if !diff.intersects(Diff::EXEC) && self.comes_back(ctx, key) => {}
                None => self.arrive(ctx, key, diff),
            }
        }
        if diff.intersects(Diff::TTY) && ctx.table.has_children_by_birth(key.tgid) {
            self.relinked.insert(age(key));
        }
        if diff.intersects(Diff::ARGUMENTS) && !diff.intersects(Diff::EXEC) {
            self.confirm(ctx, key);
        }
        self.holder_changed(ctx, key, diff);
    }

    /// A process left the map. It is as it was last known, and `orphans` are its children by birth; `successors` were found
    /// before.
    pub fn ended(
        &mut self,
        ctx: &mut SessionContext<'_>,
        candidacy: Option<Candidacy>,
        orphans: &[ProcessKey],
        (process, death, successors): (&Process, &Death, &[Root]),
    ) {
        let cause = Cause::Died(process, death, successors);
        self.forget_claims(process.key);
        self.settling.remove(ctx.table, process.key);
        self.passed_over.remove(process.key);
        self.left_out.remove(process.key);
        // Whatever it was: what is below it is nearer to what is above it, and so may come within reach of that.
        self.relinked.extend(orphans.iter().map(|&orphan| age(orphan)));
        let home = candidacy.map(|candidacy| candidacy.home);
        if home.is_none() {
            self.leave_behind(ctx, process.key, orphans);
        }
        self.elect_orphans(ctx, home.as_ref(), orphans);
        if let Some(home) = &home {
            self.leave(ctx, process.key, home, cause);
        }
        let held: Vec<Arc<Home>> = self.homes.held_by(process.key).to_vec();
        for held in held.into_iter().filter(|held| Some(held) != home.as_ref()) {
            self.elect(ctx, &held, cause);
        }
    }

    /// Time passed: acts on processes that have settled, and on homes whose roots are old enough.
    pub fn tick(&mut self, ctx: &mut SessionContext<'_>) {
        // The rest stays due: the caller looks at other events in between.
        for _ in 0..SETTLED_A_TICK_MAX {
            let Some(key) = self.settling.take_due(ctx.table, ctx.now) else { break };
            if ctx.table.get(key).is_some_and(|entry| entry.candidacy.is_none()) {
                self.consider(ctx, key);
            }
        }
        self.check_owners(ctx);
        while let Some((at, home)) = self.homes.next_due() {
            if at > ctx.now {
                break;
            }
            let home = Arc::clone(home);
            self.homes.set_due(&home, None);
            self.elect(ctx, &home, Cause::Candidates);
        }
    }

    /// Fields changed of a process that is no candidate. It may become one: at once, or where it moved, after
    /// it has stayed. So a program that walks through homes is a session of none of them, and each step costs
    /// a timer at most.
    pub(super) fn arrive(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, diff: Diff) {
        let settling = self.settling.remove(ctx.table, key);
        // It is considered when it has settled.
        self.left_out.remove(key);
        let execed = diff.intersects(Diff::EXEC);
        let moved = diff.intersects(Diff::CWD_ID) && !execed;
        let holds = !self.homes.held_by(key).is_empty();
        let waits = (moved && !self.follows_at_once(ctx, key)) || holds || (settling.is_some() && !execed);
        if !waits {
            return self.consider(ctx, key);
        }
        self.stop_claiming(ctx, key);
        let home = match self.verdict(ctx, key) {
            AdmissionResult::Refused => return,
            AdmissionResult::AwaitsOwner(home) => home,
            AdmissionResult::Admitted(candidacy) => candidacy.home,
        };
        let same = settling.as_ref().filter(|stay| stay.home == home).map(|stay| stay.due);
        let due = same.unwrap_or(ctx.now.after(SETTLE_NS));
        let first_due = settling.map_or(due, |stay| stay.first_due);
        self.settling.set(ctx.table, key, Stay { home, due, first_due });
    }

    /// Where the working directory is the home, a process that is too young to be a session goes from home to
    /// home without a report, so it need not wait.
    fn follows_at_once(&self, ctx: &SessionContext<'_>, key: ProcessKey) -> bool {
        let AdmissionResult::Admitted(candidacy) = self.verdict(ctx, key) else { return false };
        let rule = ctx.rules.get(candidacy.rule);
        let Some(process) = ctx.table.get(key).map(|entry| &entry.process) else { return false };
        rule.is_some_and(follows_cwd) && ctx.now < old_enough_at(rule, process)
    }

    /// A primary that left its home and is there again becomes a candidate without being admitted again.
    /// Returns whether it did.
    fn comes_back(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) -> bool {
        let Some(entry) = ctx.table.get(key) else { return false };
        let process = &entry.process;
        let Some(path) = process.cwd.usable_path() else { return false };
        let namespace = namespace(ctx.host_mnt_ns, process.cwd.mnt_ns);
        let candidacy = self.homes.held_by(key).iter().find_map(|home| {
            let slot = self.homes.slot(home).filter(|slot| slot.current_primary() == Some(key))?;
            let rule = ctx.rules.get(slot.session.rule)?;
            let is_there = finds_home(rule, path, home) && namespace == home.mnt_ns;
            (is_there && process.uids.uid == home.uid).then(|| Candidacy {
                home: Arc::clone(home),
                rule: slot.session.rule,
                is_wrapper: is_wrapper(rule, process),
                dir: process.cwd.id,
                since: ctx.at,
                is_assumed: false,
            })
        });
        let Some(candidacy) = candidacy else { return false };
        if ctx.rules.get(candidacy.rule).is_some_and(|rule| rule.owner) {
            // The directory may have been replaced meanwhile.
            self.consider(ctx, key);
        } else {
            self.join(ctx, key, candidacy);
        }
        true
    }

    /// A candidate changed: it stays, leaves, or goes to another home. Rules admit a primary and do not evict it: only
    /// another image or another directory ends its candidacy, or arguments that were not known when it began.
    fn reconsider(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>, diff: Diff) {
        let Some(entry) = ctx.table.get(key) else { return };
        let Some(candidacy) = &entry.candidacy else { return };
        let Some(rule) = ctx.rules.get(candidacy.rule) else { return };
        if diff.intersects(Diff::ARGUMENTS)
            && !diff.intersects(Diff::EXEC)
            && is_refused_by_arguments(ctx, rule, entry)
        {
            let Some(candidacy) = self.other_candidacy(ctx, key, home) else {
                return self.expel(ctx, key, home);
            };
            return self.stay_by_other_rule(ctx, key, candidacy, diff);
        }
        if self.has_lapsed(ctx, (rule, entry), home, diff) {
            return self.lapse(ctx, key, home, diff);
        }
        let is_refused = diff.intersects(Diff::EXEC) && is_refused_image(ctx, rule, &entry.process);
        let is_other_user = entry.process.uids.uid != home.uid;
        if !is_refused && !is_other_user && self.is_still_inside(ctx, entry, candidacy, rule, diff) {
            return self.stay(ctx, key, home, diff);
        }
        // What a wrapper executes elsewhere, as in a namespace that it entered, was never in this home.
        let execed_away =
            is_refused || (candidacy.is_wrapper && !is_other_user && diff.intersects(Diff::EXEC));
        if let AdmissionResult::Admitted(mut candidacy) = self.verdict(ctx, key)
            && candidacy.home.is_sibling(home)
        {
            // Another rule admits it to the same home.
            candidacy.home = Arc::clone(home);
            return self.stay_by_other_rule(ctx, key, candidacy, diff);
        }
        let cause = match (execed_away, is_other_user) {
            (true, _) => Cause::ExecedAway(key),
            (false, true) => Cause::ChangedUser(key),
            (false, false) => Cause::Moved(key, diff),
        };
        if let Some(entry) = ctx.table.get_mut(key) {
            entry.candidacy = None;
        }
        self.leave(ctx, key, home, cause);
        let is_back = !diff.intersects(Diff::EXEC) && self.comes_back(ctx, key);
        if !is_back {
            self.arrive(ctx, key, diff);
        }
    }

    /// Another rule admits a candidate to the home in which it is, maybe as a wrapper where it was none.
    fn stay_by_other_rule(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        candidacy: Candidacy,
        diff: Diff,
    ) {
        let (home, is_wrapper) = (Arc::clone(&candidacy.home), candidacy.is_wrapper);
        let before = ctx.table.get_mut(key).and_then(|entry| entry.candidacy.replace(candidacy));
        if before.is_some_and(|before| before.is_wrapper != is_wrapper) {
            self.relinked.insert(age(key));
        }
        self.elect(ctx, &home, Cause::Moved(key, diff));
    }

    /// Returns whether a candidate is in its home, as far as that is known.
    fn is_still_inside(
        &self,
        ctx: &SessionContext<'_>,
        entry: &ProcessEntry,
        candidacy: &Candidacy,
        rule: &Rule,
        diff: Diff,
    ) -> bool {
        let (key, cwd, home) = (entry.process.key, &entry.process.cwd, &candidacy.home);
        let is_other_program = diff.intersects(Diff::EXEC) && diff.intersects(Diff::COMM);
        let is_same_namespace = namespace(ctx.host_mnt_ns, cwd.mnt_ns) == home.mnt_ns;
        let keeps_home = follows_cwd(rule)
            && !is_other_program
            && (ctx.now >= old_enough_at(Some(rule), &entry.process)
                || self.homes.held_by(key).contains(home));
        match &cwd.path {
            _ if keeps_home => true,
            None if !cwd.truncated && (cwd.mnt_ns == 0 || is_same_namespace) => true,
            _ if !is_same_namespace => false,
            _ if cwd.id == candidacy.dir && cwd.usable_path().is_none() => true,
            Some(path) if !cwd.unreachable => finds_home(rule, path, home),
            _ => false,
        }
    }

    /// A candidate stays in its home, and may be another program or in another directory of it.
    fn stay(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>, diff: Diff) {
        let Some(entry) = ctx.table.get(key) else { return };
        let is_below = is_right_below_candidate(ctx.table, &entry.process, home);
        let Some(entry) = ctx.table.get_mut(key) else { return };
        let process = &entry.process;
        let Some(candidacy) = &mut entry.candidacy else { return };
        let Some(rule) = ctx.rules.get(candidacy.rule) else { return };
        let is_wrapper = is_wrapper(rule, process);
        let role_changed = core::mem::replace(&mut candidacy.is_wrapper, is_wrapper) != is_wrapper;
        if role_changed {
            self.relinked.insert(age(key));
        }
        if process.cwd.usable_path().is_some() && process.cwd.id != candidacy.dir {
            candidacy.dir = process.cwd.id;
            candidacy.since = ctx.at;
        }
        let awaits_age = self.homes.by_home.get(home).is_some_and(|state| state.due.is_some());
        let may_be_in_chain =
            diff.intersects(PROGRAM.union(Diff::TTY)) && (self.decides(key, home) || is_below);
        if role_changed || may_be_in_chain || diff.intersects(Diff::TTY) {
            let is_placed_anew = role_changed || is_below || diff.intersects(Diff::TTY);
            if is_placed_anew || !self.recounts_lone_root(ctx, key, home) {
                self.elect(ctx, home, Cause::Moved(key, diff));
            }
        } else if self.concerns_by_place(ctx, key, home, diff) {
            self.elect(ctx, home, Cause::Changed(key, diff));
        } else if awaits_age && diff.intersects(PROGRAM) {
            // It was too young as another program, but may be one that runs here again.
            self.elect(ctx, home, Cause::Candidates);
        }
    }

    /// Fields of a process changed. Updates the sessions that it holds, wherever it is.
    fn holder_changed(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, diff: Diff) {
        if self.homes.held_by(key).is_empty() {
            return;
        }
        let held: Vec<Arc<Home>> = self.homes.held_by(key).to_vec();
        for home in held.into_iter().filter(|home| !self.reported.contains(home)).collect::<Vec<_>>() {
            let Some(entry) = ctx.table.get(key) else { return };
            let rule = self.homes.slot(&home).and_then(|slot| ctx.rules.get(slot.session.rule));
            let execed_away = diff.intersects(Diff::EXEC)
                && !is_candidate(entry, &home)
                && rule.is_none_or(|rule| is_refused_image(ctx, rule, &entry.process));
            let is_primary = self.homes.slot(&home).and_then(SessionSlot::current_primary) == Some(key);
            let cause = match (execed_away, is_primary && entry.process.uids.uid != home.uid) {
                (true, _) => Cause::ExecedAway(key),
                (false, true) => Cause::ChangedUser(key),
                (false, false) => Cause::Changed(key, diff),
            };
            self.elect(ctx, &home, cause);
        }
    }

    /// Returns whether the session of `home` depends on this candidate by itself.
    pub(super) fn decides(&self, key: ProcessKey, home: &Arc<Home>) -> bool {
        self.homes.by_home.get(home).is_some_and(|state| {
            let is_for = |root: &Root| [Some(root.key), root.stand_in, root.launcher].contains(&Some(key));
            // Below a wrapper of another user, any candidate may be what makes it a root.
            let is_of_other_user = |root: &Root| !state.candidates.contains(&age(root.key));
            let mut roots = state.roots.iter();
            state.holders().contains(&Some(key)) || roots.clone().any(is_for) || roots.any(is_of_other_user)
        })
    }

    /// A process becomes a candidate.
    pub(super) fn join(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, candidacy: Candidacy) {
        let home = Arc::clone(&candidacy.home);
        self.settling.remove(ctx.table, key);
        self.stop_claiming(ctx, key);
        let primary = self.homes.by_home.get(&home).and_then(HomeState::current_primary);
        let Some(entry) = ctx.table.get(key) else { return };
        let (position, waits_for) = self.place_root(ctx.table, ctx.now, entry, &home, primary);
        let is_root = match position {
            LineagePosition::Root => true,
            // A wrapper of another user is above it, and no candidate of this home.
            LineagePosition::Below(above) => {
                let is_here = |above: &ProcessEntry| is_candidate(above, &home);
                let root = || wrapping_root(ctx.table, &self.homes, entry, &home);
                primary != Some(above)
                    && (!ctx.table.get(above).is_some_and(is_here)
                        || root().is_some_and(|root| self.may_stand_in(key, &home, Some(root))))
            }
            LineagePosition::Helper(_) => false,
        };
        // It can be no session there, so it keeps the one that it left.
        let holds_other = self.homes.held_by(key).iter().any(|held| *held != home);
        if holds_other && !is_root {
            return self.passed_over.add(key, &home);
        }
        // One below a wrapper that runs an older program takes its place when that ends.
        let runs_for_root = matches!(position, LineagePosition::Below(above) if primary != Some(above))
            && wrapping_root(ctx.table, &self.homes, entry, &home).is_some();
        let part = Part::of(is_root || runs_for_root, candidacy.is_wrapper);
        if primary != Some(key) && self.is_full(&home, part) {
            return self.leave_out(key, &home, part);
        }
        let is_launched = is_launched(ctx.table, &entry.process, &home);
        let vacated = self.vacate_others(ctx, key, &home);
        let is_wrapper = candidacy.is_wrapper;
        let Some(entry) = ctx.table.get_mut(key) else { return };
        entry.candidacy = Some(candidacy);
        self.homes.by_home.entry(Arc::clone(&home)).or_default().candidates.insert(age(key));
        let may_stand_in = !is_wrapper && self.may_stand_in(key, &home, None);
        let has_children = ctx.table.has_children_by_birth(key.tgid);
        if has_children {
            self.relinked.insert(age(key));
        }
        let is_lone_root = position == LineagePosition::Root && vacated.is_empty();
        if is_lone_root && self.counts_lone_root(ctx, (key, waits_for), &home) {
            return;
        }
        // Most processes of a busy home are descendants of its primary and change nothing.
        if is_root || may_stand_in || is_launched || primary == Some(key) || has_children {
            self.elect(ctx, &home, Cause::Candidates);
        }
        self.elect_vacated(ctx, &vacated);
    }

    /// A process is no candidate of `home` any more. Unless it died, its descendants may have become roots.
    pub(super) fn leave(
        &mut self,
        ctx: &mut SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
        cause: Cause<'_>,
    ) {
        let Some(state) = self.homes.by_home.get_mut(home) else { return };
        state.candidates.remove(&age(key));
        let has_children = ctx.table.has_children_by_birth(key.tgid);
        let process = match cause {
            Cause::Died(process, ..) => Some(process),
            _ => ctx.table.get(key).map(|entry| &entry.process),
        };
        let is_below = process.is_some_and(|process| is_right_below_candidate(ctx.table, process, home));
        if has_children {
            self.relinked.insert(age(key));
        }
        let concerns = has_children || self.decides(key, home);
        if is_below || (concerns && !self.discounts_lone_root(ctx, key, home)) {
            self.elect(ctx, home, cause);
        }
        self.readmit(ctx, home);
        self.homes.forget_empty(home);
    }
}

/// Returns whether the program that `process` executed is none that `rule` admits, its home aside.
fn is_refused_image(ctx: &SessionContext<'_>, rule: &Rule, process: &Process) -> bool {
    admits(rule, process).is_none()
        || is_ignored(ctx.ignored, process)
        || !has_namespace(&rule.conditions, namespace(ctx.host_mnt_ns, process.cwd.mnt_ns))
}
