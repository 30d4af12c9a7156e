//! Finds the candidates of a map that is complete for the first time, and elects in every home.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::LINEAGE_STEPS_MAX;
use crate::model::ids::ProcessKey;
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::choice::{Young, choose, is_each, is_in_chain, rule_of};
use crate::sessions::context::{Cause, SessionContext};
use crate::sessions::homes::{HomeState, Homes, Root};
use crate::sessions::roots::{LineagePosition, homes_above, may_be_above, position};

impl Sessions {
    /// The map is complete for the first time: finds every candidate. Nobody is elected before [`Self::elect_all`], so
    /// the order in which the processes were found has no part in it.
    pub fn look(&mut self, ctx: &mut SessionContext<'_>) {
        self.is_looking = true;
        for key in oldest_first(ctx.table) {
            self.consider(ctx, key);
        }
    }

    /// Every candidate was found, and every known primary is in its place: elects in each home.
    pub fn elect_all(&mut self, ctx: &mut SessionContext<'_>) {
        self.is_looking = false;
        let held = self.homes.by_home.iter().filter(|(_, state)| state.slot.is_some());
        let held: Vec<Arc<Home>> = held.map(|(home, _)| Arc::clone(home)).collect();
        let (mut seen, mut elected) = (BTreeSet::new(), BTreeSet::new());
        for key in oldest_first(ctx.table) {
            let candidacy = ctx.table.get(key).and_then(|entry| entry.candidacy.as_ref());
            let mut pending: Vec<Arc<Home>> =
                candidacy.map(|candidacy| Arc::clone(&candidacy.home)).into_iter().collect();
            while let Some(home) = pending.pop() {
                if !elected.contains(&home) {
                    pending.extend(self.elect_after_those_above(ctx, home, &mut seen, &mut elected));
                }
            }
        }
        for home in held.into_iter().filter(|home| !elected.contains(home)) {
            self.elect(ctx, &home, Cause::Candidates);
        }
        self.consider_all_left_out(ctx);
    }

    /// Elects in `home`, before that in the homes of what would have its primary for a helper, and so on. So nobody is elected
    /// who turns out to be a helper. `seen` are the homes for which this was begun. Returns homes in which some are yet to be
    /// elected: what is above those is of a home in which this waited for the others.
    fn elect_after_those_above(
        &mut self,
        ctx: &mut SessionContext<'_>,
        home: Arc<Home>,
        seen: &mut BTreeSet<Arc<Home>>,
        elected: &mut BTreeSet<Arc<Home>>,
    ) -> Vec<Arc<Home>> {
        seen.insert(Arc::clone(&home));
        let mut unfinished = Vec::new();
        let mut pending = alloc::vec![Awaiting::new(home)];
        while let Some(awaiting) = pending.last_mut() {
            if let Some(above) = self.home_above(ctx, awaiting, seen) {
                pending.push(Awaiting::new(above));
                continue;
            }
            let Some(awaiting) = pending.pop() else { break };
            self.homes.held_back = self.held_back(ctx, &awaiting, &pending);
            self.elect(ctx, &awaiting.home, Cause::Candidates);
            if core::mem::take(&mut self.homes.held_back).is_empty() {
                elected.insert(awaiting.home);
            } else {
                unfinished.push(awaiting.home);
            }
        }
        for home in &unfinished {
            seen.remove(home);
        }
        unfinished
    }

    /// Returns the processes that are not elected yet in the home of `awaiting`: what is above them is of a home that is
    /// `pending`, and may have them for its helpers.
    fn held_back(
        &self,
        ctx: &SessionContext<'_>,
        awaiting: &Awaiting,
        pending: &[Awaiting],
    ) -> BTreeSet<ProcessKey> {
        let home = &awaiting.home;
        let state = self.homes.by_home.get(home).filter(|_| !pending.is_empty());
        let Some((state, young)) = state.zip(awaiting.young.as_ref()) else { return BTreeSet::new() };
        let pending: BTreeSet<&Arc<Home>> = pending.iter().map(|awaiting| &awaiting.home).collect();
        let waits = |root: &&Root| {
            let candidate = young.candidate(ctx, state, root).and_then(|key| ctx.table.get(key));
            let candidate = candidate.filter(|entry| is_each(rule_of(ctx, entry)));
            let candidate = candidate.filter(|entry| state.current_primary() != Some(entry.process.key));
            candidate.is_some_and(|entry| {
                let mut chain = up_to_root(ctx.table, entry, root.key, home);
                chain.any(|it| homes_above(ctx.table, &self.homes, it, home).any(|it| pending.contains(it)))
            })
        };
        let waiting = state.roots.iter().filter(waits);
        waiting.flat_map(|root| [root.launcher, root.stand_in]).flatten().collect()
    }

