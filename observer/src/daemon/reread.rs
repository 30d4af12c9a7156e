//! Reads the rules again on SIGHUP and when a client asks, on a thread of its own, because a file system can delay that.

use std::fs::File;

use anyhow::{Context, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::notify::notify;
use super::options::{RuleReader, RulesRead};
use crate::socket::server::{Answer, QUESTIONS_MAX};

/// Where the outcome goes.
pub type ReloadReply = oneshot::Sender<Answer>;

/// Rules that were read again, and who waits for the outcome.
pub struct RereadRules {
    /// The rules, or why they cannot be used.
    pub read: RulesRead,
    /// Clients that asked before they were read.
    pub replies: Vec<ReloadReply>,
}

/// Reads the rules with `read` each time SIGHUP comes or the first channel has a reply. What comes while they are read causes
/// one more reading. Where the daemon had a terminal and has none by then, the signal says that it is gone, and stops the
/// daemon.
pub fn start(
    read: RuleReader,
    stopper: mpsc::Sender<&'static str>,
) -> Result<(mpsc::Sender<ReloadReply>, mpsc::Receiver<RereadRules>)> {
    let mut hangups = signal(SignalKind::hangup()).context("cannot handle SIGHUP; report this")?;
    let (asker, mut asked) = mpsc::channel(QUESTIONS_MAX);
    let (results, rules) = mpsc::channel(1);
    let had_terminal = has_terminal();
    tokio::spawn(async move {
        while let Some(replies) = next(&mut hangups, &mut asked).await {
            if replies.is_empty() && had_terminal && !has_terminal() {
                let _ = stopper.send("SIGHUP").await;
                return;
            }
            if let Ok(now) = NotifyState::monotonic_usec_now() {
                notify(&[NotifyState::Reloading, now]);
            }
            let read = RuleReader::clone(&read);
            let Ok(read) = tokio::task::spawn_blocking(move || read()).await else { return };
            if results.send(RereadRules { read, replies }).await.is_err() {
                return;
            }
        }
    });
    Ok((asker, rules))
}

/// Waits for a reason to read the rules. Returns who asked; nobody where it was the signal.
async fn next(hangups: &mut Signal, asked: &mut mpsc::Receiver<ReloadReply>) -> Option<Vec<ReloadReply>> {
    let first = tokio::select! {
        hangup = hangups.recv() => { hangup?; None }
        reply = asked.recv() => Some(reply?),
    };
    Some(first.into_iter().chain(std::iter::from_fn(|| asked.try_recv().ok())).collect())
}

/// Whether the daemon has a controlling terminal.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
