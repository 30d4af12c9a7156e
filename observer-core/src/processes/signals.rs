//! Signals that were sent to a process, of which one may be the cause of its death.

use alloc::vec::Vec;

use crate::limits::{POLITE_SIGNAL_NS, SIGNALS_KEPT_MAX};
use crate::model::death::{Death, DeathKind, ReceivedSignal, SIGKILL, SentSignal, SignalOrigin};

// Numbers of signals, include/uapi/asm-generic/signal.h.
const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGQUIT: u8 = 3;
const SIGTERM: u8 = 15;

/// The signals that a process received, oldest first. Most processes receive none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedSignals(Vec<ReceivedSignal>);

impl ReceivedSignals {
    /// Records a signal. Of each number and sender the last one is kept. What comes after SIGKILL changes nothing any more.
    pub fn add(&mut self, received: ReceivedSignal) {
        if self.0.last().is_some_and(|last| last.sent.signal == SIGKILL) {
            return;
        }
        let sent = &received.sent;
        let is_alike = |known: &SentSignal| (known.signal, known.process) == (sent.signal, sent.process);
        self.0.retain(|known| !is_alike(&known.sent));
        if self.0.len() >= SIGNALS_KEPT_MAX {
            self.0.remove(0);
        }
        self.0.push(received);
    }

    /// SIGKILL, by which the kernel killed the process, was for lack of memory.
    pub fn set_lack_of_memory(&mut self) {
        if let Some(kill) = self.0.last_mut().filter(|last| last.sent.signal == SIGKILL) {
            (kill.sent.origin, kill.sent.process) = (SignalOrigin::LackOfMemory, None);
            kill.sender_session = None;
        }
    }

    /// Adds to a death what is known of the signal that caused it, and of the polite one before it, unless that was long
    /// before: the process lived on with it.
    pub fn explain(&self, mut death: Death) -> Death {
        if let DeathKind::Signaled { signal, .. } = death.kind {
            death.fatal_signal = self.0.iter().rfind(|received| received.sent.signal == signal).cloned();
        }
        let fatal = death.fatal_signal.as_ref().map(|fatal| fatal.sent);
        if fatal.is_some_and(|fatal| fatal.origin == SignalOrigin::LackOfMemory) {
            death.kind = DeathKind::OomKilled;
        }
        let until = fatal.map_or(death.at, |fatal| fatal.at);
        let is_before = |sent: SentSignal| {
            Some(sent) != fatal && sent.at <= until && until.since(sent.at) <= POLITE_SIGNAL_NS
        };
        let is_polite = |sent: SentSignal| matches!(sent.signal, SIGHUP | SIGINT | SIGQUIT | SIGTERM);
        let polite = self.0.iter().rfind(|received| is_before(received.sent) && is_polite(received.sent));
        death.polite_signal = polite.cloned();
        death
    }
}
