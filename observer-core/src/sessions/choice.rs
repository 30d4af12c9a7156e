//! Chooses the primary of a home among its roots.

use alloc::vec::Vec;

use crate::limits::{OTHERS_MAX, SETTLE_NS};
use crate::model::explanation::ElectionCriterion;
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::process::{Bytes, DirId, Process};
use crate::model::rule::{Instances, Rule};
use crate::model::session::{Home, OtherRoot, Session};
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::admission::old_enough_at;
use crate::sessions::by_age::{age, key_at};
use crate::sessions::context::SessionContext;
use crate::sessions::homes::{HomeState, Homes, Root, SessionSlot};
use crate::sessions::lineages::Lineages;
use crate::sessions::roots::is_candidate;
use crate::sessions::settling::Settling;
use crate::sessions::stops::LineageSource;

/// The result of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This process is the primary. The criterion decided that, unless it was the primary before.
    Primary(ProcessKey, ElectionCriterion),
    /// This process is the primary of a new incarnation: another directory is at the path of the home.
    NewIncarnation(ProcessKey),
    /// No candidate can be the primary.
    NoCandidate,
}

impl Choice {
    /// Returns who is the primary.
    pub fn elected(self) -> Option<ProcessKey> {
        match self {
            Self::Primary(key, _) | Self::NewIncarnation(key) => Some(key),
            Self::NoCandidate => None,
        }
    }

    /// Chooses the lowest of these ranks. What decided is where it differs from the next one.
    fn best_of(ranks: impl Iterator<Item = Rank>) -> Self {
        let mut lowest: Option<(Rank, Option<Rank>)> = None;
        for rank in ranks {
            lowest = Some(match lowest {
                None => (rank, None),
                Some((best, _)) if rank < best => (rank, Some(best)),
                Some((best, next)) => (best, Some(next.map_or(rank, |next| next.min(rank)))),
            });
        }
        let Some((best, next)) = lowest else { return Self::NoCandidate };
        let criterion = next.map_or(ElectionCriterion::OnlyCandidate, |next| best.criterion_before(&next));
        Self::Primary(best.key(), criterion)
    }
}

/// Processes that are too young to be a primary, in the order of their keys, each with the time from which it is old enough.
pub(super) struct Young(Vec<(ProcessKey, BootTime)>);

impl Young {
    /// Finds the processes that may be primaries and have not run for the `min_age` of their rule, or that
    /// outlived a candidate of the home just before. Neither holds back the program that the home's session
    /// is of, so that a crash loop is shown. `min_age` holds back any other program: otherwise, under the
    /// default rule, each command typed where a session once ran would be a session. What was started by a process that may
    /// be a session elsewhere in a moment waits for that, whatever it runs.
    pub fn among(
        ctx: &SessionContext<'_>,
        homes: &Homes,
        settling: &Settling,
        (home, state, successors): (&Home, &HomeState, &[Root]),
        lineages: &mut Lineages,
    ) -> Self {
        let ages = Ages { rules: ctx.rules, table: ctx.table, now: ctx.now, homes, settling };
        let of_root = |root: &Root| {
            let found = [root.launcher, root.stand_in]
                .map(|key| Some((key?, ages.young_until(home, state, (root, key?), lineages)?)));
            found.into_iter().flatten()
        };
        let roots = state.roots.iter().chain(successors);
        let mut young: Vec<(ProcessKey, BootTime)> = roots.flat_map(of_root).collect();
        young.sort_unstable_by_key(|&(key, _)| key);
        Self(young)
    }

    fn due(&self, key: ProcessKey) -> Option<BootTime> {
        let at = self.0.binary_search_by_key(&key, |&(young, _)| young).ok()?;
        self.0.get(at).map(|&(_, due)| due)
    }

    /// When the first of them is old enough.
    pub fn next_due(&self) -> Option<BootTime> {
        self.0.iter().map(|&(_, due)| due).min()
    }

    /// Returns the process that may be the primary for `root`: its stand-in, or while that is too young, the
    /// launcher above it. Where there is no session, the launcher waits a moment for what it starts. One of which it is not
    /// known whether the rule admits it may not.
    pub(super) fn candidate(
        &self,
        ctx: &SessionContext<'_>,
        state: &HomeState,
        root: &Root,
    ) -> Option<ProcessKey> {
        let is_known = |&key: &ProcessKey| ctx.table.get(key).is_some_and(|entry| !entry.is_assumed());
        self.old_enough(ctx, state, root).filter(is_known)
    }

