//! Deaths by the kernel's own SIGKILL, which wait until it is known whether memory had run out.
//!
//! The kernel marks the victim after it has sent the signal, and on another CPU the victim may have ended by then. A death is
//! reported once, so it waits for the mark. Until then its process is in the map, as if its exit had not been read.

use crate::core::Core;
use crate::input::RawMemoryScope;
use crate::limits::{OOM_MARK_NS, OPEN_DEATHS_MAX};
use crate::model::change::Sink;
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::processes::open_deaths::OpenDeath;

impl Core {
    /// Lets the death of a live process wait for the mark.
    pub(super) fn leave_open(&mut self, key: ProcessKey, death: OpenDeath, sink: &mut dyn Sink) {
        if self.open_deaths.len() >= OPEN_DEATHS_MAX
            && let Some((first, _)) = self.open_deaths.first()
        {
            self.counters.deaths_hurried += u64::from(self.close_death(first, sink));
        }
        self.open_deaths.add(key, death);
    }

    /// Ends the process whose death waits. Returns whether it did.
    pub(super) fn close_death(&mut self, key: ProcessKey, sink: &mut dyn Sink) -> bool {
        let Some(OpenDeath { death, usage, led_session }) = self.open_deaths.remove(key) else {
            return false;
        };
        let at = death.at;
        self.end(at, key, death, Some(usage), sink);
        self.after_exit(self.now, led_session, sink);
        true
    }

    /// The kernel marked a thread as a victim, within the process `caller`: SIGKILL, which it had sent to the thread's process, was
    /// for lack of memory.
    pub(super) fn apply_oom_victim(
        &mut self,
        at: BootTime,
        (caller, thread): (Tgid, u32),
        scope: RawMemoryScope<'_>,
        sink: &mut dyn Sink,
    ) {
        let Some((key, scope)) = self.kernel_kills.mark(at, caller, thread, || scope.joined()) else {
            return;
        };
        if let Some(signals) = self.table.get_mut(key).and_then(|entry| entry.signals.as_mut()) {
            signals.set_lack_of_memory(scope);
        }
        self.close_death(key, sink);
    }

    /// Ends the processes whose deaths have waited long enough, when every record up to `drained` was applied.
    pub fn close_deaths(&mut self, drained: BootTime, sink: &mut impl Sink) {
        let sink: &mut dyn Sink = sink;
        while let Some((key, at)) = self.open_deaths.first() {
            if at.after(OOM_MARK_NS) > drained {
                break;
            }
            self.close_death(key, sink);
        }
    }

    /// Returns whether the process has ended, and its death waits until it is complete.
    pub fn has_open_death(&self, key: ProcessKey) -> bool {
        self.open_deaths.has(key)
    }

    /// Returns when the first of the deaths was that are not complete yet.
    pub fn first_open_death(&self) -> Option<BootTime> {
        self.open_deaths.first().map(|(_, at)| at)
    }

    /// Returns from when on [`Self::close_deaths`] has completed every death that there is at present.
    pub fn deaths_complete_at(&self) -> Option<BootTime> {
        self.open_deaths.last().map(|at| at.after(OOM_MARK_NS))
    }
}
