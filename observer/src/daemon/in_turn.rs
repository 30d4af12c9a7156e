//! Reports the changes of each user in turn: at once, or when it is the user's turn.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use observer_core::limits::OOM_MARK_NS;
use observer_core::session::Home;
use observer_core::{BootTime, Change, Process, Session};

use super::columns::{ReplacedPrimary, scope};
use super::event_loop::EventLoop;
use super::sink::{DaemonSink, Recording};
use super::turns::{CHANGES_AT_ONCE_MAX, Written};
use super::waiting_change::{Changed, Waiting, WaitingChange, process_of, user_of};
use crate::clock;
use crate::journal::{Journal, JournalProgress};

/// Entries that the database lacks up to which changes wait for the database too. Beyond that it is down or slow, and what waits
/// for it is in the journal.
const MIRROR_NEAR_MAX: u64 = 4 * CHANGES_AT_ONCE_MAX as u64;

impl EventLoop {
    /// Reports the changes that waited and whose user's turn it is.
    pub(super) fn take_turns(&mut self) {
        if !self.sink.has_turns() {
            return;
        }
        let journal = self.sink.journal.as_ref().map(Journal::progress);
        // While the mirror is near the end of the journal, it is the last that takes changes.
        let journal = journal.filter(|journal| !journal.is_failing);
        let written =
            journal.map_or(Written::from(u64::MAX), |JournalProgress { committed, delivered, .. }| {
                let is_near =
                    self.mirror.delivers() && committed.saturating_sub(delivered) <= MIRROR_NEAR_MAX;
                Written { on_disk: committed, in_database: if is_near { delivered } else { committed } }
            });
        self.sink.take_turns(clock::boottime(), written);
    }
}

impl DaemonSink {
    /// Reports a change, or has it wait for its user's turn.
    pub(super) fn report_in_turn(
        &mut self,
        at: BootTime,
        change: &Change<'_>,
        former: Option<ReplacedPrimary>,
    ) {
        let in_session = self.is_in_session(change);
        let process = process_of(change);
        if process.is_some() && !self.hub.wants(scope(change, |_| in_session)) {
            return;
        }
        let is_of_interest = self.journal.is_some() || !self.hub.is_empty();
        let is_recorded = is_of_interest && self.recording == Recording::Active;
        let uid = user_of(change).filter(|&uid| is_recorded || self.turns.has_waiting(uid));
        // A process keeps its place behind what waits of it, also as another user.
        let behind = process.and_then(|key| self.waiting_processes.get(&key)).map(|&(uid, _)| uid);
        let waits_for = behind.or_else(|| uid.filter(|&uid| !self.turns.goes_on(uid)));
        let Some((uid, changed)) = waits_for.zip(waits_for.and_then(|_| Changed::of(change))) else {
            return self.report(at, *change, former, in_session);
        };
        if let Some(key) = process {
            self.waiting_processes.entry(key).or_insert((uid, 0)).1 += 1;
        }
        let what = Waiting::Change { changed, former: former.map(Box::new), in_session };
        let number = self.hub.count_change();
        self.wait(uid, WaitingChange { at, number, what });
    }

    /// Writes what waited for the journal of the session of `home`, or has that wait behind earlier changes of its user, unless
    /// something of it waits there already. `since`:
    /// starts or ends may have happened since then that have no entry yet.
    pub(super) fn write_in_turn(
        &mut self,
        at: BootTime,
        since: Option<BootTime>,
        home: Arc<Home>,
        live: Option<(&Session, &Process)>,
    ) {
        let uid = home.uid;
        if !self.turns.has_waiting(uid) {
            return self.write_waiting(at, &home, live);
        }
        self.paced_since = self.paced_since.into_iter().chain(since).min();
        if !self.pace.enters_turn(&home) {
            return;
        }
        let live = live.map(|(session, primary)| Box::new((session.clone(), primary.clone())));
        let (number, what) = (self.hub.count_change(), Waiting::Paced { home, live });
        self.wait(uid, WaitingChange { at, number, what });
    }

    fn wait(&mut self, uid: u32, change: WaitingChange) {
        self.turns.wait(uid, change);
        while self.turns.is_over()
            && let Some(waiting) = self.turns.take()
        {
            self.report_waiting(waiting);
        }
    }

    /// Whether changes wait, or count for users whose next ones may have to.
    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_idle() || !self.numbered.borrow().is_empty()
    }

    /// Begins a turn at `at`, and reports the changes that wait and whose turn it is.
    pub(super) fn take_turns(&mut self, at: BootTime, written: Written) {
        let entries = std::mem::take(&mut *self.numbered.borrow_mut());
        self.turns.begin(at, entries, written);
        while let Some(waiting) = self.turns.take() {
            self.report_waiting(waiting);
        }
    }

    /// Reports all changes that wait.
    pub(super) fn report_all_waiting(&mut self) {
        while let Some(waiting) = self.turns.take_any() {
            self.report_waiting(waiting);
        }
    }

    /// Since when there is a change that waits. A death that waited for the kernel's mark stands behind later changes.
    pub(super) fn waiting_since(&self) -> Option<BootTime> {
        let oldest = self.turns.oldest().map(|waiting| BootTime(waiting.at.0.saturating_sub(OOM_MARK_NS)));
        oldest.chain(self.paced_since).min()
    }

    fn report_waiting(&mut self, WaitingChange { at, number, what }: WaitingChange) {
        self.hub.set_change(Some(number));
        match what {
            Waiting::Change { changed, former, in_session } => {
                let change = changed.change();
                self.report(at, change, former.map(|former| *former), in_session);
                if let Some(key) = process_of(&change)
                    && let Entry::Occupied(mut waiting) = self.waiting_processes.entry(key)
                {
                    waiting.get_mut().1 -= 1;
                    if waiting.get().1 == 0 {
                        waiting.remove();
                    }
                }
            }
            Waiting::Paced { home, live } => {
                let live = live.as_ref().map(|live| (&live.0, &live.1));
                self.write_waiting(at, &home, live);
            }
        }
        self.hub.set_change(None);
        if self.turns.waiting() == 0 {
            self.paced_since = None;
        }
    }
}

#[cfg(test)]
#[path = "in_turn_tests.rs"]
mod tests;
