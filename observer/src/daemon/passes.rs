//! Passes of the task iterator: when one is due, and what comes before and after its rows. Readings of single processes.

use std::time::Instant;

use observer_core::limits::PASS_RETRY_NS;
use observer_core::{BootTime, Input};
use tracing::{debug, warn};

use super::costs;
use super::event_loop::EventLoop;
use super::pass_rest::PassRest;
use super::sink::PendingPass;
use crate::api::status::PassCounts;
use crate::clock;
use crate::kernel::Snapshot;

impl EventLoop {
    /// Runs one pass. Records from before the pass are applied before it, and records from during the pass before its rows, so
    /// that a row is never ahead of the records that explain it. Returns whether everything succeeded.
    pub(super) fn pass(&mut self) -> bool {
        let began = Instant::now();
        let before = self.drain_to(self.kernel.producer_position());
        self.behind.works(clock::boottime());
        // This pass answers what was requested up to here. From here on its hints are raised again.
        let asked = self.sink.pass.take();
        self.kernel.clear_hints(asked.map_or(0, |pass| pass.hints));
        self.set_wall_offset(clock::wall_offset_ns());
        let snapshot = self.snapshot();
        self.core.handle(snapshot.begin(), &mut self.sink);
        let after = self.drain_to(self.kernel.producer_position());
        let Self { core, sink, canary, .. } = self;
        snapshot.rows(|input| {
            if !canary.takes(&input) {
                sink.previous.observe(&input);
                core.handle(input, sink);
            }
        });
        core.handle(snapshot.end(), sink);
        let result = self.kernel.end_pass(snapshot);
        if let Err(error) = &result {
            if self.pass_ok {
                warn!(part = "passes", "the processes could not be read: {error:#}; it is tried again");
            }
            let hints = asked.map_or(0, |pass| pass.hints);
            let not_before = clock::boottime().after(PASS_RETRY_NS);
            self.sink.pass.get_or_insert(PendingPass { not_before, hints }).hints |= hints;
        }
        self.pass_ok = result.is_ok();
        self.pass_rest = PassRest::after(clock::boottime(), began.elapsed());
        before && after && result.is_ok()
    }

    /// Reads the processes that the answer to `list` shows, as it shows what no event reports of them. Returns whether everything
    /// succeeded. It runs a pass where they are most of the host's processes, and where the reading shows that the map is wrong
    /// or old, or fails.
    pub(super) fn read_listed(&mut self) -> bool {
        let mut tgids = costs::listed(&self.core);
        if tgids.is_empty() {
            return true;
        }
        if tgids.len() > self.core.process_count() / 2 {
            return self.pass();
        }
        let snapshot = self.kernel.snapshot_of(&tgids.iter().copied().collect());
        let is_drained = self.drain_to(self.kernel.producer_position());
        let Self { core, sink, canary, .. } = self;
        snapshot.rows(|input| match input {
            Input::PassRow(row) if !canary.takes(&input) => {
                tgids.remove(&row.key.tgid);
                core.handle(Input::LoneRow(row), sink);
            }
            _ => {}
        });
        let is_complete = snapshot.is_complete();
        let is_read = self.kernel.end_pass(snapshot).is_ok() && is_complete;
        // Who was not shown has ended, or the map is wrong.
        let is_absent = tgids.iter().any(|&tgid| self.core.process(tgid).is_some());
        if !is_read || is_absent || self.sink.pass.is_some() {
            return self.pass();
        }
        is_drained
    }

    /// When the requested pass is due.
    pub(super) fn pass_due(&self) -> Option<BootTime> {
        Some(self.pass_rest.due(self.sink.pass?.not_before, self.core.in_gap()))
    }

    /// Reads the processes, and counts the pass.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let began = Instant::now();
        let snapshot = self.kernel.snapshot();
        self.passes.total += 1;
        self.passes.last_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.passes.failed += u64::from(!snapshot.is_complete());
        let PassCounts { total, last_us, .. } = self.passes;
        debug!(total, last_us, "pass {total} took {last_us} µs");
        snapshot
    }
}
