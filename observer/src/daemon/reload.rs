//! Applies rules that were read again.

use sd_notify::NotifyState;
use tracing::{error, info};

use super::answers::shared;
use super::event_loop::EventLoop;
use super::notify::notify;
use super::options::{RuleSet, RulesRead};
use super::reread::{ReloadReply, RereadRules};
use crate::api::answer::ReloadAnswer;
use crate::clock;
use crate::socket::server::Answer;

impl EventLoop {
    /// Has the rules read again for a client, which gets the outcome.
    pub(super) fn ask_reload(&mut self, reply: ReloadReply) {
        if let Some(reload) = &self.reload {
            // There is room for one of each client.
            let _ = reload.try_send(reply);
        }
    }

    /// Applies rules that were read again, and answers who asked for it. Rules that cannot be used change nothing.
    pub(super) fn rules_read(&mut self, reread: RereadRules) {
        let result = self.apply_rules(reread.read);
        notify(&[NotifyState::Ready]);
        if let Err(message) = &result {
            let config = self.config_path().unwrap_or_default();
            error!(part = "rules", config, "the rules stay as they are: {message}");
        }
        let answer = ReloadAnswer {
            head: self.answer_time(true).head("reload"),
            reloaded: result.is_ok(),
            config: self.config_path(),
            rules: result.as_ref().ok().copied(),
            error: result.err(),
        };
        let line = shared(&answer);
        for reply in reread.replies {
            // The client may have left.
            let _ = reply.send(Answer::Line(line.clone()));
        }
        self.notify_status();
    }

    /// Returns how many session rules there are from here on.
    fn apply_rules(&mut self, read: RulesRead) -> Result<u64, String> {
        let read = read?;
        read.log_warnings();
        let RuleSet { rules, ignored, labels, warnings: _ } = read;
        let count = rules.len();
        // No exec is without the variables: they are sent before the core wants them, and until it wants none.
        if !labels.is_empty() {
            self.kernel.read_all_environments(true);
        }
        // What happened under the former rules is reported by them.
        self.drain_to(self.kernel.producer_position());
        self.kernel.read_all_environments(!labels.is_empty());
        self.core.set_labels(clock::boottime(), labels, &mut self.sink);
        self.core.set_rules(clock::boottime(), rules, ignored, &mut self.sink);
        self.perform();
        info!(
            part = "rules",
            count,
            "the rules were read again: {count} of them; other settings are used from the next start on"
        );
        Ok(count as u64)
    }
}
