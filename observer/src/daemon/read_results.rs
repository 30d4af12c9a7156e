//! Applies what is read beside the ring: by other threads, or in pieces.

use observer_core::Input;

use super::event_loop::EventLoop;
use super::memory::MemoryBatch;
use super::owners::OwnerFound;
use crate::clock;

impl EventLoop {
    pub(super) fn memory_read(&mut self, outcome: MemoryBatch) {
        self.memory_reads.done(&outcome);
        for memory in outcome.read.memories {
            self.core.handle(memory.input(), &mut self.sink);
        }
        self.perform();
    }

    pub(super) fn owner_found(&mut self, found: &OwnerFound) {
        self.owners.done();
        self.owner_known(found);
    }

    pub(super) fn owner_known(&mut self, found: &OwnerFound) {
        let input = Input::HomeOwner { at: clock::boottime(), home: &found.home, owner: found.owner };
        self.core.handle(input, &mut self.sink);
    }

    /// Reads the memory of processes for some time, if it is wanted, and reports what was read.
    pub(super) fn read_resident(&mut self) {
        let Some(began) = self.sink.resident.turn() else { return };
        // Who ended before does not count as alive.
        self.drain_to(self.kernel.producer_position());
        self.core.handle(Input::ResidentPages { at: clock::boottime(), began }, &mut self.sink);
        self.sink.resident.forget();
    }
}
