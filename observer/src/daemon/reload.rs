//! Reads the rules again on SIGHUP, on a thread of its own, because a file system can delay that.

use std::fs::File;

use anyhow::{Context, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info};

use super::event_loop::EventLoop;
use super::notify::notify;
use super::options::{RuleReader, RuleSet, RulesRead};
use crate::clock;

/// Reads the rules with `read` each time SIGHUP comes. Signals that come while they are read cause one more reading.
/// Where the daemon had a terminal and has none by then, the signal says that it is gone, and stops the daemon.
pub fn on_hangup(read: RuleReader, stopper: mpsc::Sender<&'static str>) -> Result<mpsc::Receiver<RulesRead>> {
    let mut hangups = signal(SignalKind::hangup()).context("cannot handle SIGHUP; report this")?;
    let (results, rules) = mpsc::channel(1);
    let had_terminal = has_terminal();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if had_terminal && !has_terminal() {
                let _ = stopper.send("SIGHUP").await;
                return;
            }
            let read = RuleReader::clone(&read);
            let Ok(result) = tokio::task::spawn_blocking(move || read()).await else { return };
            if results.send(result).await.is_err() {
                return;
            }
        }
    });
    Ok(rules)
}

/// Whether the daemon has a controlling terminal.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

impl EventLoop {
    /// Applies rules that were read again. Rules that cannot be used change nothing.
    pub(super) fn rules_read(&mut self, read: RulesRead) {
        let RuleSet { rules, ignored, labels } = match read {
            Ok(rules) => rules,
            Err(message) => {
                error!("the rules stay as they are: {message}");
                return;
            }
        };
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
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
        notify(&[NotifyState::Ready]);
        info!(
            count,
            "the rules were read again: {count} of them; other settings are used from the next start on"
        );
    }
}
