//! The entries that wait for the disk. Where there is no room for another one, it is taken from the user whose entries take
//! the most of it: a gap takes the place of what is removed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::shares::User;
use crate::api::entry::{Entry, MissingEntries};
use crate::api::words::{EntryKind, GapReason};
use crate::text::time::unix_rfc3339;

/// Entries that wait for the disk.
const QUEUE_ENTRIES_MAX: usize = 65_536;
/// Their bytes.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// What is removed at once, because each removal goes through all that wait, and by how much a share has to exceed another one
/// for that.
const TURN_BYTES: usize = QUEUE_BYTES_MAX / 64;
/// Bytes of one transaction, beyond its first entry.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// What an entry takes beside its texts, bytes.
const ENTRY_BYTES: usize = 256;

/// An entry that waits for the disk.
struct QueuedEntry {
    /// Its number.
    seq: u64,
    entry: Arc<Entry>,
    /// When it was queued.
    since: Instant,
    /// What it reports as removed, if it is a gap in the place of entries.
    removed: Option<Removed>,
}

/// What an entry is removed for.
#[derive(Clone, Copy)]
pub struct Loss {
    /// Why there is no room.
    pub reason: GapReason,
    /// A time before which the entry may have happened whatever its own time is, ns since 1970.
    pub earliest_ns: i64,
}

/// Which entries of a user may be removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removable {
    /// All but ends of sessions.
    NoEnds,
    /// All.
    All,
}

/// Entries that were removed, one after the other.
#[derive(Clone, Copy)]
struct Removed {
    from_seq: u64,
    count: u64,
    from_ns: i64,
    reason: GapReason,
}

/// See the module.
#[derive(Default)]
pub struct WaitingEntries {
    entries: VecDeque<QueuedEntry>,
    bytes: usize,
    /// Bytes of the entries of each user.
    by_user: BTreeMap<User, usize>,
    /// Number of the newest entry that the writer was given; it may be committed already.
    handed_over: u64,
}

