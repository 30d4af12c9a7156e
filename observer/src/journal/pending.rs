//! What waits between the event loop and the writer: entries that have a number and are not committed yet, and changes
//! that were lost before they got one. Without a lock and without I/O.

use std::sync::Arc;

use super::file;
use super::live::{self, LifeProofs, LiveSessions};
use super::options::JournalOptions;
use super::tables::RecordedBirths;
use super::waiting::{Loss, WaitingEntries, size};
use crate::api::entry::{Entry, MissingEntries};
use crate::api::status::JournalStatus;
use crate::api::words::{GapReason, JournalState};
use crate::clock;
use crate::text::time::unix_rfc3339;

/// Bytes of the queue from which on its memory is returned to the system once the entries are written.
const STORM_BYTES: usize = 1 << 20;
/// Bytes of the largest entry: a session with all its arguments and start times needs a tenth of it.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// How often room is made for one entry.
const ROOM_TURNS_MAX: usize = 8;

/// Changes that got no number.
#[derive(Default)]
struct LostChanges {
    count: u64,
    from_ns: i64,
    to_ns: i64,
    reason: GapReason,
}

/// Up to when everything that happened is committed, or will be.
#[derive(Default)]
struct Completeness {
    /// Up to when everything is committed, ns since 1970; 0: not known.
    committed_ns: i64,
    /// Up to when everything has a number, ns since 1970, and the first number that happened later.
    numbered: Option<(i64, u64)>,
}

/// See the module. The stream begins with [`Pending::begin`].
pub struct Pending {
    /// The stream; empty: no file could be opened yet.
    pub stream_id: Arc<str>,
    /// The identity of the state directory; `None`: it could not be read yet.
    pub instance_id: Option<Arc<str>>,
    /// Number of the newest entry that the mirror has.
    pub acknowledged: u64,
    /// Why the last write failed; it is the reason of a loss meanwhile.
    pub failing: Option<GapReason>,
    /// What `status` reports, as far as it does not change by itself.
    pub status: JournalStatus,
    entries: WaitingEntries,
    next_seq: u64,
    /// The most bytes that waited since memory was returned to the system.
    bytes_peak: usize,
    lost: LostChanges,
    completeness: Completeness,
    /// The time without a daemon. Its entry is the first.
    absence: Option<MissingEntries>,
    /// When the event loop began to record changes, ns since 1970: the absence ends there.
    recording_since_ns: Option<i64>,
    /// The sessions that live according to the numbered entries, until the event loop takes them.
    live: Option<LiveSessions>,
    /// Up to when their primaries are known to live, likewise.
    proofs: LifeProofs,
    /// Ends of sessions according to the file, likewise.
    ended: Vec<Entry>,
    /// Those that name what was left, likewise.
    left: Vec<Entry>,
    /// What the last daemon knew of births, likewise.
    births: RecordedBirths,
    /// The time up to which the file knew them, ns since 1970.
    known_until_ns: Option<i64>,
    comparison: Comparison,
    boot_id: String,
}

/// The comparison of the sessions with the kernel, whose differences become entries.
#[derive(Clone, Copy, Default)]
struct Comparison {
    /// The first number that its entries may have; 0: it is yet to be made.
    from_seq: u64,
    /// The first number after those of its entries, once all have one.
    end_seq: Option<u64>,
}

/// What became of an entry that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits for the writer under this number.
    Numbered(u64),
    /// It is lost and counted: a later gap entry reports it.
    Lost,
    /// It is the change of a session of which the file knows nothing. The comparison that is about to be made writes the
    /// start of the session, with the values that it has then.
    LeftToComparison,
}

impl Pushed {
    /// The entry's number, if it has one.
    pub const fn seq(self) -> Option<u64> {
        match self {
            Self::Numbered(seq) => Some(seq),
            Self::Lost | Self::LeftToComparison => None,
        }
    }
}

/// What a file that was opened knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Last entries of the sessions that live; entries pushed since the file was opened are included.
    pub live: Vec<Entry>,
    /// Up to when the primaries of these are known to live, where that is earlier than `until_ns`.
    pub proofs: LifeProofs,
    /// Ends of the last sessions of this boot that ended and were not started again before the file was opened.
    pub ended: Vec<Entry>,
    /// Ends of sessions of this boot that name what they left, the newest first.
    pub left: Vec<Entry>,
    /// What [`super::Journal::leave_births`] was given by the daemon before, if it was stopped; empty: nothing.
    pub births: RecordedBirths,
    /// The time up to which that is known because a daemon ran, ns since 1970; `None`: the file is new.
    pub until_ns: Option<i64>,
}

