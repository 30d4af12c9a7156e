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
use crate::model::death::{MemoryScope, SIGKILL, SentSignal, SignalContext, SignalOrigin};
use crate::model::ids::{BootTime, ProcessKey, Tgid};

/// A kill by the kernel itself that no mark was joined with.
#[derive(Clone, Copy, Debug)]
struct KernelKill {
    at: BootTime,
    key: ProcessKey,
    context: SignalContext,
}

/// A victim that was marked.
#[derive(Clone, Debug)]
struct Victim {
    at: BootTime,
    caller: Tgid,
    memory: u32,
    /// What had no memory left.
    scope: MemoryScope,
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
    /// Records a signal to `key`. If it is a kill for lack of memory, because the process has the memory of a victim, returns
    /// what had none left.
    pub fn add(&mut self, key: ProcessKey, sent: &SentSignal, context: SignalContext) -> Option<MemoryScope> {
        use SignalOrigin::{Kernel, KernelForEnding, KernelForLimit};
        let is_candidate = matches!(sent.origin, Kernel | KernelForEnding | KernelForLimit);
        if sent.signal != SIGKILL || !is_candidate {
            return None;
        }
        let has_its_memory = |victim: &Victim| {
            (victim.caller, victim.memory) == (context.caller, context.memory)
                && context.memory != 0
                && is_soon(victim.at, sent.at)
        };
        // The last one, because memory may be the same that an earlier victim had.
        if let Some(victim) = self.victims.iter().rfind(|victim| has_its_memory(victim)) {
            return Some(victim.scope.clone());
        }
        self.forgotten += push(&mut self.kills, KernelKill { at: sent.at, key, context }, |kill| kill.at);
        None
    }

    /// The kernel marked a thread, within the process `caller`, when what `scope` returns had no memory left. Returns the process
    /// that it had killed, which the thread is of, and that scope.
    pub fn mark(
        &mut self,
        at: BootTime,
        caller: Tgid,
        thread: u32,
        scope: impl FnOnce() -> MemoryScope,
    ) -> Option<(ProcessKey, MemoryScope)> {
        let is_of = |kill: &KernelKill| {
            (kill.context.caller, kill.context.thread) == (caller, thread) && is_soon(kill.at, at)
        };
        let index = self.kills.iter().rposition(is_of)?;
        let kill = self.kills.remove(index)?;
        let scope = scope();
        let victim = Victim { at, caller, memory: kill.context.memory, scope: scope.clone() };
        self.forgotten += push(&mut self.victims, victim, |victim| victim.at);
        Some((kill.key, scope))
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