impl WaitingEntries {
    /// Whether no entry waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is room for one more entry of this many bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < QUEUE_ENTRIES_MAX && self.bytes + bytes <= QUEUE_BYTES_MAX
    }

    /// Appends an entry.
    pub fn push(&mut self, seq: u64, entry: Entry) {
        self.append(QueuedEntry { seq, entry: Arc::new(entry), since: Instant::now(), removed: None });
    }

    /// The first entries, at most `max` of at most [`BATCH_BYTES_MAX`], for the writer. They count as handed over: they may be
    /// committed before it says so.
    pub fn first(&mut self, max: usize) -> Vec<(u64, Arc<Entry>)> {
        let mut bytes = 0;
        let fits = |waiting: &&QueuedEntry| {
            let is_first = bytes == 0;
            bytes += size(&waiting.entry);
            is_first || bytes <= BATCH_BYTES_MAX
        };
        let first = self.entries.iter().take(max).take_while(fits);
        let first: Vec<_> = first.map(|waiting| (waiting.seq, Arc::clone(&waiting.entry))).collect();
        self.handed_over = first.last().map_or(self.handed_over, |&(last, _)| last);
        first
    }

    /// Entries up to `seq` are committed. Returns when the first of them was queued.
    pub fn written(&mut self, seq: u64) -> Option<Instant> {
        let first = self.entries.front().filter(|first| first.seq <= seq).map(|first| first.since);
        while self.entries.front().is_some_and(|waiting| waiting.seq <= seq) {
            if let Some(waiting) = self.entries.pop_front() {
                self.subtract(&waiting.entry);
            }
        }
        if self.entries.is_empty() {
            // Returns the memory of a storm.
            self.entries.shrink_to(64);
        }
        first
    }

    /// Takes all entries, which get other numbers in another file.
    pub fn take_all(&mut self, boot_id: &str) -> Vec<Entry> {
        let taken = std::mem::take(self);
        let renumbered = |waiting: QueuedEntry| match waiting.removed {
            Some(removed) => gap(removed, None, &waiting.entry, boot_id),
            None => Arc::unwrap_or_clone(waiting.entry),
        };
        taken.entries.into_iter().map(renumbered).collect()
    }

    /// Makes room for `coming`, unless nobody's entries take [`TURN_BYTES`] more than those of its user. It removes the oldest
    /// entries of the user whose entries take the most, and ends of sessions only where there is nothing else: nothing follows
    /// an end that would tell the same. For an end it removes entries of the same user that are no ends. Returns how many it
    /// removed.
    pub fn make_room(&mut self, coming: &Entry, loss: Loss, boot_id: &str) -> u64 {
        let user = user_of(coming);
        let own = self.by_user.get(&user).copied().unwrap_or(0);
        let users = self.by_user.iter().filter(|(user, _)| user.is_some());
        let largest = users.max_by_key(|(_, bytes)| **bytes).filter(|&(_, &bytes)| bytes > own + TURN_BYTES);
        let (of, all) = match largest {
            Some((&largest, _)) => (largest, &[Removable::NoEnds, Removable::All][..]),
            None if coming.kind == EntryKind::SessionEnded => (user, &[Removable::NoEnds][..]),
            None => return 0,
        };
        for &removable in all {
            if let Some(to_seq) = self.removable_to(of, removable) {
                return self.remove(of, removable, to_seq, loss, boot_id);
            }
        }
        0
    }

    /// Up to which number entries of a user have to be removed for [`TURN_BYTES`]; `None`: there are none.
    fn removable_to(&self, user: User, removable: Removable) -> Option<u64> {
        let (mut freed, mut to_seq) = (0, None);
        for waiting in self.entries.iter().filter(|waiting| self.is_removable(waiting, user, removable)) {
            if freed >= TURN_BYTES {
                break;
            }
            freed += size(&waiting.entry);
            to_seq = Some(waiting.seq);
        }
        to_seq
    }

    /// Whether it is such an entry of `user`, and cannot be committed already.
    fn is_removable(&self, waiting: &QueuedEntry, user: User, removable: Removable) -> bool {
        let is_kept = removable == Removable::NoEnds && waiting.entry.kind == EntryKind::SessionEnded;
        waiting.seq > self.handed_over
            && waiting.removed.is_none()
            && user_of(&waiting.entry) == user
            && !is_kept
    }

    /// Removes such entries of a user up to `to_seq`. Returns how many these were.
    fn remove(&mut self, user: User, removable: Removable, to_seq: u64, loss: Loss, boot_id: &str) -> u64 {
        let former = std::mem::take(&mut self.entries);
        (self.bytes, self.by_user) = (0, BTreeMap::new());
        let mut count = 0;
        for mut waiting in former {
            let is_removed = waiting.seq <= to_seq && self.is_removable(&waiting, user, removable);
            if is_removed {
                count += 1;
                let from_ns = waiting.entry.at_unix_ns.min(loss.earliest_ns);
                let reason = loss.reason;
                waiting.removed = Some(Removed { from_seq: waiting.seq, count: 1, from_ns, reason });
            }
            let follows = waiting.removed.zip(self.entries.back()).and_then(|(removed, last)| {
                let before = last.removed.filter(|_| last.seq > self.handed_over)?;
                let from_ns = before.from_ns.min(removed.from_ns);
                Some(Removed { count: before.count + removed.count, from_ns, ..before })
            });
            if follows.is_some() {
                waiting.removed = follows;
                if let Some(last) = self.entries.pop_back() {
                    self.subtract(&last.entry);
                }
            }
            if let Some(removed) = waiting.removed.filter(|_| is_removed || follows.is_some()) {
                waiting.entry = Arc::new(gap(removed, Some(waiting.seq), &waiting.entry, boot_id));
            }
            self.append(waiting);
        }
        count
    }

    fn append(&mut self, waiting: QueuedEntry) {
        let bytes = size(&waiting.entry);
        self.bytes += bytes;
        *self.by_user.entry(user_of(&waiting.entry)).or_default() += bytes;
        self.entries.push_back(waiting);
    }

    fn subtract(&mut self, entry: &Entry) {
        let bytes = size(entry);
        self.bytes -= bytes;
        let user = user_of(entry);
        if let Some(share) = self.by_user.get_mut(&user) {
            *share -= bytes;
            if *share == 0 {
                self.by_user.remove(&user);
            }
        }
    }
}