impl Pending {
    /// Nothing waits, and no file is open.
    pub fn new(options: &JournalOptions) -> Self {
        Self {
            stream_id: Arc::from(""),
            instance_id: None,
            acknowledged: 0,
            failing: None,
            status: JournalStatus {
                state: JournalState::Ok,
                limit_bytes: options.max_bytes,
                ..JournalStatus::default()
            },
            entries: WaitingEntries::default(),
            next_seq: 1,
            bytes_peak: 0,
            lost: LostChanges::default(),
            completeness: Completeness::default(),
            absence: None,
            recording_since_ns: None,
            live: None,
            proofs: LifeProofs::default(),
            ended: Vec::new(),
            left: Vec::new(),
            births: RecordedBirths::default(),
            known_until_ns: None,
            comparison: Comparison::default(),
            boot_id: options.boot_id.clone(),
        }
    }

    /// A file is open: what is queued, and what is pushed from here on, become its next entries.
    pub fn begin(&mut self, opened: &mut file::OpenedFile, instance_id: &str) {
        let queued = self.entries.take_all(&self.boot_id);
        self.stream_id = opened.stream_id.clone();
        self.instance_id = Some(instance_id.into());
        self.next_seq = opened.last_seq + 1;
        self.acknowledged = opened.delivered;
        if let Some(to_seq) = opened.lost_to_seq {
            self.lose_numbers(to_seq);
        }
        (self.absence, self.known_until_ns) = opened.absence.take().unzip();
        self.live = Some(std::mem::take(&mut opened.live));
        self.proofs = std::mem::take(&mut opened.proofs);
        self.comparison = Comparison::default();
        self.ended = std::mem::take(&mut opened.ended);
        self.left = std::mem::take(&mut opened.left);
        self.births = std::mem::take(&mut opened.births);
        self.status.oldest_seq = opened.oldest_seq;
        self.status.last_seq = opened.last_seq;
        self.completeness.numbered = None;
        self.recovered();
        for entry in queued {
            self.number(entry);
        }
    }

    /// Whether a file is open.
    pub fn is_open(&self) -> bool {
        !self.stream_id.is_empty()
    }

    /// Whether no entry waits. Lost changes may.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first entries that wait, at most `max`.
    pub fn first(&mut self, max: usize) -> Vec<(u64, Arc<Entry>)> {
        self.entries.first(max)
    }

    /// The newest number that was given, committed or not; 0: none.
    pub fn last_numbered(&self) -> u64 {
        self.next_seq - 1
    }

    /// Changes that were lost and that no entry reports yet.
    pub fn unreported_losses(&self) -> u64 {
        self.lost.count
    }

    /// Up to when everything that happened is committed, ns since 1970; 0: not known.
    pub fn complete_ns(&self) -> i64 {
        self.completeness.committed_ns
    }

    /// Whether a storm that took memory is over.
    pub fn storm_is_over(&self) -> bool {
        self.entries.is_empty() && self.bytes_peak >= STORM_BYTES
    }

    /// The memory of the storm was returned to the system.
    pub fn forget_storm(&mut self) {
        self.bytes_peak = self.entries.bytes();
    }

    /// Last entries of the sessions that live according to the file, until the event loop takes them.
    pub fn known(&self) -> impl Iterator<Item = &Entry> {
        self.live.iter().flat_map(LiveSessions::values)
    }

    /// The event loop records changes from now on, and takes what an opened file knows: once for each file.
    pub fn resume(&mut self) -> Option<Resumed> {
        self.recording_since_ns.get_or_insert_with(now_ns);
        let live = self.live.take()?;
        self.settle_absence();
        self.comparison = Comparison { from_seq: self.next_seq, end_seq: None };
        Some(Resumed {
            live: live.into_values().collect(),
            proofs: std::mem::take(&mut self.proofs),
            ended: std::mem::take(&mut self.ended),
            left: std::mem::take(&mut self.left),
            births: std::mem::take(&mut self.births),
            until_ns: self.known_until_ns,
        })
    }

    /// The number from which on entries, and gaps in their place, tell what became of the sessions: earlier ones were compared
    /// with the kernel, and the differences are committed. 0: that is yet to come.
    pub fn proven_from(&self) -> u64 {
        let Comparison { from_seq, end_seq } = self.comparison;
        let is_committed = end_seq.is_some_and(|end| end <= self.status.last_seq + 1);
        if is_committed { from_seq } else { 0 }
    }

    /// What may be lost happened no earlier than this, ns since 1970: an entry of the comparison may be about any time since the
    /// file knew the sessions.
    fn earliest_ns(&self) -> i64 {
        let is_proven = self.proven_from() > 0;
        self.known_until_ns.filter(|_| !is_proven).unwrap_or(i64::MAX)
    }

