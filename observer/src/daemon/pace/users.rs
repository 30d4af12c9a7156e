//! How many entries the sessions of one user may write: the same for each user, so that nobody's changes delay another
//! user's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use observer_core::BootTime;
use observer_core::session::Home;

/// Entries that the sessions of a user may write at once.
const USER_ENTRIES_MAX: u32 = 1_024;
/// Those of them that are kept for changes of the state.
const USER_STATES_MIN: u32 = USER_ENTRIES_MAX / 2;
/// They may write another one after this long, ns: 20 a second.
const USER_ENTRY_EVERY_NS: u64 = 50_000_000;
/// Users that are remembered although they may write as many entries as ever.
const IDLE_USERS_MAX: usize = 1_024;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Starts, ends and primaries of the session: no part of the rate.
    Start,
    /// The session's state.
    State,
    /// Any other field.
    Minor,
}

impl Weight {
    /// How many entries must be left for one of this weight.
    fn needs(self) -> u32 {
        match self {
            Self::Start => 0,
            Self::State => 1,
            Self::Minor => USER_STATES_MIN + 1,
        }
    }
}

#[derive(Debug)]
struct User {
    /// Entries that may be written now.
    left: u32,
    /// Since when none was added.
    counted_at: BootTime,
    /// Sessions whose change of this weight waits, and when it may be written as far as the session is concerned.
    starts: BTreeSet<(BootTime, Arc<Home>)>,
    states: BTreeSet<(BootTime, Arc<Home>)>,
    minors: BTreeSet<(BootTime, Arc<Home>)>,
    /// When the first of them may be written.
    next: Option<BootTime>,
}

impl User {
    fn new(at: BootTime) -> Self {
        Self {
            left: USER_ENTRIES_MAX,
            counted_at: at,
            starts: BTreeSet::new(),
            states: BTreeSet::new(),
            minors: BTreeSet::new(),
            next: None,
        }
    }

    fn waiting(&mut self, weight: Weight) -> &mut BTreeSet<(BootTime, Arc<Home>)> {
        match weight {
            Weight::Start => &mut self.starts,
            Weight::State => &mut self.states,
            Weight::Minor => &mut self.minors,
        }
    }

    fn refill(&mut self, at: BootTime) {
        let more = at.since(self.counted_at) / USER_ENTRY_EVERY_NS;
        let left = u64::from(self.left).saturating_add(more).min(USER_ENTRIES_MAX.into());
        self.left = u32::try_from(left).unwrap_or(USER_ENTRIES_MAX);
        self.counted_at = self.counted_at.after(more.saturating_mul(USER_ENTRY_EVERY_NS));
    }

    /// When there will be an entry for this weight.
    fn free_at(&self, weight: Weight) -> BootTime {
        let missing = weight.needs().saturating_sub(self.left);
        self.counted_at.after(u64::from(missing) * USER_ENTRY_EVERY_NS)
    }

    fn is_free(&self, weight: Weight) -> bool {
        self.left >= weight.needs()
    }

    /// When the first change of this weight may be written.
    fn due(&self, weight: Weight, waiting: &BTreeSet<(BootTime, Arc<Home>)>) -> Option<BootTime> {
        let &(due, _) = waiting.first()?;
        Some(if self.is_free(weight) { due } else { due.max(self.free_at(weight)) })
    }

    fn first_due(&self) -> Option<BootTime> {
        let each =
            [(Weight::Start, &self.starts), (Weight::State, &self.states), (Weight::Minor, &self.minors)];
        each.into_iter().filter_map(|(weight, waiting)| self.due(weight, waiting)).min()
    }

    /// Takes the first change of this weight that is due and for which there is an entry; `is_last`: even if there is none.
    fn take_first(&mut self, now: BootTime, weight: Weight, is_last: bool) -> Option<Arc<Home>> {
        let is_free = is_last || self.is_free(weight);
        let waiting = self.waiting(weight);
        waiting.first().filter(|&&(due, _)| is_free && due <= now)?;
        let (_, home) = waiting.pop_first()?;
        self.spend(weight);
        Some(home)
    }

