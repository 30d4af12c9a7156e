//! Signals that were sent to a process, of which one may be the cause of its death.

use alloc::vec::Vec;

use crate::limits::{POLITE_BURST_NS, POLITE_SIGNAL_NS, SIGNALS_KEPT_MAX};
use crate::model::death::{Death, DeathKind, MemoryScope, ReceivedSignal, SIGKILL, SentSignal, SignalOrigin};
use crate::model::ids::ProcessKey;

// Numbers of signals, include/uapi/asm-generic/signal.h.
const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGQUIT: u8 = 3;
const SIGTERM: u8 = 15;

#[derive(Clone, Debug)]
struct KeptSignal {
    received: ReceivedSignal,
    /// The process handled or ignored it when it was sent, so another one ended it, of which there may be no record.
    is_handled: bool,
}

/// The signals that a process received. Most processes receive none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedSignals {
    /// Oldest first.
    kept: Vec<KeptSignal>,
    /// What had no memory left, if the last one is a kill for that.
    memory_scope: MemoryScope,
}

impl ReceivedSignals {
    /// Records a signal. Of each number and sender the last one is kept. What comes after SIGKILL changes nothing any more.
    /// `is_handled`: the process handled or ignored it when it was sent. `scope` had no memory left, if it is a kill for that.
    /// Returns whether another one was forgotten, because there are too many.
    pub fn add(&mut self, received: ReceivedSignal, is_handled: bool, scope: MemoryScope) -> bool {
        if self.kept.last().is_some_and(|last| last.received.sent.signal == SIGKILL) {
            return false;
        }
        self.memory_scope = scope;
        let sent = &received.sent;
        let is_alike = |known: &SentSignal| (known.signal, known.process) == (sent.signal, sent.process);
        self.kept.retain(|known| !is_alike(&known.received.sent));
        let is_full = self.kept.len() >= SIGNALS_KEPT_MAX;
        if is_full {
            self.kept.remove(0);
        }
        self.kept.push(KeptSignal { received, is_handled });
        is_full
    }

    /// SIGKILL, by which the kernel killed the process, was for lack of memory, of which `scope` had none left.
    pub fn set_lack_of_memory(&mut self, scope: MemoryScope) {
        self.memory_scope = scope;
        let last = self.kept.last_mut().map(|last| &mut last.received);
        if let Some(kill) = last.filter(|last| last.sent.signal == SIGKILL) {
            (kill.sent.origin, kill.sent.process) = (SignalOrigin::LackOfMemory, None);
            kill.sender_session = None;
        }
    }

    /// Adds to a death what is known of the signal that caused it, and of the polite one before it, unless that was long
    /// before: the process lived on with it.
    pub fn explain(&self, mut death: Death) -> Death {
        if let DeathKind::Signaled { signal, .. } = death.kind {
            let may_end = |kept: &&KeptSignal| kept.received.sent.signal == signal && !kept.is_handled;
            death.fatal_signal = self.kept.iter().rfind(may_end).map(|kept| kept.received.clone());
        }
        let fatal = death.fatal_signal.as_ref().map(|fatal| fatal.sent);
        if fatal.is_some_and(|fatal| fatal.origin == SignalOrigin::LackOfMemory) {
            death.kind = DeathKind::OomKilled;
            death.memory_scope = self.memory_scope.clone();
        }
        let until = fatal.map_or(death.at, |fatal| fatal.at);
        let is_before = |sent: SentSignal| {
            Some(sent) != fatal && sent.at <= until && until.since(sent.at) <= POLITE_SIGNAL_NS
        };
        let is_polite = |sent: SentSignal| matches!(sent.signal, SIGHUP | SIGINT | SIGQUIT | SIGTERM);
        let received = self.kept.iter().map(|kept| &kept.received);
        let polite = received.filter(|received| is_before(received.sent) && is_polite(received.sent));
        death.polite_signal = request_to_end(polite, fatal).cloned();
        death
    }
}

/// Returns which of these polite signals, oldest first, asked the process to end, before the signal `fatal` ended it.
///
/// That is the last one, unless its sender sent others with it: systemd sends SIGTERM and right after it SIGHUP to units with
/// `SendSIGHUP=`, among them the scopes of logins. And SIGTERM of the process that later sent the fatal signal comes before
/// what others sent in between: that may have been meant otherwise, as SIGHUP often asks to read a configuration again.
fn request_to_end<'a>(
    polite: impl DoubleEndedIterator<Item = &'a ReceivedSignal> + Clone,
    fatal: Option<SentSignal>,
) -> Option<&'a ReceivedSignal> {
    let of_sender = |sender: Option<ProcessKey>| {
        polite.clone().rev().filter(move |it| sender.is_some() && sender_of(&it.sent) == sender)
    };
    let by_killer = of_sender(fatal.as_ref().and_then(sender_of)).find(|it| it.sent.signal == SIGTERM);
    if by_killer.is_some() {
        return by_killer;
    }
    let last = polite.clone().next_back()?;
    let burst =
        of_sender(sender_of(&last.sent)).filter(|it| last.sent.at.since(it.sent.at) <= POLITE_BURST_NS);
    let of_burst = |is_meant: fn(u8) -> bool| burst.clone().find(|it| is_meant(it.sent.signal));
    of_burst(|signal| signal == SIGTERM).or_else(|| of_burst(|signal| signal != SIGHUP)).or(Some(last))
}

/// The process that sent a signal, or for which the kernel did.
fn sender_of(sent: &SentSignal) -> Option<ProcessKey> {
    sent.process.map(|process| process.key)
}
