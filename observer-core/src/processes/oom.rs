//! Which of the kernel's own kills were for lack of memory.
//!
//! The kernel sends SIGKILL to the victim and then marks it (`__oom_kill_process`, mm/oom_kill.c). The mark names a thread,
//! and on kernels before 6.8 only its pid. So it is joined with the kill of that thread that the same process caused. The
//! kernel marks other processes too, which it finds dying when memory runs out; those it has not killed.
//!
//! After the mark it kills the other processes that have the victim's memory, and marks none of them. The victim's memory
//! cannot become another's before that is done.

use alloc::collections::VecDeque;

use crate::limits::{KERNEL_KILL_NS, KERNEL_KILLS_MAX};
use crate::model::death::{SIGKILL, SentSignal, SignalContext, SignalOrigin};
use crate::model::ids::{BootTime, ProcessKey, Tgid};

/// A kill by the kernel itself that no mark was joined with.
#[derive(Clone, Copy, Debug)]
struct KernelKill {
    at: BootTime,
    key: ProcessKey,
    context: SignalContext,
}

/// A victim that was marked.
#[derive(Clone, Copy, Debug)]
struct Victim {
    at: BootTime,
    caller: Tgid,
    memory: u32,
}

/// The last kills by the kernel itself, and the last victims, oldest first.
#[derive(Debug, Default)]
pub(crate) struct KernelKills {
    kills: VecDeque<KernelKill>,
    victims: VecDeque<Victim>,
    /// Kills and victims that were forgotten before their time.
    pub forgotten: u64,
}

impl KernelKills {
    /// Records a signal to `key`. Returns whether it is a kill for lack of memory, because the process has the memory of a
    /// victim.
    pub fn add(&mut self, key: ProcessKey, sent: &SentSignal, context: SignalContext) -> bool {
        let is_candidate = matches!(sent.origin, SignalOrigin::Kernel | SignalOrigin::KernelForEnding);
        if sent.signal != SIGKILL || !is_candidate {
            return false;
        }
        let has_its_memory = |victim: &Victim| {
            (victim.caller, victim.memory) == (context.caller, context.memory)
                && context.memory != 0
                && is_soon(victim.at, sent.at)
        };
        if self.victims.iter().any(has_its_memory) {
            return true;
        }
        self.forgotten += push(&mut self.kills, KernelKill { at: sent.at, key, context }, |kill| kill.at);
        false
    }

    /// The kernel marked a thread, within the process `caller`. Returns the process that it had killed, which the thread is of.
    pub fn mark(&mut self, at: BootTime, caller: Tgid, thread: u32) -> Option<ProcessKey> {
        let is_of = |kill: &KernelKill| {
            (kill.context.caller, kill.context.thread) == (caller, thread) && is_soon(kill.at, at)
        };
        let index = self.kills.iter().rposition(is_of)?;
        let kill = self.kills.remove(index)?;
        let victim = Victim { at, caller, memory: kill.context.memory };
        self.forgotten += push(&mut self.victims, victim, |victim| victim.at);
        Some(kill.key)
    }
}

/// Whether the second moment is not before the first one, and not long after it.
fn is_soon(first: BootTime, second: BootTime) -> bool {
    first <= second && second.since(first) <= KERNEL_KILL_NS
}

/// Adds to a bounded list, of which the oldest is forgotten first. Returns how many were forgotten that might have been needed
/// yet.
fn push<T>(list: &mut VecDeque<T>, item: T, at: impl Fn(&T) -> BootTime) -> u64 {
    let oldest = if list.len() >= KERNEL_KILLS_MAX { list.pop_front() } else { None };
    let is_needed = oldest.is_some_and(|oldest| is_soon(at(&oldest), at(&item)));
    list.push_back(item);
    u64::from(is_needed)
}
