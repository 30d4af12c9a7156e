//! Keeps over a restart of the daemon in which sessions processes were born. When a parent ends, the kernel gives its children
//! another parent, and it knows nothing of sessions.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::core::Core;
use crate::input::{KnownLeft, KnownSession};
use crate::limits::BIRTHS_KNOWN_MAX;
use crate::model::change::Sink;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::left::{FormerSession, KnownBirth, Origins};
use crate::model::process::Bytes;
use crate::model::session::{Home, State};
use crate::processes::early_births::EarlyBirths;
use crate::processes::entry::ProcessEntry;
use crate::sessions::by_age::age;

/// A process of whose birth the next daemon is informed.
struct Noted<'a> {
    entry: &'a ProcessEntry,
    /// The ancestor below which it was born, where that is in a session.
    above: Option<ProcessKey>,
    /// Whether the kernel shows that as well: the ancestor is its parent, and lives.
    is_told: bool,
}

impl Noted<'_> {
    fn uid(&self) -> u32 {
        self.entry.process.uids.uid
    }
}

/// What follows for a process from its ancestors by birth.
#[derive(Clone, Copy, Default)]
struct Origin<'a> {
    /// The innermost session in which it was born, if that is over.
    former: Option<&'a KnownLeft<'a>>,
    /// Its nearest ancestor that lives.
    live: Option<ProcessKey>,
}

