//! Shares what takes changes, which are the journal, the clients and the mirror, among users: who has many changes waits, and what
//! waits goes on in turn. So a change of one user waits behind a bounded number of another user's, whatever that one does.

use std::collections::{BTreeMap, VecDeque};

use observer_core::BootTime;

/// Changes of one user in one turn of the event loop, and entries of that user that are not on the disk, or not in the
/// database, from which on the user's next changes wait.
pub(super) const CHANGES_AT_ONCE_MAX: usize = 128;
/// Changes that wait, of all users. Beyond that, those of the user who has most of them go on, the oldest first.
const CHANGES_WAITING_MAX: usize = 8_192;
/// How long an entry may take to be on the disk, ns. After that, nothing waits for the disk until it is there: clients have the
/// changes in time even where the disk hangs.
const ENTRY_WAITED_FOR_NS: u64 = 1_000_000_000;
/// How long after it got its number an entry that is on the disk is waited for until it is in the database too, ns. A database that
/// is far away delays nothing for longer.
const DELIVERY_WAITED_FOR_NS: u64 = 50_000_000;

/// How far the entries are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// The newest on the disk; the largest number where nothing waits for the disk.
    pub on_disk: u64,
    /// The newest in the database; the same as on the disk where nothing waits for the database.
    pub in_database: u64,
}

impl From<u64> for Written {
    /// Nothing waits for a database.
    fn from(on_disk: u64) -> Self {
        Self { on_disk, in_database: on_disk }
    }
}

/// An entry that is not written yet.
#[derive(Clone, Copy, Debug)]
struct OpenEntry {
    seq: u64,
    uid: u32,
    since: BootTime,
}

/// What is kept of a user.
#[derive(Debug)]
struct UserTurn<T> {
    /// Changes that wait, the oldest first.
    waiting: VecDeque<T>,
    /// Changes that went on in this turn.
    gone_on: usize,
    /// Entries that are not written yet.
    open: usize,
}

impl<T> Default for UserTurn<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), gone_on: 0, open: 0 }
    }
}

impl<T> UserTurn<T> {
    fn is_free(&self) -> bool {
        self.gone_on + self.open < CHANGES_AT_ONCE_MAX
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.gone_on == 0 && self.open == 0
    }
}

/// Changes of users that wait for their turn.
#[derive(Debug)]
pub(super) struct Turns<T> {
    users: BTreeMap<u32, UserTurn<T>>,
    /// Users with changes that wait, each once: who comes next is first.
    next: VecDeque<u32>,
    waiting: usize,
    /// Entries that are not written yet, in their order.
    open: VecDeque<OpenEntry>,
    /// The disk takes too long: nothing waits for it until it has this entry.
    slow_until: Option<u64>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            users: BTreeMap::new(),
            next: VecDeque::new(),
            waiting: 0,
            open: VecDeque::new(),
            slow_until: None,
        }
    }
}

impl<T> Turns<T> {
    /// Returns whether a change of `uid` goes on at once; it counts then. Otherwise it is to [wait](Self::wait).
    pub fn goes_on(&mut self, uid: u32) -> bool {
        let user = self.users.entry(uid).or_default();
        let goes_on = user.waiting.is_empty() && user.is_free();
        user.gone_on += usize::from(goes_on);
        goes_on
    }

    /// Whether changes of `uid` wait.
    pub fn has_waiting(&self, uid: u32) -> bool {
        self.users.get(&uid).is_some_and(|user| !user.waiting.is_empty())
    }

    /// A change of `uid` waits for its turn.
    pub fn wait(&mut self, uid: u32, change: T) {
        let user = self.users.entry(uid).or_default();
        if user.waiting.is_empty() {
            self.next.push_back(uid);
        }
        user.waiting.push_back(change);
        self.waiting += 1;
    }

    /// Whether nothing is kept of any user.
    pub fn is_idle(&self) -> bool {
        self.users.is_empty()
    }

    /// Changes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether more changes wait than may: the next one is to be [taken](Self::take).
    pub fn is_over(&self) -> bool {
        self.waiting > CHANGES_WAITING_MAX
    }

    /// The oldest change of each user that waits.
    pub fn oldest(&self) -> impl Iterator<Item = &T> {
        self.next.iter().filter_map(|uid| self.users.get(uid)?.waiting.front())
    }

    /// Takes the change that goes on next: one of each user in turn who may have more. Where too many wait, one of the user who
    /// has most.
    pub fn take(&mut self) -> Option<T> {
        if self.is_over() {
            let most = self.users.iter().max_by_key(|(_, user)| user.waiting.len());
            let uid = most.map(|(&uid, _)| uid)?;
            return self.take_of(uid);
        }
        let is_free = |uid: &u32| self.users.get(uid).is_some_and(UserTurn::is_free);
        let at = self.next.iter().position(is_free)?;
        let uid = self.next.remove(at)?;
        // Others come first from here on.
        self.next.push_back(uid);
        self.take_of(uid)
    }

