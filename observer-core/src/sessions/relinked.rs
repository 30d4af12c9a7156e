//! Looks again at candidates whose place among others may have changed, and at those that were left out of a home
//! with too many.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{CANDIDATES_A_HOME_MAX, CANDIDATES_IN_ALL_MAX, RELINKED_A_TURN_MAX};
use crate::model::ids::ProcessKey;
use crate::model::session::Home;
use crate::processes::entry::{LeftBehind, ProcessEntry};
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::Root;
use crate::sessions::left_out::Part;
use crate::sessions::roots::is_candidate;

impl Sessions {
    /// The ancestors by birth of a process are others: it and its descendants may have become roots, or
    /// ceased to be.
    pub fn relinked(&mut self, key: ProcessKey) {
        self.relinked.insert(age(key));
    }

    /// Elects again in the homes of the processes that were noted as relinked, and of their descendants, as far as
    /// that is no work for more than one turn. To be called after each event.
    pub fn elect_relinked(&mut self, ctx: &mut SessionContext<'_>) {
        for home in core::mem::take(&mut self.changed_roots) {
            self.readmit(ctx, &home);
        }
        let mut budget = RELINKED_A_TURN_MAX;
        while budget > 0 && !self.relinked.is_empty() {
            let mut homes: Vec<Arc<Home>> = Vec::new();
            let mut seen: BTreeSet<Arc<Home>> = BTreeSet::new();
            let mut outside: Vec<ProcessKey> = Vec::new();
            // Ancestors first: what becomes a primary makes helpers of its descendants.
            while budget > 0
                && let Some((_, tgid)) = self.relinked.pop_first()
            {
                budget -= 1;
                let children = ctx.table.children_by_birth(tgid);
                let children = children.filter_map(|child| ctx.table.by_tgid(child));
                self.relinked.extend(children.map(|child| age(child.process.key)));
                let Some(entry) = ctx.table.by_tgid(tgid) else { continue };
                match &entry.candidacy {
                    Some(candidacy) if seen.insert(Arc::clone(&candidacy.home)) => {
                        homes.push(Arc::clone(&candidacy.home));
                    }
                    Some(_) => {}
                    // It may be where it was a helper until this moment.
                    // Of a chain of processes that were left out the first is considered: there is no more room for the others.
                    None if self.is_first_left_out(entry)
                        || self.passed_over.has(entry.process.key)
                        || !self.homes.held_by(entry.process.key).is_empty() =>
                    {
                        outside.push(entry.process.key);
                    }
                    None => {}
                }
            }
            for home in homes {
                self.elect(ctx, &home, Cause::Candidates);
            }
            outside.retain(|&key| self.settling.home_of(key).is_none());
            for key in outside {
                self.consider(ctx, key);
            }
        }
    }

    /// Elects in the homes of what a dead process of `home` started, before the next primary of `home` itself is elected: what
    /// is below a session that begins there is its helper.
    pub(super) fn elect_orphans(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: Option<&Arc<Home>>,
        orphans: &[ProcessKey],
    ) {
        // What is below a candidate of `home` waits for that. A wrapper is no session.
        let may_take = |above: &ProcessEntry, home: &Home| is_candidate(above, home) && !above.is_wrapper();
        let is_below = |entry: &&ProcessEntry| {
            home.is_some_and(|home| ctx.table.ancestors(entry).any(|above| may_take(above, home)))
        };
        let mut homes: BTreeSet<Arc<Home>> = BTreeSet::new();
        let mut pending: VecDeque<ProcessKey> = orphans.iter().copied().take(RELINKED_A_TURN_MAX).collect();
        for _ in 0..RELINKED_A_TURN_MAX {
            let Some(key) = pending.pop_front() else { break };
            let Some(entry) = ctx.table.get(key) else { continue };
            match entry.candidacy.as_ref().map(|candidacy| &candidacy.home) {
                Some(elsewhere) if Some(elsewhere) != home && !is_below(&entry) => {
                    homes.insert(Arc::clone(elsewhere));
                }
                Some(_) => {}
                // What no rule admits, such as a shell, may have started what goes on.
                None => {
                    let children = ctx.table.children_by_birth(entry.process.key.tgid);
                    let children = children.filter_map(|child| ctx.table.by_tgid(child));
                    let room = RELINKED_A_TURN_MAX.saturating_sub(pending.len());
                    pending.extend(children.map(|child| child.process.key).take(room));
                }
            }
        }
        for elsewhere in homes {
            self.elect(ctx, &elsewhere, Cause::Candidates);
        }
    }