impl Core {
    /// Returns what another daemon cannot learn from the kernel about births in sessions: the ancestor below which each process
    /// in a session was born, and the processes that sessions left. There are at most [`BIRTHS_KNOWN_MAX`] processes and
    /// `bytes_max` bytes, of which each user has a share. Of one user, processes whose birth the kernel does not show come first,
    /// and then the oldest. `bytes_of` returns the bytes that a session which is over takes in writing; for `None`, those of a
    /// process.
    pub fn origins(
        &self,
        bytes_max: usize,
        bytes_of: impl Fn(Option<&FormerSession>) -> usize,
    ) -> Origins<'_> {
        let mut noted = self.noted();
        let of_all = noted.len();
        keep_shares(&mut noted, BIRTHS_KNOWN_MAX, || |_: &Noted<'_>| 1);
        keep_shares(&mut noted, bytes_max, || {
            let mut written = BTreeSet::new();
            let bytes_of = &bytes_of;
            move |it: &Noted<'_>| {
                // It counts once for each user, so its cost does not depend on whose processes are left out.
                let is_new = |former: &&FormerSession| written.insert((it.uid(), life(former)));
                let former = it.entry.left_of.as_deref().filter(is_new);
                bytes_of(None) + former.map_or(0, |former| bytes_of(Some(former)))
            }
        });
        let surplus = of_all - noted.len();
        let births = noted
            .iter()
            .filter_map(|it| it.above.map(|above| KnownBirth { key: it.entry.process.key, above }));
        let births = births.collect();
        let mut left: BTreeMap<Life, (&FormerSession, Vec<ProcessKey>)> = BTreeMap::new();
        for entry in noted.iter().map(|it| it.entry) {
            let Some(former) = &entry.left_of else { continue };
            let of_session = left.entry(life(former));
            of_session.or_insert_with(|| (former, Vec::new())).1.push(entry.process.key);
        }
        Origins { births, left: left.into_values().collect(), surplus }
    }

    /// Of what was born before `until`, it may be unknown that it was born in a session: so it is not said of a session that
    /// began before that that it left nothing.
    pub fn set_births_unknown(&mut self, until: Option<BootTime>) {
        self.births_unknown_until = until;
    }

    /// Whether a session may have left what is not known to be of it, whose primary is this process.
    pub(super) fn may_lack_births(&self, primary: ProcessKey) -> bool {
        self.births_unknown_until.is_some_and(|until| primary.start_boottime < until)
    }

    /// Returns the processes below sessions and candidates, and those that sessions left, the oldest first.
    fn noted(&self) -> Vec<Noted<'_>> {
        let mut entries: Vec<&ProcessEntry> = self.table.iter().collect();
        entries.sort_unstable_by_key(|entry| age(entry.process.key));
        let (mut inside, mut noted) = (BTreeSet::new(), Vec::new());
        for entry in entries {
            let process = &entry.process;
            let above = process.lineage.filter(|above| inside.contains(above));
            // What runs in a home beside its session has helpers, too.
            let has_helpers = self.holds_session(process.key) || entry.candidacy.is_some();
            if has_helpers || entry.left_of.is_some() || above.is_some() {
                inside.insert(process.key);
            }
            if entry.left_of.is_none() && above.is_none() {
                continue;
            }
            let is_told = entry.left_of.is_none() && above == Some(process.parent);
            noted.push(Noted { entry, above, is_told });
        }
        noted
    }

    /// Keeps the births above and below a process that ends before the sessions of the former daemon are known.
    pub(super) fn keep_births(&mut self, entry: &ProcessEntry, orphans: &[ProcessKey]) {
        if !self.settings.awaits_known || orphans.is_empty() {
            return;
        }
        let (key, uid) = (entry.process.key, entry.process.uids.uid);
        let own = entry.process.lineage.map(|above| KnownBirth { key, above });
        let births = orphans.iter().map(|&orphan| KnownBirth { key: orphan, above: key });
        own.into_iter().chain(births).for_each(|birth| self.early_births.add(uid, birth));
    }

    /// Restores the ancestors by birth that processes had before the daemon was started again. A process that was born below a
    /// primary which has ended is marked as left by that session.
    pub(super) fn resume_births(
        &mut self,
        at: BootTime,
        known: &[KnownSession<'_>],
        left: &[KnownLeft<'_>],
        births: &[KnownBirth],
        sink: &mut dyn Sink,
    ) {
        let early = core::mem::take(&mut self.early_births);
        self.counters.births_forgotten += early.forgotten();
        let ancestry = Ancestry::new(at, known, left, births, early);
        for (key, origin) in ancestry.resolve(|key| self.table.get(key).is_some()) {
            if self.table.get(key).is_none() {
                continue;
            }
            if let Some(above) = origin.live {
                self.relink(at, key, above, sink);
            }
            // A mark of its own, which `resume_left` puts later, takes precedence.
            if let Some(former) = origin.former.filter(|_| !ancestry.marks.contains_key(&key)) {
                let former = self.known_former(former);
                self.table.leave(&[key], Some(&former));
            }
        }
    }

    /// Marks the processes that a session left before the daemon was started again, and that still live.
    pub(super) fn resume_left(&mut self, left: &KnownLeft<'_>) {
        let lives = |key: &ProcessKey| self.table.get(*key).is_some();
        let keys: BTreeSet<ProcessKey> =
            left.processes.iter().copied().take(BIRTHS_KNOWN_MAX).filter(lives).collect();
        if keys.is_empty() {
            return;
        }
        let former = self.known_former(left);
        // A process below another one of them gets the mark of that.
        let is_top = |key: &&ProcessKey| {
            let above = self.table.get(**key).and_then(|entry| entry.process.lineage);
            above.is_none_or(|above| !keys.contains(&above))
        };
        let tops: Vec<ProcessKey> = keys.iter().filter(is_top).copied().collect();
        self.table.leave(&tops, Some(&former));
    }

    /// Marks the processes that were born below a known primary which executed another program while no daemon ran, as if that
    /// primary had ended.
    pub(super) fn resume_replaced(
        &mut self,
        at: BootTime,
        known: &[KnownSession<'_>],
        births: &[KnownBirth],
    ) {
        let mut births_by_above: BTreeMap<ProcessKey, Vec<ProcessKey>> = BTreeMap::new();
        for birth in births.iter().take(BIRTHS_KNOWN_MAX) {
            births_by_above.entry(birth.above).or_default().push(birth.key);
        }
        for session in known.iter().filter(|session| session.state != State::Ended) {
            let Some(entry) = self.table.get(session.primary) else { continue };
            let runs = entry.process.program.as_deref();
            let is_replaced = runs.zip(session.program).is_some_and(|(runs, ran)| runs != ran);
            if !is_replaced || self.holds_session(session.primary) {
                continue;
            }
            if let Some(born) = births_by_above.get(&session.primary) {
                let former = self.known_former(&as_left(session, at));
                self.table.leave(born, Some(&former));
            }
        }
    }

    fn known_former(&self, left: &KnownLeft<'_>) -> Arc<FormerSession> {
        Arc::new(FormerSession {
            home: self.sessions.homes.intern(left.home.clone()),
            name: Bytes::from(left.name),
            foreign: left.foreign,
            primary: left.primary,
            ended_at: left.ended_at,
            wall_offset_ns: left.wall_offset_ns,
        })
    }
}

/// Returns a known session as one that is over: since `at`, unless it had ended before.
fn as_left<'a>(session: &KnownSession<'a>, at: BootTime) -> KnownLeft<'a> {
    KnownLeft {
        home: session.home,
        name: session.name,
        foreign: None,
        primary: session.primary,
        ended_at: if session.state == State::Ended { session.since } else { at },
        wall_offset_ns: session.wall_offset_ns,
        processes: &[],
    }
}

