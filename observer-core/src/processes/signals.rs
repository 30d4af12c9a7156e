//! Signals that were sent to a process, of which one may be the cause of its death.

use alloc::vec::Vec;

use crate::limits::{POLITE_SIGNAL_NS, SIGNALS_KEPT_MAX};
use crate::model::death::{Death, DeathKind, SIGKILL, SentSignal, SignalOrigin};

// Numbers of signals, include/uapi/asm-generic/signal.h.
const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGQUIT: u8 = 3;
const SIGTERM: u8 = 15;

/// The signals that a process received, oldest first. Most processes receive none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedSignals(Vec<SentSignal>);

impl ReceivedSignals {
    /// Records a signal. Of each number and sender the last one is kept. What comes after SIGKILL changes nothing any more.
    pub fn add(&mut self, sent: SentSignal) {
        if self.0.last().is_some_and(|last| last.signal == SIGKILL) {
            return;
        }
        let is_alike = |known: &SentSignal| (known.signal, known.process) == (sent.signal, sent.process);
        self.0.retain(|known| !is_alike(known));
        if self.0.len() >= SIGNALS_KEPT_MAX {
            self.0.remove(0);
        }
        self.0.push(sent);
    }

    /// SIGKILL, by which the kernel killed the process, was for lack of memory.
    pub fn set_lack_of_memory(&mut self) {
        if let Some(kill) = self.0.last_mut().filter(|last| last.signal == SIGKILL) {
            (kill.origin, kill.process) = (SignalOrigin::LackOfMemory, None);
        }
    }

    /// Adds to a death what is known of the signal that caused it, and of the polite one before it, unless that was long
    /// before: the process lived on with it.
    pub fn explain(&self, mut death: Death) -> Death {
        if let DeathKind::Signaled { signal, .. } = death.kind {
            death.fatal_signal = self.0.iter().rfind(|sent| sent.signal == signal).copied();
        }
        if death.fatal_signal.is_some_and(|fatal| fatal.origin == SignalOrigin::LackOfMemory) {
            death.kind = DeathKind::OomKilled;
        }
        let until = death.fatal_signal.map_or(death.at, |fatal| fatal.at);
        let is_before = |sent: &&SentSignal| {
            Some(**sent) != death.fatal_signal && sent.at <= until && until.since(sent.at) <= POLITE_SIGNAL_NS
        };
        let polite = |sent: &&SentSignal| matches!(sent.signal, SIGHUP | SIGINT | SIGQUIT | SIGTERM);
        death.polite_signal = self.0.iter().filter(is_before).rfind(polite).copied();
        death
    }
}