    fn old_enough(&self, ctx: &SessionContext<'_>, state: &HomeState, root: &Root) -> Option<ProcessKey> {
        let stand_in = root.stand_in?;
        let Some(due) = self.due(stand_in) else { return Some(stand_in) };
        let launcher = root.launcher.filter(|&launcher| self.due(launcher).is_none())?;
        let entry = ctx.table.get(launcher)?;
        let waits_until = old_enough_at(rule_of(ctx, entry), &entry.process).after(SETTLE_NS);
        (state.current_primary().is_some() || due > waits_until).then_some(launcher)
    }
}

/// What decides whether a process is too young.
pub(super) struct Ages<'a> {
    pub rules: &'a [Rule],
    pub table: &'a ProcessTable,
    pub now: BootTime,
    pub homes: &'a Homes,
    pub settling: &'a Settling,
}

impl Ages<'_> {
    /// Returns from when `key`, which may be the primary of `home` for `root`, is old enough. `None`: it is, or need not be.
    pub fn young_until(
        &self,
        home: &Home,
        state: &HomeState,
        (root, key): (&Root, ProcessKey),
        lineages: &mut Lineages,
    ) -> Option<BootTime> {
        let entry = self.table.get(key)?;
        if self.homes.held_back.contains(&key) {
            return Some(BootTime(u64::MAX));
        }
        let source = LineageSource { table: self.table, homes: self.homes, settling: self.settling };
        let settles = lineages.settles_above(source, entry);
        if settles.is_some() && state.current_primary() != Some(key) {
            return settles;
        }
        self.goes_on_until(home, state, (root, entry), lineages.left_at(source, entry))
    }

    /// The same for `entry`, above which nothing settles, and which was left behind at `left_at` with what is above it.
    pub fn goes_on_until(
        &self,
        home: &Home,
        state: &HomeState,
        (root, entry): (&Root, &ProcessEntry),
        left_at: Option<BootTime>,
    ) -> Option<BootTime> {
        let rule = entry.candidacy.as_ref().and_then(|candidacy| self.rules.get(candidacy.rule));
        // What a candidate that died had started may be about to die, too.
        let goes_on = left_at.map_or(BootTime(0), |at| at.after(SETTLE_NS));
        let due = old_enough_at(rule, &entry.process).max(goes_on);
        let is_known = || {
            is_known_here(state, root, entry) || self.homes.ended_sibling_of(home, &entry.process).is_some()
        };
        (due > self.now && !is_known()).then_some(due)
    }
}

/// Returns whether each root is to have a session of its own.
pub(super) fn is_each(rule: Option<&Rule>) -> bool {
    rule.is_some_and(|rule| rule.instances == Instances::Each)
}

pub(super) fn rule_of<'a>(ctx: &SessionContext<'a>, entry: &ProcessEntry) -> Option<&'a Rule> {
    ctx.rules.get(entry.candidacy.as_ref()?.rule)
}

/// Returns whether `entry`, which may be the primary for `root`, runs the program that the home's session is of.
/// What a launcher starts is known when the launcher stood aside before.
fn is_known_here(state: &HomeState, root: &Root, entry: &ProcessEntry) -> bool {
    let Some(slot) = &state.slot else { return false };
    let is_launched = root.launcher.is_some() && root.stand_in == Some(entry.process.key);
    slot.program.is_run_by(&entry.process) && (!is_launched || slot.launcher == root.launcher)
}