/// What was known of births and sessions before the daemon was started again.
struct Ancestry<'a> {
    /// The process below which each one was born, and whether this daemon noted that, before it knew of sessions.
    above: BTreeMap<ProcessKey, (ProcessKey, bool)>,
    /// The sessions that lived when the former daemon ended, by their primaries.
    lived: BTreeMap<ProcessKey, KnownLeft<'a>>,
    /// The sessions that had ended by then, by their primaries.
    ended: BTreeMap<ProcessKey, KnownLeft<'a>>,
    /// The sessions that left a process.
    marks: BTreeMap<ProcessKey, KnownLeft<'a>>,
}

impl<'a> Ancestry<'a> {
    fn new(
        at: BootTime,
        known: &[KnownSession<'a>],
        left: &[KnownLeft<'a>],
        births: &[KnownBirth],
        early: EarlyBirths,
    ) -> Self {
        let (mut lived, mut ended) = (BTreeMap::new(), BTreeMap::new());
        for session in known {
            let of_state = if session.state == State::Ended { &mut ended } else { &mut lived };
            of_state.insert(session.primary, as_left(session, at));
        }
        // Where the journal has the end of a session, that is used.
        ended.extend(left.iter().map(|left| (left.primary, *left)));
        let mut marks = BTreeMap::new();
        for left in left {
            for &key in left.processes.iter().take(BIRTHS_KNOWN_MAX) {
                marks.entry(key).or_insert(*left);
            }
        }
        let known = births.iter().take(BIRTHS_KNOWN_MAX).map(|birth| (birth.key, (birth.above, false)));
        let mut above: BTreeMap<ProcessKey, (ProcessKey, bool)> = known.collect();
        for birth in early.all() {
            above.entry(birth.key).or_insert((birth.above, true));
        }
        Self { above, lived, ended, marks }
    }

    /// Returns what follows for each process, ancestors before their descendants.
    fn resolve(&self, lives: impl Fn(ProcessKey) -> bool) -> Vec<(ProcessKey, Origin<'_>)> {
        let mut keys: Vec<ProcessKey> = self.above.keys().copied().collect();
        keys.sort_unstable_by_key(|&key| age(key));
        let mut resolved: BTreeMap<ProcessKey, Origin<'_>> = BTreeMap::new();
        let mut origins = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(&(above, is_early)) = self.above.get(&key) else { continue };
            let origin = if lives(above) {
                Origin { former: None, live: Some(above) }
            } else {
                let beyond = resolved.get(&above).copied().unwrap_or_default();
                // It is not known whether a session that had ended did so by the end of its primary. If the primary went
                // on with another program, that may have started what this daemon saw below it.
                let ended = || self.ended.get(&above).filter(|_| !is_early);
                let former = self.lived.get(&above).or_else(ended).or_else(|| self.marks.get(&above));
                Origin { former: former.or(beyond.former), live: beyond.live }
            };
            resolved.insert(key, origin);
            origins.push((key, origin));
        }
        origins
    }
}

/// What distinguishes one life of a session from others.
type Life = (ProcessKey, BootTime, Arc<Home>);

fn life(former: &FormerSession) -> Life {
    (former.primary, former.ended_at, Arc::clone(&former.home))
}

/// Keeps so many processes of each user that all of them cost at most `max`. `meter` makes a function that returns the cost of a
/// process, and is called for them in order.
fn keep_shares<'a, C: FnMut(&Noted<'a>) -> usize>(
    noted: &mut Vec<Noted<'a>>,
    max: usize,
    meter: impl Fn() -> C,
) {
    let (mut costs, mut cost_of): (BTreeMap<u32, usize>, C) = (BTreeMap::new(), meter());
    noted.iter().for_each(|it| *costs.entry(it.uid()).or_default() += cost_of(it));
    if costs.values().sum::<usize>() <= max {
        return;
    }
    let share = even_share(costs.into_values().collect(), max);
    let (mut kept, mut cost_of): (BTreeMap<u32, usize>, C) = (BTreeMap::new(), meter());
    // An ancestor is older than its descendants, so it is kept where they are.
    noted.sort_by_key(|it| it.is_told);
    noted.retain(|it| {
        let kept = kept.entry(it.uid()).or_default();
        *kept += cost_of(it);
        *kept <= share
    });
}

/// Returns how much each user may keep: the largest share with which all of them keep at most `max`.
fn even_share(mut counts: Vec<usize>, max: usize) -> usize {
    counts.sort_unstable();
    let (mut left, mut users) = (max, counts.len());
    for count in counts {
        let share = left / users.max(1);
        if count > share {
            return share;
        }
        (left, users) = (left - count, users - 1);
    }
    max
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_one_does_not_need_is_for_the_others() {
        assert_eq!(even_share(vec![5, 100, 3], 20), 12);
        assert_eq!(even_share(vec![100, 100], 20), 10);
        assert_eq!(even_share(vec![1, 2], 20), 20);
        assert_eq!(even_share(vec![], 20), 20);
    }
}