    /// Returns whether `root`, or any root of `home`, has no program that runs for it and is older than `key`. What a
    /// launcher stands aside for is as old as the launcher.
    pub(super) fn may_stand_in(&self, key: ProcessKey, home: &Home, root: Option<ProcessKey>) -> bool {
        let is_meant = |it: &&Root| root.is_none_or(|root| it.key == root);
        let is_older = |program: ProcessKey| age(key) < age(program);
        let state = self.homes.by_home.get(home);
        state.is_some_and(|state| {
            let mut roots = state.roots.iter().filter(is_meant);
            roots.any(|root| root.launcher.or(root.stand_in).is_none_or(is_older))
        })
    }

    /// A primary died that was not in its home: what it started goes on without it there.
    pub(super) fn leave_behind(&self, ctx: &mut SessionContext<'_>, key: ProcessKey, orphans: &[ProcessKey]) {
        let Some(home) = self.homes.home_of_primary(key) else { return };
        for &orphan in orphans {
            if let Some(entry) = ctx.table.get_mut(orphan) {
                entry.left_behind = Some(LeftBehind { home: Arc::clone(home), at: ctx.at });
            }
        }
    }

    /// Returns how many candidates of `home` count against the bound for one that is `part` of it: roots that run a program
    /// leave room for wrappers, and those that run nothing for programs. Roots are known only where elections take place.
    fn count_of(&self, home: &Home, part: Part) -> usize {
        let Some(state) = self.homes.by_home.get(home) else { return 0 };
        let all = state.candidates.len();
        // There are no more roots than candidates.
        if self.is_looking || part == Part::Helper || all <= CANDIDATES_A_HOME_MAX / 2 {
            return all;
        }
        let runs = part == Part::Program;
        let of_part = state.roots.iter().filter(|root| root.stand_in.is_some() == runs).count();
        of_part.max(all / (CANDIDATES_IN_ALL_MAX / CANDIDATES_A_HOME_MAX))
    }

    fn is_first_left_out(&self, entry: &ProcessEntry) -> bool {
        let is_left_out = |key| self.left_out.has(key);
        is_left_out(entry.process.key) && !entry.process.lineage.is_some_and(is_left_out)
    }

    /// Returns whether `home` has too many candidates for one more that is `part` of it.
    pub(super) fn is_full(&self, home: &Home, part: Part) -> bool {
        self.count_of(home, part) >= CANDIDATES_A_HOME_MAX
    }

    pub(super) fn leave_out(&mut self, key: ProcessKey, home: &Arc<Home>, part: Part) {
        self.homes.left_out += 1;
        self.left_out.add(key, home, part);
    }

    /// Considers those again that were left out of a home, when half of what they count as are gone.
    pub(super) fn readmit(&mut self, ctx: &mut SessionContext<'_>, home: &Home) {
        if !self.left_out.has_any(home) {
            return;
        }
        for part in Part::ALL {
            if self.count_of(home, part) <= CANDIDATES_A_HOME_MAX / 2 {
                self.consider_left_out(ctx, home, part);
            }
        }
    }

    /// Considers processes again that were left out of `home` as `part`, until so many of them were left out again. The others
    /// come first the next time.
    fn consider_left_out(&mut self, ctx: &mut SessionContext<'_>, home: &Home, part: Part) {
        let end = self.left_out.next_number();
        let mut again = 0;
        while again < RELINKED_A_TURN_MAX
            && let Some(key) = self.left_out.first_before(home, part, end)
        {
            self.consider(ctx, key);
            again += usize::from(self.left_out.has(key));
        }
    }

    /// Considers each process again that was left out of a home.
    pub(super) fn consider_all_left_out(&mut self, ctx: &mut SessionContext<'_>) {
        for key in self.left_out.processes().collect::<Vec<_>>() {
            self.consider(ctx, key);
        }
    }
}