    fn spend(&mut self, weight: Weight) {
        self.left = self.left.saturating_sub(weight.needs().min(1));
    }

    fn is_idle(&mut self, now: BootTime) -> bool {
        self.refill(now);
        self.next.is_none() && self.left == USER_ENTRIES_MAX
    }
}

/// What each user may write, and what waits for that.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_uid: HashMap<u32, User>,
    next: BTreeSet<(BootTime, u32)>,
    /// Users at which those are forgotten who may write as many entries as ever.
    trimmed_at: usize,
}

impl Users {
    /// Takes an entry from what the user may write. Returns whether there was one, for which nothing else waits.
    pub(super) fn take(&mut self, at: BootTime, uid: u32, weight: Weight) -> bool {
        let user = self.user(at, uid);
        let has_older = user.waiting(weight).first().is_some_and(|&(due, _)| due <= at);
        let is_free = !has_older && user.is_free(weight);
        if is_free {
            user.spend(weight);
        }
        self.reschedule(uid);
        is_free
    }

    /// A change waits until `due`, and until its user may write an entry.
    pub(super) fn wait(&mut self, at: BootTime, due: BootTime, weight: Weight, home: &Arc<Home>) {
        self.user(at, home.uid).waiting(weight).insert((due, Arc::clone(home)));
        self.reschedule(home.uid);
    }

    /// The change waits no more.
    pub(super) fn cancel(&mut self, due: BootTime, weight: Weight, home: &Arc<Home>) {
        if let Some(user) = self.by_uid.get_mut(&home.uid) {
            user.waiting(weight).remove(&(due, Arc::clone(home)));
        }
        self.reschedule(home.uid);
    }

    /// When the next change that waits may be written.
    pub(super) fn next_due(&self) -> Option<BootTime> {
        self.next.first().map(|&(due, _)| due)
    }

    /// Takes the homes whose changes may be written by `now`, each as an entry of its user's; with [`BootTime`]'s greatest
    /// value all that wait.
    pub(super) fn take_due(&mut self, now: BootTime) -> Vec<Arc<Home>> {
        let mut homes = Vec::new();
        while let Some(&(due, uid)) = self.next.first().filter(|&&(due, _)| due <= now) {
            let is_last = now == BootTime(u64::MAX);
            let Some(user) = self.by_uid.get_mut(&uid) else {
                self.next.remove(&(due, uid));
                continue;
            };
            user.refill(now);
            for weight in [Weight::Start, Weight::State, Weight::Minor] {
                homes.extend(std::iter::from_fn(|| user.take_first(now, weight, is_last)));
            }
            self.reschedule(uid);
        }
        homes
    }

    /// How many changes wait.
    pub(super) fn waiting(&self) -> usize {
        let of_user = |user: &User| user.starts.len() + user.states.len() + user.minors.len();
        self.by_uid.values().map(of_user).sum()
    }

    fn user(&mut self, at: BootTime, uid: u32) -> &mut User {
        if self.by_uid.len() >= self.trimmed_at.max(IDLE_USERS_MAX) && !self.by_uid.contains_key(&uid) {
            self.by_uid.retain(|_, user| !user.is_idle(at));
            self.trimmed_at = 2 * self.by_uid.len();
        }
        let user = self.by_uid.entry(uid).or_insert_with(|| User::new(at));
        user.refill(at);
        user
    }

    fn reschedule(&mut self, uid: u32) {
        let Some(user) = self.by_uid.get_mut(&uid) else { return };
        let next = user.first_due();
        if next == user.next {
            return;
        }
        if let Some(former) = core::mem::replace(&mut user.next, next) {
            self.next.remove(&(former, uid));
        }
        self.next.extend(next.map(|due| (due, uid)));
    }

    /// Users that are remembered.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.by_uid.len()
    }
}