    /// Numbers `entry` and queues it. It is lost if it is too large, no file is open, or the queue is full and nobody's
    /// entries take more of it than those of the entry's user. The end of a session takes the place of older entries of its
    /// own user that are no ends.
    pub fn push(&mut self, entry: Entry) -> Pushed {
        if self.live.as_ref().is_some_and(|live| live::is_change_of_unknown(live, &entry)) {
            return Pushed::LeftToComparison;
        }
        let bytes = size(&entry);
        if bytes > ENTRY_BYTES_MAX {
            self.lose(&entry, GapReason::TooLarge);
            return Pushed::Lost;
        }
        let reason = self.failing.unwrap_or(GapReason::QueueFull);
        let earliest_ns = self.earliest_ns();
        // What is removed leaves a gap in its place, so that one turn may not be enough.
        for _ in 0..ROOM_TURNS_MAX {
            if !self.is_open() || self.entries.has_room(bytes) {
                break;
            }
            let removed = self.entries.make_room(&entry, Loss { reason, earliest_ns }, &self.boot_id);
            self.status.dropped += removed;
            if removed == 0 {
                break;
            }
        }
        if !self.is_open() || !self.entries.has_room(bytes) {
            self.lose(&entry, reason);
            return Pushed::Lost;
        }
        self.report_losses();
        Pushed::Numbered(self.number(entry))
    }

    /// Entries up to `seq` are committed.
    pub fn written(&mut self, seq: u64) {
        self.recovered();
        self.status.last_seq = self.status.last_seq.max(seq);
        if let Some(since) = self.entries.written(seq) {
            let took_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.status.commit_us = Some(took_us);
        }
        if let Some((up_to_ns, next_seq)) = self.completeness.numbered
            && next_seq <= seq + 1
        {
            self.completeness = Completeness { committed_ns: up_to_ns, numbered: None };
        }
    }

    /// Everything that happened up to `up_to_ns` (ns since 1970) was pushed. While entries wait, the earliest such time
    /// is kept, because it is the first that will hold.
    pub fn complete(&mut self, up_to_ns: i64) {
        if self.lost.count > 0 || self.live.is_some() || !self.is_open() {
            return;
        }
        if self.comparison.from_seq > 0 {
            self.comparison.end_seq.get_or_insert(self.next_seq);
        }
        if self.entries.is_empty() {
            self.completeness.committed_ns = up_to_ns;
        } else if self.completeness.numbered.is_none() {
            self.completeness.numbered = Some((up_to_ns, self.next_seq));
        }
    }

    /// Queues the entry that reports lost changes, if there are any.
    pub fn report_losses(&mut self) {
        if self.lost.count == 0 {
            return;
        }
        let lost = std::mem::take(&mut self.lost);
        let missing = MissingEntries {
            count: Some(lost.count),
            reason: lost.reason,
            from: unix_rfc3339(lost.from_ns),
            to: unix_rfc3339(lost.to_ns),
            ..MissingEntries::default()
        };
        self.number(Entry::gap(&missing, lost.to_ns, 0, &self.boot_id));
    }

    fn recovered(&mut self) {
        self.failing = None;
        self.status.failures = 0;
        self.status.state = JournalState::Ok;
        self.status.last_error = None;
    }

    /// Gives `entry` the next number and queues it, after the entry that must precede it.
    fn number(&mut self, entry: Entry) -> u64 {
        self.settle_absence();
        if let Some(live) = &mut self.live {
            live::apply_to_map(live, &entry);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.entries.push(seq, entry);
        self.bytes_peak = self.bytes_peak.max(self.entries.bytes());
        seq
    }

    /// Entries up to `to_seq` were committed and the file lacks them: their numbers are not given again.
    fn lose_numbers(&mut self, to_seq: u64) {
        let (from_seq, now_ns) = (self.next_seq, now_ns());
        let missing = MissingEntries {
            from_seq: Some(from_seq),
            to_seq: Some(to_seq),
            count: Some(to_seq - from_seq + 1),
            reason: GapReason::Corrupt,
            to: unix_rfc3339(now_ns),
            message: Some("the end of the file is gone".into()),
            ..MissingEntries::default()
        };
        self.next_seq = to_seq;
        self.number(Entry::gap(&missing, now_ns, clock::boottime().0, &self.boot_id));
    }

    /// Queues the entry that reports the time without a daemon, if that is still to be done.
    fn settle_absence(&mut self) {
        let Some(mut missing) = self.absence.take() else { return };
        let to_ns = self.recording_since_ns.unwrap_or_else(now_ns);
        missing.to = unix_rfc3339(to_ns);
        self.number(Entry::gap(&missing, to_ns, clock::boottime().0, &self.boot_id));
    }

    fn lose(&mut self, entry: &Entry, reason: GapReason) {
        let from_ns = entry.at_unix_ns.min(self.earliest_ns());
        if self.lost.count == 0 {
            self.lost.from_ns = from_ns;
            self.lost.reason = reason;
        }
        self.lost.from_ns = self.lost.from_ns.min(from_ns);
        self.lost.to_ns = entry.at_unix_ns;
        self.lost.count += 1;
        self.status.dropped += 1;
    }
}

fn now_ns() -> i64 {
    i64::try_from(clock::realtime_ns()).unwrap_or(0)
}