    /// Takes any change that waits, each user's in order.
    pub fn take_any(&mut self) -> Option<T> {
        let uid = *self.next.front()?;
        self.take_of(uid)
    }

    fn take_of(&mut self, uid: u32) -> Option<T> {
        let user = self.users.get_mut(&uid)?;
        let change = user.waiting.pop_front()?;
        user.gone_on += 1;
        if user.waiting.is_empty() {
            // Returns the memory of a storm.
            user.waiting = VecDeque::new();
            self.next.retain(|&other| other != uid);
        }
        self.waiting -= 1;
        Some(change)
    }

    /// A turn of the event loop begins. `entries` got their numbers in the last one, each of its user.
    pub fn begin(
        &mut self,
        at: BootTime,
        entries: impl IntoIterator<Item = (u32, u64)>,
        written: impl Into<Written>,
    ) {
        let Written { on_disk, in_database } = written.into();
        for user in self.users.values_mut() {
            user.gone_on = 0;
        }
        self.slow_until.take_if(|until| *until <= on_disk);
        for (uid, seq) in entries {
            if seq > in_database && self.slow_until.is_none() {
                self.open.push_back(OpenEntry { seq, uid, since: at });
                self.users.entry(uid).or_default().open += 1;
            }
        }
        let is_written = |entry: &mut OpenEntry| {
            let is_waited_for = at.since(entry.since) <= DELIVERY_WAITED_FOR_NS;
            entry.seq <= in_database || (entry.seq <= on_disk && !is_waited_for)
        };
        while let Some(entry) = self.open.pop_front_if(is_written) {
            self.close(entry.uid);
        }
        if let Some(first) = self.open.front().filter(|first| at.since(first.since) > ENTRY_WAITED_FOR_NS) {
            let seq = first.seq;
            self.forget_entries();
            self.slow_until = Some(seq);
        }
        self.users.retain(|_, user| !user.is_idle());
    }

    /// Nothing waits for the entries that have numbers: another file gives them others.
    pub fn forget_entries(&mut self) {
        self.slow_until = None;
        while let Some(entry) = self.open.pop_front() {
            self.close(entry.uid);
        }
    }

    fn close(&mut self, uid: u32) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.open = user.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Those of a user, numbered.
    type Numbered = (u32, usize);

    /// `count` changes of `uid` come. Returns those that go on at once.
    fn come(turns: &mut Turns<Numbered>, uid: u32, count: usize) -> Vec<Numbered> {
        let mut gone_on = Vec::new();
        for at in 0..count {
            if turns.goes_on(uid) {
                gone_on.push((uid, at));
            } else {
                turns.wait(uid, (uid, at));
            }
        }
        gone_on
    }

    fn taken(turns: &mut Turns<Numbered>) -> Vec<Numbered> {
        std::iter::from_fn(|| turns.take()).collect()
    }

    #[test]
    fn a_change_waits_behind_a_bounded_number_of_another_users() {
        let mut turns = Turns::default();
        assert_eq!(come(&mut turns, 7, 4_000).len(), CHANGES_AT_ONCE_MAX);
        // Another user's go on at once, and the first user's own ones keep their order.
        assert_eq!(come(&mut turns, 8, 3), [(8, 0), (8, 1), (8, 2)]);
        assert!(taken(&mut turns).is_empty(), "that turn is over");
        let (mut all, mut rounds) = (Vec::new(), 0);
        while turns.waiting() > 0 {
            turns.begin(BootTime(0), [], 0);
            assert_eq!(come(&mut turns, 8, 1).len(), 1);
            let of_turn = taken(&mut turns);
            assert!(of_turn.len() <= CHANGES_AT_ONCE_MAX);
            all.extend(of_turn);
            rounds += 1;
        }
        assert_eq!(all, (CHANGES_AT_ONCE_MAX..4_000).map(|at| (7, at)).collect::<Vec<_>>());
        assert_eq!(rounds, 4_000_usize.div_ceil(CHANGES_AT_ONCE_MAX) - 1);
    }

    #[test]
    fn what_waits_of_several_users_goes_on_in_turn() {
        let mut turns = Turns::default();
        for uid in [7, 8, 9] {
            come(&mut turns, uid, CHANGES_AT_ONCE_MAX + 2 * uid as usize);
        }
        turns.begin(BootTime(0), [], 0);
        let order: Vec<u32> = taken(&mut turns).into_iter().map(|(uid, _)| uid).collect();
        assert_eq!(order.get(..7).unwrap(), [7, 8, 9, 7, 8, 9, 7]);
        assert_eq!(order.len(), 2 * (7 + 8 + 9));
        assert_eq!((turns.waiting(), turns.next.len()), (0, 0));
    }