fn user_of(entry: &Entry) -> User {
    entry.subject.as_ref().and_then(|subject| subject.uid)
}

/// The entry that reports `removed`, the last of which is `last`, with the number `to_seq` if they had numbers of this file.
fn gap(removed: Removed, to_seq: Option<u64>, last: &Entry, boot_id: &str) -> Entry {
    let missing = MissingEntries {
        from_seq: to_seq.map(|_| removed.from_seq),
        to_seq,
        count: Some(removed.count),
        reason: removed.reason,
        from: unix_rfc3339(removed.from_ns),
        to: unix_rfc3339(last.at_unix_ns),
        ..MissingEntries::default()
    };
    Entry::gap(&missing, last.at_unix_ns, last.boottime_ns, boot_id)
}

/// What an entry takes of the queue, bytes.
pub fn size(entry: &Entry) -> usize {
    let texts = entry.detail.len() + entry.kind.as_str().len() + entry.boot_id.len();
    ENTRY_BYTES + texts + entry.subject.as_ref().map_or(0, |it| it.home.len() + it.name.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::entry::NumberedEntry;
    use crate::journal::tests::{assert_dense, entry};

    const FULL: Loss = Loss { reason: GapReason::QueueFull, earliest_ns: i64::MAX };

    fn of(uid: u32, bytes: usize) -> Entry {
        let mut entry = entry(1);
        entry.subject.as_mut().unwrap().uid = Some(uid);
        Entry { detail: "x".repeat(bytes), ..entry }
    }

    /// A queue that one user filled, with an entry of another after each `every`.
    fn full(every: usize) -> (WaitingEntries, u64) {
        let (mut waiting, mut seq) = (WaitingEntries::default(), 0);
        while waiting.has_room(2 * size(&of(7, 1_000))) {
            seq += 1;
            waiting.push(seq, of(7, 1_000));
            if seq.is_multiple_of(every as u64) {
                seq += 1;
                waiting.push(seq, of(8, 1_000));
            }
        }
        (waiting, seq)
    }

    fn all(waiting: &WaitingEntries) -> Vec<NumberedEntry> {
        let all = waiting.entries.iter();
        all.map(|it| NumberedEntry { seq: it.seq, entry: Entry::clone(&it.entry) }).collect()
    }

    #[test]
    fn room_is_taken_from_the_user_with_the_most_and_from_nobody_else() {
        let (mut waiting, mut seq) = full(100);
        let others = all(&waiting).iter().filter(|it| user_of(&it.entry) == Some(8)).count() as u64;
        waiting.handed_over = 500;
        let mut removed = 0;
        for _ in 0..3_000 {
            let bytes = size(&of(8, 1_000));
            if !waiting.has_room(bytes) {
                let gone = waiting.make_room(&of(8, 0), FULL, "boot");
                assert!(gone > 0, "user 7 has most of it");
                removed += gone;
            }
            assert!(waiting.has_room(bytes));
            seq += 1;
            waiting.push(seq, of(8, 1_000));
            assert!(waiting.bytes() <= QUEUE_BYTES_MAX);
        }
        let left = all(&waiting);
        assert_dense(&left);
        let count = |uid| left.iter().filter(|it| user_of(&it.entry) == Some(uid)).count() as u64;
        assert_eq!(count(8), others + 3_000);
        assert_eq!(count(7) + count(8) + removed, seq, "each entry is there, or in a gap");
        let missing: u64 = left
            .iter()
            .filter(|it| it.entry.subject.is_none())
            .map(|it| serde_json::from_str::<MissingEntries>(&it.entry.detail).unwrap().count.unwrap())
            .sum();
        assert_eq!(missing, removed);
        // What the writer was given may be on the disk.
        assert!(left.iter().take_while(|it| it.seq <= 500).all(|it| it.entry.subject.is_some()));
        assert!(waiting.written(seq).is_some());
        assert_eq!((waiting.bytes(), waiting.by_user.len()), (0, 0));
    }

    #[test]
    fn of_large_entries_the_writer_is_given_few_and_the_others_can_be_removed() {
        let mut waiting = WaitingEntries::default();
        for seq in 1.. {
            let large = of(7, 100_000);
            if !waiting.has_room(size(&large)) {
                break;
            }
            waiting.push(seq, large);
        }
        assert_eq!(waiting.first(512).len(), 5, "as many as fit, or one that does not");
        assert!(waiting.make_room(&of(8, 0), FULL, "boot") > 0);
    }

    fn end_of(uid: u32, bytes: usize) -> Entry {
        Entry { kind: EntryKind::SessionEnded, ..of(uid, bytes) }
    }

    #[test]
    fn ends_of_sessions_are_removed_last() {
        let (mut waiting, mut seq) = (WaitingEntries::default(), 0);
        let bytes = size(&of(7, 1_000));
        while waiting.has_room(2 * bytes) {
            seq += 2;
            waiting.push(seq - 1, end_of(7, 1_000));
            waiting.push(seq, of(7, 1_000));
        }
        let ends = |waiting: &WaitingEntries| {
            waiting.entries.iter().filter(|it| it.entry.kind == EntryKind::SessionEnded).count() as u64
        };
        let all_ends = ends(&waiting);
        let mut removed = 0;
        for _ in 0..all_ends / 2 {
            if !waiting.has_room(bytes) {
                removed += waiting.make_room(&end_of(8, 0), FULL, "boot");
            }
            seq += 1;
            waiting.push(seq, end_of(8, 1_000));
        }
        assert!(removed > all_ends / 2, "{removed} of {all_ends}");
        assert_eq!(ends(&waiting), all_ends + all_ends / 2);
        // An end takes the place of what its own user has beside ends, and any other entry does not.
        assert_eq!(waiting.make_room(&of(7, 0), FULL, "boot"), 0);
        while waiting.make_room(&end_of(7, 0), FULL, "boot") > 0 {}
        assert_eq!(ends(&waiting), all_ends + all_ends / 2);
        assert!(all(&waiting).iter().all(|it| it.entry.kind != EntryKind::SessionChanged));
        // Where there is nothing else, ends make room for others.
        assert!(waiting.make_room(&of(9, 0), FULL, "boot") > 0);
    }

    #[test]
    fn who_has_the_most_gets_no_room() {
        let (mut waiting, _) = full(100);
        assert_eq!(waiting.make_room(&of(7, 0), FULL, "boot"), 0);
    }

    #[test]
    fn a_gap_that_goes_to_another_file_has_no_numbers_of_this_one() {
        let (mut waiting, _) = full(100);
        let removed = waiting.make_room(&of(8, 0), FULL, "boot");
        let taken = waiting.take_all("boot");
        let gaps: Vec<MissingEntries> = taken
            .iter()
            .filter(|entry| entry.subject.is_none())
            .map(|entry| serde_json::from_str(&entry.detail).unwrap())
            .collect();
        assert_eq!(gaps.iter().filter_map(|gap| gap.count).sum::<u64>(), removed);
        assert!(gaps.iter().all(|gap| gap.from_seq.is_none() && gap.to_seq.is_none()));
        assert!(waiting.is_empty());
    }
}