/// Chooses the primary: the present one while it is a candidate, else the best root. `primary` is the present one
/// unless it gave the session up. Its `successors` count as roots.
pub(super) fn choose(
    ctx: &SessionContext<'_>,
    homes: &Homes,
    home: &Home,
    (state, primary, successors): (&HomeState, Option<ProcessKey>, &[Root]),
    young: &Young,
) -> Choice {
    let is_free = |key: &ProcessKey| {
        let Some(entry) = ctx.table.get(*key) else { return false };
        !is_each(rule_of(ctx, entry)) || !homes.takes_sibling(home, state, &entry.process)
    };
    let of_root = |root: &Root| young.candidate(ctx, state, root);
    let of_roots = state.roots.iter().filter_map(of_root);
    // What runs for a root may be a successor, too.
    let of_successors =
        successors.iter().filter_map(of_root).filter(|&key| !of_roots.clone().any(|it| it == key));
    let candidates = of_roots.clone().chain(of_successors).filter(is_free);
    let Some(slot) = &state.slot else {
        return Choice::best_of(candidates.map(|key| Rank::of(ctx.table, key)));
    };
    if let Some(key) = candidates.clone().find(|&key| is_replacement(ctx.table, home, slot, key)) {
        return Choice::NewIncarnation(key);
    }
    let runs_program = |key| ctx.table.get(key).is_some_and(|it| slot.program.is_run_by(&it.process));
    let eligible = candidates.clone().filter(|&key| is_eligible(ctx.table, slot.session.cwd_deleted, key));
    if let Some(primary) = slot.current_primary()
        && ctx.table.get(primary).is_some_and(|entry| is_candidate(entry, home))
    {
        let returned = eligible.filter(|&key| slot.is_substitute && runs_program(key));
        if let Some(best) = returned.map(|key| Rank::of(ctx.table, key)).min() {
            return Choice::Primary(best.key(), ElectionCriterion::Returned);
        }
        let root = state.roots.iter().find(|root| is_in_chain(ctx.table, root, primary));
        let innermost = root.and_then(|root| young.candidate(ctx, state, root));
        return Choice::Primary(innermost.unwrap_or(primary), ElectionCriterion::SameChain);
    }
    // The others have sessions of their own, and a primary that is elsewhere may come back.
    let is_elsewhere = |key| ctx.table.get(key).is_some_and(|entry| !is_candidate(entry, home));
    if is_each(ctx.rules.get(slot.session.rule)) && primary.is_some_and(is_elsewhere) {
        return Choice::NoCandidate;
    }
    // The launcher of the primary comes first, or what it stands aside for by now.
    let launches =
        |root: &&Root| slot.launcher.is_some() && [root.launcher, root.stand_in].contains(&slot.launcher);
    let launched = state.roots.iter().find(launches).and_then(|root| young.candidate(ctx, state, root));
    Choice::best_of(eligible.map(|key| Rank {
        is_not_launched: launched != Some(key),
        runs_another: !runs_program(key),
        ..Rank::of(ctx.table, key)
    }))
}

/// The rank of a candidate; the lowest is elected. The fields are compared in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// It is not what runs for the launcher of the former primary, nor that launcher.
    is_not_launched: bool,
    /// It runs another program than the one that the session is of.
    runs_another: bool,
    has_no_tty: bool,
    /// It does not lead its POSIX session.
    is_led: bool,
    age: (BootTime, Tgid),
}

impl Rank {
    /// Returns the rank of a candidate where nothing is known of the program or the launcher.
    fn of(table: &ProcessTable, key: ProcessKey) -> Self {
        let process = table.get(key).map(|entry| &entry.process);
        let is = |holds: fn(&Process) -> bool| process.is_some_and(holds);
        Self {
            is_not_launched: false,
            runs_another: false,
            has_no_tty: !is(|process| process.tty.is_some()),
            is_led: !is(|process| process.sid == process.key.tgid.0),
            age: age(key),
        }
    }

    fn key(&self) -> ProcessKey {
        key_at(self.age)
    }

    /// Returns the first criterion by which it comes before `next`.
    fn criterion_before(&self, next: &Self) -> ElectionCriterion {
        let criteria = [
            (self.is_not_launched != next.is_not_launched, ElectionCriterion::Launcher),
            (self.runs_another != next.runs_another, ElectionCriterion::Program),
            (self.has_no_tty != next.has_no_tty, ElectionCriterion::Terminal),
            (self.is_led != next.is_led, ElectionCriterion::SessionLeader),
        ];
        let first = criteria.into_iter().find(|&(differs, _)| differs);
        first.map_or(ElectionCriterion::Oldest, |(_, criterion)| criterion)
    }
}

/// Returns whether `key` is a process that may be the primary for `root`: the root, or from its launcher to its
/// stand-in.
pub(super) fn is_in_chain(table: &ProcessTable, root: &Root, key: ProcessKey) -> bool {
    if [Some(root.key), root.stand_in, root.launcher].contains(&Some(key)) {
        return true;
    }
    let Some(stand_in) = root.launcher.and(root.stand_in).and_then(|key| table.get(key)) else {
        return false;
    };
    let above = table.ancestors(stand_in).map(|entry| entry.process.key);
    above.take_while(|&above| Some(above) != root.launcher).any(|above| above == key)
}

