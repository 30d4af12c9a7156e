//! Messages to the service manager.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::error;

/// Shortest interval between two lines of the state.
const STATUS_EVERY: Duration = Duration::from_secs(3);

/// Notifies the service manager, if there is one.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        error!(
            part = "service_manager",
            "the service manager could not be notified ({error}); look at NOTIFY_SOCKET"
        );
    }
}

/// What the line of the state is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFacts {
    /// Sessions that have not ended.
    pub sessions: u64,
    /// Gaps since the start.
    pub gaps: u64,
    /// Whether one is open.
    pub in_gap: bool,
    /// Since when the daemon is blind, if it is.
    pub blind_since: Option<String>,
    /// The state of the mirror, and its lag; `None`: there is none.
    pub mirror: Option<(&'static str, u64)>,
    /// Whether changes are written to the journal; `None`: there is none.
    pub is_recorded: Option<bool>,
}

impl StatusFacts {
    /// The line, as `systemctl status` shows it.
    pub fn line(&self) -> String {
        let sessions = match self.sessions {
            1 => "1 session".to_owned(),
            sessions => format!("{sessions} sessions"),
        };
        let gaps = match self.gaps {
            0 => "no gaps".to_owned(),
            1 => "1 gap".to_owned(),
            gaps => format!("{gaps} gaps"),
        };
        let mut line = format!("{sessions}, {gaps}");
        if let Some(since) = &self.blind_since {
            line.insert_str(0, &format!("blind since {since} (`observer status` says what to do); "));
        } else if self.in_gap {
            line.push_str(", one is open");
        }
        if self.is_recorded == Some(false) {
            line.push_str("; the journal fails");
        }
        match self.mirror {
            Some((_, lag_ms)) if lag_ms >= 1000 => {
                line.push_str(&format!("; the mirror lags {} s", lag_ms / 1000));
            }
            Some((state, _)) => line.push_str(&format!("; the mirror is {state}")),
            None => {}
        }
        line
    }
}

/// The line of the state that the service manager has.
#[derive(Debug, Default)]
pub struct StatusLine {
    last: String,
    sent_at: Option<Instant>,
}

impl StatusLine {
    /// Whether a line may be sent at `now`, and there is somebody to send it to.
    pub fn may_send(&self, now: Instant) -> bool {
        let is_due = self.sent_at.is_none_or(|sent| now.saturating_duration_since(sent) >= STATUS_EVERY);
        is_due && std::env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// Sends `line`, unless the service manager has it.
    pub fn send(&mut self, line: String, now: Instant) {
        if line != self.last {
            notify(&[NotifyState::Status(&line)]);
            (self.last, self.sent_at) = (line, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_an_operator_asks_first() {
        let facts = StatusFacts { sessions: 3, ..StatusFacts::default() };
        assert_eq!(facts.line(), "3 sessions, no gaps");
        let facts = StatusFacts {
            sessions: 1,
            gaps: 2,
            in_gap: true,
            mirror: Some(("ok", 999)),
            ..StatusFacts::default()
        };
        assert_eq!(facts.line(), "1 session, 2 gaps, one is open; the mirror is ok");
        let facts = StatusFacts {
            gaps: 1,
            in_gap: true,
            blind_since: Some("12:00".into()),
            mirror: Some(("retrying", 61_500)),
            is_recorded: Some(false),
            ..facts
        };
        assert_eq!(
            facts.line(),
            "blind since 12:00 (`observer status` says what to do); 1 session, 1 gap; the journal fails; the mirror lags 61 s"
        );
    }
}
