//! What follows from the canary: the service manager's watchdog, and a daemon that is blind says so.

use std::time::Instant;

use observer_common::hooks::Fact;
use observer_common::record::KIND_CWD;
use observer_core::{BootTime, Input};
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::canary::{CanaryLook, CanaryNews, CanaryOutcome};
use super::event_loop::EventLoop;
use super::notify::{StatusFacts, notify};
use crate::api::words::{CanaryState, JournalState};
use crate::clock;

impl EventLoop {
    /// Looks after the canary. `is_caught_up`: everything that came before was read from the ring.
    pub(super) fn watch_canary(&mut self, is_caught_up: bool) {
        let now = Instant::now();
        if !self.canary.needs_look(now) {
            return;
        }
        let throttled = self.kernel.throttled_by_kind().get(KIND_CWD as usize).copied().unwrap_or(0);
        let lost = self.kernel.drops_total();
        let sees_moves = self.kernel.reports(Fact::Cwd);
        let outcome = CanaryOutcome::Runs;
        let look = CanaryLook { now, lost, throttled, sees_moves, is_caught_up, outcome };
        let was_unproven = self.canary.is_unproven();
        let Some(news) = self.canary.look(look, clock::boottime()) else { return };
        let cannot_tell = self.canary.is_unproven();
        let state = if cannot_tell { CanaryState::Unproven } else { CanaryState::Missing }.as_str();
        let why = self.canary.last_error().unwrap_or_default();
        match news {
            CanaryNews::Sees { proven_at } => {
                if cannot_tell && !was_unproven {
                    warn!(part = "canary", state, "{why}");
                }
                self.sees(proven_at.filter(|_| lost == self.drops_seen), lost);
            }
            CanaryNews::CannotTell { is_new } => {
                if is_new {
                    error!(part = "canary", state, "no answer is certain any more: {why}");
                }
                self.is_blind(is_new);
            }
            CanaryNews::IsBlind { is_new } => {
                if is_new {
                    error!(part = "canary", state, "{why}");
                }
                self.is_blind(is_new);
            }
        }
        // A daemon that the service manager starts again, where there is no room for a process, would not come back.
        if self.canary.has_watchdog() && !matches!(news, CanaryNews::IsBlind { .. }) {
            notify(&[NotifyState::Watchdog]);
        }
        self.perform();
        self.notify_status();
    }

    /// Events come. `proven_at`: the canary that shows it was started then, and no record was lost since.
    fn sees(&mut self, proven_at: Option<BootTime>, lost: u64) {
        if let Some(at) = proven_at {
            self.core.handle(Input::Dropped { at, total: lost }, &mut self.sink);
        }
        if self.sink.is_blind {
            info!(
                part = "canary",
                state = CanaryState::Ok.as_str(),
                "events of the kernel come through again; the processes are read once more"
            );
            self.core.set_blind(None);
            self.presume_loss();
            self.sink.is_blind = false;
        }
    }

    /// Events do not come, or nobody knows. `is_new`: until now they came.
    fn is_blind(&mut self, is_new: bool) {
        if is_new {
            // What was taken for complete since then is not.
            self.complete(self.canary.proven_at());
        }
        self.sink.is_blind = true;
        self.core.set_blind(Some(self.canary.proven_at()));
        self.presume_loss();
    }

    /// Nobody counts what is lost while the daemon is blind: a gap opens, which stays open until a canary comes round, and a
    /// pass reads what can be read.
    fn presume_loss(&mut self) {
        self.kernel.presume_loss();
        self.report_drops();
    }
}

impl EventLoop {
    /// Sends a line about the state to the service manager, if it changed and the last one is some seconds old.
    pub(super) fn notify_status(&mut self) {
        let now = Instant::now();
        if !self.status_line.may_send(now) {
            return;
        }
        let journal = self.journal();
        let mirror = self.mirror.status(&journal);
        let facts = StatusFacts {
            sessions: self.sessions_by_state().values().sum(),
            gaps: self.core.counters().gaps,
            in_gap: self.core.in_gap(),
            blind_since: self.canary.status(self.sink.wall_offset_ns).blind_since,
            mirror: mirror.lag_ms.map(|lag_ms| (mirror.state.as_str(), lag_ms)),
            is_recorded: (journal.state != JournalState::Off).then_some(journal.state == JournalState::Ok),
        };
        self.status_line.send(facts.line(), now);
    }
}