    #[test]
    fn entries_that_are_not_written_count_until_they_are() {
        let mut turns = Turns::default();
        come(&mut turns, 7, 1_000);
        let entries = |from: u64| (from..from + CHANGES_AT_ONCE_MAX as u64).map(|seq| (7, seq));
        turns.begin(BootTime(0), entries(1), 0);
        assert!(taken(&mut turns).is_empty(), "all that may be are on their way to the disk");
        assert!(turns.goes_on(8), "which is nothing to another user");
        turns.begin(BootTime(MS), [], 28);
        assert_eq!(taken(&mut turns).len(), 28);
        turns.begin(BootTime(2 * MS), (129..157).map(|seq| (7, seq)), 156);
        assert_eq!(taken(&mut turns).len(), CHANGES_AT_ONCE_MAX);
        // Numbers of another file are others.
        turns.begin(BootTime(3 * MS), entries(157), 156);
        assert!(taken(&mut turns).is_empty());
        turns.forget_entries();
        turns.begin(BootTime(4 * MS), [], 3);
        assert_eq!(taken(&mut turns).len(), CHANGES_AT_ONCE_MAX);
    }

    #[test]
    fn a_database_that_is_far_away_is_waited_for_a_moment_only() {
        let mut turns = Turns::default();
        come(&mut turns, 7, 1_000);
        let on_the_disk = Written { on_disk: 128, in_database: 0 };
        turns.begin(BootTime(0), (1..=128).map(|seq| (7, seq)), on_the_disk);
        turns.begin(BootTime(DELIVERY_WAITED_FOR_NS), [], on_the_disk);
        assert!(taken(&mut turns).is_empty());
        turns.begin(BootTime(DELIVERY_WAITED_FOR_NS + 1), [], on_the_disk);
        assert_eq!(taken(&mut turns).len(), CHANGES_AT_ONCE_MAX);
    }

    #[test]
    fn a_disk_that_was_slow_is_waited_for_again_after_another_file_was_begun() {
        let mut turns = Turns::default();
        come(&mut turns, 7, 1_000);
        turns.begin(BootTime(0), (900..1_028).map(|seq| (7, seq)), 0);
        turns.begin(BootTime(ENTRY_WAITED_FOR_NS + 1), [], 0);
        turns.forget_entries();
        turns.begin(BootTime(ENTRY_WAITED_FOR_NS + 2), (1..=128).map(|seq| (7, seq)), 0);
        assert!(taken(&mut turns).is_empty(), "its numbers are others");
    }

    #[test]
    fn nothing_waits_for_a_disk_that_hangs() {
        let mut turns = Turns::default();
        come(&mut turns, 7, 1_000);
        turns.begin(BootTime(0), (1..=128).map(|seq| (7, seq)), 0);
        turns.begin(BootTime(ENTRY_WAITED_FOR_NS), [], 0);
        assert!(taken(&mut turns).is_empty());
        turns.begin(BootTime(ENTRY_WAITED_FOR_NS + 1), [], 0);
        assert_eq!(taken(&mut turns).len(), CHANGES_AT_ONCE_MAX);
        // Until it has what it was given.
        turns.begin(BootTime(ENTRY_WAITED_FOR_NS + 2), (129..=256).map(|seq| (7, seq)), 0);
        assert_eq!(taken(&mut turns).len(), CHANGES_AT_ONCE_MAX);
        turns.begin(BootTime(ENTRY_WAITED_FOR_NS + 3), (257..=384).map(|seq| (7, seq)), 1);
        assert!(taken(&mut turns).is_empty());
    }

    #[test]
    fn where_too_many_wait_those_of_who_has_most_go_on() {
        let mut turns = Turns::default();
        come(&mut turns, 8, CHANGES_AT_ONCE_MAX + 10);
        come(&mut turns, 7, CHANGES_AT_ONCE_MAX + CHANGES_WAITING_MAX);
        let gone_on = taken(&mut turns);
        assert_eq!(gone_on.len(), 10);
        assert!(gone_on.iter().all(|&(uid, _)| uid == 7));
        assert_eq!(turns.waiting(), CHANGES_WAITING_MAX);
        assert_eq!(std::iter::from_fn(|| turns.take_any()).count(), CHANGES_WAITING_MAX);
        turns.begin(BootTime(0), [], 0);
        assert!(turns.users.is_empty() && turns.next.is_empty());
    }
}