/// A process in a deleted directory can be the primary only of the incarnation of the home that is deleted
/// too.
pub(super) fn is_eligible(table: &ProcessTable, cwd_deleted: bool, key: ProcessKey) -> bool {
    table.get(key).is_some_and(|entry| cwd_deleted || !entry.process.cwd.deleted)
}

/// Returns the identity of the home's directory, if the process is right in it.
pub(super) fn home_dir(process: &Process, home: &Home) -> Option<DirId> {
    let cwd = &process.cwd;
    let is_there = cwd.path.as_deref() == Some(&*home.path) && cwd.id != DirId::default();
    is_there.then_some(cwd.id)
}

/// `BTRFS_FIRST_FREE_OBJECTID` (include/uapi/linux/btrfs_tree.h): inode number of the root of every btrfs subvolume.
const SUBVOLUME_ROOT: u64 = 256;

/// Returns whether `dir` is another directory than the one that the session is of, whichever mount it is seen through.
fn is_other_dir(table: &ProcessTable, slot: &SessionSlot, dir: DirId) -> bool {
    let of = slot.session.home_dir;
    if (dir.ino, dir.dev, dir.generation) != (of.ino, of.dev, of.generation) {
        return true;
    }
    // Unless somebody is in a directory, the kernel may free its inode and read it again. Of subvolumes, nothing but the
    // inode tells those of one transaction apart.
    let primary = slot.current_primary().and_then(|key| table.get(key));
    let is_in_use = primary.is_some_and(|entry| entry.process.cwd.id == of);
    // It is not recorded over a restart of the daemon.
    (is_in_use || dir.ino == SUBVOLUME_ROOT) && of.object != 0 && dir.object != of.object
}

/// Returns whether `key` is in another directory at the home's path than the one that the session is of, or in another
/// mount namespace with the same number.
pub(super) fn is_replacement(table: &ProcessTable, home: &Home, slot: &SessionSlot, key: ProcessKey) -> bool {
    let Some(entry) = table.get(key).filter(|entry| !entry.process.cwd.deleted) else { return false };
    let Some(candidacy) = &entry.candidacy else { return false };
    if slot.is_ended() && (slot.session.cwd_deleted || !outlived_by_namespace(table, home, slot)) {
        return true;
    }
    let known = slot.session.home_dir != DirId::default();
    let differs = home_dir(&entry.process, home).is_some_and(|dir| is_other_dir(table, slot, dir));
    known && differs && candidacy.since > slot.opened_at
}

/// Returns for each root the process that could be the primary of `session`, if there is one.
pub(super) fn eligible(
    ctx: &SessionContext<'_>,
    state: &HomeState,
    young: &Young,
    session: &Session,
) -> Vec<ProcessKey> {
    let candidates = state.roots.iter().filter_map(|root| young.candidate(ctx, state, root));
    candidates.filter(|&key| is_eligible(ctx.table, session.cwd_deleted, key)).collect()
}

/// Returns how many of those that are `eligible` could be the primary of `session`, at least 1, and those beside the primary and
/// its wrapper as they are shown.
pub(super) fn others(
    table: &ProcessTable,
    eligible: &[ProcessKey],
    session: &Session,
) -> (u32, Vec<OtherRoot>) {
    let count = u32::try_from(eligible.len()).unwrap_or(u32::MAX).max(1);
    let shown =
        eligible.iter().copied().filter(|&key| key != session.primary && Some(key) != session.wrapper);
    let shown = shown.take(OTHERS_MAX).filter_map(|key| {
        let process = &table.get(key)?.process;
        let program = process.program.clone().unwrap_or_else(|| Bytes::from(process.comm.as_bytes()));
        Some(OtherRoot { key, program, tty: process.tty })
    });
    (count, shown.collect())
}

/// Returns whether a process of the home's mount namespace is known to have been there before the session ended. If none
/// was, the kernel may have given the number of the namespace to another one.
fn outlived_by_namespace(table: &ProcessTable, home: &Home, slot: &SessionSlot) -> bool {
    let Some(mnt_ns) = home.mnt_ns else { return true };
    table.oldest_in_namespace(mnt_ns).is_some_and(|oldest| oldest.start_boottime < slot.session.since)
}