    /// Adds to `seen`, and returns, the first home that is not there yet of the candidates that would take those for their
    /// helpers, as primaries, who would be elected in the home of `awaiting` at this moment.
    fn home_above(
        &mut self,
        ctx: &SessionContext<'_>,
        awaiting: &mut Awaiting,
        seen: &mut BTreeSet<Arc<Home>>,
    ) -> Option<Arc<Home>> {
        loop {
            let home = Arc::clone(&awaiting.home);
            let young = match &awaiting.young {
                Some(young) => young,
                None => {
                    let primary = self.homes.by_home.get(&home)?.current_primary();
                    let mut lineages = self.lineages(ctx, &home);
                    self.find_roots(ctx, &mut lineages, primary);
                    let state = self.homes.by_home.get(&home)?;
                    let of_home = (&*home, state, &[][..]);
                    let young = Young::among(ctx, &self.homes, &self.settling, of_home, &mut lineages);
                    awaiting.is_outdated = false;
                    awaiting.young.insert(young)
                }
            };
            let state = self.homes.by_home.get(&home)?;
            let known = (&mut awaiting.settled, awaiting.is_outdated);
            let next = next_above(ctx, &self.homes, (&home, state), young, known, seen);
            match next {
                NextAbove::Home(above) => {
                    awaiting.is_outdated = true;
                    return Some(above);
                }
                NextAbove::Lost(root) => {
                    awaiting.is_outdated = true;
                    self.homes.by_home.get_mut(&home)?.roots.retain(|it| it.key != root);
                }
                // All of them are found again, once, to see what else became of them.
                NextAbove::None if awaiting.is_outdated => awaiting.young = None,
                NextAbove::None => return None,
            }
        }
    }
}

/// A home in which nobody is elected before those above are.
struct Awaiting {
    home: Arc<Home>,
    /// What was too young when its roots were found; `None`: they are to be found.
    young: Option<Young>,
    /// Somebody was elected elsewhere since then.
    is_outdated: bool,
    /// The roots above which there is no home that was not seen, each with the candidate of which that was found. When others
    /// below a root are found to be helpers, it has another candidate.
    settled: BTreeSet<(ProcessKey, ProcessKey)>,
}

impl Awaiting {
    fn new(home: Arc<Home>) -> Self {
        Self { home, young: None, is_outdated: false, settled: BTreeSet::new() }
    }
}

/// What comes before the election in a home.
enum NextAbove {
    /// The election in this home.
    Home(Arc<Home>),
    /// This process is no longer a root.
    Lost(ProcessKey),
    /// Nothing.
    None,
}

/// Returns what comes before the election in `home`. `settled` are the roots of which that is known to be nothing, each
/// with its candidate. Somebody may have been elected elsewhere since the roots were found if that `is_outdated`.
fn next_above(
    ctx: &SessionContext<'_>,
    homes: &Homes,
    (home, state): (&Arc<Home>, &HomeState),
    young: &Young,
    (settled, is_outdated): (&mut BTreeSet<(ProcessKey, ProcessKey)>, bool),
    seen: &mut BTreeSet<Arc<Home>>,
) -> NextAbove {
    let primary = state.current_primary();
    let elected = choose(ctx, homes, home, (state, primary, &[]), young).elected();
    let is_each_one = |key: ProcessKey| ctx.table.get(key).is_some_and(|it| is_each(rule_of(ctx, it)));
    for root in &state.roots {
        let is_elected = elected.is_some_and(|elected| is_in_chain(ctx.table, root, elected));
        let candidate = || young.candidate(ctx, state, root).filter(|&key| is_each_one(key));
        // A present primary goes on, whatever is above it.
        let candidate = if is_elected { elected.filter(|_| elected != primary) } else { candidate() };
        let Some(entry) = candidate.and_then(|key| ctx.table.get(key)) else { continue };
        let looked_at = (root.key, entry.process.key);
        let is_settled = settled.contains(&looked_at);
        let may_be_lost = is_outdated && (is_elected || !is_settled);
        if may_be_lost && !runs_for(ctx.table, homes, entry, home, root.key) {
            return NextAbove::Lost(root.key);
        }
        if is_settled {
            continue;
        }
        for entry in up_to_root(ctx.table, entry, root.key, home) {
            let mut above = homes_above(ctx.table, homes, entry, home);
            if let Some(above) = above.find(|&above| seen.insert(Arc::clone(above))) {
                return NextAbove::Home(Arc::clone(above));
            }
        }
        settled.insert(looked_at);
    }
    NextAbove::None
}

/// Returns `entry`, and what wraps it up to `root` in `home`, which may be a helper, too.
fn up_to_root<'a>(
    table: &'a ProcessTable,
    entry: &'a ProcessEntry,
    root: ProcessKey,
    home: &'a Home,
) -> impl Iterator<Item = &'a ProcessEntry> {
    let above = table.ancestors(entry).take_while(move |above| age(above.process.key) >= age(root));
    core::iter::once(entry).chain(above.filter(move |above| may_be_above(above, home)))
}

/// Returns whether `root` is a root of `home` still, and `entry` a candidate that it has below itself.
fn runs_for(
    table: &ProcessTable,
    homes: &Homes,
    entry: &ProcessEntry,
    home: &Home,
    root: ProcessKey,
) -> bool {
    let primary = homes.by_home.get(home).and_then(HomeState::current_primary);
    let mut at = Some(entry);
    for _ in 0..LINEAGE_STEPS_MAX {
        let Some(entry) = at.take() else { break };
        match position(table, homes, entry, home, primary) {
            LineagePosition::Below(above) => at = table.get(above),
            LineagePosition::Root => return entry.process.key == root,
            LineagePosition::Helper(_) => break,
        }
    }
    false
}

/// Returns every process, the oldest first.
pub(super) fn oldest_first(table: &ProcessTable) -> Vec<ProcessKey> {
    let mut keys: Vec<ProcessKey> = table.iter().map(|entry| entry.process.key).collect();
    keys.sort_unstable_by_key(|&key| age(key));
    keys
}
