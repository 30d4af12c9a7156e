//! Reports the changes of each user in turn: at once, or when it is the user's turn.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use observer_core::session::Home;
use observer_core::{BootTime, Change, Process, Session};

use super::columns::{ReplacedPrimary, scope};
use super::sink::{DaemonSink, Recording};
use super::waiting_change::{Changed, Waiting, WaitingChange, process_of, user_of};

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
        let uid = user_of(change).filter(|_| is_of_interest && self.recording == Recording::Active);
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
        self.turns.wait(uid, WaitingChange { at, number, what });
    }

    /// Writes what waited for the journal of the session of `home`, or has that wait behind earlier changes of its user.
    pub(super) fn write_in_turn(
        &mut self,
        at: BootTime,
        home: Arc<Home>,
        live: Option<(&Session, &Process)>,
    ) {
        let uid = home.uid;
        if !self.turns.has_waiting(uid) {
            return self.write_waiting(at, &home, live);
        }
        let live = live.map(|(session, primary)| Box::new((session.clone(), primary.clone())));
        let (number, what) = (self.hub.count_change(), Waiting::Paced { home, live });
        self.turns.wait(uid, WaitingChange { at, number, what });
    }

    /// Whether changes wait, or count for users whose next ones may have to.
    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_idle() || !self.numbered.borrow().is_empty()
    }

    /// Begins a turn at `at`, and reports the changes that wait and whose turn it is.
    pub(super) fn take_turns(&mut self, at: BootTime, written: u64) {
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

    /// Since when there is a change that waits.
    pub(super) fn waiting_since(&self) -> Option<BootTime> {
        self.turns.oldest().map(|waiting| waiting.at).min()
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
    }
}

#[cfg(test)]
#[path = "in_turn_tests.rs"]
mod tests;
